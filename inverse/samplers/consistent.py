"""A sampler whose answers are moved to explain a noiseless measurement exactly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import Operator
from inverse.reconstruction import Reconstruction
from inverse.samplers.loop import PosteriorSampler, Progress
from inverse.samplers.problem import Problem
from inverse.samplers.reddiff import RedDiff
from prior.denoiser import Denoiser

__all__ = ["Consistent"]


@dataclass(frozen=True, kw_only=True)
class Consistent:
    """``sampler``, then ``A.project``: estimate and samples become the nearest images that are measured as y.

    What the measurement knows is known: an overexposed image is exact where it was not clipped and beyond the clipping level
    elsewhere. For noiseless measurements by linear operators and those that clip or round values.

    Attributes
    ----------
    sampler: any that takes the operator; network evaluations and seeds are its own.
    """

    sampler: PosteriorSampler | RedDiff

    @property
    def samples(self) -> int:
        """Draws of the sampler."""
        return self.sampler.samples

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` where the operator offers no projection, ``ValueError`` where there is noise."""
        if problem.noise > 0:
            raise ValueError(f"Consistent is for noiseless measurements, got {problem.A!r} with {problem.A.noise!r}")
        problem.A.project(problem.model.to_image(problem.back_projected), problem.y)
        self.sampler.check(problem)

    @torch.no_grad()
    def reconstruct(
        self, model: Denoiser, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None
    ) -> Reconstruction:
        """As the sampler's, moved; errors are its own and those of ``check``."""
        self.check(Problem(model, A, y))
        out = self.sampler.reconstruct(model, A, y, seed=seed, progress=progress)
        samples = torch.stack([A.project(x, y) for x in out.samples]) if len(out.samples) else out.samples
        settings = {**out.settings, "sampler": f"Consistent({out.settings['sampler']})"}
        return dataclasses.replace(out, estimate=A.project(out.estimate, y), samples=samples, settings=settings)
