"""What every sampler of volumes shares: checking, drawing several samples, counting, resuming, and the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from inverse.operators.base import Operator
from inverse.reconstruction import Reconstruction, Trace
from inverse.samplers.loop import Progress, plain_settings
from medical.samplers.data_step import Position
from medical.samplers.run import Run
from medical.samplers.slice_noise import SliceNoise
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.walk_state import Keeper, WalkState, fingerprint
from prior.denoiser import Denoiser

__all__ = ["VolumeProblem", "VolumeSampler"]


@dataclass(frozen=True, eq=False)
class VolumeProblem:
    """One draw of a volume: prior, measurement, and the noise of the draw, which a test may give in place of ``SliceNoise``."""

    prior: SlicePrior
    stack: Stack
    noise: Any

    def normal(self, step: int, draw: int) -> Tensor:
        """Noise for all slices, (D, C, H, W), in the type of the images."""
        D, *shape = self.stack.shape
        like = self.like.expand(D, *shape)
        return self.noise(like, step, draw, slice(0, D))

    @cached_property
    def like(self) -> Tensor:
        """One empty slice: the type and the device of the images."""
        return torch.zeros_like(self.stack.back_projected[:1])


@dataclass(frozen=True, kw_only=True)
class VolumeSampler:
    """Draws of a volume given its measurement; subclasses write ``check``, ``start``, ``step`` and, if need be, ``finish``.

    Images are around [0, 1], and noise is added to them: ``x = x_0 + sigma eps``, whatever the prior's own variables are.

    Attributes
    ----------
    samples: independent draws; their mean is the estimate, their spread its uncertainty.
    """

    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    @torch.no_grad()
    def reconstruct(
        self, model: Denoiser, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None,
        run: Run | None = None,
    ) -> Reconstruction:  # fmt: skip
        """The volume measured as ``y``: slices (D, C, H, W) for an operator of slices, (1, C, D, H, W) for one of volumes.

        Slices are the batch of an operator of slices: ``y`` is (D, ...). The same seed gives the same bytes; draw j has noise
        of its own. ``network_calls`` counts the passes of a slice, of all draws together. Raises ``TypeError`` for an
        operator that is not linear, and ``ValueError`` where ``y`` does not fit it or the settings would diverge.
        """
        began = time.perf_counter()
        run = run or Run()
        stack = Stack.checked(A, y, run)
        prior = SlicePrior(model, run)
        length = self.check(prior, stack)
        modules = nn.ModuleList([model, A, *self.networks()])
        settings = (self, seed, A, stack.noise, run.chunk if self.chunks_matter else None)
        keeper = Keeper(run, fingerprint(modules, y, settings) if run.state is not None else "")
        state = keeper.read(y.device)
        prior.calls = state.calls
        began -= state.seconds
        problems = [VolumeProblem(prior, stack, SliceNoise(seed + j * 1_000_003)) for j in range(self.samples)]
        if progress is not None:
            chunks = [self.chunk_calls(problem, length) for problem in problems]
            done = sum(chunks[: len(state.draws)])
            if state.step:
                done += self.chunk_calls(problems[len(state.draws)], state.step)
            prior.report = _counter(progress, done, sum(chunks))
        for problem in problems[len(state.draws) :]:
            x = self._walk(problem, length, state, lambda kept: self._keep(keeper, kept, prior, began))
            state = WalkState([*state.draws, x], calls=prior.calls)
        samples = torch.stack([stack.volume(x) for x in state.draws])
        return Reconstruction(
            estimate=samples.mean(0), samples=samples, measurement=y, operator=A, network_calls=prior.calls,
            seconds=time.perf_counter() - began, trace=Trace(),
            settings={"sampler": type(self).__name__, "seed": seed, **plain_settings(self), **self.chosen(stack)},
        )  # fmt: skip

    def _walk(self, problem: VolumeProblem, length: int, state: WalkState, keep: Callable[[WalkState], None]) -> Tensor:
        """One draw (D, C, H, W), from where ``state`` is; ``keep(state)`` is called after each step."""
        at = state.position = self.start(problem) if state.position is None else state.position
        while state.step < length:
            self.step(problem, at, state.step)
            state.step += 1
            keep(state)
        return self.finish(problem, at.x)

    @staticmethod
    def _keep(keeper: Keeper, state: WalkState, prior: SlicePrior, began: float) -> None:
        state.calls, state.seconds = prior.calls, time.perf_counter() - began
        keeper.keep(state)

    calls_per_step = 1
    """Passes through the network in a step."""

    chunks_matter = False
    """Whether the numbers depend on which slices pass the network together."""

    def chunk_calls(self, problem: VolumeProblem, steps: int) -> int:
        """Chunks that pass a network in the first ``steps`` steps."""
        return steps * self.calls_per_step * len(problem.prior.run.parts(problem.stack.shape[0]))

    def networks(self) -> tuple[nn.Module, ...]:
        """Further networks that the walk depends on."""
        return ()

    def check(self, prior: SlicePrior, stack: Stack) -> int:
        """The number of steps; raises ``ValueError`` for settings that do not fit the prior or would diverge."""
        raise NotImplementedError(f"{type(self).__name__} must define check")

    def start(self, problem: VolumeProblem) -> Position:
        """Where the walk begins."""
        raise NotImplementedError(f"{type(self).__name__} must define start")

    def step(self, problem: VolumeProblem, at: Position, index: int) -> None:
        """Move the position one step on."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def finish(self, problem: VolumeProblem, x: Tensor) -> Tensor:
        """The draw (D, C, H, W) from the slices at the end of the walk."""
        return x

    def chosen(self, stack: Stack) -> dict[str, object]:
        """Settings that followed from the operator, for the record."""
        return {}


def _counter(progress: Progress, done: int, total: int) -> Callable[[], None]:
    """Counts on from ``done`` at every call."""

    def report() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return report
