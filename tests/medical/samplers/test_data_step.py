"""ADMM-TV with matrices, and what holds after each of its steps."""

from dataclasses import replace

import pytest
import torch

from medical.samplers import Run
from medical.samplers.coupling import Coupling, shrink
from medical.samplers.data_step import DataStep, Position, volume_cg
from medical.samplers.stack import Stack
from tests.medical.classical.problems import Dense, randn
from tests.medical.samplers.problems import slices, volumes


def dense(stack):
    """The normal operator of the whole stack as a matrix."""
    size = torch.tensor(stack.shape).prod()
    basis = torch.eye(int(size), dtype=torch.float64).view(-1, *stack.shape)
    return torch.stack([stack.normal(e).flatten() for e in basis], 1)


def differences(coupling, shape):
    size = int(torch.tensor(shape).prod())
    basis = torch.eye(size, dtype=torch.float64).view(-1, *shape)
    return torch.stack([coupling(e).flatten() for e in basis], 1)


@pytest.mark.parametrize("make", [slices, volumes])
@pytest.mark.parametrize("coupling", [Coupling(), Coupling(axes="zyx"), Coupling(periodic=True)], ids=str)
def test_admm_with_matrices(make, coupling):
    """With conjugate gradients to the end, every iterate is that of ADMM with exact solves."""
    A, y, _ = make()
    stack = Stack.checked(A, y, Run(chunk=3))
    x = randn(*stack.shape, seed=8)
    weight, rho, anchor = 0.3, 0.7, 0.2
    at = Position.at(x, coupling)
    got = DataStep(stack=stack, coupling=coupling, weight=weight, rho=rho, iterations=4, inner=80)(x, at, anchor=anchor)
    D = differences(coupling, stack.shape)
    M = dense(stack) + rho * D.mT @ D + anchor * torch.eye(D.shape[1], dtype=torch.float64)
    v = w = torch.zeros(len(D), dtype=torch.float64)
    for _ in range(4):
        u = torch.linalg.solve(M, stack.back_projected.flatten() + rho * D.mT @ (v - w) + anchor * x.flatten())
        v = shrink(D @ u + w, weight / rho)
        w = w + D @ u - v
    torch.testing.assert_close(got.flatten(), u, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(at.v.flatten(), v, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(at.w.flatten(), w, rtol=1e-8, atol=1e-8)


def test_duals_stay_within_their_bound():
    A, y, _ = slices()
    stack, coupling = Stack.checked(A, y, Run()), Coupling()
    x = 10 * randn(*stack.shape, seed=8)
    at = Position.at(x, coupling)
    step = DataStep(stack=stack, coupling=coupling, weight=0.3, rho=0.5)
    for k in range(5):
        x = step(x + k, at)
        assert float(at.w.abs().max()) <= 0.3 / 0.5 * (1 + 1e-12)
        gap = at.v - at.w - coupling(x)
        assert float(gap.abs().max()) <= 3 * 0.3 / 0.5 * (1 + 1e-12), "v - w is D of the last iterate, up to 3 weight / rho"


@pytest.mark.parametrize("scale", [0.25, 8.0])
def test_scaling(scale):
    """(A, y, weight, rho) and (c A, c y, c^2 weight, c^2 rho) take the same step."""
    A, y, _ = slices(noise=0)
    other = Dense(scale * A.matrix, A.domain)
    results = []
    for op, measured, factor in ((A, y, 1.0), (other, scale * y, scale**2)):
        stack = Stack.checked(op, measured, Run())
        x = randn(*stack.shape, seed=8)
        at = Position.at(x, Coupling())
        step = DataStep(stack=stack, coupling=Coupling(), weight=0.3 * factor, rho=0.5 * factor, inner=3)
        for _ in range(3):
            x = step(x, at)
        results.append(torch.stack([x.flatten(), at.v.flatten(), at.w.flatten()]))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [slices, volumes])
def test_without_tv_many_steps_explain_the_measurement(make):
    A, y, _ = make(noise=0)
    stack = Stack.checked(A, y, Run())
    x = randn(*stack.shape, seed=8)
    u = DataStep(stack=stack, coupling=Coupling(), weight=0.0, rho=0.0, inner=60)(x, Position.at(x, Coupling()))
    torch.testing.assert_close(stack.forward(u), y, rtol=1e-8, atol=1e-8)
    M = dense(stack)
    null = torch.eye(len(M), dtype=torch.float64) - torch.linalg.pinv(M, rtol=1e-9, hermitian=True) @ M
    torch.testing.assert_close(null @ u.flatten(), null @ x.flatten(), rtol=1e-7, atol=1e-7)


def test_anchor_is_the_gaussian_mean():
    """Without TV, u is (A^T A + anchor)^-1 (A^T y + anchor x)."""
    A, y, _ = slices()
    stack = Stack.checked(A, y, Run())
    x, anchor = randn(*stack.shape, seed=8), 0.37
    step = DataStep(stack=stack, coupling=Coupling(), weight=0.0, rho=0.0, inner=30)
    u = step(x, Position.at(x, Coupling()), anchor=anchor)
    M = A.matrix.mT @ A.matrix + anchor * torch.eye(9, dtype=torch.float64)
    exact = torch.linalg.solve(M, (y @ A.matrix + anchor * x.flatten(1)).mT).mT.view_as(x)
    torch.testing.assert_close(u, exact, rtol=1e-9, atol=1e-9)


def test_slices_commute_without_tv():
    """Slices in another order give the same slices in that order: they do not see each other, but for step lengths."""
    A, y, _ = slices()
    order = torch.tensor([2, 0, 3, 1])
    x = randn(4, 1, 3, 3, seed=8)

    def step(x, y):
        stack = Stack.checked(A, y, Run())
        return DataStep(stack=stack, coupling=Coupling(), weight=0.0, rho=0.0, inner=3)(x, Position.at(x, Coupling()))

    torch.testing.assert_close(step(x[order], y[order]), step(x, y)[order], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_conjugate_gradients(dtype):
    square = randn(8, 8, seed=1, dtype=dtype)
    M = square @ square.mH + torch.eye(8, dtype=dtype)
    b, x = randn(8, seed=2, dtype=dtype), randn(8, seed=3, dtype=dtype)
    torch.testing.assert_close(volume_cg(lambda p: M @ p, b, x, 30), torch.linalg.solve(M, b), rtol=1e-8, atol=1e-8)
    r = b - M @ x
    a = torch.vdot(r, r).real / torch.vdot(r, M @ r).real
    torch.testing.assert_close(volume_cg(lambda p: M @ p, b, x, 1), x + a * r)
    half = torch.linalg.norm(b - M @ volume_cg(lambda p: M @ p, b, x, 4))
    assert half < torch.linalg.norm(r)


def test_conjugate_gradients_stop_at_the_solution():
    solution = torch.linspace(0, 1, 4)
    assert torch.equal(volume_cg(lambda p: 2 * p, 2 * solution, solution, 5), solution)
    zero = torch.zeros(4)
    assert torch.equal(volume_cg(lambda p: 0 * p, torch.ones(4), zero, 5), zero), "nothing is seen"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conjugate_gradients_do_not_follow_rounding(dtype):
    """More steps than a singular system needs leave the solution, and what M does not see, where they are."""
    A = randn(5, 9, seed=1).to(dtype)
    x = randn(9, seed=2).to(dtype)
    b = A.mT @ (A @ x)
    for start in (x, x + randn(9, seed=3).to(dtype)):
        found = volume_cg(lambda p: A.mT @ (A @ p), b, start, 100)
        exact = start + torch.linalg.pinv(A.double()).to(dtype) @ (A @ (x - start))
        torch.testing.assert_close(found, exact, rtol=1e3 * torch.finfo(dtype).eps, atol=1e3 * torch.finfo(dtype).eps)


def test_position_starts_with_zeros():
    x = randn(3, 1, 2, 2)
    at = Position.at(x, Coupling(axes="zyx"))
    assert at.v.shape == at.w.shape == (3, 3, 1, 2, 2)
    assert not at.v.any()
    assert not at.w.any()
    assert at.v is not at.w
    assert Position.at(x).v.numel() == 0
    assert replace(at, x=2 * x).v is at.v
