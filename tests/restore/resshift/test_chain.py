"""The way back along the chain: an oracle is returned exactly, both walks, predictions that agree, the whole restorer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prior.mixture import GaussianMixture
from prior.samplers import DDIM
from prior.schedules import Shifted
from restore.resshift.chain import ResShift, ShiftedSampler
from restore.resshift.prediction import PREDICTIONS, SCALINGS, Condition, Shares, ShiftedDenoiser
from tests.prior.shifted import shifted_denoiser

FOUR, FIFTEEN = Shifted(), Shifted(T=15, min_noise=0.04)
SIZE = (2, 3, 4, 4)


def normal(shape=SIZE, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-10):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


class Told(nn.Module):
    """Answers what it is told, and remembers what it is asked."""

    def __init__(self, out):
        super().__init__()
        self.out, self.asked = out, []

    def forward(self, x, t, *given):
        self.asked.append((x, t, given))
        return self.out


class Half(nn.Module):
    """A network of two numbers."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.25], dtype=dtype))

    def forward(self, x, t, lq, mask=None):
        assert x.dtype == lq.dtype == self.weight.dtype
        lq = F.interpolate(lq, x.shape[-2:], mode="nearest")
        return self.weight[0] * x.tanh() + self.weight[1] * lq


class Pooling:
    """A first stage without weights: 2 x 2 means, times ``gain``."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def encode(self, x):
        return self.gain * F.avg_pool2d(x, 2)

    def decode(self, z):
        return F.interpolate(z, scale_factor=2, mode="nearest") / self.gain


@pytest.mark.parametrize("schedule", [FOUR, FIFTEEN, FIFTEEN.respace(3)], ids=["four", "fifteen", "respaced"])
@pytest.mark.parametrize("ddim_eta", [0.0, 0.5, 1.0])
def test_an_oracle_is_returned_exactly(schedule, ddim_eta):
    network, y = Told(normal(seed=1)), normal(seed=2)
    model = ShiftedDenoiser(network, schedule)
    out = ShiftedSampler(ddim_eta=ddim_eta).sample(model, Condition(y, y), seed=3)
    assert torch.equal(out, network.out)
    times = [int(t[0]) for _, t, _ in network.asked]
    assert times == [int(schedule.network_time(t)) for t in reversed(range(schedule.T))]


@pytest.mark.parametrize("ddim_eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [1, 2, 3])
def test_a_step_keeps_the_marginal(t, ddim_eta):
    x0, y, eps, zero = normal(seed=1), normal(seed=2), normal(seed=3), torch.zeros(SIZE).double()
    one = torch.ones(SIZE).double()
    model, condition, sampler = ShiftedDenoiser(Told(x0), FOUR), Condition(y, y), ShiftedSampler(ddim_eta=ddim_eta)
    mean = sampler.step(model, FOUR.noised(x0, y, zero, t), t, condition, zero)
    close(mean, FOUR.noised(x0, y, zero, t - 1))
    kept = sampler.step(model, FOUR.noised(x0, y, one, t), t, condition, zero) - mean
    fresh = sampler.step(model, FOUR.noised(x0, y, zero, t), t, condition, one) - mean
    close(kept**2 + fresh**2, FOUR.std[t - 1] ** 2 * one)
    close(fresh**2, ddim_eta**2 * FOUR.posterior_variance[t] * one)
    if ddim_eta == 0:  # the same noise, less of it
        got = sampler.step(model, FOUR.noised(x0, y, eps, t), t, condition, one)
        close(got, FOUR.noised(x0, y, eps, t - 1))


def test_the_chain_itself_is_the_posterior():
    x, y, z = normal(seed=1), normal(seed=2), normal(seed=3)
    model, t = ShiftedDenoiser(Told(normal(seed=4)), FIFTEEN), torch.tensor([9, 1])
    got = ShiftedSampler().step(model, x, t, Condition(y, y), z)
    std = FIFTEEN.at(FIFTEEN.posterior_variance.sqrt(), t, x)
    close(got, FIFTEEN.posterior_mean(x, model.network.out, t) + std * z)
    elsewhere = ShiftedSampler().step(model, x, t, Condition(y + 5, y), z)
    close(elsewhere, got)


class Exact(nn.Module):
    """The mean of the clean image of a mixture."""

    def __init__(self, mixture, schedule):
        super().__init__()
        self.mixture, self.schedule = mixture, schedule

    def forward(self, x, t, y):
        shares = Shares.at(self.schedule, t, x)
        return self.mixture.x0(x - shares.eta * y, shares.clean.flatten(), shares.std.flatten())


@pytest.mark.parametrize("ddim_eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("s", [0.1, 0.5])
def test_a_step_with_the_error_of_a_gaussian_keeps_its_law(s, ddim_eta):
    """x0 around y with the variance s^2: its mean given x_t, and with its error every step has the exact variance."""
    for t in (1, 2, 3):
        eta, eta_prev, std = FOUR.eta[t], FOUR.eta_prev[t], FOUR.std[t]
        variance = (1 - eta) ** 2 * s**2 + std**2
        gain = (1 - eta) * s**2 / variance  # of E[x0 - y | x_t] on x_t - y
        error = float((s**2 * std**2 / variance).sqrt())
        k, on_x0, _, on_z = (c[t] for c in ShiftedSampler(ddim_eta=ddim_eta, error=error).coefficients(FOUR))
        wanted = (1 - eta_prev) ** 2 * s**2 + FOUR.kappa**2 * eta_prev
        close((k + on_x0 * gain) ** 2 * variance + on_z**2, wanted)
        published = ShiftedSampler(ddim_eta=ddim_eta).coefficients(FOUR)[3][t]
        assert (k + on_x0 * gain) ** 2 * variance + published**2 < wanted
    assert on_z > published
    assert ShiftedSampler(error=0.3).coefficients(FOUR)[3][0] == 0


def test_the_deterministic_walk_is_ddim_of_the_core():
    mixture, y, eps = GaussianMixture.random((1, 3, 3), seed=5), normal((2, 1, 3, 3)), normal((2, 1, 3, 3), 1)
    model = ShiftedDenoiser(Exact(mixture, FIFTEEN), FIFTEEN, scaling="none")
    got = ShiftedSampler(ddim_eta=0.0).walk(model, Condition(y, y), lambda like: eps)
    times = torch.arange(14, -2, -1, dtype=torch.float64)
    u = FIFTEEN.start(y, eps) - y
    close(got, y + DDIM(clip=False).walk(shifted_denoiser(mixture, FIFTEEN, y), u, times), 1e-9)


def test_draws():
    """T + 1 of them; the last changes nothing, the deterministic walk uses the first alone."""
    model, y = ShiftedDenoiser(Half(), FOUR), normal(dtype=torch.float32)
    draws = [normal(seed=s, dtype=torch.float32) for s in range(10, 15)]

    def walk(draws, **sampler):
        left = iter(draws)
        out = ShiftedSampler(**sampler).walk(model, Condition(y, y), lambda like: next(left))
        assert next(left, None) is None
        return out

    out, other = walk(draws), normal(seed=99, dtype=torch.float32)
    assert torch.equal(out, walk([*draws[:4], other]))
    assert float((out - walk([*draws[:3], other, draws[4]])).abs().max()) > 1e-3
    assert torch.equal(walk(draws, ddim_eta=0.0), walk([draws[0], *[other] * 4], ddim_eta=0.0))


def test_seeds_and_batches():
    model, y = ShiftedDenoiser(Half(), FOUR), normal(dtype=torch.float32)
    sampler = ShiftedSampler()
    out = sampler.sample(model, Condition(y, y), seed=3)
    assert torch.equal(out, sampler.sample(model, Condition(y, y), seed=3))
    close(out[1:], sampler.sample(model, Condition(y[1:], y[1:]), seed=4), 1e-6)
    assert float((out - sampler.sample(model, Condition(y, y), seed=9)).abs().max()) > 1e-3


def test_clip():
    model, y = ShiftedDenoiser(Told(3 * normal(seed=1)), FOUR), normal(seed=2)
    out = ShiftedSampler(clip=True).sample(model, Condition(y, y))
    assert torch.equal(out, model.network.out.clamp(-1, 1))


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_agree(name):
    x0, y, eps, t = normal(seed=1), normal(seed=2), normal(seed=3), torch.tensor([0, 12])
    shares = Shares.at(FIFTEEN, t, x0)
    x, prediction = FIFTEEN.noised(x0, y, eps, t), PREDICTIONS[name]
    target = prediction.target(x0, y, eps, shares)
    close(prediction.x0(target, x, y, shares), x0)
    # gain: what an error of one unit does to x0
    wrong = prediction.x0(target + prediction.unit(shares), x, y, shares)
    close((wrong - x0).abs(), prediction.gain(shares).expand_as(x0))
    model = ShiftedDenoiser(Told(target), FIFTEEN, prediction=name)
    close(model(x, t, Condition(y, y)), x0)


def test_what_the_network_sees():
    x, y, lq, mask = normal(seed=1), normal(seed=2), normal((2, 3, 8, 8), 3), torch.ones(2, 1, 8, 8).double()
    schedule, t = FIFTEEN.respace(5), torch.tensor([1, 4])
    eta = schedule.eta[[1, 4]].view(2, 1, 1, 1)
    scales = {"latent": (4 * eta + 1).sqrt(), "pixel": 6 * eta.sqrt() + 1, "none": torch.ones(2, 1, 1, 1).double()}
    for scaling in SCALINGS:
        network = Told(y)
        ShiftedDenoiser(network, schedule, scaling=scaling)(x, t, Condition(y, lq, mask))
        ((seen, times, given),) = network.asked
        close(seen, x / scales[scaling])
        assert times.tolist() == [4, 14]
        assert times.dtype == torch.int64
        assert torch.equal(given[0], lq)
        assert torch.equal(given[1], mask)
    network = Told(y)
    ShiftedDenoiser(network, schedule)(x, 2, Condition(y, lq))
    assert network.asked[0][1].tolist() == [7, 7]
    assert len(network.asked[0][2]) == 1


def test_the_network_keeps_its_precision_and_the_chain_its_own():
    x = normal()
    out = ShiftedDenoiser(Half(torch.bfloat16), FOUR)(x, 2, Condition(x, x))
    assert out.dtype == torch.float64
    close(out, ShiftedDenoiser(Half(torch.float64), FOUR)(x, 2, Condition(x, x)), 2e-2)


# --- the restorer


def test_condition():
    lq = normal((1, 3, 4, 6), dtype=torch.float32)
    restorer = ResShift(ShiftedDenoiser(Half(), FOUR), Pooling(gain=3.0), factor=2, scale=0.5, multiple=2)
    condition = restorer.condition(lq)
    large = F.interpolate(lq, scale_factor=2, mode="bicubic")
    close(condition.y, 1.5 * F.avg_pool2d(large, 2))
    assert torch.equal(condition.lq, lq)
    close(restorer.decode(condition.y), F.interpolate(F.avg_pool2d(large, 2), scale_factor=2, mode="nearest"), 1e-6)
    pixel = ResShift(ShiftedDenoiser(Half(), FOUR, scaling="pixel"), factor=2, multiple=2).condition(lq)
    assert torch.equal(pixel.y, large)
    assert torch.equal(pixel.lq, large)


def test_the_restorer():
    lq, mask = normal((2, 3, 4, 4), dtype=torch.float32).clamp(-1, 1), torch.ones(2, 1, 4, 4)
    target = 3 * normal((2, 3, 2, 2), 1, torch.float32)
    network = Told(target)
    latent = ResShift(ShiftedDenoiser(network, FOUR), Pooling(), multiple=4)
    out = latent(lq, mask, noise=torch.zeros_like)
    close(out, F.interpolate(target, scale_factor=2, mode="nearest").clamp(-1, 1))
    assert torch.equal(network.asked[0][2][1], mask)
    # an x0 beyond [-1, 1] stays in latents, and is clamped at every step in pixel space
    noisy = {}
    for name, first_stage in (("latent", Pooling()), ("pixel", None)):
        network = Told(3 * torch.ones(1, 3, 2 if first_stage else 4, 2 if first_stage else 4))
        ResShift(ShiftedDenoiser(network, FOUR), first_stage, multiple=4)(lq[:1], noise=torch.zeros_like)
        noisy[name] = float(network.asked[-1][0].mean())
    assert noisy["latent"] > 2
    assert noisy["pixel"] < 1.1


def test_bad_input():
    with pytest.raises(ValueError, match="error must be at least 0"):
        ShiftedSampler(error=-0.1)
    x, lq = normal(), normal((2, 3, 4, 4))
    network = Told(x)
    with pytest.raises(ValueError, match="prediction must be one of xstart, residual, epsilon, epsilon_scale, got 'v'"):
        ShiftedDenoiser(network, FOUR, prediction="v")
    with pytest.raises(ValueError, match="scaling must be one of latent, pixel, none, got 'image'"):
        ShiftedDenoiser(network, FOUR, scaling="image")
    model = ShiftedDenoiser(network, FOUR)
    with pytest.raises(ValueError, match=r"condition.y must have the shape of x, \(2, 3, 4, 4\), got \(2, 3, 2, 2\)"):
        model(x, 0, Condition(x[..., :2, :2], x))
    with pytest.raises(ValueError, match=r"t must be whole, in 0..3, got 4"):
        model(x, 4, Condition(x, x))
    with pytest.raises(ValueError, match=r"ddim_eta must lie in \[0, 1\].*got 1.5"):
        ShiftedSampler(ddim_eta=1.5)
    with pytest.raises(ValueError, match="factor must be a whole number from 1 on, got 0"):
        ResShift(model, factor=0)
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        ResShift(model, scale=0)
    with pytest.raises(ValueError, match=r"lq must have sides that are multiples of 8, got \(4, 4\); restore_picture pads it"):
        ResShift(model, multiple=8)(lq, noise=torch.zeros_like)
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 1, 4, 4\).*got \(2, 1, 4, 5\)"):
        ResShift(model).condition(lq, torch.zeros(2, 1, 4, 5))
    with pytest.raises(ValueError, match="mask must be None where images are enlarged, by 2"):
        ResShift(model, factor=2).condition(lq, torch.zeros(2, 1, 4, 4))
