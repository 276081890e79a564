"""The mean-reverting diffusion: closed forms of its schedule, Bayes' rule, orders of convergence, shifts, the training loss."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from prior.denoiser import Denoiser, ImageHead, NoiseHead
from prior.grids import grid
from prior.mean_reverting_loss import StepTimes, mean_reverting_loss
from prior.mixture import GaussianMixture
from prior.samplers import DDIM, IRSDE, MRS, DPMSolver, restore
from prior.samplers.mean_reverting import reverse_mean
from prior.schedules import EDM, VE, VP, MeanReverting, RectifiedFlow, Schedule
from tests.prior.flow import probability_flow
from tests.prior.shifted import shifted_denoiser

MIXTURE = GaussianMixture.random((1, 3, 3), seed=5)
SCHEDULES = {
    "ir-sde": MeanReverting(),
    "mrs": MeanReverting(offset=False),
    "linear": MeanReverting(T=30, theta="linear", max_sigma=0.3, eps=0.01),
    "constant": MeanReverting(T=40, theta="constant", max_sigma=10, offset=False),
}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
MODES = [(mode, prediction) for mode in ("ode", "sde") for prediction in ("data", "noise")]


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-10):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- with other schedules and samplers


@pytest.mark.parametrize("schedule", [VP(), VE(), EDM(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_mrs_is_a_sampler_of_any_schedule(schedule):
    model = MIXTURE.denoiser(schedule)
    assert torch.equal(MRS(steps=8).times(schedule), grid(schedule, 8))
    assert bool(MRS(steps=8).sample(model, (2, 1, 3, 3)).isfinite().all())
    y = schedule.sigma(schedule.t_max / 2) * double((2, 1, 3, 3))
    times = grid(schedule, 8, "log_snr")
    close(MRS(order=1).walk(model, y, times), DPMSolver(order=1).walk(model, y, times), 1e-9)


def test_a_sampler_that_clips_does_not_restore():
    model = shifted_denoiser(MIXTURE, MeanReverting())
    with pytest.raises(ValueError, match=r"sampler must not clip.* got DDIM\(.*\); set clip=False"):
        restore(DDIM(steps=5), model, torch.zeros(1, 1, 3, 3))


# --- the schedule


def test_official_numbers():
    assert MeanReverting().dt == pytest.approx(0.1040938, abs=1e-7)
    assert MeanReverting(offset=False).dt == pytest.approx(0.1040926, abs=1e-7)
    assert float(MeanReverting(offset=False).alpha(0)) == pytest.approx(0.99994, abs=1e-5)
    assert MeanReverting(max_sigma=50).sigma_inf == 50 / 255
    assert MeanReverting(max_sigma=0.3).sigma_inf == 0.3


@every
def test_ends_and_whole_times(schedule):
    assert float(schedule.alpha(schedule.T)) == pytest.approx(schedule.eps, rel=1e-12)
    assert (float(schedule.alpha(schedule.clean)), float(schedule.sigma(schedule.clean))) == (1.0, 0.0)
    t = torch.arange(schedule.clean, schedule.T + 1, dtype=torch.float64)
    close(schedule.alpha(t) ** 2 + (schedule.sigma(t) / schedule.sigma_inf) ** 2, torch.ones_like(t))
    steps = schedule.thetas[1:] * schedule.dt
    close(torch.log(schedule.alpha(t[t >= 0][:-1]) / schedule.alpha(t[t >= 1])), steps)
    assert len(schedule.thetas) == schedule.T + 1


def test_thetas():
    close(MeanReverting(T=9, theta="linear").thetas[[0, -1]], [0.01, 2.0])
    t = torch.arange(11)
    close(MeanReverting(T=10, theta="constant").alpha(t), 0.005 ** (t.double() / 10))
    cosine = MeanReverting(T=98).thetas  # n = 100
    a = [math.cos((i / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in (0, 1, 99)]
    close(cosine[[0, -1]], [1 - a[1] / a[0], 1 - a[2] / a[0]])


@every
def test_between_whole_times(schedule):
    t = torch.tensor([3.0, 3.25, 4.0])
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    close(alpha[1], 0.75 * alpha[0] + 0.25 * alpha[2])
    close(sigma[1], 0.75 * sigma[0] + 0.25 * sigma[2])
    times = schedule.clean + (schedule.T - schedule.clean) * torch.rand(200, dtype=torch.float64)
    close(schedule.time(schedule.level(times)), times, 1e-9)
    close(schedule.time(torch.tensor([0.0, 1e9])), [schedule.clean, schedule.T])


@every
def test_forward_sde(schedule):
    t, h = torch.arange(schedule.T, dtype=torch.float64) + 0.4, 1e-5
    slope = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2 * h)
    close(schedule.drift(t), slope / schedule.alpha(t), 1e-6)
    variance = (schedule.sigma(t + h) ** 2 - schedule.sigma(t - h) ** 2) / (2 * h)
    close(schedule.diffusion(t) ** 2, variance - 2 * schedule.drift(t) * schedule.sigma(t) ** 2, 1e-6)


@every
def test_is_a_value(schedule):
    assert eval(repr(schedule)) == schedule
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.T = 3
    for spacing in ("uniform", "karras", "log_snr"):
        times = grid(schedule, 7, spacing)
        assert (len(times), float(times[-1])) == (8, schedule.clean)
        assert bool((times.diff() < 0).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"T": 0}, "T must be at least 1, got 0"),
        ({"theta": "sigmoid"}, "theta must be one of cosine, linear, constant, got 'sigmoid'"),
        ({"max_sigma": 0}, "max_sigma must be positive and finite, got 0"),
        ({"eps": 1.0}, "eps, .* must lie strictly between 0 and 1, got 1.0"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        MeanReverting(**arguments)


def test_times_out_of_range():
    with pytest.raises(ValueError, match=r"t must lie in \[0, 100\], got -0.5..3"):
        MeanReverting().alpha(torch.tensor([-0.5, 3]))


# --- one step


@pytest.mark.parametrize(("t", "s"), [(100, 99), (40, 39), (90, 30), (1, 0)])
def test_posterior_step_is_bayes_rule(t, s):
    """Of y_s ~ N(alpha_s y_0, sigma_s^2), observed through y_t = A y_s + noise."""
    schedule = MeanReverting()
    y0, y, eps = 0.4, double((1, 1, 3, 3)), double((1, 1, 3, 3), 1)
    A, C, B = float(schedule.alpha(t) / schedule.alpha(s)), float(schedule.alpha(s)), float(schedule.alpha(t))
    added = schedule.sigma_inf**2 * (1 - A**2)
    model = Denoiser(_Constant(y0), schedule, ImageHead(), data_range=(0.0, 1.0))
    mean, noisy = (IRSDE().step(model, y, torch.tensor(t), torch.tensor(s), z, None) for z in (torch.zeros_like(eps), eps))
    paper = A * (1 - C**2) / (1 - B**2) * y + C * (1 - A**2) / (1 - B**2) * y0
    close(mean, paper)
    variance = float(schedule.sigma(s)) ** 2
    if variance > 0:
        precision = 1 / variance + A**2 / added
        close(mean, (C * y0 / variance + A * y / added) / precision)
        close(noisy - mean, eps / precision**0.5)
    else:
        close(noisy, torch.full_like(y, y0))


class _Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.calls = value, 0

    def forward(self, x, t, condition=None):
        self.calls += 1
        return torch.full_like(x, self.value)


def test_euler_steps():
    """One whole step of the reverse SDE in the authors' letters, and the flow, with half the score."""
    schedule, y, eps = MeanReverting(max_sigma=30), double((2, 1, 2, 2)), double((2, 1, 2, 2), 1)
    t = torch.tensor([60, 7])
    theta, sigma_bar = (c.view(2, 1, 1, 1) for c in (schedule.thetas[t], schedule.sigma(t)))
    for share in (1.0, 0.5):
        reverse = -theta * y + share * 2 * schedule.sigma_inf**2 * theta / sigma_bar * eps
        close(reverse_mean(schedule, y, eps, t, t - 1, share=share), y - reverse * schedule.dt)


