"""DDS where everything is Gaussian: what it draws follows from matrices."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from inverse.operators.noise import Gaussian
from medical.samplers import DDS, Run
from medical.samplers.slice_prior import SlicePrior
from prior.denoiser import VelocityHead
from prior.schedules import EDM, VE, VP, Linear, RectifiedFlow
from tests.medical.classical.problems import Dense, randn
from tests.medical.operators.examples import PROJECTORS
from tests.medical.samplers.problems import MEAN, SCHEDULE, TAU, complex_slices, prior, problem, slices

UNCOUPLED = DDS(steps=12, spacing="natural", eta=0.85, weight=0.0, rho=0.0, inner=12, spread=TAU)


def law(sampler, model, A, y):
    """Mean and covariance of one slice that DDS draws, with exact solves: every step is linear in x and z."""
    levels = sampler.levels(SlicePrior(model, Run()))
    n = A.matrix.shape[1]
    eye = torch.eye(n, dtype=torch.float64)
    m, C = torch.zeros(n, dtype=torch.float64), levels[0] ** 2 * eye
    noise = float(A.noise.std(y))
    for sigma, after in pairwise(levels):
        anchor = noise**2 * (1 / sigma**2 + 1 / sampler.spread**2)
        pull = torch.linalg.inv(A.matrix.mT @ A.matrix + anchor * eye)
        kept, total = TAU**2 / (TAU**2 + sigma**2), TAU**2 + sigma**2
        eps = after * math.sqrt(1 - sampler.eta**2) * sigma / total
        M = anchor * kept * pull + eps * eye
        m = M @ (m - MEAN) + pull @ (A.matrix.mT @ y + anchor * MEAN)
        C = M @ C @ M.mT + (after * sampler.eta) ** 2 * eye
    return m, C


def posterior(A, y):
    """Mean and covariance of x given y, for the prior N(MEAN, TAU^2)."""
    n = A.matrix.shape[1]
    precision = A.matrix.mT @ A.matrix / A.noise.sigma**2 + torch.eye(n, dtype=torch.float64) / TAU**2
    C = torch.linalg.inv(precision)
    return C @ (A.matrix.mT @ y / A.noise.sigma**2 + MEAN / TAU**2), C


def draws(sampler, model, A, y, count):
    """Independent draws, as slices that were all measured alike: (count, n)."""
    return sampler.reconstruct(model, A, y.expand(count, -1).contiguous(), run=Run(chunk=500)).estimate.flatten(1)


def agrees(x, m, C, errors=5.0):
    """Sample mean and covariance of x (S, n), each entry within its standard error times ``errors``."""
    S, variance = len(x), C.diagonal()
    assert bool(((x.mean(0) - m).abs() < errors * (variance / S).sqrt() + 1e-9).all())
    spread = ((variance[:, None] * variance + C.square()) / S).sqrt()
    assert bool(((torch.cov(x.mT) - C).abs() < errors * spread + 1e-9).all())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_draws_follow_their_law(eta):
    A, y, _ = slices(1)
    sampler = replace(UNCOUPLED, eta=eta)
    agrees(draws(sampler, prior(), A, y, 1200), *law(sampler, prior(), A, y[0]))


SCHEDULES = {"discrete": Linear(), "vp": VP(), "flow": RectifiedFlow(), "edm": EDM(), "ve": VE()}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_law_behind_any_schedule(schedule):
    A, y, _ = slices(1)
    model = prior(schedule=schedule, head=VelocityHead() if isinstance(schedule, RectifiedFlow) else None)
    agrees(draws(UNCOUPLED, model, A, y, 400), *law(UNCOUPLED, model, A, y[0]))


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.2])
def test_distance_to_the_posterior(noise):
    """The law of DDS against the posterior, in the directions of A: means agree where the measurement is exact.

    DDS looks at the measurement in every step, and lets go on from the mean of the clean volume and not from a draw: it leans
    towards the measurement where that is noisy, and its draws differ by less than they should.
    """
    A, y, _ = slices(1, noise=noise)
    sampler = replace(UNCOUPLED, steps=20)
    m, C = law(sampler, prior(), A, y[0])
    exact, E = posterior(A, y[0])
    off = ((m - exact).abs() / E.diagonal().sqrt()).max()
    share = (C.diagonal() / E.diagonal()).sqrt()
    away = (MEAN - exact).norm()
    assert float((m - exact).norm() / away) < BOUNDS[noise][0]
    assert float(off) < BOUNDS[noise][1]
    assert BOUNDS[noise][2] < float(share.min())
    assert float(share.max()) < 0.8


BOUNDS = {0.02: (0.005, 0.02, 0.75), 0.05: (0.03, 0.08, 0.7), 0.2: (0.13, 0.27, 0.68)}
"""Of the mean: its error as a share of the way from the prior's, and in standard deviations; the least share of the spread."""


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.2])
def test_with_fresh_noise_alone_the_mean_is_exact(noise):
    """Each step forgets all but the mean of the clean volume, which Gaussians get right; the start must have enough noise."""
    A, y, _ = slices(1, noise=noise)
    m, C = law(replace(UNCOUPLED, steps=20, spacing=None, sigma_max=1.5, eta=1.0), prior(), A, y[0])
    exact, E = posterior(A, y[0])
    assert float((m - exact).norm()) < 1e-3 * float((MEAN - exact).norm())
    share = (C.diagonal() / E.diagonal()).sqrt()
    assert 0.65 < float(share.min()) <= float(share.max()) < 0.68


def test_draws_come_near_the_posterior_mean():
    A, y, _ = slices(1, noise=0.05)
    exact, _E = posterior(A, y[0])
    sampler = replace(UNCOUPLED, steps=20)
    x = draws(sampler, prior(), A, y, 300)
    assert float((x.mean(0) - exact).norm()) < 0.15 * float((MEAN - exact).norm())


