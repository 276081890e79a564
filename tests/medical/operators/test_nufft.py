"""Non-Cartesian encoding, held against the sums themselves, by both backends, and its normal operator as a convolution."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from inverse.operators.noise import Gaussian
from inverse.operators.solve import inner
from medical.operators.kaiser_bessel import KaiserBessel
from medical.operators.nufft import NUFFT
from medical.sampling.trajectories import radial

SHAPES = [(8, 10), (9, 7), (1, 6), (4, 6, 5), (5, 3, 8)]
PRECISIONS = [(torch.complex64, 2e-6, 1e-7), (torch.complex128, 1e-11, 1e-13)]  # dtype, error of the sums, of the adjoint

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_backend = pytest.mark.parametrize("backend", ["finufft", "torch"])
every_precision = pytest.mark.parametrize(("dtype", "tolerance", "adjoint"), PRECISIONS, ids=["single", "double"])


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scattered(points: int, dims: int, seed: int = 5) -> Tensor:
    """Points anywhere in [-pi, pi)^d, the corner and the centre among them."""
    k = (2 * torch.rand(points, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1) * math.pi
    k[0], k[1] = -math.pi, 0
    return k


def matrix(trajectory: Tensor, shape: tuple[int, ...]) -> Tensor:
    """exp(-i k_j . r) / sqrt(N) with r_d = index - N_d // 2, the definition itself: (K, N)."""
    r = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) - n // 2 for n in shape])
    angle = -trajectory @ r.view(-1, len(shape)).T
    return torch.polar(torch.full_like(angle, math.prod(shape) ** -0.5), angle)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@every_precision
@every_backend
@every_shape
def test_sums_and_adjoint_are_those_of_the_definition(shape, backend, dtype, tolerance, adjoint):
    k, S = scattered(60, len(shape)), randn(2, 3, *shape)
    A = NUFFT(k, shape, maps=S, backend=backend)
    E = matrix(k, shape)
    x, y = randn(2, 2, *shape, seed=1), randn(2, 3, 60, seed=2)
    coils = (S * x[:, :, None]).sum(1)
    assert relative(A(x.to(dtype)).to(x.dtype), coils.flatten(2) @ E.T) < tolerance
    back = (S.conj() * (y @ E.conj()).view(2, 1, 3, *shape)).sum(2)
    assert relative(A.adjoint(y.to(dtype)).to(y.dtype), back) < tolerance
    assert A(x.to(dtype)).dtype == A.adjoint(y.to(dtype)).dtype == dtype


@every_precision
@every_backend
@every_shape
def test_adjoint_is_exact(shape, backend, dtype, tolerance, adjoint):
    A = NUFFT(scattered(70, len(shape)), shape, maps=randn(3, *shape), backend=backend)
    x, y = randn(1, *A.domain, seed=3, dtype=dtype), randn(1, *A.codomain, seed=4, dtype=dtype)
    Ax, AHy = A(x).to(torch.complex128), A.adjoint(y).to(torch.complex128)
    gap = inner(Ax, y.to(Ax.dtype)) - inner(x.to(Ax.dtype), AHy)
    assert float(gap.abs()) <= adjoint * float(Ax.norm() * y.norm())


@every_backend
def test_single_precision_holds_for_images_of_200_pixels(backend):
    k, x = radial(5, 200), randn(1, 1, 200, 201)
    A = NUFFT(k, (200, 201), backend=backend)
    rows, columns = (torch.exp(-1j * k[:, d : d + 1] * (torch.arange(n) - 100)) for d, n in ((0, 200), (1, 201)))
    exact = ((rows @ x[0, 0]) * columns).sum(1) / math.sqrt(200 * 201)
    assert relative(A(x.to(torch.complex64)).flatten().to(x.dtype), exact) < 2e-6


def test_cartesian_samples_are_the_unitary_transform():
    shape = (6, 8)
    k = torch.cartesian_prod(*[2 * math.pi * (torch.arange(n, dtype=torch.float64) - n // 2) / n for n in shape])
    x = randn(1, 1, *shape)
    centred = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x), norm="ortho"))
    torch.testing.assert_close(NUFFT(k, shape)(x).view(1, 1, *shape), centred, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("width", "error"), [(4, 1e-3), (6, 1e-5), (8, 1.5e-7), (12, 3e-11)])
def test_wider_kernels_are_more_accurate(width, error):
    k, x = scattered(200, 2), randn(1, 16, 15)
    y = KaiserBessel(k, (16, 15), dtype=torch.float64, width=width).forward(x)
    got = relative(y[0], matrix(k, (16, 15)) @ x.flatten() * math.sqrt(16 * 15))
    assert error / 30 < got < error


