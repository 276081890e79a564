"""What every posterior sampler that walks down the noise levels shares: grid, draws, counting, bookkeeping."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from inverse.operators.base import Operator
from inverse.reconstruction import Reconstruction, Trace, joined
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.grids import grid
from prior.randomness import NoiseSource
from prior.schedules import Schedule

__all__ = ["Noise", "PosteriorSampler", "Progress", "apart", "counted", "plain_settings"]

Noise = Callable[[Tensor], Tensor]
"""``noise(like)``: standard normal noise of the shape, dtype and device of ``like``."""

Progress = Callable[[int, int], None]
"""``progress(done, total)``, called after every network evaluation."""


@dataclass(frozen=True, kw_only=True)
class PosteriorSampler:
    """Draws of x given y by walking from noise to image; subclasses write ``step`` and, where they differ, the rest.

    Attributes
    ----------
    steps: steps of the time grid, the last of which arrives at the clean image.
    spacing: name of the grid in :data:`prior.grids.SPACINGS`; None takes that of :func:`prior.grids.natural`.
    samples: independent draws; their mean is the estimate, their spread its uncertainty.
    """

    steps: int = 100
    spacing: str | None = None
    samples: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    @torch.inference_mode(False)
    def reconstruct(
        self, model: Denoiser, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None
    ) -> Reconstruction:
        """The reconstruction of ``y`` (B, ...), taken by ``A`` of images (B, C, H, W) in [0, 1].

        The same seed gives the same bytes, and a batch equals its members. Draw j uses the seed ``seed + j``; the trace is
        that of the first. Raises ``ValueError`` where ``y`` does not fit the operator or is not finite, and ``TypeError``
        where the sampler cannot handle the operator.
        """
        began = time.perf_counter()
        problem = Problem(model, A, y)
        self.check(problem)
        if problem.members_differ:
            return apart(lambda one, p: self.reconstruct(model, A, one, seed=seed, progress=p), y, progress)
        times = self.times(model.schedule)
        draws, trace = [], Trace()
        with counted(model, progress, self.samples * self.network_calls(len(times) - 1)) as calls, torch.no_grad():
            for j in range(self.samples):
                x, course = self.draw(problem, times, NoiseSource(seed + j))
                draws.append(model.to_image(x))
                trace = course if j == 0 else trace
        samples = torch.stack(draws)
        return Reconstruction(
            estimate=samples.mean(0),
            samples=samples,
            measurement=y,
            operator=A,
            network_calls=calls.count,
            seconds=time.perf_counter() - began,
            settings={"sampler": type(self).__name__, "seed": seed, **plain_settings(self)},
            trace=trace,
        )

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` where the sampler cannot handle the operator; any operator is welcome by default."""

    def network_calls(self, steps: int) -> int:
        """Network evaluations of one draw over a grid of ``steps`` steps."""
        return steps

    def times(self, schedule: Schedule) -> Tensor:
        """The times visited: ``steps + 1`` of them, float64, decreasing to ``schedule.clean``."""
        return grid(schedule, self.steps, self.spacing)

    def start(self, problem: Problem, t: Tensor, noise: Noise) -> Tensor:
        """x at the first time, (B, C, H, W) in the network's range: pure noise unless the sampler knows better."""
        like = torch.empty(problem.shape, dtype=problem.y.real.dtype, device=problem.y.device)
        return problem.model.schedule.sigma(t).to(like) * noise(like)

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """From ``x`` at time ``t`` to time ``s``; called without gradients enabled."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def draw(self, problem: Problem, times: Tensor, noise: Noise) -> tuple[Tensor, Trace]:
        """One draw, in the network's range, and its course."""
        x = self.start(problem, times[0], noise)
        for t, s in pairwise(times):
            x = self.step(problem, x, t, s, noise)
        levels = problem.model.schedule.level(times[:-1])
        return x, Trace(tuple(times[:-1].tolist()), tuple(levels.tolist()))


def apart(run: Callable[[Tensor, Progress | None], Reconstruction], y: Tensor, progress: Progress | None) -> Reconstruction:
    """``run(member, progress)`` for every member of ``y`` on its own, as one batch; ``progress`` counts through them all."""

    def onwards(k: int) -> Progress | None:
        return progress and (lambda done, total: progress(k * total + done, len(y) * total))

    return joined([run(member[None], onwards(k)) for k, member in enumerate(y)])


@dataclass
class Calls:
    """Network evaluations so far."""

    count: int = 0


@contextmanager
def counted(model: Denoiser, progress: Progress | None, total: int) -> Iterator[Calls]:
    """Counts the network evaluations inside the block, and reports each of them to ``progress``."""
    calls = Calls()

    def count(*_: object) -> None:
        calls.count += 1
        if progress is not None:
            progress(calls.count, total)

    handle = model.register_forward_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


def plain_settings(sampler: object) -> dict[str, object]:
    """The fields of a sampler for the record: plain values as they are, dataclasses by their ``repr``."""
    settings = {f.name: getattr(sampler, f.name) for f in dataclasses.fields(sampler)}  # type: ignore[arg-type]
    return {name: repr(value) if dataclasses.is_dataclass(value) else value for name, value in settings.items()}
