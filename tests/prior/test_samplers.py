"""Samplers on a Gaussian prior, where the answer is known; costs, seeds, guidance, inversion, errors."""

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
import torch

from prior.denoiser import EDMHead, NoiseHead, VelocityHead
from prior.randomness import MemberNoise
from prior.samplers import DDIM, DDPM, Heun, Sampler
from prior.schedules import EDM, VE, VP, Cosine, Linear, RectifiedFlow
from prior.transition import Transition
from tests.prior.gaussian import gaussian_model

MEAN, STD = 0.3, 0.5
SHAPE = (4, 1, 64, 64)  # 16384 draws: the mean is known to 0.004, the deviation to 0.0028
SAMPLERS = {
    "ddpm": (DDPM(steps=6, clip=False), 6),
    "ddim": (DDIM(steps=6, clip=False), 6),
    "ddim-eta": (DDIM(steps=6, eta=0.7, clip=False), 6),
    "heun": (Heun(steps=6), 11),
    "heun-churn": (Heun(steps=6, S_churn=3.0), 11),
}
samplers = pytest.mark.parametrize(("sampler", "calls"), SAMPLERS.values(), ids=SAMPLERS.keys())
MODELS = {
    "linear": (Linear(), NoiseHead()),
    "cosine": (Cosine(), NoiseHead()),
    "edm": (EDM(), EDMHead()),
    "ve": (VE(), NoiseHead()),
}
models = pytest.mark.parametrize(("schedule", "head"), MODELS.values(), ids=MODELS.keys())


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_prior(x, mean=MEAN, std=STD, tol=0.015):
    assert float(x.mean()) == pytest.approx(mean, abs=tol)
    assert float(x.std()) == pytest.approx(std, abs=tol)


