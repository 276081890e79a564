"""Training objectives: closed forms, who gets a gradient, the distribution of times, errors."""

import math

import pytest
import torch
from torch import nn

from prior.denoiser import Denoiser, EDMHead, ImageHead, NoiseHead, ScoreHead, VHead
from prior.losses import (
    DenoisingLoss,
    HybridLoss,
    LogNormalTimes,
    UniformTimes,
    VariationalLoss,
    denoising_loss,
    discretised_gaussian_nll,
    normal_kl,
    prior_bpd,
    variational_bound,
)
from prior.schedules import EDM, VE, Linear, RectifiedFlow
from tests.prior.gaussian import gaussian_model


class Affine(nn.Module):
    """Mean and variance channels from two learnable numbers: gradients say who teaches whom."""

    def __init__(self):
        super().__init__()
        self.mean, self.variance = nn.Parameter(torch.tensor(0.2)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x, t):
        return torch.cat([self.mean * x, self.variance.expand_as(x)], 1)


def affine_model():
    return Denoiser(Affine(), Linear(), learned_variance=True)


def batch(seed=0, std=0.5):
    g = torch.Generator().manual_seed(seed)
    x0 = (0.3 + std * torch.randn(2, 3, 8, 8, generator=g)).clamp(-1, 1)
    return x0, torch.randn(x0.shape, generator=g), torch.tensor([0.0, 400.0])


# --- the denoising loss


@pytest.mark.parametrize("head", [NoiseHead(), ImageHead(), ScoreHead(), VHead(), EDMHead()], ids=repr)
def test_denoising_loss_is_the_error_of_the_output(head):
    x0, eps, _ = batch()
    t = torch.tensor([100.0, 700.0])
    model = Denoiser(Affine(), Linear(), head, learned_variance=True)
    alpha, sigma, _ = model.coefficients(x0, t)
    x_in, _ = head.inputs(alpha * x0 + sigma * eps, t, alpha, sigma)
    expected = (0.2 * x_in - head.target(x0, eps, alpha, sigma)).square().mean((1, 2, 3))
    torch.testing.assert_close(denoising_loss(model, x0, eps, t), expected, rtol=1e-6, atol=0)
    assert torch.equal(DenoisingLoss()(model, x0, eps, t), denoising_loss(model, x0, eps, t))


def test_best_denoising_loss_is_the_posterior_variance():
    mean, std, t = 0.3, 0.5, 400.0
    g = torch.Generator().manual_seed(0)
    x0 = mean + std * torch.randn(1, 1, 256, 256, generator=g, dtype=torch.float64)
    eps = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    abar = float(Linear().abar[400])
    loss = denoising_loss(gaussian_model(Linear(), mean=mean, std=std), x0, eps, torch.tensor([t]))
    assert float(loss) == pytest.approx(abar * std**2 / (abar * std**2 + 1 - abar), rel=0.02)  # Var(eps | x_t); 65536 draws


def test_edm_loss_is_weighted_by_c_out():
    x0, eps, _ = batch()
    level, data = 0.8, 0.5
    model = gaussian_model(EDM(), EDMHead(sigma_data=data), mean=0.1, std=0.4)
    x0_hat = model(model.noised(x0, eps, level), level).x0
    weight = (level**2 + data**2) / (level * data) ** 2
    expected = weight * (x0_hat - x0).square().mean((1, 2, 3))
    torch.testing.assert_close(denoising_loss(model, x0, eps, torch.full((2,), level)), expected, rtol=1e-4, atol=0)


# --- the variational bound


def test_normal_kl():
    kl = normal_kl(*(torch.tensor(v, dtype=torch.float64) for v in (0.3, math.log(0.25), -0.2, math.log(2.0))))
    assert float(kl) == pytest.approx(math.log(math.sqrt(2.0) / 0.5) + (0.25 + 0.5**2) / (2 * 2.0) - 0.5, rel=1e-12)
    assert float(normal_kl(*[torch.tensor(0.7)] * 4)) == 0.0


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("std", [0.5, 4.0, 60.0])
def test_probabilities_of_the_256_values_sum_to_one(low, high, std):
    x = torch.linspace(low, high, 256, dtype=torch.float64)
    mean, log_std = low + 0.4 * (high - low), math.log(std / 255 * (high - low))
    nll = discretised_gaussian_nll(x, torch.tensor(mean, dtype=torch.float64), torch.tensor(log_std), (low, high))
    assert float(torch.exp(-nll).sum()) == pytest.approx(1.0, abs=1e-6)
    if std == 60.0:  # a bin's probability is nearly density times width
        density = torch.distributions.Normal(mean, math.exp(log_std)).log_prob(x[100]) + math.log((high - low) / 255)
        assert float(-nll[100]) == pytest.approx(float(density), abs=2e-3)


def test_impossible_values_cost_at_most_28_nats():
    nll = discretised_gaussian_nll(torch.tensor([1.0]), torch.tensor([-1.0]), torch.tensor([-8.0]))
    assert float(nll) == pytest.approx(-math.log(1e-12), rel=1e-6)


def test_bound_of_a_discrete_chain():
    x0, eps, _ = (v.double() for v in batch())
    schedule, k = Linear(), 400
    model = affine_model().double()
    p = model(model.noised(x0, eps, k), k)
    bound = variational_bound(model, p, p.x0, x0, torch.full((2,), float(k)))
    c1, c2 = schedule.posterior_mean_coefficients
    mean1, mean2 = c1[k] * x0 + c2[k] * p.x, c1[k] * p.x0 + c2[k] * p.x
    f = (0.1 + 1) / 2
    log_variance = f * schedule.betas[k].log() + (1 - f) * schedule.posterior_log_variance[k]
    kl = normal_kl(mean1, schedule.posterior_log_variance[k], mean2, log_variance)
    torch.testing.assert_close(bound, kl.mean((1, 2, 3)) / math.log(2), rtol=1e-6, atol=0)


