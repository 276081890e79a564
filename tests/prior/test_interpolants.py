"""Stochastic interpolants: derivatives, ends, losses in closed form, and walks between Gaussians, whose fields are known."""

import math
from itertools import pairwise

import pytest
import torch

from prior.interpolants import GAMMAS, PATHS, Flow, Interpolant, OneSided, interpolant_loss
from prior.mixture import GaussianMixture
from prior.schedules import EDM, VP, RectifiedFlow

BASE, DATA = (-0.4, 0.8), (0.6, 0.3)  # mean and standard deviation of x_0 and x_1
INTERPOLANTS = {f"{path}-{gamma}": Interpolant(path=path, gamma=gamma) for path in PATHS for gamma in GAMMAS}
every = pytest.mark.parametrize("interpolant", INTERPOLANTS.values(), ids=INTERPOLANTS.keys())


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-10):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def moments(interpolant, t, like):
    """Mean and variance of x_t between the two Gaussians."""
    c = interpolant.coefficients(t, like)
    return c.a * BASE[0] + c.b * DATA[0], (c.a * BASE[1]) ** 2 + (c.b * DATA[1]) ** 2 + c.gamma**2


def gaussian_fields(interpolant):
    """Velocity and score, from v = E[a' x_0 + b' x_1 | x] and eta = E[z | x]."""

    def fields(x, t):
        c, (mean, variance) = interpolant.coefficients(t, x), moments(interpolant, t, x)
        residual = (x - mean) / variance
        x0, x1 = (m + scale * std**2 * residual for (m, std), scale in ((BASE, c.a), (DATA, c.b)))
        eta = c.gamma * residual
        return interpolant.velocity(c.a_dot * x0 + c.b_dot * x1, eta, t), interpolant.score(eta, t)

    return fields


def gaussian_flow(interpolant, x, t, s):
    """Where the flow carries x: the fields are affine, so quantiles are kept."""
    (m_t, v_t), (m_s, v_s) = (moments(interpolant, time, x) for time in (t, s))
    return m_s + torch.sqrt(v_s / v_t) * (x - m_t)


@every
def test_derivatives(interpolant):
    t, h = torch.tensor([0.07, 0.31, 0.62, 0.9], dtype=torch.float64), 1e-6
    like = torch.zeros(4, 1, dtype=torch.float64)
    now, before, after = (interpolant.coefficients(time, like) for time in (t, t - h, t + h))
    for name in ("a", "b", "gamma"):
        slope = (getattr(after, name) - getattr(before, name)) / (2 * h)
        close(getattr(now, f"{name}_dot"), slope, 1e-7)


@every
def test_ends(interpolant):
    x0, x1, z = (double((2, 1, 3, 3), seed) for seed in range(3))
    start = x1 if interpolant.path == "mirror" else x0
    close(interpolant.point(x0, x1, z, 0.0), start)
    close(interpolant.point(x0, x1, z, 1.0), x1)


def test_variance_is_kept_on_the_trigonometric_path():
    t = torch.linspace(0, 1, 11)
    c = Interpolant(path="trigonometric").coefficients(t, torch.zeros(11, dtype=torch.float64))
    close(c.a**2 + c.b**2 + c.gamma**2, torch.ones(11))
    close(c.a_dot[0], -0.5)  # the product gamma gamma' is finite where gamma' is not


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_flow(path, method, order):
    interpolant = Interpolant(path=path, gamma="quadratic")
    x, errors = double((1, 64)), []
    for steps in (20, 40, 80):
        times = torch.linspace(0.02, 0.98, steps + 1, dtype=torch.float64)
        got = Flow(method=method).walk(gaussian_fields(interpolant), x, times)
        errors.append(float((got - gaussian_flow(interpolant, x, 0.02, 0.98)).square().mean().sqrt()))
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize("gamma", ["brownian", "quadratic"])
def test_flow_and_back(gamma):
    interpolant, x = Interpolant(gamma=gamma), double((1, 64))
    times = torch.linspace(0.05, 0.95, 201, dtype=torch.float64)
    there = Flow().walk(gaussian_fields(interpolant), x, times)
    close(there, gaussian_flow(interpolant, x, 0.05, 0.95), 1e-3)
    close(Flow().walk(gaussian_fields(interpolant), there, times.flip(0)), x, 1e-3)


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("ends", [(0.05, 0.95), (0.95, 0.05)], ids=["forward", "backward"])
def test_noise_keeps_the_marginals(method, ends):
    interpolant, generator = Interpolant(), torch.Generator().manual_seed(5)
    start, end = ends
    mean, variance = moments(interpolant, start, torch.zeros(1, 1, dtype=torch.float64))
    x = mean + variance.sqrt() * double((1, 20000))
    times = torch.linspace(start, end, 151, dtype=torch.float64)
    draw = lambda like: torch.randn(like.shape, dtype=torch.float64, generator=generator)  # noqa: E731
    got = Flow(method=method, epsilon=0.4).walk(gaussian_fields(interpolant), x, times, noise=draw)
    mean, variance = moments(interpolant, end, x)
    assert float(got.mean()) == pytest.approx(float(mean), abs=0.02)
    assert float(got.std()) == pytest.approx(float(variance.sqrt()), rel=0.03)


