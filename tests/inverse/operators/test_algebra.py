"""Operators made of operators, and the solver behind those without a closed form."""

import pytest
import torch

from inverse.operators import Blur, Downsample, Grayscale, Identity, Inpaint, LinearOperator, Operator, Quantize, stack
from inverse.operators.algebra import Chain, Composed
from inverse.operators.noise import Gaussian
from inverse.operators.solve import conjugate_gradient, inner
from tests.inverse.operators.examples import crooked


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A = Blur(crooked(3, 2), shape=(3, 4, 4)).double()
B = Blur(crooked(2, 4), "circular", shape=(3, 4, 4)).double()
x, y = rand(2, 3, 4, 4), rand(2, 3, 4, 4, seed=1)


class Square(Operator):
    """A nonlinear operator."""

    def _apply_operator(self, x):
        return x**2


@pytest.mark.parametrize(
    ("operator", "wanted"),
    [
        (A @ B, lambda: A(B(x))),
        (A + B, lambda: A(x) + B(x)),
        (A - 2 * B, lambda: A(x) - 2 * B(x)),
        (-A, lambda: -A(x)),
        (A * 3, lambda: 3 * A(x)),
        (A.H, lambda: A.adjoint(x)),
        (A.H.H, lambda: A(x)),
        ((A @ B).H, lambda: B.adjoint(A.adjoint(x))),
        (Square() @ A, lambda: A(x) ** 2),
        (stack(A, Identity()), lambda: torch.cat([A(x).flatten(1), x.flatten(1)], 1)),
    ],
    ids=["compose", "add", "subtract", "negate", "scale", "adjoint", "twice", "reversed", "chain", "stack"],
)
def test_algebra(operator, wanted):
    torch.testing.assert_close(operator(x), wanted(), atol=1e-14, rtol=0)


def test_linear_only_if_both_are():
    assert isinstance(A @ B, Composed)
    assert isinstance(A @ B, LinearOperator)
    chain = Square() @ A
    assert isinstance(chain, Chain)
    assert "\n" not in repr(chain)
    assert not chain.linear
    assert chain.domain == chain.codomain == (3, 4, 4)


def test_the_start_of_a_chain_goes_backwards():
    chain = Quantize(8) @ (0.5 * Identity())
    torch.testing.assert_close(chain.pinv(chain(x)), x, atol=1 / 255, rtol=0)
    with pytest.raises(TypeError, match=r"Square\(\) has no pinv"):
        (Square() @ A).pinv(x)
    assert repr(stack(Identity((3, 4, 4)), noise=Gaussian(0.1))) == "Stack(Identity(domain=(3, 4, 4)), domain=(3, 4, 4))"


def test_complex_factor():
    C = (1 - 2j) * A
    z = torch.complex(y, y.flip(-1))
    assert torch.allclose(inner(C(x), z), inner(torch.complex(x, 0 * x), C.adjoint(z)), atol=1e-13)
    assert C.norm() == pytest.approx(5**0.5 * A.norm(), rel=1e-4)
    D = (0.6 - 0.8j) * B
    assert torch.allclose(D.pinv(D(x)).real, x, atol=1e-8)
    D = 2j * Identity()
    assert torch.allclose(D.pinv(D(x)).real, x)
    assert D.isometry == 4


def test_gradient_of_a_complex_measurement():
    C = (1 - 2j) * A
    u = x.clone().requires_grad_()
    C(u).abs().square().sum().backward()
    assert u.grad.dtype == torch.float64
    torch.testing.assert_close(u.grad, 2 * 5 * A.normal(x), atol=1e-13, rtol=0)


