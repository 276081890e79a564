"""DDRM, DDNM and DDNM+, iterate by iterate, against the numbers of the RED-Diff and DDNM repositories."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse.operators import Downsample, Gaussian, LinearOperator
from inverse.samplers.ddnm import DDNM
from inverse.samplers.ddrm import DDRM
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.operators import ddnm_inpaint, mask_of, operator
from tests.parity.priors import reddiff_prior

pytestmark = needs_parity("reddiff")

TOLERANCE_DDRM, TOLERANCE_DDNM = 2e-4, 5e-4


def model_of(name: str) -> Denoiser:
    (prior,) = parity_cases("reddiff", "prior")
    model = reddiff_prior(prior, name)
    model.data_range = (0.0, 1.0)  # the official operators act on images in [-1, 1]: nothing to convert
    return model


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got, wanted.view_as(got).to(got), atol=tolerance, rtol=0)


class Basis:
    """The official V of one operator: coefficients, (1, n), to images; the first ``rank`` belong to ``singulars``."""

    def __init__(self, case: Case, name: str, degradation: str, member: int) -> None:
        self.shape = tuple(case["x"].shape[1:])
        n = math.prod(self.shape)
        if match := re.fullmatch(r"sr(\d+)", degradation):
            self.R = int(match[1])
            self.small = case[f"{name}/V_small"]
            self.singulars = torch.full((n // self.R**2,), 1 / self.R)
        else:
            assert degradation in ("in2", "deno"), f"the basis of {degradation!r} is not known"
            self.R, self.small = 1, torch.ones(1, 1)
            self.singulars = mask_of(case, member).flatten().float() if degradation == "in2" else torch.ones(n)
        self.rank = len(self.singulars)

    def image(self, c: Tensor) -> Tensor:
        """``V c``: column 0 of all patches, channel-major, then the other columns patch by patch."""
        C, H, W = self.shape
        R, h, w = self.R, H // self.R, W // self.R
        patches = torch.cat([c[:, : C * h * w].reshape(-1, 1), c[:, C * h * w :].reshape(C * h * w, -1)], 1) @ self.small.T
        return patches.view(C, h, w, R, R).permute(0, 1, 3, 2, 4).reshape(1, C, H, W)


def ddrm_runs() -> list[tuple[Case, str]]:
    cases = parity_cases("reddiff", "baseline_iterates")
    return [(case, name) for case in cases for name, run in case.meta["cases"].items() if run["algo"] == "DDRM"]


def ddrm_noise(basis: Basis, draws: list[Tensor], level: float, noise: float) -> Tensor:
    """What each coefficient gets of the three draws of a step, as an image: full, for the worse seen, for the better."""
    full, after, better = (draw.reshape(1, -1) for draw in draws)
    c, s = full.clone(), basis.singulars
    c[:, : basis.rank][:, s * level < noise] = after
    c[:, : basis.rank] = torch.where(s * level > noise, better, c[:, : basis.rank])
    return basis.image(c)


@pytest.mark.parametrize(("case", "name"), ddrm_runs(), ids=lambda v: str(v))
def test_ddrm(case: Case, name: str) -> None:
    settings, model = case.meta["cases"][name], model_of(case.meta["cases"][name]["prior"])
    sampler = DDRM(steps=settings["num_steps"], eta=settings["eta"], eta_b=settings["eta_b"])
    times = torch.tensor([*settings["timesteps_visited"], -1.0], dtype=torch.float64)
    noises = [case[key] for key in sorted(case.tensors) if key.startswith(f"{name}/noise/")]
    for member in range(settings["batch"]):
        pick = slice(member, member + 1)
        A = operator(case, settings["deg"], member).with_noise(Gaussian(2 * settings["sigma_y"]))
        y = case[f"{name}/y_0"][pick].view(1, *A.output_shape(tuple(case["x"].shape[1:])))
        problem, basis = Problem(model, A, y), Basis(case, name, settings["deg"], member)
        draws = [noise[pick] for noise in noises]
        iterates, x0s = case[f"{name}/xt_per_step"][:, pick], case[f"{name}/x0_per_step"][:, pick]
        start = sampler.start(problem, times[0], lambda like, b=basis, z=draws[0]: b.image(z.reshape(1, -1)))
        # the official start is divided by the level, ours multiplied by alpha = 1 / sqrt(1 + level^2)
        close(start / float(model.schedule.sigma(times[0])), iterates[0], TOLERANCE_DDRM)
        for k, (t, s) in enumerate(pairwise(times)):
            z = ddrm_noise(basis, draws[1 + 3 * k : 4 + 3 * k], float(model.schedule.level(s)), problem.noise)
            with torch.no_grad():
                close(model(iterates[k], t).x0, x0s[k], TOLERANCE_DDRM)
                got = sampler.step(problem, iterates[k], t, s, lambda like, z=z: z)
            close(got, iterates[k + 1] + official_slips(problem, basis, sampler, (iterates[k], x0s[k]), (t, s)), TOLERANCE_DDRM)


def official_slips(problem: Problem, basis: Basis, sampler: DDRM, iterate: tuple[Tensor, Tensor], times: Any) -> Tensor:
    """Ours minus the official step, where the paper decides for ours.

    Its zeros among the singular values count as a noisy measurement, so that y / noise takes the place of eps there; and
    at the clean end it keeps x0 where a noiseless measurement says better.
    """
    (x, x0), (t, s), schedule = iterate, times, problem.model.schedule
    if problem.noise == 0:
        return problem.A.pinv(problem.residual(x0)) if schedule.sigma(s) == 0 else torch.zeros_like(x)
    zero = basis.singulars == 0
    if not zero.any():
        return torch.zeros_like(x)
    eps = (x - schedule.alpha(t).to(x) * x0) / schedule.sigma(t).to(x)
    old = math.sqrt(1 - sampler.eta**2) * schedule.sigma(s).to(x)
    return old * zero.view_as(x[0]) * (eps - problem.measured / problem.noise)


def ddnm_runs() -> list[tuple[Case, str]]:
    cases = parity_cases("reddiff", "peers_iterates")
    return [(case, name) for case in cases for name, run in case.meta["cases"].items() if "DDNM" in run["src"]]


def ddnm_operator(y: Tensor, missing: Tensor, shape: tuple[int, ...]) -> tuple[LinearOperator, Tensor]:
    """The operator that gives as many numbers as ``y`` (1, m) has, and y in its shape."""
    n, m = math.prod(shape), y.shape[1]
    if m == n - len(missing):
        return ddnm_inpaint(missing, y, shape)
    A = Downsample.area(math.isqrt(n // m))
    return A, y.view(1, *A.output_shape(shape))


@pytest.mark.parametrize(("case", "name"), ddnm_runs(), ids=lambda v: str(v))
def test_ddnm(case: Case, name: str) -> None:
    settings, model = case.meta["cases"][name], model_of("mixed")
    A, y = ddnm_operator(case[f"{name}/y"], case["ddnm/missing"], tuple(case["x"].shape[1:]))
    sampler = DDNM(
        steps=settings["T_sampling"],
        spacing="leading",
        eta=settings["eta"],
        travel_length=settings["travel_length"],
        travel_repeat=settings["travel_repeat"],
    )
    times, steps = sampler.times(model.schedule), settings["T_sampling"]
    assert [steps - 1 - k for k in sampler.route(steps)] == settings["schedule"]

    def draws() -> Iterator[Tensor]:
        yield case[f"{name}/x_T"] / model.schedule.sigma(times[0]).float()
        yield from (case[key] for key in sorted(case.tensors) if key.startswith(f"{name}/noise/"))

    stream, predictions = draws(), []
    model.register_forward_hook(lambda module, inputs, p: predictions.append(p))
    with torch.no_grad():
        problem = Problem(model, A.with_noise(Gaussian(settings["sigma_y_scaled"])), y)
        out, _ = sampler.draw(problem, times, lambda like: next(stream))
    close(out, case[f"{name}/out"], TOLERANCE_DDNM)
    close(predictions[-1].x0, case[f"{name}/last_x0"], TOLERANCE_DDNM)
    assert len(predictions) == sampler.network_calls(steps)
    assert next(stream, None) is None
