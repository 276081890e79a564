"""Where a picture is missing, as the options of ``posterior inpaint`` say it."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from posterior.images import Picture, read
from posterior.tasks import Holes

__all__ = ["chosen", "of_alpha", "of_colour", "of_file"]

CLOSE = 2.5 / 255  # a JPEG moves a plain colour by about this much


def chosen(*, mask: Path | None, alpha: bool, colour: str | None) -> Holes:
    """The one source of holes given."""
    given = [
        n for n, value in (("--mask", mask), ("--mask-alpha", alpha or None), ("--mask-color", colour)) if value is not None
    ]
    if len(given) != 1:
        raise ValueError(f"give one of --mask, --mask-alpha and --mask-color, got {' and '.join(given) or 'none'}")
    if mask is not None:
        return of_file(mask)
    return of_alpha if colour is None else of_colour(colour)


def of_file(path: Path) -> Holes:
    """White in the image ``path``, or in the image of the same name in the folder ``path``, is missing."""

    def holes(picture: Picture, name: Path) -> Tensor:
        file = path / name if path.is_dir() else path
        pixels = picture.size[0] * picture.size[1]  # a picture that was let through lets its mask through
        mask = read(file, max_megapixels=max(100.0, pixels / 1e6))
        if mask.size != picture.size:
            sizes = [f"{width} x {height}" for height, width in (mask.size, picture.size)]
            raise ValueError(f"--mask {file} is {sizes[0]}, but {name} is {sizes[1]}; they must be of one size")
        return mask.colour.mean(0) > 0.5

    return holes


def of_alpha(picture: Picture, name: Path) -> Tensor:
    """What is more transparent than opaque is missing."""
    if picture.alpha is None:
        raise ValueError(f"--mask-alpha: {name} has no transparency")
    return picture.alpha[0] < 0.5


def of_colour(colour: str) -> Holes:
    """What has the colour ``#RRGGBB`` is missing, give or take two steps of 255."""
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", colour) is None:
        raise ValueError(f"--mask-color must be #RRGGBB, as in #ff00ff; got {colour!r}")
    wanted = torch.tensor(list(bytes.fromhex(colour.removeprefix("#"))), dtype=torch.float32)[:, None, None] / 255

    def holes(picture: Picture, name: Path) -> Tensor:
        missing = ((picture.colour - wanted).abs() < CLOSE).all(0)
        if not bool(missing.any()):
            raise ValueError(f"--mask-color: no pixel of {name} has the colour {colour}")
        return missing

    return holes