def test_an_exact_measurement_is_explained():
    A, y, _ = slices(3, noise=0)
    x = DDS(steps=8, weight=0.0, rho=0.0, inner=40).reconstruct(prior(), A, y).estimate
    torch.testing.assert_close(A(x), y, rtol=1e-6, atol=1e-6)


def test_tv_ties_slices_together():
    A, y, _ = slices(6)
    rough, smooth = (DDS(steps=10, weight=w, rho=0.05) for w in (0.0, 0.02))
    steps = [float(s.reconstruct(prior(), A, y).estimate.diff(dim=0).abs().sum()) for s in (rough, smooth)]
    assert steps[1] < 0.8 * steps[0]


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_units_of_the_measurement_do_not_matter(scale):
    A, y, _ = slices(4, noise=0.1)
    other = Dense(scale * A.matrix, A.domain, Gaussian(0.1 * scale))
    one, two = (DDS(steps=6).reconstruct(prior(), op, m).estimate for op, m in ((A, y), (other, scale * y)))
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


class Reordered:
    """The noise of slices in another order."""

    def __init__(self, noise, order):
        self.noise, self.order = noise, order

    def __call__(self, like, step, draw, part):
        whole = like[:1].expand(len(self.order), *like.shape[1:])
        return self.noise(whole, step, draw, slice(0, len(whole)))[self.order[part]]


def test_slices_in_another_order():
    A, y, _ = slices(4)
    sampler, order = DDS(steps=6, weight=0.0, rho=0.0), torch.tensor([2, 0, 3, 1])

    def walk(y, reorder):
        given = problem(prior(), A, y)
        if reorder:
            object.__setattr__(given, "noise", Reordered(given.noise, order))
        at = sampler.start(given)
        for index in range(sampler.steps):
            sampler.step(given, at, index)
        return at.x

    torch.testing.assert_close(walk(y[order], True), walk(y, False)[order], rtol=1e-9, atol=1e-9)


def test_one_step_by_hand():
    A, y, _ = slices(3, noise=0)
    sampler = DDS(steps=5, eta=0.6, weight=0.0, rho=0.0, inner=30)
    given = problem(prior(), A, y)
    sigma, after = sampler.levels(given.prior)[1:3]
    at = sampler.start(given)
    x = at.x.clone()
    assert torch.equal(x, sampler.levels(given.prior)[0] * given.noise(x, 0, 0, slice(0, 3)))
    sampler.step(given, at, 1)
    eps = sigma * (x - MEAN) / (sigma**2 + TAU**2)
    x0 = x - sigma * eps
    u = x0 + (torch.linalg.pinv(A.matrix) @ (y - A(x0)).mT).mT.view_as(x)
    z = given.noise(x, 1, 1, slice(0, 3))
    torch.testing.assert_close(at.x, u + after * (0.6 * z + 0.8 * eps), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 2])
def test_complex_images(channels):
    A, y, x = complex_slices()
    out = DDS(steps=10).reconstruct(prior(channels=channels), A, y)
    assert out.estimate.dtype == torch.complex128
    assert 0.3 < out.residual_ratio < 1.5
    start = (A(torch.full_like(x, MEAN * (1 + 1j))) - y).norm()
    assert float(out.residual.norm()) < 0.5 * float(start)


def test_volume_of_a_projector():
    A = PROJECTORS["joseph-cone-flat"]().with_noise(Gaussian(0.05))
    x = MEAN + TAU * randn(1, *A.domain, seed=2).float()
    y = A.measure(x, seed=1)
    out = DDS(steps=10).reconstruct(prior(), A, y)
    assert out.estimate.shape == x.shape
    assert float(out.residual.norm()) < 0.3 * float((y - A(torch.full_like(x, MEAN))).norm())
    assert out.network_calls == 10


def test_levels():
    given = problem(prior(), *slices(2)[:2])
    levels = DDS(steps=7).levels(given.prior)
    assert len(levels) == 8
    assert (levels[0], levels[-1]) == (pytest.approx(1.0), 0)
    assert levels[-2] == pytest.approx(max(0.01, given.prior.lowest))
    assert levels[3] == pytest.approx((0.5 * levels[0] ** (1 / 7) + 0.5 * levels[6] ** (1 / 7)) ** 7)
    whole = DDS(steps=7, sigma_max=1e4, sigma_min=1e-9).levels(given.prior)
    natural = DDS(steps=7, spacing="natural").levels(given.prior)
    assert whole == pytest.approx(natural)  # of EDM, whose grid is Karras'
    assert whole[0] == pytest.approx(SCHEDULE.sigma_max)
    with pytest.raises(ValueError, match="sigma_max and sigma_min must hold noise levels that the prior knows"):
        DDS(sigma_max=200.0, sigma_min=100.0).levels(given.prior)


def test_levels_of_the_paper():
    """Times 980, 960, ..., 0 of 1000, and the network is called at each."""
    schedule = Linear()
    levels = DDS.paper().levels(problem(prior(schedule=schedule), *slices(2)[:2]).prior)
    assert levels == pytest.approx([*(float(schedule.level(t)) for t in range(980, -1, -20)), 0.0])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"inner": 0}, "inner must be at least 1"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"sigma_min": 2.0}, "0 < sigma_min < sigma_max must hold, got 2.0 and 1.0"),
        ({"eta": 1.5}, "eta must lie between 0 and 1"),
        ({"weight": -1.0}, "must not be negative"),
        ({"spread": 0.0}, "spread be positive"),
        ({"rho": 0.0}, "rho must be positive with a weight"),
    ],
)
def test_wrong_settings(wrong, match):
    with pytest.raises(ValueError, match=match):
        DDS(**wrong)
