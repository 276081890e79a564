"""Pandas frames, long and wide: what comes out of them, how irregular ones are read, and which are refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from tests.timeseries.waves import TINY, config, wave
from timeseries import ImplicitEnergy, Refiner
from timeseries.columns import Columns, times_of
from timeseries.estimator import Training, TSDiffEstimator
from timeseries.frames import Forecaster
from timeseries.frequencies import Frequency
from timeseries.grid import Grid
from timeseries.guidance import SquareEnergy
from timeseries.imputation import places
from timeseries.langevin import Descent
from timeseries.predictor import TSDiffPredictor
from timeseries.scores import crps

LONG, WIDE = Columns(id="unique_id"), Columns(target=None)
HOURS = pd.date_range("2020-01-01", periods=60, freq="h")


@cache
def trained(**options):
    settings = config(**{"T": 3, **options})
    torch.manual_seed(0)
    return settings, settings.model().eval()


def predictor(num_samples=5, seed=0, **options):
    return TSDiffPredictor(*trained(**options), num_samples=num_samples, seed=seed)


def long(count=2, length=60, **columns):
    parts = [{"unique_id": "abc"[i], "ds": HOURS[:length], "y": wave(length, i).astype(float), **columns} for i in range(count)]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def wide(count=2):
    return long(count).pivot(index="ds", columns="unique_id", values="y")


def paths(forecasts):
    return np.stack([f.samples for f in forecasts])


# --- forecasts


def test_a_forecast_is_dated_named_and_that_of_the_predictor():
    made, df = Forecaster(predictor(), LONG), long()
    table = made.predict(df, levels=(0.25, 0.5))
    assert list(table.columns) == ["unique_id", "ds", "mean", "0.25", "0.5"]
    assert table.unique_id.tolist() == ["a"] * 4 + ["b"] * 4
    assert table.ds[:4].tolist() == list(pd.date_range(HOURS[-1], periods=5, freq="h")[1:])
    entries = [{"start": "2020-01-01", "target": wave(60, i)} for i in range(2)]
    expected = paths(predictor().predict(entries))
    np.testing.assert_allclose(table["mean"], expected.mean(1).ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["0.5"], np.median(expected, 1).ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["0.25"], np.sort(expected, 1)[:, 1].ravel(), rtol=1e-5)


@pytest.mark.filterwarnings("error")
def test_wide_frames_and_indices_of_times_forecast_alike():
    expected = Forecaster(predictor(), LONG).predict(long())
    for df in (wide(), wide().reset_index(), wide().to_period("h"), wide().rename_axis(index="when")):
        table = Forecaster(predictor(), WIDE).predict(df)
        assert table["series"].tolist() == expected.unique_id.tolist()
        pd.testing.assert_frame_equal(table.drop(columns="series"), expected.drop(columns="unique_id"))
    one = Forecaster(predictor()).predict(long(1).drop(columns="unique_id"))
    pd.testing.assert_frame_equal(one, expected[:4].drop(columns="unique_id"))


def test_order_gaps_and_scatter_of_rows_do_not_matter():
    made, df = Forecaster(predictor(), LONG), long()
    gone = df.assign(y=df.y.where(~df.index.isin([7, 70, 71])))
    expected = made.predict(gone)
    shuffled = gone.sample(frac=1, random_state=0)
    scattered = df.drop(index=[7, 70, 71]).assign(
        ds=lambda d: d.ds + pd.to_timedelta(np.tile([-300, 0, 200], len(d) // 3 + 1)[: len(d)], "s")
    )
    texts = gone.assign(ds=gone.ds.dt.strftime("%Y-%m-%d %H:%M"))
    for other in (shuffled, df.drop(index=[7, 70, 71]), scattered, texts):
        table = made.predict(other).sort_values(["unique_id", "ds"], ignore_index=True)
        if other is not shuffled:  # the order of appearance numbers the noise
            pd.testing.assert_frame_equal(table, expected)
        assert table.ds.tolist() == expected.ds.tolist()


@pytest.mark.parametrize("freq", ["H", "h", "1h", "60min"])
def test_both_spellings_of_a_frequency(freq):
    made = Forecaster(predictor(freq=freq), LONG)
    assert made.predict(long()).ds.iloc[0] == HOURS[-1] + pd.Timedelta("1h")


def test_odd_series_have_finite_forecasts():
    values = {"zero": np.zeros(60), "constant": np.full(60, 3.0), "late": np.r_[np.full(58, np.nan), 1.0, 2.0]}
    values["silent"] = np.r_[wave(20), np.full(40, np.nan)]
    table = Forecaster(predictor(), WIDE).predict(pd.DataFrame(values, index=HOURS)).set_index("series")
    assert np.isfinite(table.drop(columns="ds")).all(axis=None)
    assert (table.loc["zero", ["mean", "0.1", "0.9"]] == 0).all(axis=None)


# --- the grid

TIMES = [
    ("h", ["2020-01-01 00:30", "2020-01-01 01:30", "2020-01-01 03:30"], [0, 1, 3], "2020-01-01 04:30"),
    ("h", ["2020-01-01 00:00:02", "2020-01-01 00:59:58", "2020-01-01 02:00:00"], [0, 1, 2], "2020-01-01 03:00"),
    ("2h", ["2020-01-01 01:00", "2020-01-01 03:00", "2020-01-01 07:00"], [0, 1, 3], "2020-01-01 09:00"),
    ("15min", ["2020-01-01 00:16", "2020-01-01 00:30", "2020-01-01 00:45"], [0, 1, 2], "2020-01-01 01:00"),
    ("M", ["2020-01-31", "2020-02-29", "2020-04-30"], [0, 1, 3], "2020-05-31"),
    ("ME", ["2020-01-01", "2020-02-01"], [0, 1], "2020-03-01"),
    ("MS", ["2020-01-15", "2020-02-15"], [0, 1], "2020-03-15"),
    ("BME", ["2020-01-31", "2020-02-28"], [0, 1], "2020-03-31"),
    ("QS-FEB", ["2020-02-01", "2020-08-01"], [0, 2], "2020-11-01"),
    ("W", ["2020-01-05", "2020-01-12"], [0, 1], "2020-01-19"),
    ("W", ["2020-01-01", "2020-01-08"], [0, 1], "2020-01-15"),
    ("Y", ["2019-12-31", "2020-12-31"], [0, 1], "2021-12-31"),
    ("B", ["2020-01-02", "2020-01-03", "2020-01-07"], [0, 1, 3], "2020-01-08"),
    ("D", ["2020-01-01 23:59", "2020-01-02 23:59"], [0, 1], "2020-01-03 23:59"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("freq", "times", "steps", "following"), TIMES)
def test_times_keep_their_place_in_the_period(freq, times, steps, following):
    grid, found = Grid.of(pd.DatetimeIndex(times[::-1], freq=None), Frequency.parse(freq))
    assert found.tolist() == steps[::-1]
    assert grid.times(max(steps) + 1, 1)[0] == pd.Timestamp(following)


def test_zones_are_kept_and_the_hour_of_the_clock_change_is_not_doubled():
    times = pd.date_range("2020-10-24", periods=60, freq="h", tz="Europe/Berlin")
    grid, steps = Grid.of(times, Frequency.parse("h"))
    assert steps.tolist() == list(range(60))
    assert (grid.times(0, 60) == times).all()
    texts = pd.Series(times.astype(str))  # with both offsets
    assert (times_of(texts, "t") == times).all()
    days = pd.date_range("2020-10-24", periods=3, freq="D", tz="Europe/Berlin")
    with pytest.raises(ValueError, match=r"one offset from UTC .* row 0 has '2020-10-24 00:00:00\+02:00', row 2 has"):
        times_of(pd.Series(days.astype(str)), "t", by_clock=True)
    one = pd.Series(days[:2].astype(str))
    assert (times_of(one, "t", by_clock=True) == days[:2]).all()
    grid, steps = Grid.of(days, Frequency.parse("D"))
    assert (grid.times(0, 3) == days).all()


# --- what is refused


def changed(row, column, value):
    df = long().astype({column: object})
    df.loc[row, column] = value
    return df


BAD = [
    (changed(63, "ds", "2020-13-01"), "column 'ds' must hold dates, row 63 has '2020-13-01'"),
    (changed(63, "ds", None), "column 'ds' must hold dates, row 63 has None"),
    (changed(63, "ds", HOURS[1]), "series 'b': row 63 repeats the time 2020-01-01 01:00:00 of row 61; keep one"),
    (changed(63, "ds", HOURS[1] + pd.Timedelta("1min")), "rows 61 and 63, .* belong to one step of freq 'h'"),
    (changed(63, "ds", pd.Timestamp("2220-01-01")), "series 'b': freq 'h' is too fine or a time is wrong: 60 times span"),
    (changed(63, "y", "many"), "series 'b': column 'y' must hold finite numbers, .*; row 63 has 'many'"),
    (changed(63, "y", np.inf), "series 'b'.* row 63 has inf"),
    (long().assign(y=lambda d: d.y.where(d.index != 63, -np.inf)), "series 'b'.* row 63 has -inf$"),
    (changed(63, "y", 1e39), "series 'b'.* row 63 has 1e"),
    (changed(63, "unique_id", None), "column 'unique_id' must name a series in every row, row 63 is empty"),
    (long().assign(y=lambda d: d.y.where(d.unique_id == "a")), "series 'b': all 60 values are missing"),
    (long().rename(columns={"y": "value"}), "there is no column 'y'; the columns are unique_id, ds, value"),
    (long().assign(ds=1), "column 'ds' must hold dates, row 0 has the number 1"),
    (long()[:0], "at least one row"),
    (long().iloc[::7], "freq 'h' is too fine .* multiples of 7 steps apart"),
]


@pytest.mark.parametrize(("df", "message"), BAD)
def test_bad_frames_name_the_series_and_the_row(df, message):
    with pytest.raises(ValueError, match=message):
        Forecaster(predictor(), LONG).predict(df)


def test_series_that_are_not_told_apart():
    with pytest.raises(ValueError, match=r"series 'y': row 60 repeats .*; name the column that tells the series apart"):
        Forecaster(predictor()).predict(long())
    with pytest.raises(TypeError, match="must be a pandas DataFrame, got list"):
        Forecaster(predictor()).predict([1.0])


def test_a_series_without_a_name_is_called_by_its_column():
    made, df = Forecaster(predictor(), Columns(target="load")), long(1).rename(columns={"y": "load"})
    assert [f.item_id for f in made.forecasts(df)] == ["load"]
    for use in (made.predict, made.impute):
        with pytest.raises(ValueError, match="series 'load': all 60 values are missing"):
            use(df.assign(load=np.nan))
    with pytest.raises(ValueError, match=r"of the series 'load', counted from 0: .* diverges"):
        Forecaster(predictor(guidance_scale=1e38), made.columns).predict(df)


def test_irregular_rows_can_be_refused():
    strict = Forecaster(predictor(), Columns(id="unique_id", regularise=False))
    pd.testing.assert_frame_equal(strict.predict(long()), Forecaster(predictor(), LONG).predict(long()))
    late = long()
    late.loc[63, "ds"] += pd.Timedelta("10s")
    for df, row in ((late, 63), (long().drop(index=63).reset_index(drop=True), 63), (long().iloc[[0, 2, 1]].reset_index(), 1)):
        with pytest.raises(ValueError, match=f"row {row} must be .*; regularise=True allows it"):
            strict.predict(df)


@pytest.mark.parametrize(
    "options", [{"time": "y"}, {"target": None, "id": "unique_id"}, {"covariates": ("a", "a")}, {"covariates": ("y",)}]
)
def test_columns_that_contradict_each_other(options):
    with pytest.raises(ValueError, match=r"different columns|no id column"):
        Columns(**options)


# --- covariates

KNOWN = Columns(id="unique_id", covariates=("heat",))


def with_future(steps=4):
    times = pd.date_range(HOURS[0], periods=60 + steps, freq="h")
    rows = [pd.DataFrame({"unique_id": i, "ds": times, "heat": np.arange(60.0 + steps)}) for i in "ab"]
    return pd.concat(rows, ignore_index=True).merge(long(), how="left")


def test_known_futures_are_rows_without_a_target_or_a_frame_of_their_own():
    made = Forecaster(predictor(covariates=1, covariate_statistics=((30.0, 20.0),)), KNOWN)
    df = with_future()
    table = made.predict(df)
    assert table.ds[0] == HOURS[-1] + pd.Timedelta("1h")
    known = df.dropna(subset="y")
    pd.testing.assert_frame_equal(made.predict(known, future=df[df.y.isna()].drop(columns="y")), table)
    assert not np.allclose(made.predict(df.assign(heat=df.heat.where(df.y.notna(), 0.0)))["mean"], table["mean"])


def test_a_future_is_read_like_the_past():
    made = Forecaster(predictor(covariates=1, covariate_statistics=((30.0, 20.0),)), KNOWN)
    df = with_future()
    known, future = df.dropna(subset="y"), df[df.y.isna()].drop(columns="y")
    table = made.predict(known, future=future)
    pd.testing.assert_frame_equal(made.predict(known.set_index("ds"), future=future.set_index("ds")), table)
    with pytest.raises(ValueError, match="future: there is no column 'heat'; the columns are unique_id, ds, heta"):
        made.predict(known, future=future.rename(columns={"heat": "heta"}))
    with pytest.raises(TypeError, match="must be a pandas DataFrame, got list"):
        made.predict(known, future=[1.0])


def test_days_before_months():
    times = pd.date_range("2024-01-01", periods=60, freq="D")
    made = Columns().series(pd.DataFrame({"ds": times.strftime("%d/%m/%Y"), "y": np.arange(60.0)}), Frequency.parse("D"))
    assert str(made[0].grid.times(0, 1)[0]) == "2024-01-01 00:00:00"
    np.testing.assert_array_equal(made[0].target, np.arange(60.0))


def test_covariates_that_end_early_or_have_gaps():
    made = Forecaster(predictor(covariates=1), KNOWN)
    with pytest.raises(
        ValueError, match="series 'a': covariates end early, the first missing row is that of 2020-01-03 14:00:00"
    ):
        made.predict(with_future(2))
    df = with_future()
    df.loc[70, "heat"] = np.nan
    with pytest.raises(ValueError, match=r"series 'b': covariate 'heat' must be known .* missing at 2020-01-01 06:00:00"):
        made.predict(df)
    with pytest.raises(ValueError, match="model has 0 covariates, but columns name 1"):
        Forecaster(predictor(), KNOWN)
    with pytest.raises(ValueError, match="columns name none"):
        Forecaster(predictor(), LONG).predict(long(), future=long())


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


# --- training and files


def estimator(**options):
    training = Training(epochs=1, batches=2, batch_size=4)
    settings = {"context_length": 12, "lags": (2, 8), "size": TINY, "T": 4, "accelerator": "cpu", "training": training}
    return TSDiffEstimator("H", 4, **{**settings, **options})


def test_fit_trains_on_what_is_not_held_out():
    df = long()
    fitted = Forecaster(estimator(), LONG).fit(df, held_out=2)
    expected = Forecaster(estimator(), LONG).fit(df[df.ds < HOURS[52]])
    for name, value in expected.predictor.model.state_dict().items():
        assert torch.equal(fitted.predictor.model.state_dict()[name], value)
    with pytest.raises(TypeError, match="fit needs"):
        Forecaster(fitted.predictor, LONG).fit(df)
    with pytest.raises(ValueError, match=r"call fit\(df\) first"):
        Forecaster(estimator(), LONG).predict(df)
    with pytest.raises(ValueError, match=r"series must have at least 8 values to train on.*'a', has 5"):
        Forecaster(estimator(), LONG).fit(long(length=5))
    with pytest.raises(ValueError, match="no series has values before"):
        Forecaster(estimator(), LONG).fit(df, held_out=15)


def test_a_saved_forecaster_forecasts_the_same(tmp_path):
    made, df = Forecaster(predictor(seed=3), LONG), long()
    made.save(tmp_path / "kept")
    again = Forecaster.load(tmp_path / "kept", device="cpu")
    assert again.columns == LONG
    pd.testing.assert_frame_equal(again.predict(df), made.predict(df))
    with pytest.raises(FileExistsError, match="there already"):
        made.save(tmp_path / "kept")
    assert Forecaster.load(tmp_path / "kept", columns=WIDE).columns == WIDE
    (tmp_path / "kept" / "columns.json").write_text('{"colour": 1}')
    with pytest.raises(ValueError, match=r"columns\.json does not hold"):
        Forecaster.load(tmp_path / "kept")


@pytest.mark.parametrize(
    ("method", "columns", "levels", "setting"),
    [
        ("predict", {"time": "mean"}, (0.5,), "time must not be 'mean', the name of a column that the forecast adds"),
        ("predict", {"id": "mean"}, (0.5,), "id must not be 'mean'"),
        ("predict", {"id": "0.5"}, (0.5,), r"id must not be '0\.5'"),
        ("predict", {"time": "series", "target": None}, (0.5,), "time must not be 'series'"),
        ("predict", {}, (0.1234567, 0.1234568), "levels must differ in their first six digits"),
        ("impute", {"target": "imputed"}, (), "target must not be 'imputed'"),
        ("impute", {"target": "0.5"}, (0.5,), r"target must not be '0\.5'"),
        ("backtest", {"target": "window"}, (0.5,), "target must not be 'window', the name of a column that the backtest adds"),
        ("backtest", {"time": "y", "target": None}, (0.5,), "time must not be 'y'"),
    ],
)
def test_names_that_results_use_themselves(method, columns, levels, setting, monkeypatch):
    made = Forecaster(predictor(), Columns(**columns))
    monkeypatch.setattr(made.predictor, "paths", None)  # nothing is drawn before
    names = {"ds": made.columns.time, "y": made.columns.target or "y1", "unique_id": made.columns.id or "other"}
    with pytest.raises(ValueError, match=setting):
        getattr(made, method)(long().rename(columns=names), levels=levels)


def test_names_that_results_do_not_use():
    frame = wide(1).rename(columns={"a": "imputed"}).rename_axis(index="mean")
    frame.iloc[4] = np.nan
    assert list(Forecaster(predictor(), Columns(time="mean", target=None)).impute(frame).columns) == ["mean", "imputed"]
    named = long(1).rename(columns={"y": "mean"})
    assert len(Forecaster(predictor(), Columns(target="mean")).predict(named)) == 4


@pytest.mark.parametrize("levels", [(), (0.0,), (0.5, 0.1), (0.5, 0.5), (1.5,)])
def test_levels_are_probabilities_in_order(levels):
    with pytest.raises(ValueError, match="levels must be increasing numbers between 0 and 1"):
        Forecaster(predictor(), LONG).predict(long(), levels=levels)
