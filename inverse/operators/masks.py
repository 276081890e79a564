"""Masks for inpainting, 1 where a pixel is seen, and the file format in which mask sets are exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["box_mask", "dps_box_mask", "dps_random_mask", "random_mask", "read_masks", "write_masks"]


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


def _three(shape: Shape) -> Shape:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (C, H, W), got {tuple(shape)}")
    return shape


def dps_random_mask(size: int, missing: tuple[float, float] = (0.3, 0.7), *, seed: int) -> Tensor:
    """The random mask (1, size, size) of Chung et al. 2023 (DPS) for a legacy NumPy ``seed``.

    A share uniform in ``missing`` is drawn, then ``int(share size^2)`` distinct pixels to remove.
    """
    rng = np.random.RandomState(seed)
    share = rng.uniform(*missing)
    removed = rng.choice(size * size, int(size * size * share), replace=False)
    mask = torch.ones(size * size, dtype=torch.bool)
    mask[torch.from_numpy(removed)] = False
    return mask.view(1, size, size)


def dps_box_mask(size: int, length: tuple[int, int] = (128, 129), *, margin: tuple[int, int] = (16, 16), seed: int) -> Tensor:
    """The box mask (1, size, size) of Chung et al. 2023 (DPS) for a legacy NumPy ``seed``.

    Height and width are drawn in ``length[0]..length[1] - 1``, then top and left so that the box keeps ``margin``.
    """
    rng = np.random.RandomState(seed)
    height, width = rng.randint(*length), rng.randint(*length)
    top = rng.randint(margin[0], size - margin[0] - height)
    left = rng.randint(margin[1], size - margin[1] - width)
    return box_mask((1, size, size), (top, left, height, width))


def read_masks(path: str | Path) -> Tensor:
    """The masks (N, n), bool, of an ``.npz`` file with ``m`` (bits, packed big-endian) and ``shape``.

    The n entries of a mask are those of an image in channel-major order. Raises ``ValueError`` for any other file.
    """
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
