"""DiffPIR and DAPS on priors whose posterior is known, and their data steps against dense algebra."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from inverse.operators import Blur, Downsample, Gaussian, Identity, Inpaint, LinearOperator, Overexpose, PhaseRetrieval
from inverse.operators.decimation import Decimate
from inverse.samplers.daps import DAPS, poly7
from inverse.samplers.diffpir import DiffPIR, quad
from inverse.samplers.loop import PosteriorSampler
from inverse.samplers.mcmc import HMC, Conditional, Exact, Langevin
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser, EDMHead
from prior.mixture import GaussianMixture
from prior.networks.residual_unet import ResidualUNet
from prior.schedules import EDM, VP, Linear, RectifiedFlow
from tests.inverse.gaussian import GaussianPrior

SHAPE = (2, 4, 4)
PRIOR = GaussianPrior()
COUNT = 1000  # draws: the mean is known to 0.03 deviations, the deviation to 2 %

OPERATORS = {
    "denoise": lambda: Identity(noise=Gaussian(0.1)),
    "inpaint": lambda: Inpaint.random(SHAPE, missing=0.5, seed=0, noise=Gaussian(0.05)),
    "area": lambda: Downsample.area(2, noise=Gaussian(0.05)),
}
PAPER = dataclasses.replace(DAPS.paper("super-resolution"), mcmc=Exact(), tau=None)
CHAINS = {
    "exact": Exact(),
    "langevin": Langevin(steps=40),
    "hmc": HMC(steps=40),
}


def draws(sampler: PosteriorSampler, model: Denoiser, A: LinearOperator, y: Tensor, count: int = COUNT) -> Tensor:
    """Independent draws given one measurement, (count, C, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    problem = Problem(model, A, y.expand(count, *y.shape[1:]))
    with torch.no_grad():
        x, _ = sampler.draw(problem, sampler.times(model.schedule), lambda like: torch.randn(like.shape, generator=generator))
    return model.to_image(x)


def dense(A: LinearOperator, shape: tuple[int, ...]) -> Tensor:
    """The matrix of ``A``, (m, n), float64."""
    n = math.prod(shape)
    return A(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1).mT


@pytest.fixture(scope="module")
def network() -> Denoiser:
    torch.manual_seed(0)
    net = ResidualUNet(channels=(8, 8), blocks=(1, 1), embedding=16)
    nn.init.normal_(net.tail.weight, std=0.05)
    return Denoiser(net, EDM(), EDMHead()).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "chain"), [*((name, "exact") for name in OPERATORS), ("inpaint", "langevin"), ("inpaint", "hmc")]
)
def test_daps_draws_from_the_posterior_of_a_gaussian_prior(name, chain):
    A = OPERATORS[name]()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, std = PRIOR.posterior(A, y, SHAPE)
    daps = DAPS(steps=40, spread=2 * PRIOR.std, mcmc=CHAINS[chain])
    x = draws(daps, PRIOR.denoiser(), A, y, COUNT if chain == "exact" else 400)
    assert ((x.mean(0) - mean) / std).square().mean().sqrt() < 0.08
    wide = 1.0 if chain == "exact" else 1.025  # a fifth of the inverse curvature a step: 1 / sqrt(1 - 0.2 / 2) at the most
    assert (x.std(0) / std).mean() == pytest.approx(wide, abs=0.03)
    torch.testing.assert_close(x.std(0)[None] / std, torch.full_like(std, wide), atol=0.13, rtol=0)


def law(daps: DAPS, s: float, n: float, y: float) -> tuple[float, float]:
    """Mean and variance of a pixel after all steps: prior N(0, s^2), seen as y with noise n (inf where it is missing)."""
    levels = poly7(*daps.levels, daps.steps)[:-1].tolist()
    mean, variance = 0.0, levels[0] ** 2
    for level, following in zip(levels, [*levels[1:], 0.0], strict=True):
        a = 1.0
        grid = poly7(level, daps.ode_end, daps.ode_steps).tolist()
        for high, low in pairwise(grid):
            a *= 1 + (low / high - 1) * high**2 / (s**2 + high**2)
        precision = 1 / level**2 + 1 / n**2
        gain = a / level**2 / precision
        mean, variance = gain * mean + y / n**2 / precision, gain**2 * variance + 1 / precision + following**2
    return mean, variance


