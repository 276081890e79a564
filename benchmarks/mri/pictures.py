"""Figures of the reconstructions: images in grey, and five times their error below."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.mri.kspace import Item

Cell = tuple[str, str]  # pattern and method

__all__ = ["comparison", "row_of_images"]

GREYS = 32
ERROR = 5  # times
BRIGHTEST = 0.98  # quantile of the reference within the head that is white


def comparison(
    path: Path, item: Item, images: Mapping[Cell, Tensor], titles: Mapping[Cell, str], *, inch: float = 1.25
) -> None:
    """A pair of rows for each pattern, reference first: the magnitudes, and ``|error|`` times five, on one grey scale."""
    patterns = list(dict.fromkeys(pattern for pattern, _ in images))
    methods = list(dict.fromkeys(method for _, method in images))
    box, reference = _box(item.inside), item.image.abs()
    white = float(reference[item.inside].quantile(BRIGHTEST))
    height, width = reference[box].shape
    figure, axes = _grid(2 * len(patterns), 1 + len(methods), inch * 1.02, inch * height / width + 0.16)
    for i, pattern in enumerate(patterns):
        above, below = axes[2 * i], axes[2 * i + 1]
        _show(above[0], reference[box], white, "fully sampled")
        below[0].text(0.5, 0.5, f"{pattern}\n\nbelow: errors\ntimes {ERROR}", ha="center", va="center", fontsize=8)
        for j, method in enumerate(methods):
            image = images[pattern, method]
            _show(above[j + 1], image[box], white, f"{method}\n{titles[pattern, method]}")
            _show(below[j + 1], ERROR * (image - reference).abs()[box], white, "")
    _save(figure, path)


def row_of_images(path: Path, images: Mapping[str, Tensor], *, inch: float = 1.6) -> None:
    """Magnitudes (H, W) side by side on one grey scale, white where the last decile of a percent begins."""
    first = next(iter(images.values()))
    height, width = first.shape
    figure, axes = _grid(1, len(images), inch, inch * height / width + 0.2)
    white = float(torch.cat([image.flatten() for image in images.values()]).quantile(0.998))
    for axis, (name, image) in zip(axes[0], images.items(), strict=True):
        _show(axis, image, white, name)
    _save(figure, path)


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(columns * width, rows * height), layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.03, wspace=0.0, hspace=0.0)
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def _show(axis: Any, image: Tensor, white: float, title: str) -> None:
    axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=white, interpolation="antialiased")
    axis.set_title(title, fontsize=7, pad=2)


def _box(inside: Tensor) -> tuple[slice, slice]:
    """The rows and columns of the head, and four more at each side."""
    spans = (inside.any(1 - axis).nonzero().flatten() for axis in (0, 1))
    rows, columns = (slice(max(int(s.min()) - 4, 0), int(s.max()) + 5) for s in spans)
    return rows, columns


def _save(figure: Any, path: Path) -> None:
    """As PNG in a few greys."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, facecolor="white")
    grey = Image.open(buffer).convert("L")
    level = 255 / (GREYS - 1)
    grey.point([round(round(v / level) * level) for v in range(256)]).quantize(GREYS).save(path, optimize=True)
