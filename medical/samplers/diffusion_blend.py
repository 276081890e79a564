r"""DiffusionBlend: a prior of three slices at a time, whose grouping changes from step to step (Song et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medical.samplers.dds import DDS
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem

__all__ = ["DiffusionBlend", "Groups", "adjacent", "spread"]


@dataclass(frozen=True)
class Groups:
    """Triples of slices that pass the network as the channels of one image.

    Attributes
    ----------
    members: the slices of each triple, (G, 3).
    spacing: between them, 1 or 3, which is also the class that the network is told.
    """

    members: Tensor
    spacing: int

    def owners(self, count: int) -> tuple[Tensor, Tensor]:
        """Triple and place in it of each of ``count`` slices; of several the last counts."""
        triple = torch.full((count,), -1)
        place = triple.clone()
        for g, group in enumerate(self.members.tolist()):
            for p, index in enumerate(group):
                triple[index], place[index] = g, p
        return triple, place


def adjacent(count: int, offset: int) -> Groups:
    """Triples of neighbours from ``offset`` on; what is left at the ends comes from the first and the last three slices.

    Of fewer than three slices the last is repeated.
    """
    starts = list(range(offset, count - 2, 3))
    ends = {0, max(count - 3, 0)} - set(starts)  # they come first, and count only where nothing follows
    first = torch.tensor([*sorted(ends), *starts])
    return Groups((first[:, None] + torch.arange(3)).clamp(max=count - 1), 1)


def spread(count: int) -> Groups:
    """Triples i, i + 3, i + 6 within blocks of nine slices; what is left at the end comes from the last nine.

    Fewer than nine slices cannot be grouped like this, and are taken as neighbours.
    """
    if count < 9:
        return adjacent(count, 0)
    starts = list(range(0, count - 8, 9))
    blocks = torch.tensor([*([count - 9] if count % 9 else []), *starts])
    within = torch.arange(3)[:, None] + 3 * torch.arange(3)
    return Groups((blocks[:, None, None] + within).flatten(0, 1), 3)


@dataclass(frozen=True, kw_only=True)
class DiffusionBlend(DDS):
    """:class:`DDS` with a network of three slices: DiffusionBlend++, which learnt how slices change and needs little TV.

    The noise of a slice is that of its triple: in even steps of three neighbours, the grouping shifted by 0, 1 or 2 slices at
    random, in odd ones of slices 3 apart within blocks of nine. The walk starts from pure noise, and every step goes on from
    the volume that its data step made. Slices have one channel. The network has three, and a class, which is told the spacing,
    1 or 3; so ``ADMConfig(in_channels=3, num_classes=4)``. Real and imaginary part of complex images pass it apart.

    Attributes
    ----------
    clip: clamp denoised real images to [0, 1] before the data step.
    """

    steps: int = 200
    spacing: str | None = "natural"
    eta: float = 0.85
    weight: float = 1.3e-7
    rho: float = 2.6e-6
    inner: int = 5
    clip: bool = True

    def check(self, prior: SlicePrior, stack: Stack) -> int:
        if stack.shape[1] != 1:
            raise ValueError(f"A must take slices of one channel, whose neighbours become channels, got {stack.shape[1]}")
        return super().check(prior, stack)

    def groups(self, problem: VolumeProblem, index: int) -> Groups:
        """The triples of a step."""
        count = problem.stack.shape[0]
        return spread(count) if index % 2 else adjacent(count, int(3 * problem.noise.number(index, 2)))

    def chunk_calls(self, problem: VolumeProblem, steps: int) -> int:
        both = 2 if problem.like.is_complex() else 1
        counts = [both * len(self.groups(problem, index).members) for index in range(steps)]
        return sum(len(problem.prior.run.parts(count)) for count in counts)

    def denoised(self, problem: VolumeProblem, x: Tensor, sigma: float, index: int) -> tuple[Tensor, Tensor]:
        groups, prior = self.groups(problem, index), problem.prior
        triples = x[groups.members.to(x.device), 0]  # (G, 3, H, W)
        shown = torch.cat([triples.real, triples.imag]) if x.is_complex() else triples
        spacing = torch.full((len(shown),), groups.spacing, device=x.device)
        prior.calls += 1
        eps = prior.run.map(lambda part: prior.eps_of(shown[part], sigma, spacing[part]), len(shown), done=prior.report)
        triple, place = (index.to(x.device) for index in groups.owners(len(x)))
        if x.is_complex():
            eps = torch.complex(*eps.chunk(2))
        eps = eps[triple, place][:, None]
        x0 = x - sigma * eps
        return (x0 if x.is_complex() or not self.clip else x0.clamp(0, 1)), eps
