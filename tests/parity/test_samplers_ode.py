"""Deterministic samplers on the exact mixture, state by state: VP, and VE in the sense of EDM; their measured orders."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch

from prior.denoiser import Denoiser
from prior.grids import karras, log_snr, quadratic, uniform
from prior.samplers import DDIM, DEIS, GHVB, HB, IPNDM, DPMSolver, EVODiff, Heun, RungeKutta, Sampler
from prior.schedules import EDM, VP
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.mixtures import mixture, settings
from tests.prior.flow import probability_flow, trajectory

pytestmark = needs_parity("samplers")

OWN, OFFICIAL, TRUTH = 1e-10, 1e-3, 1e-9  # the official DEIS integrates by a left Riemann sum
TABLEAUX = {
    "1euler": "euler", "2heun": "heun", "3kutta": "kutta3", "3heun": "heun3", "3ral": "ralston3", "3ssprk": "ssprk3",
    "3vdh": "houwen3", "4rk": "rk4",
}  # fmt: skip
LOWERED = {"True": "always", "False": "never"}
FINALS = {"none": "full", "official": "official"}
GRIDS = {"t": uniform, "t2": quadratic, "lam": log_snr, "edm": karras}

SAMPLERS: dict[str, Callable[[re.Match[str]], Sampler]] = {
    r"ddim": lambda match: DDIM(clip=False),
    r"tab(\d+)": lambda match: DEIS(variant="tAB", order=int(match[1])),
    r"rhoab(\d+)": lambda match: DEIS(variant="rhoAB", order=int(match[1])),
    r"rhork\.(\w+)": lambda match: RungeKutta(method=TABLEAUX[match[1]]),
    r"ipndm": lambda match: IPNDM(),
    r"dpmpp2m": lambda match: DPMSolver(lower_order_final="always"),
    r"ghvb([\d.]+)": lambda match: GHVB(number=float(match[1])),
    r"hb([\d.]+)": lambda match: HB(number=float(match[1])),
}
ELSEWHERE = ("bdia",)  # beginnings of the methods whose orders other modules reproduce


def sampler(name: str) -> Sampler:
    for pattern, make in SAMPLERS.items():
        if match := re.fullmatch(pattern, name):
            return make(match)
    raise LookupError(f"no sampler is known for {name!r}")


def vp(t_end: float) -> VP:
    config = settings()["config"]
    return VP(beta_0=config["beta0"], beta_1=config["beta1"], t_min=t_end)


def edm() -> Denoiser:
    config = settings()["config"]
    return mixture().denoiser(EDM(sigma_min=config["sigma_min"], sigma_max=config["sigma_max"]))


def assert_close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)


def keys(kind: str, *, skip: tuple[str, ...]) -> list[tuple[Case, str]]:
    """The keys that hold results of a sampler; those that begin as in ``skip`` feed them."""
    return [(case, key) for case in parity_cases("samplers", kind) for key in case.tensors if not key.startswith(skip)]


# --- the prior and the truth


@pytest.mark.parametrize("case", parity_cases("samplers", "prior"), ids=str)
def test_prior(case: Case) -> None:
    prior, x, alpha, sigma = mixture(), case["x"], case["alpha"], case["sigma"]
    x0 = prior.x0(x, alpha, sigma)
    a, s = (v.view(-1, 1, 1, 1) for v in (alpha, sigma))
    assert_close(x0, case["x0"], 1e-12)
    assert_close((x - a * x0) / s, case["eps"], 1e-12)
    assert_close(-(x - a * x0) / s**2, case["score"], 1e-12)
    assert_close(prior.log_prob(x, alpha, sigma), case["logp"], 1e-12)


@pytest.mark.parametrize("case", parity_cases("samplers", "ode_vp"), ids=str)
def test_truth_and_grids_of_vp(case: Case) -> None:
    config = settings()["config"]
    schedule = vp(config["t_end"])
    start, end = config["t_start"], config["t_end"]
    assert_close(probability_flow(mixture().denoiser(schedule), case["x_T"], start, end), case["truth_x_t_end"], TRUTH)
    for name, times in case.under("grid.").items():
        assert_close(GRIDS[name](schedule, len(times))[:-1], times, 1e-12)


# --- every state


@pytest.mark.parametrize(("case", "key"), keys("ode_vp", skip=("grid.", "truth", "x_T")), ids=str)
def test_vp(case: Case, key: str) -> None:
    name, last, coefficients = key, key.endswith(".official_final"), key.endswith(".coef")
    name, _, lowered = name.removesuffix(".official_final").removesuffix(".coef").partition(".lower_final_")
    name, _, grid = name.rpartition(".")
    chosen, times = sampler(name), case[f"grid.{grid}"]
    if lowered:
        chosen = DPMSolver(lower_order_final=LOWERED[lowered])
    model = mixture().denoiser(vp(settings()["config"]["t_end"]))
    if coefficients and isinstance(chosen, DEIS):
        alpha = model.schedule.alpha(times)
        C = chosen.coefficients(model.schedule, times)
        # those in t are stored after the factor of x, those in rho are of z = x / alpha
        got = torch.cat([(alpha[1:] / alpha[:-1])[:, None], C], 1) if chosen.variant == "tAB" else C / alpha[1:, None]
        assert_close(got, case[key], OWN)
        return
    states = trajectory(chosen, model, case["x_T"], times)
    if last:
        assert_close(states[-1], case[key], OFFICIAL if isinstance(chosen, DEIS) else OWN)
    else:
        assert_close(states, case[key], OWN)


@pytest.mark.parametrize(("case", "key"), keys("ode_ve", skip=("noise_unit", "truth", "edm.sigmas", "edm.sto.noise")), ids=str)
def test_ve(case: Case, key: str) -> None:
    model, config = edm(), settings()["config"]
    x = config["sigma_max"] * case["noise_unit"]
    name, _, variant = key.partition(".")
    noise = None
    if name == "edm":
        times = torch.cat([case["edm.sigmas"], torch.zeros(1, dtype=torch.float64)])
        churn = config["churn"] if variant == "sto" else {}
        chosen: Sampler = Heun(steps=len(times) - 1, **churn)
        noise = case["edm.sto.noise"] if churn else None
    elif name == "evodiff" and (match := re.fullmatch(r"(\d+)\.final_(\w+)", variant)):
        times, chosen = case[f"evodiff.{match[1]}.grid"], EVODiff(final=FINALS[match[2]])
    elif name == "evodiff":
        n = int(variant.removesuffix(".grid"))
        assert_close(case[key], log_snr(model.schedule, n + 1)[:-1], 1e-12)
        return
    else:
        times, chosen = case[f"evodiff.{variant}.grid"], sampler(name)
    assert_close(trajectory(chosen, model, x, times, noise), case[key], OWN)


@pytest.mark.parametrize("case", parity_cases("samplers", "ode_ve"), ids=str)
def test_truth_and_grid_of_ve(case: Case) -> None:
    model, config = edm(), settings()["config"]
    high, low = config["sigma_max"], config["sigma_min"]
    assert_close(probability_flow(model, high * case["noise_unit"], high, low), case["truth_sigma_min"], TRUTH)
    assert_close(karras(model.schedule, len(case["edm.sigmas"]))[:-1], case["edm.sigmas"], 1e-12)


# --- the orders


def measured() -> list[str]:
    tables = [case.meta["convergence_vp"]["methods"] for case in parity_cases("samplers") if case.kind == "settings"]
    return [name for methods in tables for name in methods if not name.startswith(ELSEWHERE)]


@pytest.mark.parametrize("name", measured())
@pytest.mark.parametrize("case", parity_cases("samplers", "ode_vp"), ids=str)
def test_order_of_convergence(case: Case, name: str) -> None:
    table = settings()["convergence_vp"]
    schedule = vp(table["t_end"])
    model, x = mixture().denoiser(schedule), case["x_T"]
    truth = probability_flow(model, x, table["t_start"], table["t_end"])
    endings = {"evodiff.full": "full", "evodiff.official_final": "official"}
    if name in endings:
        chosen, grid = EVODiff(final=endings[name]), "lam"
    else:
        base = name.removesuffix(".full").removesuffix(".lower_final")
        method, _, grid = base.rpartition(".")
        chosen = sampler(method) if not name.endswith(".full") else DPMSolver(lower_order_final="never")
    row = table["methods"][name]
    errors = [
        float((chosen.walk(model, x, GRIDS[grid](schedule, N + 1)[:-1]) - truth).square().mean().sqrt()) for N in row["N"]
    ]
    assert errors == pytest.approx(row["rms"], rel=1e-3)
    slope = math.log(errors[-3] / errors[-1]) / math.log(row["N"][-1] / row["N"][-3])
    assert slope == pytest.approx(row["slope_last"], abs=0.1)
