"""DPS, DiffPIR and DDRM, ours and deepinv's, with the same weights on the same measurements.

Each cell runs in a process of its own, so that its peak memory is its own:

    python -m benchmarks.inverse.samplers LIBRARY SAMPLER TASK --photos FOLDER [--count N]     prints one JSON object
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import prior
from benchmarks.photos import photographs
from inverse.metrics import psnr
from inverse.operators import Blur, Downsample, Gaussian, Inpaint, LinearOperator
from inverse.samplers import DDRM, DPS, DiffPIR
from inverse.samplers.loop import PosteriorSampler
from prior.adapters import from_callable

__all__ = ["CELLS", "Cell", "run_cell"]

NOISE = 0.02
SIZE = 256
STEPS = {"DPS": 100, "DiffPIR": 50, "DDRM": 20}
CELLS = [
    (sampler, task)
    for sampler, tasks in {
        "DDRM": ("inpainting", "circular blur"),  # deepinv's needs its own decomposable physics
        "DiffPIR": ("inpainting", "circular blur", "super-resolution x4"),
        "DPS": ("inpainting", "circular blur", "super-resolution x4"),
    }.items()
    for task in tasks
]

Run = Callable[[Tensor, int], Tensor]
"""From a measurement and a seed to the reconstruction."""


@dataclass(frozen=True)
class Cell:
    """What one sampler of one library does on one task.

    ``overhead`` is milliseconds a step with a network that costs next to nothing, everything but the network;
    ``memory`` the growth of the process's peak while it ran, MiB.
    """

    library: str
    sampler: str
    task: str
    steps: int
    network_calls: int
    seconds_per_step: float
    overhead: float
    memory: float
    psnr: float
    photographs: int


def operator(task: str) -> LinearOperator:
    """Ours; deepinv's are the same maps."""
    shape = (3, SIZE, SIZE)
    if task == "inpainting":
        return Inpaint.random(shape, 0.5, seed=0, noise=Gaussian(NOISE))
    if task == "circular blur":
        return Blur.gaussian(3.0, "circular", shape=shape, noise=Gaussian(NOISE))
    return Downsample.bicubic(4, shape=shape, noise=Gaussian(NOISE))


def our_run(sampler: str, A: LinearOperator, model: prior.Denoiser) -> Run:
    """Our sampler with its defaults; of DPS the best step size of 1, 3 and 10, since 100 steps are a tenth of the paper's."""
    made: dict[str, PosteriorSampler] = {
        "DPS": DPS(steps=STEPS["DPS"], zeta=10.0),
        "DiffPIR": DiffPIR(steps=STEPS["DiffPIR"]),
        "DDRM": DDRM(steps=STEPS["DDRM"]),
    }
    return lambda y, seed: made[sampler].reconstruct(model, A, y, seed=seed).estimate


def their_run(sampler: str, A: LinearOperator, model: prior.Denoiser) -> Run:
    """deepinv's sampler with its defaults but for the steps, single precision, and of DPS the best weight of 1, 3 and 10."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepinv

    model_scale = model.data_range[1] - model.data_range[0]
    lowest = float(model.schedule.level(model.schedule.t_min))

    class Ours(deepinv.models.Denoiser):  # type: ignore[misc]
        """Our prior in deepinv's convention: x in [0, 1] plus noise of deviation sigma."""

        def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
            level = model_scale * torch.as_tensor(sigma, dtype=torch.float64).flatten()[:1]
            t = model.schedule.time(level.clamp(min=lowest))  # a network knows no noise below its last step's
            alpha = model.schedule.alpha(t).to(x)
            return model.to_image(model(alpha * model.to_network(x), t).x0)

    physics = _physics(deepinv, A)
    denoiser = Ours()
    if sampler == "DPS":
        solver = deepinv.sampling.DPS(denoiser, num_steps=STEPS["DPS"] + 1, weight=10.0, dtype=torch.float32)
        return lambda y, seed: solver(y, physics, seed=seed + 1)
    if sampler == "DiffPIR":
        fidelity = deepinv.optim.data_fidelity.L2()
        solver = deepinv.sampling.DiffPIR(denoiser, fidelity, sigma=NOISE, max_iter=STEPS["DiffPIR"])
        start = _same_size(A)
        return lambda y, seed: solver(y, physics, seed=seed + 1, x_init=start(y))
    sigmas = torch.linspace(1, 0, STEPS["DDRM"]).numpy()
    ddrm = deepinv.sampling.DDRM(denoiser, sigmas=sigmas)
    return lambda y, seed: ddrm(y, physics, seed=seed + 1)


