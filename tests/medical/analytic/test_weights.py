"""Redundancy: what is measured twice counts once, and the angles of a turn add up to it."""

import math

import pytest
import torch

from medical.analytic.weights import angular_weights, half_fan, helix_window, is_open, parker, short_arc
from medical.geometry import uniform


@pytest.mark.parametrize("excess", [0.0, 0.4])
def test_conjugate_rays_of_a_short_scan_sum_to_one(excess):
    fan = 0.35
    span = math.pi + 2 * fan + excess
    gamma = torch.linspace(-fan, fan, 29, dtype=torch.float64)
    beta = torch.linspace(0, span, 301, dtype=torch.float64)[1:-1]
    weights = parker(beta, gamma, span)
    for k, g in enumerate(gamma):
        for turns in (-1, 1):
            conjugate = beta + turns * math.pi - 2 * g
            measured = (conjugate > 0) & (conjugate < span)
            other = parker(conjugate[measured], -g[None], span)[:, 0]
            torch.testing.assert_close(weights[measured, k] + other, torch.ones_like(other), rtol=0, atol=1e-12)
    alone = ((beta[:, None] + math.pi - 2 * gamma) >= span) & ((beta[:, None] - math.pi - 2 * gamma) <= 0)
    assert alone.any()
    assert (weights[alone] == 1).all()


def test_parker_starts_and_ends_at_zero():
    gamma = torch.tensor([-0.2, 0.0, 0.2], dtype=torch.float64)
    span = math.pi + 0.6
    assert parker(torch.tensor([0.0, span], dtype=torch.float64), gamma, span).abs().max() < 1e-15


@pytest.mark.parametrize("reach", [(4.0, 9.0), (9.0, 4.0), (8.5, 9.0), (7.0, 7.0)])
def test_half_fan_sums_to_two(reach):
    u = torch.linspace(-9, 9, 181, dtype=torch.float64)
    measured = (u > -reach[0]) & (u < reach[1])
    weights = half_fan(u, reach) * measured
    both = weights + weights.flip(0)
    torch.testing.assert_close(both[both > 0], torch.full_like(both[both > 0], 2.0))
    assert weights.diff()[measured[1:] & measured[:-1]].abs().max() < 0.5


def test_a_small_offset_leaves_most_rays_alone():
    weights = half_fan(torch.linspace(-9, 9, 181, dtype=torch.float64), (8.5, 9.5))
    assert (weights == 1).sum() > 140


def test_angular_weights_of_equal_steps():
    for period in (math.pi, 2 * math.pi):
        weights = angular_weights(uniform(12, 0.3, 0.3 + period), period)
        torch.testing.assert_close(weights, torch.full_like(weights, period / 12))


def test_angular_weights_sum_to_the_period():
    angles = (torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20).tolist()
    assert angular_weights(angles, math.pi).sum() == pytest.approx(math.pi, abs=1e-12)
    assert angular_weights([0.0, 1.0, math.pi], math.pi).tolist() == pytest.approx([math.pi / 4, math.pi / 2, math.pi / 4])


def test_views_taken_twice_count_half():
    weights = angular_weights(uniform(40, 0.1, 0.1 + 4 * math.pi), math.pi)
    assert weights.tolist() == pytest.approx([math.pi / 40] * 40)


def test_limited_scans_are_not_made_up_for():
    angles = uniform(60, 2.5, 4.5)
    assert is_open(angles, math.pi)
    assert not is_open(uniform(9), math.pi)
    assert not is_open([k * 1.9416 for k in range(37)], math.pi)
    assert angular_weights(angles, math.pi, limited=True).tolist() == pytest.approx([2 / 60] * 60)


def test_short_arc_across_zero():
    beta, span = short_arc([(6 + 0.1 * k) % (2 * math.pi) for k in range(40)])
    assert span == pytest.approx(4.0)
    assert beta.tolist() == pytest.approx([0.05 + 0.1 * k for k in range(40)])


@pytest.mark.parametrize("overlap", [0.2, 0.5, 1.0])
def test_turns_of_a_helix_sum_to_one(overlap):
    heights = 3.0 * torch.arange(-8, 9, dtype=torch.float64) + 0.4
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    total = helix_window(z, heights, -3.0, overlap=overlap).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))
