"""Total variation and its proximal map, held against dense matrices and the dual problem."""

from __future__ import annotations

import math

import pytest
import torch

from medical.classical import total_variation, tv_denoise
from medical.classical.differences import divergence, gradient, gradient_bound, scales
from tests.medical.classical.problems import differences, least_tv_objective, randn, tv

CASES = [((5, 6), None), ((5, 6), (1.0, 2.5)), ((3, 4, 5), None), ((3, 4, 5), (3.0, 1.0, 1.5))]

every_case = pytest.mark.parametrize(("sides", "spacing"), CASES, ids=str)


@every_case
def test_differences_equal_the_dense_matrix_and_the_adjoint_its_transpose(sides, spacing):
    D, scale = differences(sides, spacing), scales(spacing, len(sides))
    x, g = randn(1, 1, *sides), randn(len(sides), 1, 1, *sides, seed=1)
    torch.testing.assert_close(gradient(x, scale).flatten(1), D @ x.flatten())
    torch.testing.assert_close(divergence(g, scale).flatten(), torch.einsum("dij,di->j", D, g.flatten(1)))
    assert torch.linalg.matrix_norm(D.flatten(0, 1), 2) ** 2 <= gradient_bound(scale)


@every_case
def test_total_variation_equals_the_sum(sides, spacing):
    D, x = differences(sides, spacing), randn(2, 1, *sides, dtype=torch.complex128)
    expected = [tv(x[0].flatten(), D), tv(x[1].flatten(), D)]
    assert total_variation(x, spacing).tolist() == pytest.approx(expected)


def test_total_variation_of_a_square_is_its_perimeter_but_for_one_corner():
    x = torch.zeros(1, 1, 12, 12)
    x[..., 3:8, 2:9] = 2
    corner = 2 - math.sqrt(2)  # where both differences fall on one pixel
    assert float(total_variation(x)) == pytest.approx(2 * (2 * (5 + 7) - corner))


@every_case
def test_denoising_reaches_the_dual_bound(sides, spacing):
    D, x = differences(sides, spacing), randn(1, 1, *sides)
    u = tv_denoise(x, 0.3, spacing=spacing, iterations=2000, tolerance=1e-12)
    value = float((u - x).square().sum()) / 2 + 0.3 * tv(u.flatten(), D)
    bound = least_tv_objective(torch.eye(x.numel(), dtype=torch.float64), x.flatten(), 0.3, D)
    assert bound <= value * (1 + 1e-12)
    assert value <= bound * (1 + 1e-6)


def test_denoising_within_bounds_reaches_the_dual_bound():
    x, D = randn(1, 1, 6, 7), differences((6, 7))
    u = tv_denoise(x, 0.2, bounds=(0.0, 0.8), iterations=2000, tolerance=0)
    assert float(u.min()) >= 0
    assert float(u.max()) <= 0.8
    value = float((u - x).square().sum()) / 2 + 0.2 * tv(u.flatten(), D)
    q = r = torch.zeros(2, 42, dtype=torch.float64)  # projected gradient on the dual, with dense matrices
    for k in range(2000):
        v = (x.flatten() - torch.einsum("dij,di->j", D, r)).clamp(0, 0.8)
        p = r + (D @ v) / 8
        p = p * (0.2 / p.square().sum(0).sqrt().clamp(min=1e-300)).clamp(max=1)
        q, r = p, p + k / (k + 3) * (p - q)
    v = (x.flatten() - torch.einsum("dij,di->j", D, q)).clamp(0, 0.8)
    bound = float((v - x.flatten()).square().sum() / 2 + (q * (D @ v)).sum())
    assert bound - 1e-12 <= value <= bound * (1 + 1e-6)


def test_denoising_treats_a_complex_image_as_two_coupled_ones_and_turns_with_its_phase():
    x = randn(1, 2, 6, 7, dtype=torch.complex128)
    phase = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.polar(torch.ones_like(phase), phase)
    torch.testing.assert_close(tv_denoise(turn * x, 0.3), turn * tv_denoise(x, 0.3), rtol=1e-6, atol=1e-6)
    pair = tv_denoise(torch.view_as_real(x).movedim(-1, 2).flatten(1, 2), 0.3)
    torch.testing.assert_close(torch.view_as_real(tv_denoise(x, 0.3)).movedim(-1, 2).flatten(1, 2), pair)


def test_denoising_keeps_the_image_without_weight_and_its_mean_with_a_large_one():
    x = randn(2, 1, 6, 7)
    torch.testing.assert_close(tv_denoise(x, 0.0), x)
    flat = tv_denoise(x, 50.0, iterations=2000, tolerance=0)
    torch.testing.assert_close(flat, x.mean((1, 2, 3), keepdim=True).expand_as(x), rtol=0, atol=1e-6)


def test_what_is_refused():
    x = randn(1, 1, 6, 7)
    with pytest.raises(ValueError, match="weight must be finite"):
        tv_denoise(x, -1.0)
    with pytest.raises(ValueError, match="low < high"):
        tv_denoise(x, 1.0, bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match="x is complex"):
        tv_denoise(x.to(torch.complex128), 1.0, bounds=(0.0, 1.0))
    with pytest.raises(ValueError, match="2 positive lengths"):
        total_variation(x, spacing=(1.0, 1.0, 1.0))
