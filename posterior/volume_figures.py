"""Pictures of a volume for its report: orthogonal slices, maps of a residual, profiles and histograms, all embedded."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["Look", "bars", "centre", "data_uri", "histogram", "plane_picture", "profile", "residual_picture"]

SIDE = 320  # of a picture at most, in pixels
BINS, REACH = 41, 4.0  # of the histogram of residuals, in standard deviations
WIDTH, HEIGHT = 640, 200  # of a drawing
COLUMNS = 512  # of a map of a residual


@dataclass(frozen=True, kw_only=True)
class Look:
    """How numbers become a picture: ``low`` is the first colour and ``high`` the last; ``colours`` None is grey."""

    low: float
    high: float
    colours: str | None = None

    def pixels(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(H, W) or (H, W, 3)."""
        span = max(self.high - self.low, 1e-12)
        level = np.clip((values - self.low) / span, 0, 1)
        if self.colours is None:
            return np.rint(255 * level).astype(np.uint8)
        coloured: NDArray[np.uint8] = colormaps[self.colours](level, bytes=True)[..., :3]
        return coloured


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A PNG, embedded."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def centre(volume: Tensor) -> tuple[int, int, int]:
    """The voxel (z, y, x) about which most of a volume with its least value at zero lies."""
    weight = (volume - volume.min()).double()
    total = float(weight.sum())
    if total <= 0:
        z, y, x = volume.shape
        return z // 2, y // 2, x // 2
    index = []
    for axis in range(3):
        along = weight.sum(tuple(a for a in range(3) if a != axis))
        position = float((along * torch.arange(len(along), dtype=along.dtype)).sum()) / total
        index.append(min(len(along) - 1, round(position)))
    return index[0], index[1], index[2]


def plane_picture(volume: Tensor, plane: str, at: Sequence[int]) -> NDArray[np.float32]:
    """The slice of a volume in canonical axes through the voxel ``at``, the head above; large ones are thinned out."""
    z, y, x = at
    cut = {"axial": volume[z], "coronal": volume[:, y].flip(0), "sagittal": volume[:, :, x].flip(0)}[plane]
    step = max(1, math.ceil(max(cut.shape) / SIDE)) if min(cut.shape) > SIDE // 2 else 1
    found: NDArray[np.float32] = cut[::step, ::step].float().contiguous().numpy()
    return found


def residual_picture(standardised: Tensor, number: int) -> NDArray[np.float32]:
    """A map of the residual of slice ``number``: sinograms as they are, of rows the middle one; k-space the RMS over coils.

    Along a trajectory the rows are coils, and samples are gathered by their RMS.
    """
    if standardised.is_complex():
        size = standardised[number].abs() / math.sqrt(2)
        if size.ndim == 3:
            return _array(size.square().mean(0).sqrt())
        step = math.ceil(size.shape[-1] / COLUMNS)
        full = size[:, : size.shape[-1] // step * step].unflatten(-1, (-1, step))
        return _array(full.square().mean(-1).sqrt())
    one = standardised[min(number, len(standardised) - 1), 0]
    return _array(one if one.ndim == 2 else one[:, one.shape[1] // 2])


def _array(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.float().contiguous().numpy()
    return found


def profile(lines: Mapping[str, Tensor], band: Tensor | None, length: float, unit: str) -> str:
    """Values along a line as SVG: a curve for each name, and about the last of them a band of two standard deviations."""
    last = list(lines.values())[-1]
    spread = torch.zeros_like(last) if band is None else 2 * band
    every = [*lines.values(), last - spread, last + spread]
    low, high = min(float(v.min()) for v in every), max(float(v.max()) for v in every)
    span = max(high - low, 1e-12)

    def points(values: Tensor) -> list[str]:
        n = max(1, len(values) - 1)
        return [f"{WIDTH * i / n:.1f},{HEIGHT * (1 - (v - low) / span):.1f}" for i, v in enumerate(values.tolist())]

    marks = []
    if band is not None:
        ring = points(last + spread) + points(last - spread)[::-1]
        marks.append(f'<polygon class="band" points="{" ".join(ring)}"/>')
    marks += [f'<polyline class="line-{name}" points="{" ".join(points(v))}"/>' for name, v in lines.items()]
    texts = (
        f'<text class="end" x="-8" y="{HEIGHT}">{low:.4g}</text><text class="end" x="-8" y="10">{high:.4g}</text>'
        f'<text class="end" x="-8" y="{HEIGHT / 2 + 4:.0f}">{unit}</text><text x="0" y="{HEIGHT + 18}">0</text>'
        f'<text class="end" x="{WIDTH}" y="{HEIGHT + 18}">{length:.4g} mm</text>'
    )
    return _drawing("".join(marks) + texts, "Values along a line through the axial slice")


def histogram(standardised: Tensor) -> str:
    """Residuals over the standard deviation of their noise as SVG bars, and the normal curve that noise alone would follow."""
    values = torch.view_as_real(standardised[standardised != 0]) if standardised.is_complex() else standardised
    values = values.flatten().float()
    width = 2 * REACH / BINS
    counts = torch.histc(values.clamp(-REACH, REACH), BINS, -REACH, REACH) / max(1, len(values)) / width
    return _drawing(bars(counts.tolist(), width), "Residuals over the noise: bars; what noise alone gives: curve")


def bars(density: Sequence[float], width: float) -> str:
    """The bars of a histogram and the normal density, to one scale."""
    top = 1.15 * max(0.4, *density)
    step = WIDTH / len(density)
    drawn = [
        f'<rect class="bar-of" x="{i * step:.1f}" y="{HEIGHT * (1 - d / top):.1f}" width="{step - 1:.1f}" '
        f'height="{HEIGHT * d / top:.1f}"/>'
        for i, d in enumerate(density)
    ]
    curve = []
    for i in range(81):
        u = -REACH + 2 * REACH * i / 80
        normal = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
        curve.append(f"{WIDTH * i / 80:.1f},{HEIGHT * (1 - normal / top):.1f}")
    labels = "".join(
        f'<text class="middle" x="{WIDTH * (u + REACH) / (2 * REACH):.0f}" y="{HEIGHT + 18}">{u}</text>' for u in (-3, 0, 3)
    )
    return f'{"".join(drawn)}<polyline class="line-truth" points="{" ".join(curve)}"/>{labels}'


def _drawing(marks: str, label: str) -> str:
    return (
        f'<svg class="drawing" viewBox="-70 -10 {WIDTH + 90} {HEIGHT + 36}" role="img" aria-label="{label}">'
        f'<rect class="frame" width="{WIDTH}" height="{HEIGHT}"/>{marks}</svg>'
    )