def test_chunks_of_points_change_nothing(monkeypatch):
    G = KaiserBessel(scattered(50, 2), (9, 8))
    x = randn(3, 9, 8, dtype=torch.complex64)
    y = G.forward(x)
    back = G.adjoint(y)
    monkeypatch.setattr("medical.operators.kaiser_bessel._CHUNK", {True: 49 * 7, False: 1})
    torch.testing.assert_close(G.forward(x), y)
    torch.testing.assert_close(G.adjoint(y), back)


@every_backend
def test_a_batch_equals_its_members(backend):
    A = NUFFT(scattered(30, 2), (8, 9), maps=randn(2, 8, 9, dtype=torch.complex64), backend=backend)
    x = randn(3, 1, 8, 9, dtype=torch.complex64)
    torch.testing.assert_close(A(x), torch.cat([A(member) for member in x.split(1)]), rtol=0, atol=0)
    torch.testing.assert_close(A.normal(x), torch.cat([A.normal(member) for member in x.split(1)]), rtol=0, atol=0)


def test_real_images_are_complex_images():
    A = NUFFT(scattered(20, 2), (6, 5), maps=randn(2, 6, 5))
    x = randn(1, 1, 6, 5).real
    torch.testing.assert_close(A(x), A(x + 0j))
    torch.testing.assert_close(A.normal(x), A.normal(x + 0j))


@every_backend
def test_derivatives(backend):
    A = NUFFT(scattered(12, 2), (4, 5), maps=randn(2, 4, 5), backend=backend)
    x, y = randn(1, *A.domain).requires_grad_(), randn(1, *A.codomain).requires_grad_()
    assert torch.autograd.gradcheck(A, x)
    assert torch.autograd.gradcheck(A.adjoint, y)
    assert torch.autograd.gradcheck(A.normal, x)
    assert torch.autograd.gradcheck(A, x.detach().real.clone().requires_grad_())


@every_precision
@every_backend
@every_shape
def test_normal_is_adjoint_after_forward(shape, backend, dtype, tolerance, adjoint):
    A = NUFFT(scattered(40, len(shape)), shape, maps=randn(2, 3, *shape), backend=backend)
    x = randn(2, *A.domain, dtype=dtype)
    assert relative(A.normal(x), A.adjoint(A(x))) < tolerance
    assert A.normal(x).dtype == dtype


@every_shape
def test_toeplitz_with_weights(shape):
    k, S = scattered(40, len(shape)), randn(2, *shape)
    w = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    A = NUFFT(k, shape, maps=S)
    T = A.toeplitz(w)
    x = randn(1, *A.domain)
    assert relative(T(x), A.adjoint(w * A(x))) < 1e-11
    assert T.adjointness() < 1e-13
    E = matrix(k, shape)
    dense = sum(torch.diag(s.conj()) @ E.mH @ torch.diag(w + 0j) @ E @ torch.diag(s) for s in S.flatten(1))
    torch.testing.assert_close(T(x).flatten(), dense @ x.flatten(), rtol=1e-10, atol=1e-10)


def test_pinv_and_prox_solve_their_equations():
    shape = (8, 9)
    A = NUFFT(scattered(400, 2), shape, maps=randn(2, *shape))
    x, z = randn(1, 1, *shape), randn(1, 1, *shape, seed=9)
    torch.testing.assert_close(A.pinv(A(x), tolerance=1e-12), x, rtol=1e-7, atol=1e-7)
    y = A(x) + randn(1, *A.codomain, seed=8)
    u = A.prox(z, y, 0.3, tolerance=1e-12)
    torch.testing.assert_close(A.adjoint(A(u)) + 0.3 * u, A.adjoint(y) + 0.3 * z, rtol=1e-8, atol=1e-8)


def test_norm_is_the_largest_singular_value():
    k, shape = scattered(50, 2), (5, 6)
    largest = float(torch.linalg.matrix_norm(matrix(k, shape), 2))
    A = NUFFT(k, shape)
    A(randn(1, 1, *shape))  # plans are there when norm copies the operator
    assert A.norm(iterations=300) == pytest.approx(largest, rel=1e-4)
    assert A.toeplitz().norm(iterations=300) == pytest.approx(largest**2, rel=1e-4)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda A: pickle.loads(pickle.dumps(A))], ids=["deepcopy", "pickle"])
def test_copies_leave_the_plans_behind(duplicate):
    A = NUFFT(scattered(30, 2), (6, 7), maps=randn(2, 6, 7))
    x = randn(1, 1, 6, 7)
    y, n = A(x), A.normal(x)
    B = duplicate(A)
    del A
    torch.testing.assert_close(B(x), y, rtol=0, atol=0)
    torch.testing.assert_close(B.normal(x), n, rtol=0, atol=0)


