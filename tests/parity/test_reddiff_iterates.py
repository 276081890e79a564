"""RED-Diff, iterate by iterate, against the numbers of its repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse.samplers.optimizers import Adam
from inverse.samplers.problem import Problem
from inverse.samplers.reddiff import RedDiff
from prior.grids import leading
from prior.schedules import Linear
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.operators import operator
from tests.parity.pending import is_pending_operator
from tests.parity.priors import reddiff_prior

pytestmark = needs_parity("reddiff")

TOLERANCE = 5e-4  # Adam divides tiny gradients by their size: the convolution backend alone moves mu by 6e-5

ROUNDING = ("jpeg", "quant")
"""Operators whose official derivative is zero, so that their data term is dead; ours pass the gradient straight through."""


def runs() -> list[tuple[Case, str]]:
    return [(case, name) for case in parity_cases("reddiff", "reddiff_iterates") for name in case.meta["cases"]]


def sampler(settings: dict[str, Any]) -> RedDiff:
    return dataclasses.replace(
        RedDiff.paper(steps=settings["num_steps"], prior_weight=settings["grad_term_weight"]),
        data_weight=0.0 if settings["deg"].startswith(ROUNDING) else settings["obs_weight"],
        weighting=settings["denoise_term_weight"],
        sigma_x0=settings["sigma_x0"],
        # the official loss is a mean over the batch as well, which only Adam's eps can notice
        optimizer=Adam(lr=settings["lr"], eps=1e-8 * settings["batch"]),
    )


def stored_noise(case: Case, name: str, member: int, steps: int) -> Callable[[Tensor], Tensor]:
    """z0 (zero where it is not stored, since it is multiplied by zero) and z of every step."""

    def draws() -> Iterator[Tensor]:
        for k in range(steps):
            z = case[f"{name}/noise_xt/{k}"]
            yield case[f"{name}/noise_x0/{k}"] if f"{name}/noise_x0/{k}" in case else torch.zeros_like(z)
            yield z

    stream = draws()
    return lambda like: next(stream)[member : member + 1].to(like)


@pytest.mark.parametrize(("case", "name"), runs(), ids=lambda v: str(v))
def test_iterates(case: Case, name: str) -> None:
    settings = case.meta["cases"][name]
    if settings["algo"] != "REDDIFF" or is_pending_operator(settings["deg"]):
        pytest.skip(f"pending: {settings['algo']} with the operator {settings['deg']}")
    (prior,) = parity_cases("reddiff", "prior")
    model = reddiff_prior(prior, settings["prior"])
    red, wanted = sampler(settings), case[f"{name}/mu_per_step"]
    start, end = settings.get("start_step", model.schedule.T), settings.get("end_step", 0)
    times = [t + end for t in leading(Linear(T=start - end), settings["num_steps"])[:-1].tolist()]
    assert times == settings["timesteps_visited"]
    for member in range(settings["batch"]):
        A, pick = operator(case, settings["deg"], member), slice(member, member + 1)
        mu, y = case[f"{name}/init_mu"][pick], case[f"{name}/y_0"][pick]
        if torch.equal(mu, case[f"{name}/returned_mu"][pick]):
            # where pinv is the identity the official run starts from y itself and overwrites both: what is stored as the
            # start is the end, and the start is the noiseless measurement
            mu = y = 2 * A((case["x"][pick] + 1) / 2) - 1
        y = y.view(1, *A.output_shape(tuple(mu.shape[1:])))
        if A.linear:
            model.data_range = (0.0, 1.0)  # the official operator acts on images in [-1, 1]: nothing to convert
        else:
            y = (y + 1) / 2
        data = red.likelihood(Problem(model, A, y))
        noise, state = stored_noise(case, name, member, len(times)), red.optimizer.init(mu)
        for k, t in enumerate(times):
            if k == len(times) - 1:
                x = mu + settings["sigma_x0"] * case[f"{name}/noise_x0/{k}"][pick] if settings["sigma_x0"] else mu
                torch.testing.assert_close(x, case[f"{name}/returned_x0_pred"][pick], atol=TOLERANCE, rtol=0)
            mu, state = red.step(model, data, mu, t, noise, state)
            torch.testing.assert_close(mu, wanted[k, pick], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(mu, case[f"{name}/returned_mu"][pick], atol=TOLERANCE, rtol=0)
