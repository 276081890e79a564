"""Predictor and corrector steps of a variance-exploding process with a tiny NCSN++, one by one and all in a row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medical.samplers.levels import times
from prior.denoiser import Denoiser
from prior.samplers import PredictorCorrector
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.diffusion_mbir import close, network_prior

pytestmark = needs_parity("diffusion_mbir")

STORED, RUNNING = 1e-4, 1e-3  # from a stored state, and after rounding has passed through all steps

over_cases = pytest.mark.parametrize("case", parity_cases("diffusion_mbir", "steps"), ids=str)


def sampler(case: Case, **options: object) -> PredictorCorrector:
    settings = case.settings
    return PredictorCorrector(steps=settings["N"], snr=settings["snr"], batch_norms=True, **options)  # type: ignore[arg-type]


def with_network(case: Case) -> tuple[Denoiser, Tensor, list[int]]:
    """Prior, times, and the indices that they are rounded to."""
    return network_prior(case), case["timesteps"].double(), case["sigma_index"].long().tolist()


@over_cases
def test_times_and_levels(case):
    model, t, _ = with_network(case)
    own, index = times(case.settings["N"], end=case.settings["eps"])
    assert torch.equal(index, case["sigma_index"].long())
    torch.testing.assert_close(own, case["timesteps"], rtol=2e-7, atol=0)
    torch.testing.assert_close(model.schedule.sigma(t).float(), case["sigma_label"], rtol=1e-6, atol=0)
    k = torch.arange(case.settings["N"]) / (case.settings["N"] - 1)
    torch.testing.assert_close(model.schedule.sigma(k).float(), case["discrete_sigmas"], rtol=1e-6, atol=0)


@over_cases
@torch.no_grad()
def test_each_step_from_the_stored_state(case):
    model, t, index = with_network(case)
    x = case["x_T"]
    for i, k in enumerate(index):
        got, mean = sampler(case).predict(model, x, t[i], k, case[f"step{i}.z_pred"])
        close(mean, case[f"step{i}.x_pred_mean"], STORED)
        close(got, case[f"step{i}.x_pred"], STORED)
        close(
            sampler(case).correct(model, case[f"step{i}.x_pred"], t[i], k, case[f"step{i}.z_corr"]),
            case[f"step{i}.x_corr"],
            STORED,
        )
        x = case[f"step{i}.x_corr"]


@over_cases
@torch.no_grad()
def test_free_running(case):
    model, t, index = with_network(case)
    x = case["x_T"]
    for i, k in enumerate(index):
        x, _ = sampler(case).predict(model, x, t[i], k, case[f"step{i}.z_pred"])
        x = sampler(case).correct(model, x, t[i], k, case[f"step{i}.z_corr"])
        close(x, case[f"step{i}.x_corr"], RUNNING)


def variant(case: Case) -> tuple[Denoiser, Tensor, Tensor, int]:
    """Prior, state, time and index of the variants."""
    (t,) = case["variant.t"].unique().tolist()
    return network_prior(case), case["variant.x"], torch.tensor(t, dtype=torch.float64), int(t * (case.settings["N"] - 1))


@over_cases
@pytest.mark.parametrize("predictor", ["euler_maruyama", "ancestral"])
@torch.no_grad()
def test_other_predictors(case, predictor):
    model, x, t, k = variant(case)
    got, mean = sampler(case, predictor=predictor).predict(model, x, t, k, case[f"variant.{predictor}.z"])
    close(mean, case[f"variant.{predictor}.x_mean"], STORED)
    close(got, case[f"variant.{predictor}.x"], STORED)


@over_cases
@torch.no_grad()
def test_probability_flow(case):
    model, x, t, k = variant(case)
    got, mean = sampler(case, probability_flow=True).predict(model, x, t, k, torch.randn(x.shape))
    close(mean, case["variant.probflow.x_mean"], STORED)
    assert torch.equal(got, mean)


@over_cases
@torch.no_grad()
def test_annealed_langevin_dynamics(case):
    """Several steps; the mean is that of the last."""
    model, x, t, k = variant(case)
    noises = [z for _, z in sorted(case.under("variant.ald2.z").items())]
    for z in noises:
        mean = sampler(case, corrector="ald").correct(model, x, t, k, torch.zeros_like(z))  # its step length asks no noise
        x = sampler(case, corrector="ald").correct(model, x, t, k, z)
    close(mean, case["variant.ald2.x_mean"], STORED)
    close(x, case["variant.ald2.x"], STORED)
