"""Exact inversion: BDIA, EDICT and the DPM-Encoder come back to where they began, and sample as well as they should."""

import math
from itertools import pairwise

import pytest
import torch

from prior.mixture import GaussianMixture
from prior.samplers import BDIA, DDIM, EDICT, DPMEncoder, Pair
from prior.samplers.encoder import Encoding
from prior.schedules import EDM, VE, VP, Linear, SubVP
from prior.transition import Transition
from tests.prior.gaussian import gaussian_model

MEAN, STD = 0.3, 0.5
MIXTURE = GaussianMixture.random((2, 3, 3), seed=6)
SCHEDULES = {"vp": VP(), "subvp": SubVP(), "ve": VE(), "edm": EDM(), "linear": Linear()}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
INVERTIBLE = {
    "bdia-0.5": (BDIA(steps=10, gamma=0.5), 1),
    "bdia-0.9": (BDIA(steps=10, gamma=0.9), 1),
    "bdia-1": (BDIA(steps=10), 1),
    "edict": (EDICT(steps=10), 2),
}
invertible = pytest.mark.parametrize(("sampler", "calls"), INVERTIBLE.values(), ids=INVERTIBLE.keys())


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def image_of(*shape):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def ddim(model, x, t, s):
    return DDIM(clip=False).step(model, x, t, s, None)


def slope(sampler, coarse=128, fine=512):
    """Order of convergence to the probability-flow ODE of N(MEAN, STD^2), VP, equal steps from t = 1 to 0.01."""
    schedule, x, errors = VP(), double((1, 1, 4, 4)), []
    for steps in (coarse, fine):
        times = torch.linspace(1, 0.01, steps + 1, dtype=torch.float64)
        (a0, s0), (a1, s1) = ((schedule.alpha(t), schedule.sigma(t)) for t in times[[0, -1]])
        truth = a1 * MEAN + torch.sqrt((a1**2 * STD**2 + s1**2) / (a0**2 * STD**2 + s0**2)) * (x - a0 * MEAN)
        got = sampler.walk(gaussian_model(schedule, mean=MEAN, std=STD), x, times)
        errors.append(float((got - truth).square().mean().sqrt()))
    return math.log(errors[0] / errors[1]) / math.log(fine / coarse)


# --- there and back


@schedules
@invertible
def test_round_trip(schedule, sampler, calls):
    model, image = MIXTURE.denoiser(schedule, data_range=(-1.0, 1.0)), image_of(2, 2, 3, 3)
    pair = sampler.invert(model, image)
    back = sampler.restore(model, pair)
    torch.testing.assert_close(back, image, rtol=0, atol=1e-10)
    other = sampler.restore(model, Pair(pair.x, pair.y + 1e-3))
    assert float((other - image).abs().max()) > 1e-5  # both states matter


@schedules
@pytest.mark.parametrize("eta", [0.1, 0.6, 1.0])
def test_encoder_round_trip(schedule, eta):
    model, image = MIXTURE.denoiser(schedule, data_range=(-1.0, 1.0)), image_of(2, 2, 3, 3)
    encoder = DPMEncoder(steps=10, eta=eta)
    encoding = encoder.encode(model, image, seed=3)
    torch.testing.assert_close(encoder.decode(model, encoding), image, rtol=0, atol=1e-10)
    shifted = encoder.decode(model, Encoding(encoding.times, encoding.start, encoding.noises + 0.1))
    assert float((shifted - image).abs().max()) > 1e-3


