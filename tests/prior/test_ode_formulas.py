"""Deterministic samplers against their formulas as the papers print them, and against each other where they must agree."""

import math
from itertools import pairwise

import pytest
import torch
from numpy.polynomial.legendre import leggauss

from prior.denoiser import NoiseHead, VelocityHead
from prior.grids import grid, karras, log_snr, uniform
from prior.mixture import GaussianMixture
from prior.samplers import DDIM, DEIS, GHVB, HB, IPNDM, DPMSolver, EVODiff, Heun, Nesterov, RungeKutta
from prior.samplers.momentum import extrapolation
from prior.schedules import EDM, VE, VP, Cosine, Linear, RectifiedFlow, SubVP
from tests.prior.flow import trajectory
from tests.prior.gaussian import gaussian_model

MIXTURE = GaussianMixture.random((2, 3, 3), seed=5)
SCHEDULES = [Linear(), Cosine(), Linear().respace(40), VP(), SubVP(), VE(), EDM(), RectifiedFlow()]
schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def double(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def start(schedule, times, seed=0):
    return schedule.sigma(times[0]) * double(2, 2, 3, 3, seed=seed)


def noisy(schedule, spacing="log_snr", steps=7):
    """Times that end before the clean image."""
    return grid(schedule, steps + 1, spacing)[:-1]


def close(got, expected, tol=1e-10):
    torch.testing.assert_close(got, expected, rtol=tol, atol=tol)


def model_of(schedule):
    return gaussian_model(schedule) if hasattr(schedule, "base") else MIXTURE.denoiser(schedule)


# --- agreements


@schedules
@pytest.mark.parametrize(
    "sampler",
    [DPMSolver(order=1), DEIS(order=0), DEIS(variant="rhoAB", order=0), IPNDM(order=1), GHVB(number=1), HB(number=1)],
    ids=repr,
)
def test_first_order_is_ddim(schedule, sampler):
    model, times = model_of(schedule), grid(schedule, 6, "log_snr")
    x = start(schedule, times)
    ddim = trajectory(DDIM(clip=False), model, x, times)
    close(trajectory(sampler, model, x, times), ddim, 1e-12)
    close(trajectory(RungeKutta(method="euler"), model, x, times), ddim, 1e-9)


@schedules
@pytest.mark.parametrize("sampler", [DPMSolver(), DEIS(), IPNDM(), GHVB(), HB(), Nesterov(), EVODiff()], ids=repr)
def test_a_first_or_lone_step_is_ddim(schedule, sampler):
    model, times = model_of(schedule), noisy(schedule)
    x = start(schedule, times)
    expected = DDIM(clip=False).step(model, x, times[0], times[1], None)
    close(trajectory(sampler, model, x, times)[1], expected)
    close(sampler.step(model, x, times[0], times[1], None), expected)


@schedules
def test_heun_is_the_trapezoid_rule(schedule):
    model, times = model_of(schedule), karras(schedule, 6)
    x = start(schedule, times)
    close(RungeKutta(method="heun").walk(model, x, times), Heun().walk(model, x, times), 1e-11)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_whole_number_is_no_momentum(k):
    schedule = VP()
    model, times = model_of(schedule), noisy(schedule)
    x = start(schedule, times)
    expected = trajectory(IPNDM(order=k), model, x, times)
    for sampler in (GHVB(number=k), HB(number=k), Nesterov(number=k)):
        close(trajectory(sampler, model, x, times), expected)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_uniform_grid_gives_adams_and_bashforth(order):
    schedule = EDM(sigma_min=1.0, sigma_max=9.0)
    times = uniform(schedule, 9)[:-1]
    C = DEIS(variant="rhoAB", order=order).coefficients(schedule, times)
    close(C[-1] / -1.0, torch.tensor(extrapolation(order + 1), dtype=torch.float64), 1e-11)


def test_time_is_the_noise_level_of_edm():
    schedule = EDM()
    times = karras(schedule, 8)
    by_time, by_level = (DEIS(variant=variant).coefficients(schedule, times) for variant in ("tAB", "rhoAB"))
    close(by_time, by_level, 1e-12)


@pytest.mark.parametrize("beta", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("p", [1, 2, 3, 4, 5])
def test_extrapolation_is_exact_for_damped_powers(p, beta):
    # noise n^k at n = 0, -1, ... is damped, combined, and must give the integral of n^k from 0 to 1, for k < p
    c = extrapolation(p, beta)
    for k in range(p):
        damped = [sum(beta * (1 - beta) ** i * (-j - i) ** k for i in range(200)) for j in range(p)]
        assert sum(w * v for w, v in zip(c, damped, strict=True)) == pytest.approx(1 / (k + 1), abs=1e-9)


# --- formulas


@schedules
@pytest.mark.parametrize("sde", [False, True])
def test_dpm_solver(schedule, sde):
    model, times = model_of(schedule), noisy(schedule)
    x, z = start(schedule, times), double(7, 2, 2, 3, 3, seed=1)
    got = trajectory(DPMSolver(sde=sde, lower_order_final="never"), model, x, times, z)
    lam = torch.log(schedule.alpha(times) / schedule.sigma(times))
    before = None
    for i, (t, s) in enumerate(pairwise(times)):
        h, sigma, sigma_next = lam[i + 1] - lam[i], schedule.sigma(t), schedule.sigma(s)
        D = x0 = model(x, t).x0
        if i:
            r = (lam[i] - lam[i - 1]) / h
            D = (1 + 1 / (2 * r)) * x0 - before / (2 * r)
        if sde:
            x = sigma_next / sigma * torch.exp(-h) * x - schedule.alpha(s) * torch.expm1(-2 * h) * D
            x = x + sigma_next * torch.sqrt(-torch.expm1(-2 * h)) * z[i]
        else:
            x = sigma_next / sigma * x - schedule.alpha(s) * torch.expm1(-h) * D
        before = x0
        close(got[i + 1], x)


@pytest.mark.parametrize("steps", [9, 10])
def test_the_last_step_of_dpm_solver(steps):
    schedule = VP()
    model, times = model_of(schedule), noisy(schedule, steps=steps)
    x = start(schedule, times)
    auto, always, never = (
        trajectory(DPMSolver(lower_order_final=final), model, x, times) for final in ("auto", "always", "never")
    )
    close(auto, always if steps < 10 else never, 0)
    close(always[:-1], never[:-1], 0)
    close(always[-1], DDIM(clip=False).step(model, always[-2], times[-2], times[-1], None))
    assert float((always[-1] - never[-1]).abs().max()) > 1e-3


def integral(schedule, nodes, j, t, s):
    """Of ``L_j d rho / dt`` from t to s, in short pieces that no kink of a discrete schedule cuts."""
    inner = [k for k in range(int(schedule.t_max)) if s < k < t] if hasattr(schedule, "T") else []
    edges = torch.cat([torch.linspace(t, s, 150, dtype=torch.float64), torch.tensor(inner, dtype=torch.float64)])
    edges = edges.sort(descending=True).values
    points, weights = (torch.from_numpy(a) for a in leggauss(6))
    u = (edges[1:] + edges[:-1])[:, None] / 2 + edges.diff()[:, None] / 2 * points
    rate = schedule.diffusion(u) ** 2 / (2 * schedule.alpha(u) * schedule.sigma(u))
    L = math.prod((u - v) / (nodes[j] - v) for m, v in enumerate(nodes) if m != j)
    return float((rate * L * edges.diff()[:, None] / 2 * weights).sum())


@pytest.mark.parametrize(
    ("schedule", "spacing", "tol"),
    [
        (VP(), "quadratic", 1e-10),
        (SubVP(), "uniform", 1e-10),
        (VE(), "karras", 1e-10),
        (EDM(), "log_snr", 1e-10),
        (RectifiedFlow(), "uniform", 1e-10),
        (Linear(), "trailing", 1e-6),  # the kinks at integers that a rule over the whole step meets
        (Linear().respace(40), "trailing", 1e-6),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "t_max") else None,
)
def test_coefficients_of_deis_by_another_quadrature(schedule, spacing, tol):
    times, order = grid(schedule, 7, spacing)[:-1], 3
    C = DEIS(order=order).coefficients(schedule, times)
    for i in range(1, len(times) - 1):
        nodes = times[max(0, i - order) : i + 1].flip(0).tolist()
        for j in range(len(nodes)):
            expected = float(schedule.alpha(times[i + 1])) * integral(schedule, nodes, j, float(times[i]), float(times[i + 1]))
            assert float(C[i, j]) == pytest.approx(expected, abs=tol)


@pytest.mark.parametrize("variant", ["tAB", "rhoAB"])
@schedules
def test_coefficients_of_deis_sum_to_the_step(schedule, variant):
    times = log_snr(schedule, 8)
    C = DEIS(variant=variant).coefficients(schedule, times)
    alpha, rho = schedule.alpha(times), schedule.level(times)
    close(C.sum(1), alpha[1:] * rho.diff(), 1e-12)
    assert [int((row != 0).sum()) for row in C] == [1, 2, 3, 4, 4, 4, 4, 1]


@pytest.mark.parametrize("variant", ["tAB", "rhoAB"])
def test_deis(variant):
    schedule, sampler = VP(), DEIS(variant=variant, order=2)
    model, times = model_of(schedule), noisy(schedule)
    x, C, alpha, history = start(schedule, times), sampler.coefficients(schedule, times), schedule.alpha(times), []
    got = trajectory(sampler, model, x, times)
    for i, t in enumerate(times[:-1]):
        history.insert(0, model(x, t).eps)
        x = alpha[i + 1] / alpha[i] * x + sum(c * e for c, e in zip(C[i], history, strict=False))
        close(got[i + 1], x)


@schedules
@pytest.mark.parametrize("sampler", [IPNDM(), GHVB(number=2.7), HB(number=1.8), Nesterov(number=3.4)], ids=repr)
def test_momentum(schedule, sampler):
    model, times = model_of(schedule), noisy(schedule, steps=6)
    x, alpha, rho = start(schedule, times), schedule.alpha(times), schedule.level(times)
    got = trajectory(sampler, model, x, times)
    beta = getattr(sampler, "beta", 1.0)
    noises, velocities, v = [], [], None

    def combined(history, damping):
        history = history[::-1][: sampler.order]
        return sum(c * e for c, e in zip(extrapolation(len(history), damping), history, strict=True))

    for i, t in enumerate(times[:-1]):
        eps = model(x, t).eps
        noises.append(eps)
        velocities.append(eps if i == 0 else (1 - beta) * velocities[-1] + beta * eps)
        P = combined(noises, 1.0)
        v = P if i == 0 else (1 - beta) * v + beta * P
        steps = {
            IPNDM: P,
            GHVB: combined(velocities, beta),
            HB: v,
            Nesterov: (1 - beta) * v + beta * P,
        }
        x = alpha[i + 1] * (x / alpha[i] + (rho[i + 1] - rho[i]) * steps[type(sampler)])
        close(got[i + 1], x, 1e-9)


def test_the_momentum_of_the_paper():
    assert [(GHVB(number=n).order, round(GHVB(number=n).beta, 12)) for n in (0.5, 1.0, 1.8, 3.5, 4, 5)] == [
        (1, 0.5), (1, 1.0), (2, 0.8), (4, 0.5), (4, 1.0), (5, 1.0)
    ]  # fmt: skip
    assert extrapolation(3) == pytest.approx([23 / 12, -16 / 12, 5 / 12])
    assert extrapolation(4) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])
    assert extrapolation(2, 0.8) == pytest.approx([1.75, -0.75])


