"""Joseph's method on GPUs: stacks of slices side by side in memory, or rays side by side where there are few of them."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.lines import Lines, lines
from medical.operators.ray_finder import find_rays
from medical.operators.triton_kernels import MARGIN, forward_slices, gather_slices, scatter_slices
from medical.operators.triton_tuning import Tuned

__all__ = ["SliceTriton", "TritonJoseph", "fixed_point"]

LANES = 64  # slices that lie side by side at most
FEWEST = 8  # slices from which on that pays
WHOLE = 16  # lanes come in multiples: four accesses of 16 bytes
PATCH = (4, 16)  # views and columns of neighbouring rays, which read much the same pixels
BITS = {torch.float32: 32, torch.float64: 44}  # of a position, after the point
MOST = 2**31  # entries that 32 bits count
PAD = MARGIN.value

_by_rays = [
    {"RAYS": r, "LANES": n, "warps": w} for r, n, w in ((64, 32, 4), (64, 16, 4), (32, 64, 4), (128, 32, 8), (32, 32, 4))
]
_by_ray = [{"RAYS": r, "LANES": 1, "warps": w} for r, w in ((128, 4), (256, 4), (64, 2), (256, 8))]
_by_pixels = [
    {"PLANES": p, "PIXELS": k, "LANES": n, "warps": w}
    for p, k, n, w in ((1, 32, 32, 4), (2, 16, 32, 4), (4, 16, 16, 4), (2, 32, 32, 8), (1, 32, 64, 4))
]
_by_pixel = [
    {"PLANES": p, "PIXELS": k, "LANES": 1, "warps": w} for p, k, w in ((4, 32, 4), (1, 128, 4), (8, 32, 8), (2, 32, 2))
]
_sizes = ("plane", "minor", "lanes")
FORWARD = {many: Tuned(forward_slices, tuple(tiles), _sizes) for many, tiles in ((True, _by_rays), (False, _by_ray))}
SCATTER = {
    many: Tuned(scatter_slices, tuple(tiles), _sizes, ("image",)) for many, tiles in ((True, _by_rays), (False, _by_ray))
}
GATHER = {
    many: Tuned(gather_slices, tuple(tiles), _sizes, ("image",)) for many, tiles in ((True, _by_pixels), (False, _by_pixel))
}


class Halves(Protocol):
    """A projection and its transpose."""

    def forward(self, x: Tensor) -> Tensor: ...

    def adjoint(self, y: Tensor) -> Tensor: ...


class TritonJoseph:
    """Forward and adjoint projection of grids (N, *grid) to (N, *data) on CUDA, pictures or volumes, float32 or float64.

    Parameters
    ----------
    volume: the grid, (ny, nx) or (nz, ny, nx).
    rays: of the beam, in the world frame.
    device: a CUDA device; the CPU where Triton interprets its kernels.
    """

    def __init__(self, volume: Volume, rays: Rays, device: torch.device) -> None:
        self._halves: Halves
        if volume.ndim == 2:
            self._halves = SliceTriton(volume, rays, device)
        else:
            from medical.operators.joseph_volume_triton import VolumeTriton

            self._halves = VolumeTriton(volume, rays, device)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N grids."""
        return self._halves.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sets of data."""
        return self._halves.adjoint(y)


class SliceTriton:
    """Slices (N, ny, nx) and sinograms (N, views, columns).

    The adjoint gathers, pixel by pixel, and is deterministic. Rays of a view that share neither a direction nor a point, as
    no beam of this package has them, are scattered by atomic additions. Memory beyond input and output: padded copies of
    at most ``LANES`` slices and as many sinograms, and tables of some 70 bytes a ray.
    """

    def __init__(self, volume: Volume, rays: Rays, device: torch.device) -> None:
        self.size, self.data = volume.shape, (rays.shape[0], rays.shape[2])
        used = [each for each in lines(volume, rays) if (each.first < each.last).any()]
        self.parts = [Along(each, volume.shape[1 - each.major], self.data[1], device) for each in used]
        entries = max((self.size[0] + 2 * PAD) * (self.size[1] + 2 * PAD), self.data[0] * self.data[1])
        self.most = _most_lanes(entries)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N slices."""
        out = x.new_zeros(len(x), self.data[0] * self.data[1])
        for images, into in zip(x.split(self.most), out.split(self.most), strict=True):
            many = len(images) >= FEWEST
            stack = F.pad(images, (PAD,) * 4).permute(1, 2, 0)
            stack = _lanes_innermost(stack) if many else stack
            sinograms = into.new_zeros(into.shape[1], stack.shape[2]) if many else into.T
            for part in self.parts:
                part.forward(_planes(stack, part.major, many), sinograms, many)
            if many:
                into.copy_(sinograms.T[: len(into)])
        return out.unflatten(1, self.data)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sinograms."""
        out = y.new_zeros(len(y), *self.size)
        for sinograms, into in zip(y.flatten(1).split(self.most), out.split(self.most), strict=True):
            many = len(sinograms) >= FEWEST
            stack = F.pad(into, (PAD,) * 4).permute(1, 2, 0)
            stack = _lanes_innermost(stack) if many else stack
            for part in self.parts:
                planes = _planes(stack, part.major, many)
                part.adjoint(sinograms, planes, many)
                stack = planes if part.major else planes.transpose(0, 1)
            into.copy_(stack[PAD:-PAD, PAD:-PAD, : len(into)].permute(2, 0, 1))
        return out


class Along:
    """The rays that share a major axis, as tables on the device, and the kernels that walk them."""

    def __init__(self, each: Lines, planes: int, columns: int, device: torch.device) -> None:
        self.major, self.planes, self.device = each.major, planes, device
        self.finder = find_rays(each, planes, columns)
        self.lines = [torch.from_numpy(t) for t in (each.intercept, each.slope, each.weight, each.first, each.last, each.index)]
        patches = _patches(self.lines[5], columns)
        self.patches = patches[torch.from_numpy(each.first < each.last)[patches]]
        self._tables: dict[tuple[str, torch.dtype], tuple[Tensor, ...]] = {}

    def forward(self, image: Tensor, sinograms: Tensor, many: bool) -> None:
        """Writes image, (planes, minor axis, lanes) and padded, into sinograms (rays, lanes)."""
        intercept, slope, weight, index, first, last = self._table("walk", image.dtype)
        count, lanes = len(index), image.shape[2]
        FORWARD[many](
            lambda t: (_ceil(count, t["RAYS"]), _ceil(lanes, t["LANES"])),
            image, *image.stride(), intercept, slope, weight, first, last, index, sinograms, *sinograms.stride(), count, lanes,
        )  # fmt: skip

    def adjoint(self, sinograms: Tensor, image: Tensor, many: bool) -> None:
        """Adds the transpose, from sinograms (N, rays), to image, as in ``forward``."""
        intercept, slope, weight, index, *rest = self._table("find" if self.finder else "walk", image.dtype)
        data = (sinograms[:, index] * weight).T
        data = _lanes_innermost(data) if many else data
        lanes = image.shape[2]
        if self.finder is None:
            SCATTER[many](
                lambda t: (_ceil(len(index), t["RAYS"]), _ceil(lanes, t["LANES"])),
                image, *image.stride(), intercept, slope, *rest, data, *data.stride(), len(index), lanes,
            )  # fmt: skip
            return
        ends, bins = rest
        across = image.shape[1] - 2 * PAD
        GATHER[many](
            lambda t: (_ceil(self.planes, t["PLANES"]) * _ceil(across, t["PIXELS"]), _ceil(lanes, t["LANES"])),
            image, *image.stride(), intercept, slope, data, *data.stride(), ends, bins, len(bins), bins.shape[1] - 1,
            self.planes, across, lanes,
        )  # fmt: skip

    def _table(self, name: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Intercepts, slopes, weights and indices in the order in which the forward kernel, or the adjoint, takes the rays."""
        if (name, dtype) not in self._tables:
            order = self.finder.order if name == "find" and self.finder else self.patches
            intercept, slope, weight, first, last, index = (t[order] for t in self.lines)
            intercept, slope = fixed_point(intercept, dtype), fixed_point(slope, dtype)
            if name == "find" and self.finder:
                ends = torch.stack([intercept, slope], 1)[self.finder.ends].flatten(1)
                rest = [ends, self.finder.bins.int()]
            else:
                rest = [first.int(), last.int()]
            table = (intercept, slope, weight.to(dtype), index.int(), *rest)
            self._tables[name, dtype] = tuple(t.contiguous().to(self.device) for t in table)
        return self._tables[name, dtype]


