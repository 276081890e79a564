"""Official DPS, iterate by iterate: ancestral steps with learned variance and clipped images."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse.operators import Blur, Downsample, LinearOperator
from inverse.samplers.dps import DPS
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.grids import trailing
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.priors import reddiff_prior

pytestmark = needs_parity("reddiff")

TOLERANCE = 5e-4

OPERATORS: dict[str, Callable[[dict[str, Any]], LinearOperator]] = {
    "super_resolution": lambda kwargs: Downsample.bicubic(kwargs["scale_factor"]),
    "gaussian_blur": lambda kwargs: Blur.gaussian(kwargs["intensity"]),
}
ETA: dict[str, float | None] = {"ddpm": None, "ddim": 0.0}


def runs() -> list[tuple[Case, str]]:
    return [
        (case, name)
        for case in parity_cases("reddiff", "peers_iterates")
        for name, settings in case.meta["cases"].items()
        if "diffusion-posterior-sampling" in settings.get("src", "")
    ]


def respaced(model: Denoiser, steps: str) -> Denoiser:
    return Denoiser(model.network, model.schedule.respace(steps), model.head, learned_variance=model.learned_variance)


@pytest.mark.parametrize(("case", "name"), runs(), ids=lambda v: str(v))
def test_iterates(case: Case, name: str) -> None:
    settings = case.meta["cases"][name]
    (prior,) = parity_cases("reddiff", "prior")
    model = respaced(reddiff_prior(prior, "mixed"), settings["timestep_respacing"])
    A, x, wanted = OPERATORS[settings["operator"]](settings["op_kwargs"]), case[f"{name}/x_T"], case[f"{name}/xt_per_step"]
    y = case[f"{name}/y"]  # of images in [-1, 1], where our operators measure images in [0, 1]
    problem = Problem(model, A, (y + A(torch.ones_like(x))) / 2)
    torch.testing.assert_close(problem.measured, y, atol=1e-6, rtol=0)
    dps = DPS(
        steps=len(wanted),
        spacing="trailing",
        eta=ETA[settings["sampler"]],
        zeta=settings["scale"],
        clip=settings["clip_denoised"],
    )
    times = dps.times(model.schedule)
    assert torch.equal(times, trailing(model.schedule, model.schedule.T))
    stream = iter(case[f"{name}/step_noise"])

    def noise(like: Tensor) -> Tensor:
        return next(stream).to(like)

    with torch.no_grad():
        for (t, s), after in zip(pairwise(times), wanted, strict=True):
            x = dps.step(problem, x, t, s, noise)
            torch.testing.assert_close(x, after, atol=TOLERANCE, rtol=0)
