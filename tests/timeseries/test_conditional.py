"""The conditional baseline: what it is shown, what it is trained for, and its chain."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prior.randomness import MemberNoise
from timeseries.conditional import TSDiffCond
from timeseries.diffusion import linear_schedule
from timeseries.features import Covariates
from timeseries.windows import WindowAssembly

ASSEMBLY = WindowAssembly(context_length=6, prediction_length=4, lags=(2, 5))
DOUBLE = torch.float64


class Recording(nn.Module):
    """Zero noise; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, features: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.zeros_like(x)


def cond(*, noise_observed: bool = True, look_ahead: bool = False) -> TSDiffCond:
    return TSDiffCond(
        Recording(), ASSEMBLY, schedule=linear_schedule(12), noise_observed=noise_observed, look_ahead=look_ahead
    ).double()


def series(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Past and future, without gaps."""
    values = 5 + torch.randn(batch, 15, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    return values[:, :11], values[:, 11:]


def hiding(past: Tensor) -> Tensor:
    """The mask of a past whose steps 8 and 9, inside the context, are hidden."""
    mask = torch.ones_like(past)
    mask[:, 8:10] = 0
    return mask


def test_features_in_their_order() -> None:
    past, _ = series()
    window = cond().window(past, hiding(past))
    assert window.features is not None
    assert window.features.shape == (2, 10, cond().feature_size())
    scale = past[:, [5, 6, 7, 10]].mean(1, keepdim=True)
    torch.testing.assert_close(window.scale, scale)
    known = past * hiding(past) / scale
    lag2 = torch.cat([known[:, 3:11], torch.zeros(2, 2, dtype=DOUBLE)], 1)
    x_past = torch.cat([known[:, 5:11], torch.zeros(2, 4, dtype=DOUBLE)], 1)
    for channel, wanted in enumerate((lag2, known[:, 0:10], x_past)):
        torch.testing.assert_close(window.features[..., channel], wanted)
    assert window.features[0, :, 3].tolist() == [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert window.observed[1, :, 0].tolist() == [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def test_covariates_come_first() -> None:
    past, _ = series()
    steps = torch.arange(10.0, dtype=DOUBLE).view(1, 10, 1).expand(2, 10, 1)
    model = cond()
    window = model.window(past, covariates=Covariates(steps=steps))
    assert window.features is not None
    assert window.features.shape[-1] == model.feature_size(steps=1) == 4 + 4
    torch.testing.assert_close(window.features[..., 3:4], steps)
    torch.testing.assert_close(window.features[:, 0, 0], window.scale[:, 0].log())


def test_truth_is_noised_and_never_told() -> None:
    past, future = series()
    hidden = past * hiding(past)
    model = cond()
    training = model.window(hidden, hiding(past), future=future, original_past=past)
    test = model.window(hidden, hiding(past))
    torch.testing.assert_close(training.x[..., 0] * training.scale, torch.cat([past, future], 1)[:, 5:])
    for trained, tested in (
        (training.features, test.features),
        (training.scale, test.scale),
        (training.observed, test.observed),
    ):
        assert trained is not None
        torch.testing.assert_close(trained, tested, rtol=0, atol=0)
    assert bool((test.x[:, 6:] == 0).all())


def test_the_released_lags_look_ahead() -> None:
    past, future = series()
    training = cond(look_ahead=True).window(past * hiding(past), hiding(past), future=future, original_past=past)
    assert training.features is not None
    truth = torch.cat([past, future], 1) / training.scale
    torch.testing.assert_close(training.features[..., 0], truth[:, 3:13])
    torch.testing.assert_close(training.features[..., 1], truth[:, 0:10])


def test_loss() -> None:
    past, future = series()
    window = cond().window(past, hiding(past), future=future, original_past=past)
    eps = torch.randn(2, 10, 1, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    hidden = window.observed == 0
    torch.testing.assert_close(cond().loss(window, 3, eps), eps.square().mean())
    torch.testing.assert_close(cond(noise_observed=False).loss(window, 3, eps), eps[hidden].square().mean())
    torch.testing.assert_close(cond().loss(window, 3, eps, hidden), eps[hidden].square().mean())


def test_observed_values_go_through_the_network_as_they_are() -> None:
    past, _ = series()
    model = cond(noise_observed=False)
    window = model.window(past, hiding(past)).repeat(3)
    model.sample(window, noise=MemberNoise(0, 6))
    observed = window.observed > 0
    seen = model.backbone.seen
    assert len(seen) == 12
    for x in seen:
        torch.testing.assert_close(x[observed], window.x[observed], rtol=0, atol=0)
        assert not torch.equal(x[~observed], window.x[~observed])


def test_the_chain_draws_once_a_step_and_scales_back() -> None:
    past, _ = series()
    model, draws = cond(), []

    def noise(like: Tensor) -> Tensor:
        draws.append(like)
        return torch.ones_like(like) if len(draws) == 1 else torch.zeros_like(like)

    window = model.window(past).repeat(2)
    forecast = window.forecast(model.sample(window, noise=noise))
    assert len(draws) == 12
    wanted = float(model.schedule.abar[-1]) ** -0.5  # with no noise seen, each step divides by sqrt(1 - beta)
    torch.testing.assert_close(forecast[:, 0], (wanted * window.scale).expand(4, 4))


def test_forecasts_scale_with_the_series() -> None:
    past, _ = series()
    model = cond()
    small, large = model.window(past), model.window(1000 * past)
    got = [w.forecast(model.sample(w, noise=MemberNoise(0, 2))) for w in (small, large)]
    torch.testing.assert_close(1000 * got[0], got[1])


def test_original_past_of_another_length() -> None:
    past, _ = series()
    with pytest.raises(ValueError, match=r"past must have shape \(B, 11\), got \(2, 10\)"):
        cond().window(past, original_past=past[:, 1:])
