"""Which posterior sampler for an operator: a table of rules, of which the first that fits decides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from inverse.operators.base import LinearOperator, Operator, Shape
from inverse.operators.jpeg import JPEG
from inverse.operators.noise import Noiseless
from inverse.operators.nonlinear import Overexpose, PhaseRetrieval, Quantize
from inverse.samplers.consistent import Consistent
from inverse.samplers.daps import DAPS
from inverse.samplers.ddrm import DDRM
from inverse.samplers.diffpir import DiffPIR
from inverse.samplers.loop import PosteriorSampler
from inverse.samplers.mcmc import HMC
from inverse.samplers.optimizers import Adam
from inverse.samplers.reddiff import RedDiff

__all__ = ["GOALS", "RULES", "Rule", "Sampler", "choose", "explain", "rounding", "with_samples", "with_steps"]

Sampler = PosteriorSampler | RedDiff | Consistent

GOALS = ("estimate", "samples", "fast")
DRAWS = 4
"""Of the goal "samples", where no number is given."""


def rounding(A: Operator) -> float:
    """How firmly to hold a rounded measurement: as if it had noise of this standard deviation, in [0, 1]; 0 without rounding.

    ``0.07 q`` for grey levels ``q`` apart, ``0.04 sqrt(q)`` for JPEG, ``q`` the first step of its table: what restored
    photographs best, a quarter and a half of the error's own deviation there. A step that is coarse drops what was small.
    """
    if isinstance(A, Quantize):
        return 0.07 / (2**A.bits - 1)
    if isinstance(A, JPEG):
        return 0.04 * math.sqrt(float(A.tables[0, 0, 0]) / 255)
    return 0.0


def _adam(A: Operator, steps: int = 60) -> RedDiff:
    floor = max(rounding(A), RedDiff.noise_floor)
    return RedDiff(steps=steps, levels=(0.2, 0.02), noise_floor=floor, optimizer=Adam(lr=0.01))


def _hmc(highest: float, steps: int = 100, *, noise_floor: float = 0.002, warm_start: bool = False) -> DAPS:
    return DAPS(
        steps=steps, levels=(highest, 0.02), mcmc=HMC(steps=30), noise_floor=noise_floor, warm_start=warm_start
    )  # fmt: skip


def _exactly(A: Operator, sampler: DAPS) -> DAPS | Consistent:
    return Consistent(sampler=sampler) if isinstance(A.noise, Noiseless) else sampler


@dataclass(frozen=True)
class Rule:
    """What to take for operators of a ``kind`` with one of the ``goals``, and why.

    ``spectral``: only where the operator is an isometry or its SVD has a closed form.
    """

    kind: type[Operator] | tuple[type[Operator], ...]
    goals: tuple[str, ...]
    make: Callable[[Operator], Sampler]
    reason: str
    spectral: bool = False

    def fits(self, A: Operator, goal: str, shape: Shape | None) -> bool:
        """Whether the rule holds for ``A`` on images of ``shape``."""
        return goal in self.goals and isinstance(A, self.kind) and (not self.spectral or _spectral(A, shape))


ROUNDED = (JPEG, Quantize)
ESTIMATE, SAMPLES, FAST, SLOW = ("estimate",), ("samples",), ("fast",), ("estimate", "samples")

RULES = (
    Rule(LinearOperator, ESTIMATE, lambda A: RedDiff(), "linear: an image by 60 data steps, each solved exactly"),
    Rule(LinearOperator, SAMPLES, lambda A: DAPS(), "linear: images given y and a guess are drawn exactly"),
    Rule(LinearOperator, FAST, lambda A: DDRM(), "linear with an SVD in closed form: 20 steps, direction by direction", True),
    Rule(LinearOperator, FAST, lambda A: DiffPIR(steps=20), "linear without an SVD in closed form: 20 data steps"),
    Rule(ROUNDED, ESTIMATE, _adam, "rounded: gradient steps from y, held the less the coarser it is"),
    Rule(ROUNDED, SAMPLES, lambda A: _hmc(1.0), "rounded: chains that draw, from a level at which y is no longer seen"),
    Rule(ROUNDED, FAST, lambda A: _adam(A, 20), "rounded: 20 gradient steps from y"),
    Rule(Overexpose, SLOW, lambda A: _exactly(A, _hmc(1.0)), "clipped, where y has no slope: chains that draw what may be"),
    Rule(Overexpose, FAST, lambda A: _exactly(A, _hmc(1.0, 20, noise_floor=0.01)), "clipped: the same, at 20 levels"),
    Rule(PhaseRetrieval, SLOW, lambda A: _hmc(0.2, 50, warm_start=True), "many answers: chains around that of its solver"),
    Rule(PhaseRetrieval, FAST, lambda A: _hmc(0.2, 20, warm_start=True), "many answers: the same chains, at 20 levels"),
    Rule(Operator, SLOW, lambda A: _hmc(100.0), "nonlinear: chains that ask for its slope only, not the network's"),
    Rule(Operator, FAST, lambda A: _hmc(100.0, 20), "nonlinear: the same chains, at 20 levels"),
)
"""The particular before the general; ``benchmarks.quality`` compares the samplers."""


def choose(A: Operator, *, goal: str = "estimate", samples: int | None = None, shape: Shape | None = None) -> Sampler:
    """A sampler for ``A``, ready to ``reconstruct``, by the first of :data:`RULES` that fits.

    A phase retrieval is only as good as its start: give ``PhaseRetrieval`` a ``solver``, as
    :class:`~inverse.phase.HybridInputOutput`. A composition with a nonlinear part counts as nonlinear.

    Parameters
    ----------
    goal: "estimate", the closest image; "samples", draws whose spread is that of the posterior; "fast", few evaluations
        of the network.
    samples: how many draws; None: 4 where they are the goal, else no more than the estimate takes. Fewer than two have no
        spread.
    shape: (C, H, W) of the images, for an operator that takes any: on it hangs whether there is an SVD in closed form.

    Raises ``ValueError`` for an unknown goal, and where "fast" needs a shape.
    """
    rule = _rule(A, goal, shape)
    if samples is not None and samples < 0:
        raise ValueError(f"samples must not be negative, got {samples}")
    if samples is None:
        samples = DRAWS if goal == "samples" else 0
    return with_samples(rule.make(A), samples)


def explain(A: Operator, *, goal: str = "estimate", shape: Shape | None = None) -> str:
    """Why :func:`choose` takes what it takes, in one line."""
    return _rule(A, goal, shape).reason


def with_samples(sampler: Sampler, samples: int) -> Sampler:
    """``sampler`` with this many draws; 0 or 1 for an estimate at the least cost, which has no spread.

    RED-Diff's draws come besides its estimate, those of the others make it.
    """
    if isinstance(sampler, Consistent):
        return Consistent(sampler=_plain(with_samples(sampler.sampler, samples)))
    least = 0 if isinstance(sampler, RedDiff) else 1
    return dataclasses.replace(sampler, samples=samples if samples > 1 else least)


def with_steps(sampler: Sampler, steps: int) -> Sampler:
    """``sampler`` with this many steps."""
    if isinstance(sampler, Consistent):
        return Consistent(sampler=_plain(with_steps(sampler.sampler, steps)))
    return dataclasses.replace(sampler, steps=steps)


def _plain(sampler: Sampler) -> PosteriorSampler | RedDiff:
    return sampler.sampler if isinstance(sampler, Consistent) else sampler


def _rule(A: Operator, goal: str, shape: Shape | None) -> Rule:
    if goal not in GOALS:
        raise ValueError(f"goal must be one of {', '.join(GOALS)}, got {goal!r}")
    if not isinstance(A, Operator):
        raise TypeError(f"A must be an Operator, got {type(A).__name__}")
    return next(rule for rule in RULES if rule.fits(A, goal, shape))


def _spectral(A: Operator, shape: Shape | None) -> bool:
    return isinstance(A, LinearOperator) and (A.isometry is not None or A.svd(shape) is not None)
