"""The photographs: test sets with their truth, made small by a seeded degradation, and real ones that nobody knows better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from prior.data import read_images
from restore.degradations import to_8_bits
from restore.resshift.batches import generator_of
from restore.resshift.corruptions import Bicubic, Corruption

__all__ = ["FACTOR", "REAL", "SETS", "Photograph", "photographs", "present"]

FACTOR = 4
SETS = ("set5", "set14", "bsd100", "urban100")
REAL = "real_lq"
"""The folder of photographs that are bad by themselves; they have no truth."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A degraded photograph (1, 3, h, w) in [0, 1], and its truth (1, 3, 4 h, 4 w), None where nobody knows it."""

    name: str
    degraded: Tensor
    truth: Tensor | None = None


def present(folder: Path, sets: Sequence[str], told: Callable[[str], None]) -> list[str]:
    """Those of ``sets`` that are subfolders of ``folder``; ``told`` hears of the others."""
    there = [name for name in sets if (folder / name).is_dir()]
    for name in sets:
        if name not in there:
            told(f"{name}: skipped, there is no folder {folder / name}")
    return there


def photographs(folder: Path, law: Corruption | None, *, first: int | None = None, size: int = 0) -> list[Photograph]:
    """The first photographs of ``folder`` by name, all with None; RGB, grey ones too.

    Each is cut to multiples of 4 at the right and below, as is usual, or to its central square of ``size`` pixels, and
    degraded by ``law``, with a generator of its own name: what else is measured does not matter. Without a law it is taken
    to be degraded, and ``size`` is that of the result.
    """
    files = list(read_images(folder).items())[:first]
    if law is None:
        return [Photograph(name, _cut(image, size // FACTOR, 1)) for name, image in files]
    found = []
    for name, image in files:
        truth = _cut(image, size, FACTOR)
        found.append(Photograph(name, _degraded(truth, law, generator_of(folder.name, name)), truth))
    return found


def _cut(image: Tensor, size: int, multiple: int) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1] of uint8 (3, h, w)."""
    sides = [min(size or side, side) // multiple * multiple for side in image.shape[1:]]
    if min(sides) < 1:
        raise ValueError(f"photographs must be at least {multiple} pixels high and wide, got {tuple(image.shape[1:])}")
    top, left = ((have - kept) // 2 if size else 0 for have, kept in zip(image.shape[1:], sides, strict=True))
    return image[None, :, top : top + sides[0], left : left + sides[1]].float() / 255


def _degraded(truth: Tensor, law: Corruption, generator: torch.Generator) -> Tensor:
    """In whole 255ths; the bicubic reduction in float64, in which no half is rounded to the wrong side."""
    exact = truth.double() if isinstance(law, Bicubic) else truth
    return to_8_bits(law(exact, generator).degraded).float()
