"""Windows: scale, lags, masks and features, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from timeseries.features import Covariates, FeatureAssembly
from timeseries.scaling import MeanScale, typical_scale
from timeseries.windows import Window, WindowAssembly, filled, lagged

SHORT = WindowAssembly(context_length=6, prediction_length=4, lags=(2, 5))


def ramp(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Past and future of a series that counts from 0 on, another from 100 on, and so on."""
    steps = torch.arange(15.0, dtype=torch.float64) + 100 * torch.arange(batch)[:, None]
    return steps[:, :11], steps[:, 11:]


def window(past: Tensor, future: Tensor | None = None, scale: float = 1.0) -> Window:
    sequence, observed = SHORT.joined(past, None, future)
    return SHORT(sequence, observed, torch.full((len(past), 1), scale, dtype=past.dtype))


def test_lengths() -> None:
    assert (SHORT.length, SHORT.past_length, SHORT.channels) == (10, 11, 3)
    assert WindowAssembly(context_length=6, prediction_length=4).past_length == 6


def test_lags_are_the_series_earlier() -> None:
    made = window(*ramp(), scale=4.0)
    for channel, lag in enumerate((0, 2, 5)):
        wanted = (torch.arange(5.0, 15.0) - lag + torch.tensor([[0.0], [100.0]])) / 4
        torch.testing.assert_close(made.x[..., channel], wanted.double(), rtol=0, atol=0)
    assert bool((made.observed == 1).all())


def test_a_lag_into_the_future_is_unknown() -> None:
    past, _ = ramp()
    made = window(past)
    rows = ([1] * 6 + [0] * 4, [1] * 8 + [0] * 2, [1] * 10)  # lag 2 < 4 future steps < lag 5
    for channel, wanted in enumerate(rows):
        assert made.observed[0, :, channel].tolist() == wanted
    assert bool((made.x[made.observed == 0] == 0).all())
    assert bool((made.with_lags_observed().observed[..., 1:] == 1).all())
    assert torch.equal(made.with_lags_observed().observed[..., 0], made.observed[..., 0])


def test_missing_values_are_missing_in_the_lags_too() -> None:
    past, future = ramp(1)
    past[0, 8] = torch.nan
    made = window(past, future)
    assert (made.observed == 0).nonzero().tolist() == [[0, 3, 0], [0, 5, 1], [0, 8, 2]]
    assert bool(made.x.isfinite().all())


def test_a_mask_of_the_future() -> None:
    past, future = ramp(1)
    sequence, observed = SHORT.joined(past, None, future, torch.tensor([[1, 0, 1, 1]]))
    assert observed[0, 11:].tolist() == [1, 0, 1, 1]
    assert sequence[0, 11:].tolist() == [11, 0, 13, 14]


def test_paths_follow_one_another() -> None:
    made = window(*ramp(), scale=2.0).repeat(3)
    assert made.x[:, 0, 0].tolist() == [2.5] * 3 + [52.5] * 3
    assert made.scale.shape == (6, 1)
    single = window(*ramp(), scale=2.0)
    assert single.series(made.x).shape == (2, 3, 10)
    forecast = single.forecast(made.x)
    torch.testing.assert_close(forecast, ramp()[1][:, None].expand(2, 3, 4), rtol=0, atol=0)


def test_dtype_follows() -> None:
    made = window(*ramp()).to(torch.zeros(1, dtype=torch.float32))
    assert {part.dtype for part in (made.x, made.observed, made.scale)} == {torch.float32}


def test_bad_windows() -> None:
    past, future = ramp()
    with pytest.raises(ValueError, match=r"past must have shape \(B, 11\), got \(2, 10\); pad shorter series"):
        SHORT.joined(past[:, 1:])
    with pytest.raises(ValueError, match=r"future must have shape \(B, 4\), got \(2, 3\)"):
        SHORT.joined(past, None, future[:, 1:])
    with pytest.raises(ValueError, match="future must be given"):
        SHORT.joined(past, None, None, torch.ones(2, 4))
    with pytest.raises(ValueError, match="mask of past must have its shape"):
        SHORT.joined(past, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"past must be finite where observed, got inf at \[1, 2\]"):
        SHORT.joined(past.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(math.inf).double()))
    for lags in ((0, 1), (3, 2), (2, 2)):
        with pytest.raises(ValueError, match="lags must be positive and increasing"):
            WindowAssembly(context_length=6, prediction_length=4, lags=lags)
    with pytest.raises(ValueError, match="prediction_length must be at least 1"):
        WindowAssembly(context_length=6, prediction_length=0)
    with pytest.raises(ValueError, match="at least 12 steps"):
        lagged(torch.zeros(1, 11), (2,), 10)
    with pytest.raises(ValueError, match="paths must be at least 1"):
        window(past).repeat(0)
    with pytest.raises(ValueError, match="same number of paths of each of 2 series, got 3"):
        window(past).series(torch.zeros(3, 10, 3))


