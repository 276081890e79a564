"""Restoring held-out photographs: RED-Diff with the shipped prior against total variation and bicubic interpolation.

    python -m benchmarks.photos --photos FOLDER [--size 256] [--json FILE] [--tune]

FOLDER holds the subfolders cid22_val, clic2025, set14 and bsd100, none of whose photographs the prior was trained on: all
of the first three and every fifth of bsd100. Each photograph is cropped to its central ``size`` square (0 keeps all of
it), measured with seed = its number, and restored; PSNR is of the clipped image, averaged over photographs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import prior
from inverse import RedDiff
from inverse.classical import bicubic_upscale, tune_tv_weight, tv_reconstruct
from inverse.metrics import psnr, ssim
from inverse.operators import Blur, Downsample, Gaussian, Inpaint, LinearOperator
from prior.data import read_images

__all__ = ["TASKS", "Row", "Task", "photographs"]

FOLDERS = {"cid22_val": 1, "clic2025": 1, "set14": 1, "bsd100": 5}
"""Subfolders, of which every n-th photograph is taken."""


@dataclass(frozen=True)
class Task:
    """A measurement of a photograph (C, H, W) and the classical answer to it, with the gain that is aimed at in dB."""

    name: str
    baseline: str
    goal: float
    operator: Callable[[tuple[int, ...], int], LinearOperator]
    classical: Callable[[LinearOperator, Tensor, float], Tensor]
    weight: float = 0.0


def _tv(A: LinearOperator, y: Tensor, weight: float) -> Tensor:
    return tv_reconstruct(A, y, weight)


TASKS = (
    Task(
        "Gaussian deblurring, sigma 3, noise 0.02",
        "total variation",
        1.5,
        lambda shape, seed: Blur.gaussian(3.0, noise=Gaussian(0.02)),
        _tv,
        weight=1.3e-3,  # from --tune
    ),
    Task("inpainting, 50 % missing", "total variation", 1.5, lambda shape, seed: Inpaint.random(shape, 0.5, seed=seed), _tv),
    Task("inpainting, 80 % missing", "total variation", 1.5, lambda shape, seed: Inpaint.random(shape, 0.8, seed=seed), _tv),
    Task(
        "super-resolution x4, bicubic",
        "bicubic",
        1.0,
        lambda shape, seed: Downsample.bicubic(4),
        lambda A, y, weight: bicubic_upscale(y, 4),
    ),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: mean figures of the photographs; PSNR in dB, seconds a photograph."""

    task: str
    photographs: int
    baseline: str
    baseline_psnr: float
    baseline_ssim: float
    baseline_seconds: float
    psnr: float
    ssim: float
    seconds: float
    goal: float

    @property
    def gain(self) -> float:
        """PSNR above the baseline."""
        return self.psnr - self.baseline_psnr


def photographs(folder: Path, size: int) -> dict[str, Tensor]:
    """The test photographs, (1, 3, H, W) in [0, 1], sides multiples of 4."""
    chosen = {}
    for name, every in FOLDERS.items():
        for file, image in list(read_images(folder / name).items())[::every]:
            height, width = (min(size or side, side) // 4 * 4 for side in image.shape[1:])
            top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
            chosen[f"{name}/{file}"] = image[None, :, top : top + height, left : left + width].float() / 255
    return chosen


def measure(task: Task, photos: dict[str, Tensor], model: prior.Denoiser, sampler: RedDiff, console: Console) -> Row:
    """All photographs of one task."""
    ours: list[tuple[float, float, float]] = []
    theirs: list[tuple[float, float, float]] = []
    for number, x in enumerate(track(list(photos.values()), description=task.name, console=console, transient=True)):
        A = task.operator(tuple(x.shape[1:]), number)
        y = A.measure(x, seed=number)
        began = time.perf_counter()
        classical = task.classical(A, y, task.weight).clamp(0, 1)
        between = time.perf_counter()
        restored = sampler.reconstruct(model, A, y, seed=number).estimate.clamp(0, 1)
        ended = time.perf_counter()
        theirs.append((float(psnr(classical, x)), float(ssim(classical, x)), between - began))
        ours.append((float(psnr(restored, x)), float(ssim(restored, x)), ended - between))
    (p0, s0, t0), (p, s, t) = (torch.tensor(rows, dtype=torch.float64).mean(0).tolist() for rows in (theirs, ours))
    return Row(task.name, len(photos), task.baseline, p0, s0, t0, p, s, t, task.goal)


def _table(rows: list[Row]) -> Table:
    table = Table(title="PSNR in dB (SSIM), means over the photographs")
    for column in ("task", "baseline", "baseline's", "RED-Diff", "gain", "aim", "s baseline", "s RED-Diff"):
        table.add_column(column)
    for r in rows:
        table.add_row(
            r.task, r.baseline, f"{r.baseline_psnr:.2f} ({r.baseline_ssim:.3f})", f"{r.psnr:.2f} ({r.ssim:.3f})",
            f"{r.gain:+.2f}", f"{r.goal:+.1f}", f"{r.baseline_seconds:.1f}", f"{r.seconds:.1f}",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure, print the table and, if asked, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--limit", type=int, help="only so many photographs")
    parser.add_argument("--steps", type=int, default=RedDiff().steps)
    parser.add_argument("--prior-weight", type=float, default=RedDiff().prior_weight)
    parser.add_argument("--only", default="", help="only the tasks whose name holds this")
    parser.add_argument("--model", default="photos")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--tune", action="store_true", help="search total variation's best weight on these photographs first")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=130)
    photos = dict(list(photographs(args.photos, args.size).items())[: args.limit])
    if args.tune:
        task = TASKS[0]
        weight = tune_tv_weight(task.operator((), 0), list(photos.values())[::6], bounds=(3e-4, 5e-3), evaluations=6)
        console.print(f"total variation's best weight for {task.name}: {weight:.2g}; the table uses {task.weight:.2g}")
    model = prior.load(args.model, weights=args.weights)
    sampler = RedDiff(steps=args.steps, prior_weight=args.prior_weight)
    rows = [measure(task, photos, model, sampler, console) for task in TASKS if args.only in task.name]
    console.print(_table(rows))
    if args.json is not None:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        record = {"rows": [asdict(r) for r in rows], "sampler": repr(sampler), "size": args.size, "machine": machine}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
