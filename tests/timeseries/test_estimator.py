"""An estimator that stands where any GluonTS estimator stands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gluonts.dataset.common import ListDataset
from gluonts.dataset.pandas import PandasDataset
from gluonts.model.estimator import Estimator

from prior.networks.s4_kernel import S4Kernel
from tests.timeseries.waves import TINY, entries, wave
from timeseries.estimator import Training, TSDiffEstimator
from timeseries.missing import MissingScenario
from timeseries.predictor import TSDiffPredictor
from timeseries.training import TSDiffModule

SHORT = Training(epochs=2, batches=2, batch_size=4, validate_every=1)


def estimator(training=SHORT, **options):
    settings = {"context_length": 12, "lags": (2, 8), "size": TINY, "T": 4, "accelerator": "cpu"}
    return TSDiffEstimator("H", 4, training=training, **{**settings, **options})


def samples(predictor, data):
    return np.stack([f.samples for f in predictor.predict(data, num_samples=3)])


@pytest.mark.parametrize("conditional", [False, True])
def test_it_trains_a_predictor(conditional):
    made = estimator(conditional=conditional, guidance_scale=2.0)
    assert isinstance(made, Estimator)
    predictor = made.train(ListDataset(entries(3), freq="h"))
    assert isinstance(predictor, TSDiffPredictor)
    assert predictor.config.freq == "h"
    assert predictor.config.conditional == conditional
    assert predictor.guidance.scale == 2.0
    assert predictor.prediction_length == 4
    assert float(predictor.model.scaler.default_scale) == pytest.approx(np.mean([np.abs(e["target"]) for e in entries(3)]))
    assert {int(m.L) for m in predictor.model.modules() if isinstance(m, S4Kernel)} == {16}
    assert not predictor.model.training
    assert np.isfinite(samples(predictor, entries(2))).all()


def test_the_same_seed_trains_the_same_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (estimator(seed=seed).train(entries(2)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(samples(first, entries(2)), samples(again, entries(2)))
    assert np.abs(samples(first, entries(2)) - samples(other, entries(2))).max() > 1e-3


def test_the_best_validated_weights_are_the_result(monkeypatch):
    """Where the loss rises from the first validation on, training stops after the second and the first weights are kept."""
    epochs = []

    def rising(self, batch, batch_idx):
        epochs.append(self.current_epoch)
        self.log("val/loss", float(self.current_epoch), batch_size=1)

    monkeypatch.setattr(TSDiffModule, "validation_step", rising)
    long = Training(epochs=6, batches=2, batch_size=4, validate_every=1, patience=1, decay=0.0, validation_windows=1)
    stopped = estimator(long).train(entries(2))
    assert epochs == [0, 1]
    cut = [{**e, "target": e["target"][:-4]} for e in entries(2)]
    expected = estimator(Training(epochs=1, batches=2, batch_size=4, decay=0.0)).train(cut)
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(stopped.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_other_data_may_validate():
    longer = [{**e, "target": wave(94, i)} for i, e in enumerate(entries(2))]
    trained = estimator(Training(epochs=1, batches=1, batch_size=2, validate_every=1)).train(entries(2), longer)
    assert np.isfinite(samples(trained, longer)).all()


def test_covariates_and_hidden_contexts():
    known = np.arange(94.0)[None]
    hidden = MissingScenario(kind="RM", count=6, context_length=12)
    training = Training(epochs=1, batches=1, batch_size=2, hidden=hidden)
    trained = estimator(training, conditional=True, covariates=1, time_features=True).train(entries(2, feat_dynamic_real=known))
    ((mean, _),) = trained.config.covariate_statistics
    assert mean == pytest.approx(np.arange(90).mean())
    assert np.isfinite(samples(trained, entries(2, feat_dynamic_real=known))).all()


def test_pandas_data_of_gluonts_are_data():
    index = pd.date_range("2020-01-01", periods=60, freq="h")
    frame = PandasDataset({name: pd.Series(wave(60, i), index) for i, name in enumerate("xy")})
    trained = estimator(Training(epochs=1, batches=1, batch_size=2)).train(frame)
    (first, _) = trained.predict(frame, num_samples=2)
    assert (first.item_id, str(first.start_date)) == ("x", "2020-01-03 12:00")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"target": np.ones(7)}, "at least 8 values to train on.*the longest, 'a', has 7"),
        ({"target": np.full(50, np.nan)}, "series 'a': all 50 values are missing, from row 0 on"),
        ({"start": pd.Period("2020", freq="D")}, "series 'a': start must have the model's frequency 'h', got 'D'"),
    ],
)
def test_bad_data_are_named_before_any_training(entry, message):
    with pytest.raises(ValueError, match=message):
        estimator().train([{**entries(1)[0], **entry}])


@pytest.mark.parametrize("target", [np.zeros(60), np.full(60, 5.0)])
def test_zeros_and_constants_can_be_trained_on(target):
    trained = estimator(Training(epochs=1, batches=1, batch_size=2)).train([{"start": "2020", "target": target}])
    assert np.isfinite(samples(trained, entries(1))).all()
    assert float(trained.model.scaler.default_scale) == (5.0 if target[0] else 1.0)


def test_bad_settings_are_refused():
    for options, message in [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": 0.0}, "lr and clip must be positive"),
        ({"decay": 1.0}, "decay in"),
    ]:
        with pytest.raises(ValueError, match=message):
            Training(**options)
    with pytest.raises(ValueError, match="freq 'fortnight' is unknown"):
        TSDiffEstimator("fortnight", 4)


def test_the_average_of_a_short_run_covers_a_tenth_of_it():
    assert Training(epochs=1000).average_decay == 0.999
    assert Training(epochs=5, batches=100).average_decay == pytest.approx(1 - 1 / 50)
    assert Training(epochs=1, batches=4).average_decay == 0


@pytest.mark.slow
def test_the_package_imports_without_gluonts():
    script = (
        "import sys, timeseries\nsys.exit(any(name.split('.')[0] in ('gluonts', 'torch', 'pandas') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], timeout=300).returncode == 0
