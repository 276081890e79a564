"""Photographs to train restorers on: cut, degraded on the fly, seeded batch by batch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from prior.data import IMAGE_SUFFIXES, read_images, split_by_photo
from restore.degradations import LAMA, Augmentation, DiversityPool, area_resize, benchmark_crop, eightfold, training_crop
from restore.degradations.draws import choose, happens
from restore.resshift.batches import RestorationBatch, RestorationDataModule, generator_of, seed_of
from restore.resshift.corruptions import Corruption

__all__ = ["Crop", "DegradedDataModule", "Source", "image_of", "sources_of", "turned"]

Source = Path | Tensor
"""An image file, read whenever it is needed, or an image, uint8 (3, H, W)."""

FITS = ("native", "shorter", "square")
TURNS = (1, 2, 8)
AUGMENTATIONS: dict[str, Augmentation | None] = {"none": None, "lama": LAMA}


def sources_of(path: str | Path) -> dict[str, Source]:
    """The images of a folder, a tar pack or a tensor file by name; those of a folder are read when needed.

    Raises ``FileNotFoundError`` where nothing is there and ``ValueError`` where there is no image in it.
    """
    path = Path(path)
    if not path.is_dir():
        return dict(read_images(path))
    files = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES)
    sources: dict[str, Source] = {str(p.relative_to(path)): p for p in files}
    if not sources:
        raise ValueError(f"path: no images in {path}")
    return sources


def image_of(source: Source) -> Tensor:
    """The image, RGB, uint8 (3, H, W); that of a file upright, as its camera says."""
    if isinstance(source, Tensor):
        return source
    with Image.open(io.BytesIO(source.read_bytes())) as picture:
        return torch.from_numpy(np.array(ImageOps.exif_transpose(picture).convert("RGB"))).permute(2, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A random square of an image, (3, size, size) in [0, 1].

    Attributes
    ----------
    size: its side.
    fit: ``native``, cut at the resolution of the image; ``shorter``, cut after the image was resized so that its shorter
        side is ``size``; ``square``, the square as wide as the shorter side is cut and resized.
    turns: 8, turned by quarters and mirrored; 2, perhaps mirrored left to right, as ``square`` always is; 1, as it is.
    augmentation: ``none``, or ``lama``, warped before the cut and recoloured after it, see
        :data:`~restore.degradations.LAMA`; not with ``square``.
    """

    size: int = 256
    fit: str = "native"
    turns: int = 8
    augmentation: str = "none"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if self.turns not in TURNS or (self.fit == "square" and self.turns != 2):
            raise ValueError(f"turns must be one of {', '.join(map(str, TURNS))}, and 2 with fit 'square', got {self.turns}")
        if self.augmentation not in AUGMENTATIONS or (self.fit == "square" and self.augmentation != "none"):
            allowed = f"one of {', '.join(AUGMENTATIONS)}, and none with fit 'square'"
            raise ValueError(f"augmentation must be {allowed}, got {self.augmentation!r}")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Of ``image``, uint8 (3, H, W)."""
        if self.fit == "square":
            return training_crop(image.float() / 255, self.size, generator).clamp(0, 1)
        if self.fit == "shorter":
            image = _shorter_side(image, self.size)
        augmentation = AUGMENTATIONS[self.augmentation]
        if augmentation is not None:
            image = augmentation.warp.draw(generator).apply(image if image.is_floating_point() else image.float() / 255)
        top, left = (choose(generator, [1.0] * (n - self.size + 1)) for n in self._checked(image).shape[-2:])
        cut = turned(self._cut(image, top, left), self.turns, generator)
        return cut if augmentation is None else augmentation.recolouring.draw(generator).apply(cut)

    def centre(self, image: Tensor) -> Tensor:
        """The square in the middle, neither turned nor mirrored."""
        if self.fit != "native":
            return benchmark_crop(image.float() / 255, self.size).clamp(0, 1)
        top, left = ((n - self.size) // 2 for n in self._checked(image).shape[-2:])
        return self._cut(image, top, left)

    def _cut(self, image: Tensor, top: int, left: int) -> Tensor:
        cut = image[..., top : top + self.size, left : left + self.size]
        return cut if cut.is_floating_point() else cut.float() / 255

    def _checked(self, image: Tensor) -> Tensor:
        if min(image.shape[-2:]) < self.size:
            got = f"{self.size} with an image of shape {tuple(image.shape)}"
            raise ValueError(f"size must be at most the smallest image side, got {got}; fit='shorter' resizes the images")
        return image


def turned(x: Tensor, turns: int, generator: torch.Generator) -> Tensor:
    """``x`` (..., H, W) in one of 1, 2 or 8 positions, see :class:`Crop`."""
    if turns == 8:
        return eightfold(x, choose(generator, [1.0] * 8))
    return x.flip(-1) if turns == 2 and happens(generator, 0.5) else x


def _shorter_side(image: Tensor, size: int) -> Tensor:
    """``image`` resized by area means so that its shorter side is ``size``; float32 in [0, 1]."""
    H, W = image.shape[-2:]
    height, width = (max(size, round(n * size / min(H, W))) for n in (H, W))
    return area_resize(image.float() / 255, (height, width)).clamp(0, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Degrading:
    """What training and validation batches are made of."""

    sources: Sequence[Source]
    crop: Crop
    corruption: Corruption
    batch_size: int
    seed: int

    def batch(self, truth: Tensor, generator: torch.Generator, seed: int) -> RestorationBatch:
        return RestorationBatch(*self.corruption(truth, generator), seed=seed)


class DegradedBatches(Dataset[RestorationBatch]):
    """Batch n, for any n: random images, cut and degraded; other ranks have others."""

    def __init__(self, parts: _Degrading, rank: int) -> None:
        self.parts, self.rank = parts, rank

    def __getitem__(self, number: int) -> RestorationBatch:
        parts, seed = self.parts, seed_of(self.parts.seed, "training", self.rank, number)
        generator = generator_of(seed, "images")
        picks = torch.randint(len(parts.sources), (parts.batch_size,), generator=generator).tolist()
        truth = torch.stack([parts.crop(image_of(parts.sources[pick]), generator) for pick in picks])
        return parts.batch(truth, generator, seed)


class DegradedHeldOut(Dataset[RestorationBatch]):
    """The middle of every image, degraded always alike."""

    def __init__(self, parts: _Degrading) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return -(-len(self.parts.sources) // self.parts.batch_size)

    def __getitem__(self, number: int) -> RestorationBatch:
        parts, seed = self.parts, seed_of(self.parts.seed, "validation", number)
        chosen = parts.sources[number * parts.batch_size : (number + 1) * parts.batch_size]
        truth = torch.stack([parts.crop.centre(image_of(source)) for source in chosen])
        return parts.batch(truth, generator_of(seed, "images"), seed)


class DegradedDataModule(RestorationDataModule):
    """Photographs degraded on the fly; every ``holdout``-th photo, in the order of names, is kept for validation.

    Batch n is the same in every run of one seed, whatever the number of workers and wherever the run was resumed.

    Parameters
    ----------
    path: folder of images, whose files are read when needed, ``.tar`` pack, or ``.safetensors`` / ``.pt`` file.
    corruption: what spoils the images.
    crop: what is cut from them.
    batch_size: images a batch, on each device; batches: batches an epoch.
    holdout: one photo in this many validates; tiles of one photo (``source_number_tile``) stay on one side.
    workers: loader processes.
    pool: batches among whose pairs each new batch is mixed, for degradations that a batch has in common; 0 for none. The
        pool is not part of checkpoints: a resumed run fills it anew.
    seed: of images, crops and degradations.
    """

    def __init__(
        self,
        path: str,
        corruption: Corruption,
        crop: Crop = Crop(),
        batch_size: int = 8,
        batches: int = 1000,
        holdout: int = 20,
        workers: int = 0,
        pool: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches, workers, seed)
        if crop.size % corruption.factor:
            raise ValueError(f"crop.size must be a multiple of corruption.factor, {corruption.factor}, got {crop.size}")
        if pool < 0:
            raise ValueError(f"pool must be a number of batches, 0 for none, got {pool}")
        self.path, self.corruption, self.crop, self.holdout, self.pool = path, corruption, crop, holdout, pool
        self.train_sources: Sequence[Source] = ()
        self.val_sources: Sequence[Source] = ()
        self._mixing: DiversityPool | None = None

    def setup(self, stage: str) -> None:
        if not self.train_sources:
            self.train_sources, self.val_sources = split_by_photo(cast(Any, sources_of(self.path)), self.holdout)

    def training(self, rank: int) -> Dataset[RestorationBatch]:
        return DegradedBatches(self._parts(self.train_sources), rank)

    def validation(self) -> Dataset[RestorationBatch]:
        return DegradedHeldOut(self._parts(self.val_sources))

    def on_after_batch_transfer(self, batch: RestorationBatch, dataloader_idx: int) -> RestorationBatch:
        """``batch`` mixed with those of the pool, in training."""
        if self.pool == 0 or self.trainer is None or not self.trainer.training:
            return batch
        if batch.mask is not None:
            raise ValueError("pool must be 0 for corruptions with a mask, whose draws are every image's own")
        if self._mixing is None:
            self._mixing = DiversityPool(self.pool, generator=generator_of(self.seed, "pool", self.rank))
        truth, degraded = self._mixing.exchange(batch.truth, batch.degraded)
        return batch._replace(truth=truth, degraded=degraded)

    def _parts(self, sources: Sequence[Source]) -> _Degrading:
        return _Degrading(
            sources=sources, crop=self.crop, corruption=self.corruption, batch_size=self.batch_size, seed=self.seed
        )
