"""The samplers that RED-Diff's repository compares itself with, iterate by iterate: DDIM, DPS, PiGDM, MCG."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse.operators import Operator
from inverse.samplers.dps import DPS
from inverse.samplers.guided import GuidedSampler
from inverse.samplers.loop import Noise
from inverse.samplers.mcg import MCG
from inverse.samplers.pigdm import PiGDM
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.grids import leading
from prior.samplers import DDIM
from prior.schedules import Linear
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.operators import operator
from tests.parity.priors import reddiff_prior

pytestmark = needs_parity("reddiff")

TOLERANCE = 2e-4


def ddim(settings: dict[str, Any]) -> DDIM:
    return DDIM(eta=settings["eta"], clip=False)


def dps(settings: dict[str, Any]) -> DPS:
    # the authors take the gradient of the squared norm, and ignore their weight in the form that is not normalised
    zeta = 2 * settings["grad_term_weight"] if settings["original"] else 2.0
    return DPS(eta=settings["eta"], zeta=zeta, normalized=settings["original"], clip=False, warm_start=True)


def pgdm(settings: dict[str, Any]) -> PiGDM:
    return PiGDM(
        eta=settings["eta"], weight=settings["grad_term_weight"], noise_aware=False, weighting="adaptive",
        keep_eps=settings["awd"], project=settings["deg"] == "in2", warm_start=True,
    )  # fmt: skip


def mcg(settings: dict[str, Any]) -> MCG:
    return MCG(eta=settings["eta"], zeta=2 * settings["grad_term_weight"], warm_start=True)


GUIDED: dict[str, Callable[[dict[str, Any]], GuidedSampler]] = {"DPS": dps, "PGDM": pgdm, "MCG": mcg}
ELSEWHERE = frozenset({"DDRM"})
"""Read by test_reddiff_spectral.py."""


def runs() -> list[tuple[Case, str]]:
    return [
        (case, name)
        for case in parity_cases("reddiff", "baseline_iterates")
        for name, settings in case.meta["cases"].items()
        if settings["algo"] not in ELSEWHERE
    ]


def stored_noise(case: Case, name: str, pick: slice) -> Noise:
    """The draws of one member, in the order in which they were consumed."""
    stream = iter(sorted(case.under(f"{name}/noise/").items()))
    return lambda like: next(stream)[1][pick].to(like)


def visited(settings: dict[str, Any]) -> list[float]:
    start, end = settings["start_step"], settings["end_step"]
    times = [t + end for t in leading(Linear(T=start - end), settings["num_steps"])[:-1].tolist()]
    assert times == settings["timesteps_visited"]
    return [*times, -1.0]


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)


def walk(step: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, times: list[float], wanted: Tensor) -> None:
    """Every iterate, the start included, against the stored ones (steps + 1, 1, C, H, W)."""
    close(x, wanted[0])
    for (t, s), after in zip(pairwise(times), wanted[1:], strict=True):
        x = step(x, *torch.tensor([t, s], dtype=torch.float64))
        close(x, after)


def problem_of(case: Case, name: str, member: int, model: Denoiser) -> Problem:
    settings, shape = case.meta["cases"][name], tuple(case["x"].shape[1:])
    A: Operator = operator(case, settings["deg"], member)
    y = case[f"{name}/y_0"][member].view(1, *A.output_shape(shape))
    if A.linear:
        model.data_range = (0.0, 1.0)  # the official operator acts on images in [-1, 1]: nothing to convert
        return Problem(model, A, y)
    return Problem(model, A, (y + 1) / 2)


@pytest.mark.parametrize(("case", "name"), runs(), ids=lambda v: str(v))
def test_iterates(case: Case, name: str) -> None:
    settings = case.meta["cases"][name]
    (prior,) = parity_cases("reddiff", "prior")
    times = visited(settings)
    for member in range(settings["batch"]):
        model, pick = reddiff_prior(prior, settings["prior"]), slice(member, member + 1)
        noise, wanted = stored_noise(case, name, pick), case[f"{name}/xt_per_step"][:, pick]
        with torch.no_grad():
            if settings["algo"] == "DDIM":
                sampler, start = ddim(settings), noise(wanted[0])
                walk(lambda x, t, s, f=sampler, m=model, z=noise: f.step(m, x, t, s, z(x)), start, times, wanted)
                continue
            guided, problem = GUIDED[settings["algo"]](settings), problem_of(case, name, member, model)
            guided.check(problem)
            start = guided.start(problem, torch.tensor(times[0], dtype=torch.float64), noise)
            walk(lambda x, t, s, f=guided, p=problem, z=noise: f.step(p, x, t, s, z), start, times, wanted)
