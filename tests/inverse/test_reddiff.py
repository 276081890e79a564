"""RED-Diff against the exact posterior of a Gaussian prior, and its promises: seeds, batches, calls, memory, errors."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from torch import nn

from inverse import RedDiff
from inverse.operators import JPEG, Blur, Downsample, Gaussian, Identity, Inpaint, Overexpose, Poisson
from inverse.samplers.optimizers import SGD, Adam, Implicit
from inverse.samplers.problem import Problem
from inverse.samplers.reddiff import WEIGHTINGS
from prior.denoiser import Denoiser, EDMHead
from prior.networks.residual_unet import ResidualUNet
from prior.schedules import EDM, Linear
from tests.inverse.gaussian import GaussianPrior

SHAPE = (2, 8, 8)
PRIOR = GaussianPrior()
BAYES = RedDiff(prior_weight=1.0, levels=(4.0, 0.02), steps=80)

OPERATORS = {
    "denoise": lambda: Identity(noise=Gaussian(0.1)),
    "inpaint": lambda: Inpaint.random(SHAPE, missing=0.5, seed=0, noise=Gaussian(0.05)),
    "area": lambda: Downsample.area(2, noise=Gaussian(0.05)),
}


@pytest.fixture(scope="module")
def network() -> Denoiser:
    torch.manual_seed(0)
    net = ResidualUNet(channels=(8, 8), blocks=(1, 1), embedding=16)
    nn.init.normal_(net.tail.weight, std=0.05)
    return Denoiser(net, EDM(), EDMHead()).eval().requires_grad_(False)


@pytest.mark.parametrize("name", OPERATORS)
def test_noise_free_iteration_ends_at_the_posterior_mean(name):
    """The expected iterate: with a linear denoiser, E over the noise is the iterate without it."""
    A, model = OPERATORS[name](), PRIOR.denoiser()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, std = PRIOR.posterior(A, y, SHAPE)
    mu, _ = BAYES.run(p := Problem(model, A, y), BAYES.start(p), BAYES.times(p), torch.zeros_like)
    assert ((model.to_image(mu) - mean) / std).abs().max() < 0.1


@pytest.mark.parametrize("name", OPERATORS)
def test_estimates_average_to_the_posterior_mean(name):
    A, model = OPERATORS[name](), PRIOR.denoiser()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    mean, std = PRIOR.posterior(A, y, SHAPE)
    runs = torch.cat([BAYES.reconstruct(model, A, y, seed=s).estimate for s in range(40)])
    error = ((runs.mean(0) - mean[0]) / std).square().mean().sqrt()
    spread = ((runs - runs.mean(0)) / std).square().mean().sqrt()
    assert spread < 0.7  # one run carries the noise of its last steps
    assert error < 0.05 + 2 * spread / 40**0.5


@pytest.mark.parametrize("name", OPERATORS)
def test_samples_have_the_posterior_standard_deviation(name):
    """Slowly shrinking steps average the optimiser's noise away; an unconditional alternative truth is exact here."""
    red = dataclasses.replace(BAYES, optimizer=Implicit(decay=0.3), samples=60, resample_level=20.0, resample_steps=30)
    A, model = OPERATORS[name](), PRIOR.denoiser()
    y = A.measure(PRIOR.image(SHAPE), seed=1)
    _, std = PRIOR.posterior(A, y, SHAPE)
    out = red.reconstruct(model, A, y)
    ratio = (out.std.square().mean() / std.square().mean()).sqrt()
    assert ratio == pytest.approx(1, abs=0.08)
    known = std < 0.5 * PRIOR.std
    if known.any() and not known.all():  # where the measurement says much and where it says nothing
        assert (out.std[known].mean() / std[known].mean()) == pytest.approx(1, abs=0.1)
        assert (out.std[~known].mean() / std[~known].mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_gradient_is_the_pull_towards_the_denoised_image(weighting):
    """``w(r) (eps - z)`` with the image at the prior's mean and no noise is zero, and linear in the distance from it."""
    model, A = PRIOR.denoiser(), Identity(noise=Gaussian(0.1))
    red = RedDiff(weighting=weighting, optimizer=SGD(lr=1.0), data_weight=0.0, prior_weight=2.0)
    mu = torch.full((1, *SHAPE), 0.7)
    y = A(model.to_image(mu))
    r = 0.4
    moved, _ = red.step(model, red.likelihood(Problem(model, A, y)), mu, r, torch.zeros_like, torch.zeros_like(mu))
    w = float(WEIGHTINGS[weighting](torch.tensor(r)))
    expected = 2.0 * w * r * (0.7 - (2 * PRIOR.mean - 1)) / ((2 * PRIOR.std) ** 2 + r**2)
    torch.testing.assert_close(mu - moved, torch.full_like(mu, expected), rtol=1e-4, atol=1e-6)


def test_without_a_prior_the_data_term_is_minimised():
    A, model = Downsample.area(2), PRIOR.denoiser()
    y = A(PRIOR.image(SHAPE))
    red = RedDiff(prior_weight=0.0, data_weight=1.0, optimizer=SGD(lr=1.0), steps=60, levels=(1.0, 0.1))
    mu, trace = red.run(p := Problem(model, A, y), torch.zeros(1, *SHAPE), red.times(p), torch.zeros_like)
    assert trace.residual[-1] < 1e-6 * trace.residual[0]
    torch.testing.assert_close(A(model.to_image(mu)), y, atol=1e-4, rtol=0)


def test_pinv_is_a_fixed_point_without_a_prior():
    A, model = Downsample.area(2), PRIOR.denoiser()
    y = A(PRIOR.image(SHAPE))
    mu = model.to_network(A.pinv(y))
    red = dataclasses.replace(RedDiff.paper(steps=10), prior_weight=0.0, levels=(1.0, 0.1))
    end, _ = red.run(p := Problem(model, A, y), mu, red.times(p), torch.zeros_like)
    torch.testing.assert_close(end, mu, atol=2e-3, rtol=0)  # Adam follows even the sign of a rounding error


def test_data_gradient_of_any_operator_is_that_of_its_loss():
    model = PRIOR.denoiser()
    image = PRIOR.image((3, 16, 16)).clamp(0.1, 0.9)
    mu = model.to_network(image)
    for A in (Overexpose(1.5), Blur.gaussian(1.0), Downsample.bicubic(2)):
        y = A(image * 0.9)
        data = RedDiff.paper().likelihood(Problem(model, A, y))
        x = mu.double().requires_grad_()
        double = A.to(torch.float64)
        loss = (2 * (y.double() - double(model.to_image(x)))).square().sum() / 2 / y.numel()
        (wanted,) = torch.autograd.grad(loss, x)
        A.to(torch.float32)
        torch.testing.assert_close(data.gradient(mu).double(), wanted, rtol=1e-3, atol=1e-7)


def test_adam_is_that_of_torch():
    red = Adam(lr=0.3)
    x = torch.tensor([[1.0, -2.0, 3.0]])
    parameter = nn.Parameter(x.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.3, betas=(0.9, 0.99), eps=1e-8)

    class Data:
        def gradient(self, x):
            return 0.5 * x

        def prox(self, x, curvature):
            raise AssertionError("Adam takes no proximal step")

    state = red.init(x)
    for k in range(5):
        prior_grad = torch.tensor([[1e-3, k, -1.0]])
        parameter.grad = prior_grad + 0.5 * parameter.detach()
        optimizer.step()
        x, state = red.step(x, prior_grad, torch.ones(1), Data(), state)
    torch.testing.assert_close(x, parameter.detach(), rtol=1e-6, atol=1e-6)


def test_same_seed_same_bytes_and_another_seed_another_image(network):
    A = Inpaint.random((3, 16, 16), missing=0.5, seed=0)
    y = A.measure(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    red = RedDiff(steps=4, samples=2, resample_steps=2)
    a, b, c = (red.reconstruct(network, A, y, seed=s) for s in (3, 3, 4))
    assert torch.equal(a.estimate, b.estimate)
    assert torch.equal(a.samples, b.samples)
    assert (a.estimate - c.estimate).abs().max() > 1e-3
    assert (a.samples[0] - a.samples[1]).abs().max() > 1e-3


def test_a_batch_equals_its_members(network):
    A = Blur.gaussian(1.0, noise=Gaussian(0.02))
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = A.measure(x)
    red = RedDiff(steps=4, samples=2, resample_steps=2)
    together = red.reconstruct(network, A, y, seed=1)
    for i in range(3):
        alone = red.reconstruct(network, A, y[i : i + 1], seed=1)
        torch.testing.assert_close(alone.estimate[0], together.estimate[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.samples[:, 0], together.samples[:, i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [0, 2])
def test_one_network_call_a_step(samples):
    model, A = PRIOR.denoiser(), Identity(noise=Gaussian(0.1))
    y = A.measure(PRIOR.image(SHAPE))
    reported = []
    red = RedDiff(steps=7, samples=samples, resample_steps=3)
    out = red.reconstruct(model, A, y, progress=lambda done, total: reported.append((done, total)))
    expected = 7 + samples * (7 + 2 * 3 - 1)
    assert model.network.calls == out.network_calls == expected
    assert reported == [(k + 1, expected) for k in range(expected)]


def test_paper_times_are_the_leading_grid():
    model = Denoiser(nn.Identity(), Linear())
    y = torch.zeros(1, *SHAPE)
    assert RedDiff.paper(steps=5).times(Problem(model, Identity(), y)) == [800.0, 600.0, 400.0, 200.0, 0.0]
    edm = RedDiff.paper(steps=5).times(Problem(PRIOR.denoiser(), Identity(), y))
    torch.testing.assert_close(torch.tensor(edm), Linear().level(torch.tensor([800.0, 600, 400, 200, 0])).float())


def test_memory_does_not_grow_with_steps(network):
    A = Inpaint.random((3, 32, 32), missing=0.5, seed=0)
    y = A.measure(torch.rand(1, 3, 32, 32))

    def alive(steps: int) -> int:
        peak = 0

        def watch(done: int, total: int) -> None:
            nonlocal peak
            if done == total:
                gc.collect()
                peak = sum(t.numel() for t in gc.get_objects() if isinstance(t, torch.Tensor))

        RedDiff(steps=steps).reconstruct(network, A, y, progress=watch)
        return peak

    assert alive(40) == alive(5)


@pytest.mark.parametrize(("A", "factor"), [(Overexpose(2.0), 1.0), (JPEG(30), 0.97)], ids=["overexposed", "jpeg"])
def test_paper_settings_take_nonlinear_operators(A, factor):
    """On white noise JPEG keeps next to nothing, and little can be won back; but the prior must not lose any."""
    prior = GaussianPrior(mean=0.55, std=0.1)
    image = prior.image((3, 16, 16))
    y = A(image)
    red = dataclasses.replace(RedDiff.paper(steps=60, lr=0.005), levels=(0.5, 0.01))
    out = red.reconstruct(prior.denoiser(), A, y)
    error, start = ((z - image).square().mean().sqrt() for z in (out.estimate, A.pinv(y)))
    assert error < factor * start
    assert out.trace.residual[-1] < 1e-4


def test_poisson_noise_sets_the_data_weight():
    A = Identity(noise=Poisson(peak=10))
    image = PRIOR.image((1, 16, 16)).clamp(0.05, 1)
    y = A.measure(image)
    out = dataclasses.replace(BAYES, optimizer=Implicit(decay=0.3)).reconstruct(PRIOR.denoiser(), A, y)
    assert (out.estimate - image).square().mean() < 0.75 * (y - image).square().mean()
    assert 0.4 < out.residual_ratio < 1.0  # a prior of the noise's own width takes half of it


def test_bad_input():
    model, A = PRIOR.denoiser(), Inpaint.random(SHAPE, missing=0.5, seed=0)
    y = torch.zeros(1, *SHAPE)
    with pytest.raises(ValueError, match=r"y must have shape \(B, 2, 8, 8\), got \(1, 2, 8, 7\)"):
        RedDiff().reconstruct(model, A, y[..., :7])
    y[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="y must be finite, got 1 value"):
        RedDiff().reconstruct(model, A, y)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        RedDiff(steps=0)
    with pytest.raises(ValueError, match="weighting must be one of linear, sqrt"):
        RedDiff(weighting="cubic")
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'max'"):
        RedDiff(reduction="max")
    with pytest.raises(ValueError, match=r"prior_weight must be positive \(0 only with SGD or Adam\), got 0"):
        RedDiff(prior_weight=0)
    with pytest.raises(ValueError, match="samples must not be negative, got -1"):
        RedDiff(samples=-1)
    with pytest.raises(ValueError, match="levels must be two positive numbers"):
        RedDiff(levels=(0.1, 0.5))
    with pytest.raises(TypeError, match=r"an implicit step needs a linear operator.*RedDiff\.paper"):
        RedDiff(steps=1).reconstruct(model, Overexpose(2.0), torch.zeros(1, *SHAPE))
