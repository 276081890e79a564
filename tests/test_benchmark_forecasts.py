"""The benchmark of forecasts on tiny archives, with an untrained model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from gluonts.model.seasonal_naive import SeasonalNaivePredictor

from benchmarks.forecasts import __main__ as command
from benchmarks.forecasts import studies
from benchmarks.forecasts.methods import BASELINES, weights_of
from benchmarks.forecasts.rows import forecasts, row, table
from benchmarks.forecasts.sets import SETS, present, read_set
from benchmarks.forecasts.studies import hidden_entries, lps, refiners
from tests.timeseries.waves import config, wave
from timeseries.predictor import TSDiffPredictor
from timeseries.synthesis import RidgeForecaster

H, W, CONTEXT = 4, 3, 12


@pytest.fixture
def folder(tmp_path, monkeypatch):
    series = [wave(150, 0), wave(170, 1)]
    for name in ("tiny", "gappy"):
        if name == "gappy":
            series[0][-6:-3] = np.nan
        archive = {
            "target": np.concatenate(series), "offsets": np.cumsum([0, *map(len, series)]), "freq": "h",
            "start": np.array(["2020-01-01 00:00", "2020-01-02 00:00"]), "item_id": np.array(["a", "b"]),
            "prediction_length": H, "rolling_windows": W,
        }  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", **archive)
    sets = {"tiny": ("tiny.npz", CONTEXT), "gappy": ("gappy.npz", CONTEXT), "gone": ("gone.npz", CONTEXT)}
    for name in list(SETS):
        monkeypatch.delitem(SETS, name)
    for name, value in sets.items():
        monkeypatch.setitem(SETS, name, value)
    return tmp_path


@pytest.fixture
def weights(folder):
    torch.manual_seed(0)
    settings = config()
    made = TSDiffPredictor(settings, settings.model(), num_samples=3, batch_size=64, seed=1)
    (folder / "model").mkdir()
    made.serialize(folder / "model")
    return folder / "model"


def test_windows_roll_towards_the_end(folder):
    data = read_set(folder, "tiny")
    a, b = wave(150, 0), wave(170, 1)
    assert (data.freq, data.horizon, data.windows, data.context) == ("h", H, W, CONTEXT)
    assert [len(e["target"]) for e in data.train] == [138, 158]
    assert [(e["item_id"], len(e["target"])) for e in data.test] == [
        ("a", 138), ("b", 158), ("a", 142), ("b", 162), ("a", 146), ("b", 166)
    ]  # fmt: skip
    np.testing.assert_array_equal(data.truth.astype(np.float32)[2:4], [a[142:146], b[162:166]])
    last = read_set(folder, "tiny", windows=1, first=1)
    assert len(last.train[0]["target"]) == 138  # no test window is trained on
    np.testing.assert_array_equal(last.truth.astype(np.float32), [a[146:]])


def test_absent_and_unknown_sets_are_named(folder):
    told = []
    assert present(folder, ["gone", "tiny"], told.append) == ["tiny"]
    assert told == [f"gone: skipped, there is no file {folder / 'gone.npz'}"]
    with pytest.raises(ValueError, match="--sets must be of tiny, gappy, gone, got wrong"):
        present(folder, ["wrong"], told.append)


def test_seasonal_naive_is_that_of_gluonts(folder):
    data = read_set(folder, "tiny")
    found = forecasts(BASELINES[0].fit(data), data.test, 100)
    assert found.shape == (6, 1, H)
    np.testing.assert_array_equal(found, forecasts(_Plain(SeasonalNaivePredictor(H, 24)), data.test, 100))
    line = row(data, "forecast", "naive", found, (0.5, 1.5), "")
    error = np.abs(found[:, 0] - data.truth)
    assert line.crps == pytest.approx(line.nd) == pytest.approx(error.sum() / np.abs(data.truth).sum())
    assert (line.series, line.windows, line.paths) == (2, 3, 1)
    printed = table("forecast", [line])
    assert printed.row_count == 1
    assert list(printed.columns[-1].cells) == ["(0.5) 1.5"]


class _Plain:
    """Without the number of paths, which GluonTS' own does not take."""

    def __init__(self, predictor):
        self.predictor = predictor

    def predict(self, entries, num_samples):
        return self.predictor.predict(entries)


