"""Orders of convergence of the deterministic samplers on a Gaussian mixture, and the variance that the stochastic one keeps."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch

from prior.grids import karras, log_snr, quadratic, uniform
from prior.mixture import GaussianMixture
from prior.samplers import DDIM, DEIS, GHVB, HB, IPNDM, DPMSolver, EVODiff, Nesterov, RungeKutta
from prior.schedules import EDM, VP, Linear
from tests.prior.flow import probability_flow, trajectory
from tests.prior.gaussian import gaussian_model

SCHEDULE, END = VP(t_min=0.01), 0.01
ORDERS = [  # sampler, grid, N at which the order has settled, order
    (DDIM(clip=False), log_snr, 64, 1),
    (DPMSolver(order=1), log_snr, 64, 1),
    (DPMSolver(), log_snr, 128, 2),
    (DPMSolver(lower_order_final="always"), log_snr, 128, 2),
    (DEIS(order=1), uniform, 64, 2),
    (DEIS(order=2), uniform, 32, 3),
    (DEIS(order=3), uniform, 64, 4),  # 3 as N grows further, from its first steps of lower order
    (DEIS(variant="rhoAB", order=1), karras, 128, 2),
    (DEIS(variant="rhoAB", order=2), karras, 128, 3),
    (DEIS(variant="rhoAB", order=3), karras, 128, 4),
    (IPNDM(order=2), uniform, 64, 2),
    (IPNDM(order=4), uniform, 128, 2),
    (GHVB(number=0.5), uniform, 128, 1),
    (GHVB(number=1.8), uniform, 64, 2),
    (HB(number=1.8), uniform, 64, 1),
    (EVODiff(), log_snr, 128, 1),
    (EVODiff(final="full"), log_snr, 128, 1),
    (EVODiff(final="official"), log_snr, 128, 0),
    (RungeKutta(method="euler"), karras, 32, 1),
    (RungeKutta(method="heun"), karras, 32, 2),
    (RungeKutta(method="kutta3"), uniform, 128, 3),
    (RungeKutta(method="heun3"), karras, 64, 3),
    (RungeKutta(method="houwen3"), karras, 32, 3),
    (RungeKutta(method="ralston3"), karras, 32, 3),
    (RungeKutta(method="ssprk3"), karras, 32, 3),
    (RungeKutta(method="rk4"), karras, 64, 4),
]


@cache
def problem():
    """The mixture's denoiser, a start at t = 1 and where the flow carries it."""
    model = GaussianMixture.random((2, 4, 4), seed=3).denoiser(SCHEDULE)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return model, x, probability_flow(model, x, 1.0, END)


def error(sampler, spacing, N):
    model, x, truth = problem()
    return float((sampler.walk(model, x, spacing(SCHEDULE, N + 1)[:-1]) - truth).square().mean().sqrt())


@pytest.mark.parametrize(("sampler", "spacing", "N", "order"), ORDERS, ids=lambda v: repr(v) if hasattr(v, "steps") else None)
def test_order(sampler, spacing, N, order):
    slope = math.log2(error(sampler, spacing, N) / error(sampler, spacing, 2 * N))
    assert slope == pytest.approx(order, abs=0.12)


def test_what_a_step_more_of_order_buys():
    errors = [error(sampler, uniform, 32) for sampler in (HB(number=1.8), Nesterov(number=1.8), GHVB(number=1.8))]
    assert errors == sorted(errors, reverse=True)
    errors = [error(DEIS(order=order), uniform, 64) for order in range(4)]
    assert all(a > 4 * b for a, b in pairwise(errors))


@pytest.mark.parametrize(
    ("sampler", "gain"), [(DDIM(clip=False), 1.5), (DEIS(), 3.5), (IPNDM(), 3), (GHVB(), 2), (DPMSolver(), 2)], ids=repr
)
def test_what_the_natural_grid_buys(sampler, gain):
    assert gain * error(sampler, quadratic, 10) < error(sampler, karras, 10)


def variances(sampler, schedule, times):
    """Of every state, for a prior N(0, 1), exactly: each start and each draw of noise moves one pixel of its own."""
    N = len(times) - 1
    pixels = torch.eye(N + 1, dtype=torch.float64).view(N + 1, 1, 1, N + 1)
    start = schedule.sigma(times[0]) * pixels[:1]  # the exact start of a finite level lacks alpha^2 of the variance
    states = trajectory(sampler, gaussian_model(schedule, mean=0.0, std=1.0), start, times, pixels[1:, None])
    return states.square().sum((1, 2, 3, 4))


@pytest.mark.parametrize("schedule", [VP(), Linear()], ids=["vp", "linear"])
def test_the_stochastic_form_keeps_the_variance(schedule):
    errors = []
    for N in (20, 40, 80):
        times = log_snr(schedule, N)
        errors.append(float((variances(DPMSolver(sde=True), schedule, times) - 1).abs().max()))
    assert errors[2] < 0.008
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([2, 2], abs=0.4)


def test_the_stochastic_form_of_first_order_is_less_exact():
    times = log_snr(VP(), 40)
    first, second = (float((variances(DPMSolver(sde=True, order=k), VP(), times) - 1).abs().max()) for k in (1, 2))
    assert first > 3 * second


def test_a_variance_that_explodes():
    times = log_snr(EDM(), 200)
    got = variances(DPMSolver(sde=True), EDM(), times)
    torch.testing.assert_close(got, 1 + EDM().sigma(times) ** 2, rtol=0.01, atol=0)
