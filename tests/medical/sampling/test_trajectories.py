"""Trajectories: where the samples lie, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medical.sampling.trajectories import GOLDEN_MEANS, check_trajectory, kooshball, radial, spiral


def test_first_spoke_runs_along_the_columns():
    k = radial(3, 4)
    expected = torch.tensor([[0, -math.pi], [0, -math.pi / 2], [0, 0], [0, math.pi / 2]], dtype=torch.float64)
    torch.testing.assert_close(k[:4], expected)
    torch.testing.assert_close(k[8], -math.pi * torch.tensor([3**0.5 / 2, -0.5], dtype=torch.float64))


@pytest.mark.parametrize(("golden", "degrees"), [(False, 180 / 7), (True, 111.24611797)])
def test_angles_between_spokes(golden, degrees):
    k = radial(7, 6, golden=golden).view(7, 6, 2)
    angles = torch.atan2(k[:, -1, 0], k[:, -1, 1])
    steps = torch.rad2deg(angles.diff()) % 360
    torch.testing.assert_close(steps, torch.full((6,), degrees, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("samples", [6, 7])
def test_every_spoke_hits_the_centre_in_equal_steps(samples):
    for k in (radial(5, samples).view(5, samples, 2), kooshball(5, samples).view(5, samples, 3)):
        assert float(k[:, samples // 2].abs().max()) == 0
        steps = k.diff(dim=1).norm(dim=2)
        torch.testing.assert_close(steps, torch.full_like(steps, 2 * math.pi / samples))


def test_golden_means_solve_their_equation():
    growth = 1 + GOLDEN_MEANS[0]
    assert growth**3 == pytest.approx(growth**2 + 1, abs=1e-14)
    assert GOLDEN_MEANS[1] == pytest.approx(1 / growth, abs=1e-15)


def test_kooshball_covers_the_sphere_evenly():
    tip = kooshball(400, 3).view(400, 3, 3)[:, 2] / (2 * math.pi / 3)
    torch.testing.assert_close(tip.norm(dim=1), torch.ones(400, dtype=torch.float64))
    second_moment = tip.T @ tip / 400
    torch.testing.assert_close(second_moment, torch.eye(3, dtype=torch.float64) / 3, rtol=0, atol=0.01)


def test_archimedean_arms_are_equally_far_apart():
    k = spiral(4, 300, turns=3).view(4, 300, 2)
    radius = k.norm(dim=2)
    torch.testing.assert_close(radius[0], math.pi * torch.arange(300, dtype=torch.float64) / 300)
    # a turn is 100 samples: the same direction, a third of the radius further out
    torch.testing.assert_close(k[0, 150] / radius[0, 150], k[0, 250] / radius[0, 250])
    torch.testing.assert_close(k[1, 100], torch.tensor([math.pi / 3, 0.0], dtype=torch.float64))


def test_variable_density_spirals_dwell_at_the_centre():
    radius = spiral(2, 100, turns=5, density=2, radius=2.0).view(2, 100, 2).norm(dim=2)
    torch.testing.assert_close(radius[1], 2 * (torch.arange(100, dtype=torch.float64) / 100) ** 2)


@pytest.mark.parametrize("k", [radial(8, 16), radial(8, 17, golden=True), spiral(3, 50, turns=4), kooshball(9, 12)])
def test_all_lie_in_the_band(k):
    assert k.dtype == torch.float64
    assert float(k.abs().max()) <= math.pi
    assert check_trajectory(k) is not None


def test_arrays_and_single_precision_are_taken():
    k = radial(4, 8)
    assert torch.equal(check_trajectory(k.numpy(), 2), k)
    single = check_trajectory(k.numpy().astype(np.float32))  # in which pi is larger than pi
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, k, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (radial(4, 8) * 3, "2 pi / N"),
        (radial(4, 8) / 0, "finite"),
        (radial(4, 8).view(4, 8, 2), r"\(K, 2\) or \(K, 3\)"),
        (torch.zeros(0, 2), "K >= 1"),
        (torch.zeros(4, 2, dtype=torch.complex64), "floating point"),
    ],
)
def test_bad_trajectories(k, message):
    with pytest.raises(ValueError, match=message):
        check_trajectory(k)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: radial(0, 8), "spokes must be a positive integer"),
        (lambda: kooshball(3, 2.5), "samples must be a positive integer"),
        (lambda: spiral(3, 10, turns=0), "turns must be positive"),
        (lambda: spiral(3, 10, turns=2, density=-1), "density must be positive"),
        (lambda: spiral(3, 10, turns=2, radius=3.5), "at most pi"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
