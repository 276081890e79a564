"""Stochastic samplers, likelihoods and exact inversions on the mixture, against stored float64 trajectories."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from prior.denoiser import Denoiser
from prior.likelihood import log_likelihood
from prior.samplers import BDIA, DDIM, DDPM, EDICT, DPMEncoder, PredictorCorrector, Sampler
from prior.samplers.inversion import Pair
from prior.schedules import VE, VP, Linear, Respaced, Schedule, SubVP
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.mixtures import mixture, settings

pytestmark = needs_parity("samplers")

TOLERANCE = 1e-10
BITS_TOLERANCE = 1e-5
TRACE_TOLERANCE = 1e-4  # nats
LIKELIHOOD_T0 = 1e-5  # of the authors' code

SDES: dict[str, Callable[[float, float], Schedule]] = {
    "VPSDE": lambda low, high: VP(beta_0=low, beta_1=high),
    "subVPSDE": lambda low, high: SubVP(beta_0=low, beta_1=high),
    "VESDE": lambda low, high: VE(sigma_min=low, sigma_max=high),
}


def found(kind: str, pattern: str) -> list[tuple[Case, re.Match[str]]]:
    """The cases of ``kind`` with the keys that match ``pattern``."""
    cases = parity_cases("samplers", kind)
    return [(case, match) for case in cases for key in sorted(case.tensors) if (match := re.fullmatch(pattern, key))]


def over(kind: str, pattern: str) -> pytest.MarkDecorator:
    pairs = found(kind, pattern)
    return pytest.mark.parametrize(("case", "match"), pairs, ids=[f"{case}-{match[0]}" for case, match in pairs])


def convergence() -> dict[str, dict[str, Any]]:
    """Step counts, errors and slopes that were measured, by method; none where there are no cases."""
    return settings()["convergence_vp"]["methods"] if parity_cases("samplers", "settings") else {}


def vp() -> VP:
    config = settings()["config"]
    return VP(beta_0=config["beta0"], beta_1=config["beta1"])


def sde(text: str) -> tuple[Schedule, int]:
    """A schedule and its number of points from, say, ``L.VPSDE(0.1,20.,25)``."""
    name, *numbers = re.findall(r"[A-Za-z]\w*(?=\()|[\d.e-]+(?=[,)])", text)
    low, high, points = map(float, numbers)
    return SDES[name](low, high), int(points)


def stored(noise: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Draws the stored noises in order."""
    stream = iter(noise)
    return lambda like: next(stream)


