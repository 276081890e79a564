"""Masks for inpainting, 1 where a pixel is seen, and the file format in which mask sets are exchanged.

A mask file is an ``.npz`` with two entries: ``shape``, two whole numbers N and n = C H W, and ``m``, the N n bits of the
masks one after the other, the first one in the highest bit of a byte (``numpy.packbits``), the last byte filled up with
zeros. A mask runs channel by channel, row by row. Image i of a data set takes mask i mod N.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["box_mask", "dps_box_mask", "dps_random_mask", "freeform_mask", "random_mask", "read_masks", "write_masks"]

# a stroke of the brush, in sides of the image; as for 256 pixels in Yu et al. 2019
BENDS = (4, 12)
WIDTHS = (12 / 256, 40 / 256)
LENGTHS = (0.05, 0.35)
TURNS = (math.pi / 4, 3 * math.pi / 4)


def random_mask(shape: Shape, missing: float = 0.5, *, seed: int = 0) -> Tensor:
    """A mask of ``shape`` (C, H, W), bool, without ``int(missing H W)`` random pixels, the same in all channels."""
    if not 0 <= missing < 1:
        raise ValueError(f"missing must be a share of the pixels in [0, 1), got {missing}")
    C, H, W = _three(shape)
    order = torch.randperm(H * W, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(H * W, dtype=torch.bool)
    mask[order[: int(missing * H * W)]] = False
    return mask.view(1, H, W).repeat(C, 1, 1)


def box_mask(shape: Shape, box: tuple[int, int, int, int] | None = None) -> Tensor:
    """A mask of ``shape`` (C, H, W), bool, without ``box`` = (top, left, height, width), by default the middle half."""
    C, H, W = _three(shape)
    top, left, height, width = box if box is not None else (H // 4, W // 4, H // 2, W // 2)
    if min(top, left) < 0 or min(height, width) < 1 or top + height > H or left + width > W:
        raise ValueError(f"box must be (top, left, height, width) within {H} x {W} pixels, got {box}")
    mask = torch.ones(C, H, W, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = False
    return mask


def freeform_mask(shape: Shape, holes: tuple[float, float] = (0.2, 0.3), *, seed: int = 0) -> Tensor:
    """A mask of ``shape`` (C, H, W), bool, without zigzag strokes of a round brush, the same in all channels.

    The free-form masks of Palette (Saharia et al. 2022) and of Yu et al. 2019, by the share of missing pixels as in Liu
    et al. 2018: it is drawn uniformly in ``holes``, and the last stroke ends where it is reached, exactly.
    """
    C, H, W = _three(shape)
    low, high = holes
    if not 0 <= low <= high < 1:
        raise ValueError(f"holes must be (low, high) with 0 <= low <= high < 1, shares of the pixels, got {holes}")
    fewest, most = math.ceil(low * H * W - 1e-9), math.floor(high * H * W + 1e-9)
    if fewest > most:
        raise ValueError(f"holes {holes} must allow a whole number of the {H} x {W} pixels")
    generator = torch.Generator().manual_seed(seed)
    count = min(max(round(_uniform(generator, low, high) * H * W), fewest), most)
    missing = torch.zeros(H * W, dtype=torch.bool)
    while int(missing.sum()) < count:
        for reached in _stroke(H, W, generator):
            order = reached.argsort(stable=True)
            new = order[reached[order].isfinite() & ~missing[order]]
            missing[new[: count - int(missing.sum())]] = True
    return (~missing).view(1, H, W).repeat(C, 1, 1)


def _stroke(H: int, W: int, generator: torch.Generator) -> Iterator[Tensor]:
    """For each straight piece of one stroke, how far the brush has come when it reaches a pixel (H W), else infinity.

    A stroke ends where it leaves the image.
    """
    side, size = min(H, W), torch.tensor([H, W], dtype=torch.float64)
    pixels = torch.cartesian_prod(torch.arange(H), torch.arange(W)).view(-1, 2) + 0.5
    radius = max(_uniform(generator, *WIDTHS) * side, 1.0) / 2
    heading = _uniform(generator, 0, 2 * math.pi)
    at = torch.rand(2, generator=generator, dtype=torch.float64) * size
    for bend in range(int(torch.randint(BENDS[0], BENDS[1] + 1, (), generator=generator))):
        angle = heading + (-1) ** bend * _uniform(generator, *TURNS) / 2
        length = _uniform(generator, *LENGTHS) * side
        ahead = torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
        along, across = (pixels - at) @ ahead, (pixels - at) @ torch.stack([-ahead[1], ahead[0]])
        half = (radius**2 - across.square()).clamp(min=0).sqrt()
        touched = (across.abs() <= radius) & (along + half >= 0) & (along - half <= length)
        yield torch.where(touched, along - half, math.inf)
        at = at + length * ahead
        if bool(((at < 0) | (at > size)).any()):
            break


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _three(shape: Shape) -> Shape:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (C, H, W), got {tuple(shape)}")
    return shape


def dps_random_mask(size: int, missing: tuple[float, float] = (0.3, 0.7), *, seed: int) -> Tensor:
    """The random mask (1, size, size) of Chung et al. 2023 (DPS) for a legacy NumPy ``seed``.

    A share p ~ U(missing) is drawn, once for the image, then ``int(p size^2)`` distinct pixels to remove.
    """
    low, high = missing
    if not 0 <= low <= high < 1:
        raise ValueError(f"missing must be (low, high) with 0 <= low <= high < 1, shares of the pixels, got {missing}")
    rng = np.random.RandomState(seed)
    share = rng.uniform(*missing)
    removed = rng.choice(size * size, int(size * size * share), replace=False)
    mask = torch.ones(size * size, dtype=torch.bool)
    mask[torch.from_numpy(removed)] = False
    return mask.view(1, size, size)


def dps_box_mask(size: int, length: tuple[int, int] = (128, 129), *, margin: tuple[int, int] = (16, 16), seed: int) -> Tensor:
    """The box mask (1, size, size) of Chung et al. 2023 (DPS) for a legacy NumPy ``seed``.

    Height and width are drawn in ``length[0]..length[1] - 1``, then top and left so that the box keeps ``margin``, rows
    and columns; DAPS (Zhang et al. 2024) has margins of 32.
    """
    if not 1 <= length[0] < length[1] or size - 2 * max(margin) - (length[1] - 1) < 1 or min(margin) < 0:
        raise ValueError(
            f"length must be (low, high) with 1 <= low < high, and a box of high - 1 must have room to move within the margins "
            f"{margin} of {size} pixels, got {length}"
        )
    rng = np.random.RandomState(seed)
    height, width = rng.randint(*length), rng.randint(*length)
    top = rng.randint(margin[0], size - margin[0] - height)
    left = rng.randint(margin[1], size - margin[1] - width)
    return box_mask((1, size, size), (top, left, height, width))


def read_masks(path: str | Path) -> Tensor:
    """The masks (N, n), bool, of a mask file; ``ValueError`` for any other file."""
    with np.load(path, allow_pickle=False) as file:
        missing = {"m", "shape"} - set(file.files)
        if missing:
            raise ValueError(f"{path}: a mask file has the entries m and shape, got {sorted(file.files)}")
        return unpack(torch.from_numpy(file["m"]), tuple(int(n) for n in file["shape"]))


def write_masks(path: str | Path, masks: Tensor) -> None:
    """Write ``masks`` (N, n) of 0 and 1 so that ``read_masks`` gives them back."""
    bits = np.packbits(masks.bool().cpu().numpy())
    np.savez_compressed(path, m=bits, shape=np.array(masks.shape))


def unpack(packed: Tensor, shape: Shape) -> Tensor:
    """Bools of ``shape`` from their bits, big-endian, in bytes."""
    count = torch.Size(shape).numel()
    bits = np.unpackbits(packed.to(torch.uint8).cpu().numpy())
    if not 0 <= len(bits) - count < 8:
        raise ValueError(f"m must hold the {count} bits of shape {tuple(shape)}, got {len(bits)}")
    return torch.from_numpy(bits[:count].astype(bool)).view(shape)
