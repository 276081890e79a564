"""DDRM, DDNM and DDNM+ against dense matrices and the exact posterior of a Gaussian prior; their promises and errors."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from inverse.operators import (
    Blur,
    Downsample,
    Gaussian,
    Grayscale,
    Identity,
    Inpaint,
    LinearOperator,
    Overexpose,
    Poisson,
    Sample,
    Separable,
)
from inverse.samplers.ddnm import DDNM
from inverse.samplers.ddrm import DDRM, spectral_step
from inverse.samplers.problem import Problem
from inverse.samplers.spectrum import Spectrum
from prior.denoiser import Denoiser, ImageHead, Prediction
from prior.randomness import MemberNoise
from prior.schedules import EDM, Linear
from tests.inverse.gaussian import GaussianPrior

SHAPE = (3, 4, 4)
SEEN = 1e-5  # times the largest singular value, about one: what float32 buffers leave of a zero
PRIOR = GaussianPrior()


def mask() -> Tensor:
    return (torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def low_rank() -> Tensor:
    left, right = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(1))
    return left @ right.T


def crooked() -> Blur:
    """A kernel of full rank, hence without a singular value decomposition in closed form."""
    return Blur(torch.tensor([[0.0, 1.0, 0.0], [1.0, 5.0, 2.0], [0.0, 0.0, 1.0]]) / 10)


OPERATORS = {
    "denoise": lambda: Identity(),
    "inpaint": lambda: Inpaint(mask()),
    "sample": lambda: Sample(mask()),
    "area": lambda: Downsample.area(2),
    "bicubic": lambda: Downsample.bicubic(2),
    "grayscale": lambda: Grayscale(),
    "circular": lambda: Blur.gaussian(0.7, "circular"),
    "blur": lambda: Blur.gaussian(0.5),
    "low rank": lambda: Separable(low_rank(), torch.eye(4)),
    "scaled": lambda: 2.5 * Downsample.area(2),
}


def random(seed: int, shape: tuple[int, ...] = SHAPE, batch: int = 2) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem_of(name: str, noise: float) -> Problem:
    """Two members, float64, in the range of the measurement (nothing to convert)."""
    A = OPERATORS[name]().to(torch.float64).with_noise(Gaussian(noise))
    model = Denoiser(nn.Identity(), Linear(), data_range=(0.0, 1.0))
    return Problem(model, A, A.measure(random(0)))


def dense(A: LinearOperator) -> tuple[Tensor, Tensor, Tensor]:
    """``A`` as a matrix (m, n) and its singular values and right singular vectors, the null space included."""
    n = math.prod(SHAPE)
    D = A(torch.eye(n, dtype=torch.float64).view(n, *SHAPE)).flatten(1).T
    _, s, Vh = torch.linalg.svd(D, full_matrices=True)
    return D, torch.cat([s, s.new_zeros(n - len(s))]), Vh


def at(problem: Problem, s: float) -> tuple[float, float]:
    schedule = problem.model.schedule
    return float(schedule.alpha(s)), float(schedule.sigma(s))


def ddrm_by_hand(problem: Problem, x0: Tensor, eps: Tensor, z: Tensor, s: float, eta: float, eta_b: float) -> Tensor:
    """Kawar et al. 2022, eq. 8, one singular direction after the other, in the noise level r = sigma / alpha."""
    D, singular, Vh = dense(problem.A)
    alpha, sigma = at(problem, s)
    r, noise = sigma / alpha, problem.noise
    ybar = torch.linalg.pinv(D, rtol=SEEN) @ problem.y.flatten(1).T
    x0, eps, z, y = (Vh @ c for c in (x0.flatten(1).T, eps.flatten(1).T, z.flatten(1).T, ybar))
    out = torch.zeros_like(x0)
    for i, d in enumerate(singular.tolist()):
        if d < SEEN:
            out[i] = x0[i] + math.sqrt(1 - eta**2) * r * eps[i] + eta * r * z[i]
        elif d * r < noise:
            out[i] = x0[i] + math.sqrt(1 - eta**2) * r * (d * y[i] - d * x0[i]) / noise + eta * r * z[i]
        else:
            out[i] = (1 - eta_b) * x0[i] + eta_b * y[i] + math.sqrt(r**2 - (noise / d * eta_b) ** 2) * z[i]
    return alpha * (Vh.T @ out).T.view(-1, *SHAPE)


def ddnm_plus_by_hand(problem: Problem, x0: Tensor, eps: Tensor, z: Tensor, s: float, eta: float) -> Tensor:
    """Wang et al. 2023: ``a (x0 - V L V^T A^+ (A x0 - y))`` and its noise, as matrices."""
    D, singular, Vh = dense(problem.A)
    a, sigma = at(problem, s)
    noise, pinv = problem.noise, torch.linalg.pinv(D, rtol=SEEN)
    lam, fresh, kept = [], [], []
    for d in singular.tolist():
        seen, worse = d > SEEN, d > SEEN and sigma < a * noise / d
        lam.append(d * sigma * math.sqrt(1 - eta**2) / (a * noise) if worse else 1.0)
        fresh.append(eta * sigma if worse or not seen else math.sqrt(sigma**2 - (a * noise / d) ** 2))
        kept.append(0.0 if seen else math.sqrt(1 - eta**2) * sigma)
    L, Z, E = (Vh.T @ torch.diag(torch.tensor(w, dtype=torch.float64)) @ Vh for w in (lam, fresh, kept))
    x0, eps, z = (image.flatten(1).T for image in (x0, eps, z))
    x = a * (x0 - L @ pinv @ (D @ x0 - problem.y.flatten(1).T)) + Z @ z + E @ eps
    return x.T.view(-1, *SHAPE)


STEPS = [pytest.param(s, noise, id=f"t{s:g}-noise{noise}") for s in (900.0, 400.0, 60.0, -1.0) for noise in (0.0, 0.1, 0.6)]


@pytest.mark.parametrize(("s", "noise"), STEPS)
@pytest.mark.parametrize("name", OPERATORS)
def test_each_singular_direction_follows_its_rule(name: str, s: float, noise: float) -> None:
    problem = problem_of(name, noise)
    x0, eps, z = (random(seed) for seed in (1, 2, 3))
    p = Prediction(x0, x0, eps, torch.ones(()), torch.ones(()))
    for eta, eta_b in ((0.85, 1.0), (0.0, 0.7), (1.0, 0.0)):
        got = spectral_step(problem, p, torch.tensor(s), z, eta=eta, eta_b=eta_b)
        torch.testing.assert_close(got, ddrm_by_hand(problem, x0, eps, z, s, eta, eta_b), atol=1e-6, rtol=0)
    if noise > 0:
        got = spectral_step(problem, p, torch.tensor(s), z, eta=0.85, eta_b=1.0)
        torch.testing.assert_close(got, ddnm_plus_by_hand(problem, x0, eps, z, s, 0.85), atol=1e-6, rtol=0)


@pytest.mark.parametrize("noise", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("name", OPERATORS)
def test_start_is_the_measurement_noised_to_the_first_level(name: str, noise: float) -> None:
    problem, z = problem_of(name, noise), random(3)
    D, singular, Vh = dense(problem.A)
    t = 500.0
    alpha, sigma = at(problem, t)
    y, c = Vh @ torch.linalg.pinv(D, rtol=SEEN) @ problem.y.flatten(1).T, Vh @ z.flatten(1).T
    for i, d in enumerate(singular.tolist()):
        known = d > SEEN and d * sigma >= alpha * noise
        c[i] = alpha * y[i] + math.sqrt(sigma**2 - (alpha * noise / d) ** 2) * c[i] if known else sigma * c[i]
    got = DDRM().start(problem, torch.tensor(t), lambda like: z)
    torch.testing.assert_close(got, (Vh.T @ c).T.view_as(got), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sampler", [DDRM(steps=6), DDNM(steps=6), DDNM(steps=6, travel_repeat=2)], ids=repr)
@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("name", ["denoise", "inpaint", "sample", "area", "grayscale"])
def test_one_singular_value_needs_no_basis(name: str, noise: float, sampler: DDRM | DDNM) -> None:
    A = OPERATORS[name]().with_noise(Gaussian(noise))
    spelt_out = type("SpeltOut", (type(A),), {"isometry": None})
    B = OPERATORS[name]().with_noise(Gaussian(noise))
    B.__class__ = spelt_out
    y, model = A.measure(PRIOR.image(SHAPE)), PRIOR.denoiser()
    assert Problem(model, A, y).spectrum.s.ndim == 0
    assert Problem(model, B, y).spectrum.s.ndim == 1
    a, b = (sampler.reconstruct(model, operator, y, seed=2).estimate for operator in (A, B))
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_directions_beyond_the_rank_are_not_spelt_out() -> None:
    A = Downsample.bicubic(2)
    svd, x = A.svd((3, 8, 8)), random(0, (3, 8, 8))
    assert len(svd.s) == 3 * 8 * 8
    assert len(svd.thin.s) == 3 * 4 * 4
    torch.testing.assert_close(svd.thin.V(svd.thin.Vh(x)), A.pinv(A(x)), atol=1e-10, rtol=0)
    torch.testing.assert_close(svd.thin.U(svd.thin.s * svd.thin.Vh(x)), A(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(svd.thin.Uh(A(x)), svd.thin.s * svd.thin.Vh(x), atol=1e-10, rtol=0)
    assert Blur.gaussian(0.5).svd((3, 8, 8)).thin is None


def test_faint_directions_count_as_unseen() -> None:
    rows = torch.diag(torch.tensor([1.0, 0.5, 2e-6, 0.0]))
    x = random(0)
    spectrum = Spectrum.of(A := Separable(rows, torch.eye(4)).double(), A(x), SHAPE)
    assert sorted(set(spectrum.s.tolist())) == [0.0, 0.5, 1.0]
    got = spectrum.mix((1.0, 0.0, torch.zeros_like(x)), y=1.0)
    torch.testing.assert_close(got[..., :2, :], x[..., :2, :])
    assert got[..., 2:, :].abs().max() < 1e-12


@pytest.mark.parametrize("sampler", [DDRM(), DDNM(steps=20), DDNM(steps=10, travel_length=2, travel_repeat=2)], ids=repr)
@pytest.mark.parametrize("name", OPERATORS)
def test_a_noiseless_measurement_is_kept(name: str, sampler: DDRM | DDNM) -> None:
    A = OPERATORS[name]()
    y = A(torch.cat([PRIOR.image(SHAPE, seed=s) for s in (0, 1)]))
    out = sampler.reconstruct(PRIOR.denoiser(), A, y)
    assert (A(out.estimate) - y).abs().max() < 1e-4


@pytest.mark.parametrize("A", [Downsample.area(2), Downsample.bicubic(2), crooked()], ids=repr)
def test_correction_is_the_nearest_consistent_image(A: LinearOperator) -> None:
    """Also where the operator has no singular value decomposition, only ``pinv``."""
    shape, model = (3, 8, 8), Denoiser(nn.Identity(), Linear())
    y, x0 = A(PRIOR.image(shape)), random(1, shape, batch=1).float()
    problem = Problem(model, A, y)
    got = DDNM().consistent(problem, x0)
    assert problem.residual(got).abs().max() < 1e-4
    torch.testing.assert_close(got - x0, A.pinv(A(got - x0)), atol=1e-3, rtol=0)  # nothing of the null space has moved


@pytest.mark.parametrize("name", ["inpaint", "area", "grayscale"])
def test_null_space_converges_to_the_prior_at_first_order(name: str) -> None:
    """Without noise in y and in the steps (eta 0) DDNM's draws are those of the posterior, once its steps are small."""
    A, model = OPERATORS[name](), PRIOR.denoiser()
    y = A(PRIOR.image(SHAPE))
    mean, std = PRIOR.posterior(A.with_noise(Gaussian(1e-4)), y, SHAPE)
    z = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    problem = Problem(model, A, y)
    wanted = mean + PRIOR.std * (z - A.pinv(A(z)))
    errors = []
    for steps in (50, 100, 200):
        sampler = DDNM(steps=steps, eta=0.0)
        with torch.no_grad():
            x, _ = sampler.draw(problem, sampler.times(model.schedule), lambda like: z)
        errors.append(float((model.to_image(x) - wanted).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.3)
    assert errors[2] < 0.05 * float(std.max())


@pytest.mark.parametrize("name", ["inpaint", "area"])
def test_noiseless_draws_have_the_posterior_mean_and_deviation(name: str) -> None:
    A, model = OPERATORS[name](), PRIOR.denoiser()
    y = A(PRIOR.image(SHAPE))
    mean, std = PRIOR.posterior(A.with_noise(Gaussian(1e-4)), y, SHAPE)
    sampler, N = DDNM(steps=200, eta=0.0), 300
    problem = Problem(model, A, y.expand(N, *y.shape[1:]))
    with torch.no_grad():
        x, _ = sampler.draw(problem, sampler.times(model.schedule), MemberNoise(0, N))
    draws = model.to_image(x)
    n = int((std > 0.1 * PRIOR.std).sum())
    error, deviation = (draws.mean(0) - mean[0]).square().sum().sqrt(), std.square().sum().sqrt()
    assert float(error) < 1.3 * float(deviation) / N**0.5
    assert float(draws.std(0).square().sum().sqrt() / deviation) == pytest.approx(1, abs=0.01 + 3 / (2 * N * n) ** 0.5)


def test_a_trusted_measurement_alone_is_its_posterior_mean_at_its_own_level() -> None:
    """Where sigma equals the noise, x is y itself: the next clean image is the exact posterior mean."""
    A, model = Identity(noise=Gaussian(0.1)), PRIOR.denoiser()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, _ = PRIOR.posterior(A, y, SHAPE)
    problem = Problem(model, A, y)
    level = torch.tensor(problem.noise, dtype=torch.float64)
    with torch.no_grad():
        x = DDRM().step(problem, torch.zeros_like(y), torch.tensor(1.0), level, torch.randn_like)
        torch.testing.assert_close(x, problem.measured, atol=1e-4, rtol=0)
        torch.testing.assert_close(model.to_image(model(x, level).x0), mean, atol=1e-4, rtol=0)


def test_poisson_noise_counts_by_its_root_mean_square() -> None:
    A = Identity(noise=Poisson(peak=20))
    y = A.measure(PRIOR.image(SHAPE).clamp(0.1, 1))
    std = A.noise.std(y).square().mean().sqrt()
    a, b = (DDRM().reconstruct(PRIOR.denoiser(), op, y) for op in (A, A.with_noise(Gaussian(float(std)))))
    torch.testing.assert_close(a.estimate, b.estimate, atol=1e-6, rtol=0)


def test_plus_follows_the_noise() -> None:
    model, A = PRIOR.denoiser(), Downsample.area(2)
    y = A.measure(PRIOR.image(SHAPE))
    noisy = A.with_noise(Gaussian(0.05))

    def estimate(operator: LinearOperator, plus: bool | None) -> Tensor:
        return DDNM(steps=8, plus=plus).reconstruct(model, operator, y).estimate

    assert torch.equal(estimate(A, None), estimate(A, False))
    assert torch.equal(estimate(noisy, None), estimate(noisy, True))
    assert (estimate(noisy, True) - estimate(noisy, False)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("steps", "length", "repeat", "route"),
    [
        (4, 1, 1, [0, 1, 2, 3, 4]),
        (4, 1, 2, [0, 1, 0, 1, 2, 1, 2, 3, 2, 3, 4]),
        (4, 2, 2, [0, 1, 2, 3, 2, 1, 2, 3, 4]),
        (5, 2, 3, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 3, 4, 3, 2, 3, 4, 3, 2, 3, 4, 5]),
        (3, 5, 4, [0, 1, 2, 3]),
    ],
)
def test_route(steps: int, length: int, repeat: int, route: list[int]) -> None:
    sampler = DDNM(steps=steps, travel_length=length, travel_repeat=repeat)
    assert sampler.route(steps) == route
    stretches = len(range(0, steps - length, length))
    assert sampler.network_calls(steps) == steps + stretches * length * (repeat - 1)