def trajectory(sampler: Sampler, model: Denoiser, x: Tensor, times: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
    step, states = sampler.begin(model.schedule, times), [x]
    for i, (t, s) in enumerate(pairwise(times)):
        states.append(step(model, states[-1], t, s, None if noise is None else noise[i], None))
    return torch.stack(states)


def close(got: Tensor, wanted: Tensor, atol: float = TOLERANCE) -> None:
    torch.testing.assert_close(got, wanted, atol=atol, rtol=0)


# --- kind "sde"


@over("sde", r"ddim\.eta(.+)")
def test_ddim(case: Case, match: re.Match[str]) -> None:
    model = mixture().denoiser(vp())
    got = trajectory(DDIM(eta=float(match[1]), clip=False), model, case["x_T"], case["grid"], case["ddim.noise"])
    close(got, case[match[0]])


@over("sde", r"ddpm\.(small|large)")
def test_ddpm(case: Case, match: re.Match[str]) -> None:
    schedule = Respaced(base=Linear(T=settings()["config"]["ddpm_T"]), kept=tuple(settings()["ddpm_timesteps"]))
    close(schedule.betas, case["ddpm.betas_respaced"])
    close(schedule.abar, case["ddpm.alphas_cumprod_respaced"])
    model = mixture().denoiser(schedule)
    times = torch.arange(schedule.T - 1.0, -2.0, -1.0, dtype=torch.float64)
    sampler = DDPM(steps=schedule.T, variance={"small": 0.0, "large": 1.0}[match[1]], clip=False)
    close(trajectory(sampler, model, case["x_T"], times, case["ddpm.noise"]), case[match[0]])


@over("sde", r"pc\.(.+)\.out")
def test_predictor_corrector(case: Case, match: re.Match[str]) -> None:
    row = next(row for row in settings()["config"]["pc"] if row[0] == match[1])
    _, process, _, predictor, corrector, snr, corrector_steps, probability_flow, eps = row
    schedule, points = sde(process)
    sampler = PredictorCorrector(
        steps=points,
        predictor=predictor.removesuffix("_sampling"),
        corrector=corrector,
        snr=snr,
        corrector_steps=corrector_steps,
        probability_flow=probability_flow,
        batch_norms=True,
        t_end=eps,
    )
    first, *noise = case[f"pc.{match[1]}.noise"]
    x = first if isinstance(schedule, VP) else schedule.sigma(schedule.t_max) * first
    draw = stored(noise)
    got = sampler.walk(mixture().denoiser(schedule), x, sampler.times(schedule), noise=draw)
    close(got, case[match[0]])
    with pytest.raises(StopIteration):
        draw(x)


# --- kind "likelihood"


def process(name: str) -> Schedule:
    """The process of the predictor-corrector cases that is called ``name`` in lower case, or else the authors' default."""
    known = [sde(row[1])[0] for row in settings()["config"]["pc"]] + [VP(), SubVP(), VE()]
    return next(schedule for schedule in known if type(schedule).__name__.lower() == name)


@over("likelihood", r"(.+)\.true_logp_at_eps")
def test_true_density(case: Case, match: re.Match[str]) -> None:
    schedule = process(match[1])
    got = mixture().log_prob(case["x0"], schedule.alpha(LIKELIHOOD_T0), schedule.sigma(LIKELIHOOD_T0))
    close(got, case[match[0]])


@over("likelihood", r"(.+)\.bpd")
def test_bits_per_dim(case: Case, match: re.Match[str]) -> None:
    model = mixture().denoiser(process(match[1]), data_range=(-1.0, 1.0))
    probes = case[f"{match[1]}.rademacher"][None]
    got = log_likelihood(model, model.to_image(case["x0"]), probes=probes, t0=LIKELIHOOD_T0, tolerance=1e-9)
    close(got.bits_per_dim, case[match[0]], BITS_TOLERANCE)
    close(got.z, case[f"{match[1]}.z"], BITS_TOLERANCE)


@over("likelihood", r"(.+)\.ode_logp_exact_trace")
def test_exact_trace(case: Case, match: re.Match[str]) -> None:
    model = mixture().denoiser(process(match[1]))
    got = log_likelihood(model, case["x0"], probes="exact", t0=LIKELIHOOD_T0, tolerance=1e-7)
    close(got.log_prob, case[match[0]], TRACE_TOLERANCE)
    close(got.z, case[f"{match[1]}.z_exact"], TRACE_TOLERANCE)


# --- kind "inversion"


@over("inversion", r"bdia\.(.+)")
def test_bdia(case: Case, match: re.Match[str]) -> None:
    model, times, sampler = mixture().denoiser(vp()), case["grid"], BDIA(gamma=float(match[1]))
    wanted = case[match[0]]
    close(trajectory(sampler, model, case["x_T"], times), wanted)
    close(sampler.lower(model, Pair(wanted[0], wanted[1]), times), wanted[-1])
    close(sampler.lower(model, sampler.lift(model, wanted[-1], times), times), wanted[-1])


@over("inversion", r"edict\.x")
def test_edict(case: Case, match: re.Match[str]) -> None:
    model, sampler, times = mixture().denoiser(vp()), EDICT(p=settings()["config"]["edict_p"]), case["grid"]
    pairs = [Pair(case["x_T"], case["x_T"])]
    for t, s in pairwise(times):
        pairs.append(sampler.couple(model, pairs[-1], t, s))
    close(torch.stack([pair.x for pair in pairs]), case["edict.x"])
    close(torch.stack([pair.y for pair in pairs]), case["edict.y"])
    close(trajectory(sampler, model, case["x_T"], times), case["edict.x"])
    back = pairs[-1]
    for s, t in pairwise(times.flip(0)):
        back = sampler.uncouple(model, back, t, s)
    close(torch.stack([back.x, back.y]), case["x_T"].expand(2, *back.x.shape))


@over("inversion", r"dpmenc\.(.+)\.x0")
def test_dpm_encoder(case: Case, match: re.Match[str]) -> None:
    form = match[1]
    wanted = case.under(f"dpmenc.{form}.")
    encoder = DPMEncoder(eta={"ddim": settings()["config"]["enc_eta"], "ddpm": 1.0}[form])
    model = mixture().denoiser(Linear())
    times = torch.tensor(settings()[f"dpmenc.{form}.timesteps"][::-1], dtype=torch.float64)
    encoding = encoder.record(model, wanted["x0"], times, noise=stored(wanted["noise"]))
    close(encoding.start, wanted["x_T"])
    close(encoding.noises, wanted["eps"])
    close(encoder.replay(model, encoding), wanted["x_first"])


@pytest.mark.parametrize("name", [name for name in convergence() if name.startswith("bdia")])
def test_order_of_bdia(name: str) -> None:
    (case,) = parity_cases("samplers", "inversion")
    ends, wanted = settings()["convergence_vp"], convergence()[name]
    x, model = case["x_T"], mixture().denoiser(vp())
    truth = ode_solution(model, x, ends["t_start"], ends["t_end"])
    counts, errors = (wanted["N"][-3], wanted["N"][-1]), []
    for steps in counts:
        times = torch.linspace(ends["t_start"], ends["t_end"], steps + 1, dtype=torch.float64)
        got = BDIA(gamma=float(name.removeprefix("bdia").removesuffix(".t"))).walk(model, x, times)
        errors.append(float((got - truth).square().mean().sqrt()))
    slope = math.log(errors[0] / errors[1]) / math.log(counts[1] / counts[0])
    assert slope == pytest.approx(wanted["slope_last"], abs=0.1)


def ode_solution(model: Denoiser, x: Tensor, start: float, end: float) -> Tensor:
    """The probability-flow ODE ``dx/dt = f x - g^2 score / 2`` solved to 1e-10."""
    schedule = model.schedule

    def rates(t: float, state: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(state).view_as(x)
        return (schedule.drift(t) * at - 0.5 * schedule.diffusion(t) ** 2 * model(at, t).score).flatten().numpy()

    solution = solve_ivp(rates, (start, end), x.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-10)
    return torch.from_numpy(solution.y[:, -1]).view_as(x)
