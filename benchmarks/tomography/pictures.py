"""Real data by every classical method, as pictures: a chest CT measured sparsely, and a tooth at a synchrotron."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.timing import machine
from benchmarks.tomography.methods import PHOTONS, POSITIVE, VIEWS, Scored, compare_methods
from inverse.operators import Gaussian
from medical.analytic import axis_offset
from medical.classical import CGLS, FBP, FISTATV, SIRT
from medical.geometry import Detector, ParallelBeam, Volume
from medical.operators import Projector
from medical.transmission import hounsfield, line_integrals

matplotlib.use("agg")

__all__ = ["draw"]

CHEST_WINDOW = (-1000.0, 400.0)  # HU
TOOTH = 360  # pixels a side
EVERY = 4  # of the tooth's views, for the sparse row
AIR = 60  # columns that no ray through the tooth reaches; their spread is the noise


def draw(data: Path, folder: Path, console: Console) -> None:
    """The figures ``ct_chest.png`` and ``ct_tooth.png`` and what they show in numbers, ``ct_methods.json``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tooth(data / "science" / "tooth_sinogram.npz", folder / "ct_tooth.png", console)
    truth, rows = compare_methods(data, lambda name: console.print(f"chest: {name}"))
    console.print(methods_table(rows))
    panels = [("truth", hounsfield(truth))] + [(f"{r.method}: {r.psnr:.1f} dB", hounsfield(r.image)) for r in rows]
    grid(panels, folder / "ct_chest.png", columns=4, window=CHEST_WINDOW)
    record = {
        "methods": [{k: v for k, v in asdict(r).items() if k != "image"} for r in rows],
        "views": VIEWS,
        "photons": PHOTONS,
        "machine": machine(),
    }
    (folder / "ct_methods.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def methods_table(rows: Sequence[Scored]) -> Table:
    """One line a method."""
    out = Table(title=f"chest CT, {VIEWS} views of a fan, {PHOTONS:.0e} photons a ray")
    for column in ("method", "PSNR, dB", "RMSE in the body, HU", "iterations", "seconds", "settings"):
        out.add_column(column, justify="left" if column in ("method", "settings") else "right")
    for r in rows:
        out.add_row(r.method, f"{r.psnr:.2f}", f"{r.rmse:.1f}", str(r.iterations), f"{r.seconds:.1f}", r.settings)
    return out


def tooth(path: Path, picture: Path, console: Console) -> None:
    """Counts to line integrals, the axis from the data, one slice from all views and from every fourth."""
    with np.load(path) as file:
        counts, flat, dark, degrees = (torch.from_numpy(file[key]) for key in ("data", "flat", "dark", "theta_deg"))
    p, clamped = line_integrals(counts, flat.mean(0), dark.mean(0))
    y = p[:, :1].permute(1, 0, 2)[:, None].float()
    beam = ParallelBeam(torch.deg2rad(degrees), y.shape[-1])  # type: ignore[arg-type]
    offset = axis_offset(y, beam)
    noise = Gaussian(float(y[..., :AIR].std()))
    A = Projector(
        Volume((TOOTH, TOOTH)), ParallelBeam(beam.angles, Detector(y.shape[-1], 1.0, offset)), noise=noise, truncated=True
    )
    console.print(
        f"tooth: axis at column {(y.shape[-1] - 1) / 2 - offset:.2f}, {int(clamped)} values clamped, noise {noise.sigma:.4f}"
    )
    few, z = A.subset(slice(None, None, EVERY)), y[:, :, ::EVERY]
    panels = []
    for views, B, data in ((len(A.beam), A, y), (len(few.beam), few, z)):
        for name, method in _methods():
            estimate = method.reconstruct(B, data).estimate
            fit = float((B(estimate) - data).square().mean().sqrt())
            console.print(f"tooth, {views} views, {name}: RMS of the residual {fit:.4f}")
            panels.append((f"{name}, {views} views", estimate))
    grid(panels, picture, columns=4, window=(-0.001, float(panels[0][1].quantile(0.999))))


def _methods() -> list[tuple[str, Any]]:
    return [
        ("FBP", FBP()),
        ("CGLS", CGLS()),
        ("SIRT", SIRT(iterations=100, bounds=POSITIVE)),
        ("FISTA-TV", FISTATV(bounds=POSITIVE, iterations=150)),
    ]


def grid(panels: Sequence[tuple[str, Tensor]], path: Path, *, columns: int, window: tuple[float, float]) -> None:
    """Grey pictures with titles, ``window`` from black to white."""
    import matplotlib.pyplot as plt

    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 3.2 * rows), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, image) in zip(axes.flat, panels, strict=False):
        ax.imshow(image.squeeze().numpy(), cmap="gray", vmin=window[0], vmax=window[1])
        ax.set_title(title, fontsize=9)
    figure.savefig(path, dpi=90)
    plt.close(figure)
