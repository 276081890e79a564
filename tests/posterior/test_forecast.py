"""forecast, impute and backtest: CSV in, CSV out, one line for bad input and nothing half-written."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from posterior import forecast_training, forecasting
from tests.posterior.stub import assert_one_error_line, run
from tests.timeseries.waves import TINY, config, wave
from timeseries.columns import Columns
from timeseries.frames import Forecaster
from timeseries.predictor import TSDiffPredictor

IDS = ("--id", "unique_id")


def frame(length=60):
    times = pd.date_range("2020-01-01", periods=length, freq="h")
    parts = [
        pd.DataFrame({"unique_id": i, "ds": times, "y": wave(length, n).astype(float)}) for n, i in enumerate(["007", "b"])
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a tiny model."""
    settings = config(T=3)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Forecaster(TSDiffPredictor(settings, settings.model())).save(folder)
    heated = config(T=3, covariates=1)
    TSDiffPredictor(heated, heated.model()).serialize(folder.parent / "heated")
    return folder


@pytest.fixture
def here(tmp_path, kept, monkeypatch):
    """A folder with data, good and bad, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    df = frame()
    df.to_csv("data.csv", index=False)
    df.pivot(index="ds", columns="unique_id", values="y").reset_index().to_csv("wide.csv", index=False)
    df.assign(y=df.y.where(~df.index.isin([5, 6, 100]))).drop(index=[30]).to_csv("gaps.csv", index=False)
    df.assign(ds=df.ds.where(df.index != 70, "soon")).to_csv("dates.csv", index=False)
    df.assign(y=df.y.astype(object).where(df.index != 70, "high")).to_csv("words.csv", index=False)
    pd.concat([df, df[70:71]]).to_csv("twice.csv", index=False)
    df.drop(index=70).to_csv("missing.csv", index=False)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "noise.csv").write_bytes(bytes(range(128, 256)) * 9)
    df[:60].drop(columns="unique_id").to_csv("one.csv", index=False)
    df[:60].assign(y=df.y.where(df.index != 7, np.inf)).to_csv("inf.csv", index=False)
    (tmp_path / "model").symlink_to(kept)
    (tmp_path / "heated").symlink_to(kept.parent / "heated")
    return tmp_path


def command(line):
    return run(*line.split())


def test_forecast(here, kept):
    result = command("forecast data.csv --id unique_id --model model --samples 5 --quantiles 0.9,0.1 -o out.csv --plot fan.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("out.csv: 2 series, 8 rows,")
    table = pd.read_csv("out.csv", dtype={"unique_id": str}, parse_dates=["ds"])
    made = Forecaster.load(kept, columns=Columns(id="unique_id"), device="cpu")
    made.predictor.num_samples = 5
    expected = made.predict(frame(), levels=(0.1, 0.9))
    pd.testing.assert_frame_equal(table, expected, check_exact=False, rtol=1e-6, check_dtype=False)
    assert (here / "fan.png").read_bytes().startswith(b"\x89PNG")
    again = command("forecast wide.csv --wide --model model --samples 5 --quantiles 0.1,0.9 -o wide.out.csv --device cpu")
    assert again.exit_code == 0, again.output
    np.testing.assert_allclose(pd.read_csv("wide.out.csv")["mean"], table["mean"], rtol=1e-6)


def test_the_seed_decides(here):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = command(f"forecast data.csv --id unique_id --model model --samples 3 --seed {seed} -o {name}.csv")
        assert result.exit_code == 0, result.output
    a, b, c = ((here / f"{name}.csv").read_text() for name in "abc")
    assert a == b
    assert a != c


def test_the_model_that_ships_is_the_default_for_hours(here):
    result = command("forecast data.csv --id unique_id --freq H --horizon 6 --samples 3 -o out.csv --device cpu")
    assert result.exit_code == 0, result.output
    forecaster = Forecaster(TSDiffPredictor.shipped("hourly", device="cpu").for_horizon(6), Columns(id="unique_id"))
    forecaster.predictor.num_samples = 3
    table = pd.read_csv("out.csv", dtype={"unique_id": str}, parse_dates=["ds"])
    assert len(table) == 12
    pd.testing.assert_frame_equal(table, forecaster.predict(frame(), levels=(0.1, 0.5, 0.9)), rtol=1e-5, check_dtype=False)
    named = command("forecast data.csv --id unique_id --model hourly --horizon 6 --samples 3 -o named.csv --device cpu")
    assert named.exit_code == 0, named.output
    assert (here / "named.csv").read_text() == (here / "out.csv").read_text()
    (here / "hourly").mkdir()  # is no model, and not asked for
    again = command("forecast data.csv --id unique_id --freq 60min --horizon 6 --samples 3 -o again.csv --device cpu")
    assert again.exit_code == 0, again.output
    assert (here / "again.csv").read_text() == (here / "out.csv").read_text()


def test_a_training_checkpoint_is_a_model(here, kept):
    predictor = TSDiffPredictor.deserialize(kept, "cpu")
    state = {f"model.{name}": value for name, value in predictor.model.state_dict().items()}
    torch.save({"state_dict": state, "config": predictor.config.as_dict()}, here / "last.ckpt")
    for model, out in (("last.ckpt", "a.csv"), ("model", "b.csv")):
        result = command(f"forecast data.csv --id unique_id --model {model} --samples 3 -o {out} --device cpu")
        assert result.exit_code == 0, result.output
    assert (here / "a.csv").read_text() == (here / "b.csv").read_text()


def test_impute(here):
    result = command("impute gaps.csv --id unique_id --model model --samples 5 -o filled.csv --plot gap.png --plot-id b --json")
    assert (here / "gap.png").read_bytes().startswith(b"\x89PNG")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["command"], report["output"], report["series"], report["rows"]) == ("impute", "filled.csv", 2, 120)
    filled, whole = pd.read_csv("filled.csv"), frame()
    assert filled.index[filled.imputed].tolist() == [5, 6, 30, 100]
    assert np.isfinite(filled.y).all()
    np.testing.assert_allclose(filled.y[~filled.imputed], whole.y[~filled.imputed])


def test_backtest(here):
    result = command(
        "backtest data.csv --id unique_id --model model --samples 5 --windows 2 --json -o tested.csv --plot fan.svg"
    )
    assert result.exit_code == 0, result.output
    assert (here / "fan.svg").read_text().count("truth") >= 1
    report, table = json.loads(result.stdout), pd.read_csv("tested.csv")
    assert len(table) == report["rows"] == 2 * 2 * 4
    assert report["naive"]["crps"] == pytest.approx(report["naive"]["nd"])
    plain = command("backtest data.csv --id unique_id --model model --samples 5 --windows 2")
    assert plain.stdout.startswith(f"TSDiff: CRPS {report['scores']['crps']:.4f}")
    assert "seasonal naive: CRPS" in plain.stdout


@pytest.mark.parametrize(
    ("freq", "start"), [("h", "2020-03-01 00:30"), ("h", "2020-03-01 00:00+01:00"), ("ME", "2020-01-31"), ("W", "2020-01-05")]
)
@pytest.mark.parametrize("name", ["forecast", "impute", "backtest"])
def test_charts_show_the_times_of_the_file(here, name, freq, start, monkeypatch):
    figures = []
    monkeypatch.setattr(forecasting, "_drawn", lambda figure, path: figures.append(figure) or b"")
    settings = config(T=3, freq=freq)
    Forecaster(TSDiffPredictor(settings, settings.model())).save(here / "own")
    times = pd.date_range(start, periods=60, freq=freq)
    pd.DataFrame({"ds": times, "y": wave(60).astype(float)}).drop(index=[40, 41]).to_csv("own.csv", index=False)
    result = command(f"{name} own.csv --model own --samples 3 -o out.csv --plot out.png")
    assert result.exit_code == 0, result.output
    written = [pd.Timestamp(text).tz_localize(None) for text in pd.read_csv("out.csv").ds]
    (figure,) = figures
    lines = {line.get_label(): pd.DatetimeIndex(line.get_xdata()) for line in figure.axes[0].lines}
    assert lines["median"].tolist() == (written[40:42] if name == "impute" else written)
    assert set(lines["observed"]) <= set(times.tz_localize(None))


def test_train_then_forecast_and_keep_the_model(here, monkeypatch):
    tiny = partial(forecast_training.MeteredEstimator, size=TINY, T=3)
    monkeypatch.setattr(forecast_training, "MeteredEstimator", tiny)
    train = "--freq W --horizon 2 --context 6 --epochs 1 --batches 2 --samples 2 --device cpu"
    weekly = frame().assign(ds=[*pd.date_range("2019-01-06", periods=60, freq="W")] * 2)
    weekly[weekly.unique_id.eq("007") | (weekly.ds < "2019-01-20")].to_csv("weekly.csv", index=False)
    result = command(f"forecast weekly.csv --id unique_id {train} --save kept -o out.csv")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("warning: 1 of 2 series have fewer than 4 values and are left out")
    assert len(result.stderr.splitlines()) == 1
    table = pd.read_csv("out.csv")
    assert table.ds.tolist() == ["2020-03-01", "2020-03-08", "2019-01-20", "2019-01-27"]
    assert np.isfinite(table["mean"]).all()
    again = command("forecast weekly.csv --id unique_id --model kept --samples 2 --device cpu -o again.csv")
    assert again.exit_code == 0, again.output
    assert (here / "again.csv").read_text() == (here / "out.csv").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("forecast data.csv --covariates heat", "series '007': covariates end early, the first missing row is that of"),
        ("impute ends.csv --covariates heat", "series 'b': covariate 'heat' must be known at every step of the series"),
        ("forecast data.csv --plot x.png --plot-id zzz", "--plot-id zzz: there is no such series"),
        ("forecast data.csv --guidance inf", "--guidance must be finite and at least 0, got inf"),
        ("backtest data.csv --windows 15", "series '007': needs a value before its last 60 steps"),
        ("backtest zeros.csv --windows 2", "series must have known values other than 0 in their last 8 steps"),
    ],
)
def test_what_cannot_be_used_is_refused_before_training(here, args, message, monkeypatch):
    monkeypatch.setattr(forecast_training.MeteredEstimator, "train", None)
    df = frame().assign(heat=np.arange(120.0))
    df.to_csv("data.csv", index=False)
    df.assign(y=df.y.where(df.index < 110), heat=df.heat.where(df.index < 115)).to_csv("ends.csv", index=False)
    df.assign(y=df.y.where(df.index % 60 < 52, 0.0)).to_csv("zeros.csv", index=False)
    line = f"{args} --id unique_id --epochs 1 --freq h --horizon 4 --save kept"
    assert_one_error_line(command(line if args.startswith("backtest") else f"{line} -o x.csv"), message)
    assert not (here / "kept").exists()


def test_a_trained_model_is_kept_although_its_forecasts_fail(here, monkeypatch):
    monkeypatch.setattr(forecast_training, "MeteredEstimator", partial(forecast_training.MeteredEstimator, size=TINY, T=3))
    train = "--freq h --horizon 4 --context 12 --epochs 1 --batches 2 --samples 2 --guidance 1e38 --save kept --device cpu"
    assert_one_error_line(command(f"forecast data.csv --id unique_id {train} -o x.csv"), "diverges")
    assert not (here / "x.csv").exists()
    assert Forecaster.load(here / "kept", device="cpu").predictor.guidance.scale == 1e38


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("forecast data.csv -o x.csv", "the model that ships is for --freq h, without covariates"),
        ("forecast data.csv --freq 30min --horizon 2 -o x.csv", "otherwise train one on the data by --epochs 100"),
        ("forecast data.csv --freq h --covariates y --horizon 2 -o x.csv", "the model that ships is for --freq h, without"),
        (
            "forecast data.csv --id unique_id --freq h --horizon 200 -o x.csv",
            "--horizon 200: prediction_length must lie in 1..180",
        ),
        ("forecast data.csv --model photos -o x.csv", "name must be that of a model of time series, got 'photos'"),
        ("forecast data.csv --epochs 1 -o x.csv", "training needs --freq and --horizon"),
        ("forecast data.csv --epochs 1 --model model -o x.csv", "give one of --model and --epochs"),
        ("forecast data.csv --epochs 1 --freq fortnight --horizon 2 -o x.csv", "freq 'fortnight' is unknown"),
        ("forecast no.csv --model model -o x.csv", "no.csv: No such file or directory"),
        ("forecast empty.csv --model model -o x.csv", "empty.csv: not a CSV file"),
        ("forecast noise.csv --model model -o x.csv", "noise.csv: not a CSV file"),
        ("forecast data.csv --model nowhere -o x.csv", "there is no config.json in nowhere"),
        ("forecast data.csv --model model -o x.json", "the suffix must be .csv"),
        ("forecast data.csv --model model -o data.csv", "data.csv is there already; --overwrite"),
        ("forecast data.csv --model model -o no/x.csv", "there is no folder no"),
        ("forecast data.csv --model model -o x.csv --plot x.bmp", "the suffix must be .png or .svg or .pdf"),
        ("forecast data.csv --model model -o x.csv", "row 60 repeats the time 2020-01-01 00:00:00 of row 0; name the column"),
        ("forecast data.csv --id unique_id --model model -o x.csv --plot x.png --plot-id c", "there is no such series"),
        ("impute gaps.csv --id unique_id --model model -o x.csv --plot x.png --plot-id c", "there is no such series"),
        ("backtest data.csv --id unique_id --model model --plot x.png --plot-id c", "there is no such series"),
        ("backtest data.csv --id unique_id --model model --plot x.gif", "the suffix must be .png or .svg or .pdf"),
        ("forecast data.csv --id name --model model -o x.csv", "there is no column 'name'; the columns are unique_id, ds, y"),
        ("forecast data.csv --id unique_id --target z --model model -o x.csv", "there is no column 'z'"),
        ("forecast data.csv --id unique_id --wide --model model -o x.csv", "--wide takes every column"),
        ("forecast data.csv --id unique_id --covariates y --model model -o x.csv", "must be different columns"),
        ("forecast data.csv --id unique_id --model model --freq D -o x.csv", "is for 'h'; leave --freq out"),
        (
            "forecast data.csv --id unique_id --model model --horizon 9 -o x.csv",
            "prediction_length must lie in 1..8, half the window",
        ),
        ("forecast data.csv --id unique_id --model model --quantiles 0.1,x -o x.csv", "--quantiles must be numbers"),
        ("forecast data.csv --id unique_id --model model --quantiles 1.5 -o x.csv", "--quantiles must lie between 0 and 1"),
        (
            "forecast data.csv --id unique_id --model model --quantiles 0.1234567,0.1234568 -o x.csv",
            "--quantiles must differ in their first six digits",
        ),
        ("forecast data.csv --time mean --epochs 9 --freq h --horizon 4 -o x.csv", "--time must not be 'mean'"),
        ("forecast data.csv --id mean --model model -o x.csv", "--id must not be 'mean'"),
        ("forecast data.csv --wide --time series --model model -o x.csv", "--time must not be 'series'"),
        ("impute data.csv --target imputed --model model -o x.csv", "--target must not be 'imputed'"),
        ("backtest data.csv --target window --model model", "--target must not be 'window'"),
        (
            "forecast data.csv --id unique_id --model model --guidance 1e38 -o x.csv",
            "diverges for series [0, 1]; lower --guidance",
        ),
        ("impute gaps.csv --id unique_id --model model --guidance 1e38 -o x.csv", "; lower --guidance"),
        ("forecast one.csv --model model -o x.csv --guidance 1e38", "of the series 'y', counted from 0"),
        ("forecast one.csv --model model -o x.csv --plot x.png --plot-id z", "no such series; the first of 1 is y"),
        ("forecast data.csv --id unique_id --model model -o x.csv --plot-id b", "--plot-id names the series that --plot draws"),
        ("forecast data.csv --id unique_id --model model -o ./data.csv --overwrite", "data.csv is the input"),
        ("forecast inf.csv --model model -o x.csv", "row 7 has inf"),
        ("forecast data.csv --id unique_id --model heated -o x.csv", "model has 1 covariates, but --covariates names 0"),
        ("forecast dates.csv --id unique_id --model model -o x.csv", "column 'ds' must hold dates, row 70 has 'soon'"),
        ("forecast words.csv --id unique_id --model model -o x.csv", "series 'b': column 'y' must hold finite numbers"),
        ("forecast twice.csv --id unique_id --model model -o x.csv", "series 'b': row 120 repeats the time"),
        ("forecast missing.csv --id unique_id --model model --strict -o x.csv", "series 'b': row 70 must be"),
        ("forecast missing.csv --id unique_id --model model --strict -o x.csv", "; leave out --strict to allow it"),
        (
            "forecast data.csv --id unique_id --model model --save y -o x.csv",
            "--context and --save are for models trained here",
        ),
        ("impute gaps.csv --wide --model model --quantiles 0.5 -o x.csv", "--quantiles is for long files"),
        ("backtest data.csv --id unique_id --model model --windows 15", "series '007': needs a value before its last 60 steps"),
        ("backtest data.csv --id unique_id --model model --windows 0", "--windows"),
        (
            "backtest data.csv --id unique_id --epochs 1 --freq h --horizon 30 --windows 2",
            "series '007': needs a value before its last 60",
        ),
        ("forecast data.csv --model model", "--out"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(here, args, message):
    before = sorted(p.name for p in here.iterdir())
    content = (here / "data.csv").read_bytes()
    assert_one_error_line(command(args), message)
    assert sorted(p.name for p in here.iterdir()) == before
    assert (here / "data.csv").read_bytes() == content


def test_guidance_is_refused_where_there_is_none(here):
    settings = config(T=3, conditional=True)
    Forecaster(TSDiffPredictor(settings, settings.model())).save(here / "conditional")
    result = command("forecast data.csv --id unique_id --model conditional --guidance 2 -o x.csv")
    assert_one_error_line(result, "--guidance is for unconditional models")
    assert not (here / "x.csv").exists()


def test_a_write_that_fails_leaves_nothing(here, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = sorted(p.name for p in here.iterdir())
    monkeypatch.setattr(forecasting, "write_atomically", full)
    result = command("forecast data.csv --id unique_id --model model --samples 2 -o x.csv")
    assert_one_error_line(result, "No space left on device")
    assert sorted(p.name for p in here.iterdir()) == before


@pytest.mark.slow
def test_bad_input_from_the_shell(here):
    """Nothing that is imported may add to the one line."""
    args = [sys.executable, "-m", "posterior", "forecast", "data.csv", "-o", "x.csv"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(args, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the model that ships is for --freq h")
    assert len(done.stderr.splitlines()) == 1