def _same_size(A: LinearOperator) -> Callable[[Tensor], Tensor]:
    """Where DiffPIR starts: the measurement, enlarged where it is smaller than the image."""
    if A.codomain == A.domain:
        return lambda y: y
    return lambda y: torch.nn.functional.interpolate(y, scale_factor=4, mode="bicubic")


def _physics(deepinv: Any, A: LinearOperator) -> Any:
    noise = deepinv.physics.GaussianNoise(NOISE)
    if isinstance(A, Inpaint):
        return deepinv.physics.Inpainting((3, SIZE, SIZE), mask=A.mask.float().expand(3, -1, -1), noise_model=noise)
    if isinstance(A, Blur):
        return deepinv.physics.BlurFFT((3, SIZE, SIZE), A.kernel[None, None], noise_model=noise)
    return deepinv.physics.DownsamplingMatlab(factor=4, noise_model=noise)


def trivial() -> prior.Denoiser:
    """A network of one multiplication: the denoiser of a Gaussian prior around grey."""
    return from_callable(lambda x, sigma: 0.25 / (0.25 + sigma.view(-1, 1, 1, 1) ** 2) * x, data_range=(-1.0, 1.0))


def measure(library: str, sampler: str, task: str, photos: list[Tensor]) -> Cell:
    """One cell, in this process."""
    A = operator(task)
    real = prior.load("photos")

    def make(model: prior.Denoiser) -> Run:
        return our_run(sampler, A, model) if library == "posterior" else their_run(sampler, A, model)

    y = [A.measure(x, seed=i) for i, x in enumerate(photos)]
    quick, slow = make(trivial()), make(real)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = real.register_forward_hook(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    figures = [float(psnr(slow(yi, i).clamp(0, 1), x)) for i, (yi, x) in enumerate(zip(y, photos, strict=True))]
    seconds = (time.perf_counter() - began) / len(photos)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    hook.remove()
    steps = STEPS[sampler]
    overhead = []
    for _ in range(4):
        began = time.perf_counter()
        quick(y[0], 0)
        overhead.append(1e3 * (time.perf_counter() - began) / steps)
    return Cell(
        library, sampler, task, steps, calls // len(photos), seconds / steps, statistics.median(overhead[1:]), memory,
        sum(figures) / len(figures), len(photos),
    )  # fmt: skip


def run_cell(library: str, sampler: str, task: str, photos: Path, count: int, threads: int) -> Cell:
    """One cell, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.inverse.samplers", library, sampler, task, "--photos", str(photos)]
    command += ["--count", str(count), "--threads", str(threads)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Cell(**json.loads(out.splitlines()[-1]))


def main() -> None:
    """Measure one cell and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("posterior", "deepinv"))
    parser.add_argument("sampler", choices=STEPS)
    parser.add_argument("task")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    every = list(photographs(args.photos, SIZE).values())
    every = [x for x in every if x.shape[-2:] == (SIZE, SIZE)]
    photos = [every[int(i)] for i in torch.linspace(0, len(every) - 1, args.count)]
    print(json.dumps(asdict(measure(args.library, args.sampler, args.task, photos))))


if __name__ == "__main__":
    main()
