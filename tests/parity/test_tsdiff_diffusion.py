"""TSDiff: schedules, windows, noising, losses, steps and chains, the conditional baseline, and missing-value scenarios."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.tsdiff import cases, close, cond, replayed, tsdiff
from timeseries.diffusion import cosine_schedule, linear_schedule
from timeseries.features import Covariates
from timeseries.frequencies import Frequency
from timeseries.missing import MissingScenario

pytestmark = needs_parity("tsdiff")

TABLES, SINGLE, CHAIN, CONDITIONAL = 1e-6, 1e-5, 5e-5, 5e-5


def covariates(case: Case) -> Covariates:
    past = case["in.past_time_feat"][:, -case.meta["mk"]["ctx"] :]
    return Covariates(
        steps=torch.cat([past, case["in.future_time_feat"]], 1),
        static_real=case["in.feat_static_real"],
        static_category=case["in.feat_static_cat"],
    )


def stored(case: Case, pattern: str) -> list[tuple[re.Match[str], Tensor]]:
    found = [(match, t) for key, t in case.tensors.items() if (match := re.fullmatch(pattern, key))]
    assert found, f"{case} holds nothing like {pattern}"
    return found


# --- schedules


@cases("schedules")
def test_schedules(case: Case) -> None:
    made = {"linear": linear_schedule, "cosine": cosine_schedule}
    for match, wanted in stored(case, r"(linear|cosine)(\d+)\.(.+)"):
        schedule = made[match[1]](int(match[2]))
        tables = {
            "betas": schedule.betas,
            "alphas_cumprod": schedule.abar,
            "posterior_variance": schedule.posterior_variance,
            "sqrt_recip_alphas": (1 - schedule.betas).rsqrt(),
        }
        close(tables[match[3]], wanted.double(), TABLES, match[0])


# --- the unconditional model


@cases("diffusion")
def test_windows(case: Case) -> None:
    model = tsdiff(case)
    window = model.window(
        case["in.past_target"],
        case["in.past_observed_values"],
        future=case["in.future_target"],
        covariates=covariates(case),
    )
    close(window.scale[..., None], case["out.scale"], SINGLE, "scale")
    close(window.x, case["out.x"], SINGLE, "x")
    assert window.features is not None
    close(window.features, case["out.features_if_used"], SINGLE, "features")
    assert model.assembly.past_length == case["in.past_target"].shape[1]


@pytest.mark.parametrize("case", [case for case in parity_cases("tsdiff") if "lags" in case.meta], ids=str)
def test_lags_follow_from_the_frequency(case: Case) -> None:
    wanted = Frequency.parse(case.meta["mk"]["freq"]).lags if case.meta["mk"]["lags"] else (0,)
    assert tuple(case.meta["lags"]) == wanted


@cases("diffusion")
@torch.no_grad()
def test_noising_and_losses(case: Case) -> None:
    model, y, t, eps = tsdiff(case), case["in.xs"], case["in.t"], case["in.noise"]
    close(model.noised(y, t, eps), case["out.q_sample"], SINGLE, "noised")
    errors = model.errors(y, t, eps)
    close(errors, case["out.loss_none"], SINGLE, "errors")
    close(errors.mean(), case["out.loss_mean"], SINGLE, "mean")
    close(errors.sum(), case["out.loss_sum"], SINGLE, "sum")
    x = case["out.q_sample"]
    close(model.estimate(x, t, model.eps(x, t)), case["out.fast_denoise"], SINGLE, "estimate")


@cases("diffusion")
@torch.no_grad()
def test_steps(case: Case) -> None:
    model, x = tsdiff(case), case["out.q_sample"]
    for match, wanted in stored(case, r"out\.p_sample_t(\d+)"):
        t, key = int(match[1]), match[0].replace("out.p_sample_", "in.p_sample_noise_")
        close(model.step(x, t, model.eps(x, t), case[key] if t > 0 else None), wanted, SINGLE, match[0])
    for match, wanted in stored(case, r"out\.ddim_t(\d+)"):
        t = int(match[1])
        close(model.ddim_step(x, t, t - 1, model.eps(x, t)), wanted, SINGLE, match[0])
    for match, wanted in stored(case, r"out\.genddim_t(\d+)_eta([\d.]+)"):
        t, z = int(match[1]), case[match[0].replace("out.genddim_", "in.genddim_noise_")]
        previous = max(t - 2, -1) if t > 1 else t - 1
        close(model.ddim_step(x, t, previous, model.eps(x, t), z, eta=float(match[2])), wanted, SINGLE, match[0])


@cases("diffusion")
def test_unconditional_chain(case: Case) -> None:
    draws = case["in.sample_n_draws"]
    close(tsdiff(case).sample(draws.shape[1], noise=replayed(draws)), case["out.sample_n"], CHAIN, "chain")


# --- the conditional model


@cases("cond")
@torch.no_grad()
def test_conditional_model(case: Case) -> None:
    past, observed = case["in.past_target"], case["in.past_observed_values"]
    for match, wanted in stored(case, r"out\.loss_no([01])"):
        model, name = cond(case, noise_observed=match[1] == "1"), f"no{match[1]}"
        training = model.window(past, observed, future=case["in.future_target"], original_past=case["in.orig_past_target"])
        close(training.x, case["out.x"], CONDITIONAL, "x")
        close(training.scale[..., None], case["out.scale"], CONDITIONAL, "scale")
        assert training.features is not None
        close(training.features, case["out.features"], CONDITIONAL, "features")
        close(model.loss(training, case["in.t"], case[f"in.noise_{name}"]), wanted, CONDITIONAL, match[0])
        window = model.window(past, observed)
        forecast = window.forecast(model.sample(window, noise=replayed(case[f"in.draws_{name}"])))
        close(forecast, case[f"out.forecast_{name}"], CONDITIONAL, f"forecast_{name}")


# --- missing values


@cases("masks")
def test_missing_scenarios(case: Case) -> None:
    count, context = case.meta["missing"], case.meta["context"]
    for match, original in stored(case, r"(.+)\.orig"):
        kind = match[1]
        wanted = case[f"{kind}.past_target"], case[f"{kind}.past_observed_values"]
        got = tuple(part[0] for part in MissingScenario(kind=kind, count=count, context_length=context)(original[None]))
        if kind == "RM":
            hidden = [(mask == 0).nonzero().flatten() for _, mask in (got, wanted)]
            assert len(hidden[0]) == len(hidden[1]) == count
            assert min(map(int, [h.min() for h in hidden])) >= len(original) - context
            torch.testing.assert_close(got[0], original * got[1], rtol=0, atol=0)
        else:
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