def test_domains():
    assert (Inpaint(torch.eye(4)[None]) @ Grayscale()).domain is None  # a mask of one channel fits any
    assert (Inpaint(torch.eye(4).expand(2, 4, 4)) @ Downsample.area(2)).domain == (2, 8, 8)
    assert stack(A, Grayscale()).codomain == (48 + 16,)
    with pytest.raises(ValueError, match=r"cannot compose: .* takes \(3, 4, 4\), but .* gives \(3, 2, 2\)"):
        A @ Downsample.area(2, shape=(3, 4, 4))
    with pytest.raises(ValueError, match=r"cannot add: .*\(3, 4, 4\) to \(3, 4, 4\), but .*\(3, 4, 4\) to \(1, 4, 4\)"):
        A + Grayscale(shape=(3, 4, 4))
    with pytest.raises(ValueError, match=r"stack needs operators that agree on one known domain, got none"):
        stack(Identity(), Grayscale())
    with pytest.raises(ValueError, match="multiples of 2, got 5 x 4"):
        (Blur(crooked(2, 2)) @ Downsample.area(2))(torch.zeros(1, 1, 5, 4))


def test_stack_splits():
    S = stack(A, Downsample.area(2), Grayscale())
    parts = S.split(S(x))
    torch.testing.assert_close(parts[0], A(x), atol=0, rtol=0)
    assert [tuple(p.shape) for p in parts] == [(2, 3, 4, 4), (2, 3, 2, 2), (2, 1, 4, 4)]


def test_noise_of_the_whole():
    noisy = A.with_noise(Gaussian(0.2))
    assert (noisy @ B).noise == Gaussian(0.2)
    assert (2 * noisy).noise == Gaussian(0.2)
    assert stack(A, B, noise=Gaussian(0.1)).noise == Gaussian(0.1)


def test_moving_a_copy_with_noise_leaves_the_members_alone():
    whole = Blur(crooked(2, 2)) @ Blur(crooked(3, 3))
    whole.with_noise(Gaussian(0.1)).double()
    assert whole.A.kernel.dtype == torch.float32


def positive(n, seed):
    M = rand(n, n, seed=seed)
    return M @ M.mT + 0.1 * torch.eye(n, dtype=torch.float64)


def test_conjugate_gradients_against_a_dense_solution():
    N = torch.stack([positive(8, 0), 100 * positive(8, 1)])
    b = rand(2, 8)
    got = conjugate_gradient(lambda v: (N @ v[..., None])[..., 0], b, torch.zeros_like(b), iterations=100, tolerance=1e-12)
    torch.testing.assert_close(got, torch.linalg.solve(N, b), atol=1e-10, rtol=0)


def test_each_member_converges_at_its_own_pace():
    """An easy and a hard member together give what each gives alone, bit for bit."""
    N = torch.stack([torch.eye(8, dtype=torch.float64), positive(8, 1)])
    b = rand(2, 8)

    def solve(members):
        return conjugate_gradient(
            lambda v: (N[members] * v[:, None]).sum(-1), b[members], torch.zeros_like(b[members]), iterations=5, tolerance=1e-8
        )

    together = solve(slice(None))
    assert torch.equal(together[:1], b[:1])
    assert torch.equal(together[:1], solve(slice(0, 1)))
    assert torch.equal(together[1:], solve(slice(1, 2)))


def test_conjugate_gradients_stand_still_in_the_null_space():
    N = torch.diag(torch.tensor([1.0, 0.0]))
    got = conjugate_gradient(lambda v: v @ N, torch.tensor([[2.0, 3.0]]), torch.zeros(1, 2), iterations=50)
    assert bool(got.isfinite().all())
    start = torch.tensor([[0.0, 5.0]])
    assert conjugate_gradient(lambda v: v @ N, torch.tensor([[2.0, 0.0]]), start, iterations=50).tolist() == [[2.0, 5.0]]


def test_complex_conjugate_gradients():
    M = torch.complex(rand(6, 6), rand(6, 6, seed=1))
    N = M @ M.mH + torch.eye(6)
    b = torch.complex(rand(1, 6), rand(1, 6, seed=2))
    got = conjugate_gradient(lambda v: v @ N.mT, b, torch.zeros_like(b), iterations=50, tolerance=1e-12)
    torch.testing.assert_close(got[0], torch.linalg.solve(N, b[0]), atol=1e-9, rtol=0)
