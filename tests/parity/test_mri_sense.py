"""Cartesian MRI against stored numbers: data, adjoints and conjugate gradients in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inverse.operators.solve import conjugate_gradient
from medical.operators.sense import Sense
from tests.parity.cases import Case, needs_parity, parity_cases

pytestmark = needs_parity("mri_ops")

PRECISIONS = {torch.complex128: 1e-10, torch.complex64: 1e-5}  # the second: float32, accumulated over the iterations

every_case = pytest.mark.parametrize("case", parity_cases("mri_ops", "sense"), ids=str)
every_precision = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)


def stored(case: Case, key: str, dtype: torch.dtype) -> Tensor:
    """A complex array of the case, stored as (..., 2), with an axis for the batch."""
    return torch.view_as_complex(case[key].contiguous()).to(dtype)[None]


def image(case: Case, key: str, dtype: torch.dtype) -> Tensor:
    return stored(case, key, dtype)[:, None]


def operator(case: Case, dtype: torch.dtype) -> Sense:
    return Sense(stored(case, "sens", dtype)[0], case["mask"])


def assert_near(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    assert (got - wanted).norm() <= tolerance * wanted.norm()
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


@every_case
@every_precision
def test_data_and_adjoint(case, dtype, tolerance):
    A = operator(case, dtype)
    assert_near(A(image(case, "image", dtype)), stored(case, "y", dtype), tolerance)
    assert_near(A.adjoint(stored(case, "y", dtype)), image(case, "AH_y", dtype), tolerance)
    assert_near(A.adjoint(stored(case, "cotangent", dtype)), image(case, "AH_cotangent", dtype), tolerance)


@every_case
def test_gradient_is_the_adjoint_of_the_cotangent(case):
    A = operator(case, torch.complex128)
    x = image(case, "image", torch.complex128).requires_grad_()
    (grad,) = torch.autograd.grad(A(x), x, stored(case, "cotangent", torch.complex128))
    assert_near(grad, image(case, "AH_cotangent", torch.complex128), 1e-10)


def solve(case: Case, dtype: torch.dtype, iterations: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``(A^H A + lam) x = A^H y`` by conjugate gradients from zero; also the residual of an image."""
    A, lam = operator(case, dtype), case.settings["lam"]
    b = A.adjoint(stored(case, "y", dtype))

    def normal(u: Tensor) -> Tensor:
        return A.normal(u) + lam * u

    x = conjugate_gradient(normal, b, torch.zeros_like(b), iterations=iterations, tolerance=torch.finfo(dtype).eps)
    return x, lambda u: b - normal(u)


@every_case
@every_precision
@pytest.mark.parametrize("iterations", [1, 5])
def test_iterates(case, dtype, tolerance, iterations):
    x, _ = solve(case, dtype, iterations)
    assert_near(x, image(case, f"cg_iter{iterations}", dtype), tolerance)


@every_case
@every_precision
def test_solution(case, dtype, tolerance):
    """The stored solution is the iterate 60, where all digits need not have settled yet."""
    wanted = image(case, "cg_solution", dtype)
    iterate, residual = solve(case, dtype, 60)
    settled, _ = solve(case, dtype, 500)
    nearest = min(iterate, settled, key=lambda x: float((x - wanted).norm()))
    assert_near(nearest, wanted, tolerance)
    # the smallest eigenvalue is at least lam, so a residual bounds the error
    bound = residual(wanted).norm() / case.settings["lam"]
    assert (settled - wanted).norm() <= bound + tolerance * wanted.norm()
    assert bound <= 1e-3 * wanted.norm()