def test_naive_inversion_does_not_come_back():
    model, x = MIXTURE.denoiser(VP()), MIXTURE.sample(2)
    times = torch.linspace(1, 1e-3, 11, dtype=torch.float64)
    naive = DDIM(clip=False).walk(model, x, times.flip(0))
    assert float((DDIM(clip=False).walk(model, naive, times) - x).abs().max()) > 0.1
    pair = BDIA().lift(model, x, times)
    torch.testing.assert_close(BDIA().lower(model, pair, times), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", [BDIA(), BDIA(gamma=0.96), EDICT()], ids=repr)
def test_inverted_images_are_noise(sampler):
    x = MEAN + STD * double((1, 1, 32, 32))
    times = torch.linspace(1, 1e-3, 41, dtype=torch.float64)
    pair = sampler.lift(gaussian_model(VP(), mean=MEAN, std=STD), x, times)
    assert float(pair.x.std()) == pytest.approx(1, abs=0.07)
    assert float(pair.y.std()) == pytest.approx(1, abs=0.07)


def test_a_small_gamma_loses_the_noise_over_many_steps():
    """The error of the first step up grows as gamma^-N, in any precision: 2^20 from 20 steps to 40."""
    x = MEAN + STD * double((1, 1, 8, 8))
    sizes = []
    for steps in (20, 40):
        times = torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64)
        sizes.append(float(BDIA(gamma=0.5).lift(gaussian_model(VP(), mean=MEAN, std=STD), x, times).x.std()))
    assert math.log2(sizes[1] / sizes[0]) == pytest.approx(20, abs=3)


# --- single steps against their formulas


def test_bdia_steps():
    model, x, gamma = gaussian_model(VP()), double((2, 1, 3, 3)), 0.7
    a, b, c = times = torch.tensor([0.8, 0.6, 0.5], dtype=torch.float64)
    first = ddim(model, x, a, b)
    last = gamma * (x - ddim(model, first, b, a)) + ddim(model, first, b, c)
    sampler = BDIA(gamma=gamma)
    torch.testing.assert_close(sampler.walk(model, x, times), last, rtol=0, atol=1e-12)
    torch.testing.assert_close(sampler.lower(model, Pair(x, first), times), last, rtol=0, atol=1e-12)


def test_bdia_lifts_from_an_image_by_the_noise_at_the_first_level():
    model, x = gaussian_model(VP()), double((2, 1, 3, 3))
    times = torch.tensor([0.3, 0.2, 0.0], dtype=torch.float64)
    up = VP().alpha(0.2) * x + VP().sigma(0.2) * model(x, 0.2).eps
    pair = BDIA(gamma=0.7).lift(model, x, times)
    torch.testing.assert_close(pair.y, up, rtol=0, atol=1e-12)
    expected = (x - ddim(model, up, times[1], times[2])) / 0.7 + ddim(model, up, times[1], times[0])
    torch.testing.assert_close(pair.x, expected, rtol=0, atol=1e-12)


def test_edict_step():
    model, p = gaussian_model(VP()), 0.8
    x, y = double((2, 1, 3, 3)), double((2, 1, 3, 3), 1)
    t, s = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    a = VP().alpha(s) / VP().alpha(t)
    b = VP().sigma(s) - a * VP().sigma(t)
    x1 = a * x + b * model(y, t).eps
    y1 = a * y + b * model(x1, t).eps
    x2 = p * x1 + (1 - p) * y1
    y2 = p * y1 + (1 - p) * x2
    got = EDICT(p=p).couple(model, Pair(x, y), t, s)
    torch.testing.assert_close(got.x, x2, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.y, y2, rtol=0, atol=1e-12)
    back = EDICT(p=p).uncouple(model, got, t, s)
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(back.y, y, rtol=0, atol=1e-12)


def test_edict_walks_both_states():
    model, x = gaussian_model(VP()), double((2, 1, 3, 3))
    times = torch.linspace(1, 1e-3, 6, dtype=torch.float64)
    sampler = EDICT()
    torch.testing.assert_close(sampler.walk(model, x, times), sampler.lower(model, Pair(x, x), times), rtol=0, atol=0)


