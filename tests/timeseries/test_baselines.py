"""Baselines: closed forms on small series, and the figures that are known of real ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gluonts.dataset.common import ListDataset
from gluonts.evaluation import Evaluator, make_evaluation_predictions
from gluonts.model.estimator import Estimator
from gluonts.model.predictor import Predictor

from tests.timeseries.waves import config, entries, wave
from timeseries.baselines import RidgeEstimator, SeasonalNaive, random_windows, without_gaps
from timeseries.files import read_entries
from timeseries.scores import Scores, crps
from timeseries.series import series_of

DATA = Path(__file__).parents[3] / "shared" / "data" / "timeseries"
# name, context, windows, seasonal naive, ridge regression
KNOWN = [
    ("exchange_rate_nips", 360, 0.01075, 0.01124),
    ("m4_hourly_train", 312, 0.0445, 0.049),
    ("ETTh1", 336, 0.317, 0.247),
]


def ramp(length, slope=1.0, start=1.0, **fields):
    return {"start": "2020-01-01", "target": start + slope * np.arange(length), **fields}


def samples(forecasts):
    return np.stack([f.samples for f in forecasts])


# --- seasonal naive


def test_the_last_season_again():
    data = [{"start": pd.Period("2020-01-01", freq="h"), "target": np.arange(50.0), "item_id": "x"}]
    (forecast,) = SeasonalNaive("h", 30).predict(data)
    np.testing.assert_array_equal(forecast.samples, [[*range(26, 50), *range(26, 32)]])
    assert (str(forecast.start_date), forecast.item_id) == ("2020-01-03 02:00", "x")
    assert SeasonalNaive("B", 30).season == 5
    np.testing.assert_array_equal(samples(SeasonalNaive("h", 5, season=2).predict(data)), [[[48, 49, 48, 49, 48]]])


def test_gaps_come_from_the_season_before_and_short_series_are_their_mean():
    y = np.array([1.0, 2, 3, 4, np.nan, 6, np.nan, np.nan, 9])  # seasons 1 2 3 | 4 ? 6 | ? ? 9
    made = SeasonalNaive("h", 4, season=3)
    np.testing.assert_array_equal(samples(made.predict([{"start": "2020", "target": y}])), [[[4, 2, 9, 4]]])
    np.testing.assert_array_equal(samples(made.predict([{"start": "2020", "target": [1.0, 4]}])), [[[2.5] * 4]])


def test_the_errors_of_a_line_are_its_rise_over_a_season():
    made = SeasonalNaive("h", 5, season=3, errors=True)
    found = samples(made.predict([ramp(40, slope=2.0)], num_samples=7))
    assert found.shape == (1, 7, 5)
    np.testing.assert_allclose(found[0], np.tile(79 + 2 * np.arange(1, 6), (7, 1)))  # the line goes on


def test_errors_are_whole_trajectories_with_their_own_seed():
    made = SeasonalNaive("h", 4, season=8, errors=True, seed=3)
    point = samples(SeasonalNaive("h", 4, season=8).predict(entries(2)))
    found = samples(made.predict(entries(2), num_samples=50))
    for i in range(2):
        y = wave(90, i).astype(float)
        every = np.stack([y[o : o + 4] - y[o - 8 : o - 4] for o in range(8, 87)])
        distance = np.abs(found[i][:, None] - point[i] - every).max(-1).min(1)
        assert distance.max() < 1e-5
    assert np.array_equal(found, samples(made.predict(entries(2), num_samples=50)))
    assert np.unique(found[0], axis=0).shape[0] > 20
    assert samples(made.predict([ramp(9)], num_samples=3)).std(1).max() == 0  # no place to err at


# --- ridge regression


def test_scaled_waves_are_forecast_by_ridge_regression():
    def series(phase, size, length=200):
        return {"start": "2020", "target": size * (2 + np.sin((np.arange(length) + phase) * 2 * np.pi / 8))}

    train = [series(i, 10.0**i) for i in range(3)]
    made = RidgeEstimator("h", 4, 16, windows=500, alpha=1e-6).train(train)
    found = samples(made.predict([series(0.3, 7.0, 100)]))
    assert found.shape == (1, 1, 4)
    np.testing.assert_allclose(found[0, 0], series(0.3, 7.0, 104)["target"][100:], rtol=1e-3)


def test_forecasts_scale_with_the_series():
    made = RidgeEstimator("h", 4, 12, windows=200, errors=True).train(entries(3))
    one, ten = (samples(made.predict([{"start": "2020", "target": c * wave()}], 5)) for c in (1.0, 10.0))
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-5)
    assert one.shape == (1, 5, 4)
    assert one.std(1).min() > 0


def test_the_paths_are_as_wide_as_the_errors():
    rng = np.random.default_rng(0)
    train = [{"start": "2020", "target": 10 + rng.normal(size=3000)}]
    made = RidgeEstimator("h", 2, 8, windows=2000, errors=True).train(train)
    ends = [{"start": "2020", "target": train[0]["target"][:n]} for n in range(100, 3000, 50)]
    found = samples(made.predict(ends, num_samples=200))
    assert found.mean() == pytest.approx(10, abs=0.15)
    assert found.std(1).mean() == pytest.approx(np.sqrt(1 + 1 / 8), rel=0.05)  # of a value and of the mean of eight


def test_windows_are_whole_scaled_and_reach_everywhere():
    y = np.arange(1.0, 41)
    y[30] = np.nan
    settings = config(lags=())
    found = random_windows(series_of([{"start": "2020", "target": y}], settings), settings, count=400)
    assert found.shape == (400, 16)
    np.testing.assert_allclose(np.nanmean(np.abs(found[:, :12]), 1), 1)
    begins = {int(np.round(3 * row[12] / (row[15] - row[12]))) - 1 for row in found}  # of the ratio of value and rise
    assert begins == {*range(12, 27), *range(31, 37)}  # 27..30 have the gap in their future


def test_gaps_are_filled_from_the_nearest_season():
    a, b, c = (np.array(v, dtype=float) for v in ([1, 2, 3], [4, np.nan, 6], [7, 8, np.nan]))
    row = np.concatenate([[np.nan], a, b, c])  # begins within a season
    filled = without_gaps(row[None], 3)
    assert filled.tolist() == [[3, 1, 2, 3, 4, 2, 6, 7, 8, 6]]
    none = np.full((1, 4), np.nan)
    assert without_gaps(none, 3).tolist() == [[0, 0, 0, 0]]
    short = np.array([[np.nan, 2.0, 4.0]])
    assert without_gaps(short, 24).tolist() == [[3, 2, 4]]  # no other season: the mean
    whole = np.random.default_rng(0).normal(size=(5, 17))
    assert (without_gaps(whole, 4) == whole).all()


def test_ridge_regression_sees_through_gaps():
    y = np.tile(10 + np.arange(8.0), 30)
    made = RidgeEstimator("h", 4, 48, windows=400).train([{"start": "2020", "target": np.tile(y, 3)[: 24 * 20]}])
    hidden = y[:192].copy()
    hidden[np.r_[150:160, 180:192]] = np.nan
    found = samples(made.predict([{"start": "2020", "target": hidden}]))
    np.testing.assert_allclose(found[0, 0], y[192:196], rtol=0.05)


def test_short_series_are_padded_and_zeros_do_not_explode():
    settings = config(lags=())
    found = random_windows(series_of([ramp(8)], settings), settings, count=3)
    np.testing.assert_allclose(found[0], np.concatenate([np.full(8, np.nan), np.arange(1.0, 9)]) / 2.5)
    late = {"start": "2020", "target": np.concatenate([np.zeros(40), np.ones(10)])}
    windows = random_windows(series_of([late], settings), settings, count=300)
    assert np.nanmax(np.abs(windows)) <= 12
    made = RidgeEstimator("h", 4, 12, windows=100).train([late])
    hidden = {"start": "2020", "target": np.concatenate([np.full(9, 5.0), np.full(12, np.nan)])}
    assert np.isfinite(samples(made.predict([hidden]))).all()


# --- GluonTS


@pytest.mark.parametrize("errors", [False, True])
def test_gluonts_evaluates_them(errors):
    data = ListDataset(entries(3), freq="h")
    estimator = RidgeEstimator("h", 4, 12, windows=100, errors=errors)
    assert isinstance(estimator, Estimator)
    for made in (SeasonalNaive("h", 4, season=8, errors=errors), estimator.train(data)):
        assert isinstance(made, Predictor)
        found, series = (list(part) for part in make_evaluation_predictions(data, made, num_samples=20))
        total, _ = Evaluator(num_workers=0)(series, found)
        truth = np.stack([e["target"][-4:] for e in entries(3)])
        assert crps(samples(found), truth) == pytest.approx(total["mean_wQuantileLoss"], rel=1e-5)
        if not errors:
            assert total["mean_wQuantileLoss"] == pytest.approx(total["ND"])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="season must be at least 1"):
        SeasonalNaive("h", 4, season=0)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        SeasonalNaive("h", 4).predict(entries(1), num_samples=0)
    with pytest.raises(TypeError, match="got wrong besides"):
        SeasonalNaive("h", 4).predict(entries(1), wrong=1)
    with pytest.raises(ValueError, match="series 'x': all 5 values are missing"):
        list(SeasonalNaive("h", 4).predict([{"start": "2020", "target": np.full(5, np.nan), "item_id": "x"}]))
    with pytest.raises(ValueError, match="4 known values in a row"):
        RidgeEstimator("h", 4, 12).train([ramp(4)])
    with pytest.raises(ValueError, match="windows must be at least 1, got 0"):
        RidgeEstimator("h", 4, 12, windows=0).train(entries(1))
    with pytest.raises(ValueError, match="alpha must be finite"):
        RidgeEstimator("h", 4, 12, alpha=-1)


# --- real series


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared time series are not here")
@pytest.mark.parametrize(("name", "context", "naive", "ridge"), KNOWN)
def test_figures_of_real_series(name, context, naive, ridge):
    if not (DATA / f"{name}.npz").is_file():
        pytest.skip(f"{name}.npz is not here")
    with np.load(DATA / f"{name}.npz") as archive:
        freq, H, W = str(archive["freq"]), int(archive["prediction_length"]), int(archive["rolling_windows"])
    every = read_entries(DATA / f"{name}.npz")
    test = [{**e, "target": e["target"][: len(e["target"]) - w * H]} for w in range(W, 0, -1) for e in every]
    truth = np.stack([e["target"][len(e["target"]) - w * H :][:H] for w in range(W, 0, -1) for e in every])
    train = [{**e, "target": e["target"][: len(e["target"]) - W * H]} for e in every]
    found = Scores.of(samples(SeasonalNaive(freq, H).predict(test)), truth)
    assert found.crps == pytest.approx(naive, abs=0.5 * 10 ** -len(str(naive).split(".")[1]))
    assert found.crps == pytest.approx(found.nd)
    # ten thousand random windows: seeds differ by 5 % of the score
    linear = RidgeEstimator(freq, H, context).train(train)
    assert crps(samples(linear.predict(test)), truth) == pytest.approx(ridge, rel=0.06)