@pytest.mark.parametrize("target", ["velocity", "drift", "eta", "score"])
def test_loss_of_a_constant_field(target):
    """The pair of opposite z leaves ``c^2 / 2 - c mean(drift)``, whatever z."""
    interpolant, t, c = Interpolant(), torch.tensor([0.2, 0.7]), 0.3
    x0, x1, z = (double((2, 1, 3, 3), seed) for seed in range(3))
    loss = interpolant_loss(lambda x, t: torch.full_like(x, c), interpolant, (x0, x1), z, t, target=target)
    drift = (x1 - x0).flatten(1).mean(1) if target in ("velocity", "drift") else torch.zeros(2)
    close(loss, c**2 / 2 - c * drift.double())


@pytest.mark.parametrize(("target", "which"), [("velocity", 0), ("score", 1)])
def test_loss_is_least_at_the_exact_field(target, which):
    """``E loss(f + d) - loss(f) = d^2 / 2`` only where f is the conditional mean; a multiple of it costs as much."""
    interpolant, count = Interpolant(), 60000
    x0, x1 = (m + s * double((count, 1), seed) for seed, (m, s) in enumerate((BASE, DATA)))
    t, z, fields = torch.full((count,), 0.4, dtype=torch.float64), double((count, 1), 2), gaussian_fields(interpolant)
    exact = lambda x, t: fields(x, 0.4)[which]  # noqa: E731
    losses = {
        k: interpolant_loss(lambda x, t, k=k: k * exact(x, t), interpolant, (x0, x1), z, t, target=target).mean()
        for k in (0.8, 1.0, 1.2)
    }
    assert losses[1.0] < losses[0.8]
    assert losses[1.0] < losses[1.2]
    assert float(losses[1.2] - losses[0.8]) == pytest.approx(0, abs=0.05 * float(losses[0.8].abs()))


# --- from pure noise


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_every_schedule_gives_the_same_fields(path):
    mixture, x = GaussianMixture.random((1, 2, 2), seed=1), double((2, 1, 2, 2))
    wanted = OneSided(path=path).fields(mixture.denoiser(RectifiedFlow()))(x, 0.6)
    for schedule in (EDM(), VP()):
        for got, want in zip(OneSided(path=path).fields(mixture.denoiser(schedule))(x, 0.6), wanted, strict=True):
            close(got, want, 1e-8)


def test_one_sided_velocity_and_score():
    """The rectified flow in reversed time: u = x0 - eps, x0 = x + (1 - t) u, score = -eps / (1 - t)."""
    model, x = GaussianMixture.random((1, 2, 2), seed=1).denoiser(RectifiedFlow()), double((2, 1, 2, 2))
    velocity, score = OneSided().fields(model)(x, 0.3)
    p = model(x, 0.7)
    close(velocity, -p.velocity)
    close(x + 0.7 * velocity, p.x0)
    close(score, p.score)
    start, _ = OneSided().fields(model)(x, 0.0)
    close(start, model(x, 1.0).x0 - x)


def test_trigonometric_flow_ends_at_the_data():
    mean, std = 0.3, 0.4
    mixture = GaussianMixture(torch.ones(1).double(), torch.full((1, 1), mean).double(), torch.full((1, 1), std**2).double())
    fields, z = OneSided(path="trigonometric").fields(mixture.denoiser(RectifiedFlow())), double((50, 1))
    got = Flow().walk(fields, z, torch.linspace(0, 0.98, 101, dtype=torch.float64))
    a, b = math.cos(math.pi / 2 * 0.98), math.sin(math.pi / 2 * 0.98)
    close(got, b * mean + math.sqrt(a**2 + (b * std) ** 2) * z, 1e-3)


def test_a_walk_keeps_no_graph():
    w, times = torch.ones(1, 1, requires_grad=True), torch.tensor([0.1, 0.2, 0.3])
    fields = lambda x, t: (w * x, -w * x)  # noqa: E731
    assert not Flow().walk(fields, torch.ones(1, 1), times).requires_grad
    assert Flow().step(fields, torch.ones(1, 1), 0.1, 0.2).requires_grad


def test_bad_input():
    with pytest.raises(ValueError, match="path must be one of linear, trigonometric, encoding_decoding, mirror, got 'cubic'"):
        Interpolant(path="cubic")
    with pytest.raises(ValueError, match="gamma must be one of brownian, quadratic, sine, zero, got 'one'"):
        Interpolant(gamma="one")
    with pytest.raises(ValueError, match="path must be one of linear, trigonometric, got 'mirror'"):
        OneSided(path="mirror")
    with pytest.raises(ValueError, match="method must be 'euler' or 'heun', got 'rk4'"):
        Flow(method="rk4")
    with pytest.raises(ValueError, match="epsilon must be finite and not negative, got -1"):
        Flow(epsilon=-1)
    with pytest.raises(ValueError, match="noise must be given: a step with epsilon"):
        Flow(epsilon=0.5).walk(gaussian_fields(Interpolant()), torch.zeros(1, 1), torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match="noise must be given: a step with epsilon"):
        Flow(epsilon=0.5).step(gaussian_fields(Interpolant()), torch.zeros(1, 1), 0.1, 0.2)
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="target must be one of velocity, drift, eta, score, got 'noise'"):
        interpolant_loss(lambda x, t: x, Interpolant(), (x, x), x, torch.tensor([0.5]), target="noise")
    mixture, x = GaussianMixture.random((1, 2, 2)), double((1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\), where there is noise, got 1"):
        OneSided().fields(mixture.denoiser(RectifiedFlow()))(x, 1.0)
    with pytest.raises(ValueError, match=r"t must be positive with EDM\(.*\), which has no time of pure noise, got 0"):
        OneSided().fields(mixture.denoiser(EDM()))(x, 0.0)