def test_daps_of_the_paper_has_the_law_of_its_recursion():
    """All is linear and Gaussian: so are the draws, whose mean and variance follow step by step."""
    A = OPERATORS["inpaint"]()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    daps = dataclasses.replace(PAPER, steps=20)
    x = draws(daps, PRIOR.denoiser(), A, y)
    mask, scaled = A.mask.expand(SHAPE), 2 * y[0] - 2 * PRIOR.mean
    pixels = zip(mask.flatten().tolist(), scaled.flatten().tolist(), strict=True)
    wanted = torch.tensor([law(daps, 2 * PRIOR.std, 0.1 if seen else math.inf, value) for seen, value in pixels])
    mean, std = wanted[:, 0].view(SHAPE), wanted[:, 1].sqrt().view(SHAPE)
    assert (((2 * x - 2 * PRIOR.mean).mean(0) - mean) / std).abs().max() < 0.13
    torch.testing.assert_close(2 * x.std(0) / std, torch.ones(SHAPE), atol=0.1, rtol=0)


@pytest.mark.parametrize("n", [0.1, 0.5, math.inf])
def test_daps_of_the_paper_tends_to_twice_the_variance_of_the_prior(n):
    """Slowly annealed to a low level, ``r = sigma`` around the flow's image is the posterior under N(m, 2 s^2)."""
    s, y = 0.5, 0.7
    mean, variance = law(dataclasses.replace(PAPER, steps=1500, levels=(10.0, 0.02), ode_end=1e-3, ode_steps=50), s, n, y)
    precision = 1 / n**2 + 1 / (2 * s**2)
    assert mean == pytest.approx(y / n**2 / precision, abs=0.01)
    assert variance == pytest.approx(1 / precision, rel=0.05)


