"""What a training image is spoilt by, one class a task: reduction, photographs' own faults, holes, faces' faults, mixtures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from restore.degradations import (
    FACE_TEST,
    FACE_TRAINING,
    IMAGENET_TEST,
    TRAINING,
    Boxes,
    FaceRanges,
    MaskGenerator,
    MaskMixture,
    Outpainting,
    SecondOrder,
    Strokes,
    matlab_bicubic,
    to_8_bits,
)
from restore.degradations.draws import choose

__all__ = ["Bicubic", "Corrupted", "Corruption", "Faces", "Holes", "Mixture", "Realistic"]

REALISTIC: dict[str, SecondOrder] = {"training": TRAINING, "imagenet_test": IMAGENET_TEST}
FACES: dict[str, FaceRanges] = {"training": FACE_TRAINING, "test": FACE_TEST}
HOLES: dict[str, type[Strokes | Boxes | Outpainting]] = {"strokes": Strokes, "boxes": Boxes, "outpainting": Outpainting}
ATTEMPTS = 10  # a degradation that loses an image is drawn anew at most this often


class Corrupted(NamedTuple):
    """truth (B, 3, H, W) and degraded (B, 3, h, w) in [0, 1]; mask (B, 1, h, w), 1 where the image is unknown, or None."""

    truth: Tensor
    degraded: Tensor
    mask: Tensor | None = None


class Corruption:
    """Makes degraded images; ``corruption(truth, generator)`` with truth (B, 3, H, W) in [0, 1].

    Attributes
    ----------
    factor: how many times smaller the degraded image is; it divides H and W.
    """

    factor: int = 1

    def __call__(self, truth: Tensor, generator: torch.Generator) -> Corrupted:
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


@dataclass(frozen=True)
class Bicubic(Corruption):
    """The reduction by ``factor`` of MATLAB's ``imresize``, in whole 255ths, as in the usual test sets."""

    factor: int = 4

    def __call__(self, truth: Tensor, generator: torch.Generator) -> Corrupted:
        return Corrupted(truth, to_8_bits(matlab_bicubic(truth, 1 / self.factor)))


@dataclass(frozen=True)
class Realistic(Corruption):
    """The second-order degradation, :class:`~restore.degradations.SecondOrder`.

    Attributes
    ----------
    factor: of the reduction.
    preset: ``training``, or the milder ``imagenet_test``.
    shared: whether a batch has its resizings and the order of its stages in common, as in the official training, which then
        mixes batches in a pool; otherwise every image has its own, and a batch is as diverse without a pool.
    """

    factor: int = 4
    preset: str = "training"
    shared: bool = False

    def __post_init__(self) -> None:
        _check_names("preset", (self.preset,), tuple(REALISTIC))

    def __call__(self, truth: Tensor, generator: torch.Generator) -> Corrupted:
        parts = (truth,) if self.shared else truth.split(1)
        return Corrupted(truth, torch.cat([self._degraded(part, generator) for part in parts]))

    def _degraded(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """``x`` degraded; drawn anew where a strong degradation leaves values that are no numbers."""
        law = replace(REALISTIC[self.preset], factor=self.factor)
        for _ in range(ATTEMPTS):
            y = law(x, generator)
            if not bool(y.isnan().any()):
                return y
        raise ValueError(f"truth must hold numbers and be large enough to be degraded, got {tuple(x.shape)} that became NaN")


@dataclass(frozen=True)
class Holes(Corruption):
    """Parts of the image are unknown, and black.

    Attributes
    ----------
    kinds: of masks, each as likely: ``strokes``, ``boxes``, ``outpainting``.
    """

    kinds: tuple[str, ...] = ("strokes", "boxes", "outpainting")

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        _check_names("kinds", self.kinds, tuple(HOLES))

    def __call__(self, truth: Tensor, generator: torch.Generator) -> Corrupted:
        kinds: tuple[MaskGenerator, ...] = tuple(HOLES[kind]() for kind in self.kinds)
        draw, size = MaskMixture(generators=kinds), (truth.shape[-2], truth.shape[-1])
        seeds = torch.randint(2**31, (len(truth),), generator=generator).tolist()
        mask = torch.stack([draw(size, seed=seed) for seed in seeds]).to(truth)
        return Corrupted(truth, truth * (1 - mask), mask)


@dataclass(frozen=True)
class Faces(Corruption):
    """The degradation of faces at their own size, :class:`~restore.degradations.FaceRanges`: ``training`` or ``test``."""

    preset: str = "training"

    def __post_init__(self) -> None:
        _check_names("preset", (self.preset,), tuple(FACES))

    def __call__(self, truth: Tensor, generator: torch.Generator) -> Corrupted:
        return Corrupted(*FACES[self.preset](truth, generator))


@dataclass(frozen=True)
class Mixture(Corruption):
    """Every image is spoilt by one of several corruptions, drawn in proportion to their shares.

    Attributes
    ----------
    corruptions: of one factor, without masks.
    shares: one for each.
    """

    corruptions: tuple[Corruption, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "corruptions", tuple(self.corruptions))
        object.__setattr__(self, "shares", tuple(self.shares))
        if not self.corruptions or len({c.factor for c in self.corruptions}) > 1:
            got = [c.factor for c in self.corruptions]
            raise ValueError(f"corruptions must have one factor, which makes images of one size, got {got}")
        if any(isinstance(c, Holes) for c in self.corruptions):
            raise ValueError("corruptions must be without masks, got Holes: a network either takes a mask or does not")
        if len(self.shares) != len(self.corruptions) or min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ValueError(f"shares must be {len(self.corruptions)} weights, not negative, not all 0, got {self.shares}")
        object.__setattr__(self, "factor", self.corruptions[0].factor)

    def __call__(self, truth: Tensor, generator: torch.Generator) -> Corrupted:
        drawn = [self.corruptions[choose(generator, self.shares)](image, generator) for image in truth.split(1)]
        return Corrupted(torch.cat([d.truth for d in drawn]), torch.cat([d.degraded for d in drawn]))


def _check_names(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    wrong = [value for value in values if value not in allowed]
    if wrong or not values:
        raise ValueError(f"{name} must be of {', '.join(allowed)}, got {wrong[0] if wrong else 'none'!r}")
