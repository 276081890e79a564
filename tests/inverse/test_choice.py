"""Which sampler an operator gets: one that accepts it, whatever the goal, and for the reason given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import inverse
from inverse import choose, explain
from inverse.choice import GOALS, RULES, rounding, with_samples, with_steps
from inverse.operators import (
    JPEG,
    Blur,
    Downsample,
    Gaussian,
    Identity,
    Inpaint,
    KernelWizard,
    NonlinearBlur,
    Overexpose,
    PhaseRetrieval,
    Quantize,
)
from inverse.samplers import DAPS, DDRM, HMC, Adam, Consistent, DiffPIR, Implicit, RedDiff
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.schedules import EDM
from tests.inverse.operators.examples import OPERATORS, crooked

SHAPE = (3, 16, 16)
TINY = {"features": 2, "front_blocks": 1, "back_blocks": 1, "code_channels": 2}
NONLINEAR = {
    "jpeg": lambda: JPEG(10, shape=SHAPE),
    "quantize": lambda: Quantize(3, shape=SHAPE),
    "overexpose": lambda: Overexpose(2.0, shape=SHAPE),
    "phase": lambda: PhaseRetrieval(2, shape=SHAPE, noise=Gaussian(0.01)),
    "blurred and coded": lambda: JPEG(50) @ Blur.gaussian(1.0, shape=SHAPE),
    "overexposed and shrunk": lambda: Downsample.area(2) @ Overexpose(2.0, shape=SHAPE),
    "camera": lambda: NonlinearBlur.random(
        KernelWizard(features=2, front_blocks=1, back_blocks=1, code_channels=2), shape=(3, 128, 128)
    ),
}
EVERY = {**OPERATORS, **NONLINEAR}


class Grey(nn.Module):
    """A network that knows grey images only."""

    def forward(self, x, t):
        return torch.zeros_like(x)


def problem(A) -> Problem:
    A = A.float()
    x = torch.rand(1, *A.domain, generator=torch.Generator().manual_seed(0))
    return Problem(Denoiser(Grey(), EDM()), A, A.measure(x).detach())


def rule(A, goal):
    return next(r for r in RULES if r.fits(A, goal, None))


@pytest.mark.parametrize("name", EVERY)
def test_every_operator_gets_a_sampler_that_accepts_it(name):
    posed = problem(EVERY[name]())
    for goal in GOALS:
        sampler = choose(posed.A, goal=goal)
        sampler.check(posed)
        assert explain(posed.A, goal=goal) == rule(posed.A, goal).reason
        assert sampler.samples == (4 if goal == "samples" else 0 if isinstance(sampler, RedDiff) else 1)


@pytest.mark.parametrize("name", ["jpeg", "quantize", "overexpose", "phase", "blurred and coded", "overexposed and shrunk"])
def test_nonlinear_operators_are_solved(name):
    posed = problem(NONLINEAR[name]())
    for goal in GOALS:
        sampler = with_steps(choose(posed.A, goal=goal, samples=1), 2)
        out = sampler.reconstruct(posed.model, posed.A, posed.y)
        assert out.network_calls == 2
        assert out.estimate.shape == (1, *SHAPE)
        assert bool(out.estimate.isfinite().all())


def test_every_rule_is_used_and_tells_why_in_one_line():
    operators = [make() for make in EVERY.values()]
    used = {rule(A, goal).reason for A in operators for goal in GOALS}
    assert used == {r.reason for r in RULES}
    assert len(used) == len(RULES)
    assert not [reason for reason in used if "\n" in reason or len(reason) > 100]


def test_linear_operators():
    A = Downsample.bicubic(4, shape=SHAPE)
    assert choose(A) == RedDiff()
    assert choose(A, goal="samples") == DAPS(samples=4)
    assert choose(A, goal="fast") == DDRM()
    assert choose(Inpaint.random(SHAPE, 0.5), goal="fast") == DDRM()
    assert choose(Blur(crooked(3, 4), shape=SHAPE), goal="fast") == DiffPIR(steps=20)


def test_nonlinear_operators():
    coded = choose(JPEG(10))
    assert (coded.optimizer, coded.levels) == (Adam(lr=0.01), (0.2, 0.02))
    assert coded.noise_floor == pytest.approx(0.04 * (80 / 255) ** 0.5)  # 80 is the first step of the table at quality 10
    assert choose(Quantize(2)).noise_floor == pytest.approx(0.07 / 3)
    assert choose(Quantize(8)).noise_floor == RedDiff().noise_floor  # a byte is as good as exact
    assert choose(JPEG(10), goal="samples") == DAPS(levels=(1.0, 0.02), mcmc=HMC(steps=30), samples=4)
    chains = DAPS(levels=(1.0, 0.02), mcmc=HMC(steps=30))
    assert choose(Overexpose()) == Consistent(sampler=chains)  # without noise what was not clipped is known
    assert choose(Overexpose(noise=Gaussian(0.01))) == chains
    assert choose(PhaseRetrieval(2)) == DAPS(steps=50, levels=(0.2, 0.02), mcmc=HMC(steps=30), warm_start=True)


def test_a_composition_is_as_linear_as_its_parts():
    blur = Blur.gaussian(1.0, shape=SHAPE)
    assert choose(Blur.gaussian(2.0) @ blur) == RedDiff()
    for A in (JPEG(50) @ blur, Downsample.area(2) @ Overexpose(shape=SHAPE)):
        assert choose(A) == choose(A, goal="samples", samples=1) == DAPS(mcmc=HMC(steps=30))


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())
def test_fast_is_twenty_evaluations_at_most(make):
    sampler = choose(make(), goal="fast")
    assert (sampler.sampler if isinstance(sampler, Consistent) else sampler).steps == 20


def test_a_rounded_measurement_is_held_the_firmer_the_finer_it_is():
    floors = [rounding(JPEG(quality)) for quality in (2, 10, 50, 90, 100)]
    assert floors == sorted(floors, reverse=True)
    assert floors[0] == pytest.approx(0.04)  # of a table that is 255 throughout
    assert [rounding(Quantize(bits)) for bits in (1, 4)] == pytest.approx([0.07, 0.07 / 15])
    assert rounding(Identity()) == 0


def test_samples():
    A = Identity(SHAPE)
    assert [choose(A, samples=n).samples for n in (None, 0, 1, 2, 7)] == [0, 0, 0, 2, 7]
    assert [choose(A, goal="fast", samples=n).samples for n in (None, 0, 1, 2)] == [1, 1, 1, 2]
    assert choose(A, goal="samples", samples=9) == DAPS(samples=9)
    assert with_samples(RedDiff(steps=3), 1) == RedDiff(steps=3)
    assert isinstance(choose(A).optimizer, Implicit)


def test_the_shape_of_the_images_decides_about_the_decomposition():
    blur = Blur.gaussian(1.0)
    assert choose(blur, goal="fast", shape=SHAPE) == DDRM()
    assert choose(blur, goal="fast", shape=(3, 4000, 16)) == DiffPIR(steps=20)
    assert choose(blur) == RedDiff()
    assert choose(Identity(), goal="fast") == DDRM()
    with pytest.raises(ValueError, match=r"needs shape=\(C, H, W\)"):
        choose(blur, goal="fast")


def test_errors():
    with pytest.raises(ValueError, match="goal must be one of estimate, samples, fast, got 'best'"):
        choose(Identity(), goal="best")
    with pytest.raises(ValueError, match="goal must be one of"):
        explain(Identity(), goal="")
    with pytest.raises(ValueError, match="samples must not be negative, got -1"):
        choose(Identity(), samples=-1)
    with pytest.raises(TypeError, match="A must be an Operator, got Tensor"):
        choose(torch.eye(3))


def test_the_name_is_the_function():
    assert inverse.choose is choose