def test_encoder_step():
    model, x0, schedule, eta = gaussian_model(Linear()), double((2, 1, 3, 3)), Linear(), 0.6
    times = torch.tensor([500.0, 400.0], dtype=torch.float64)
    draws = double((2, 2, 1, 3, 3), 1)
    stream = iter(draws)
    got = DPMEncoder(eta=eta).record(model, x0, times, noise=lambda x: next(stream))
    alpha, sigma = (torch.stack([f(t) for t in times]) for f in (schedule.alpha, schedule.sigma))
    x = alpha[0] * x0 + sigma[0] * draws[0]
    c = eta * sigma[1] / sigma[0] * torch.sqrt(1 - (alpha[0] / alpha[1]) ** 2)
    root = torch.sqrt(sigma[1] ** 2 - c**2)
    x_next = alpha[1] * x0 + root * draws[0] + c * draws[1]
    p = model(x, times[0])
    expected = (x_next - alpha[1] * p.x0 - root * p.eps) / c
    torch.testing.assert_close(got.start, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.noises, expected[None], rtol=0, atol=1e-11)


def test_the_ddpm_form_is_eta_one():
    model, x0, times = gaussian_model(Linear()), double((2, 1, 3, 3)), torch.tensor([500.0, 499.0], dtype=torch.float64)
    encoding = DPMEncoder(eta=1.0).record(model, x0, times, noise=lambda x: double(x.shape, 1))
    q = Transition.between(Linear(), *times, x0)
    x = encoding.start
    x_next = q.mean(x0, x) + q.variance.sqrt() * double(x.shape, 1)
    expected = (x_next - q.mean(model(x, 500.0).x0, x)) / q.variance.sqrt()
    torch.testing.assert_close(encoding.noises[0], expected, rtol=0, atol=1e-9)


def test_the_encoder_keeps_the_residual_of_the_last_step():
    model, image = gaussian_model(VP()), image_of(2, 1, 3, 3)
    encoding = DPMEncoder(steps=4).encode(model, image)
    before = DPMEncoder().replay(model, Encoding(encoding.times[:-1], encoding.start, encoding.noises[:-1]))
    clean = model(before, encoding.times[-2]).x0
    torch.testing.assert_close(encoding.noises[-1], image - clean, rtol=0, atol=1e-12)


# --- order, costs, seeds


@pytest.mark.parametrize(
    ("sampler", "order"), [(BDIA(gamma=1.0), 2), (BDIA(gamma=0.5), 1), (EDICT(), 1), (DDIM(clip=False), 1)], ids=repr
)
def test_order_of_convergence(sampler, order):
    assert slope(sampler) == pytest.approx(order, abs=0.1)


@invertible
def test_evaluations_of_the_network(sampler, calls):
    model = gaussian_model(VP())
    sampler.sample(model, (1, 1, 2, 2))
    assert model.network.calls == 10 * calls
    pair = sampler.invert(model, image_of(1, 1, 2, 2))
    assert model.network.calls == 20 * calls
    sampler.restore(model, pair)
    assert model.network.calls == 30 * calls - (calls == 1)  # BDIA keeps the first of the N


def test_evaluations_of_the_encoder():
    model = gaussian_model(VP())
    encoder = DPMEncoder(steps=10)
    encoding = encoder.encode(model, image_of(1, 1, 2, 2))
    assert model.network.calls == 10
    encoder.decode(model, encoding)
    assert model.network.calls == 20


def test_walks_do_not_share_their_memory():
    model, x = gaussian_model(VP()), double((2, 1, 3, 3))
    for sampler in (BDIA(steps=6), EDICT(steps=6)):
        times = sampler.times(VP())
        first, second = sampler.begin(VP(), times), sampler.begin(VP(), times)
        got = other = x
        for t, s in pairwise(times):
            got, other = first(model, got, t, s, None, None), second(model, other + 1, t, s, None, None)
        assert torch.equal(got, sampler.walk(model, x, times))


@invertible
def test_a_walk_keeps_its_order_and_its_batch(sampler, calls):
    model, x = gaussian_model(VP()), double((3, 1, 2, 2))
    times = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64)
    step = sampler.begin(VP(), times)
    with pytest.raises(ValueError, match=r"the step from 0\.5 to 0\.25 is due, got 0\.25 to 0\.125"):
        step(model, x, times[1], times[2], None, None)
    step(model, x, times[0], times[1], None, None)
    with pytest.raises(ValueError, match=r"x must keep its shape during a walk, \(3, 1, 2, 2\), got \(1, 1, 2, 2\)"):
        step(model, x[:1], times[1], times[2], None, None)
    lone = sampler.step(model, x, times[0], times[1], None)
    assert torch.equal(lone, sampler.walk(model, x, times[:2]))