@pytest.mark.parametrize("kind", ["RM", "BM-B", "BM-E"])
def test_half_of_the_context_is_hidden(folder, kind):
    data = read_set(folder, "tiny")
    gappy = hidden_entries(data, kind)
    gaps = np.stack([np.isnan(e["target"][-CONTEXT:]) for e in gappy.test])
    assert (gaps.sum(1) == CONTEXT // 2).all()
    assert not any(np.isnan(e["target"][:-CONTEXT]).any() for e in gappy.test)
    assert not any(np.isnan(e["target"]).any() for e in data.test)
    blackout = {"BM-B": gaps[:, :6].all(), "BM-E": gaps[:, 6:].all(), "RM": len(np.unique(gaps, axis=0)) > 3}
    assert blackout[kind]


def test_the_four_refiners():
    found = refiners(0.01, 7)
    assert list(found) == ["ML-MS", "ML-Q", "LMC-MS", "LMC-Q"]
    assert found["ML-Q"].dynamics.lr == found["LMC-MS"].dynamics.eta == 0.01
    assert {r.energy.tau for r in found.values()} == {7}
    assert all(r.iterations == 20 for r in found.values())


def test_the_predictive_score_of_real_windows_knows_the_wave(folder):
    data = read_set(folder, "tiny")
    (real,) = lps(data, {}, {"ridge-linear": RidgeForecaster()}, 5, windows=300)
    assert (real.method, real.study) == ("ridge-linear on real windows", "lps")
    assert real.crps == pytest.approx(real.nd)
    assert real.crps < 0.02  # noise of 0.1 on a wave around 10


def test_every_study_is_written_and_kept(folder, weights, capsys, monkeypatch):
    monkeypatch.setattr(studies.refined, "__kwdefaults__", {"windows": 8})
    file, plots = folder / "rows.json", folder / "plots"
    common = ["--data", str(folder), "--windows", "1", "--paths", "3", "--synthetic", "40", "--device", "cpu"]
    common += ["--json", str(file)]
    models = ["--weights", f"tiny={weights}", f"tiny:again={weights}"]
    studied = ["--studies", "forecast", "missing", "refine", "lps"]
    studied += ["--plots", str(plots), "--only", "naive", "ridge", "^TSDiff$"]
    command.main([*common, "--sets", "tiny", *models, *studied])
    rows = {(r["study"], r["method"]): r for r in json.loads(file.read_text())}
    expected = {("forecast", name) for name in ("seasonal naive", "ridge-linear", "TSDiff")}
    expected |= {(f"missing {kind}", name) for kind in ("RM", "BM-B", "BM-E") for _, name in expected}
    variants = ("", ", ML-MS", ", ML-Q", ", LMC-MS", ", LMC-Q")
    expected |= {("refine", f"{base}{v}") for base in ("seasonal naive", "ridge-linear") for v in variants}
    expected |= {("lps", f"ridge-linear on {name}") for name in ("real windows", "TSDiff")}
    assert set(rows) == expected
    assert rows["forecast", "ridge-linear"]["crps"] < rows["forecast", "seasonal naive"]["crps"] * 3
    assert rows["forecast", "TSDiff"]["paths"] == 3
    assert rows["forecast", "TSDiff"]["fit_seconds"] is None
    assert rows["refine", "seasonal naive"]["crps"] == rows["forecast", "seasonal naive"]["crps"]
    assert rows["refine", "seasonal naive, ML-Q"]["crps"] != rows["refine", "seasonal naive"]["crps"]
    assert len(list(plots.glob("forecast_tiny_*.png"))) == 6
    assert "missing BM-E" in capsys.readouterr().out

    command.main([*common, "--sets", "gappy", "gone", "--only", "naive"])
    assert "gone: skipped" in capsys.readouterr().out
    kept = json.loads(file.read_text())
    assert len(kept) == len(rows) + 1
    assert kept[-1]["set"] == "gappy"
    assert "torch" in kept[-1]["machine"]

    command.main([*common[:2], *common[4:], "--sets", "gappy", "--only", "naive"])  # all windows: another row
    assert [r["windows"] for r in json.loads(file.read_text())[-2:]] == [1, W]
    command.main([*common, "--sets", "gappy", "--only", "naive"])  # the same row again
    assert len(json.loads(file.read_text())) == len(rows) + 2


def test_bad_arguments_are_named(folder, weights, capsys):
    for arguments, message in (
        (["--paths", "0"], "--paths must be at least 1"),
        (["--studies", "refine"], "--studies refine needs a model"),
        (["--weights", "tiny"], "--weights must be SET=FOLDER"),
        (["--weights", f"tiny={folder}"], "there is no predictor in"),
    ):
        with pytest.raises(SystemExit):
            command.main(["--data", str(folder), "--sets", "gone", *arguments])
        assert message in capsys.readouterr().err
    found = weights_of([f"tiny={weights}", f"tiny:x={weights}"], ["tiny"])
    assert found == {"tiny": {"": weights, "x": weights}}
