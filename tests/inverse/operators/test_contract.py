"""What every linear operator promises, held against its dense matrix in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from inverse.operators import Gaussian, LinearOperator
from inverse.operators.filters import _toeplitz, decompose
from inverse.operators.fourier import _half_plane
from inverse.operators.hadamard import _hadamard_matrix
from tests.inverse.operators import examples
from tests.medical.operators.examples import REAL as MEDICAL

OPERATORS = {**examples.OPERATORS, **MEDICAL}
DTYPES = {torch.float32: 1e-5, torch.float64: 1e-10}

every = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())
every_dtype = pytest.mark.parametrize(("dtype", "tolerance"), DTYPES.items(), ids=lambda v: str(v).removeprefix("torch."))


def randn(batch: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def dense(A: LinearOperator) -> Tensor:
    """The matrix (m, n) of an operator in float64."""
    n = torch.Size(A.domain).numel()
    return A(torch.eye(n, dtype=torch.float64).view(n, *A.domain)).flatten(1).mT


@every
@every_dtype
def test_linear(make, dtype, tolerance):
    A = make().to(dtype)
    x, z = randn(2, A.domain, 0, dtype), randn(2, A.domain, 1, dtype)
    torch.testing.assert_close(A(0.5 * x - 3 * z), 0.5 * A(x) - 3 * A(z), atol=10 * tolerance, rtol=0)
    assert A(torch.zeros_like(x)).abs().max() == 0


@every
@every_dtype
def test_adjoint(make, dtype, tolerance):
    A = make().to(dtype)
    x, y = randn(3, A.domain, 0, dtype), randn(3, A.codomain, 1, dtype)
    ax, aty = A(x), A.adjoint(y)
    assert ax.shape == y.shape
    assert aty.shape == x.shape
    assert ax.dtype == aty.dtype == dtype
    gap = (ax * y).sum() - (x * aty).sum()
    assert gap.abs() <= tolerance * ax.norm() * y.norm()
    assert A.adjointness() <= max(tolerance, 1e-6)  # operators without buffers answer in float32


@every
def test_adjoint_is_the_transpose(make):
    A = make().double()
    y = randn(2, A.codomain, 1)
    torch.testing.assert_close(A.adjoint(y).flatten(1), y.flatten(1) @ dense(A), atol=1e-12, rtol=0)
    torch.testing.assert_close(A.normal(A.adjoint(y)), A.adjoint(A(A.adjoint(y))), atol=0, rtol=0)


@every
def test_derivatives(make):
    A = make().double()
    x = randn(1, A.domain, 0).requires_grad_()
    v = randn(1, A.codomain, 1)
    (grad,) = torch.autograd.grad(A(x), x, v)
    assert torch.equal(grad, A.adjoint(v))
    assert torch.autograd.gradcheck(A, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(A, x)
    value, tangent = torch.func.jvp(A, (x.detach(),), (2 * x.detach(),))
    torch.testing.assert_close(tangent, 2 * value, atol=1e-14, rtol=1e-12)


@every
def test_under_vmap(make):
    A = make().double()
    x = randn(4, A.domain, 0)
    torch.testing.assert_close(torch.vmap(lambda one: A(one[None])[0])(x), A(x), atol=1e-14, rtol=0)


@every
def test_pinv(make):
    A = make().double()
    y = randn(2, A.codomain, 1)
    wanted = y.flatten(1) @ torch.linalg.pinv(dense(A), rtol=1e-6).mT
    torch.testing.assert_close(A.pinv(y, tolerance=1e-12, iterations=5000).flatten(1), wanted, atol=1e-6, rtol=1e-6)


@every
def test_prox(make):
    A = make().double()
    M = dense(A)
    x, y, rho = randn(2, A.domain, 0), randn(2, A.codomain, 1), torch.tensor([0.3, 2.0], dtype=torch.float64)
    wanted = [
        torch.linalg.solve(M.mT @ M + r * torch.eye(M.shape[1], dtype=torch.float64), M.mT @ v.flatten() + r * u.flatten())
        for u, v, r in zip(x, y, rho, strict=True)
    ]
    torch.testing.assert_close(A.prox(x, y, rho, tolerance=1e-12).flatten(1), torch.stack(wanted), atol=1e-9, rtol=0)
    torch.testing.assert_close(A.prox(x[:1], y[:1], 0.3, tolerance=1e-12).flatten(1), wanted[0][None], atol=1e-9, rtol=0)


@every
def test_svd(make):
    A = make().double()
    svd = A.svd()
    if svd is None:
        pytest.skip("no closed form")
    M = dense(A)
    m, n = M.shape
    x, y, c = randn(2, A.domain, 0), randn(2, A.codomain, 1), randn(2, (n,), 2)
    assert svd.s.shape == (n,)
    assert svd.s.dtype == torch.float64
    wanted = torch.cat([torch.linalg.svdvals(M), torch.zeros(max(0, n - m), dtype=torch.float64)])
    torch.testing.assert_close(svd.s.sort(descending=True).values, wanted, atol=1e-7, rtol=0)
    torch.testing.assert_close(svd.U(svd.s * svd.Vh(x)), A(x), atol=1e-7, rtol=0)
    torch.testing.assert_close(svd.V(svd.s * svd.Uh(y)), A.adjoint(y), atol=1e-7, rtol=0)
    torch.testing.assert_close(svd.V(svd.Vh(x)), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(svd.Vh(svd.V(c)), c, atol=1e-12, rtol=0)
    seen = svd.s > 1e-6
    torch.testing.assert_close(svd.Uh(svd.U(c * seen)) * seen, c * seen, atol=1e-12, rtol=0)


@every
def test_thin_svd(make):
    A = make().double()
    svd = A.svd()
    if svd is None or svd.thin is None:
        pytest.skip("no null space to leave out")
    thin, x, y = svd.thin, randn(2, A.domain, 0), randn(2, A.codomain, 1)
    assert int((thin.s > 0).sum()) == int((svd.s > 0).sum()) <= len(thin.s) <= len(svd.s)
    c = randn(2, tuple(thin.s.shape), 2)
    torch.testing.assert_close(thin.U(thin.s * thin.Vh(x)), A(x), atol=1e-7, rtol=0)
    torch.testing.assert_close(thin.V(thin.s * thin.Uh(y)), A.adjoint(y), atol=1e-7, rtol=0)
    torch.testing.assert_close(thin.Vh(thin.V(c)), c, atol=1e-12, rtol=0)


@every
def test_norm(make):
    A = make().double()
    iterations = 200 if make in MEDICAL.values() else 2000  # some blurs have largest singular values close together
    assert A.norm(iterations=iterations) == pytest.approx(float(torch.linalg.svdvals(dense(A))[0]), rel=1e-6)


@every
def test_a_batch_equals_its_members(make):
    A = make()
    x, y = randn(3, A.domain, 0, torch.float32), randn(3, A.codomain, 1, torch.float32)
    one = slice(1, 2)
    torch.testing.assert_close(A(x)[one], A(x[one]), atol=1e-6, rtol=0)
    torch.testing.assert_close(A.adjoint(y)[one], A.adjoint(y[one]), atol=1e-6, rtol=0)
    torch.testing.assert_close(A.prox(x, y, 0.5)[one], A.prox(x[one], y[one], 0.5), atol=1e-5, rtol=0)


@every
def test_input_is_left_alone(make):
    A = make()
    x = randn(1, A.domain, 0, torch.float32)
    before = x.clone()
    A(x).mul_(0)
    assert torch.equal(x, before)


@pytest.mark.parametrize("make", examples.OPERATORS.values(), ids=examples.OPERATORS.keys())  # projectors take real images
def test_complex_images(make):
    A = make().double()
    x = torch.complex(randn(1, A.domain, 0), randn(1, A.domain, 1))
    torch.testing.assert_close(A(x), torch.complex(A(x.real), A(x.imag)), atol=1e-13, rtol=0)
    y = torch.complex(randn(1, A.codomain, 2), randn(1, A.codomain, 3))
    torch.testing.assert_close(A.adjoint(y), torch.complex(A.adjoint(y.real), A.adjoint(y.imag)), atol=1e-13, rtol=0)


@every
def test_repr_names_the_operator(make):
    A = make()
    text = repr(A)
    assert text.startswith(f"{type(A).__name__}(")
    assert text == repr(make())


@every
def test_state_dict(make):
    A, B = make(), make()
    for buffer in B.buffers():
        buffer.fill_(1)
    B.load_state_dict(copy.deepcopy(A.state_dict()))
    x = randn(1, A.domain, 0, torch.float32)
    torch.testing.assert_close(B(x), A(x), atol=0, rtol=0)
    if A.svd() is not None:
        torch.testing.assert_close(B.svd().s, A.svd().s, atol=0, rtol=0)


@every
def test_wrong_shape(make):
    A = make()
    with pytest.raises(ValueError, match=r"x must have shape \(B, .*got \(1, 2, 2, 2, 2\)"):
        A(torch.zeros(1, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"y must have shape \(B, .*got \(1, 1\)"):
        A.adjoint(torch.zeros(1, 1))


@every
def test_with_noise(make):
    A = make()
    noisy = A.with_noise(Gaussian(0.1))
    assert noisy.noise == Gaussian(0.1)
    assert A.noise != Gaussian(0.1)
    assert [b.data_ptr() for b in noisy.buffers()] == [b.data_ptr() for b in A.buffers()]
    x = randn(1, A.domain, 0, torch.float32)
    assert torch.equal(noisy(x), A(x))
    assert torch.equal(noisy.measure(x, seed=3), noisy.measure(x, seed=3))
    assert not torch.equal(noisy.measure(x, seed=3), noisy.measure(x, seed=4))
    noisy.double()
    assert all(b.dtype != torch.float64 for b in A.buffers())


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_sixteen_bits_are_computed_in_float32(make, dtype):
    A = make()
    x, y = randn(2, A.domain, 0).to(dtype), randn(2, A.codomain, 1).to(dtype)
    for got, wanted in (
        (A(x), A(x.float())),
        (A.adjoint(y), A.adjoint(y.float())),
        (A.pinv(y, tolerance=1e-2), A.pinv(y.float(), tolerance=1e-2)),
        (A.prox(x=x, y=y, rho=0.5), A.prox(x.float(), y.float(), 0.5)),
    ):
        assert torch.equal(got, wanted.to(dtype))


@every
def test_autocast_changes_nothing(make):
    A = make()
    x, y = randn(2, A.domain, 0, torch.float32), randn(2, A.codomain, 1, torch.float32)
    wanted = A(x), A.adjoint(y), A.pinv(y, tolerance=1e-2), A.prox(x, y, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = A(x), A.adjoint(y), A.pinv(y, tolerance=1e-2), A.prox(x, y, 0.5)
        (grad,) = torch.autograd.grad(A(x.requires_grad_()), x, y)
    for a, b in zip((*got, grad), (*wanted, wanted[1]), strict=True):
        assert torch.equal(a, b)


@every
def test_what_inference_mode_leaves_behind_can_be_differentiated(make):
    for cached in (_toeplitz, decompose, _hadamard_matrix, _half_plane):
        cached.cache_clear()
    with torch.inference_mode():
        A = make()
        inside = A.prox(randn(1, A.domain, 0, torch.float32), randn(1, A.codomain, 1, torch.float32), 0.5)
    y, x = randn(1, A.codomain, 1, torch.float32), randn(1, A.domain, 0, torch.float32).requires_grad_()
    torch.testing.assert_close(A.prox(x, y, 0.5).detach(), inside.clone(), atol=1e-6, rtol=0)
    (grad,) = torch.autograd.grad(make().prox(x, y, 0.5).sum(), x)
    assert bool(grad.isfinite().all())
    (grad,) = torch.autograd.grad(A(x).sum(), x)
    torch.testing.assert_close(grad, A.adjoint(torch.ones_like(y)), atol=1e-6, rtol=0)
