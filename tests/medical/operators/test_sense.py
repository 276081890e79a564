"""The centred Fourier transform and Cartesian SENSE, held against sums, dense matrices and each other."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from inverse.operators.noise import Gaussian
from inverse.operators.solve import inner
from medical.operators.centred import centred_fft, centred_ifft, centring_phases, legacy_fft, legacy_ifft
from medical.operators.sense import Sense

SHAPES = [(6, 8), (7, 5), (6, 5), (1, 9), (3, 4, 5), (4, 2, 6)]

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_mask(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def centres(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64) - n // 2


def fourier_matrix(n: int) -> Tensor:
    """exp(-2 pi i (j - c) (r - c) / n) / sqrt(n), the sum itself."""
    angle = -2 * math.pi / n * torch.outer(centres(n), centres(n))
    return torch.polar(torch.full_like(angle, n**-0.5), angle)


def dense(A: Sense) -> Tensor:
    n = math.prod(A.domain)
    return A(torch.eye(n, dtype=torch.complex128).view(n, *A.domain)).flatten(1).mT


def normalised(maps: Tensor, seen: Tensor | None = None) -> Tensor:
    """Maps (C, ...) with a sum of squares of one where ``seen``, zero elsewhere."""
    maps = maps / maps.abs().square().sum(0).sqrt()
    return maps if seen is None else maps * seen


OPERATORS = {
    "even": lambda: Sense(randn(3, 6, 8), random_mask(6, 8)),
    "odd": lambda: Sense(randn(3, 7, 5), random_mask(7, 5)),
    "mixed-lines": lambda: Sense(randn(2, 6, 5), random_mask(1, 5)),
    "two-sets": lambda: Sense(randn(2, 3, 6, 5), random_mask(6, 5)),
    "full": lambda: Sense(randn(3, 5, 6)),
    "full-normalised": lambda: Sense(normalised(randn(3, 5, 6), random_mask(5, 6))),
    "single": lambda: Sense.single((5, 6), random_mask(5, 6)),
    "single-volume": lambda: Sense.single((3, 4, 5), random_mask(4, 5)),
    "volume": lambda: Sense(randn(2, 3, 4, 5), random_mask(3, 4, 1), dims=3),
    "volume-two-sets": lambda: Sense(randn(2, 2, 3, 2, 5), random_mask(2, 5), dims=3),
    "legacy": lambda: Sense(randn(2, 6, 5), random_mask(6, 5), legacy_fft=True),
    "legacy-single": lambda: Sense.single((5, 6), random_mask(5, 6), legacy_fft=True),
}
every = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())


@every_shape
def test_fft_is_the_sum(shape):
    x = randn(2, *shape)
    wanted = x
    for axis, n in enumerate(shape, start=1):
        wanted = torch.tensordot(wanted, fourier_matrix(n), dims=([axis], [1])).movedim(-1, axis)
    torch.testing.assert_close(centred_fft(x, len(shape)), wanted, atol=1e-13, rtol=0)


@every_shape
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-6), (torch.complex128, 1e-14)])
def test_fft_is_unitary(shape, dtype, tolerance):
    x, k = randn(2, *shape, dtype=dtype), randn(2, *shape, seed=1, dtype=dtype)
    X = centred_fft(x, len(shape))
    assert float(X.norm() / x.norm()) == pytest.approx(1, abs=tolerance)
    torch.testing.assert_close(centred_ifft(X, len(shape)), x, atol=10 * tolerance, rtol=0)
    gap = (inner(X, k) - inner(x, centred_ifft(k, len(shape)))).abs().max()
    assert gap <= tolerance * x.norm() * k.norm()


def test_a_point_in_the_middle_has_a_flat_spectrum_and_back():
    for shape in ((6, 8), (7, 5)):
        x = torch.zeros(shape, dtype=torch.float64)
        x[shape[0] // 2, shape[1] // 2] = 1
        flat = torch.full(shape, math.prod(shape) ** -0.5, dtype=torch.complex128)
        torch.testing.assert_close(centred_fft(x), flat, atol=1e-15, rtol=0)
        torch.testing.assert_close(centred_fft(flat), x.to(torch.complex128), atol=1e-15, rtol=0)


@every_shape
def test_legacy_fft(shape):
    """X[j] = sum_r x[r] exp(-2 pi i (j - c) r / n), its inverse, and its modulus beside the centred transform."""
    x = wanted = randn(2, *shape)
    for axis, n in enumerate(shape, start=1):
        angle = -2 * math.pi / n * torch.outer(centres(n), torch.arange(n).double())
        wanted = torch.tensordot(wanted, torch.polar(torch.ones_like(angle), angle), dims=([axis], [1])).movedim(-1, axis)
    X = legacy_fft(x, len(shape))
    torch.testing.assert_close(X, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(legacy_ifft(X, len(shape)), x, atol=1e-14, rtol=0)
    point = torch.zeros(shape, dtype=torch.float64)
    point[(0,) * len(shape)] = 2
    modulus = math.sqrt(math.prod(shape)) * centred_fft(point, len(shape)).abs()
    torch.testing.assert_close(legacy_fft(point, len(shape)).abs(), modulus, atol=1e-14, rtol=0)


@every_shape
@pytest.mark.parametrize("legacy", [False, True])
def test_phases_replace_the_shifts(shape, legacy):
    x, axes = randn(2, *shape), tuple(range(1, len(shape) + 1))
    before, after = centring_phases(shape, legacy=legacy)
    wanted = (legacy_fft if legacy else centred_fft)(x, len(shape))
    torch.testing.assert_close(after * torch.fft.fftn(before * x, dim=axes), wanted, atol=1e-13, rtol=0)
    if all(n % 2 == 0 for n in shape):
        assert torch.equal(before.imag, torch.zeros(shape, dtype=torch.float64))  # checkerboards, exactly
        assert torch.equal(before.abs(), torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("f", [centred_fft, centred_ifft, legacy_fft, legacy_ifft])
def test_fft_errors(f):
    with pytest.raises(ValueError, match=r"dims must be 2.*got 1"):
        f(torch.zeros(4, 4), 1)
    with pytest.raises(ValueError, match=r"over 3 axes.*got shape \(4, 4\)"):
        f(torch.zeros(4, 4), 3)


@every
def test_is_what_it_says(make):
    """y_c = M F sum_m S_mc x_m, step by step."""
    A = make()
    x = randn(2, *A.domain)
    F = legacy_fft if A.legacy_fft else centred_fft
    wanted = A.mask * F((A.maps * x.unsqueeze(2)).sum(1), A.dims)
    got = A(x)
    assert got.shape == (2, *A.codomain)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)
    assert got[~A.mask.expand_as(got)].abs().sum() == 0


@every
def test_adjoint_is_the_conjugate_transpose(make):
    A = make()
    y = randn(2, *A.codomain, seed=1)
    M = dense(A.double())
    scale = float(M.abs().sum(0).max())
    torch.testing.assert_close(A.adjoint(y).flatten(1), y.flatten(1) @ M.conj(), atol=1e-14 * scale, rtol=0)


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-6), (torch.complex128, 1e-14)])
def test_adjointness(make, dtype, tolerance):
    A = make().to(dtype.to_real())
    assert A.maps.dtype == dtype
    x, y = randn(2, *A.domain, dtype=dtype), randn(2, *A.codomain, seed=1, dtype=dtype)
    ax, ahy = A(x), A.adjoint(y)
    assert ax.dtype == ahy.dtype == dtype
    assert ((inner(ax, y) - inner(x, ahy)).abs() <= tolerance * ax.norm() * y.norm()).all()
    assert A.adjointness() <= tolerance


@every
def test_norm(make):
    A = make().double()
    assert A.norm(iterations=400) == pytest.approx(float(torch.linalg.svdvals(dense(A))[0]), rel=1e-5)


@every
def test_isometry_is_claimed_where_it_holds(make):
    A = make().double()
    M = dense(A)
    near = torch.linalg.svdvals(M) ** 2
    level = float(near.max())
    holds = bool(((near < 1e-9 * level) | ((near / level - 1).abs() < 1e-9)).all())
    assert (A.isometry is not None) == holds
    if holds:
        assert A.isometry == pytest.approx(level, rel=1e-12)


@every
def test_prox_and_pinv(make):
    A = make().double()
    M = dense(A)
    x, y = randn(2, *A.domain), randn(2, *A.codomain, seed=1)
    N = M.mH @ M + 0.3 * torch.eye(M.shape[1], dtype=M.dtype)
    wanted = torch.linalg.solve(N, (y.flatten(1) @ M.conj() + 0.3 * x.flatten(1)).mT).mT
    torch.testing.assert_close(A.prox(x, y, 0.3, tolerance=1e-13).flatten(1), wanted, atol=1e-10, rtol=0)
    least = y.flatten(1) @ torch.linalg.pinv(M, rtol=1e-9).mT
    torch.testing.assert_close(A.pinv(y, tolerance=1e-13, iterations=3000).flatten(1), least, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["even", "odd", "two-sets", "volume", "single", "legacy"])
@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64], ids=str)
def test_derivatives(name, dtype):
    A = OPERATORS[name]().double()
    x = randn(1, *A.domain, dtype=dtype).requires_grad_()
    v = randn(1, *A.codomain, seed=1)
    (grad,) = torch.autograd.grad(A(x), x, v)
    assert torch.equal(grad, A.adjoint(v) if dtype.is_complex else A.adjoint(v).real)
    assert torch.autograd.gradcheck(A, x, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradcheck(A.adjoint, v.requires_grad_(), fast_mode=True)
    _, tangent = torch.func.jvp(A, (x.detach(),), (2 * x.detach(),))
    torch.testing.assert_close(tangent, 2 * A(x.detach()), atol=1e-14, rtol=1e-12)


def test_real_images():
    A = OPERATORS["odd"]()
    x = randn(2, *A.domain, dtype=torch.float64)
    assert torch.equal(A(x), A(x.to(torch.complex128)))
    assert A(x.float()).dtype == torch.complex64


def test_under_vmap():
    A = OPERATORS["mixed-lines"]()
    x = randn(3, *A.domain)
    torch.testing.assert_close(torch.vmap(lambda one: A(one[None])[0])(x), A(x), atol=1e-15, rtol=0)


def test_every_member_has_its_own_mask():
    maps, masks = randn(3, 6, 5), torch.stack([random_mask(1, 6, 5, seed=s) for s in range(4)])
    A = Sense(maps, masks, noise=Gaussian(0.1))
    x, y = randn(4, 1, 6, 5), randn(4, 3, 6, 5, seed=1)
    for b, member in enumerate(A.members()):
        one = slice(b, b + 1)
        assert torch.equal(member.mask, masks[one])
        assert member.noise == A.noise
        torch.testing.assert_close(A(x)[one], member(x[one]), atol=1e-14, rtol=0)
        torch.testing.assert_close(A.adjoint(y)[one], member.adjoint(y[one]), atol=1e-14, rtol=0)
    assert A.norm() == max(member.norm() for member in A.members())
    assert A.adjointness() <= 1e-14
    with pytest.raises(ValueError, match=r"x must have a batch of 4, one member for each mask, got 3"):
        A(x[:3])
    with pytest.raises(ValueError, match=r"y must have a batch of 4"):
        A.adjoint(y[:3])


def test_lines_spread():
    maps, lines = randn(2, 6, 5), random_mask(5)
    x = randn(1, 1, 6, 5)
    full = Sense(maps, lines.expand(6, 5))(x)
    for mask in (lines, lines[None], lines.view(1, 1, 1, 5), lines.double().expand(1, 6, 5)):
        assert torch.equal(Sense(maps, mask)(x), full)


def test_precision_follows_the_image():
    """Maps of ones in single precision, images in double: exact to double precision, for odd sizes too."""
    A = Sense.single((7, 9))
    x = randn(1, 1, 7, 9)
    assert A.maps.dtype == torch.complex64
    assert float(A(x).norm() / x.norm()) == pytest.approx(1, abs=1e-14)
    torch.testing.assert_close(A.adjoint(A(x)), x, atol=1e-14, rtol=0)
    assert Sense(randn(2, 4, 4), dims=2)(torch.zeros(1, 1, 4, 4)).dtype == torch.complex64


@pytest.mark.parametrize("cast", [lambda A: A.double(), lambda A: A.to(torch.float64), lambda A: A.to(torch.complex128)])
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_casts_keep_the_maps_complex(cast):
    maps = randn(2, 5, 6, dtype=torch.complex64)
    A = cast(Sense(maps, random_mask(5, 6)))
    assert A.maps.dtype == torch.complex128
    assert torch.equal(A.maps[0], maps.to(torch.complex128))
    x = randn(1, 1, 5, 6)
    torch.testing.assert_close(A(x), A.mask * centred_fft(maps.to(torch.complex128) * x), atol=1e-14, rtol=0)
    assert A.float().maps.dtype == torch.complex64


def test_half_precision_counts_in_float32():
    A = Sense.single((4, 6)).half()
    assert A.maps.dtype == torch.complex64
    assert A(torch.ones(1, 1, 4, 6, dtype=torch.float16)).dtype == torch.complex64


def test_state_dict():
    A = Sense(randn(2, 5, 6), random_mask(5, 6))
    B = Sense(randn(2, 5, 6, seed=5), random_mask(5, 6, seed=5))
    B.load_state_dict(copy.deepcopy(A.state_dict()))
    x = randn(1, 1, 5, 6)
    assert torch.equal(B(x), A(x))
    assert set(A.state_dict()) == {"maps", "mask"}


def test_noise_is_complex():
    A = Sense.single((64, 64)).with_noise(Gaussian(0.5))
    noise = A.measure(torch.zeros(1, 1, 64, 64), seed=3)
    assert float(noise.real.std()) == pytest.approx(0.5, rel=0.05)
    assert float(noise.imag.std()) == pytest.approx(0.5, rel=0.05)


def test_repr():
    mask = torch.zeros(4, 4)
    mask[:, :2] = 1
    assert repr(Sense.single((4, 4), mask)) == "Sense(maps=(1, 1, 4, 4), mask=(1, 1, 4, 4), seen=0.5)"
    assert "legacy_fft=True" in repr(OPERATORS["legacy"]())


@pytest.mark.parametrize(
    ("maps", "mask", "message"),
    [
        (torch.ones(4, 4), None, r"maps must have shape \(C, H, W\).*got \(4, 4\)"),
        (torch.ones(2, 4, 4, dtype=torch.int64), None, "maps must be complex or floating point, got torch.int64"),
        (torch.full((2, 4, 4), math.nan), None, "maps must be finite"),
        (torch.ones(2, 4, 4), torch.ones(5, 4), r"mask must have shape \(4, 4\).*got \(5, 4\)"),
        (torch.ones(2, 4, 4), torch.ones(2, 4, 4), r"mask must have shape .*\(B, 1, 4, 4\).*got \(2, 4, 4\)"),
        (torch.ones(2, 4, 4), torch.ones(3, 2, 4, 4), r"mask must have shape .*got \(3, 2, 4, 4\)"),
        (torch.ones(2, 4, 4), torch.ones(1, 1, 1, 4, 4), "mask must have shape"),
        (torch.ones(2, 4, 4), torch.full((4, 4), 0.5), r"mask must hold 0 .*0\.5"),
        (torch.ones(2, 4, 4), torch.zeros(4, 4), r"at least one point.*batch members \[0\]"),
    ],
)
def test_errors(maps, mask, message):
    with pytest.raises(ValueError, match=message):
        Sense(maps, mask)


def test_errors_of_shapes():
    with pytest.raises(ValueError, match="dims must be 2"):
        Sense(torch.ones(2, 4, 4), dims=1)
    with pytest.raises(ValueError, match=r"with dims=3, got \(2, 4, 4\)"):
        Sense(torch.ones(2, 4, 4), dims=3)
    with pytest.raises(ValueError, match=r"shape must be \(H, W\) or \(D, H, W\), got \(4,\)"):
        Sense.single((4,))
    A = Sense.single((4, 4))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 4, 4\), got \(1, 1, 4, 5\)"):
        A(torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match=r"x must be floating point or complex"):
        A(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 1, 4, 4\), got \(1, 2, 4, 4\)"):
        A.adjoint(torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize("shape", [(6, 8), (3, 4, 5)], ids=str)
def test_an_empty_batch_gives_an_empty_batch(shape):
    A = Sense(randn(2, *shape), dims=len(shape))
    y = A(torch.zeros(0, 1, *shape, dtype=torch.complex128))
    assert y.shape == (0, 2, *shape)
    assert A.adjoint(y).shape == (0, 1, *shape)
    with pytest.raises(ValueError, match=r"mask must have shape .*got \(0, 1, 4, 4\)"):
        Sense(torch.ones(2, 4, 4), torch.ones(0, 1, 4, 4))
