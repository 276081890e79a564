"""Operators of slices and of volumes as one thing."""

import pytest
import torch

from inverse.operators.noise import Gaussian, Poisson
from medical.samplers import Run
from medical.samplers.stack import Stack
from tests.medical.classical.problems import Dense, randn
from tests.medical.operators.examples import PROJECTORS
from tests.medical.samplers.problems import PROBLEMS, slices, volumes


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_slices(chunk):
    A, y, x = slices()
    stack = Stack.checked(A, y, Run(chunk=chunk))
    assert not stack.volumetric
    assert stack.shape == tuple(x.shape)
    torch.testing.assert_close(stack.normal(x), A.adjoint(A(x)))
    torch.testing.assert_close(stack.back_projected, A.adjoint(y))
    torch.testing.assert_close(stack.forward(x), A(x))
    assert stack.volume(x) is x


def test_volumes():
    A, y, x = volumes()
    stack = Stack.checked(A, y, Run())
    D, side = x.shape[2], x.shape[3]
    assert stack.volumetric
    assert stack.shape == (D, 1, side, side)
    u = randn(*stack.shape, seed=9)
    assert torch.equal(stack.volume(u), u.transpose(0, 1)[None])
    torch.testing.assert_close(stack.volume(stack.normal(u)), A.adjoint(A(stack.volume(u))))
    torch.testing.assert_close(stack.forward(u), A(stack.volume(u)))
    torch.testing.assert_close(stack.volume(stack.back_projected), A.adjoint(y))


def test_a_projector_of_volumes():
    A = PROJECTORS["joseph-cone-flat"]()
    x = torch.rand(1, *A.domain)
    stack = Stack.checked(A, A(x), Run())
    C, D, H, W = A.domain
    assert stack.shape == (D, C, H, W)
    v = torch.rand(D, C, H, W)
    left, right = float((stack.normal(v) * v).sum()), float(stack.forward(v).square().sum())
    assert left == pytest.approx(right, rel=1e-5)


def test_norm():
    A, y, _ = slices()
    exact = float(torch.linalg.matrix_norm(A.matrix, 2)) ** 2
    assert exact * (1 - 1e-6) <= Stack.checked(A, y, Run()).norm_squared < 1.03 * exact


def test_weights_are_those_of_least_squares():
    matrix = randn(5, 9, seed=1).abs()
    A = Dense(matrix, (1, 3, 3), Poisson(200.0))
    y = A.measure(torch.rand(3, 1, 3, 3, dtype=torch.float64), seed=0)
    stack = Stack.checked(A, y, Run())
    std = Poisson(200.0).std(y)
    x = randn(*stack.shape, seed=4)
    exact = torch.stack([matrix.mT @ ((matrix @ u.flatten()) / s**2) for u, s in zip(x, std, strict=True)]).view_as(x)
    torch.testing.assert_close(stack.normal(x) / stack.noise**2, exact)
    assert stack.noise**-2 == pytest.approx(float(std.pow(-2).mean()))
    back = torch.stack([matrix.mT @ (m / s**2) for m, s in zip(y, std, strict=True)]).view_as(x)
    torch.testing.assert_close(stack.back_projected / stack.noise**2, back)


def test_noise_level():
    A, y, _ = slices(noise=0.2)
    assert Stack.checked(A, y, Run()).noise == pytest.approx(0.2)
    A, y, _ = slices(noise=0)
    assert Stack.checked(A, y, Run()).noise == 0.0
    assert Stack.checked(A.with_noise(Gaussian(0.0)), y, Run()).noise == 0.0


@pytest.mark.parametrize("kind", PROBLEMS)
def test_misfit_is_the_gradient_of_its_size(kind):
    A, y, _ = PROBLEMS[kind]()
    stack = Stack.checked(A, y, Run())
    x = randn(*stack.shape, seed=3, dtype=stack.back_projected.dtype).requires_grad_()
    gradient, squares = stack.misfit(x.detach(), slice(0, len(x)))
    total = (A(stack.volume(x)) - y).abs().square().sum()
    assert float(squares.sum()) == pytest.approx(float(total.detach()), rel=1e-10)
    assert len(squares) == (1 if stack.volumetric else len(x))
    total.backward()
    torch.testing.assert_close(2 * gradient, x.grad)


def test_misfit_of_a_part():
    A, y, x = slices()
    stack = Stack.checked(A, y, Run())
    whole, sizes = stack.misfit(0 * x, slice(0, 4))
    part, size = stack.misfit(0 * x[1:3], slice(1, 3))
    torch.testing.assert_close(part, whole[1:3])
    torch.testing.assert_close(size, sizes[1:3])


def test_refused():
    A, y, _ = slices()
    with pytest.raises(ValueError, match="y must be finite"):
        Stack.checked(A, y / 0, Run())
    with pytest.raises(ValueError, match="images \\(C, H, W\\) or volumes"):
        Stack.checked(Dense(randn(3, 4), (2, 2)), randn(1, 3), Run())
