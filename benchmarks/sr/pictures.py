"""Side by side: the part of a photograph in which most happens, as each method enlarged it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from benchmarks.sr.methods import BICUBIC
from benchmarks.sr.sets import Photograph
from restore.degradations import psnr_y, to_luma

__all__ = ["draw", "file_name", "liveliest"]

SIDE = 128  # pixels of the detail
STEP = 8  # between the details that are compared
INCH, DPI = 2.56, 100  # two dots a pixel


def file_name(prefix: str, name: str, photo: Photograph) -> str:
    """``sr_bicubic_set5_butterfly.png`` and alike."""
    words = re.sub(r"[^a-z0-9]+", "_", f"{prefix} {name} {Path(photo.name).stem}".lower()).strip("_")
    return f"sr_{words}.png"


def liveliest(image: Tensor, side: int = SIDE) -> tuple[slice, slice]:
    """Rows and columns of the square of ``side`` pixels with the most gradient energy; of all where the image is smaller."""
    height, width = (min(side, n) for n in image.shape[-2:])
    Y = to_luma(image.double())
    energy = F.pad(Y.diff(dim=-2).square(), (0, 0, 0, 1)) + F.pad(Y.diff(dim=-1).square(), (0, 1))
    pooled = F.avg_pool2d(energy, (height, width), stride=STEP)[0, 0]
    row, column = divmod(int(pooled.argmax()), pooled.shape[1])
    return slice(row * STEP, row * STEP + height), slice(column * STEP, column * STEP + width)


def draw(path: Path, photo: Photograph, results: Mapping[str, Tensor], *, border: int) -> None:
    """Write the detail of the truth, where there is one, and of every result (1, 3, H, W), with the PSNR of the table."""
    from matplotlib.figure import Figure

    truth = photo.truth
    plain = BICUBIC.enlarge(photo.degraded, 0)
    rows, columns = liveliest(plain if truth is None else truth)
    images = ({} if truth is None else {"truth": truth}) | dict(results)
    figure = Figure(figsize=(INCH * len(images), INCH + 0.4), dpi=DPI)
    for number, (name, image) in enumerate(images.items()):
        left, wide, high = number / len(images), 1 / len(images), INCH / (INCH + 0.4)
        axes = figure.add_axes((left + 0.005 * wide, 0.0, 0.99 * wide, high))
        axes.imshow(_pixels(image[..., rows, columns]), interpolation="nearest")
        axes.axis("off")
        score = "" if truth is None or name == "truth" else f"\n{float(psnr_y(image, truth, border=border)):.2f} dB"
        axes.set_title(f"{name}{score}", fontsize=8, pad=2)
    figure.savefig(path)


def _pixels(image: Tensor) -> np.ndarray:
    return np.asarray(image[0].permute(1, 2, 0).clamp(0, 1).float().cpu())
