"""DPS, PiGDM and MCG on a Gaussian prior: steps in closed form, the exact posterior, and the promises of every sampler."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from inverse.operators import (
    JPEG,
    Blur,
    Downsample,
    Gaussian,
    Identity,
    Inpaint,
    Operator,
    Overexpose,
    PhaseRetrieval,
    Poisson,
)
from inverse.samplers.dps import DDIM_ZETAS, DPS, ZETAS
from inverse.samplers.mcg import MCG
from inverse.samplers.pigdm import PiGDM
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser, EDMHead, ImageHead, VHead
from prior.networks.residual_unet import ResidualUNet
from prior.schedules import EDM, VE, Linear
from prior.transition import Transition
from tests.inverse.gaussian import GaussianPrior
from tests.prior.gaussian import gaussian_model

SHAPE = (2, 8, 8)
SMALL = (1, 4, 4)
PRIOR = GaussianPrior()
STD, MEAN = 2 * PRIOR.std, 2 * PRIOR.mean - 1  # in the network's range
EXACT = PiGDM(prior_std=STD)

OPERATORS = {
    "denoise": lambda shape: Identity(noise=Gaussian(0.1)),
    "inpaint": lambda shape: Inpaint.random(shape, missing=0.5, seed=0, noise=Gaussian(0.05)),
    "area": lambda shape: Downsample.area(2, noise=Gaussian(0.05)),
}
SAMPLERS = {
    "dps": DPS(steps=4),
    "dps-ddim": DPS(steps=4, eta=0.5, clip=False, warm_start=True, normalized=False),
    "pigdm": PiGDM(steps=4),
    "pigdm-paper": PiGDM.paper(steps=4),
    "mcg": MCG(steps=4),
}
operators = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


@pytest.fixture(scope="module")
def network() -> Denoiser:
    torch.manual_seed(0)
    net = ResidualUNet(channels=(8, 8), blocks=(1, 1), embedding=16)
    nn.init.normal_(net.tail.weight, std=0.05)
    return Denoiser(net, EDM(), EDMHead()).eval().requires_grad_(False)


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def time(t):
    return torch.as_tensor(t, dtype=torch.float64)


def stepped(sampler, problem, x, t, s, noise=torch.zeros_like):
    with torch.no_grad():
        return sampler.step(problem, x, time(t), time(s), noise)


def denoised(x, t):
    """The Gaussian prior's exact x0 at the noise level t, and its derivative."""
    slope = STD**2 / (STD**2 + t**2)
    return MEAN + slope * (x - MEAN), slope


def dense(A, shape):
    n = math.prod(shape)
    return A(torch.eye(n).view(n, *shape)).flatten(1).T.double()


# --- DPS


def test_dps_step_in_closed_form():
    A, x, t, s = Downsample.area(2), 0.5 * double((3, *SHAPE)), 0.8, 0.5
    problem = Problem(PRIOR.denoiser(), A, torch.rand(3, 2, 4, 4, dtype=torch.float64))
    x0, slope = denoised(x, t)
    r = 2 * problem.y - 1 - A(x0)
    ahead = x0 + s * (x - x0) / t  # DDIM without noise
    pull = slope * A.adjoint(r) * math.sqrt(1 + t**2) * math.sqrt(1 + s**2)
    wanted = ahead + 0.7 * pull / r.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(stepped(DPS(eta=0.0, zeta=0.7, clip=False), problem, x, t, s), wanted, atol=1e-12, rtol=0)
    plain = DPS(eta=0.0, zeta=0.7, clip=False, normalized=False)
    torch.testing.assert_close(stepped(plain, problem, x, t, s), ahead + 0.7 * slope * A.adjoint(r), atol=1e-12, rtol=0)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("A", [Overexpose(1.5), PhaseRetrieval(2), Blur.gaussian(1.0)], ids=lambda A: type(A).__name__)
