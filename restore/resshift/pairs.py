"""Pairs of degraded and clean images in two folders to train restorers on: deblurring, and anyone's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from prior.data import photo_of, split_by_photo
from restore.degradations import paired_crop
from restore.resshift.batches import RestorationBatch, RestorationDataModule, generator_of, seed_of
from restore.resshift.data import TURNS, Source, image_of, sources_of, turned

__all__ = ["PairedDataModule"]

Pair = tuple[Source, Source]


class PairedDataModule(RestorationDataModule):
    """Clean images with their degraded ones, cut alike; every ``holdout``-th photo is kept for validation.

    Batch n is the same in every run of one seed, whatever the number of workers and wherever the run was resumed.

    Parameters
    ----------
    truth, degraded: folder, ``.tar`` pack or tensor file each, with the same names but for their suffixes. The clean images
        are larger by a whole factor, or of the same size.
    size: side of the crops, in pixels of the degraded image.
    turns: 8, turned by quarters and mirrored; 2, perhaps mirrored left to right; 1, as they are.
    batch_size: pairs a batch, on each device; batches: batches an epoch.
    holdout: one photo in this many validates; where there are several folders within, one of these, as a sequence is alike.
    workers: loader processes.
    seed: of images and crops.
    """

    def __init__(
        self,
        truth: str,
        degraded: str,
        size: int = 256,
        turns: int = 8,
        batch_size: int = 8,
        batches: int = 1000,
        holdout: int = 20,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches, workers, seed)
        if turns not in TURNS:
            raise ValueError(f"turns must be one of {', '.join(map(str, TURNS))}, got {turns}")
        self.truth, self.degraded, self.size, self.turns, self.holdout = truth, degraded, size, turns, holdout
        self.train_pairs: Sequence[Pair] = ()
        self.val_pairs: Sequence[Pair] = ()

    def setup(self, stage: str) -> None:
        if not self.train_pairs:
            pairs = _matched(sources_of(self.truth), sources_of(self.degraded))
            sequences = {_folder(name) for name in pairs}
            key = _folder if len(sequences) > 1 else photo_of
            training, validation = split_by_photo(cast(Any, pairs), self.holdout, key)
            self.train_pairs, self.val_pairs = cast(Any, training), cast(Any, validation)

    def training(self, rank: int) -> Dataset[RestorationBatch]:
        return PairedBatches(self, rank)

    def validation(self) -> Dataset[RestorationBatch]:
        return PairedHeldOut(self)


class PairedBatches(Dataset[RestorationBatch]):
    """Batch n, for any n: random pairs, cut and turned alike; other ranks have others."""

    def __init__(self, module: PairedDataModule, rank: int) -> None:
        self.pairs, self.size, self.turns = module.train_pairs, module.size, module.turns
        self.batch_size, self.seed, self.rank = module.batch_size, module.seed, rank

    def __getitem__(self, number: int) -> RestorationBatch:
        seed = seed_of(self.seed, "training", self.rank, number)
        generator = generator_of(seed, "images")
        picks = torch.randint(len(self.pairs), (self.batch_size,), generator=generator).tolist()
        return _batch([self._cut(self.pairs[pick], generator) for pick in picks], seed)

    def _cut(self, pair: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        truth, degraded = paired_crop(*_images(pair), self.size, generator=generator)
        position = generator.get_state()
        truth = turned(truth, self.turns, generator)
        return truth, turned(degraded, self.turns, generator.set_state(position))  # the same draws again


class PairedHeldOut(Dataset[RestorationBatch]):
    """The middle of every pair."""

    def __init__(self, module: PairedDataModule) -> None:
        self.pairs, self.size, self.batch_size, self.seed = module.val_pairs, module.size, module.batch_size, module.seed

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.batch_size)

    def __getitem__(self, number: int) -> RestorationBatch:
        chosen = self.pairs[number * self.batch_size : (number + 1) * self.batch_size]
        return _batch([self._middle(pair) for pair in chosen], seed_of(self.seed, "validation", number))

    def _middle(self, pair: Pair) -> tuple[Tensor, Tensor]:
        truth, degraded = _images(pair)
        (h, w), factor = degraded.shape[-2:], truth.shape[-1] // degraded.shape[-1]
        if min(h, w) < self.size:
            raise ValueError(f"size must be at most the smallest side of the degraded images, {min(h, w)}, got {self.size}")
        top, left = (h - self.size) // 2, (w - self.size) // 2
        return _window(truth, factor * top, factor * left, factor * self.size), _window(degraded, top, left, self.size)


def _window(x: Tensor, top: int, left: int, size: int) -> Tensor:
    return x[..., top : top + size, left : left + size]


def _images(pair: Pair) -> tuple[Tensor, Tensor]:
    """Both (1, 3, H, W) in [0, 1]."""
    truth, degraded = (image_of(source)[None].float() / 255 for source in pair)
    return truth, degraded


def _batch(pairs: Sequence[tuple[Tensor, Tensor]], seed: int) -> RestorationBatch:
    truth, degraded = (torch.cat(side) for side in zip(*pairs, strict=True))
    return RestorationBatch(truth, degraded, seed=seed)


def _folder(name: str) -> str:
    """Where an image lies: the frames of a sequence are in a folder of their own."""
    return str(PurePath(name).parent)


def _matched(truth: dict[str, Source], degraded: dict[str, Source]) -> dict[str, Pair]:
    """Pairs by name, without suffix; ``ValueError`` where one is alone."""
    clean, spoilt = ({str(PurePath(name).with_suffix("")): s for name, s in side.items()} for side in (truth, degraded))
    alone = sorted(clean.keys() ^ spoilt.keys())
    if alone:
        side = "truth" if alone[0] in clean else "degraded"
        raise ValueError(f"truth and degraded must have the same names, but {alone[0]!r} is in {side} alone")
    return {name: (clean[name], spoilt[name]) for name in sorted(clean)}
