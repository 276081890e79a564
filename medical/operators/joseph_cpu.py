"""Joseph's method for stacks of slices on the CPU: one slice at a time, or many side by side in memory."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.joseph_kernels import (
    BLOCK,
    MARGIN,
    adjoint_lanes,
    adjoint_slice,
    forward_lanes,
    forward_slice,
)
from medical.operators.lines import Lines, lines
from medical.operators.threads import share_out

__all__ = ["SliceJoseph"]

LANES = 32  # slices that share their weights: a cache line or two of a pixel
FEWEST = 8  # slices from which on that pays


class SliceJoseph:
    """Forward and adjoint projection of slices (N, ny, nx) to sinograms (N, views, columns), float32 or float64.

    Memory beyond input and output: two padded copies of at most ``LANES`` slices and as many sinograms.
    """

    def __init__(self, volume: Volume, rays: Rays) -> None:
        self.size = volume.shape
        self.rays = (rays.shape[0], rays.shape[2])
        self.lines = tuple((each, _parts(each)) for each in lines(volume, rays) if len(each.index))

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N slices."""
        out = x.new_zeros(len(x), *self.rays)
        for part, into in zip(x.split(LANES), out.split(LANES), strict=True):
            if len(part) < FEWEST:
                for image, sinogram in zip(part, into, strict=True):
                    self._forward_slice(image.numpy(), sinogram.view(-1).numpy())
            else:
                lanes: np.ndarray = np.zeros((self.rays[0] * self.rays[1], len(part)), _dtype(x))
                self._forward_lanes(part.permute(1, 2, 0).numpy(), lanes)
                into.view(len(part), -1).copy_(torch.from_numpy(lanes).T)
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sinograms."""
        out = y.new_zeros(len(y), *self.size)
        for part, into in zip(y.split(LANES), out.split(LANES), strict=True):
            if len(part) < FEWEST:
                for sinogram, image in zip(part, into, strict=True):
                    self._adjoint_slice(sinogram.reshape(-1).numpy(), image.numpy())
            else:
                image = np.zeros((*self.size, len(part)), _dtype(y))
                self._adjoint_lanes(np.ascontiguousarray(part.reshape(len(part), -1).T.numpy()), image)
                into.copy_(torch.from_numpy(image).permute(2, 0, 1))
        return out

    def _forward_slice(self, image: np.ndarray, sinogram: np.ndarray) -> None:
        for each, line in self.lines:
            planes = _padded(image.T if each.major == 0 else image)
            flat, width = planes.reshape(-1), planes.shape[1]
            share_out(lambda a, b: forward_slice(flat, width, line, a, b, sinogram), len(each.index))  # noqa: B023

    def _adjoint_slice(self, sinogram: np.ndarray, image: np.ndarray) -> None:
        for each, line in self.lines:
            target = image.T if each.major == 0 else image
            planes = np.zeros((target.shape[0], target.shape[1] + 2 * MARGIN), image.dtype)
            flat, width = planes.reshape(-1), planes.shape[1]
            share_out(lambda a, b: adjoint_slice(sinogram, width, line, a, b, flat), len(planes), grain=BLOCK)  # noqa: B023
            target += planes[:, MARGIN:-MARGIN]

    def _forward_lanes(self, images: np.ndarray, sinograms: np.ndarray) -> None:
        out, lanes = sinograms.reshape(-1), images.shape[2]
        for each, line in self.lines:
            planes = _padded(images.swapaxes(0, 1) if each.major == 0 else images)
            flat, width = planes.reshape(-1), planes.shape[1]
            share_out(lambda a, b: forward_lanes(flat, width, lanes, line, a, b, out), len(each.index))  # noqa: B023

    def _adjoint_lanes(self, sinograms: np.ndarray, images: np.ndarray) -> None:
        values, lanes = sinograms.reshape(-1), images.shape[2]
        for each, line in self.lines:
            target = images.swapaxes(0, 1) if each.major == 0 else images
            planes = np.zeros((target.shape[0], target.shape[1] + 2 * MARGIN, lanes), images.dtype)
            flat, width = planes.reshape(-1), planes.shape[1]
            share_out(lambda a, b: adjoint_lanes(values, width, lanes, line, a, b, flat), len(planes), grain=BLOCK)  # noqa: B023
            target += planes[:, MARGIN:-MARGIN]


def _parts(each: Lines) -> tuple[np.ndarray, ...]:
    return tuple(getattr(each, field.name) for field in fields(each)[1:])  # astuple would copy them


def _padded(image: np.ndarray) -> np.ndarray:
    planes, across, *lanes = image.shape
    out = np.zeros((planes, across + 2 * MARGIN, *lanes), image.dtype)
    out[:, MARGIN:-MARGIN] = image
    return out


def _dtype(x: Tensor) -> type:
    return np.float64 if x.dtype == torch.float64 else np.float32
