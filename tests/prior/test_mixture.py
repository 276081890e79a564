"""The Gaussian mixture: its denoiser against numerical integration and Tweedie's formula, its posterior against Bayes' rule."""

import pytest
import torch

from prior.mixture import GaussianMixture
from prior.schedules import EDM, VE, VP, Linear


def one_dimensional():
    weights, means, variances = torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [0.5]]), torch.tensor([[0.04], [0.2]])
    return GaussianMixture(weights.double(), means.double(), variances.double())


def test_density_integrates_to_one_and_denoiser_is_the_conditional_mean():
    mixture, alpha, sigma = one_dimensional(), torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)
    density = mixture.log_prob(grid[:, None]).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-9)
    for x in (-1.3, 0.1, 2.0):
        joint = density * torch.exp(-0.5 * ((x - alpha * grid) / sigma) ** 2)
        expected = torch.trapezoid(grid * joint, grid) / torch.trapezoid(joint, grid)
        got = mixture.x0(torch.tensor([[x]], dtype=torch.float64), alpha, sigma)
        assert float(got) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize(
    "schedule", [VP(time_scale=999.0), VE(), VE(reads_sigma=True), EDM(), Linear(), Linear().respace(9)], ids=repr
)
def test_score_is_the_gradient_of_the_log_density(schedule):
    mixture = GaussianMixture.random((2, 3, 3), seed=4)
    model, t = mixture.denoiser(schedule), 0.3
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    log_prob = mixture.log_prob(x, schedule.alpha(t), schedule.sigma(t))
    (expected,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(model(x.detach(), t).score, expected, atol=1e-10, rtol=1e-10)


def test_posterior_is_bayes_rule():
    mixture = one_dimensional()
    posterior = mixture.posterior(torch.tensor([[2.0]]), torch.tensor([0.4]), noise=0.5)
    grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)
    joint = mixture.log_prob(grid[:, None]).exp() * torch.exp(-0.5 * ((0.4 - 2 * grid) / 0.5) ** 2)
    joint = joint / torch.trapezoid(joint, grid)
    mean = torch.trapezoid(grid * joint, grid)
    assert float(posterior.mean) == pytest.approx(float(mean), abs=1e-8)
    assert float(posterior.covariance) == pytest.approx(float(torch.trapezoid((grid - mean) ** 2 * joint, grid)), abs=1e-8)


def test_samples_have_the_moments():
    mixture = GaussianMixture.random((2, 2, 2), seed=3)
    draws = mixture.sample(40000).flatten(1)
    weights = mixture.weights[:, None]
    mean = (weights * mixture.means.flatten(1)).sum(0)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.02, rtol=0)
    posterior = mixture.posterior(torch.eye(8)[:3], torch.zeros(3), noise=0.3)
    draws = posterior.sample(40000)
    torch.testing.assert_close(draws.mean(0), posterior.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.T.cov(), posterior.covariance, atol=0.02, rtol=0)


def test_shapes_and_signs_are_checked():
    with pytest.raises(ValueError, match=r"must have shapes \(K,\)"):
        GaussianMixture(torch.ones(2), torch.zeros(3, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match="must be positive"):
        GaussianMixture(torch.ones(2), torch.zeros(2, 1), torch.zeros(2, 1))
