"""DiffPIR and DAPS, iterate by iterate, and DiffPIR's data step, against the numbers of their repositories."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse.operators import Blur, Downsample, Gaussian, Identity, Inpaint, Operator, Overexpose
from inverse.operators.decimation import Decimate
from inverse.samplers.daps import DAPS
from inverse.samplers.diffpir import DiffPIR
from inverse.samplers.mcmc import HMC, MCMC, Langevin
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.schedules import VP
from prior.transition import Transition
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.priors import reddiff_prior

pytestmark = needs_parity("reddiff")

TOLERANCE = 5e-4

PIR_OPERATORS: dict[str, Callable[[Case, dict[str, Any]], Any]] = {
    "deblur": lambda case, settings: Blur(case["diffpir/kernel"][0, 0], "circular"),
    "sr": lambda case, settings: Decimate(case["diffpir/kernel"][0, 0], settings["sf"]),
    "inp": lambda case, settings: Inpaint(case["diffpir/mask"][0]),
}

DAPS_OPERATORS: dict[str, Callable[[re.Match[str]], Operator]] = {
    r"down(\d+)": lambda match: Downsample.bicubic(int(match[1])),
    r"hdr": lambda match: Overexpose(2.0),
    r"deno": lambda match: Identity(),
}


def runs(sampler: str) -> list[tuple[Case, str]]:
    return [
        (case, name)
        for case in parity_cases("reddiff", "peers_iterates")
        for name in case.meta["cases"]
        if name.startswith(sampler)
    ]


def stored_noise(case: Case, name: str) -> Callable[[Tensor], Tensor]:
    """The draws of a run, in the order of their consumption."""
    draws = iter(sorted(case.under(f"{name}/noise/").items(), key=lambda item: int(item[0])))
    return lambda like: next(draws)[1].to(like)


def denoiser(name: str = "mixed") -> Denoiser:
    (prior,) = parity_cases("reddiff", "prior")
    return reddiff_prior(prior, name)


@pytest.mark.parametrize(("case", "name"), runs("diffpir"), ids=str)
def test_diffpir(case: Case, name: str) -> None:
    """The official noise is that of [0, 1] images, and its eta scales the beta of one training step."""
    settings, wanted = case.meta["cases"][name], case[f"{name}/xt_x0_per_step"]
    A = PIR_OPERATORS[settings["task"]](case, settings)
    A.noise = Gaussian(settings["sig"])
    model, schedule = denoiser(), denoiser().schedule
    pir = DiffPIR(steps=settings["iters"], spacing="quad", stop_noisy=True, lam=settings["lam"], zeta=settings["zeta"])
    times = pir.times(schedule)
    assert times.tolist() == settings["t_i"]
    assert settings["seq"] == [schedule.T - 1 - t for t in settings["t_i"]]
    problem, noise = Problem(model, A, case[f"{name}/y01"]), stored_noise(case, name)
    x = model.noised(model.to_network(case[f"{name}/init01"]), noise(case["x"]), times[0])
    for k, (t, s) in enumerate(pairwise(times)):
        if settings["eta"] == 0:
            noise(x)  # the official code draws the noise of its DDIM step all the same
        q = Transition.between(schedule, t, s, x)
        official = schedule.betas[int(t)] * (q.sigma / schedule.sigma(t)) ** 2
        step = dataclasses.replace(pir, eta=settings["eta"] * float((official / q.variance).sqrt()))
        x0 = problem.prox(model(x, t).x0.clamp(-1, 1), pir.rho(problem, t))
        torch.testing.assert_close(x0, wanted[k, 1], atol=TOLERANCE, rtol=0)
        x = step.step(problem, x, t, s, noise)
        torch.testing.assert_close(x, wanted[k, 0], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(model(x, times[-1]).x0.clamp(-1, 1), wanted[-1, 1], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(model.to_image(x), case[f"{name}/out01"], atol=TOLERANCE, rtol=0)


def solutions() -> list[tuple[Case, str]]:
    return [(case, key) for case in parity_cases("reddiff", "peers_iterates") for key in case.under("data_solution/sf")]


@pytest.mark.parametrize(("case", "key"), solutions(), ids=str)
def test_data_solution(case: Case, key: str) -> None:
    """The data of the image itself: its solution is that image, through the kernel, the factor and alpha of the name."""
    match = re.fullmatch(r"(\d+)_alpha([\d.e-]+)", key)
    assert match is not None
    A, x = Decimate(case["diffpir/kernel"][0, 0], int(match[1])), case["data_solution/x01"]
    solved = A.prox(x, A(x), float(match[2]))
    torch.testing.assert_close(solved, case[f"data_solution/sf{key}"], atol=TOLERANCE, rtol=0)


def chain(settings: dict[str, Any]) -> MCMC:
    options = {"steps": settings["num_steps"], "lr": settings["lr"], "decay": settings["lr_min_ratio"]}
    if settings.get("mc_algo", "langevin") == "hmc":
        return HMC(**options, momentum=settings["momentum"])
    return Langevin(**options)


@pytest.mark.parametrize(("case", "name"), runs("daps"), ids=str)
def test_daps(case: Case, name: str) -> None:
    settings, (_, measured) = case.meta["cases"][name], name.rsplit("_", 1)
    A = next(make(m) for pattern, make in DAPS_OPERATORS.items() if (m := re.fullmatch(pattern, measured)))
    schedule = VP(time_scale=999.0, t_min=9e-4)  # continuous time, down to a noise level of 0.01
    model = Denoiser(denoiser().network, schedule, learned_variance=True)
    daps = DAPS(
        steps=settings["annealing_steps"],
        levels=(settings["sigma_max"], settings["sigma_min"]),
        ode_steps=settings["diffusion_steps"],
        ode_end=settings["diffusion_sigma_min"],
        spread=None,
        mcmc=chain(settings["mcmc"]),
        tau=settings["mcmc"]["tau"],
    )
    times, noise = daps.times(schedule), stored_noise(case, name)
    sigmas = schedule.level(times)
    torch.testing.assert_close(sigmas.float(), case[f"{name}/sigma_steps"], rtol=1e-5, atol=0)
    problem = Problem(model, A, (case[f"{name}/y"] + 1) / 2)
    x, again = case[f"{name}/x_start"], stored_noise(case, name)
    for k, (t, s) in enumerate(pairwise(times)):
        x = schedule.alpha(t).to(x) * x
        guess = daps.guess(model, x, t)
        torch.testing.assert_close(guess, case[f"{name}/x0hat_per_step"][k], atol=TOLERANCE, rtol=0)
        drawn = daps.mcmc.sample(daps.conditional(problem, guess, t), noise)
        torch.testing.assert_close(drawn, case[f"{name}/x0y_per_step"][k], atol=TOLERANCE, rtol=0)
        x = daps.step(problem, x, t, s, again) / schedule.alpha(s).to(x)
        noise(x)
        torch.testing.assert_close(x, case[f"{name}/xt_per_step"][k], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(x, case[f"{name}/out"], atol=TOLERANCE, rtol=0)


def test_noise_levels_to_network_times() -> None:
    """Continuous variance-preserving time in the network's count; stored in float32, which loses a little near zero."""
    schedule = VP(time_scale=999.0)
    for case in parity_cases("reddiff", "peers_iterates"):
        if "vpprecond/sigma_in" in case:
            t = schedule.network_time(schedule.time(case["vpprecond/sigma_in"]))
            torch.testing.assert_close(t.float(), case["vpprecond/c_noise"], rtol=1e-6, atol=2e-4)
