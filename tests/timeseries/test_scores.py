"""CRPS, ND and NRMSE: the rule of order statistics, closed forms, and the numbers of GluonTS' evaluator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from gluonts.evaluation import Evaluator
from gluonts.model.forecast import SampleForecast

from timeseries.scores import LEVELS, Scores, crps, nd, nrmse, order_statistics, weighted_quantile_losses


def draws(series: int = 5, samples: int = 16, horizon: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = 5 + rng.normal(size=(series, horizon))
    return target[:, None] + rng.normal(0.3, 1.0, size=(series, samples, horizon)), target


@pytest.mark.parametrize(
    ("count", "levels", "index"),
    [
        (16, (0.1, 0.3, 0.5, 0.7, 0.9), (2, 4, 8, 10, 14)),  # 1.5, 4.5, 7.5, 10.5, 13.5: ties to the even index
        (100, LEVELS, (10, 20, 30, 40, 50, 59, 69, 79, 89)),  # 9.9, 19.8, ..., 49.5, ..., 89.1
        (1, LEVELS, (0,) * 9),
        (6, (0.0, 0.5, 1.0), (0, 2, 5)),
    ],
)
def test_order_statistics_round_half_to_even(count, levels, index):
    paths = np.random.default_rng(1).permutation(count).astype(float)
    got = order_statistics(paths[:, None], levels)
    assert got.shape == (len(levels), 1)
    assert got[:, 0].tolist() == list(index)


def test_each_time_step_is_sorted_alone():
    assert order_statistics(np.array([[0.0, 9.0], [5.0, 1.0]]), (0.0, 1.0)).tolist() == [[0, 1], [5, 9]]


def evaluated(samples: np.ndarray, target: np.ndarray) -> dict[str, float]:
    horizon, past = target.shape[-1], 48
    forecasts, truths = [], []
    for paths, y in zip(samples, target, strict=True):
        index = pd.period_range("2021-01-01", periods=past + horizon, freq="h")
        truths.append(pd.Series(np.concatenate([np.sin(np.arange(past)), y]), index=index))
        forecasts.append(SampleForecast(paths, start_date=index[past]))
    evaluator = Evaluator(quantiles=LEVELS, num_workers=0)
    return evaluator(truths, forecasts, num_series=len(samples))[0]


@pytest.mark.parametrize("samples", [1, 16, 100])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_numbers_of_the_evaluator(samples, gaps):
    paths, target = draws(samples=samples)
    if gaps:
        target[0, 3:] = np.nan
        target[2, ::2] = np.nan
    wanted = evaluated(paths, target)
    assert crps(paths, target) == pytest.approx(wanted["mean_wQuantileLoss"], rel=1e-12)
    assert nd(paths, target) == pytest.approx(wanted["ND"], rel=1e-12)
    assert nrmse(paths, target) == pytest.approx(wanted["NRMSE"], rel=1e-12)
    got = weighted_quantile_losses(paths, target)
    assert got == pytest.approx([wanted[f"wQuantileLoss[{q}]"] for q in LEVELS], rel=1e-12)


def test_point_forecasts_have_the_crps_of_their_nd():
    paths, target = draws(samples=1)
    assert crps(paths, target) == pytest.approx(nd(paths, target), rel=1e-14)
    assert crps(np.repeat(paths, 7, 1), target) == pytest.approx(crps(paths, target), rel=1e-14)


def test_a_ratio_of_sums_and_not_a_mean_of_scores():
    target = np.array([[1.0], [9.0]])
    paths = np.array([[[2.0]], [[9.0]]])
    assert nd(paths, target) == 1 / 10
    assert nrmse(paths, target) == pytest.approx(np.sqrt(1 / 2) / 5)
    assert crps(paths * 1e3, target * 1e3) == pytest.approx(crps(paths, target), rel=1e-14)


def test_unknown_targets_count_nowhere():
    paths, target = draws()
    target[1] = np.nan
    keep = [0, 2, 3, 4]
    assert Scores.of(paths, target) == Scores.of(paths[keep], target[keep])


def test_tensors_and_windows_of_any_rank():
    paths, target = draws(series=6)
    wanted = Scores.of(paths, target)
    got = Scores.of(torch.tensor(paths).view(2, 3, 16, 12), torch.tensor(target, requires_grad=True).view(2, 3, 12))
    assert got == wanted
    single = Scores.of(torch.tensor(paths).float(), torch.tensor(target).float())
    assert single.crps == pytest.approx(wanted.crps, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y: (p[:, 0], y), "shape"),
        (lambda p, y: (p[..., :-1], y), "shape"),
        (lambda p, y: (p[:, :0], y), "at least one path"),
        (lambda p, y: (np.where(p == p[2, 3, 4], np.nan, p), y), r"\(2, 3, 4\)"),
        (lambda p, y: (p, np.full_like(y, np.nan)), "known value"),
        (lambda p, y: (p, 0 * y), "known value"),
        (lambda p, y: (p, np.where(y == y[0, 0], np.inf, y)), "infinite"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        crps(*change(*draws()))


@pytest.mark.parametrize("levels", [(), (1.1,), (-0.1, 0.5), (float("nan"),)])
def test_bad_levels(levels):
    with pytest.raises(ValueError, match="levels"):
        crps(*draws(), levels=levels)
