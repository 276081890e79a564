"""Learnt forecasters: quiet, seeded, and better than a mean on waves."""

import numpy as np
import pandas as pd
import pytest
import torch
from gluonts.model.estimator import Estimator
from gluonts.model.predictor import Predictor

from tests.timeseries.waves import entries
from timeseries.downstream import DeepAR, DeepARForecaster, PatchTransformer, TransformerForecaster
from timeseries.synthesis import predictive_score

CONTEXT, LENGTH = 16, 20


def waves(count, seed):
    phase = np.random.default_rng(seed).uniform(0, 8, size=(count, 1))
    return 1 + 0.5 * np.sin((np.arange(LENGTH) + phase) * 2 * np.pi / 8)


def forecasters():
    deepar = DeepARForecaster("B", epochs=1, batches=2, seed=3, accelerator="cpu")
    return [deepar, TransformerForecaster(patch=4, hidden=8, epochs=1, batches=2, seed=3)]


@pytest.mark.parametrize("which", [0, 1])
def test_the_seed_decides_and_nothing_else_is_touched(which, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    windows, history = waves(70, 0), waves(3, 1)[:, :CONTEXT]
    first, second = forecasters()[which], forecasters()[which]
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first.fit(windows, CONTEXT)
    found = first.forecast(history, 5)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    torch.manual_seed(1)
    np.random.seed(1)
    second.fit(windows, CONTEXT)
    assert np.array_equal(found, second.forecast(history, 5))
    assert np.array_equal(found, first.forecast(history, 5))
    assert found.shape == (3, 5, LENGTH - CONTEXT)
    assert np.isfinite(found).all()
    assert found.std(1).min() > 0
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_transformer_learns_waves():
    made = TransformerForecaster(patch=4, hidden=16, epochs=1, batches=150)
    found = predictive_score(made, waves(500, 0), 7 * waves(40, 1), context_length=CONTEXT, samples=50)
    mean = np.abs(waves(40, 1)[:, CONTEXT:] - 1).sum() / waves(40, 1)[:, CONTEXT:].sum()
    assert found.nd < 0.7 * mean


def test_a_transformer_pads_its_first_patch():
    torch.manual_seed(0)
    network = PatchTransformer(7, 3, patch=4, hidden=8).double()
    x = torch.randn(2, 7, dtype=torch.float64)
    out = network(x)
    assert out.loc.shape == out.scale.shape == out.df.shape == (2, 3)
    assert float(out.df.detach().min()) > 2
    longer = PatchTransformer(8, 3, patch=4, hidden=8).double()
    longer.load_state_dict(network.state_dict())
    torch.testing.assert_close(longer(torch.nn.functional.pad(x, (1, 0))).loc, out.loc)


def test_deepar_is_an_estimator_of_series():
    made = DeepAR("H", 4, epochs=1, batches=2, seed=1, accelerator="cpu")
    assert isinstance(made, Estimator)
    data = [{**e, "start": pd.Period(e["start"], freq="h")} for e in entries(2, 1000)]
    data[0]["target"][900:910] = np.nan
    predictor = made.train(data)
    assert isinstance(predictor, Predictor)
    found = [list(predictor.predict(iter(data), num_samples=6)) for _ in range(2)]
    assert [f.item_id for f in found[0]] == ["a", "b"]
    assert found[0][0].samples.shape == (6, 4)
    assert str(found[0][0].start_date) == "2020-02-11 16:00"
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(*found, strict=True))


def test_bad_input_is_named():
    for made in forecasters():
        with pytest.raises(RuntimeError, match="not trained yet"):
            made.forecast(np.zeros((1, 3)))
        with pytest.raises(ValueError, match="windows must be"):
            made.fit(np.zeros((3, 5)), 5)
    with pytest.raises(ValueError, match="hidden must be a multiple of 4"):
        TransformerForecaster(hidden=6)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        DeepAR("h", 4, epochs=0)
