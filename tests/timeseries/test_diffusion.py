"""The diffusion of windows: its algebra, its losses and the unconditional chain, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from prior.randomness import MemberNoise
from prior.schedules.discrete import DiscreteVP
from timeseries.diffusion import TSDiff, cosine_schedule, linear_schedule
from timeseries.features import Covariates
from timeseries.scaling import MeanScale
from timeseries.windows import WindowAssembly

ASSEMBLY = WindowAssembly(context_length=6, prediction_length=4, lags=(2, 5))
DOUBLE = torch.float64


class Recording(nn.Module):
    """``a x + b t + c sum(features)``; keeps the times it was asked for."""

    def __init__(self, a: float = 0.0, b: float = 0.0, c: float = 0.0) -> None:
        super().__init__()
        self.a, self.b, self.c = a, b, c
        self.times: list[list[int]] = []

    def forward(self, x: Tensor, t: Tensor, features: Tensor | None) -> Tensor:
        assert t.dtype == torch.int64
        assert t.shape == (len(x),)
        self.times.append(t.tolist())
        told = 0 if features is None else features.sum(-1, keepdim=True)
        return self.a * x + self.b * t.view(-1, 1, 1) + self.c * told


class Gaussian(nn.Module):
    """The exact noise estimate for clean windows of independent normal values with variance ``variance``."""

    def __init__(self, schedule: DiscreteVP, variance: float) -> None:
        super().__init__()
        self.schedule, self.variance = schedule, variance

    def gain(self, t: Tensor | int) -> Tensor:
        abar = self.schedule.abar[t]
        return (1 - abar).sqrt() / (abar * self.variance + 1 - abar)

    def forward(self, x: Tensor, t: Tensor, features: Tensor | None) -> Tensor:
        return self.gain(t).to(x).view(-1, 1, 1) * x


def tsdiff(network: nn.Module | None = None, schedule: DiscreteVP | None = None) -> TSDiff:
    return TSDiff(Recording() if network is None else network, ASSEMBLY, schedule=schedule or linear_schedule(20)).double()


def normal(seed: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, 10, 3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def past(batch: int = 3) -> Tensor:
    return 5 + torch.randn(batch, 11, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)


# --- schedules


def test_published_schedule() -> None:
    made = linear_schedule()
    assert made.T == 100
    torch.testing.assert_close(made.betas, torch.linspace(1e-4, 0.1, 100, dtype=DOUBLE), rtol=1e-14, atol=0)
    torch.testing.assert_close(made.abar, torch.cumprod(1 - made.betas, 0), rtol=1e-12, atol=0)
    assert made.posterior_variance[0] == 0
    for t, wanted in ((20, 0.8061), (50, 0.2687), (99, 0.0056)):
        assert abs(float(made.abar[t]) - wanted) < 5e-5


def test_cosine_schedule_is_clipped() -> None:
    made = cosine_schedule(1000)
    assert float(made.betas.min()) == pytest.approx(1e-4, rel=1e-7)
    assert float(made.betas.max()) == pytest.approx(0.9999, rel=1e-7)
    f = [math.cos((u / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (499, 500)]
    assert abs(float(made.betas[499]) - (1 - f[1] / f[0])) < 5e-7


# --- algebra


@pytest.mark.parametrize("t", [0, 7, 19, torch.tensor([0, 7, 19])])
def test_true_noise_gives_the_clean_window(t: int | Tensor) -> None:
    model, y, eps = tsdiff(), normal(0), normal(1)
    torch.testing.assert_close(model.estimate(model.noised(y, t, eps), t, eps), y, rtol=1e-10, atol=1e-10)


def test_times_of_each_series() -> None:
    model, y, eps = tsdiff(), normal(0), normal(1)
    together = model.noised(y, torch.tensor([3, 11, 19]), eps)
    apart = torch.cat([model.noised(y[i : i + 1], t, eps[i : i + 1]) for i, t in enumerate((3, 11, 19))])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", [1, 5, 19])
def test_ddim_of_eta_one_is_ddpm(t: int) -> None:
    model, x, eps, z = tsdiff(), normal(0), normal(1), normal(2)
    torch.testing.assert_close(model.ddim_step(x, t, t - 1, eps, z, eta=1.0), model.step(x, t, eps, z), rtol=1e-11, atol=1e-11)
    mean, zero = model.step(x, t, eps), torch.zeros_like(z)
    torch.testing.assert_close(model.ddim_step(x, t, t - 1, eps, zero, eta=1.0), mean, rtol=1e-11, atol=1e-11)


def test_the_step_is_the_posterior_of_the_estimate() -> None:
    model, x, eps = tsdiff(), normal(0), normal(1)
    c1, c2 = model.schedule.posterior_mean_coefficients
    for t in (0, 6, 19):
        wanted = c1[t] * model.estimate(x, t, eps) + c2[t] * x
        torch.testing.assert_close(model.step(x, t, eps), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("previous", [-1, 0, 4, 11])
def test_ddim_without_noise_keeps_the_noise(previous: int) -> None:
    model, y, eps = tsdiff(), normal(0), normal(1)
    wanted = y if previous < 0 else model.noised(y, previous, eps)
    got = model.ddim_step(model.noised(y, 12, eps), 12, previous, eps)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_the_last_step_has_no_noise() -> None:
    model, x, eps, z = tsdiff(), normal(0), normal(1), normal(2)
    for got in (model.step(x, 0, eps, z), model.ddim_step(x, 0, -1, eps, z, eta=1.0)):
        torch.testing.assert_close(got, model.estimate(x, 0, eps), rtol=1e-11, atol=1e-11)


def test_bad_times() -> None:
    model, x = tsdiff(), normal(0)
    for t in (-1, 20):
        with pytest.raises(ValueError, match=rf"t must lie in 0\.\.19, got {t}"):
            model.step(x, t, x)
    with pytest.raises(ValueError, match=r"previous must lie in -1\.\.4, before t = 5, got 5"):
        model.ddim_step(x, 5, 5, x)
    with pytest.raises(ValueError, match="z must be given"):
        model.ddim_step(x, 5, 4, x, eta=0.5)
    with pytest.raises(ValueError, match="eta must be at least 0"):
        model.ddim_step(x, 5, 4, x, eta=-0.5)
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.sample(0, noise=torch.randn_like)


# --- losses


def test_losses_of_a_network_that_says_nothing() -> None:
    model, window = tsdiff(), tsdiff().window(past())
    eps = normal(1)
    torch.testing.assert_close(model.loss(window, 4, eps), eps.square().mean())
    torch.testing.assert_close(model.errors(window.x, torch.tensor([1, 2, 3]), eps), eps.square())
    mask = window.observed
    torch.testing.assert_close(model.loss(window, 4, eps, mask), eps[mask > 0].square().mean())
    assert float(model.loss(window, 4, eps, torch.zeros_like(mask))) == 0


def test_losses_over_time_are_those_of_each_time() -> None:
    network = Recording(a=0.3, b=0.01)
    model = tsdiff(network)
    window = model.window(past())
    got = model.losses(window, MemberNoise(5, 3))
    assert network.times == [[t] * 3 for t in range(20)]
    torch.testing.assert_close(model.losses(window, MemberNoise(5, 3)), got, rtol=0, atol=0)
    noise = MemberNoise(5, 3)
    wanted = [(0.3 * model.noised(window.x, t, e) + 0.01 * t - e).square().mean() for t in range(20) for e in [noise(window.x)]]
    torch.testing.assert_close(got, torch.stack(wanted))


def test_features_reach_the_network() -> None:
    model = tsdiff(Recording(c=1.0))
    covariates = Covariates(steps=torch.ones(3, 10, 2, dtype=DOUBLE))
    window = model.window(past(), covariates=covariates)
    assert window.features is not None
    weight = model.state_dict()["embedder._embedders.0.weight"]
    wanted = window.scale.log() + weight.item() + 0 + 2
    torch.testing.assert_close(model.eps(window.x, 0, window.features)[:, 4, 0], wanted[:, 0])


# --- windows and chains


def test_scale_is_that_of_the_observed_context() -> None:
    model, series = tsdiff(), past()
    series[1, 7:] = torch.nan
    wanted = torch.stack([series[0, 5:].mean(), series[1, 5:7].mean(), series[2, 5:].mean()])
    window = model.window(series)
    torch.testing.assert_close(window.scale[:, 0], wanted)
    torch.testing.assert_close(model.window(-3 * series).scale, 3 * window.scale)
    torch.testing.assert_close(model.window(-3 * series).x, -window.x)


def test_a_series_of_zeros_has_the_default_scale() -> None:
    model = TSDiff(Recording(), ASSEMBLY, scaler=MeanScale(7.0)).double()
    window = model.window(torch.zeros(2, 11, dtype=DOUBLE), future=torch.full((2, 4), 7.0, dtype=DOUBLE))
    assert window.scale.flatten().tolist() == [7.0, 7.0]
    assert window.x[0, 6:, 0].tolist() == [1.0] * 4


def test_a_given_scale_replaces_that_of_the_context() -> None:
    empty = torch.full((2, 11), torch.nan, dtype=DOUBLE)
    future, scale = torch.full((2, 4), 6.0, dtype=DOUBLE), torch.full((2, 1), 3.0, dtype=DOUBLE)
    window = tsdiff().window(empty, future=future, scale=scale)
    assert window.x[0, :, 0].tolist() == [0.0] * 6 + [2.0] * 4
    assert window.observed[0, :, 0].tolist() == [0.0] * 6 + [1.0] * 4


def test_sampling_draws_and_evaluates_once_a_step() -> None:
    network, shapes = Recording(), []

    def noise(like: Tensor) -> Tensor:
        shapes.append(tuple(like.shape))
        return torch.zeros_like(like)

    x = tsdiff(network).sample(2, noise=noise)
    assert shapes == [(2, 10, 3)] * 20
    assert network.times == [[t] * 2 for t in reversed(range(20))]
    assert float(x.abs().max()) == 0
    assert tsdiff().sample(2, noise=noise, length=25).shape == (2, 25, 3)


def test_samples_do_not_depend_on_their_batch() -> None:
    model = tsdiff(Recording(a=0.3, b=0.01))
    batch, alone = model.sample(3, noise=MemberNoise(4, 3)), model.sample(1, noise=MemberNoise(6, 1))
    torch.testing.assert_close(batch[2:], alone, rtol=1e-12, atol=1e-12)
    assert float((batch[0] - batch[1]).abs().max()) > 0.1


def test_samples_have_the_variance_of_the_exact_chain() -> None:
    schedule = linear_schedule(100)
    network = Gaussian(schedule, 0.25)
    variance = 1.0  # of x_T, then followed through the steps, which are linear
    for t in reversed(range(100)):
        beta, abar = float(schedule.betas[t]), float(schedule.abar[t])
        factor = (1 - beta / math.sqrt(1 - abar) * float(network.gain(t))) / math.sqrt(1 - beta)
        variance = factor**2 * variance + float(schedule.posterior_variance[t])
    assert 0.2 < variance < 0.25  # the posterior variance leaves out that of y given x_t
    values = tsdiff(network, schedule).sample(300, noise=MemberNoise(0, 300))
    assert abs(float(values.var()) / variance - 1) < 4 * math.sqrt(2 / values.numel())
    assert abs(float(values.mean())) < 4 * math.sqrt(variance / values.numel())


def test_released_names() -> None:
    names = set(tsdiff().state_dict())
    assert names == {"embedder._embedders.0.weight", "scaler.default_scale", "scaler.minimum_scale"}
