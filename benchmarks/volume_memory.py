"""How much memory a volume of 256 x 256 x D takes: DDS, a few steps, the peak of the process.

    python -m benchmarks.volume_memory [--modality ct|mr] [--slices 448] [--side 256] [--steps 2] [--samples 1] [--chunk 16]
        [--channels 64] [--ceiling 24] [--json FILE]

The network is untrained, of 64 channels at first: memory depends neither on its weights nor, beyond the second step, on the
number of steps. CT has 8 parallel views with photon noise, MR eight coils and complex slices. The figures are the peak
resident memory of the process before the reconstruction, after it, and after chi-square and the split into measured and
filled in. Ends with an error where the peak is above the ceiling, in GiB.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import machine
from inverse.operators import Gaussian
from inverse.operators.base import LinearOperator
from medical.coils import simulated_maps
from medical.geometry import Detector, ParallelBeam, Volume
from medical.operators import Projector, Sense
from medical.samplers import DDS, Run
from medical.sampling import masks
from medical.transmission import LogPoisson
from medical.trust import chi_square, split_by_chunks
from prior.denoiser import Denoiser, EDMHead
from prior.networks import ResidualUNet
from prior.schedules import EDM

__all__ = ["Peak", "Size", "measure", "peak_gib"]

COILS = 8
PHOTONS = 1e5
ATTENUATION = 0.04825  # of an image value of 1, in 1/mm
PIXEL = 1.4  # mm


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is reconstructed."""

    modality: str = "ct"
    slices: int = 448
    side: int = 256
    steps: int = 2
    samples: int = 1
    chunk: int = 16
    channels: int = 64


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Peak resident memory in GiB before the run, after it, and after what tells how far to trust it; seconds of the run."""

    size: Size
    before: float
    reconstruction: float
    trust: float
    seconds: float


def peak_gib() -> float:
    """Of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def prior_of(channels: int) -> Denoiser:
    """A network with its weights as they are before training."""
    width = (channels, 3 * channels // 2, 2 * channels, 3 * channels)
    network = ResidualUNet(in_channels=1, channels=width)
    return Denoiser(network, EDM(sigma_max=80.0), EDMHead(), data_range=(0.0, 1.0)).eval().requires_grad_(False)


def problem(size: Size) -> tuple[LinearOperator, Tensor]:
    """Operator and measurement of slices that are all the same disc."""
    axis = torch.linspace(-1, 1, size.side)
    disc = 0.4 * (axis[:, None].square() + axis.square() < 0.7).float()
    if size.modality == "ct":
        grid = Volume((size.side, size.side), PIXEL)
        detector = Detector(math.ceil(2 * grid.outer_radius / PIXEL), PIXEL)
        noise = LogPoisson(PHOTONS, attenuation=ATTENUATION)
        A: LinearOperator = Projector(grid, ParallelBeam.uniform(8, detector), noise=noise)
        return A, A.measure(disc.expand(size.slices, 1, -1, -1))
    mask = masks.uniform((size.side, size.side), 4.0, acs=min(20, size.side // 8))
    A = Sense(simulated_maps((size.side, size.side), COILS)[0], mask, noise=Gaussian(0.005))
    y = A.mask * A.measure(disc[None, None].to(torch.complex64))
    return A, y.expand(size.slices, -1, -1, -1).contiguous()


def measure(size: Size) -> Peak:
    """Reconstruct, and tell how far to trust it."""
    model = prior_of(size.channels)
    A, y = problem(size)
    before = peak_gib()
    began = time.perf_counter()
    out = DDS(steps=size.steps, samples=size.samples).reconstruct(model, A, y, run=Run(chunk=size.chunk))
    seconds = time.perf_counter() - began
    reconstruction = peak_gib()
    chi_square(out, chunk=size.chunk)
    split_by_chunks(out, chunk=size.chunk)
    return Peak(size=size, before=before, reconstruction=reconstruction, trust=peak_gib(), seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modality", choices=("ct", "mr"), default="ct")
    numbers = [f.name for f in fields(Size) if f.name != "modality"]
    for name in numbers:
        parser.add_argument(f"--{name}", type=int, default=getattr(Size, name))
    parser.add_argument("--ceiling", type=float, default=24.0, help="GiB")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    size = Size(modality=args.modality, **{name: getattr(args, name) for name in numbers})
    found = measure(size)
    print(
        f"{size.modality}, {size.side} x {size.side} x {size.slices}, {size.steps} steps, {size.samples} sample(s), chunks of "
        f"{size.chunk}: {found.before:.2f} GiB before, {found.reconstruction:.2f} reconstructing, {found.trust:.2f} with "
        f"chi-square and split; {found.seconds:.0f} s"
    )
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": machine(), **asdict(found)}, indent=1) + "\n", encoding="utf-8")
    if found.trust > args.ceiling:
        raise SystemExit(f"{found.trust:.2f} GiB are above the ceiling of {args.ceiling:g} GiB")


if __name__ == "__main__":
    main()
