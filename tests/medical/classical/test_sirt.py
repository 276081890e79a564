"""SIRT and ordered subsets, held against the weighted least squares they go to."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from medical.classical import OSSART, SIRT
from medical.classical.sirt import _golden_order
from tests.medical.classical.problems import Dense, ct, mri, randn


def weighted_least_squares(matrix, y):
    R = torch.diag(1 / matrix.sum(1))
    return torch.linalg.solve(matrix.mT @ R @ matrix, matrix.mT @ R @ y)


def test_goes_to_the_weighted_least_squares():
    matrix, y = randn(40, 12).abs() * torch.linspace(0.5, 4, 40)[:, None], randn(40, seed=1)
    A = Dense(matrix, (1, 3, 4))
    r = SIRT(iterations=20000, tolerance=1e-10, relaxation=1.9).reconstruct(A, y[None])
    torch.testing.assert_close(r.estimate.flatten(), weighted_least_squares(matrix, y), rtol=1e-5, atol=1e-6)
    assert r.converged
    objective = r.trace.objective
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(objective))


def test_the_first_step_is_the_formula():
    A, y, _ = ct()
    r = SIRT(iterations=1, relaxation=0.7).reconstruct(A, y)
    rows, columns = A(torch.ones(1, 1, 16, 16)), A.adjoint(torch.ones_like(y))
    expected = 0.7 / columns * A.adjoint(torch.where(rows > 1e-4, y / rows.clamp(min=1e-4), 0))
    torch.testing.assert_close(r.estimate, expected, rtol=1e-5, atol=1e-6)


def test_stops_at_the_noise_and_keeps_within_the_bounds():
    A, y, x = ct(views=24)
    r = SIRT(bounds=(0.0, math.inf), iterations=1000).reconstruct(A, y)
    assert r.converged
    assert "times the noise" in r.reason
    assert 0.98 < r.residual_ratio <= 1
    assert float(r.estimate.min()) >= 0
    assert float(SIRT().reconstruct(A, y).estimate.min()) < 0
    assert float((r.estimate - x).square().mean()) < 0.02


def test_rays_past_the_object_and_pixels_no_ray_meets_do_no_harm():
    matrix = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    A = Dense(matrix, (1, 1, 3))
    y = torch.tensor([[3.0, 5.0, 1.0]], dtype=torch.float64)
    x = SIRT(iterations=2000, tolerance=1e-12).reconstruct(A, y).estimate
    torch.testing.assert_close(x.flatten(), torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)


def test_one_subset_is_sirt():
    A, y, _ = ct()
    one = OSSART(subsets=1, iterations=5, discrepancy=None).reconstruct(A, y)
    all_views = SIRT(iterations=5, discrepancy=None).reconstruct(A, y)
    torch.testing.assert_close(one.estimate, all_views.estimate)


@pytest.mark.parametrize("subsets", [4, 5, 24])
def test_subsets_solve_exact_data_in_a_fraction_of_the_iterations(subsets):
    A, y, x = ct(views=24, sigma=0.0)
    subset, plain = OSSART(subsets=subsets, iterations=10).reconstruct(A, y), SIRT(iterations=10).reconstruct(A, y)
    assert float((subset.estimate - x).norm()) < 0.7 * float((plain.estimate - x).norm())
    assert float(subset.residual.norm()) < 0.5 * float(plain.residual.norm())


def test_subsets_follow_one_another_at_a_distance():
    assert sorted(_golden_order(10)) == list(range(10))
    order = _golden_order(10)
    assert min(min((a - b) % 10, (b - a) % 10) for a, b in itertools.pairwise(order)) >= 3


def test_subsets_stop_at_the_noise():
    A, y, _ = ct(views=24)
    r = OSSART(subsets=4, iterations=100, bounds=(0.0, 2.0)).reconstruct(A, y)
    assert r.converged
    assert r.residual_ratio <= 1
    assert float(r.estimate.min()) >= 0


@pytest.mark.parametrize("method", [SIRT(), OSSART(subsets=3, iterations=80)], ids=["sirt", "os-sart"])
def test_a_batch_gives_what_its_members_give(method):
    A, y, x = ct()
    y = torch.cat([y, A.measure(4 * x.mT, seed=2)])
    together, apart = method.reconstruct(A, y), [method.reconstruct(A, part[None]) for part in y]
    assert apart[0].iterations != apart[1].iterations
    torch.testing.assert_close(together.estimate, torch.cat([r.estimate for r in apart]), rtol=1e-5, atol=1e-5)


def test_what_is_refused():
    A, y, _ = mri()
    with pytest.raises(TypeError, match="complex; use CGLS"):
        SIRT().reconstruct(A, y)
    matrix = -torch.ones(4, 6)
    with pytest.raises(ValueError, match="negative"):
        SIRT().reconstruct(Dense(matrix, (1, 2, 3)), torch.ones(1, 4))
    with pytest.raises(TypeError, match="subset"):
        OSSART(subsets=2).reconstruct(Dense(-matrix, (1, 2, 3)), torch.ones(1, 4))
    A, y, _ = ct()
    with pytest.raises(ValueError, match="number of views, 12"):
        OSSART(subsets=13).reconstruct(A, y)
    with pytest.raises(ValueError, match="relaxation"):
        SIRT(relaxation=2.0)
    with pytest.raises(ValueError, match="subsets"):
        OSSART(subsets=0)