def test_time_travel_noises_the_last_uncorrected_image() -> None:
    """With a network that answers its call's number, and no noise, the image travelled back is that number times alpha."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs: list[Tensor] = []

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.inputs.append(x)
            return torch.full_like(x, len(self.inputs))

    net, A = Counting(), Downsample.area(2)
    model = Denoiser(net, Linear(), ImageHead())
    sampler = DDNM(steps=4, travel_repeat=2, eta=1.0)
    problem, times = Problem(model, A, torch.zeros(1, 3, 2, 2)), sampler.times(model.schedule)
    with torch.no_grad():
        sampler.draw(problem, times, torch.zeros_like)
    # the route 0 1 0 1 2 1 2 3 2 3 4: calls 2, 4 and 6 start from an image travelled back
    for call, position in ((2, 0), (4, 1), (6, 2)):
        expected = float(model.schedule.alpha(times[position])) * (call - 1)
        torch.testing.assert_close(net.inputs[call - 1], torch.full((1, *SHAPE), expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [
        (DDRM(), 20),
        (DDRM(steps=7, samples=3), 21),
        (DDNM(), 100),
        (DDNM(steps=7, samples=2), 14),
        (DDNM(steps=7, travel_length=2, travel_repeat=3), 7 + 2 * 2 * 3),
        (DDNM(steps=7, travel_repeat=2, samples=2), 26),
    ],
    ids=repr,
)
def test_network_calls(sampler: DDRM | DDNM, calls: int) -> None:
    model, A = PRIOR.denoiser(), Downsample.area(2, noise=Gaussian(0.05))
    reported: list[tuple[int, int]] = []
    out = sampler.reconstruct(
        model, A, A.measure(PRIOR.image(SHAPE)), progress=lambda done, total: reported.append((done, total))
    )
    assert model.network.calls == out.network_calls == calls
    assert reported == [(k + 1, calls) for k in range(calls)]
    assert len(out.trace.t) == len(out.trace.level) == calls // sampler.samples
    assert out.settings["sampler"] == type(sampler).__name__


SAMPLERS = [DDRM(steps=5, samples=2), DDNM(steps=5, samples=2), DDNM(steps=5, travel_repeat=2)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("name", ["inpaint", "bicubic", "circular"])
def test_same_seed_same_bytes_and_a_batch_equals_its_members(name: str, sampler: DDRM | DDNM) -> None:
    A, model = OPERATORS[name]().with_noise(Gaussian(0.05)), PRIOR.denoiser()
    y = A.measure(torch.cat([PRIOR.image(SHAPE, seed=s) for s in range(3)]))
    a, b, c = (sampler.reconstruct(model, A, y, seed=s) for s in (3, 3, 30))
    assert torch.equal(a.samples, b.samples)
    assert (a.estimate - c.estimate).abs().max() > 1e-3
    for i in range(3):
        alone = sampler.reconstruct(model, A, y[i : i + 1], seed=3)
        torch.testing.assert_close(alone.samples[:, 0], a.samples[:, i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler", [DDRM(steps=8), DDNM(steps=8)], ids=repr)
def test_any_schedule(sampler: DDRM | DDNM) -> None:
    """The same noise levels under another schedule give the same draw."""
    A = Downsample.bicubic(2, noise=Gaussian(0.05))
    y = A.measure(PRIOR.image(SHAPE))
    edm = PRIOR.denoiser()

    class Translated(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            alpha, level = (f(t.double()).view(-1, 1, 1, 1).to(x) for f in (Linear().alpha, Linear().level))
            return edm.network(x / alpha, level.flatten())

    linear = Denoiser(Translated(), Linear())
    levels = torch.cat([torch.logspace(1, -2, 8, dtype=torch.float64), torch.zeros(1)])
    with torch.no_grad():
        a, b = (
            sampler.draw(Problem(model, A, y), times, lambda like: torch.full_like(like, 0.3))[0]
            for model, times in ((edm, levels), (linear, Linear().time(levels)))
        )
    start = float(Linear().alpha(Linear().time(levels[0])))
    assert start < 0.1
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_bad_input() -> None:
    model, shape = PRIOR.denoiser(), (3, 8, 8)
    y, bent = torch.zeros(1, *shape), crooked()
    for sampler in (DDRM(), DDNM()):
        name = type(sampler).__name__
        with pytest.raises(TypeError, match=f"{name} needs a linear operator, got Overexpose"):
            sampler.reconstruct(model, Overexpose(2.0), y)
        with pytest.raises(ValueError, match=r"y must have shape \(B, 3, 4, 4\), got \(1, 3, 8, 8\)"):
            sampler.reconstruct(model, Inpaint(mask()), y)
    with pytest.raises(TypeError, match=r"DDRM needs an operator with a singular value decomposition, got Blur.*RedDiff"):
        DDRM().reconstruct(model, bent, y)
    with pytest.raises(TypeError, match=r"DDNM\+ needs an operator with a singular value decomposition.*plus=False"):
        DDNM().reconstruct(model, bent.with_noise(Gaussian(0.1)), y)
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got 1.5"):
        DDNM(eta=1.5)
    with pytest.raises(ValueError, match=r"eta_b must lie in \[0, 1\], got -1"):
        DDRM(eta_b=-1)
    with pytest.raises(ValueError, match="travel_repeat must be at least 1, got 0"):
        DDNM(travel_repeat=0)
    with pytest.raises(ValueError, match="travel_length must be at least 1, got 0"):
        dataclasses.replace(DDNM(), travel_length=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        DDRM(steps=0)
    assert DDNM(steps=2, plus=False).reconstruct(model, bent.with_noise(Gaussian(0.1)), y).network_calls == 2
    assert isinstance(model.schedule, EDM)