# --- whole walks


def test_samples_of_a_gaussian_have_its_moments():
    """x_0 ~ N(0.6, 0.1^2), whatever the degraded image."""
    count = 15000
    mixture = GaussianMixture(torch.ones(1), torch.full((1, 1), 0.6).double(), torch.full((1, 1), 0.01).double())
    mu = torch.full((count, 1), 0.3, dtype=torch.float64)
    times = torch.linspace(100, 0, 101, dtype=torch.float64)
    walks = {
        "posterior": IRSDE(),
        "sde": IRSDE(mode="sde"),
        "mrs-data": MRS(mode="sde"),
        "mrs-noise": MRS(mode="sde", prediction="noise"),
    }
    exact = shifted_denoiser(mixture, MeanReverting(), mu)
    start = MeanReverting().alpha(100) * (mixture.sample(count) - mu) + MeanReverting().sigma(100) * double((count, 1))
    for name, sampler in walks.items():
        generator = torch.Generator().manual_seed(3)
        noise = iter(torch.randn(100, count, 1, dtype=torch.float64, generator=generator))
        x = mu + sampler.walk(exact, start, times, noise=lambda like, draws=noise: next(draws))
        assert float(x.mean()) == pytest.approx(0.6, abs=0.006), name
        assert float(x.std()) == pytest.approx(0.1, abs=0.006), name


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2])
def test_order_of_convergence(order, prediction):
    schedule, mu = MeanReverting(T=100, max_sigma=50, offset=False), 0.4 * double((2, 1, 3, 3), 2)
    model = shifted_denoiser(MIXTURE, schedule, mu)
    high, low = float(schedule.level(100)), float(schedule.level(0))
    y = schedule.sigma_inf * double((2, 1, 3, 3), 1)
    unscaled = shifted_denoiser(MIXTURE, EDM(), mu)
    truth = schedule.alpha(0) * probability_flow(unscaled, y / schedule.alpha(100), high, low)
    errors = []
    for N in (64, 128, 256):
        times = schedule.time(torch.logspace(math.log10(high), math.log10(low), N + 1, dtype=torch.float64))
        got = MRS(order=order, prediction=prediction).walk(model, y, times)
        errors.append(float((got - truth).square().mean().sqrt()))
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([order, order], abs=0.12)


