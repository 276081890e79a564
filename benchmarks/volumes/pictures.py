"""Panels of a problem: truth, the methods and their errors, an axial slice above and a coronal one below."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.volumes.data import occupied
from benchmarks.volumes.problems import Problem
from inverse.metrics import psnr

__all__ = ["draw", "file_name"]

WINDOWS = {"CT": (0.2, 0.6), "MR": (0.0, 1.0)}  # black and white: -500 to 500 HU
ERROR = 4  # times, in the error's panel
INCH = 2.1


def file_name(prefix: str, problem: Problem) -> str:
    """``volumes_ct_lidc_idri_0001_8_views.png`` and alike."""
    words = re.sub(r"[^a-z0-9]+", "_", f"{problem.subject} {problem.task}".lower()).strip("_")
    return f"volumes_{prefix}_{words}.png"


def draw(path: Path, problem: Problem, estimates: Mapping[str, Tensor]) -> None:
    """Write the panels: the estimates in their order, the last one with its error, four times as bright."""
    from matplotlib.figure import Figure

    truth = _magnitude(problem.truth)
    images = {"truth": truth} | {name: _magnitude(x) for name, x in estimates.items()}
    last = list(estimates)[-1]
    images[f"error of {last}, times {ERROR}"] = ERROR * (images[last] - truth).abs()
    low, high = WINDOWS["MR" if problem.truth.is_complex() else "CT"]
    depth, height, width = truth.shape
    thick = depth >= height // 16
    ratios = [height / width, _coronal(truth).shape[0] / width] if thick else [height / width]
    figure = Figure(figsize=(INCH * len(images), INCH * sum(ratios) + 0.4), layout="constrained")
    axes = figure.subplots(len(ratios), len(images), squeeze=False, height_ratios=ratios)
    for column, (name, image) in enumerate(images.items()):
        black, white = (0.0, high - low) if name.startswith("error") else (low, high)
        for row, view in enumerate((image[depth // 2], _coronal(image))[: len(ratios)]):
            axes[row, column].imshow(view.numpy(), cmap="gray", vmin=black, vmax=white, aspect="auto")
            axes[row, column].axis("off")
        score = f"\n{_mean_psnr(image, truth):.1f} dB" if name in estimates else ""
        axes[0, column].set_title(f"{name}{score}", fontsize=8)
    figure.savefig(path, dpi=100)


def _coronal(image: Tensor) -> Tensor:
    """The slice in the middle of the rows, head up, stretched so that its voxels are about square."""
    depth, height, _ = image.shape
    stretched = max(1, round(height / (2 * depth)))
    return image[:, height // 2].flip(0).repeat_interleave(min(stretched, 3), 0)


def _magnitude(x: Tensor) -> Tensor:
    """(D, H, W)."""
    return torch.as_tensor(x.abs() if x.is_complex() else x)[:, 0].float()


def _mean_psnr(image: Tensor, truth: Tensor) -> float:
    """Of axial slices, as in the table."""
    shown = occupied(truth[:, None])
    return float(psnr(image[shown][:, None], truth[shown][:, None]).mean())