def test_first_step_is_a_likelihood():
    x0, eps, _ = batch()
    model, t = affine_model(), torch.zeros(2)
    p = model(model.noised(x0, eps, t), t)
    log_variance = 0.55 * Linear().betas[0].log() + 0.45 * Linear().posterior_log_variance[0]
    expected = discretised_gaussian_nll(x0, p.x0, 0.5 * log_variance.float()).mean((1, 2, 3)) / math.log(2)
    torch.testing.assert_close(variational_bound(model, p, p.x0, x0, t), expected, rtol=1e-4, atol=0)


def test_hybrid_is_simple_plus_weighted_bound():
    x0, eps, t = batch()
    model = affine_model()
    simple, bound = denoising_loss(model, x0, eps, t), VariationalLoss()(model, x0, eps, t) / 1000
    for weight in (1e-3, 0.0, 0.5):
        torch.testing.assert_close(HybridLoss(weight)(model, x0, eps, t), simple + weight * 1000 * bound, rtol=1e-5, atol=0)


def test_the_bound_teaches_the_variance_alone_in_the_hybrid():
    x0, eps, t = batch()

    def gradients(loss):
        model = affine_model()
        loss(model, x0, eps, t).mean().backward()
        return model.network.mean.grad, model.network.variance.grad

    simple_mean, _ = gradients(HybridLoss(0.0))
    hybrid_mean, hybrid_variance = gradients(HybridLoss(1e-3))
    full_mean, full_variance = gradients(VariationalLoss())
    torch.testing.assert_close(hybrid_mean, simple_mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(hybrid_variance, full_variance * 1e-3, rtol=1e-5, atol=0)
    assert abs(float(full_mean)) > 1.0
    assert abs(float(hybrid_variance)) > 1e-3


def test_one_network_call():
    x0, eps, t = batch()
    model = gaussian_model(Linear(), learned_variance=True)
    for calls, loss in enumerate((DenoisingLoss(), HybridLoss(), VariationalLoss()), start=1):
        loss(model, x0, eps, t)
        assert model.network.calls == calls


def test_prior_bpd():
    abar, x0 = float(Linear().abar[-1]), torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    expected = 0.5 * (abar * 0.25 - abar - math.log1p(-abar)) / math.log(2)
    assert prior_bpd(Linear(), x0).tolist() == pytest.approx([expected] * 2, rel=1e-6)


@pytest.mark.parametrize("loss", [HybridLoss(), VariationalLoss()], ids=repr)
def test_errors(loss):
    x0, eps, t = batch()
    with pytest.raises(ValueError, match=r"model must learn its variance .*got learned_variance=False; use DenoisingLoss"):
        loss(gaussian_model(Linear()), x0, eps, t)
    with pytest.raises(TypeError, match=r"schedule with discrete steps .* got EDM\("):
        loss(Denoiser(Affine(), EDM(), learned_variance=True), x0, eps, t)


def test_a_bound_needs_a_variance():
    x0, _, t = batch()
    model = gaussian_model(Linear())
    with pytest.raises(ValueError, match="p must hold a learned variance, got variance=None"):
        variational_bound(model, model(x0, t), x0, x0, t)


# --- times


def test_uniform_times_of_a_chain_are_its_steps():
    t = UniformTimes().sample(Linear(T=5), 5000, torch.Generator().manual_seed(0))
    counts = torch.bincount(t.long(), minlength=5)
    assert torch.equal(t, t.floor())
    assert len(counts) == 5
    assert counts.tolist() == pytest.approx([1000] * 5, abs=120)  # four standard deviations


@pytest.mark.parametrize("schedule", [VE(), EDM(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_uniform_times_fill_the_range(schedule):
    t = UniformTimes().sample(schedule, 4000, torch.Generator().manual_seed(0))
    width = schedule.t_max - schedule.t_min
    assert schedule.t_min <= float(t.min()) < float(t.max()) <= schedule.t_max
    assert float((t.mean() - schedule.t_min) / width) == pytest.approx(0.5, abs=0.02)
    assert float(t.std() / width) == pytest.approx(12**-0.5, abs=0.01)


def test_log_normal_times():
    schedule = EDM(sigma_min=1e-4, sigma_max=1e3)
    log_level = LogNormalTimes(-1.2, 1.2).sample(schedule, 8000, torch.Generator().manual_seed(0)).log()
    assert float(log_level.mean()) == pytest.approx(-1.2, abs=0.05)
    assert float(log_level.std()) == pytest.approx(1.2, abs=0.04)


@pytest.mark.parametrize(
    "schedule", [Linear(), VE(), EDM(sigma_min=0.1, sigma_max=1.0), RectifiedFlow()], ids=lambda s: type(s).__name__
)
def test_log_normal_times_stay_in_range(schedule):
    t = LogNormalTimes(0.0, 5.0).sample(schedule, 1000, torch.Generator().manual_seed(0))
    assert float(t.min()) >= schedule.t_min - 1e-9
    assert float(t.max()) <= schedule.t_max + 1e-9


def test_times_follow_the_generator():
    draws = [
        [d.sample(EDM(), 3, torch.Generator().manual_seed(1)).tolist() for _ in range(2)]
        for d in (UniformTimes(), LogNormalTimes())
    ]
    assert all(a == b for a, b in draws)