@pytest.mark.parametrize("sampler", [MRS(steps=6, prediction="noise", order=1), MRS(steps=6, order=1)], ids=["noise", "data"])
def test_first_order_is_ddim(sampler):
    model, mu = shifted_denoiser(MIXTURE, MeanReverting()), torch.rand(2, 1, 3, 3, dtype=torch.float64)
    wanted = restore(DDIM(steps=6, clip=False, spacing="log_snr"), model, mu)
    close(dataclasses.replace(sampler, spacing="log_snr").restore(model, mu), wanted)


@pytest.mark.parametrize(
    "sampler", [MRS(steps=5), MRS(steps=5, mode="sde"), IRSDE(steps=5), IRSDE(steps=5, mode="ode")], ids=repr
)
def test_shift_invariance(sampler):
    """Walking y and adding mu; and moving prior and degraded image together moves the answer."""
    schedule, mu = MeanReverting(), torch.rand(2, 1, 3, 3, dtype=torch.float64)
    out = sampler.restore(shifted_denoiser(MIXTURE, schedule), mu, seed=3)
    moved = GaussianMixture(MIXTURE.weights, MIXTURE.means + 0.7, MIXTURE.variances)
    close(sampler.restore(shifted_denoiser(moved, schedule), mu + 0.7, seed=3), out + 0.7)
    again = sampler.restore(shifted_denoiser(MIXTURE, schedule), mu, seed=3)
    assert torch.equal(out, again)
    alone = sampler.restore(shifted_denoiser(MIXTURE, schedule), mu[1:], seed=4)
    close(out[1:], alone)


