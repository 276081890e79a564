"""What else a model makes of pandas frames: filled gaps, refined forecasts, samples, backtests."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.timeseries.frame_data import HOURS, KNOWN, LONG, WIDE, long, paths, predictor, wide, with_future
from tests.timeseries.waves import config, wave
from timeseries import ImplicitEnergy, Refiner
from timeseries.columns import Columns
from timeseries.frames import Forecaster
from timeseries.guidance import SquareEnergy
from timeseries.imputation import places
from timeseries.langevin import Descent
from timeseries.scores import crps

# --- imputation


@pytest.mark.parametrize("length", [2, 4, 9, 13, 16, 17, 40, 90])
def test_windows_hold_every_gap_once_within_the_series(length):
    settings, rng = config(), np.random.default_rng(length)
    target = np.where(rng.random(length) < 0.4, np.nan, 1.0)
    target[0] = np.nan
    found = places(target, settings)
    assert np.array_equal(np.concatenate([gaps for _, gaps in found]), np.flatnonzero(np.isnan(target)))
    for split, gaps in found:
        assert 0 <= split <= length or length <= 4
        assert ((gaps >= split - 12) & (gaps < split + 4)).all()
        assert length < 16 or 12 <= split <= length - 4


def test_gaps_are_filled_and_nothing_else_is_touched():
    df = long()
    gone = df.drop(index=[5, 6]).assign(y=lambda d: d.y.where(~d.index.isin([0, 59, 80])))
    table = Forecaster(predictor(), LONG).impute(gone, levels=(0.1, 0.9))
    assert list(table.columns) == ["unique_id", "ds", "y", "imputed", "0.1", "0.9"]
    assert table.index[table.imputed].tolist() == [0, 5, 6, 59, 80]
    assert table.ds.tolist() == df.ds.tolist()
    np.testing.assert_array_equal(table.y[~table.imputed], df.y[~table.imputed])
    assert np.isfinite(table.y).all()
    assert (table["0.9"] > table["0.1"])[table.imputed].all()


def test_guidance_pulls_what_is_filled_towards_its_neighbours():
    """Values after a gap, which no forecast sees, change what fills it, and are themselves returned as they are."""
    made = predictor(guidance_scale=4.0)
    frame = wide(1)
    frame.iloc[30] = np.nan
    first = Forecaster(made, WIDE).impute(frame)
    other = frame.copy()
    other.iloc[31:33] += 20.0
    assert abs(Forecaster(made, WIDE).impute(other).a[30] - first.a[30]) > 1e-4
    np.testing.assert_array_equal(first.a.drop(30), frame.a.reset_index(drop=True).drop(30))


def test_series_of_zeros_and_whole_series_need_no_model():
    frame = pd.DataFrame({"zero": np.where(np.arange(60) % 7, 0.0, np.nan), "whole": wave(60).astype(float)}, index=HOURS)
    filled = Forecaster(predictor(), WIDE).impute(frame)
    assert (filled.zero == 0).all()
    np.testing.assert_array_equal(filled.whole, frame.whole)
    with pytest.raises(TypeError, match="unconditional model"):
        Forecaster(predictor(conditional=True), WIDE).impute(frame)
    with pytest.raises(ValueError, match="levels are for long frames"):
        Forecaster(predictor(), WIDE).impute(frame, levels=(0.5,))


def test_with_covariates_every_row_is_filled_also_after_the_last_value():
    made, df = predictor(covariates=1, covariate_statistics=((30.0, 20.0),)), with_future(6)
    gone = df.assign(y=df.y.where(~df.index.isin([7, *range(100, 140)])))
    filled = Forecaster(made, KNOWN).impute(gone)
    assert filled.ds.tolist() == df.ds.tolist()
    assert filled.index[filled.imputed].tolist() == gone.index[gone.y.isna()].tolist()
    assert np.isfinite(filled.y).all()
    frame = gone.pivot(index="ds", columns="unique_id", values="y").assign(heat=np.arange(66.0))
    across = Columns(target=None, covariates=("heat",))
    table = Forecaster(made, across).impute(frame)
    assert table.ds.tolist() == frame.index.tolist()
    np.testing.assert_allclose(np.r_[table.a, table.b], filled.y, rtol=1e-5)
    with pytest.raises(ValueError, match=r"series 'a': covariate 'heat' must be known .* missing at 2020-01-03 16:00:00"):
        Forecaster(made, across).impute(frame.assign(heat=np.r_[np.arange(64.0), np.nan, np.nan]))


def test_what_is_filled_is_never_missing():
    made, frame = Forecaster(predictor(), WIDE), wide()
    frame.iloc[[3, 40], 1] = np.nan
    done = made.imputations(frame)
    short = replace(done[1][0], target=done[1][0].target[:50])
    with pytest.raises(ValueError, match="series 'b': ends before the others, the first missing row is 2020-01-03 02:00:00"):
        made.filled([done[0], (short, done[1][1][:, :50])])
    done[1][1][:, 40] = np.nan
    with pytest.raises(ValueError, match="series 'b': what fills its gaps must be finite, but is not at 2020-01-02 16:00:00"):
        made.filled(done)


# --- refinement, samples, backtests


def test_refinement_starts_from_the_given_forecasts():
    made, df = Forecaster(predictor(), LONG), long()
    base = made.forecasts(df)
    still = made.refine(base, df, refiner=Refiner(iterations=0))
    np.testing.assert_allclose(paths(still), np.sort(paths(base), 1), rtol=1e-5)
    assert [str(f.start_date) for f in still] == [str(f.start_date) for f in base]
    points = made.predict(df)[["unique_id", "ds", "mean"]]
    drawn = made.refine(points, df, refiner=Refiner(iterations=0), samples=3)
    np.testing.assert_allclose(paths(drawn)[:, 1].ravel(), points["mean"], rtol=1e-5)
    refiner = Refiner(iterations=3, dynamics=Descent(lr=0.01), energy=ImplicitEnergy(tau=2))
    moved = made.table(made.refine(points, df, refiner=refiner), df)
    assert np.isfinite(moved["mean"]).all()
    assert np.abs(moved["mean"] - points["mean"]).max() > 1e-3


def test_base_forecasts_that_do_not_follow_the_series():
    made, df = Forecaster(predictor(), LONG), long()
    with pytest.raises(ValueError, match="series 'a': its forecast must begin at 2020-01-03 11:00, where the series ends, got"):
        made.refine(made.forecasts(df), df.drop(index=59))
    with pytest.raises(ValueError, match="series 'b': the frame of forecasts has no value for 2020-01-03 15:00"):
        made.refine(made.predict(df)[["unique_id", "ds", "mean"]][:7], df)
    with pytest.raises(ValueError, match="one column of values"):
        made.refine(made.predict(df), df)
    with pytest.raises(ValueError, match="one for each of 2 series, got 1"):
        made.refine(made.forecasts(df)[:1], df)


def test_forecasts_of_other_series_or_not_finite_are_refused():
    made, df = Forecaster(predictor(), LONG), long()
    for use in (made.table, made.refine):
        base = made.forecasts(df)
        with pytest.raises(ValueError, match="series 'a': its forecast is that of 'b'; forecasts must be in the order of"):
            use(base[::-1], df)
        base[1].samples[2, 3] = np.nan
        with pytest.raises(ValueError, match="series 'b': its forecast must be finite, step 3 of path 2 is nan"):
            use(base, df)
    points = made.predict(df)[["unique_id", "ds", "mean"]].astype({"mean": object})
    for value in (np.inf, "much"):
        points.loc[5, "mean"] = value
        with pytest.raises(ValueError, match="series 'b': the frame of forecasts has no value for 2020-01-03 13:00"):
            made.refine(points, df)


def test_ids_that_only_one_side_has_or_that_are_written_alike():
    df = long().assign(unique_id=lambda d: d.unique_id.map({"a": 1, "b": 2}))
    made = Forecaster(predictor(), LONG)
    base = made.forecasts(df)
    expected = made.table(base, df)
    for names in (("1", "2"), (None, None)):
        for forecast, name in zip(base, names, strict=True):
            forecast.item_id = name
        pd.testing.assert_frame_equal(made.table(base, df), expected)


def test_refinements_of_other_seeds_share_no_noise():
    energy = ImplicitEnergy(tau=2, regulariser=SquareEnergy())  # by which all paths of a point are alike but for their noise
    refiner, df = Refiner(iterations=1, energy=energy), long(1)
    points = Forecaster(predictor(), LONG).predict(df)[["unique_id", "ds", "mean"]]
    runs = [Forecaster(predictor(seed=seed), LONG).refine(points, df, refiner=refiner, samples=3)[0].samples for seed in (0, 1)]
    assert np.abs(runs[0][:, None] - runs[1][None]).max(-1).min() > 1e-3


def test_samples_are_columns():
    drawn = Forecaster(predictor()).sample(3, seed=4)
    assert drawn.shape == (16, 3)
    np.testing.assert_array_equal(drawn[1], predictor().sample(3, seed=4)[1])


def test_a_backtest_forecasts_each_window_from_what_was_before():
    made, df, seen = Forecaster(predictor(), LONG), long(), []
    result = made.backtest(df, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert list(result.frame.columns) == ["unique_id", "ds", "window", "y", "mean", "0.1", "0.5", "0.9"]
    np.testing.assert_array_equal(result.frame.y[:4], df.y[52:56])
    first = made.predict(df[df.ds < HOURS[52]])
    pd.testing.assert_frame_equal(result.frame[:8].drop(columns=["window", "y"]), first)
    truth = result.frame.y.to_numpy().reshape(4, 4)
    np.testing.assert_array_equal(truth[3], df.y[116:])
    short = Forecaster(predictor(num_samples=1), LONG).backtest(df, 2)
    drawn = short.frame["mean"].to_numpy().reshape(4, 1, 4)
    assert short.scores.crps == pytest.approx(crps(drawn, truth), rel=1e-5)
    assert result.naive.crps == pytest.approx(result.naive.nd)
    with pytest.raises(ValueError, match="series 'a': needs a value before its last 60 steps, 15 windows of 4"):
        made.backtest(df, 15)
    with pytest.raises(ValueError, match="series must have known values other than 0 in their last 8 steps to be scored by"):
        made.backtest(df.assign(y=df.y.where(df.ds < HOURS[52], 0.0)), 2)
