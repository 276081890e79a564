"""Conjugate gradients, held against dense solves."""

from __future__ import annotations

import itertools

import pytest
import torch

from inverse.operators.noise import Gaussian
from medical.classical import CGLS, CGSense
from medical.operators.nufft import NUFFT
from medical.sampling import radial
from tests.medical.classical.problems import Dense, ct, mri, randn

DTYPES = [torch.float64, torch.complex128]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_equals_the_dense_solution(dtype, weight):
    matrix, y = randn(50, 30, dtype=dtype), randn(2, 50, seed=1, dtype=dtype)
    r = CGLS(weight=weight, iterations=100, tolerance=1e-12).reconstruct(Dense(matrix, (1, 5, 6)), y)
    normal = matrix.mH @ matrix + weight * torch.eye(30, dtype=dtype)
    expected = torch.linalg.solve(normal, matrix.mH @ y.mT).mT
    torch.testing.assert_close(r.estimate.flatten(1), expected, rtol=1e-9, atol=1e-9)
    assert r.converged
    assert r.iterations <= 36


def test_finds_the_least_squares_of_minimum_norm():
    matrix = randn(20, 30)
    y = randn(1, 20, seed=1)
    r = CGLS(iterations=60, tolerance=1e-13).reconstruct(Dense(matrix, (1, 5, 6)), y)
    torch.testing.assert_close(r.estimate.flatten(), torch.linalg.pinv(matrix) @ y[0], rtol=1e-9, atol=1e-9)


def test_a_start_leads_to_the_same_answer_and_a_perfect_one_to_no_iteration():
    matrix, x = randn(50, 30), randn(1, 1, 5, 6, seed=1)
    A = Dense(matrix, (1, 5, 6), Gaussian(0.1))
    r = CGLS(iterations=60, tolerance=1e-12, discrepancy=None).reconstruct(A, A(x), start=randn(1, 1, 5, 6, seed=2))
    torch.testing.assert_close(r.estimate, x, rtol=1e-9, atol=1e-9)
    r = CGLS().reconstruct(A, A(x), start=x)
    assert (r.iterations, r.converged) == (0, True)
    assert "start explains" in r.reason


def test_the_residual_never_rises_and_stops_at_the_noise():
    A, y, x = ct(views=24)
    r = CGLS().reconstruct(A, y)
    trace = r.trace.residual
    assert all(b < a for a, b in itertools.pairwise(trace))
    assert r.converged
    assert r.residual_ratio <= 1
    assert trace[-2] > 0.05 * y.numel() ** 0.5  # one iteration less would not have done
    least_squares = CGLS(discrepancy=None, iterations=200).reconstruct(A, y)
    assert (r.estimate - x).square().mean() < (least_squares.estimate - x).square().mean()


def test_sense_solves_the_normal_equations_with_its_weight():
    A, y, _ = mri()
    r = CGSense(tolerance=1e-6).reconstruct(A, y)
    weight = r.settings["weight"]
    assert weight > 0
    gap = A.adjoint(A(r.estimate)) + weight * r.estimate - A.adjoint(y)
    assert float(gap.norm() / A.adjoint(y).norm()) < 2e-6
    assert r.converged


def test_the_weight_of_sense_follows_the_noise():
    A, y, _ = mri(sigma=0.02)
    weights = [CGSense().reconstruct(A.with_noise(Gaussian(s)), y).settings["weight"] for s in (0.02, 0.04)]
    assert weights[1] / weights[0] == pytest.approx(4, rel=1e-5)
    A, y, _ = mri(sigma=0.0)
    weight = CGSense().reconstruct(A, y).settings["weight"]
    assert 1e-3 * 0.9 < weight < 1e-3 * 1.1  # of |A|^2, nearly 1 for normalised maps


def test_off_the_grid_through_the_short_cut():
    k = radial(24, 24)
    maps = randn(2, 12, 12, dtype=torch.complex128)
    A, x = NUFFT(k, (12, 12), maps=maps), randn(1, 1, 12, 12, seed=3, dtype=torch.complex128)
    r = CGLS(weight=1e-3, iterations=200, tolerance=1e-9).reconstruct(A, A(x))
    gap = A.adjoint(A(r.estimate)) + 1e-3 * r.estimate - A.adjoint(A(x))
    assert float(gap.norm() / A.adjoint(A(x)).norm()) < 1e-8
    assert r.trace.residual == ()
    expected = float((A(r.estimate) - A(x)).abs().square().sum() + 1e-3 * r.estimate.abs().square().sum()) / 2
    assert r.trace.objective[-1] == pytest.approx(expected, rel=1e-6)


def test_a_batch_gives_what_its_members_give():
    A, y, x = ct()
    y = torch.cat([y, A.measure(5 * x.mT, seed=2)])
    together, apart = CGLS().reconstruct(A, y), [CGLS().reconstruct(A, part[None]) for part in y]
    assert apart[0].iterations != apart[1].iterations
    torch.testing.assert_close(together.estimate, torch.cat([r.estimate for r in apart]), rtol=1e-5, atol=1e-5)


def test_settings_out_of_range_are_refused():
    for wrong in ({"weight": -1.0}, {"iterations": 0}, {"tolerance": -1.0}, {"discrepancy": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CGLS(**wrong)