def test_the_trajectory_stays_in_double_precision_and_the_maps_complex():
    A = NUFFT(scattered(30, 2), (6, 7), maps=randn(2, 6, 7))
    y = A(randn(1, 1, 6, 7))
    A = A.to(torch.float32)
    assert A.trajectory.dtype == torch.float64
    assert A.maps.dtype == torch.complex64
    assert relative(A(randn(1, 1, 6, 7)), y) < 1e-6  # the maps alone were rounded
    assert A.toeplitz().float().maps.dtype == torch.complex64


def test_normal_follows_the_maps():
    A = NUFFT(scattered(30, 2), (6, 7), maps=randn(2, 6, 7))
    x = randn(1, 1, 6, 7)
    n = A.normal(x)
    A.load_state_dict({"maps": 2 * A.maps})
    torch.testing.assert_close(A.normal(x), 4 * n)
    assert A.with_noise(Gaussian(0.1)).noise == Gaussian(0.1)


def test_shapes_and_repr():
    A = NUFFT(scattered(30, 3), (3, 4, 5), maps=randn(2, 4, 3, 4, 5))
    assert (A.domain, A.codomain) == ((2, 3, 4, 5), (4, 30))
    assert repr(A) == "NUFFT(domain=(2, 3, 4, 5), points=30, coils=4)"
    assert NUFFT(scattered(30, 2), (4, 5)).codomain == (1, 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": scattered(9, 2) * 40}, "cycles/pixel by 2 pi"),
        ({"trajectory": scattered(9, 2).fill_(math.nan)}, "finite, got 18 values"),
        ({"trajectory": scattered(9, 3)}, r"shape \(K, 2\)"),
        ({"trajectory": scattered(9, 2).view(3, 3, 2)}, r"reshape\(-1, 2\)"),
        ({"trajectory": torch.zeros(9, 2, dtype=torch.int64)}, "floating point"),
        ({"shape": (8,)}, "shape must be"),
        ({"shape": (8, 0)}, "sides of at least 1"),
        ({"maps": randn(3, 8, 9)}, r"maps must have shape \(C, 8, 8\)"),
        ({"maps": randn(8, 8)}, "maps must have shape"),
        ({"maps": randn(3, 8, 8) * math.inf}, "finite"),
        ({"backend": "cuda"}, "backend must be"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"trajectory": scattered(9, 2), "shape": (8, 8), "maps": None, "backend": "auto"} | change
    with pytest.raises(ValueError, match=message):
        NUFFT(arguments.pop("trajectory"), arguments.pop("shape"), **arguments)


def test_bad_data():
    A = NUFFT(scattered(9, 2), (8, 8), maps=randn(3, 8, 8))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\)"):
        A(randn(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 3, 9\)"):
        A.adjoint(randn(1, 3, 8))
    with pytest.raises(ValueError, match=r"weights must be real, of shape \(9,\)"):
        A.toeplitz(torch.ones(8))
    with pytest.raises(ValueError, match="weights must be finite"):
        A.toeplitz(torch.full((9,), math.nan))
    with pytest.raises(ValueError, match="runs on the CPU"):
        NUFFT(scattered(9, 2), (8, 8), backend="finufft").transform(torch.device("meta"), torch.float32)


@pytest.mark.gpu
@every_precision
def test_cuda_gives_the_numbers_of_the_cpu(dtype, tolerance, adjoint):
    A = NUFFT(scattered(500, 2), (20, 21), maps=randn(3, 20, 21))
    x, y = randn(2, 1, 20, 21, dtype=dtype), randn(2, 3, 500, dtype=dtype)
    expected = A(x), A.adjoint(y), A.normal(x)
    A, x, y = A.cuda(), x.cuda(), y.cuda()
    for got, wanted in zip((A(x), A.adjoint(y), A.normal(x)), expected, strict=True):
        assert relative(got.cpu(), wanted) < 2 * tolerance


@every_backend
def test_an_empty_batch_gives_an_empty_batch(backend):
    for maps in (None, randn(3, 8, 10)):
        A = NUFFT(scattered(9, 2), (8, 10), maps=maps, backend=backend)
        y = A(torch.zeros(0, 1, 8, 10, dtype=torch.complex64))
        assert y.shape == (0, 1 if maps is None else 3, 9)
        assert y.is_complex()
        x = A.adjoint(y)
        assert x.shape == A.normal(x).shape == (0, 1, 8, 10)


def test_maps_of_16_bits_are_lengthened():
    maps = randn(3, 8, 8).real.half()
    A, B = (NUFFT(scattered(9, 2), (8, 8), maps=S) for S in (maps, maps.float()))
    assert A.maps.dtype == torch.complex64
    assert torch.equal(A(randn(1, 1, 8, 8)), B(randn(1, 1, 8, 8)))
