"""Time grids: closed forms, order, ends, counts."""

import math

import pytest
import torch

from prior.grids import SPACINGS, grid, karras, leading, log_snr, natural, quadratic, trailing, uniform
from prior.schedules import EDM, VE, VP, Cosine, Linear, MeanReverting, RectifiedFlow, SubVP

SCHEDULES = [Linear(), Cosine(), Linear().respace("100"), VE(), EDM(), RectifiedFlow()]
CASES = [
    (schedule, spacing)
    for schedule in SCHEDULES
    for spacing in SPACINGS
    if hasattr(schedule, "T") or spacing not in ("leading", "trailing")
]


def name(value):
    return value if isinstance(value, str) else type(value).__name__


every = pytest.mark.parametrize(("schedule", "spacing"), CASES, ids=name)


def close(a, b, tol=1e-9):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), rtol=tol, atol=tol)


@every
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_decreases_from_noisy_to_clean(schedule, spacing, steps):
    times = grid(schedule, steps, spacing)
    assert times.dtype == torch.float64
    assert len(times) == steps + 1
    assert bool((times.diff() < 0).all())
    assert float(times[-1]) == schedule.clean
    assert float(times[0]) <= schedule.t_max + 1e-9


@pytest.mark.parametrize(("schedule", "spacing"), [case for case in CASES if case[1] != "leading"], ids=name)
def test_spacings_span_the_range(schedule, spacing):
    times = grid(schedule, 10, spacing)
    flow_ends_early = isinstance(schedule, RectifiedFlow) and spacing in ("karras", "log_snr")
    start = schedule.t_max - schedule.t_min if flow_ends_early else schedule.t_max
    close(times[0], start, 1e-6)
    if spacing != "trailing":
        close(times[-2], schedule.t_min, 1e-6)


def test_uniform():
    close(uniform(Linear(T=101), 5), [100, 75, 50, 25, 0, -1])
    close(uniform(RectifiedFlow(), 2), [1.0, 1e-3, 0.0])


def test_quadratic():
    close(quadratic(Linear(T=101), 5), [100, 56.25, 25, 6.25, 0, -1])
    close(quadratic(VP(t_min=0.01), 4), [1.0, 0.49, 0.16, 0.01, 0.0])


def test_karras():
    schedule, steps = EDM(), 18
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    close(karras(schedule, steps), [*[(high + i / 17 * (low - high)) ** 7 for i in range(18)], 0.0])
    close(karras(schedule, 3, rho=1.0), [80.0, 40.001, 0.002, 0.0])


def test_karras_in_noise_levels_of_any_schedule():
    schedule = Linear()
    levels = schedule.level(karras(schedule, 9)[:-1]) ** (1 / 7)
    close(levels.diff(), levels.diff().mean().expand(8), 1e-7)


def test_log_snr():
    close(log_snr(EDM(sigma_min=0.01, sigma_max=100.0), 5), [100, 10, 1, 0.1, 0.01, 0])
    flow = log_snr(RectifiedFlow(), 3)
    close(flow, [0.999, 0.5, 1e-3, 0.0])


@pytest.mark.parametrize(
    ("steps", "count", "second"), [(100, 100, 980), (1000, 1000, 998), (600, 1000, 998), (300, 334, 996), (7, 8, 852)]
)
def test_leading_counts_as_reddiff(steps, count, second):
    times = leading(Linear(), steps)
    skip = 1000 // steps
    assert len(times) == count + 1
    assert times[:-1].tolist() == list(range(0, 1000, skip))[::-1]
    assert (times[1].item(), times[-2].item(), times[-1].item()) == (second, 0, -1)


def test_trailing():
    close(trailing(Linear(), 4), [999, 749, 499, 249, -1])
    close(trailing(Linear(), 3), [999, 666, 332, -1])
    assert trailing(Linear(), 1000).tolist() == list(range(999, -2, -1))


def test_one_step_starts_from_noise():
    for spacing in ("uniform", "quadratic", "karras", "log_snr", "trailing"):
        close(grid(Linear(), 1, spacing), [999, -1], 1e-6)


def test_natural_spacings():
    wanted = {Linear(): "trailing", Linear().respace(50): "trailing", VP(): "quadratic", SubVP(): "quadratic"}
    wanted |= dict.fromkeys([VE(), EDM(), RectifiedFlow(), MeanReverting()], "karras")
    assert {schedule: natural(schedule) for schedule in wanted} == wanted
    assert torch.equal(grid(VP(), 7), quadratic(VP(), 7))


def test_ve_ends_at_minus_infinity():
    assert grid(VE(), 3, "karras")[-1].item() == -math.inf


def test_unknown_spacing():
    with pytest.raises(ValueError, match=r"spacing must be one of uniform, quadratic, .*trailing, got 'cosine'"):
        grid(Linear(), 10, "cosine")


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps(steps):
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        grid(Linear(), steps, "uniform")


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_discrete_spacings_need_discrete_steps(spacing):
    with pytest.raises(TypeError, match=rf"the {spacing} grid needs a schedule with discrete steps, got EDM\(.*use uniform"):
        grid(EDM(), 10, spacing)
    with pytest.raises(ValueError, match="steps must be at most T = 1000, got 1001"):
        grid(Linear(), 1001, spacing)