@pytest.mark.parametrize(
    ("method", "order"), [("euler", 1), ("heun", 2), ("kutta3", 3), ("heun3", 3), ("houwen3", 3), ("ralston3", 3),
                          ("ssprk3", 3), ("rk4", 4)]
)  # fmt: skip
def test_runge_kutta_on_a_linear_flow(method, order):
    # for the prior N(0, std^2) of EDM, dz / drho = rho z / (std^2 + rho^2): one step from rho to rho + h is a Taylor series
    model, rho = gaussian_model(EDM(), mean=0.0, std=1.0), 2.0
    errors = []
    for h in (0.2, 0.1):
        t, s = (torch.tensor(v, dtype=torch.float64) for v in (rho, rho - h))
        got = RungeKutta(method=method).step(model, torch.ones(1, 1, 1, 1, dtype=torch.float64), t, s, None)
        errors.append(abs(float(got) - math.sqrt((1 + (rho - h) ** 2) / (1 + rho**2))))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.35)


# --- where there is no signal yet


@pytest.mark.parametrize("sampler", [DPMSolver(), DPMSolver(sde=True), DEIS(), IPNDM(), GHVB(), HB(), Nesterov()], ids=repr)
def test_a_flow_from_its_very_start(sampler):
    schedule = RectifiedFlow()
    model, times = gaussian_model(schedule, VelocityHead(), mean=0.3, std=0.5), uniform(schedule, 80)
    draws = double(81, 1, 1, 64, 64)
    x = trajectory(sampler, model, draws[0], times, draws[1:])[-1]
    assert float(x.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(x.std()) == pytest.approx(0.5, abs=0.03)


def test_heads_agree():
    schedule = Linear()
    times = log_snr(schedule, 6)
    x = start(schedule, times)
    for sampler in (DPMSolver(), DEIS(), GHVB(), EVODiff()):
        by_image = sampler.walk(gaussian_model(schedule, NoiseHead()), x, times)
        close(sampler.walk(gaussian_model(schedule, VelocityHead()), x, times), by_image, 1e-9)