def test_dps_follows_the_slope_of_the_residual(A, clip):
    """Against central differences of the norm, with a nonlinear operator and a clipped image too."""
    shape, t, s = (3, 8, 8), 0.7, 0.4
    A = A.to(torch.float64)
    model = PRIOR.denoiser()
    problem = Problem(model, A, A(torch.rand(1, *shape, dtype=torch.float64)))
    x, d = double((1, *shape)), double((1, *shape), seed=1)

    def norm(x):
        x0, _ = denoised(x, t)
        return float(problem.residual(x0.clamp(-1, 1) if clip else x0).norm())

    h = 1e-6
    slope = (norm(x + h * d) - norm(x - h * d)) / (2 * h)
    still, moved = (stepped(DPS(eta=0.0, zeta=zeta, clip=clip), problem, x, t, s) for zeta in (0.0, 1.0))
    got = float(((still - moved) * d).sum()) / math.sqrt((1 + t**2) * (1 + s**2))
    assert got == pytest.approx(slope, rel=1e-5, abs=1e-7)
    A.to(torch.float32)


def test_clipping_stops_the_gradient_and_moves_the_noise():
    A, t, s = Identity(), 0.5, 0.3
    x = torch.tensor([[[[4.0, 0.2]]]], dtype=torch.float64)
    problem = Problem(PRIOR.denoiser(), A, torch.full_like(x, 0.9))
    got = stepped(DPS(eta=0.0, zeta=0.3), problem, x, t, s).flatten()
    assert float(got[0]) == pytest.approx(1 + s * (4 - 1) / t)  # x0 = 1, eps from it, no pull
    assert float(got[1]) > float(stepped(DPS(eta=0.0, zeta=0.0), problem, x, t, s).flatten()[1])


def test_dps_weighs_photons_by_their_noise():
    """|W r| with W^2 = 1 / variance: Gaussian noise weighs evenly, Poisson's less where there is more light."""
    y = torch.tensor([[[[0.1, 0.4], [0.4, 0.9]]], [[[0.25, 0.25], [0.25, 0.25]]]], dtype=torch.float64)
    x, t, s = double(tuple(y.shape)), 0.7, 0.4
    model = PRIOR.denoiser()
    dps = DPS(eta=0.0, zeta=1.0, clip=False)
    still = stepped(dataclasses.replace(dps, zeta=0.0), Problem(model, Identity(), y), x, t, s)
    photons = stepped(dps, Problem(model, Identity(noise=Poisson(1e4)), y), x, t, s) - still
    even = stepped(dps, Problem(model, Identity(noise=Gaussian(0.1)), y), x, t, s) - still
    torch.testing.assert_close(photons[1], even[1])
    x0, slope = denoised(x[0], t)
    r = 2 * y[0] - 1 - x0
    w2 = (1 / y[0]) / (1 / y[0]).mean()
    wanted = slope * w2 * r / (w2 * r**2).sum().sqrt() * math.sqrt((1 + t**2) * (1 + s**2))
    torch.testing.assert_close(photons[0], wanted)


def test_dps_brings_the_residual_down():
    A = Downsample.area(2, noise=Gaussian(0.02))
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    blind, seeing = (DPS(steps=60, zeta=zeta).reconstruct(PRIOR.denoiser(), A, y) for zeta in (0.0, 0.3))
    assert blind.residual_ratio > 5
    assert seeing.residual_ratio < 0.4 * blind.residual_ratio


