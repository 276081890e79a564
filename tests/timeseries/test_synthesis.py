"""Scaling of real series and the predictive scores of synthetic ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from timeseries.scores import crps
from timeseries.synthesis import RidgeForecaster, linear_predictive_score, mean_scaling, min_max_scaling, predictive_score

CONTEXT, LENGTH = 12, 18


def waves(count: int, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Windows of sums of two waves: their continuation is linear in their past."""
    rng = np.random.default_rng(seed)
    t = np.arange(LENGTH)
    terms = [np.sin(2 * np.pi * t / p + rng.uniform(0, 6.28, (count, 1))) * rng.uniform(0.5, 2, (count, 1)) for p in (6, 9)]
    return sum(terms) + noise * rng.normal(size=(count, LENGTH))


def test_mean_scaling_of_known_values():
    loc, scale = mean_scaling(np.array([[1.0, -3.0], [np.nan, 4.0], [0.0, 0.0], [np.nan, np.nan]]))
    assert loc.tolist() == [[0.0]] * 4
    assert scale.tolist() == [[2.0], [4.0], [1e-7], [1e-7]]


def test_min_max_scaling_of_known_values():
    loc, scale = min_max_scaling(np.array([[1.0, -3.0, 0.0], [np.nan, 4.0, 6.0], [5.0, 5.0, 5.0], [np.nan] * 3]))
    assert loc.tolist() == [[-3.0], [4.0], [5.0], [0.0]]
    assert scale.tolist() == [[4.0], [2.0], [1e-7], [1e-7]]


def test_ridge_solves_its_normal_equations():
    windows = waves(50, noise=0.3)
    ridge = RidgeForecaster(alpha=2.0)
    ridge.fit(windows, CONTEXT)
    x, y = windows[:, :CONTEXT], windows[:, CONTEXT:]
    centred = x - x.mean(0)
    coefficients = np.linalg.solve(centred.T @ centred + 2 * np.eye(CONTEXT), centred.T @ (y - y.mean(0)))
    wanted = y.mean(0) + (waves(4, 1)[:, :CONTEXT] - x.mean(0)) @ coefficients
    got = ridge.forecast(waves(4, 1)[:, :CONTEXT], 100)
    assert got.shape == (4, 1, LENGTH - CONTEXT)
    assert got[:, 0] == pytest.approx(wanted, abs=1e-10)


def test_synthetic_series_of_the_right_law_score_well_and_others_do_not():
    real = 40 * waves(30, 1)
    good = linear_predictive_score(waves(500, 2), real, context_length=CONTEXT)
    bad = linear_predictive_score(np.random.default_rng(3).normal(size=(500, LENGTH)), real, context_length=CONTEXT)
    assert good < 0.03
    assert bad > 0.5


@pytest.mark.parametrize("scaling", [mean_scaling, min_max_scaling])
def test_the_score_does_not_depend_on_the_unit(scaling):
    real, synthetic = waves(20, 1) + 4, waves(200, 2)
    scores = [linear_predictive_score(synthetic, c * real, context_length=CONTEXT, scaling=scaling) for c in (1, 1e3)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)


class Recorder:
    """Repeats the last value of the history, and keeps what it was given."""

    def fit(self, windows, context_length):
        self.windows, self.horizon = windows, windows.shape[1] - context_length

    def forecast(self, history, samples):
        self.history = history
        return np.repeat(np.repeat(history[:, None, -1:], self.horizon, 2), samples, 1)


def test_what_a_forecaster_sees_and_how_its_paths_come_back():
    real, recorder = 3 + waves(5, 1), Recorder()
    longer = np.concatenate([np.full((5, 7), 99.0), real], 1)
    got = predictive_score(recorder, torch.tensor(waves(9)), longer, context_length=CONTEXT, scaling=min_max_scaling, samples=4)
    assert recorder.windows.shape == (9, LENGTH)
    assert recorder.history.min(1) == pytest.approx(0, abs=1e-12)
    assert recorder.history.max(1) == pytest.approx(1)
    naive = np.repeat(real[:, None, CONTEXT - 1 : CONTEXT], LENGTH - CONTEXT, 2)
    assert got.crps == pytest.approx(crps(naive, real[:, CONTEXT:]), rel=1e-12)


def test_gaps_are_zero_in_the_history_and_left_out_of_the_targets():
    real, recorder = 3 + waves(5, 1), Recorder()
    real[0, 2], real[1, -1] = np.nan, np.nan
    got = predictive_score(recorder, waves(9), real, context_length=CONTEXT)
    assert recorder.history[0, 2] == 0
    assert np.abs(np.delete(recorder.history[0], 2)).mean() == pytest.approx(1)
    assert np.isfinite([got.crps, got.nd, got.nrmse]).all()


@pytest.mark.parametrize(
    ("synthetic", "real", "context", "message"),
    [
        (waves(9), waves(2)[:, 1:], CONTEXT, "at least the 18"),
        (waves(9), waves(2), LENGTH, "1..17"),
        (waves(9), waves(2), 0, "1..17"),
        (waves(9)[0], waves(2), CONTEXT, "synthetic must be a matrix"),
        (waves(9), waves(2)[None], CONTEXT, "real must be a matrix"),
        (np.where(waves(9) == waves(9)[1, 1], np.nan, waves(9)), waves(2), CONTEXT, "synthetic must be finite"),
        (waves(9), np.where(waves(2) == waves(2)[1, 1], np.inf, waves(2)), CONTEXT, "real must be finite"),
    ],
)
def test_bad_input(synthetic, real, context, message):
    with pytest.raises(ValueError, match=message):
        linear_predictive_score(synthetic, real, context_length=context)


def test_bad_ridge():
    with pytest.raises(ValueError, match="alpha"):
        RidgeForecaster(alpha=-1)
    with pytest.raises(RuntimeError, match="fit"):
        RidgeForecaster().forecast(waves(2))
    with pytest.raises(ValueError, match="context_length"):
        RidgeForecaster().fit(waves(2), LENGTH)
