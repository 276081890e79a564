"""What every encoding promises on complex images, held against its dense matrix; and that projectors refuse them.

Operators on real images face the contract of ``tests/inverse/operators/test_contract.py``.
"""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from inverse.operators import Gaussian, LinearOperator
from inverse.operators.solve import inner
from medical.operators import Projector, Sense
from tests.medical.operators.examples import COMPLEX, PROJECTORS

DTYPES = {torch.complex64: 1e-6, torch.complex128: 1e-12}

every = pytest.mark.parametrize("make", COMPLEX.values(), ids=COMPLEX.keys())
every_dtype = pytest.mark.parametrize(("dtype", "tolerance"), DTYPES.items(), ids=["complex64", "complex128"])
transformed = pytest.mark.parametrize("name", list(COMPLEX))
every_copy = pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda A: pickle.loads(pickle.dumps(A))], ids=["deepcopy", "pickle"]
)


def members(A: LinearOperator) -> int:
    """A batch that the operator takes: 2, or as many as it has masks."""
    return max(2, len(A.mask)) if isinstance(A, Sense) else 2


def randn(A: LinearOperator, side: str, seed: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    """A batch of images ("domain") or of measurements ("codomain")."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(members(A), *getattr(A, side), generator=g, dtype=torch.complex128).to(dtype)


def dense(A: LinearOperator) -> Tensor:
    """The matrix (members, m, n) of each batch member."""
    batch, n = members(A), math.prod(A.domain)
    basis = torch.eye(n, dtype=torch.complex128).view(n, 1, *A.domain).expand(n, batch, *A.domain)
    return torch.stack([A(e).flatten(1) for e in basis], -1)


def times(M: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bmn,bn->bm", M, v.flatten(1))


@every
@every_dtype
def test_linear_over_the_complex_numbers(make, dtype, tolerance):
    A = make()
    x, z = randn(A, "domain", 0, dtype), randn(A, "domain", 1, dtype)
    scale = float(A(x).norm() + A(z).norm())
    torch.testing.assert_close(A((0.5 - 2j) * x + 3j * z), (0.5 - 2j) * A(x) + 3j * A(z), atol=5 * tolerance * scale, rtol=0)
    assert A(torch.zeros_like(x)).abs().max() == 0
    assert A(1j * x.real).dtype == dtype
    torch.testing.assert_close(A(x.real) + 1j * A(x.imag), A(x), atol=5 * tolerance * scale, rtol=0)


@every
@every_dtype
def test_adjoint(make, dtype, tolerance):
    A = make()
    x, y = randn(A, "domain", 0, dtype), randn(A, "codomain", 1, dtype)
    ax, ahy = A(x), A.adjoint(y)
    assert ax.shape == y.shape
    assert ahy.shape == x.shape
    assert ax.dtype == ahy.dtype == dtype
    gap = inner(ax, y).flatten() - inner(x, ahy).flatten()
    assert float(gap.abs().max()) <= tolerance * float(ax.norm() * y.norm())
    assert A.adjointness() <= 1e-6  # those without complex buffers answer in float32


@every
def test_adjoint_is_the_conjugate_transpose(make):
    A = make()
    y, M = randn(A, "codomain", 1), dense(A)
    torch.testing.assert_close(A.adjoint(y).flatten(1), times(M.mH, y), atol=1e-11, rtol=1e-11)
    x = A.adjoint(y)
    torch.testing.assert_close(A.normal(x), A.adjoint(A(x)), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(A.H(y), x, atol=1e-14, rtol=1e-14)  # threads of FINUFFT add up in any order
    torch.testing.assert_close(A.H.H(x), A(x), atol=1e-14, rtol=1e-14)


@every
def test_derivatives(make):
    A = make()
    x, v = randn(A, "domain", 0).requires_grad_(), randn(A, "codomain", 1)
    (grad,) = torch.autograd.grad(A(x), x, v)
    torch.testing.assert_close(grad, A.adjoint(v), atol=1e-14, rtol=1e-14)
    assert torch.autograd.gradcheck(A, x, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(A, x, fast_mode=True)
    assert torch.autograd.gradcheck(A.adjoint, v.requires_grad_(), fast_mode=True)
    real = x.detach().real.clone().requires_grad_()
    (grad,) = torch.autograd.grad(A(real), real, v.detach())
    torch.testing.assert_close(grad, A.adjoint(v.detach()).real, atol=1e-14, rtol=1e-14)


@transformed
def test_forward_mode_and_what_it_leaves_behind(name):
    A, untouched = COMPLEX[name](), COMPLEX[name]()
    x = randn(A, "domain", 0)
    _, tangent = torch.func.jvp(A, (x,), (2j * x,))  # its tables are made in here
    torch.testing.assert_close(tangent, 2j * untouched(x), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(A(x), untouched(x), atol=0, rtol=0)


@transformed
def test_under_vmap(name):
    A, untouched = COMPLEX[name](), COMPLEX[name]()
    x = randn(A, "domain", 0)
    if name == "sense-mask-each":  # one mask a member: the batch of the operator is not that of vmap
        got = torch.vmap(A)(x[None].expand(3, *x.shape))
        torch.testing.assert_close(got, untouched(x)[None].expand_as(got), atol=1e-13, rtol=0)
        return
    torch.testing.assert_close(torch.vmap(lambda one: A(one[None])[0])(x), untouched(x), atol=1e-13, rtol=0)


@every
def test_prox(make):
    A = make()
    M, x, y = dense(A), randn(A, "domain", 0), randn(A, "codomain", 1)
    rho = torch.tensor([0.3, 2.0], dtype=torch.float64)
    N = M.mH @ M + rho[:, None, None] * torch.eye(M.shape[2])
    wanted = torch.linalg.solve(N, times(M.mH, y) + rho[:, None] * x.flatten(1))
    got = A.prox(x, y, rho, tolerance=1e-13, iterations=500)
    torch.testing.assert_close(got.flatten(1), wanted, atol=1e-9, rtol=0)
    assert A.prox(x.to(torch.complex64), y.to(torch.complex64), 0.5).dtype == torch.complex64


@every
def test_pinv(make):
    A = make()
    M, y = dense(A), randn(A, "codomain", 1)
    wanted = times(torch.linalg.pinv(M, rtol=1e-8), y)
    got = A.pinv(y, tolerance=1e-13, iterations=3000).flatten(1)
    torch.testing.assert_close(got, wanted, atol=1e-6 * float(wanted.norm()), rtol=0)


@every
def test_norm(make):
    A = make()
    assert A.norm(iterations=200) == pytest.approx(float(torch.linalg.matrix_norm(dense(A), 2).max()), rel=1e-6)


@every
@every_copy
def test_copies(make, duplicate):
    A = make()
    x, y = randn(A, "domain", 0), randn(A, "codomain", 1)
    wanted = A(x), A.adjoint(y), A.normal(x)
    B = duplicate(A)
    assert type(B) is type(A)
    assert repr(B) == repr(A)
    for got, expected in zip((B(x), B.adjoint(y), B.normal(x)), wanted, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-13, rtol=1e-13)


@every
def test_repr_names_the_operator(make):
    text = repr(make())
    assert text.startswith(f"{type(make()).__name__}(")
    assert text == repr(make())
    assert "\n" not in text


@every
def test_with_noise(make):
    A = make()
    noisy = A.with_noise(Gaussian(0.1))
    assert noisy.noise == Gaussian(0.1)
    assert A.noise != Gaussian(0.1)
    assert [b.data_ptr() for b in noisy.buffers()] == [b.data_ptr() for b in A.buffers()]
    x = randn(A, "domain", 0)
    assert torch.equal(noisy(x), A(x))
    assert torch.equal(noisy.measure(x, seed=3), noisy.measure(x, seed=3))
    assert not torch.equal(noisy.measure(x, seed=3), noisy.measure(x, seed=4))
    assert float((noisy.measure(x, seed=3) - A(x)).imag.abs().max()) > 0


@every
def test_casts_change_the_precision_and_nothing_else(make):
    A, B = make(), make().to(torch.float32)
    x, y = randn(A, "domain", 0), randn(A, "codomain", 1)
    assert all(b.dtype in (torch.complex64, torch.float32, torch.bool) for b in B.buffers())
    for got, wanted in ((B(x), A(x)), (B.adjoint(y), A.adjoint(y)), (B.normal(x), A.normal(x))):
        assert got.dtype == torch.complex128
        assert float((got - wanted).norm()) <= 1e-6 * float(wanted.norm())
    back = B.to(torch.float64)
    assert all(b.dtype in (torch.complex128, torch.float64, torch.bool) for b in back.buffers())


@every
def test_state_dict(make):
    A, B = make(), make()
    for buffer in B.buffers():
        buffer.fill_(1)
    B.load_state_dict(copy.deepcopy(A.state_dict()))
    if "spectrum" in dict(A.named_buffers()):
        assert "spectrum" not in A.state_dict()  # it follows from the trajectory, which the state does not hold
        return
    x = randn(A, "domain", 0)
    torch.testing.assert_close(B(x), A(x), atol=0, rtol=0)


@every
def test_a_batch_equals_its_members(make):
    A = make()
    x, y = randn(A, "domain", 0), randn(A, "codomain", 1)
    alone = A.members() if isinstance(A, Sense) else [A]
    for b in range(len(x)):
        one, B = slice(b, b + 1), alone[b % len(alone)]
        torch.testing.assert_close(A(x)[one], B(x[one]), atol=1e-12, rtol=0)
        torch.testing.assert_close(A.adjoint(y)[one], B.adjoint(y[one]), atol=1e-12, rtol=0)


@every
def test_input_is_left_alone(make):
    A = make()
    x, y = randn(A, "domain", 0), randn(A, "codomain", 1)
    before = x.clone(), y.clone()
    A(x).mul_(0)
    A.adjoint(y).mul_(0)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


@every
def test_strides_do_not_matter(make):
    A = make()
    x, y = randn(A, "domain", 0), randn(A, "codomain", 1)
    turned = x.movedim(-1, 1).contiguous().movedim(1, -1)
    torch.testing.assert_close(A(turned), A(x), atol=1e-13, rtol=0)
    torch.testing.assert_close(A(x.conj().resolve_conj().conj()), A(x), atol=1e-13, rtol=0)  # a lazy conjugate
    torch.testing.assert_close(A.adjoint(y.conj().resolve_conj().conj()), A.adjoint(y), atol=1e-13, rtol=0)


@every
def test_wrong_shape(make):
    A = make()
    with pytest.raises(ValueError, match=r"x must have shape \(B, .*got \(1, 2, 2, 2, 2, 2\)"):
        A(torch.zeros(1, 2, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"y must have shape \(B, .*got \(1, 1\)"):
        A.adjoint(torch.zeros(1, 1))


@pytest.mark.parametrize("make", PROJECTORS.values(), ids=PROJECTORS.keys())
def test_projectors_take_real_images_only(make):
    A: Projector = make()
    with pytest.raises(TypeError, match="project real and imaginary part apart"):
        A(torch.zeros(1, *A.domain, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"takes float32 and float64, got torch\.complex128"):
        A.adjoint(torch.zeros(1, *A.codomain, dtype=torch.complex128))


@pytest.mark.parametrize("make", PROJECTORS.values(), ids=PROJECTORS.keys())
def test_forward_mode_of_projectors(make):
    A: Projector = make()
    x = torch.rand(2, *A.domain, generator=torch.Generator().manual_seed(0))
    _, tangent = torch.func.jvp(A, (x,), (2 * x,))  # its tables are made in here
    assert torch.equal(tangent, make()(2 * x))
    assert torch.equal(A(x), make()(x))


@every_copy
@pytest.mark.parametrize("make", PROJECTORS.values(), ids=PROJECTORS.keys())
def test_copies_of_projectors(make, duplicate):
    A: Projector = make()
    x = torch.rand(2, *A.domain, generator=torch.Generator().manual_seed(0))
    y = A(x)
    B = duplicate(A)
    assert (B.volume, B.beam, B.model, B.noise) == (A.volume, A.beam, A.model, A.noise)
    assert repr(B) == repr(A)
    assert torch.equal(B(x), y)
    assert torch.equal(B.adjoint(y), A.adjoint(y))
