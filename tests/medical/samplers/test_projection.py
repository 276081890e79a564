"""Score-MRI and MCG: projections, and their steps by hand."""

import math

import pytest
import torch

from medical.operators.sense import Sense
from medical.samplers import MCG, ScoreMRI
from medical.samplers.guidance import guided
from tests.medical.classical.problems import randn
from tests.medical.samplers.problems import blurred, prior, problem, slices, volumes


def single_coil():
    mask = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    A = Sense.single((4, 4), mask)
    return A, A(randn(3, 1, 4, 4, dtype=torch.complex128)), mask


def test_projection_puts_the_measured_frequencies_in_their_place():
    A, y, mask = single_coil()
    given, x = problem(prior(), A, y), randn(3, 1, 4, 4, seed=2, dtype=torch.complex128)
    got = ScoreMRI().project(given.stack, x)
    full = Sense.single((4, 4))
    torch.testing.assert_close(full(got), torch.where(mask, y, full(x)))


def test_an_exact_measurement_is_kept():
    A, y, _ = single_coil()
    for sampler in (ScoreMRI(steps=5), MCG(steps=5)):
        x = sampler.reconstruct(prior(), A, y).estimate
        torch.testing.assert_close(A(x), y, rtol=1e-10, atol=1e-10)


def test_projections_come_nearer():
    A, y, x = slices(noise=0)
    given, u = problem(prior(), A, y), 0 * x
    before = float((A(u) - y).norm())
    for _ in range(5):
        u = ScoreMRI(relaxation=1.5).project(given.stack, u)
        after = float((A(u) - y).norm())
        assert after < before
        before = after


@pytest.mark.parametrize("make", [slices, volumes])
@pytest.mark.parametrize("index", [1, 4])
@pytest.mark.parametrize("weight", [None, 0.6])
def test_a_step_by_hand(make, index, weight):
    A, y, _ = make()
    sampler = ScoreMRI(steps=5, relaxation=0.8) if weight is None else MCG(steps=5, relaxation=0.8, weight=weight)
    given = problem(blurred(), A, y)
    at = sampler.start(given)
    x, level = at.x.clone(), sampler.levels(given.prior)[index]
    sampler.step(given, at, index)
    stack, sigma = given.stack, level.sigma
    z, z_corrector = (given.noise(x, index, draw, slice(0, len(x))) for draw in (1, 2))

    def project(x):
        return x + 0.8 / stack.norm_squared * (stack.back_projected - stack.normal(x))

    eps, gradient = guided(given.prior, stack, x, sigma)
    G2 = sigma**2 - level.previous**2
    x = x - G2 * eps / sigma - (weight or 0.0) / math.sqrt(stack.norm_squared) * gradient + math.sqrt(G2) * z
    x = project(x)
    s = -given.prior.eps(x, sigma) / sigma
    e = (2 * (0.16 * z_corrector.flatten(1).norm(dim=1) / s.flatten(1).norm(dim=1)) ** 2).view(-1, 1, 1, 1)
    x = x + e * s + (0 if index == 4 else (2 * e).sqrt() * z_corrector)
    torch.testing.assert_close(at.x, project(x), rtol=1e-9, atol=1e-9)


def test_calls():
    for make, sampler, calls in ((slices, ScoreMRI, 2), (slices, MCG, 2), (volumes, ScoreMRI, 2), (volumes, MCG, 3)):
        A, y, _ = make()
        assert sampler(steps=4).reconstruct(prior(), A, y).network_calls == 4 * calls


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ScoreMRI(relaxation=2.0), "relaxation must lie between 0 and 2"),
        (lambda: ScoreMRI(relaxation=0.0), "relaxation must lie between 0 and 2"),
        (lambda: MCG(weight=-1.0), "weight must not be negative"),
        (lambda: MCG(steps=1), "steps must be at least 2"),
    ],
)
def test_wrong_settings(make, match):
    with pytest.raises(ValueError, match=match):
        make()
