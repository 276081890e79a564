"""Operators of complex images on real ones: the real adjoint, its spectrum, what follows from it, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medical.operators import NUFFT, RealImages, Sense
from medical.operators.centred import legacy_fft, legacy_ifft


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(W: int = 6) -> Tensor:
    return torch.rand(W, W, generator=torch.Generator().manual_seed(5)) < 0.5


def several() -> RealImages:
    return RealImages(Sense(randn(3, 4, 3, dtype=torch.complex128), mask(4)[:, :3]))


def points() -> RealImages:
    return RealImages(
        NUFFT(
            2 * math.pi * torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) - math.pi,
            (4, 5),
            backend="torch",
        )
    )


MAKE = {"single": lambda: RealImages(Sense.single((6, 6), mask())), "several": several, "points": points}

every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


def dense(A: RealImages) -> Tensor:
    """The matrix from real images to real and imaginary parts, float64."""
    n = math.prod(A.domain)
    y = A(torch.eye(n, dtype=torch.float64).view(n, *A.domain)).flatten(1)
    return torch.view_as_real(y).flatten(1).mT


def parts(y: Tensor) -> Tensor:
    return torch.view_as_real(y).flatten(1)


@every
def test_adjoint_is_the_transpose(make):
    A = make()
    y = randn(2, *A.codomain, dtype=torch.complex128)
    x = A.adjoint(y)
    assert x.dtype == torch.float64
    torch.testing.assert_close(x.flatten(1), parts(y) @ dense(A), rtol=0, atol=1e-10)
    assert A.adjointness() <= 1e-6
    assert A(x.float()).dtype == torch.complex64
    assert A.adjoint(y.to(torch.complex64)).dtype == torch.float32


@every
def test_pinv_prox_and_norm(make):
    A = make()
    M, y = dense(A), randn(1, *A.codomain, seed=1, dtype=torch.complex128)
    found = A.pinv(y, tolerance=1e-12, iterations=500)
    torch.testing.assert_close(found.flatten(1), parts(y) @ torch.linalg.pinv(M, rtol=1e-8).mT, rtol=0, atol=1e-6)
    x = randn(1, *A.domain, seed=2)
    wanted = torch.linalg.solve(
        M.mT @ M + 0.3 * torch.eye(M.shape[1], dtype=torch.float64), (parts(y) @ M + 0.3 * x.flatten(1))[0]
    )
    torch.testing.assert_close(A.prox(x, y, 0.3, tolerance=1e-12).flatten(), wanted, rtol=0, atol=1e-9)
    assert A.norm(iterations=200) == pytest.approx(float(torch.linalg.matrix_norm(M, 2)), rel=1e-5)


@every
def test_derivatives(make):
    A = make()
    x, y = randn(1, *A.domain).requires_grad_(), randn(1, *A.codomain, seed=3, dtype=torch.complex128)
    (grad,) = torch.autograd.grad((A(x) - y).abs().square().sum() / 2, x)
    torch.testing.assert_close(grad, A.adjoint(A(x.detach()) - y), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(A, x, fast_mode=True)
    assert torch.autograd.gradcheck(A.adjoint, y.requires_grad_(), fast_mode=True)


def test_eigenvalues_of_undersampled_mri():
    """0, 1/2 and 1, as a frequency, its mirror image, or both are measured; the mean is the share of k-space."""
    values = torch.linalg.eigvalsh(dense(MAKE["single"]()).mT @ dense(MAKE["single"]()))
    torch.testing.assert_close(values, (2 * values).round() / 2, rtol=0, atol=1e-6)
    assert sorted({round(2 * v) for v in values.tolist()}) == [0, 1, 2]
    assert float(values.mean()) == pytest.approx(float(mask().double().mean()), abs=1e-6)


def test_the_official_pair():
    """``A = mask fftshift(fft2(x))`` and ``real(ifft2(ifftshift(k)))``, both divided by sqrt(H W) here."""
    x, H, W = randn(3, 1, 6, 6), 6, 6
    A = (H * W) ** -0.5 * Sense.single((H, W), mask(), legacy_fft=True)
    k = mask() * legacy_fft(x)
    torch.testing.assert_close(RealImages(A)(x), k / 6, rtol=0, atol=1e-6)
    torch.testing.assert_close(RealImages(A).adjoint(k / 6), legacy_ifft(mask() * k).real, rtol=0, atol=1e-6)
    torch.testing.assert_close(RealImages(A).normal(x), MAKE["single"]().normal(x), rtol=0, atol=1e-6)


def test_what_is_refused():
    A = MAKE["single"]()
    with pytest.raises(ValueError, match=r"x must be real, got torch\.complex64"):
        A(torch.zeros(1, 1, 6, 6, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 6, 6\)"):
        A(torch.zeros(1, 1, 6, 5))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 1, 6, 6\)"):
        A.adjoint(torch.zeros(1, 2, 6, 6))
    with pytest.raises(TypeError, match="A must be a linear operator"):
        RealImages(torch.zeros(6, 6))
