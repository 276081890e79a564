"""Pandas frames, long and wide: what comes out of them, how irregular ones are read, and which are refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.timeseries.frame_data import HOURS, KNOWN, LONG, WIDE, long, paths, predictor, wide, with_future
from tests.timeseries.waves import TINY, wave
from timeseries.columns import Columns, times_of
from timeseries.estimator import Training, TSDiffEstimator
from timeseries.frames import Forecaster
from timeseries.frequencies import Frequency
from timeseries.grid import Grid

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
