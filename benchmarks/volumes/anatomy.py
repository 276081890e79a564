"""Objects that are no bodies, for the prior of bodies: an engine block, and a tooth that was measured at a synchrotron."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.volumes.data import engine
from benchmarks.volumes.problems import Problem, Views
from inverse.operators import Gaussian
from medical.analytic import axis_offset
from medical.classical import CGLS
from medical.geometry import Detector, ParallelBeam, Volume
from medical.intensity import peak
from medical.operators import Projector
from medical.transmission import line_integrals

__all__ = ["ENGINE_TASKS", "TOOTH_VIEWS", "engine_problems", "tooth_problem"]

ENGINE_TASKS = (Views("16 views", 16), Views("8 views", 8))
TOOTH_VIEWS = (32, 16)

SIDE = 384  # pixels of the tooth
AIR = 60  # columns that no ray through the tooth reaches; their spread is the noise


def engine_problems(folder: Path, slices: int) -> list[Problem]:
    """The slices in the middle of the engine, measured without noise."""
    subject = engine(folder).middle(slices)
    return [task.measure(subject) for task in ENGINE_TASKS]


def tooth_problem(folder: Path, views: int) -> Problem:
    """Two slices of the tooth from ``views`` of its 181 views, equally spaced; the truth is the least squares of all of them.

    CGLS, stopped where the residual is down to the noise. The images are over the peak of that one; rays pass beside the grid
    where they meet nothing.
    """
    with np.load(folder / "science" / "tooth_sinogram.npz") as file:
        counts, flat, dark, degrees = (torch.from_numpy(file[key]) for key in ("data", "flat", "dark", "theta_deg"))
    p, _ = line_integrals(counts, flat.mean(0), dark.mean(0))
    y = p.permute(1, 0, 2)[:, None].float()  # (rows, 1, views, columns)
    columns = y.shape[-1]
    beam = ParallelBeam(torch.deg2rad(degrees), columns)  # type: ignore[arg-type]
    offset = axis_offset(y[:1], beam)
    beam = ParallelBeam(beam.angles, Detector(columns, 1.0, offset))
    grid = Volume((SIDE, SIDE))
    sigma = float(y[..., :AIR].std())
    truth = CGLS().reconstruct(Projector(grid, beam, noise=Gaussian(sigma), truncated=True), y).estimate
    scale = peak(truth)
    noise = Gaussian(sigma / scale)
    chosen = torch.linspace(0, len(beam) - 1, views + 1).round().long()[:-1]  # the last view mirrors the first
    few = beam[chosen]
    rows = ParallelBeam(few.angles, Detector((len(y), columns), 1.0, (0.0, offset)))
    y = y[:, :, chosen] / scale
    return Problem(
        subject="tooth", task=f"{views} of {len(beam)} views", truth=truth / scale,
        A=Projector(grid, few, noise=noise, truncated=True), y=y,
        volume=Projector(Volume((len(y), SIDE, SIDE), flip_y=True), rows, noise=noise, truncated=True),
        data=y.permute(1, 2, 0, 3)[None].contiguous(),
    )  # fmt: skip
