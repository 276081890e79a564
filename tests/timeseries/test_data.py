"""Windows to train on: true slices of their series, the same for the same number, and apart from what is held out."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.timeseries.waves import config, entries
from timeseries.batches import cut_windows
from timeseries.data import HeldOutWindows, RandomWindows, SeriesDataModule, WindowDataModule, covariate_statistics
from timeseries.files import read_entries
from timeseries.missing import MissingScenario
from timeseries.series import Series, series_of
from timeseries.training import TSDiffModule

SHARED = Path(__file__).parents[3] / "shared" / "data" / "timeseries"


def ramps(count=3, length=60, step=1000.0, **options):
    """Series i counts up from ``step i``, so that a value tells where it was."""
    data = [{"start": "2020-01-01", "target": step * i + np.arange(length), "item_id": f"r{i}"} for i in range(count)]
    return series_of(data, config(**options))


class Fitting:
    """As much of a trainer as the data need."""

    def __init__(self, module, global_step=0):
        self.lightning_module, self.global_step = module, global_step
        self.accumulate_grad_batches, self.global_rank = 1, 0


def ready(data, settings):
    data.trainer = Fitting(TSDiffModule(settings))
    data.setup("fit")
    return data


# --- windows


def test_windows_are_slices_of_their_series():
    batch = RandomWindows(ramps(), config(), batch_size=64)[0]
    whole = torch.cat([batch.past, batch.future], 1)
    assert whole.shape == (64, 24)
    torch.testing.assert_close(whole.diff(dim=1), torch.ones(64, 23))
    assert int((whole[:, 0] // 1000).unique().numel()) == 3


def test_places_of_forecasts_fill_what_the_lags_leave():
    data = RandomWindows(ramps(1), config(), batch_size=500)
    assert data.splits(60) == (20, 56)
    starts = data[0].future[:, 0]
    assert (starts.min(), starts.max()) == (20, 56)
    assert data.splits(12 + 4) == (12, 12)  # just a context
    assert data.splits(9) == (5, 5)  # less than one
    assert data.splits(26) == (17, 22)  # the later half


def test_short_series_are_padded_on_the_left():
    batch = RandomWindows(ramps(1, length=10), config(), batch_size=2)[0]
    assert batch.past.isnan().sum(1).tolist() == [14, 14]
    assert batch.past[0, 14:].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.future[0].tolist() == [6, 7, 8, 9]


def test_a_round_visits_every_series_once_and_batches_are_theirs_for_ever():
    data = RandomWindows(ramps(6), config(), batch_size=4)
    visited = torch.cat([data[n].future[:, 0] for n in range(3)]) // 1000
    assert sorted(visited[:6].tolist()) == sorted(visited[6:].tolist()) == [0, 1, 2, 3, 4, 5]
    again = RandomWindows(ramps(6), config(), batch_size=4)
    torch.testing.assert_close(again[2].past, data[2].past)
    assert again[2].seed == data[2].seed != data[1].seed
    for other in ({"seed": 1}, {"rank": 1}):
        assert not torch.equal(RandomWindows(ramps(6), config(), batch_size=4, **other)[2].past, data[2].past)


def test_training_never_touches_what_is_held_out():
    data = WindowDataModule(
        [{"start": "2020-01-01", "target": np.arange(80.0)}], validation_windows=3, test_windows=2, batch_size=256, batches=2
    )
    ready(data, config())
    (batch, _) = list(data.train_dataloader())
    assert batch.future.max() == 80 - 5 * 4 - 1  # reached, and nothing beyond
    (held,) = list(data.val_dataloader())
    assert sorted(held.future.flatten().tolist()) == list(range(60, 72))
    assert data.scale == pytest.approx(np.arange(60).mean())


def test_validation_windows_are_always_the_same():
    data = HeldOutWindows(ramps(5), config(), 2, batch_size=4)
    assert len(data) == 3
    assert len(data[2].past) == 2
    torch.testing.assert_close(data[1].past, HeldOutWindows(ramps(5), config(), 2, batch_size=4)[1].past)
    with pytest.raises(ValueError, match="at least 8 values"):
        HeldOutWindows(ramps(2, length=7), config())


def test_resumed_data_go_on_with_the_next_batch():
    def module():
        return WindowDataModule(entries(), batch_size=2, batches=3)

    full = ready(module(), config())
    batches = RandomWindows(full.series, config(), batch_size=2)
    full.trainer.global_step = 7
    for got, number in zip(full.train_dataloader(), (7, 8, 9), strict=True):
        torch.testing.assert_close(got.past, batches[number].past)


@pytest.mark.parametrize("kind", ["RM", "BM-B", "BM-E"])
def test_scenarios_hide_the_context_alone(kind):
    scenario = MissingScenario(kind=kind, count=6, context_length=12)
    data = ready(WindowDataModule(entries(), batch_size=8, batches=1, hidden=scenario), config(conditional=True))
    (batch,) = list(data.train_dataloader())
    assert batch.past[:, -12:].isnan().sum(1).tolist() == [6] * 8
    assert not batch.past[:, :-12].isnan().any()
    assert not batch.truth.isnan().any()
    seen = ~batch.past.isnan()
    torch.testing.assert_close(batch.past[seen], batch.truth[seen])
    if kind == "RM":
        assert not torch.equal(seen[0], seen[1])


def test_hiding_needs_a_conditional_model_of_the_same_context():
    scenario = MissingScenario(kind="RM", count=2, context_length=12)
    with pytest.raises(ValueError, match="for conditional models"):
        ready(WindowDataModule(entries(), hidden=scenario), config())
    with pytest.raises(ValueError, match="must be that of the model, 10, got 12"):
        ready(WindowDataModule(entries(), hidden=scenario), config(conditional=True, context_length=10))


# --- covariates


def test_step_features_in_their_order():
    settings = config(time_features=True, covariates=2, covariate_statistics=((2.0, 4.0), (0.0, 1.0)))
    known = np.stack([np.arange(40.0), np.ones(40)])
    series = Series.of_entry({"start": "2020-01-01 05:00", "target": np.zeros(30), "feat_dynamic_real": known}, settings)
    steps = cut_windows([(series, 30)], settings).steps
    assert steps.shape == (1, 16, settings.steps) == (1, 16, 4 + 1 + 2)
    position = np.arange(18, 34)
    np.testing.assert_allclose(steps[0, :, 0], (position + 5) % 24 / 23 - 0.5, atol=1e-6)
    np.testing.assert_allclose(steps[0, :, 4], np.log10(2 + position), atol=1e-6)
    np.testing.assert_allclose(steps[0, :, 5], (position - 2) / 4, atol=1e-6)
    np.testing.assert_allclose(steps[0, :, 6], 1)
    before = series.steps(settings, -3, 5)
    np.testing.assert_allclose(before[:, 4], np.log10([2, 2, 2, 2, 3]), atol=1e-6)
    np.testing.assert_allclose(before[:, 5], [0, 0, 0, -0.5, -0.25], atol=1e-6)


def test_covariates_are_standardised_by_what_is_trained_on():
    known = np.stack([np.arange(50.0), np.full(50, 7.0)])
    data = WindowDataModule(entries(2, 40, feat_dynamic_real=known), validation_windows=1)
    ready(data, config(covariates=2))
    assert data.statistics == covariate_statistics(data.series)
    (mean, std), constant = data.statistics
    assert (mean, std) == (pytest.approx(np.arange(36).mean()), pytest.approx(np.arange(36).std()))
    assert constant == (7.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "'a': the model has 1 covariates, but the entry has no"),
        ({"feat_dynamic_real": np.zeros((2, 90))}, r"'a': feat_dynamic_real must have shape \(1, m\), got \(2, 90\)"),
        ({"feat_dynamic_real": np.zeros((1, 80))}, "'a': covariates end early, the first missing row is 80"),
        ({"feat_dynamic_real": [[0.0] * 17 + [-1e39] + [0.0] * 72]}, "'a': feat_dynamic_real must be finite.*row 17"),
        ({"feat_dynamic_real": [[0.0] * 17 + [np.nan] + [0.0] * 72]}, "'a': feat_dynamic_real must be finite.*row 17"),
    ],
)
def test_bad_covariates_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        series_of(entries(1, **fields), config(covariates=1))


# --- series and files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [1.0, 2.0, "x", 4.0]}, "'a': target must hold numbers, row 2 has 'x'"),
        ({"target": [1.0, np.nan, -np.inf]}, "'a': target must be finite.*row 2 has -inf"),
        ({"target": [1.0, np.nan, 1e39]}, "'a': target must be finite in float32.*row 2 has 1e\\+39"),
        ({"target": np.array([1.0, "x"])}, "'a': target must hold numbers, row 1 has 'x'"),
        ({"target": np.zeros((2, 5))}, r"'a': target must have shape \(n,\).*several channels are several series"),
        ({"target": []}, "'a': target must have shape"),
        ({"start": pd.Period("2020-01-01", freq="D")}, "'a': start must have the model's frequency 'h', got 'D'"),
        ({"start": "yesterday"}, "'a': start must be a date"),
        ({"item_id": None, "target": [np.inf]}, "series number 0: target"),
    ],
)
def test_bad_entries_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        series_of([{**entries(1)[0], **change}], config())


def test_dates_of_any_kind():
    for start in ("2020-01-01 05:00", pd.Timestamp("2020-01-01 05:00", tz="UTC"), pd.Period("2020-01-01 05:00", freq="60min")):
        (series,) = series_of([{"start": start, "target": [1.0, None, 3.0]}], config())
        assert series.end.to_timestamp() == pd.Timestamp("2020-01-01 08:00")
        np.testing.assert_array_equal(series.target, np.float32([1, np.nan, 3]))


def test_series_of_gaps_alone_and_short_ones():
    with pytest.raises(ValueError, match=r"series 'b': all 5 values are missing, from row 0 on"):
        ready(WindowDataModule([*entries(1), {"start": "2020", "target": [np.nan] * 5, "item_id": "b"}]), config())
    data = WindowDataModule([*entries(2), {"start": "2020", "target": np.ones(7), "item_id": "short"}])
    with pytest.warns(UserWarning, match="1 of 3 series have fewer than 8 values.*series 'short' with 7"):
        ready(data, config())
    assert len(data.series) == 2
    with pytest.raises(ValueError, match=r"at least 8 values to train on.*the longest, 'a', has 7"):
        ready(WindowDataModule(entries(1, 7)), config())
    with pytest.raises(ValueError, match="at least one series, got none"):
        ready(WindowDataModule([]), config())


def test_archives_and_lines(tmp_path):
    target = np.float32([1, 2, np.nan, 4, 5, 6, 7])
    np.savez(
        tmp_path / "a.npz", target=target, offsets=[0, 3, 7], start=["2020-01-01", "2020-02-01"], freq="h",
        item_id=["x", "y"], feat_dynamic_real=[np.arange(7)],
    )  # fmt: skip
    x, y = read_entries(tmp_path / "a.npz")
    assert (x["item_id"], y["start"], y["target"].tolist()) == ("x", pd.Period("2020-02-01", freq="h"), [4, 5, 6, 7])
    assert y["feat_dynamic_real"].tolist() == [[3, 4, 5, 6]]
    rows = [{"start": "2020-01-01", "target": [1, None, 2]}, {"start": "2020-01-02", "target": [1, "NaN"], "item_id": "z"}]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)) + "\n\n")
    lines = series_of(read_entries(tmp_path / "a.jsonl.gz"), config())
    assert [s.item_id for s in lines] == ["0", "z"]
    np.testing.assert_array_equal(lines[1].target, [1, np.nan])


def test_bad_files_are_named(tmp_path):
    (tmp_path / "a.json").write_text('{"start": "2020", "target": [1]}\n{"target"\n')
    (tmp_path / "a.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "b.npz", target=[1.0], offsets=[0, 2], start=["2020"], freq="h")
    for name, kind, message in [
        ("no.npz", FileNotFoundError, "there is no file"),
        ("a.json", ValueError, "line 2 is not JSON"),
        ("a.npz", ValueError, "cannot be read as an archive"),
        ("b.npz", ValueError, "offsets must rise from 0 to 1"),
    ]:
        with pytest.raises(kind, match=message):
            read_entries(tmp_path / name)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared series are not here")
def test_shared_archives_are_read_with_their_gaps():
    data = SeriesDataModule(str(SHARED / "air_quality_valencia.npz"), validation_windows=5, test_windows=5, batches=1)
    ready(data, config(prediction_length=48, context_length=312, lags=None))
    assert len(data.series) == 10
    assert {len(s) for s in data.series} == {43824 - 10 * 48}
    assert sum(int(np.isnan(s.target).sum()) for s in data.held_out) > 0
    (batch,) = list(data.train_dataloader())
    assert batch.past.shape == (64, 312 + 672)
    assert len(data.val_dataloader().dataset.places) == 50


def test_data_need_the_module_of_a_model():
    data = WindowDataModule(entries())
    with pytest.raises(TypeError, match="windows for a TSDiffModule; got NoneType"):
        data.setup("fit")
