"""The samplers that ``--sampler`` names, with the settings of ``benchmarks.quality``."""

from __future__ import annotations

from collections.abc import Callable

from inverse.choice import Sampler, choose, with_samples, with_steps
from inverse.operators.base import LinearOperator, Operator
from inverse.samplers import DAPS, DDNM, DDRM, DPS, MCG, DiffPIR, PiGDM, RedDiff
from posterior.commands.options import SamplerName

__all__ = ["SAMPLERS", "chosen"]

SAMPLERS: dict[SamplerName, Callable[[Operator], Sampler]] = {
    SamplerName.auto: choose,
    SamplerName.reddiff: lambda A: RedDiff(),
    SamplerName.diffpir: lambda A: DiffPIR(),
    SamplerName.ddrm: lambda A: DDRM(),
    SamplerName.ddnm: lambda A: DDNM(),
    SamplerName.pigdm: lambda A: PiGDM(prior_std=0.3),
    SamplerName.daps: lambda A: DAPS() if isinstance(A, LinearOperator) else choose(A, goal="samples"),
    SamplerName.dps: lambda A: DPS(steps=100, zeta=10.0 if isinstance(A, LinearOperator) else 0.5),
    SamplerName.mcg: lambda A: MCG(zeta=1.0),
}

ANY = (SamplerName.auto, SamplerName.daps, SamplerName.dps)
"""Those that take nonlinear operators."""


def chosen(name: SamplerName, A: Operator, *, steps: int | None = None, samples: int = 0) -> Sampler:
    """The sampler of that name for ``A``: with ``steps``, where given, and ``samples`` draws, 0 or 1 for an estimate alone.

    ``auto`` looks for the closest image, or for honest draws where there are several. Raises ``TypeError`` where the
    sampler cannot handle a nonlinear ``A``.
    """
    if name not in ANY and not isinstance(A, LinearOperator):
        raise TypeError(f"--sampler {name} needs a linear operator, got {A!r}; {', '.join(ANY[:-1])} and {ANY[-1]} take any")
    sampler = choose(A, goal="samples") if name is SamplerName.auto and samples > 1 else SAMPLERS[name](A)
    if steps is not None:
        sampler = with_steps(sampler, steps)
    return with_samples(sampler, samples)
