"""TSDiff: guided chains and their scores, refinement with every dynamics, CRPS, and the linear predictive score."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.tsdiff import cases, close, replayed, tsdiff
from timeseries.frequencies import Frequency
from timeseries.guidance import DDIMGuidance, DDPMGuidance, Energy, Guidance, QuantileEnergy, SquareEnergy, kept_steps
from timeseries.langevin import Descent, Hamiltonian, Langevin, Underdamped
from timeseries.paths import PathWindow
from timeseries.refinement import Dynamics, ImplicitEnergy, Refiner, seasonal_naive
from timeseries.scores import Scores, nd, order_statistics, weighted_quantile_losses
from timeseries.synthesis import RidgeForecaster, mean_scaling, predictive_score
from timeseries.windows import Window

pytestmark = needs_parity("tsdiff")

GUIDED, REFINED, MOVED, METRIC, RIDGE = 5e-5, 5e-5, 2e-4, 1e-5, 1e-4
ENERGIES: dict[str, Energy] = {"MSE": SquareEnergy(), "quantile": QuantileEnergy()}


def window_of(case: Case) -> Window:
    return tsdiff(case).window(case["in.past_target"], case["in.past_observed_values"])


# --- guidance


def guided_runs(stored: str) -> list[Any]:
    """The runs of which ``stored`` is there."""
    every = ((case, name) for case in parity_cases("tsdiff", "guidance") for name in case.meta["runs"])
    return [pytest.param(case, name, id=f"{case}-{name}") for case, name in every if f"{name}.{stored}" in case.meta["tensors"]]


def guidance_of(case: Case, name: str) -> Guidance:
    run, energy = case.meta["runs"][name], ENERGIES[name.split(".")[0]]
    if "skip_factor" not in run:
        return DDPMGuidance(energy=energy, scale=run["scale"])
    spacing = run["skip_type"]
    assert kept_steps(case.meta["mk"]["T"], run["skip_factor"], spacing) == run["timesteps"]
    return DDIMGuidance(energy=energy, scale=run["scale"], skip=run["skip_factor"], spacing=spacing, eta=run["eta"])


@pytest.mark.parametrize(("case", "name"), guided_runs("out"))
def test_guided_chain(case: Case, name: str) -> None:
    window, draws = window_of(case), case[f"{name}.draws"]
    noise = replayed(draws)
    x = guidance_of(case, name).walk(tsdiff(case), PathWindow.of(window, case.meta["S"]), noise)
    close(window.forecast(x), case[f"{name}.out"], GUIDED, name)
    with pytest.raises(StopIteration):  # every stored draw was read
        noise(draws[0])


@pytest.mark.parametrize(("case", "name"), guided_runs("score"))
def test_score(case: Case, name: str) -> None:
    model, guidance, T = tsdiff(case), guidance_of(case, name), case.meta["mk"]["T"]
    paths = PathWindow.of(window_of(case), case.meta["S"])
    points, scores = case[f"{name}.score_in"], case[f"{name}.score"]
    times = [*(T - 1 - k for k in range(len(points) - 1)), 0]  # the first steps of the chain and its last
    for t, x, wanted in zip(times, points, scores, strict=True):
        close(guidance.score(model, x, t, paths)[0], wanted, GUIDED, f"{name}, t = {t}")


# --- refinement


def refined_runs() -> list[Any]:
    every = ((case, key) for case in parity_cases("tsdiff", "refine") for key in case.meta["tensors"])
    runs = [(case, key.removesuffix(".out")) for case, key in every if key.endswith(".out")]
    return [pytest.param(case, name, id=f"{case}-{name}") for case, name in runs]


def dynamics_of(case: Case, method: str) -> tuple[Dynamics, int, float]:
    """With its draws an iteration and the tolerance."""
    lr = case.meta["lr"]
    return {
        "ml": (Descent(lr=lr), 1, REFINED),
        "lmc": (Langevin(eta=lr, noise_scale=0.1), 2, REFINED),
        "hmc": (Hamiltonian(h=lr / 4), 11, MOVED),
        "udld": (Underdamped(h=lr / 4, friction=1.0), 13, MOVED),
        "cdld": (Underdamped.critical(h=lr / 4), 13, MOVED),
    }[method]


@pytest.mark.parametrize(("case", "name"), refined_runs())
def test_refinement(case: Case, name: str) -> None:
    model, window, draws, paths = tsdiff(case), window_of(case), case[f"{name}.draws"], case.meta["S"]
    energy_name, method, no_base = re.fullmatch(r"(\w+)\.([a-z]+)(_noinit)?", name).groups()
    dynamics, draws_each, tolerance = dynamics_of(case, method)
    energy = ImplicitEnergy(regulariser=ENERGIES[energy_name], tau=case.meta["fixed_t"], region="released")
    refiner = Refiner(energy=energy, dynamics=dynamics, iterations=len(draws) // draws_each)
    base = seasonal_naive(window, Frequency.parse(case.meta["mk"]["freq"]).season) if no_base else case["in.init_samples"]
    (start,) = refiner.pieces(window, base, paths, len(window) * paths)
    refined = window.forecast(refiner.walk(model, start, replayed(draws)))
    close(refined, case[f"{name}.out"], tolerance, name)


# --- scores


@cases("crps")
def test_metrics_of_samples(case: Case) -> None:
    samples, metrics = case["samples"], case.meta["metrics"]
    target = case["target_full"][:, -case.meta["H"] :]
    stored = {float(m[1]): value for key, value in metrics.items() if (m := re.fullmatch(r"wQuantileLoss\[(.+)\]", key))}
    levels = tuple(stored)
    assert np.array_equal(order_statistics(samples, levels), case["quantiles"].double().numpy())
    assert weighted_quantile_losses(samples, target, levels=levels) == pytest.approx(list(stored.values()), rel=METRIC)
    scores = Scores.of(samples, target)
    assert (scores.crps, scores.nd, scores.nrmse) == pytest.approx(
        tuple(metrics[key] for key in ("mean_wQuantileLoss", "ND", "NRMSE")), rel=METRIC
    )
    for one, y, wanted in zip(samples, target, case["per_series_abs_error"], strict=True):
        assert nd(one, y) * float(y.double().abs().nansum()) == pytest.approx(float(wanted), rel=METRIC)


@cases("lps")
def test_linear_predictive_score(case: Case) -> None:
    synthetic, real, context = case["synthetic"], case["test_target"], case.meta["ctx"]
    ridge = RidgeForecaster()
    scores = predictive_score(ridge, synthetic, real, context_length=context)
    metrics = case.meta["metrics"]
    assert (scores.crps, scores.nd, scores.nrmse) == pytest.approx(
        tuple(metrics[key] for key in ("mean_wQuantileLoss", "ND", "NRMSE")), rel=RIDGE
    )
    history = real[:, -synthetic.shape[1] :][:, :context].double().numpy()
    scale = mean_scaling(history)[1]
    forecast: Tensor = torch.from_numpy(scale * ridge.forecast(history / scale)[:, 0])
    torch.testing.assert_close(forecast, case["forecast"].double(), rtol=RIDGE, atol=0)
