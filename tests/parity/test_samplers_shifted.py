"""Shifted processes on the exact mixture: IR-SDE and MRS, interpolants, FlowChef, Brownian bridges."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from inverse.operators import Downsample
from inverse.samplers.flowchef import FlowChef
from inverse.samplers.problem import Problem
from prior.bridges import BridgeSampler, BrownianBridge
from prior.denoiser import Denoiser
from prior.interpolants import Flow, OneSided
from prior.samplers import IRSDE, MRS, Sampler
from prior.samplers.mean_reverting import reverse_mean
from prior.schedules import EDM, MeanReverting, RectifiedFlow
from prior.transition import Transition
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.mixtures import mixture, settings
from tests.prior.flow import probability_flow
from tests.prior.shifted import exact_bridge, shifted_denoiser

pytestmark = needs_parity("samplers")

TOLERANCE, TRUTH = 1e-10, 1e-9
MRS_RUN = re.compile(r"(?P<name>\w+)\.mrs\.(?P<grid>\d+\.[\w-]+)\.(?P<mode>ode|sde)\.(?P<prediction>data|noise)\.(?P<order>\d)")


def close(got: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=0)


def schedule(name: str, *, offset: bool) -> MeanReverting:
    max_sigma, T, theta, eps = settings()["config"]["irsde"][name]
    return MeanReverting(T=T, theta=theta, max_sigma=max_sigma, eps=eps, offset=offset)


def model(case: Case, name: str, *, offset: bool) -> Denoiser:
    return shifted_denoiser(mixture(), schedule(name, offset=offset), case["mu"])


def states(sampler: Sampler, model: Denoiser, y: Tensor, times: Tensor, noise: Tensor | None = None) -> Tensor:
    """Every state of a walk, the start first."""
    step, walked = sampler.begin(model.schedule, times), [y]
    for i, (t, s) in enumerate(pairwise(times)):
        walked.append(step(model, walked[-1], t, s, None if noise is None else noise[i], None))
    return torch.stack(walked)


def named(kind: str) -> list[tuple[Case, str]]:
    return [(case, name) for case in parity_cases("samplers", kind) for name in settings()["config"]["irsde"]]


def mrs_runs() -> list[tuple[Case, str]]:
    endings = (".exact_lambda", ".official_out")
    cases = parity_cases("samplers", "mean_reverting")
    return [(case, key.removesuffix(e)) for case in cases for key in case.tensors for e in endings if key.endswith(e)]


# --- mean reverting


@pytest.mark.parametrize(("case", "name"), named("mean_reverting"), ids=str)
def test_schedule(case: Case, name: str) -> None:
    close(schedule(name, offset=True).thetas, case[f"{name}.thetas"])
    for convention, offset in (("irsde", True), ("mrs", False)):
        made = schedule(name, offset=offset)
        whole = torch.arange(made.T + 1)
        close(made.alpha(whole), case[f"{name}.{convention}.alpha"])
        close(made.sigma(whole), case[f"{name}.{convention}.sigma"])
        assert made.dt == pytest.approx(float(case[f"{name}.{convention}.dt"]), abs=TOLERANCE)


@pytest.mark.parametrize(("case", "name"), named("mean_reverting"), ids=str)
@pytest.mark.parametrize("mode", ["posterior", "sde", "ode"])
def test_irsde(case: Case, name: str, mode: str) -> None:
    exact, mu, stored = model(case, name, offset=True), case["mu"], f"{name}.{mode}.noise"
    sampler = IRSDE(steps=exact.schedule.T, mode=mode)
    noise = iter(case[stored]) if stored in case else None
    draw = None if noise is None else lambda like: next(noise)
    got = mu + sampler.walk(exact, case[f"{name}.x_T"] - mu, sampler.times(exact.schedule), noise=draw)
    close(got, case[f"{name}.{mode}.out"])


@pytest.mark.parametrize(("case", "name"), named("mean_reverting"), ids=str)
def test_training_targets(case: Case, name: str) -> None:
    made, mu = schedule(name, offset=True), case["mu"]
    x0, eps, t, xt = (case[f"{name}.train.{key}"] for key in ("x0", "eps", "t", "xt"))
    exact = model(case, name, offset=True)
    y = exact.noised(x0 - mu, eps, t)
    close(mu + y, xt)
    close(mu + Transition.between(made, t, t - 1, y).mean(x0 - mu, y), case[f"{name}.train.x_prev_optimum"])
    (key,) = case.under(f"{name}.train.x_prev_model_if_eps_")
    scale, add = map(float, re.fullmatch(r"([\d.]+)eps\+([\d.]+)", key).groups())
    got = mu + reverse_mean(made, y, scale * eps + add, t, t - 1)
    close(got, case[f"{name}.train.x_prev_model_if_eps_{key}"])
    steps = torch.arange(1, made.T + 1)
    std = Transition.between(made, steps, steps - 1, torch.zeros(made.T, 1, dtype=torch.float64)).variance.sqrt().flatten()
    close(std, case[f"{name}.train.posterior_std"])


@pytest.mark.parametrize(("case", "run"), sorted(set(mrs_runs()), key=lambda pair: pair[1]), ids=str)
def test_mrs(case: Case, run: str) -> None:
    match = MRS_RUN.fullmatch(run)
    name, grid = match["name"], f"{match['name']}.mrs.{match['grid']}"
    exact, mu, times = model(case, name, offset=False), case["mu"], case[f"{grid}.t"]
    close(exact.schedule.alpha(times), case[f"{grid}.alpha"])
    close(exact.schedule.sigma(times), case[f"{grid}.sigma"])
    order, noise = int(match["order"]), case.tensors.get(f"{run}.noise")
    sampler = MRS(order=order, mode=match["mode"], prediction=match["prediction"])
    y = case[f"{name}.x_T"] - mu
    close(mu + states(sampler, exact, y, times, noise), case[f"{run}.exact_lambda"])
    official = MRS(order=order, mode=match["mode"], prediction=match["prediction"], official=True)
    got, wanted = mu + states(official, exact, y, times, noise)[-1], case[f"{run}.official_out"]
    if torch.equal(times, times.round()):
        close(got, wanted)
    else:  # the reference's own interpolated run differs from the official code as well, by as much as this
        known = settings()["agreement_own_vs_official_maxabs"][run]
        assert float((got - wanted).abs().max()) == pytest.approx(known, abs=TOLERANCE)


@pytest.mark.parametrize(("case", "name"), named("mean_reverting_truth"), ids=str)
def test_truth(case: Case, name: str) -> None:
    """The probability flow of the shifted mixture is the stored solution, and MRS misses it by as much as measured."""
    (source,) = parity_cases("samplers", "mean_reverting")
    exact, mu, wanted = model(source, name, offset=False), source["mu"], case[f"{name}.truth_t0"]
    y = source[f"{name}.x_T"] - mu
    made = exact.schedule
    low, high = (float(made.level(t)) for t in (0, made.T))
    unscaled = shifted_denoiser(mixture(), EDM(), mu)  # y / alpha at the noise level sigma / alpha
    close(mu + made.alpha(0) * probability_flow(unscaled, y / made.alpha(made.T), high, low), wanted, TRUTH)
    for run, known in settings()["mean_reverting_error_vs_truth"].items():
        match = re.fullmatch(rf"{name}\.ode\.(data|noise)\.(\d)\.linear_lambda", run)
        if match is None:
            continue
        errors = []
        for N in known["N"]:
            levels = torch.logspace(math.log10(high), math.log10(low), N + 1, dtype=torch.float64)
            times = made.time(levels)
            got = mu + MRS(prediction=match[1], order=int(match[2])).walk(exact, y, times)
            errors.append(float((got - wanted).square().mean().sqrt()))
        assert errors == pytest.approx(known["rms"], rel=1e-6)


# --- flows

flows = pytest.mark.parametrize("case", parity_cases("samplers", "flows"), ids=str)


@flows
def test_interpolant(case: Case) -> None:
    config, x, times = settings()["config"], case["z"], case["si.t"]
    close(times, torch.linspace(0, config["si_t1"], config["si_n"] + 1, dtype=torch.float64))
    fields = OneSided().fields(mixture().denoiser(RectifiedFlow()))
    for method in ("euler", "heun"):
        flow, walked = Flow(method=method), [x]
        for t, s in pairwise(times.tolist()):
            walked.append(flow.step(fields, walked[-1], t, s))
        close(torch.stack(walked), case[f"si.{method}"])
        known = settings()["error_vs_truth_rms"][f"si.{method}"]
        assert float((walked[-1] - case["si.truth"]).square().mean().sqrt()) == pytest.approx(known, rel=1e-6)
    close(probability_flow(mixture().denoiser(RectifiedFlow()), x, 1 - 1e-12, 1 - config["si_t1"]), case["si.truth"], TRUTH)


@flows
def test_stochastic_interpolant(case: Case) -> None:
    flow, walked = Flow(method="euler", epsilon=settings()["config"]["si_eps"]), [case["z"]]
    fields = OneSided().fields(mixture().denoiser(RectifiedFlow()))
    for (t, s), z in zip(pairwise(case["si.t"].tolist()), case["si.sde.noise"], strict=True):
        walked.append(flow.step(fields, walked[-1], t, s, z))
    close(torch.stack(walked), case["si.sde"])


@flows
def test_flowchef(case: Case) -> None:
    config, y = settings()["config"], case["flowchef.y"]
    model = mixture().denoiser(RectifiedFlow())
    A = Downsample.area(case["z"].shape[-1] // y.shape[-1])
    problem = Problem(model, A, y)
    # the reference takes the mean over the whole batch
    sampler = FlowChef(steps=config["fc_n"], step_size=2 * config["fc_scale"] / y.numel())
    times = sampler.times(model.schedule)
    walked = [sampler.start(problem, times[0], lambda like: case["z"])]
    for t, s in pairwise(times):
        walked.append(sampler.step(problem, walked[-1], t, s, torch.zeros_like))
    close(torch.stack(walked), case["flowchef.traj"])
    residual = float((A(walked[-1]) - y).square().mean().sqrt())
    assert residual == pytest.approx(settings()["flowchef_residual_rms"], rel=1e-6)


@flows
@pytest.mark.parametrize("path", ["linear", "sin"])
def test_bridge_tables(case: Case, path: str) -> None:
    bridge = BrownianBridge(T=len(case[f"bb.{path}.m"]), path=path, max_var=settings()["config"]["bb_maxvar"])
    close(bridge.m, case[f"bb.{path}.m"])
    close(bridge.variance, case[f"bb.{path}.var"])
    close(bridge.conditional_variance, case[f"bb.{path}.var_cond"])
    close(bridge.posterior_variance, case[f"bb.{path}.var_post"])


@flows
def test_bridge(case: Case) -> None:
    config, y = settings()["config"], case["bb.y"]
    bridge = BrownianBridge(T=len(case["bb.linear.m"]), max_var=config["bb_maxvar"])
    times = case["bb.steps"].tolist()
    assert bridge.steps(config["bb_steps"]) == times
    model, sampler = exact_bridge(mixture(), bridge), BridgeSampler(steps=config["bb_steps"], eta=config["bb_eta"])
    walked = [y]
    for (t, q), z in zip(pairwise(times), case["bb.noise"], strict=True):
        walked.append(sampler.step(model, walked[-1], y, t, q, z))
    walked.append(model(walked[-1], times[-1], y))
    close(torch.stack(walked), case["bb.traj"])
    noise = iter(case["bb.noise"])
    close(sampler.walk(model, y, lambda like: next(noise)), case["bb.traj"][-1])