def fixed_point(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """``positions`` as the kernels take them, 64 bits of which ``BITS`` come after the point."""
    return (positions * 2.0 ** BITS[dtype]).round().long()


def _most_lanes(entries: int) -> int:
    """How many slices of so many ``entries`` go at a time: filled up to whole accesses, 32 bits still count them."""
    most = MOST // entries
    return min(LANES, most // WHOLE * WHOLE or min(max(1, most), FEWEST - 1))


def _patches(index: Tensor, columns: int) -> Tensor:
    """An order of rays, numbered ``index``, in which those of neighbouring views and columns come together."""
    view, column = index // columns, index % columns
    return ((view // PATCH[0] * columns + column // PATCH[1] * PATCH[1]) * PATCH[0] * PATCH[1] + view % PATCH[0]).argsort(
        stable=True
    )


def _lanes_innermost(t: Tensor) -> Tensor:
    """A copy of ``t`` whose last axis is contiguous, and filled up with zeros to whole accesses."""
    return F.pad(t, (0, -t.shape[-1] % WHOLE)).contiguous()


def _planes(stack: Tensor, major: int, many: bool) -> Tensor:
    """A padded stack (y, x, lanes) as (planes, minor axis, lanes); where slices are few, with the minor axis contiguous."""
    planes = stack if major else stack.transpose(0, 1)
    return planes if many else planes.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
