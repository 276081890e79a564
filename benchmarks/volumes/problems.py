"""The measurements: sparse and limited views of a CT volume, undersampled k-space of an MR volume with eight coils."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.volumes.data import Subject
from inverse.operators import Gaussian
from inverse.operators.base import LinearOperator
from medical.coils import combine, espirit, simulated_maps
from medical.geometry import Detector, ParallelBeam, Volume
from medical.intensity import HounsfieldWindow, peak
from medical.operators import Projector, Sense, centred_ifft
from medical.sampling import masks
from medical.transmission import WATER, LogPoisson

__all__ = ["CT_TASKS", "MR_TASKS", "Lines", "Problem", "Views", "measured_brain", "on"]

WHITE = WATER * (HounsfieldWindow().high - HounsfieldWindow().low) / 1000
"""Attenuation of an image value of 1, in 1/mm; lengths in units of its inverse make line integrals of images those of mu."""

COILS = 8
NOISE = 0.005  # of the peak, in real and imaginary part alike
PHASE = 0.7  # radians, about


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A measurement of a known volume.

    Attributes
    ----------
    subject, task: names.
    truth: (D, 1, H, W), real or complex.
    A, y: operator of slices and what it measured, (D, ...).
    volume, data: the same measurement as one of the whole volume, for methods that couple slices; CT alone has it.
    """

    subject: str
    task: str
    truth: Tensor
    A: LinearOperator
    y: Tensor
    volume: LinearOperator | None = None
    data: Tensor | None = None


@dataclass(frozen=True)
class Views:
    """Parallel beams of ``views`` equal steps over ``arc`` radians; ``photons`` a ray that meets nothing, None for no noise."""

    name: str
    views: int
    arc: float = math.pi
    photons: float | None = None

    def measure(self, subject: Subject, *, seed: int = 0) -> Problem:
        """Of every slice alike: Joseph's projector, one detector pixel as wide as a voxel, as many as see the corners."""
        depth, _, height, width = subject.image.shape
        dz, dy, dx = (WHITE * h for h in subject.spacing)
        columns = math.ceil(math.hypot(height * dy, width * dx) / dx)
        noise = None if self.photons is None else LogPoisson(self.photons)
        beam = ParallelBeam.uniform(self.views, Detector(columns, dx), stop=self.arc)
        A = Projector(Volume((height, width), (dy, dx)), beam, noise=noise)
        y = A.measure(subject.image, seed=seed)
        rows = ParallelBeam(beam.angles, Detector((depth, columns), (dz, dx)))
        volume = Projector(Volume((depth, height, width), (dz, dy, dx), flip_y=True), rows, noise=noise)
        return Problem(
            subject=subject.name, task=self.name, truth=subject.image, A=A, y=y,
            volume=volume, data=y.permute(1, 2, 0, 3)[None].contiguous(),
        )  # fmt: skip


@dataclass(frozen=True)
class Lines:
    """Columns of k-space drawn at random, ``acs`` of them in the middle, ``1 / acceleration`` of all."""

    name: str
    acceleration: float
    acs: int

    def mask(self, shape: tuple[int, int]) -> Tensor:
        """The same for all slices, (1, W)."""
        return masks.uniform(shape, self.acceleration, acs=self.acs, seed=0)

    def measure(self, subject: Subject, *, seed: int = 0) -> Problem:
        """By simulated coils whose maps are known, of the volume with a smooth phase."""
        height, width = subject.image.shape[-2:]
        truth = subject.image * torch.polar(torch.ones(()), smooth_phase((height, width), seed=seed))
        A = Sense(simulated_maps((height, width), COILS)[0], self.mask((height, width)), noise=Gaussian(NOISE))
        y = A.mask * A.measure(truth, seed=seed)
        return Problem(subject=subject.name, task=self.name, truth=truth, A=A, y=y)

    def undersample(self, item: Problem) -> Problem:
        """What is left of fully sampled ``item``: maps by ESPIRiT of the lines in the middle alone."""
        mask = self.mask(item.y.shape[-2:])  # type: ignore[arg-type]
        y = mask * item.y
        A = Sense(espirit(y[0], calibration=None).maps[0], mask, noise=item.A.noise)
        return Problem(subject=item.subject, task=self.name, truth=item.truth, A=A, y=y)


CT_TASKS = (
    Views("8 views", 8),
    Views("4 views", 4),
    Views("limited angle, 90 degrees", 90, math.pi / 2),
    Views("8 views, 1e5 photons", 8, photons=1e5),
)
MR_TASKS = (Lines("4x", 4.0, 20), Lines("8x", 8.0, 10))


def on(problem: Problem, device: str) -> Problem:
    """The problem on another device; the measurement keeps its numbers."""

    def moved(A: LinearOperator | None) -> LinearOperator | None:
        return None if A is None else A.to(device)

    data = None if problem.data is None else problem.data.to(device)
    return replace(problem, A=problem.A.to(device), y=problem.y.to(device), volume=moved(problem.volume), data=data)


def smooth_phase(shape: tuple[int, int], *, seed: int = 0) -> Tensor:
    """A phase (H, W) in radians that varies slowly, as that of a scanner does."""
    field = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return PHASE * F.interpolate(field, size=shape, mode="bicubic", align_corners=True)[0, 0]


def measured_brain(path: Path) -> Problem:
    """Real k-space of a head, 8 coils, fully sampled; the truth is what ESPIRiT maps of its centre combine the coils to.

    Scaled to a peak of 1; the noise is the spread of the samples in a corner of k-space.
    """
    kspace = torch.from_numpy(np.load(path)["kspace"])
    maps = espirit(kspace, calibration=24).maps
    image = combine(centred_ifft(kspace)[None], maps)
    scale = peak(image)
    corner = kspace[:, :12, :12] / scale
    noise = Gaussian(float(torch.view_as_real(corner).square().mean().sqrt()))
    A = Sense(maps[0], noise=noise)
    return Problem(subject="brain8", task="fully sampled", truth=image / scale, A=A, y=kspace[None] / scale)
