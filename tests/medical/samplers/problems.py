"""Small volumes whose prior and posterior are known in closed form, and a sampler of every kind with few steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inverse.operators.noise import Gaussian, Noise
from medical.operators.sense import Sense
from medical.samplers import DDS, MCG, TPDM, DiffusionBlend, DiffusionMBIR, Run, ScoreMRI, SliceNoise
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem, VolumeSampler
from prior.denoiser import Denoiser, Head, NoiseHead
from prior.schedules import VE, Schedule
from tests.medical.classical.problems import Dense, randn
from tests.prior.gaussian import GaussianNetwork

MEAN, TAU = 0.4, 0.25
SCHEDULE = VE(sigma_min=0.01, sigma_max=20.0)


class Gaussians(GaussianNetwork):
    """Independent voxels N(mean, std^2), of whatever class."""

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(x, t)


def prior(
    mean: float = MEAN, std: float = TAU, *, schedule: Schedule = SCHEDULE, head: Head | None = None, channels: int = 1
) -> Denoiser:
    """The exact denoiser of these voxels; its range is [0, 1]."""
    network = Gaussians(schedule, head or NoiseHead(), mean, std)
    network.in_channels = channels  # type: ignore[assignment]
    return Denoiser(network, schedule, head, data_range=(0.0, 1.0))


class Blurred(nn.Module):
    """A network that is not linear and mixes pixels and channels; the class, where one is given, scales its output."""

    def __init__(self, channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.in_channels = channels
        self.register_buffer("kernel", 0.3 * randn(channels, channels, 3, 3, seed=seed))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        out = torch.tanh(nn.functional.conv2d(x, self.kernel.to(x), padding=1))  # type: ignore[arg-type]
        return out if condition is None else out * condition.view(-1, 1, 1, 1)


def blurred(channels: int = 1) -> Denoiser:
    return Denoiser(Blurred(channels), SCHEDULE, data_range=(0.0, 1.0))


def slices(count: int = 4, noise: float = 0.1, side: int = 3, seen: int = 5) -> tuple[Dense, Tensor, Tensor]:
    """A matrix that every slice is measured with, the measurement of a stack, and the stack."""
    noise_model: Noise | None = Gaussian(noise) if noise else None
    A = Dense(randn(seen, side * side, seed=1), (1, side, side), noise_model)
    x = MEAN + TAU * randn(count, 1, side, side, seed=2)
    return A, A.measure(x, seed=3), x


def volumes(count: int = 4, noise: float = 0.1, side: int = 3) -> tuple[Dense, Tensor, Tensor]:
    """A matrix that sees the slices of a volume together."""
    A = Dense(randn(20, count * side * side, seed=4) / 3, (1, count, side, side), Gaussian(noise) if noise else None)
    x = MEAN + TAU * randn(1, 1, count, side, side, seed=2)
    return A, A.measure(x, seed=3), x


def complex_slices(count: int = 4) -> tuple[Sense, Tensor, Tensor]:
    maps = randn(2, 4, 4, seed=5, dtype=torch.complex128)
    mask = torch.rand(4, 4, generator=torch.Generator().manual_seed(6)) < 0.6
    A = Sense(maps, mask, noise=Gaussian(0.05))
    x = MEAN + TAU * randn(count, 1, 4, 4, seed=7, dtype=torch.complex128)
    return A, A.measure(x, seed=8), x


PROBLEMS: dict[str, Callable[[], tuple[Any, Tensor, Tensor]]] = {
    "slices": slices, "volumes": volumes, "complex": complex_slices,
}  # fmt: skip

SAMPLERS: dict[str, Callable[[int], VolumeSampler]] = {
    "dds": lambda samples: DDS(steps=6, samples=samples),
    "mbir": lambda samples: DiffusionMBIR(steps=6, samples=samples),
    "tpdm": lambda samples: TPDM(steps=6, samples=samples, weight=0.1),
    "tpdm-random": lambda samples: TPDM(
        steps=6, samples=samples, weight=0.1, K=2.5, plane="sagittal", auxiliary=prior(std=0.2)
    ),
    "score-mri": lambda samples: ScoreMRI(steps=6, samples=samples),
    "mcg": lambda samples: MCG(steps=6, samples=samples, weight=0.1),
    "blend": lambda samples: DiffusionBlend(steps=6, samples=samples),
}


def problem(model: Denoiser, A: Any, y: Tensor, *, chunk: int = 16, seed: int = 0) -> VolumeProblem:
    """What a sampler's step is given."""
    run = Run(chunk=chunk)
    return VolumeProblem(SlicePrior(model, run), Stack.checked(A, y, run), SliceNoise(seed))


class Together:
    """Threads in the place of processes: what a fabric and ``torch.distributed`` do for ``Run``."""

    def __init__(self, count: int) -> None:
        self.count, self.barrier, self.slots = count, threading.Barrier(count, timeout=20), [None] * count
        self.local = threading.local()

    def exchanged(self, value: Any) -> list[Any]:
        self.slots[self.local.rank] = value
        self.barrier.wait()
        seen = list(self.slots)
        self.barrier.wait()
        return seen

    def all_reduce(self, tensor: Tensor) -> None:
        total = torch.stack(self.exchanged(tensor.clone())).sum(0)
        tensor.copy_(total)

    def run(self, work: Callable[[Any], Any]) -> list[Any]:
        """``work(fabric)`` of every rank."""
        results: list[Any] = [None] * self.count
        errors: list[BaseException] = []

        def one(rank: int) -> None:
            self.local.rank = rank
            try:
                results[rank] = work(_Fabric(self, rank))
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


class _Fabric:
    device = torch.device("cpu")

    def __init__(self, together: Together, rank: int) -> None:
        self.together, self.global_rank, self.world_size = together, rank, together.count

    def broadcast(self, value: Any, src: int = 0) -> Any:
        return self.together.exchanged(value)[src]