def ode_end(schedule, x, t):
    """Where the probability-flow ODE carries ``x`` at time ``t`` when the prior is N(MEAN, STD^2)."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return MEAN + STD * (x - alpha * MEAN) / torch.sqrt(alpha**2 * STD**2 + sigma**2)


# --- what they converge to


@models
@pytest.mark.parametrize(
    "sampler",
    [DDPM(steps=300, clip=False, spacing="log_snr"), DDIM(steps=400, clip=False, spacing="log_snr"), Heun(steps=100)],
    ids=lambda s: type(s).__name__,
)
def test_reaches_the_prior(schedule, head, sampler):
    assert_prior(sampler.sample(gaussian_model(schedule, head), SHAPE, seed=1))


@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_all_thousand_ancestral_steps(variance):
    assert_prior(DDPM(steps=1000, variance=variance, clip=False).sample(gaussian_model(Linear()), SHAPE, seed=2))


def test_a_learned_variance_is_exact_where_a_fixed_one_is_not():
    schedule = Linear().respace(10)
    exact = DDPM(steps=10, clip=False).sample(gaussian_model(schedule, learned_variance=True), SHAPE, seed=3)
    assert_prior(exact)
    fixed = DDPM(steps=10, clip=False).sample(gaussian_model(schedule), SHAPE, seed=3)
    assert float(fixed.std()) < STD - 0.03


@models
def test_ddim_follows_the_ode(schedule, head):
    model = gaussian_model(schedule, head)
    errors = []
    for steps in (100, 200, 400):
        times = DDIM(steps=steps, spacing="log_snr").times(schedule)
        x = float(schedule.sigma(times[0])) * double((1, 1, 16, 16))
        got = DDIM(clip=False).walk(model, x, times)
        errors.append(float((got - ode_end(schedule, x, times[0])).abs().max()))
    assert errors[2] < 0.02
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([1, 1], abs=0.15)


@models
def test_heun_is_of_second_order(schedule, head):
    model = gaussian_model(schedule, head)
    high, low = min(50.0, float(schedule.level(schedule.t_max))), 0.05
    errors = []
    for steps in (20, 40, 80):
        levels = torch.linspace(high ** (1 / 7), low ** (1 / 7), steps + 1, dtype=torch.float64) ** 7
        times = schedule.time(levels)
        x = float(schedule.sigma(times[0])) * double((1, 1, 16, 16))
        got = Heun().walk(model, x, times)
        alpha, sigma = schedule.alpha(times[-1]), schedule.sigma(times[-1])
        scale = torch.sqrt(alpha**2 * STD**2 + sigma**2) / STD
        expected = alpha * MEAN + scale * (ode_end(schedule, x, times[0]) - MEAN)
        errors.append(float((got - expected).abs().max()))
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([2, 2], abs=0.2)


@pytest.mark.parametrize(
    "sampler", [DDIM(steps=50, spacing="uniform", clip=False), DDPM(steps=200, spacing="uniform", clip=False)]
)
def test_a_flow_starts_where_there_is_no_signal(sampler):
    assert_prior(sampler.sample(gaussian_model(RectifiedFlow(), VelocityHead()), SHAPE), tol=0.02)


def test_churn_keeps_the_prior():
    x = Heun(steps=60, S_churn=20.0, S_min=0.05, S_max=50.0).sample(gaussian_model(EDM(), EDMHead()), SHAPE)
    assert_prior(x)


# --- single steps against their formulas


def test_ddim_step():
    schedule, t, s, x, z, eta = Linear(), 500.0, 480.0, double((2, 1, 3, 3)), double((2, 1, 3, 3), 1), 0.6
    model = gaussian_model(schedule)
    p = model(x, t)
    abar, prev = schedule.abar[500], schedule.abar[480]
    sig = eta * torch.sqrt((1 - prev) / (1 - abar)) * torch.sqrt(1 - abar / prev)
    expected = prev.sqrt() * p.x0 + torch.sqrt(1 - prev - sig**2) * p.eps + sig * z
    torch.testing.assert_close(DDIM(eta=eta, clip=False).step(model, x, t, s, z), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [1.0, 40.0, 999.0])
def test_ddim_with_eta_one_is_ancestral(t):
    schedule, x, z = Linear(), double((2, 1, 3, 3)), double((2, 1, 3, 3), 1)
    model = gaussian_model(schedule)
    implicit, ancestral = (s.step(model, x, t, t - 1, z) for s in (DDIM(eta=1.0, clip=False), DDPM(clip=False)))
    torch.testing.assert_close(implicit, ancestral, rtol=0, atol=1e-11)
    spread = implicit - DDIM(eta=1.0, clip=False).step(model, x, t, t - 1, 0 * z)
    torch.testing.assert_close(spread, schedule.posterior_variance[int(t)].sqrt() * z, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(eta=1.0), DDPM(), DDPM(variance=1.0)], ids=repr)
def test_last_step_is_the_clipped_clean_image_without_noise(sampler):
    model, x = gaussian_model(Linear(), mean=0.9), double((2, 1, 5, 5))
    expected = model(x, 0.0).x0.clamp(0, 1)
    got = sampler.step(model, x, torch.tensor(0.0), torch.tensor(-1.0), double((2, 1, 5, 5), 1))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_fixed_variances():
    schedule, x = Linear(), double((2, 1, 3, 3))
    model, t = gaussian_model(schedule), torch.tensor([700.0, 0.0])
    small, large = (DDPM(variance=v).mean_and_log_variance(model, x, t, t - 1)[1].flatten() for v in (0.0, 1.0))
    torch.testing.assert_close(small, schedule.posterior_log_variance[[700, 0]], rtol=1e-9, atol=0)
    torch.testing.assert_close(large, schedule.betas[[700, 0]].log(), rtol=1e-9, atol=0)


def test_heun_step_of_edm():
    model, x, t, s = gaussian_model(EDM(), EDMHead()), double((1, 1, 4, 4)), torch.tensor(3.0), torch.tensor(2.0)
    d = (x - model(x, t).x0) / 3
    euler = x - d
    expected = x - (d + (euler - model(euler, s).x0) / 2) / 2
    torch.testing.assert_close(Heun().step(model, x, t, s, None), expected, rtol=0, atol=1e-9)
    last = Heun().step(model, x, t, torch.tensor(0.0), None)
    torch.testing.assert_close(last, model(x, t).x0, rtol=0, atol=1e-9)


def test_churn_raises_the_level_first():
    model, x, z = gaussian_model(EDM(), EDMHead()), double((1, 1, 4, 4)), double((1, 1, 4, 4), 1)
    t, s = torch.tensor(3.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    churn = Heun(steps=10, S_churn=2.0, S_noise=1.5)
    hat = 3.0 * 1.2
    x_hat = x + 1.5 * math.sqrt(hat**2 - 9) * z
    expected = Heun().step(model, x_hat, t * 1.2, s, None)
    torch.testing.assert_close(churn.step(model, x, t, s, z), expected, rtol=0, atol=1e-9)
    outside = Heun(steps=10, S_churn=2.0, S_max=2.9)
    torch.testing.assert_close(outside.step(model, x, t, s, z), Heun().step(model, x, t, s, None), rtol=0, atol=0)
    most = Heun(steps=1, S_churn=50.0)
    at_most = Heun().step(model, x + 3 * z, t * math.sqrt(2), s, None)
    torch.testing.assert_close(most.step(model, x, t, s, z), at_most, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "t", "s"), [(Linear(), 600.0, 590.0), (VE(), 0.7, 0.4), (EDM(), 3.0, 1.0), (RectifiedFlow(), 0.8, 0.5)]
)
def test_transition_keeps_the_marginal(schedule, t, s):
    q = Transition.between(schedule, t, s, torch.zeros(1, dtype=torch.float64))
    assert float(q.c1 + q.c2 * schedule.alpha(t)) == pytest.approx(float(schedule.alpha(s)), rel=1e-10)
    assert float(q.c2 * schedule.sigma(t)) ** 2 + float(q.variance) == pytest.approx(float(schedule.sigma(s)) ** 2, rel=1e-10)
    assert float(q.log_variance.exp()) == pytest.approx(float(q.variance), rel=1e-10)


# --- costs, seeds, batches


@samplers
@models
def test_evaluations_of_the_network(sampler, calls, schedule, head):
    model, seen = gaussian_model(schedule, head), []
    x = sampler.sample(model, (1, 1, 4, 4), progress=lambda done, total: seen.append((done, total)))
    assert model.network.calls == calls
    assert seen == [(i, 6) for i in range(1, 7)]
    assert x.shape == (1, 1, 4, 4)
    assert bool(x.isfinite().all())


@samplers
def test_same_seed_same_bytes_and_a_batch_is_its_members(sampler, calls):
    model = gaussian_model(Linear())
    batch = sampler.sample(model, (3, 1, 8, 8), seed=5)
    assert torch.equal(batch, sampler.sample(model, (3, 1, 8, 8), seed=5))
    for i in range(3):
        assert torch.equal(batch[i : i + 1], sampler.sample(model, (1, 1, 8, 8), seed=5 + i))
    assert float((batch[0] - batch[1]).abs().max()) > 0.1


def test_the_global_seed_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    DDPM(steps=3).sample(gaussian_model(Linear()), (2, 1, 4, 4))
    assert torch.equal(torch.rand(3), expected)


def test_member_noise():
    noise = MemberNoise(seed=7, count=2)
    first, second = noise(torch.empty(2, 3, 4)), noise(torch.empty(2, 3, 4, dtype=torch.float64))
    g = torch.Generator().manual_seed(8)
    assert torch.equal(first[1], torch.randn(1, 3, 4, generator=g)[0])
    assert torch.equal(second[1], torch.randn(1, 3, 4, generator=g)[0].double())
    with pytest.raises(ValueError, match="like must have 2 members, one a generator, got 3"):
        noise(torch.empty(3, 1))


def test_images_come_back_in_the_unit_range():
    model = gaussian_model(Linear(), mean=0.0, std=0.4)
    model.data_range = (-1.0, 1.0)
    assert_prior(Heun(steps=30).sample(model, SHAPE), mean=0.5, std=0.2, tol=0.006)


def test_condition_chooses_the_mean():
    condition = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1)
    x = Heun(steps=12).sample(gaussian_model(EDM(), EDMHead(), std=0.05), (2, 1, 32, 32), condition=condition)
    assert x.mean((1, 2, 3)).tolist() == pytest.approx([0.1, 0.9], abs=0.01)


def test_spacing_follows_the_schedule():
    assert DDIM(steps=4).times(Linear()).tolist() == [999, 749, 499, 249, -1]
    assert DDIM(steps=4).times(VP()).tolist() == DDIM(steps=4, spacing="quadratic").times(VP()).tolist()
    assert DDIM(steps=4).times(EDM()).tolist() == Heun(steps=4).times(EDM()).tolist()
    assert Heun(steps=4).times(Linear()).tolist() == DDIM(steps=4, spacing="karras").times(Linear()).tolist()
    assert DDIM(steps=4, spacing="leading").times(Linear()).tolist() == [750, 500, 250, 0, -1]


# --- guidance


def likelihood(schedule, y, noise):
    """The exact gradient of log p(y | x_t) when y = x0 + noise z and the prior is N(MEAN, STD^2)."""

    def guidance(x, t):
        alpha, sigma = (f(t).to(x).view(-1, 1, 1, 1) for f in (schedule.alpha, schedule.sigma))
        total = alpha**2 * STD**2 + sigma**2
        gain = STD**2 * alpha / total
        variance = STD**2 * sigma**2 / total
        return gain * (y - MEAN - gain * (x - alpha * MEAN)) / (variance + noise**2)

    return guidance


@pytest.mark.parametrize(
    "sampler",
    [DDPM(steps=1000, clip=False), DDIM(steps=300, clip=False, spacing="log_snr"), Heun(steps=40)],
    ids=lambda s: type(s).__name__,
)
def test_exact_guidance_samples_the_posterior(sampler):
    y, noise = 1.1, 0.4
    x = sampler.sample(gaussian_model(Linear()), SHAPE, guidance=likelihood(Linear(), y, noise))
    precision = 1 / STD**2 + 1 / noise**2
    assert_prior(x, mean=(MEAN / STD**2 + y / noise**2) / precision, std=precision**-0.5)


def test_guidance_shifts():
    schedule, x, z, g = Linear(), double((2, 1, 3, 3)), double((2, 1, 3, 3), 1), double((2, 1, 3, 3), 2)
    model, t, s = gaussian_model(schedule), torch.tensor(300.0), torch.tensor(299.0)
    shift = DDPM().step(model, x, t, s, z, lambda x, t: g) - DDPM().step(model, x, t, s, z)
    torch.testing.assert_close(shift, schedule.posterior_variance[300] * g, rtol=0, atol=1e-12)
    p, alpha, sigma = model(x, t).clip(0, 1), schedule.alpha(s), schedule.sigma(s)
    eps = p.eps - p.sigma * g
    expected = alpha * (x - p.sigma * eps) / p.alpha + sigma * eps
    torch.testing.assert_close(DDIM().step(model, x, t, s, None, lambda x, t: g), expected, rtol=0, atol=1e-12)


def test_guidance_reads_the_times_of_the_network():
    seen = []

    def guidance(x, t):
        seen.append(t.tolist())
        return torch.zeros_like(x)

    DDIM(steps=2).sample(gaussian_model(Linear().respace(2)), (2, 1, 2, 2), guidance=guidance)
    assert seen == [[999.0, 999.0], [0.0, 0.0]]


@samplers
def test_guidance_must_have_the_shape_of_x(sampler, calls):
    with pytest.raises(ValueError, match=r"guidance must return the shape of x, \(1, 1, 2, 2\), got \(1,\)"):
        sampler.sample(gaussian_model(Linear()), (1, 1, 2, 2), guidance=lambda x, t: t)


def test_guidance_needs_some_signal():
    model = gaussian_model(RectifiedFlow(), VelocityHead())
    zero = lambda x, t: torch.zeros_like(x)  # noqa: E731
    with pytest.raises(ValueError, match=r"guidance needs alpha > 0, .*, got t = 1 of RectifiedFlow\(.*use the karras"):
        DDIM(steps=3, spacing="uniform").sample(model, (1, 1, 2, 2), guidance=zero)
    assert bool(DDIM(steps=3).sample(model, (1, 1, 2, 2), guidance=zero).isfinite().all())


# --- inversion


def test_inversion_comes_back():
    model, image = gaussian_model(Linear()), MEAN + STD * double((1, 1, 16, 16))
    errors = []
    for steps in (50, 200, 800):
        ddim = DDIM(steps=steps, clip=False)
        noise = ddim.invert(model, image)
        errors.append(float((ddim.walk(model, noise, ddim.times(model.schedule)) - image).abs().max()))
    assert errors[2] < 0.02
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert_prior(noise, mean=0.0, std=1.0, tol=0.15)  # 256 pixels


def test_inversion_costs_one_evaluation_less():
    model = gaussian_model(Linear())
    DDIM(steps=9, clip=False).invert(model, double((1, 1, 2, 2)))
    assert model.network.calls == 8


def test_inversion_needs_a_deterministic_sampler():
    with pytest.raises(ValueError, match=r"eta must be 0 to invert, .* got 0\.5"):
        DDIM(eta=0.5).invert(gaussian_model(Linear()), double((1, 1, 2, 2)))


# --- values and errors


@samplers
def test_samplers_are_values(sampler, calls):
    assert eval(repr(sampler), {"inf": math.inf, **globals()}) == sampler
    with pytest.raises(FrozenInstanceError):
        sampler.steps = 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDIM(eta=1.5), r"eta must lie in \[0, 1\], .* got 1\.5"),
        (lambda: DDPM(variance=-1.0), r"variance must lie in \[0, 1\], .* got -1\.0"),
        (lambda: Heun(S_churn=-1.0), r"S_churn must be at least 0, got -1\.0"),
        (lambda: DDIM(steps=0).times(Linear()), "steps must be at least 1, got 0"),
        (
            lambda: DDIM().sample(gaussian_model(Linear()), (3,)),
            r"shape must be \(B, C, H, W\) with positive sizes, got \(3,\)",
        ),
        (lambda: DDIM().sample(gaussian_model(Linear()), (0, 1, 2, 2)), r"shape must be .* got \(0, 1, 2, 2\)"),
        (
            lambda: DDPM().walk(gaussian_model(Linear()), torch.zeros(2, 1), torch.tensor([1.0, 0.0])),
            r"noise must be given, .*MemberNoise\(seed, 2\)",
        ),
        (
            lambda: Heun(spacing="uniform").sample(gaussian_model(RectifiedFlow(), VelocityHead()), (1, 1, 2, 2)),
            "every time must have a finite noise level, got t = 1 of RectifiedFlow",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("sampler", [DDPM(), DDIM(eta=0.5), Heun(S_churn=1.0)], ids=lambda s: type(s).__name__)
def test_a_stochastic_step_needs_noise(sampler):
    with pytest.raises(ValueError, match="noise must be given"):
        sampler.step(gaussian_model(Linear()), torch.zeros(1, 1, 2, 2), torch.tensor(9.0), torch.tensor(8.0), None)


def test_a_discrete_spacing_over_continuous_time():
    with pytest.raises(TypeError, match="the trailing grid needs a schedule with discrete steps"):
        DDIM(spacing="trailing").sample(gaussian_model(EDM()), (1, 1, 2, 2))


def test_a_sampler_without_a_method_says_which():
    with pytest.raises(NotImplementedError, match="Sampler must define stochastic"):
        _ = Sampler().stochastic
    with pytest.raises(NotImplementedError, match="Sampler must define step"):
        Sampler().step(gaussian_model(Linear()), torch.zeros(1, 1), torch.tensor(1.0), torch.tensor(0.0), None)