@pytest.mark.parametrize("sampler", [BDIA(steps=8), EDICT(steps=8), DPMEncoder(steps=8)], ids=lambda s: type(s).__name__)
def test_another_condition_edits(sampler):
    """Of N(c, std^2) the condition is the mean c: the same noise, read with a mean 0.4 higher, is an image brighter by 0.4."""
    model, image = gaussian_model(VP(), std=0.5), image_of(1, 1, 2, 2)
    up, down = (sampler.encode, sampler.decode) if isinstance(sampler, DPMEncoder) else (sampler.invert, sampler.restore)
    low, high = (torch.full((1, 1, 1, 1), c, dtype=torch.float64) for c in (0.3, 0.7))
    codes = up(model, image, condition=low)
    torch.testing.assert_close(down(model, codes, condition=low), image, rtol=0, atol=1e-9)
    edited = down(model, codes, condition=high)
    assert bool((edited > image + 0.1).all())


def test_encodings_follow_their_seed():
    model, image = gaussian_model(VP()), image_of(2, 1, 4, 4)
    encoder = DPMEncoder(steps=5)
    batch = encoder.encode(model, image, seed=4)
    assert torch.equal(batch.noises, encoder.encode(model, image, seed=4).noises)
    alone = encoder.encode(model, image[1:], seed=5)
    assert torch.equal(batch.noises[:, 1:], alone.noises)
    assert float((batch.noises[:-1] - encoder.encode(model, image, seed=9).noises[:-1]).abs().max()) > 0.1


def test_strength_walks_the_end_of_the_grid():
    whole = DPMEncoder(steps=20).times(Linear())
    assert torch.equal(DPMEncoder(steps=20, strength=0.85).times(Linear()), whole[3:])
    assert DPMEncoder(steps=20, strength=1e-3).times(Linear()).tolist() == whole[-2:].tolist()


# --- errors


def lift(sampler, steps, dtype):
    times = torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64)
    return sampler.lift(gaussian_model(VP()), image_of(1, 1, 2, 2).to(dtype), times)


def test_a_small_gamma_needs_double_precision_over_many_steps():
    with pytest.raises(ValueError, match=r"x must be float64 to invert 21 steps with gamma = 0\.5, .* got torch\.float32"):
        lift(BDIA(gamma=0.5), 21, torch.float32)
    assert lift(BDIA(gamma=0.5), 21, torch.float64).x.dtype == torch.float64
    assert lift(BDIA(gamma=0.5), 20, torch.float32).x.dtype == torch.float32
    assert lift(BDIA(gamma=0.9), 21, torch.float32).x.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BDIA(gamma=0.0), r"gamma must lie in \(0, 1\], got 0\.0; DDIM is gamma = 0"),
        (lambda: BDIA(gamma=1.1), r"gamma must lie in \(0, 1\], got 1\.1"),
        (lambda: EDICT(p=0.0), r"p must lie in \(0, 1\], got 0\.0"),
        (lambda: EDICT(p=1.5), r"p must lie in \(0, 1\], got 1\.5"),
        (lambda: DPMEncoder(eta=0.0), r"eta must lie in \(0, 1\], .* got 0\.0"),
        (lambda: DPMEncoder(eta=1.5), r"eta must lie in \(0, 1\], .* got 1\.5"),
        (lambda: DPMEncoder(strength=0.0), r"strength must lie in \(0, 1\], got 0\.0"),
        (lambda: DPMEncoder(steps=0).times(VP()), "steps must be at least 1, got 0"),
        (lambda: lift(BDIA(), 0, torch.float64), "times must be at least two, got 1"),
        (lambda: lift(EDICT(), 0, torch.float64), "times must be at least two, got 1"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
