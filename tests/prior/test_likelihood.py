"""Likelihoods by the probability-flow ODE, on priors whose density is known."""

import math

import pytest
import torch

from prior.likelihood import Likelihood, log_likelihood
from prior.mixture import GaussianMixture
from prior.schedules import EDM, VE, VP, Linear, RectifiedFlow, SubVP
from tests.prior.gaussian import gaussian_model

T0 = 1e-5
SCHEDULES = {"vp": VP(), "subvp": SubVP(), "ve": VE(sigma_max=50.0), "edm": EDM()}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
MIXTURE = GaussianMixture.random((1, 2, 3), seed=4)


def ends(schedule, x, mean, std):
    """Where the ODE carries ``x`` from T0 when pixels are N(mean, std^2), and the prior density it is given there."""
    (a0, s0), (a1, s1) = ((float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (T0, schedule.t_max))
    scale = math.sqrt((a1**2 * std**2 + s1**2) / (a0**2 * std**2 + s0**2))
    z = a1 * mean + scale * (x - a0 * mean)
    deviation = 1.0 if isinstance(schedule, VP) else s1
    log_prior = torch.distributions.Normal(0.0, deviation).log_prob(z).flatten(1).sum(1)
    return z, log_prior + x[0].numel() * math.log(scale)


# --- the exact trace


@schedules
def test_a_gaussian_in_closed_form(schedule):
    x = 0.3 + 0.5 * torch.randn(3, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = log_likelihood(gaussian_model(schedule, mean=0.3, std=0.5), x, probes="exact", tolerance=1e-8)
    z, log_prob = ends(schedule, x, 0.3, 0.5)
    torch.testing.assert_close(got.z, z, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(got.log_prob, log_prob, rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", [VP(), SubVP(), VE(sigma_min=1e-3, sigma_max=3000.0)], ids=["vp", "subvp", "ve"])
def test_the_density_of_a_mixture(schedule):
    x = MIXTURE.sample(4, seed=1)
    got = log_likelihood(MIXTURE.denoiser(schedule), x, probes="exact", tolerance=1e-8)
    # what is left is the prior: the mixture noised to t_max is not quite N(0, 1), whence up to 0.01 nat
    alpha, sigma = schedule.alpha(schedule.t_max), schedule.sigma(schedule.t_max)
    deviation = 1.0 if isinstance(schedule, VP) else float(sigma)
    log_prior = torch.distributions.Normal(0.0, deviation).log_prob(got.z).flatten(1).sum(1)
    mismatch = log_prior - MIXTURE.log_prob(got.z, alpha, sigma)
    expected = MIXTURE.log_prob(x, schedule.alpha(T0), schedule.sigma(T0)) + mismatch
    torch.testing.assert_close(got.log_prob, expected, rtol=0, atol=1e-4)
    assert float(mismatch.abs().max()) < 0.01
    assert got.standard_error.tolist() == [0, 0, 0, 0]


def test_discrete_steps():
    """The drift jumps at each; one probe is exact, since the pixels are independent."""
    x = 0.3 + 0.5 * torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = log_likelihood(gaussian_model(Linear(T=25)), x, probes=1, tolerance=1e-7)
    torch.testing.assert_close(got.log_prob, ends(Linear(T=25), x, 0.3, 0.5)[1], rtol=0, atol=1e-3)


# --- Hutchinson's


def test_every_sign_pattern_averages_to_the_exact_trace():
    """Over all of {-1, 1}^d the estimate is exact, not only unbiased."""
    x, model = MIXTURE.sample(2, seed=2), MIXTURE.denoiser(VP())
    d = x[0].numel()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * d).view(-1, 1, *x.shape[1:])
    every = log_likelihood(model, x, probes=signs.expand(-1, *x.shape), tolerance=1e-7)
    exact = log_likelihood(model, x, probes="exact", tolerance=1e-7)
    torch.testing.assert_close(every.log_prob, exact.log_prob, rtol=0, atol=1e-5)
    torch.testing.assert_close(every.z, exact.z, rtol=0, atol=1e-5)


def test_probes_are_unbiased_and_the_error_bar_is_right():
    x, model = MIXTURE.sample(2, seed=2), MIXTURE.denoiser(VP())
    exact = log_likelihood(model, x, probes="exact")
    got = log_likelihood(model, x, probes=512, seed=3)
    assert bool((got.standard_error < 0.1).all())
    assert bool((got.standard_error > 1e-3).all())
    assert bool(((got.log_prob - exact.log_prob).abs() < 3 * got.standard_error).all())
    one = log_likelihood(model, x, probes=1, seed=3)
    assert bool(one.standard_error.isnan().all())
    assert 1e-4 < float((one.log_prob - exact.log_prob).abs().max()) < 30 * float(got.standard_error.max())


def test_one_probe_is_exact_on_independent_pixels():
    x = torch.rand(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = gaussian_model(VP())
    one, exact = (log_likelihood(model, x, probes=p, tolerance=1e-8).log_prob for p in (1, "exact"))
    torch.testing.assert_close(one, exact, rtol=0, atol=1e-6)


# --- figures, seeds, dtypes


def test_bits_do_not_depend_on_the_range_of_the_network():
    """The density of 8-bit levels: 256 of them fill [0, 1], and [-1, 1]."""
    x = torch.rand(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = GaussianMixture.random((1, 2, 2), seed=4)
    wide = GaussianMixture(unit.weights, 2 * unit.means - 1, 4 * unit.variances)
    schedule = VE(sigma_min=1e-3, sigma_max=30000.0)
    first = log_likelihood(unit.denoiser(schedule), x, probes="exact", tolerance=1e-7)
    second = log_likelihood(wide.denoiser(schedule, data_range=(-1.0, 1.0)), x, probes="exact", tolerance=1e-7)
    d, nats = 4, math.log(2)
    torch.testing.assert_close(first.bits_per_dim, 8 - first.log_prob / (d * nats), rtol=0, atol=1e-12)
    torch.testing.assert_close(second.bits_per_dim, 7 - second.log_prob / (d * nats), rtol=0, atol=1e-12)
    torch.testing.assert_close(first.bits_per_dim, second.bits_per_dim, rtol=0, atol=1e-3)
    levels = -unit.log_prob(x) / nats / d + math.log2(256)
    torch.testing.assert_close(first.bits_per_dim, levels, rtol=0, atol=1e-3)


def test_the_condition_moves_the_density():
    x = torch.rand(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    condition = torch.full((2, 1, 1, 1), 0.8, dtype=torch.float64)
    got = log_likelihood(gaussian_model(VP(), mean=0.3), x, probes=1, condition=condition).log_prob
    assert torch.equal(got, log_likelihood(gaussian_model(VP(), mean=0.8), x, probes=1).log_prob)


def test_network_evaluations_are_counted():
    model = gaussian_model(VP())
    got = log_likelihood(model, torch.rand(2, 1, 2, 2, dtype=torch.float64), probes=3)
    assert isinstance(got, Likelihood)
    assert got.evaluations == model.network.calls > 20


def test_seeds_belong_to_members():
    x, model = MIXTURE.sample(2, seed=5), MIXTURE.denoiser(VP())
    batch = log_likelihood(model, x, probes=2, seed=7, tolerance=1e-8)
    assert torch.equal(batch.log_prob, log_likelihood(model, x, probes=2, seed=7, tolerance=1e-8).log_prob)
    alone = log_likelihood(model, x[1:], probes=2, seed=8, tolerance=1e-8)
    torch.testing.assert_close(batch.log_prob[1:], alone.log_prob, rtol=0, atol=1e-5)
    other = log_likelihood(model, x, probes=2, seed=9, tolerance=1e-8)
    assert float((batch.log_prob - other.log_prob).abs().min()) > 1e-4


def test_a_network_in_single_precision_is_integrated_in_double():
    x, model = MIXTURE.sample(2, seed=5), MIXTURE.denoiser(VP())
    single, double = (log_likelihood(model, image, probes="exact") for image in (x.float(), x))
    assert single.log_prob.dtype == single.z.dtype == torch.float64
    torch.testing.assert_close(single.log_prob, double.log_prob, rtol=0, atol=1e-2)
    assert not x.requires_grad


# --- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probes": 0}, "probes must be at least 1, got 0"),
        ({"probes": "all"}, "probes must be a number, a tensor or 'exact', got 'all'"),
        ({"probes": torch.ones(2, 1, 3, 3)}, r"probes must have shape \(P, 2, 1, 3, 3\), got \(2, 1, 3, 3\)"),
        ({"t0": 1.0}, r"t0 must lie in \(0, 1\), got 1\.0"),
        ({"t0": 0.0}, r"t0 must lie in \(0, 1\), got 0\.0"),
        ({"tolerance": 0.0}, r"tolerance must be positive, got 0\.0"),
    ],
    ids=str,
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        log_likelihood(gaussian_model(VP()), torch.rand(2, 1, 3, 3), **settings)


def test_too_many_pixels_for_the_trace():
    with pytest.raises(ValueError, match="probes='exact' is for at most 4096 pixels, got 4225; take a number of probes"):
        log_likelihood(gaussian_model(VP()), torch.rand(1, 1, 65, 65), probes="exact")


def test_an_infinite_drift():
    with pytest.raises(ValueError, match="the schedule must have a finite drift at t_max, got RectifiedFlow"):
        log_likelihood(gaussian_model(RectifiedFlow()), torch.rand(1, 1, 2, 2))