# --- scale


def test_mean_scale() -> None:
    values = torch.tensor([[1.0, -3.0, 50.0], [2.0, 2.0, 2.0]])
    observed = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert MeanScale()(values, observed).tolist() == [[2.0], [2.0]]
    torch.testing.assert_close(MeanScale()(1e-3 * values, observed), torch.full((2, 1), 2e-3))
    assert MeanScale()(1e-20 * values, observed).flatten().tolist() == pytest.approx([1e-10] * 2)


def test_what_stands_in_for_no_scale() -> None:
    values = torch.tensor([[6.0, 6.0, 6.0], [0.0, 0.0, 0.0], [7.0, 7.0, 7.0]])
    observed = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert MeanScale()(values, observed).flatten().tolist() == [6.0, 1.0, 1.0]
    assert MeanScale(2.5)(values, observed).flatten().tolist() == [6.0, 2.5, 2.5]
    by_batch = MeanScale(batch_rule=True)
    assert by_batch(values, observed).flatten().tolist() == pytest.approx([6.0, 18 / 5, 18 / 5])
    assert by_batch(values[1:2], observed[1:2]).flatten().tolist() == pytest.approx([1e-10])


def test_the_default_scale_is_saved() -> None:
    other = MeanScale()
    other.load_state_dict(MeanScale(2.5).state_dict())
    assert float(other.default_scale) == 2.5
    released = {"default_scale": torch.tensor(0.0), "minimum_scale": torch.tensor(1e-10)}
    other.load_state_dict(released)
    assert float(other.default_scale) == 2.5
    assert float(released["default_scale"]) == 0
    other.load_state_dict({}, strict=True)
    assert float(other.default_scale) == 2.5
    with pytest.raises(ValueError, match="default_scale must be positive"):
        MeanScale(0.0)


def test_typical_scale() -> None:
    assert typical_scale([torch.tensor([1.0, torch.nan, -3.0]), torch.tensor([8.0])]) == 4.0
    assert typical_scale([torch.zeros(3)]) == typical_scale([]) == 1.0


def test_filled() -> None:
    values, observed = filled(torch.tensor([1.0, torch.nan, 3.0, torch.inf]), torch.tensor([1, 1, 0, 0]))
    assert values.tolist() == [1, 0, 0, 0]
    assert observed.tolist() == [1, 0, 0, 0]


# --- features


def test_features_in_their_order() -> None:
    made = FeatureAssembly((3, 2), (2, 1), static_reals=2)
    steps = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(0))
    real, category = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2, 0], [1, 1]])
    scale = torch.tensor([[1.0], [math.e]])
    features = made(scale, Covariates(steps=steps, static_real=real, static_category=category), 10)
    assert features.shape == (2, 10, made.size(4))
    assert made.size(4) == 1 + 3 + 2 + 4
    torch.testing.assert_close(features[:, :, 0], torch.tensor([[0.0], [1.0]]).expand(2, 10))
    embedders = dict(made.named_parameters())
    torch.testing.assert_close(features[1, 4, 1:3], embedders["_embedders.0.weight"][1])
    torch.testing.assert_close(features[0, 4, 3:4], embedders["_embedders.1.weight"][0])
    torch.testing.assert_close(features[:, 7, 4:6], real)
    torch.testing.assert_close(features[..., 6:], steps)


def test_absent_static_features_are_zero() -> None:
    made, scale = FeatureAssembly(), torch.ones(2, 1)
    zeros = Covariates(
        steps=torch.ones(2, 10, 1), static_real=torch.zeros(2, 1), static_category=torch.zeros(2, 1, dtype=torch.long)
    )
    assert torch.equal(made(scale, Covariates(steps=zeros.steps), 10), made(scale, zeros, 10))


def test_bad_features() -> None:
    made, scale, steps = FeatureAssembly(), torch.ones(2, 1), torch.ones(2, 10, 1)
    with pytest.raises(ValueError, match=r"steps must have shape \(2, 10, n\), context and future, got \(2, 9, 1\)"):
        made(scale, Covariates(steps=steps[:, 1:]), 10)
    with pytest.raises(ValueError, match=r"static_real must have shape \(2, 1\), got \(2, 3\)"):
        made(scale, Covariates(steps=steps, static_real=torch.ones(2, 3)), 10)
    with pytest.raises(ValueError, match="one width a category"):
        FeatureAssembly((3,), (1, 2))
    with pytest.raises(ValueError, match="static_reals must be at least 0"):
        FeatureAssembly(static_reals=-1)