@pytest.mark.parametrize("name", ["denoise", "inpaint"])
def test_daps_draws_from_the_posterior_of_a_mixture(name):
    mixture = GaussianMixture.random(SHAPE, K=3, spread=0.15, seed=1)
    mixture = GaussianMixture(mixture.weights, mixture.means + 0.5, 0.1 * mixture.variances)
    A = OPERATORS[name]()
    y = A.measure(mixture.sample(1, seed=3).float(), seed=1)
    exact = mixture.posterior(dense(A, SHAPE), y.flatten(), A.noise.sigma)
    mean, std = (v.view(SHAPE).float() for v in (exact.mean, exact.covariance.diagonal().sqrt()))
    x = draws(DAPS(steps=150, spread=0.12), mixture.denoiser(EDM()), A, y)
    assert ((x.mean(0) - mean) / std).square().mean().sqrt() < 0.08
    assert (x.std(0) / std).mean() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("schedule", [EDM(), VP(), Linear(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_daps_walks_any_schedule_through_its_noise_levels(schedule):
    """The same noise gives the same image, whatever the time is called, but for the rounding of discrete steps."""
    mixture = GaussianMixture.random(SHAPE, K=1, seed=1)
    A = Identity(noise=Gaussian(0.1))
    y = A.measure(mixture.sample(1, seed=3).float(), seed=1)
    daps = dataclasses.replace(PAPER, steps=10, levels=(20.0, 0.1))
    found, wanted = (draws(daps, mixture.denoiser(s), A, y, 2) for s in (schedule, EDM()))
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("chain", ["langevin", "hmc"])
def test_chains_reach_the_conditional(chain):
    """Against the dense mean and covariance, of a Gaussian likelihood and a Gaussian around the guess."""
    A, model = Downsample.area(2, noise=Gaussian(0.1)), PRIOR.denoiser()
    y, n = A.measure(PRIOR.image(SHAPE)), 2000
    problem = Problem(model, A, y.expand(n, *y.shape[1:]))
    target = Conditional(problem, torch.full((n, *SHAPE), 0.3), spread=0.2, tau=0.3)
    D = dense(A, SHAPE)
    covariance = torch.linalg.inv(2 / 0.3**2 * D.mT @ D + torch.eye(32, dtype=torch.float64) / 0.2**2)
    mean = covariance @ (2 / 0.3**2 * D.mT @ problem.measured[0].flatten().double() + 0.3 / 0.2**2)
    generator = torch.Generator().manual_seed(0)
    x = CHAINS[chain].sample(target, lambda like: torch.randn(like.shape, generator=generator)).flatten(1).double()
    root = torch.linalg.cholesky(torch.linalg.inv(covariance)).mT
    z = (x - mean) @ root.mT  # white where the draws are right
    assert z.mean(0).abs().max() < 0.07
    torch.testing.assert_close(z.T.cov(), torch.eye(32, dtype=torch.float64), atol=0.2, rtol=0)
    x = Exact().sample(target, lambda like: torch.randn(like.shape, generator=generator)).flatten(1).double()
    z = (x - mean) @ root.mT
    assert z.mean(0).abs().max() < 0.07
    torch.testing.assert_close(z.T.cov(), torch.eye(32, dtype=torch.float64), atol=0.12, rtol=0)


def test_the_conditional_gradient_is_that_of_its_density():
    model, image = PRIOR.denoiser(), PRIOR.image((2, 4, 4))
    for A in (Downsample.area(2), Overexpose(1.5)):
        y = A(image) + 0.1
        target = Conditional(Problem(model, A, y), torch.zeros(1, *SHAPE), spread=0.5, tau=0.2)
        x = model.to_network(image).requires_grad_()
        square = (2 * (y - A(model.to_image(x)))).square().sum() / 0.2**2 + x.square().sum() / (2 * 0.5**2)
        (wanted,) = torch.autograd.grad(-square, x)
        torch.testing.assert_close(target.gradient(x.detach()), wanted, rtol=1e-4, atol=1e-4)


def test_tau_is_the_noise_times_the_root_of_two():
    model, y, x = PRIOR.denoiser(), torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)
    noisy = DAPS(spread=None).conditional(Problem(model, Identity(noise=Gaussian(0.1)), y), x, 1.0)
    assert noisy.tau == pytest.approx(math.sqrt(2) * 0.2)
    assert noisy.spread == 1.0
    exact = DAPS(noise_floor=0.01).conditional(Problem(model, Identity(), y), x, 1.0)
    assert exact.tau == pytest.approx(math.sqrt(2) * 0.02)
    assert DAPS(tau=0.5).conditional(Problem(model, Identity(), y), x, 1.0).tau == 0.5
    assert DAPS(spread=0.75).conditional(Problem(model, Identity(), y), x, 1.0).spread == pytest.approx(0.6)
    levels = DAPS(steps=4, levels=(10.0, 0.1)).times(EDM())
    assert levels.tolist() == pytest.approx([*poly7(10.0, 0.1, 4)[:-1].tolist(), 0.0])
    progress = [
        DAPS(steps=4, levels=(10.0, 0.1)).conditional(Problem(model, Identity(), y), x, t).progress for t in levels[:-1]
    ]
    assert progress == pytest.approx([0, 1 / 5, 2 / 5, 3 / 5])


@pytest.mark.parametrize("rho", [1e-7, 1e-3, 1.0])
@pytest.mark.parametrize("factor", [1, 2])
def test_data_step_is_that_of_dense_algebra(factor, rho):
    """In float32, even where dividing by rho would lose every digit."""
    kernel = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    A = Decimate(kernel / kernel.sum(), factor)
    x, y = torch.randn(1, 1, 8, 8), torch.randn(1, 1, 8 // factor, 8 // factor)
    D = dense(A, (1, 8, 8))
    gain = D.mT @ torch.linalg.inv(D @ D.mT + rho * torch.eye(len(D), dtype=torch.float64))
    wanted = x.flatten().double() + gain @ (y.flatten().double() - D @ x.flatten().double())
    found = A.prox(x, y, rho).flatten().double()
    limit = 1e-5 if factor > 1 else 1e-5 / float(torch.linalg.svdvals(D).min())
    torch.testing.assert_close(found, wanted, atol=limit * float(wanted.abs().max()), rtol=0)
    if factor > 1 and rho == 1e-7:
        divided = ((D.mT @ y.flatten().double()).float() + rho * x.flatten()) / rho  # the formula of the authors' code
        naive = divided - (gain.float() @ (D.float() @ divided))
        assert (naive.double() - wanted).abs().max() > 1e-2


def test_decimate_is_a_linear_operator():
    kernel = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    A = Decimate(kernel, 3, shape=(2, 6, 9))
    D = dense(A, (2, 6, 9))
    assert A.codomain == (2, 2, 3)
    assert A.adjointness() < 1e-6
    assert A.norm() == pytest.approx(float(torch.linalg.matrix_norm(D, 2)), rel=1e-5)
    y = torch.randn(1, 2, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(A.pinv(y).flatten(), torch.linalg.pinv(D) @ y.flatten(), atol=1e-6, rtol=1e-5)
    x = torch.randn(2, 2, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(A(x), Blur(kernel, "circular")(x)[..., ::3, ::3])
    with pytest.raises(ValueError, match="multiples of 3, got 6 x 8"):
        A.output_shape((2, 6, 8))
    with pytest.raises(ValueError, match="factor must be a whole number, at least 1, got 0"):
        Decimate(kernel, 0)
    with pytest.raises(ValueError, match="rho must be positive, got 0"):
        A.prox(x, A(x), 0.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_diffpir_ends_at_the_posterior_mean(name):
    """With lam = 4 the data step is Bayes' rule for N(D, sigma^2); with fresh noise only, the draws spread half as far
    in variance, since the data step itself draws nothing."""
    A = OPERATORS[name]()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, std = PRIOR.posterior(A, y, SHAPE)
    x = draws(DiffPIR(lam=4.0, zeta=1.0, clip=False), PRIOR.denoiser(), A, y)
    assert ((x.mean(0) - mean) / std).square().mean().sqrt() < 0.05
    assert (x.std(0) / std).mean() == pytest.approx(math.sqrt(0.5), abs=0.04)


def test_a_denoised_image_that_explains_the_data_stays():
    """Where x0 fits y the data step leaves it, so that the step is DDIM's."""
    A, model = Downsample.area(2), PRIOR.denoiser()
    x, t, s = torch.randn(1, *SHAPE), torch.tensor(2.0), torch.tensor(1.0)
    p = model(x, t)
    problem = Problem(model, A, A(model.to_image(p.x0)))
    found = DiffPIR(zeta=0.0, clip=False).step(problem, x, t, s, torch.randn_like)
    torch.testing.assert_close(found, p.x0 + p.eps, atol=1e-5, rtol=0)
    end = DiffPIR(clip=False).step(problem, x, t, torch.tensor(0.0), torch.randn_like)
    torch.testing.assert_close(end, p.x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("zeta", "eta"), [(1.0, 0.0), (0.0, 1.0), (0.4, 0.6)])
def test_noise_of_a_step_has_the_level_arrived_at(zeta, eta):
    """At x = alpha x0 + sigma eps with eps white, the next x is x0 plus white noise of the next level."""
    A, model, n = Identity(noise=Gaussian(0.5)), PRIOR.denoiser(), 20000
    generator = torch.Generator().manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    class Known(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return (x - 0.3) / t.view(-1, 1, 1, 1)  # the image is 0.3

    model = Denoiser(Known(), EDM())
    problem = Problem(model, A, torch.full((n, 1, 1, 1), 0.65))
    x = 0.3 + 2.0 * noise(torch.empty(n, 1, 1, 1))
    pir = DiffPIR(zeta=zeta, eta=eta)
    found = pir.step(problem, x, torch.tensor(2.0), torch.tensor(1.5), noise)
    assert found.mean() == pytest.approx(0.3, abs=0.05)
    assert found.std() == pytest.approx(1.5, rel=0.02)
    kept = torch.corrcoef(torch.stack([x.flatten(), found.flatten()]))[0, 1]
    e2 = eta**2 * (1 - (1.5 / 2) ** 2)
    assert kept == pytest.approx(math.sqrt((1 - zeta) * (1 - e2)), abs=0.02)


def test_rho_is_the_papers_in_every_range():
    t = 1.0
    for low, high in ((-1.0, 1.0), (0.0, 1.0)):
        model = Denoiser(nn.Identity(), EDM(), data_range=(low, high))
        problem = Problem(model, Identity(noise=Gaussian(0.1)), torch.zeros(1, *SHAPE))
        unit = (high - low) / 2
        assert DiffPIR(lam=3.0).rho(problem, t * unit) == pytest.approx(3.0 * 0.1**2)
    assert DiffPIR(lam=1.0).rho(Problem(model, Identity(), torch.zeros(1, *SHAPE)), 0.5) == pytest.approx(0.001**2)


def test_quad_grid():
    assert quad(Linear(), 6).tolist() == [999, 552, 367, 225, 105, 0, -1]
    assert DiffPIR(steps=6, stop_noisy=True).times(Linear()).tolist() == [999, 552, 367, 225, 105, 0]
    for steps in (1, 100, 500):
        times = quad(Linear(), steps)
        assert len(times) == steps + 1
        assert bool((times.diff() < 0).all())
    with pytest.raises(ValueError, match=r"steps must lie in 1\.\.500 for the quad grid, half of T, got 501"):
        quad(Linear(), 501)
    with pytest.raises(TypeError, match="the quad grid needs a schedule with discrete steps"):
        DiffPIR(spacing="quad").times(EDM())


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (DiffPIR(steps=7, samples=2), 14),
        (DiffPIR(steps=7, stop_noisy=True), 6),
        (DAPS(steps=3, ode_steps=4, samples=2), 24),
        (DAPS(steps=3, ode_steps=4, mcmc=HMC(steps=5)), 12),
        (DAPS(steps=5), 5),
        (DAPS(), 100),
    ],
)
def test_network_calls(sampler, expected):
    model, A = PRIOR.denoiser(), Inpaint.random(SHAPE, 0.5, noise=Gaussian(0.05))
    reported = []
    y = A.measure(PRIOR.image(SHAPE))
    out = sampler.reconstruct(model, A, y, progress=lambda done, total: reported.append((done, total)))
    assert model.network.calls == out.network_calls == expected
    assert reported == [(k + 1, expected) for k in range(expected)]


@pytest.mark.parametrize(
    "sampler",
    [DiffPIR(steps=4, eta=0.5, samples=2), DAPS(steps=3, ode_steps=2), DAPS(steps=3, mcmc=Langevin(steps=5))],
    ids=repr,
)
def test_same_seed_same_bytes_and_a_batch_equals_its_members(network, sampler):
    A = Blur.gaussian(1.0, noise=Gaussian(0.02))
    y = A.measure(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    a, b, c = (sampler.reconstruct(network, A, y, seed=s) for s in (3, 3, 4))
    assert torch.equal(a.samples, b.samples)
    assert (a.estimate - c.estimate).abs().max() > 1e-3
    for i in range(2):
        alone = sampler.reconstruct(network, A, y[i : i + 1], seed=3)
        torch.testing.assert_close(alone.samples[:, 0], a.samples[:, i], atol=1e-4, rtol=0)


def test_daps_takes_nonlinear_operators():
    prior, A = GaussianPrior(mean=0.55, std=0.15), Overexpose(2.0, noise=Gaussian(0.02))
    image = prior.image((1, 8, 8))
    y = A.measure(image, seed=1)
    out = dataclasses.replace(DAPS(steps=30, spread=0.3, samples=2), mcmc=Langevin(steps=60)).reconstruct(
        prior.denoiser(), A, y
    )
    seen = (A.pinv(y) - 0.5).abs() < 0.2
    assert (out.estimate - image)[seen].square().mean().sqrt() < 0.02  # noise 0.02 over the gain of 2, and the draws' own
    assert (out.estimate - image)[~seen].square().mean().sqrt() < 0.15
    assert 0.7 < out.residual_ratio < 1.6


def test_presets():
    assert DiffPIR.paper("inpainting") == DiffPIR(steps=20, spacing="quad", lam=1.0, zeta=1.0)
    assert DAPS.paper("phase-retrieval") == dataclasses.replace(PAPER, mcmc=Langevin(lr=5e-5, decay=0.01), tau=0.02)
    assert (PAPER.levels, PAPER.steps, PAPER.ode_steps, PAPER.ode_end, PAPER.spread) == ((100.0, 0.1), 200, 5, 0.01, None)
    assert DAPS.paper("nonlinear-deblurring").network_calls(200) == 1000
    assert eval(repr(DAPS.paper("box-inpainting"))) == DAPS.paper("box-inpainting")


def test_the_paper_retrieves_phases_in_the_unit_range():
    """``-|y - A(x)|^2 / 0.01^2`` with A and y of images in [0, 1], while the chain walks in [-1, 1]."""
    A, generator = PhaseRetrieval(1, shape=(1, 4, 4)), torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 1, 4, 4, generator=generator), torch.rand(1, 1, 6, 6, generator=generator)
    z = (2 * x - 1).requires_grad_()
    (wanted,) = torch.autograd.grad(-(y - A((z + 1) / 2)).square().sum() / 0.01**2, z)
    target = DAPS.paper("phase-retrieval").conditional(Problem(PRIOR.denoiser(), A, y), z.detach(), 1.0)
    torch.testing.assert_close(target.gradient(z.detach()), wanted, rtol=1e-5, atol=1e-3)


def test_an_unstable_chain_says_so():
    model, A = PRIOR.denoiser(), Identity(noise=Gaussian(0.001))
    daps = DAPS(steps=5, mcmc=Langevin(lr=1.0, steps=200))
    with pytest.raises(FloatingPointError, match=r"at the step of t = 80, noise level 80, with mcmc=Langevin\(.*a smaller lr"):
        daps.reconstruct(model, A, torch.zeros(1, *SHAPE))


def test_what_a_sampler_cannot_handle():
    model, y = PRIOR.denoiser(), torch.full((1, *SHAPE), 0.5)
    with pytest.raises(TypeError, match=r"DiffPIR needs a linear operator, got Overexpose\(gain=2\.0\)"):
        DiffPIR(steps=2).reconstruct(model, Overexpose(2.0), y)
    with pytest.raises(TypeError, match=r"mcmc=Exact\(\) needs a linear operator, got Overexpose\(gain=2\.0\)"):
        DAPS(mcmc=Exact()).reconstruct(model, Overexpose(2.0), y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiffPIR(steps=0), "steps must be at least 1, got 0"),
        (lambda: DiffPIR(spacing="cubic"), "spacing must be one of uniform.*quad, got 'cubic'"),
        (lambda: DiffPIR(lam=0), "lam must be positive and finite, got 0"),
        (lambda: DiffPIR(zeta=1.5), r"zeta must lie in \[0, 1\], got 1.5"),
        (lambda: DiffPIR(eta=-0.1), r"eta must lie in \[0, 1\], got -0.1"),
        (lambda: DiffPIR(noise_floor=0), "noise_floor must be positive, got 0"),
        (lambda: DiffPIR(steps=1, stop_noisy=True), "steps must be at least 2 to stop at a noisy time after the first, got 1"),
        (lambda: DiffPIR.paper("colouring"), "task must be one of deblurring.*got 'colouring'"),
        (lambda: DAPS(levels=(0.1, 1.0)), "levels must be two positive numbers, the highest first"),
        (lambda: DAPS(ode_steps=0), "ode_steps must be at least 1, got 0"),
        (lambda: DAPS(ode_end=0.1), "ode_end must be at least 0 and below the lowest level 0.02, got 0.1"),
        (lambda: DAPS(spread=0), "spread must be positive and finite, or None, got 0"),
        (lambda: DAPS(tau=-1), "tau must be positive and finite, or None, got -1"),
        (lambda: DAPS(noise_floor=0), "noise_floor must be positive, got 0"),
        (lambda: DAPS.paper("colouring"), "task must be one of super-resolution.*got 'colouring'"),
        (lambda: Langevin(steps=0), "steps must be at least 1, got 0"),
        (lambda: Langevin(lr=0), "lr must be positive and finite, or None"),
        (lambda: HMC(decay=0), r"decay must lie in \(0, 1\], got 0"),
        (lambda: HMC(momentum=1), r"momentum must lie in \[0, 1\), got 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_daps_may_begin_near_the_answer() -> None:
    """From the back-projection at a low level one step stays near it; from noise alone it does not."""
    problem = Problem(PRIOR.denoiser(), Identity(noise=Gaussian(0.5)), PRIOR.image((1, 8, 8)))
    near = DAPS(steps=2, levels=(0.05, 0.02), warm_start=True)
    t = near.times(problem.model.schedule)[0]
    still = near.start(problem, t, torch.zeros_like)
    torch.testing.assert_close(still, problem.back_projected)
    assert float(dataclasses.replace(near, warm_start=False).start(problem, t, torch.zeros_like).abs().max()) == 0