@pytest.mark.parametrize("sampler", [MRS(), MRS(steps=4, mode="sde"), IRSDE(steps=12), IRSDE(steps=3, mode="ode")], ids=repr)
def test_costs_one_evaluation_a_step(sampler):
    network, seen = _Constant(0.0), []
    sampler.restore(
        Denoiser(network, MeanReverting(), NoiseHead(), data_range=(0.0, 1.0)),
        torch.rand(1, 1, 4, 4),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert network.calls == sampler.steps
    assert seen[-1] == (sampler.steps, sampler.steps)


@pytest.mark.parametrize(("mode", "prediction"), MODES)
@pytest.mark.parametrize("offset", [True, False])
def test_last_step_is_the_clean_image(mode, prediction, offset):
    """Whatever came before: no NaN from an infinite lambda, and no noise left."""
    schedule = MeanReverting(offset=offset)
    model = Denoiser(_Constant(0.25), schedule, ImageHead(), data_range=(0.0, 1.0))
    mu = torch.rand(1, 1, 4, 4)
    out = MRS(mode=mode, prediction=prediction, lower_order_final="never").restore(model, mu)
    close(out, mu + 0.25, 1e-6)


def test_which_steps_are_of_lower_order():
    assert MRS().orders(10) == [1, *[2] * 9]
    assert MRS().orders(5) == [1, 2, 2, 2, 1]
    assert MRS(official=True).orders(5) == [1, 2, 2, 1, 2]
    assert MRS(lower_order_final="never").orders(3) == [1, 2, 2]
    assert MRS(lower_order_final="always").orders(12) == [1, *[2] * 10, 1]
    assert MRS(order=1).orders(4) == [1] * 4


def test_interpolated_lambda_differs_only_between_whole_times():
    schedule, mu = MeanReverting(offset=False), torch.rand(1, 1, 3, 3, dtype=torch.float64)
    model, y = shifted_denoiser(MIXTURE, schedule, mu), schedule.sigma_inf * double((1, 1, 3, 3))
    for times, least, most in ((torch.linspace(100, 0, 11), 0, 1e-12), (torch.linspace(100, 0.5, 11), 1e-5, 5e-2)):
        exact, official = (MRS(official=o).walk(model, y, times.double()) for o in (False, True))
        assert least <= float((exact - official).abs().max()) <= most


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IRSDE(mode="ddim"), "mode must be 'posterior', 'sde' or 'ode', got 'ddim'"),
        (lambda: MRS(order=3), "order must be 1 or 2, got 3"),
        (lambda: MRS(mode="posterior"), "mode must be 'ode' or 'sde', got 'posterior'"),
        (lambda: MRS(prediction="v"), "prediction must be 'data' or 'noise', got 'v'"),
        (lambda: MRS(lower_order_final="yes"), "lower_order_final must be 'auto', 'always' or 'never', got 'yes'"),
    ],
)
def test_bad_samplers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_mismatches_are_refused():
    mu = torch.rand(1, 1, 3, 3, dtype=torch.float64)
    right, wrong = shifted_denoiser(MIXTURE, MeanReverting()), shifted_denoiser(MIXTURE, VP())
    with pytest.raises(TypeError, match=r"model must have a MeanReverting schedule.*got VP"):
        IRSDE().restore(wrong, mu)
    with pytest.raises(TypeError, match="model must have a MeanReverting schedule"):
        IRSDE().step(shifted_denoiser(MIXTURE, VP(), mu), mu, torch.tensor(0.5), torch.tensor(0.4), mu)
    with pytest.raises(ValueError, match=r"degraded must be \(B, C, H, W\), floating point in \[0, 1\], got torch.uint8"):
        MRS().restore(right, torch.zeros(1, 1, 3, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        MRS(steps=0).restore(right, mu)
    with pytest.raises(ValueError, match="official needs a finite lambda at every time"):
        MRS(official=True).restore(right, mu)
    with pytest.raises(ValueError, match="noise must be given"):
        MRS(mode="sde").walk(right, mu, torch.tensor([100.0, 50.0, 0.0]))
    with pytest.raises(ValueError, match="noise must be given: a step with mode = 'sde'"):
        IRSDE(mode="sde").step(shifted_denoiser(MIXTURE, MeanReverting(), mu), mu, torch.tensor(9), torch.tensor(8), None)


# --- training


class _Told(nn.Module):
    """Answers with a stored noise."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, y, t, mu):
        return self.eps


def _loss(schedule: Schedule, eps, told, t):
    x0, mu = torch.rand(len(t), 1, 4, 4, dtype=torch.float64), torch.rand(len(t), 1, 4, 4, dtype=torch.float64)
    return mean_reverting_loss(Denoiser(_Told(told), schedule, NoiseHead(), data_range=(0.0, 1.0)), x0, mu, eps, t)


def test_loss_of_the_true_noise_and_of_a_wrong_one():
    """The true noise misses x* by the Euler step's own error; an error e costs ``2 sigma_inf^2 theta dt / sigma |e|``."""
    schedule, t, eps = MeanReverting(), torch.tensor([2, 50, 100]), double((3, 1, 4, 4))
    exact = _loss(schedule, eps, eps, t)
    assert bool((exact < 0.01).all())
    weight = 2 * schedule.sigma_inf**2 * schedule.thetas[t] * schedule.dt / schedule.sigma(t)
    wrong = _loss(schedule, eps, eps + 1e4, t)
    close(wrong / 1e4, weight, 1e-5)
    with pytest.raises(TypeError, match="model must have a MeanReverting schedule, got VP"):
        _loss(VP(), eps, eps, t)


def test_training_times():
    for offset, first in ((True, 1), (False, 0)):
        times = StepTimes().sample(MeanReverting(T=5, offset=offset), 5000, torch.Generator().manual_seed(0))
        values, counts = times.unique(return_counts=True)
        assert values.tolist() == list(range(first, 6))
        assert bool(((counts / 5000 - 1 / len(values)).abs() < 0.03).all())