def test_an_exact_fit_is_left_alone():
    A, x = Identity(), torch.zeros(1, *SHAPE)
    x0, _ = denoised(x, 0.5)
    problem = Problem(PRIOR.denoiser(), A, (PRIOR.denoiser()(x, 0.5).x0 + 1) / 2)
    got = stepped(DPS(eta=0.0, zeta=1.0), problem, x, 0.5, 0.0)
    assert bool(torch.isfinite(got).all())
    torch.testing.assert_close(problem.residual(x0), torch.zeros_like(x0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("learned", [False, True])
def test_ancestral_noise_is_learned_or_the_posterior_s(learned):
    schedule = Linear().respace(10)
    model = gaussian_model(schedule, learned_variance=learned)
    x, z = double((1, *SHAPE)), double((1, *SHAPE), seed=1)
    problem = Problem(model, Identity(), torch.rand(1, *SHAPE, dtype=torch.float64))
    q = Transition.between(schedule, 5.0, 4.0, x)
    variance = q.learned_log_variance(model(x, 5.0).variance).exp() if learned else q.variance
    noisy, quiet = (stepped(DPS(), problem, x, 5.0, 4.0, noise) for noise in (lambda _: z, torch.zeros_like))
    torch.testing.assert_close(noisy - quiet, variance.sqrt() * z, atol=1e-12, rtol=1e-9)
    last, without = (stepped(DPS(), problem, x, 0.0, -1.0, noise) for noise in (lambda _: z, torch.zeros_like))
    assert torch.equal(last, without)


# --- PiGDM: exact for a Gaussian prior


@operators
def test_pigdm_step_is_that_of_the_posterior(make):
    """The denoised image becomes ``E[x0 | x_t, y]``, of the two Gaussians that x_t and y make of the prior."""
    A, t = make(SMALL), 0.7
    y = A.measure(PRIOR.image(SMALL), seed=1)
    x = 0.8 * torch.randn(1, *SMALL, generator=torch.Generator().manual_seed(2))
    problem, D = Problem(PRIOR.denoiser(), A, y), dense(A, SMALL)
    eye = torch.eye(D.shape[1], dtype=torch.float64)
    precision = (1 / STD**2 + 1 / t**2) * eye + D.T @ D / problem.noise**2
    pulled = MEAN / STD**2 + x.flatten().double() / t**2 + D.T @ problem.measured.flatten().double() / problem.noise**2
    wanted = torch.linalg.solve(precision, pulled).view_as(x).float()
    torch.testing.assert_close(stepped(EXACT, problem, x, t, 0.0), wanted, atol=2e-6, rtol=0)


@operators
def test_pigdm_mean_is_the_posterior_mean(make):
    """Every step is linear, so that the walk without its noise is the mean of the walks; exact at any number of steps."""
    A, model = make(SHAPE), PRIOR.denoiser()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, std = PRIOR.posterior(A, y, SHAPE)
    sampler = dataclasses.replace(EXACT, steps=10)
    with torch.no_grad():
        x, _ = sampler.draw(Problem(model, A, y), sampler.times(model.schedule), torch.zeros_like)
    assert ((model.to_image(x) - mean) / std).abs().max() < 1e-3


@operators
def test_pigdm_spread_approaches_the_posterior_s(make):
    """The exact covariance of a walk, from its response to a unit of each draw: too small by 6% at 100 steps, first order."""
    A, model, n = make(SMALL), PRIOR.denoiser(), math.prod(SMALL)
    y = A.measure(PRIOR.image(SMALL), seed=1)
    _, std = PRIOR.posterior(A, y, SMALL)
    errors = []
    for steps in (50, 100, 200):
        sampler = dataclasses.replace(EXACT, steps=steps)
        unit, drawn = torch.eye(n).view(n, *SMALL), iter(range(steps))

        def noise(like, unit=unit, drawn=drawn):
            z, k = torch.zeros_like(like), next(drawn, None)
            if k is not None:  # the last draw is multiplied by zero
                z[k * n : (k + 1) * n] = unit
            return z

        problem = Problem(model, A, y.expand(steps * n + 1, *y.shape[1:]))
        with torch.no_grad():
            x, _ = sampler.draw(problem, sampler.times(model.schedule), noise)
        response = (x[:-1] - x[-1]).double() / 2  # in [0, 1]
        errors.append(1 - float(response.square().sum(0).mean().sqrt() / std.square().mean().sqrt()))
    assert 0.04 < errors[1] < 0.07
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([1, 1], abs=0.12)


def test_pigdm_samples_scatter_around_the_posterior_mean():
    A, model = OPERATORS["inpaint"](SHAPE), PRIOR.denoiser()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, std = PRIOR.posterior(A, y, SHAPE)
    out = dataclasses.replace(EXACT, steps=40, samples=30).reconstruct(model, A, y)
    assert ((out.estimate - mean) / std).square().mean().sqrt() < 1.3 / 30**0.5
    known = std < 0.5 * PRIOR.std
    for part in (known, ~known):
        assert (out.std[part] / std[part]).square().mean().sqrt() == pytest.approx(0.86, abs=0.07)


@pytest.mark.parametrize(
    "A",
    [Inpaint.random(SMALL, missing=0.5, seed=0), Downsample.area(2), Downsample.bicubic(2), Blur.gaussian(0.7)],
    ids=lambda A: type(A).__name__,
)
def test_unexplained_is_the_noise_aware_inverse(A):
    """``A^T (A A^T + c)^-1 r``, with c = sigma_y^2 / r^2."""
    A = A.with_noise(Gaussian(0.1))
    y, x0 = A(torch.rand(1, *SMALL)), torch.rand(1, *SMALL) - 0.5
    problem, D = Problem(PRIOR.denoiser(), A, y), dense(A, SMALL)
    r = problem.residual(x0).flatten().double()
    for variance, c in ((0.25, 0.16), (0.01, 4.0)):
        wanted = D.T @ torch.linalg.solve(D @ D.T + c * torch.eye(len(D), dtype=torch.float64), r)
        got = PiGDM().unexplained(problem, x0, torch.full((1, 1, 1, 1), variance))
        torch.testing.assert_close(got.flatten().double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler", [PiGDM(steps=20), PiGDM.paper(steps=20), MCG(steps=20)], ids=["bayes", "adaptive", "mcg"])
@pytest.mark.parametrize("A", [Inpaint.random(SHAPE, missing=0.5, seed=0), Downsample.area(2)], ids=["inpaint", "area"])
def test_an_exact_measurement_is_explained_exactly(sampler, A):
    y = A(PRIOR.image(SHAPE))
    out = sampler.reconstruct(PRIOR.denoiser(), A, y)
    assert out.residual.abs().max() < {"MCG": 1e-5, "PiGDM": 1e-4}[type(sampler).__name__]


@pytest.mark.parametrize("keep_eps", [False, True])
def test_adaptive_step_in_closed_form(keep_eps):
    """x0 moves by ``alpha J^T v`` (alpha = 1 here), and the noise follows it or does not."""
    A, t, s, weight = Downsample.area(2), 0.8, 0.5, 0.6
    x = 0.5 * double((1, *SHAPE))
    problem = Problem(PRIOR.denoiser(), A, torch.rand(1, 2, 4, 4, dtype=torch.float64))
    x0, slope = denoised(x, t)
    moved = x0 + weight * slope * A.pinv(2 * problem.y - 1 - A(x0))
    wanted = moved + s * (x - (x0 if keep_eps else moved)) / t
    sampler = PiGDM(eta=0.0, weighting="adaptive", weight=weight, keep_eps=keep_eps)
    torch.testing.assert_close(stepped(sampler, problem, x, t, s), wanted, atol=1e-12, rtol=0)


def test_projection_takes_what_is_seen_from_the_measurement():
    A, t = Inpaint.random(SHAPE, missing=0.5, seed=0), 0.8
    y = torch.rand(1, *SHAPE, dtype=torch.float64)
    x, problem = 0.5 * double((1, *SHAPE)), Problem(PRIOR.denoiser(), A, y * A.mask)
    got = stepped(PiGDM(eta=0.0, project=True), problem, x, t, 0.0)
    wanted = torch.where(A.mask, 2 * y - 1, denoised(x, t)[0])
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("A", [Overexpose(1.5), JPEG(50)], ids=lambda A: type(A).__name__)
def test_a_nonlinear_operator_is_inverted_by_its_own_pinv(A):
    shape, t = (3, 16, 16), 0.5
    problem = Problem(PRIOR.denoiser(), A, A(PRIOR.image(shape, seed=1).clamp(0, 1)))
    x = 0.5 * double((1, *shape)).float()
    x0, slope = denoised(x, t)
    wanted = x0 + slope * 2 * (A.pinv(problem.y) - A.pinv(A((x0 + 1) / 2)))
    got = stepped(PiGDM(eta=0.0, noise_aware=False, weighting="adaptive"), problem, x, t, 0.0)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


class Overconfident(nn.Module):
    """The clean image is 50 x: a derivative far too large."""

    def forward(self, x, t):
        return 50 * x


def test_a_wild_derivative_moves_the_image_no_further_than_the_measurement_asks():
    A, t = Downsample.area(2, noise=Gaussian(0.1)), 3.0
    model = Denoiser(Overconfident(), EDM(), ImageHead())
    x, problem = 0.01 * double((2, *SHAPE)), Problem(model, A, torch.rand(2, 2, 4, 4, dtype=torch.float64))
    v = PiGDM().unexplained(problem, 50 * x, torch.full((1, 1, 1, 1), 0.9, dtype=torch.float64))
    moved = stepped(PiGDM(eta=0.0), problem, x, t, 0.0) - 50 * x
    torch.testing.assert_close(moved, v)  # of the direction of v, since the derivative is a number


# --- MCG


def test_mcg_step_in_closed_form():
    A, t, s, zeta = Downsample.area(2), 0.8, 0.5, 0.4
    x, z = 0.5 * double((1, *SHAPE)), iter((double((1, *SHAPE), seed=1), double((1, *SHAPE), seed=2)))
    problem = Problem(PRIOR.denoiser(), A, torch.rand(1, 2, 4, 4, dtype=torch.float64))
    got = stepped(MCG(eta=0.5, zeta=zeta), problem, x, t, s, lambda _: next(z))
    x0, slope = denoised(x, t)
    spread = 0.5 * s * math.sqrt(1 - s**2 / t**2)
    ahead = x0 + math.sqrt(s**2 - spread**2) * (x - x0) / t + spread * double((1, *SHAPE), seed=1)
    ahead = ahead + zeta * math.sqrt(1 + s**2) * slope * A.pinv(2 * problem.y - 1 - A(x0))
    seen = A.pinv(2 * problem.y - 1) + s * double((1, *SHAPE), seed=2)
    wanted = ahead + A.pinv(A(seen - ahead))
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


# --- what all of them promise


@samplers
@pytest.mark.parametrize("schedule", [Linear(), VE()], ids=lambda s: type(s).__name__)
def test_a_step_does_not_depend_on_the_schedule(sampler, schedule):
    """The same noise level is the same noisy image up to a scale, before and after the step."""
    levels = torch.tensor([0.9, 0.4], dtype=torch.float64)
    A, y = Downsample.area(2, noise=Gaussian(0.1)), torch.rand(1, 2, 4, 4, dtype=torch.float64)
    x, z = double((1, *SHAPE)), double((1, *SHAPE), seed=1)
    results = []
    for prior in (gaussian_model(EDM()), gaussian_model(schedule, VHead())):
        t, s = prior.schedule.time(levels)
        start = prior.schedule.alpha(t) * x
        got = stepped(sampler, Problem(prior, A, y), start, t, s, lambda _: z)
        results.append(got / prior.schedule.alpha(s))
    torch.testing.assert_close(*results, atol=1e-6, rtol=0)


@samplers
def test_one_network_call_a_step(sampler):
    model, A = PRIOR.denoiser(), Inpaint.random(SHAPE, missing=0.5, seed=0, noise=Gaussian(0.1))
    reported = []
    run = dataclasses.replace(sampler, steps=5, samples=3)
    out = run.reconstruct(model, A, A.measure(PRIOR.image(SHAPE)), progress=lambda *calls: reported.append(calls))
    assert model.network.calls == out.network_calls == 15
    assert reported == [(k + 1, 15) for k in range(15)]
    assert len(out.trace.level) == 5
    assert not out.estimate.requires_grad


@samplers
def test_same_seed_same_bytes_and_another_seed_another_image(sampler, network):
    A = Inpaint.random((3, 16, 16), missing=0.5, seed=0, noise=Gaussian(0.05))
    y = A.measure(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    run = dataclasses.replace(sampler, samples=2)
    a, b, c = (run.reconstruct(network, A, y, seed=s) for s in (3, 3, 5))
    assert torch.equal(a.samples, b.samples)
    assert (a.estimate - c.estimate).abs().max() > 1e-3
    assert (a.samples[0] - a.samples[1]).abs().max() > 1e-3


@samplers
@pytest.mark.parametrize("noise", [Gaussian(0.05), Poisson(50.0)], ids=lambda n: type(n).__name__)
def test_a_batch_equals_its_members(sampler, noise, network):
    A = Downsample.bicubic(2, noise=noise)
    scenes = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.2, 0.6, 1]).view(3, 1, 1, 1)
    y = A.measure(scenes)
    together = sampler.reconstruct(network, A, y, seed=1)
    for i in range(3):
        alone = sampler.reconstruct(network, A, y[i : i + 1], seed=1)
        torch.testing.assert_close(alone.estimate[0], together.estimate[i], atol=2e-5, rtol=0)


def test_warm_start_is_the_back_projection_noised():
    A = Downsample.area(2)
    problem = Problem(gaussian_model(Linear()), A, torch.rand(1, 2, 4, 4))
    t, z = time(400.0), torch.randn(1, *SHAPE)
    cold, warm = (PiGDM(warm_start=w).start(problem, t, lambda _: z) for w in (False, True))
    alpha, sigma = (float(f(t)) for f in (Linear().alpha, Linear().sigma))
    torch.testing.assert_close(cold, sigma * z)
    torch.testing.assert_close(warm, alpha * A.pinv(problem.y) + sigma * z)


def test_presets():
    assert DPS.paper("inpainting") == DPS(steps=1000, zeta=0.5, eta=None, clip=True)
    assert {task: DPS.paper(task).zeta for task in ZETAS} == ZETAS
    assert DPS.ddim("super_resolution", steps=20) == DPS(steps=20, zeta=2.0, eta=0.5, clip=False, warm_start=True)
    assert {task: DPS.ddim(task).zeta for task in DDIM_ZETAS} == DDIM_ZETAS
    paper = PiGDM.paper(samples=2)
    assert paper == PiGDM(steps=100, eta=1.0, weighting="adaptive", keep_eps=True, warm_start=True, samples=2)


class NoInverse(Operator):
    def _apply_operator(self, x):
        return x.square()


def test_bad_input():
    model, y = PRIOR.denoiser(), torch.zeros(1, *SHAPE)
    with pytest.raises(ValueError, match=r"task must be one of super_resolution, gaussian_deblurring.*got .colour."):
        DPS.paper("colour")
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\].*got 1\.5"):
        DPS(eta=1.5)
    with pytest.raises(ValueError, match="zeta must not be negative, got -1"):
        DPS(zeta=-1)
    with pytest.raises(ValueError, match="zeta must not be negative, got -1"):
        MCG(zeta=-1)
    with pytest.raises(ValueError, match="prior_std must be positive, got 0"):
        PiGDM(prior_std=0)
    with pytest.raises(ValueError, match="weighting must be one of bayes, exact, adaptive, got 'linear'"):
        PiGDM(weighting="linear")
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        PiGDM(steps=0)
    with pytest.raises(TypeError, match=r"PiGDM needs a linear operator, got Overexpose.*noise_aware=False"):
        PiGDM(steps=1).reconstruct(model, Overexpose(2.0), y)
    with pytest.raises(TypeError, match="PiGDM needs a linear operator"):
        PiGDM(steps=1, noise_aware=False, project=True).reconstruct(model, Overexpose(2.0), y)
    with pytest.raises(TypeError, match=r"has no pinv\(y\)"):
        PiGDM(steps=1, noise_aware=False).reconstruct(model, NoInverse(), y)
    with pytest.raises(TypeError, match="MCG needs a linear operator, got Overexpose"):
        MCG(steps=1).reconstruct(model, Overexpose(2.0), y)
    assert model.network.calls == 0  # refused before any work


@torch.no_grad()
def test_the_limit_of_the_move_only_shortens_it():
    """Where Bayes' rule moves x0 less than v the two weightings agree; elsewhere "bayes" has the length of v."""
    model, A = PRIOR.denoiser(), Identity(noise=Gaussian(0.1))
    problem = Problem(model, A, PRIOR.image(SHAPE))
    for level, agree in ((0.2, True), (20.0, True)):
        t, s = torch.tensor(level), torch.tensor(level / 2)
        x = torch.full((1, *SHAPE), 0.3)
        steps = [
            PiGDM(prior_std=STD, weighting=w, eta=0.0).step(problem, x, t, s, torch.zeros_like) for w in ("bayes", "exact")
        ]
        assert torch.allclose(*steps, atol=1e-4) == agree
    narrow = [PiGDM(prior_std=STD / 4, weighting=w, eta=0.0) for w in ("bayes", "exact")]  # a prior thought to be sure
    moves = [
        p.step(problem, torch.full((1, *SHAPE), 0.3), torch.tensor(2.0), torch.tensor(1.0), torch.zeros_like) for p in narrow
    ]
    still = PiGDM(prior_std=STD / 4, weight=0.0, eta=0.0).step(
        problem, torch.full((1, *SHAPE), 0.3), torch.tensor(2.0), torch.tensor(1.0), torch.zeros_like
    )
    short, long = (float((m - still).norm()) for m in moves)
    assert short < 0.5 * long
