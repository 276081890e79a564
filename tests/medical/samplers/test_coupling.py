"""Differences between slices against their matrices."""

import pytest
import torch

from medical.samplers.coupling import Coupling, difference, difference_adjoint, shrink
from tests.medical.classical.problems import randn

ALL = [Coupling(axes=axes, periodic=periodic) for axes in ("z", "zyx") for periodic in (False, True)]


@pytest.mark.parametrize("coupling", ALL, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_adjoint(coupling, dtype):
    x = randn(5, 2, 3, 4, dtype=dtype)
    v = randn(*coupling(x).shape, seed=1, dtype=dtype)
    left, right = torch.vdot(coupling(x).flatten(), v.flatten()), torch.vdot(x.flatten(), coupling.adjoint(v).flatten())
    assert abs(left - right) < 1e-12 * abs(left)


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_entries(axis):
    x = randn(4, 2, 4, 4)
    inner, last = difference(x, axis), difference(x, axis, periodic=True)
    where = [slice(None)] * 4
    for n in range(4):
        where[axis] = n
        here = x[tuple(where)]
        where[axis] = (n + 1) % 4
        step = x[tuple(where)] - here
        where[axis] = n
        assert torch.equal(last[tuple(where)], step)
        assert torch.equal(inner[tuple(where)], step if n < 3 else 0 * step), "where the volume ends, nothing"


@pytest.mark.parametrize("coupling", ALL, ids=str)
def test_bound_of_the_norm(coupling):
    shape = (6, 1, 6, 6)
    basis = torch.eye(216, dtype=torch.float64).view(216, *shape)
    D = torch.stack([coupling(e).flatten() for e in basis], 1)
    norm = float(torch.linalg.matrix_norm(D, 2)) ** 2
    bound = 4 * len(coupling(torch.zeros(shape)))
    assert 0.9 * bound < norm <= bound * (1 + 1e-12)


def test_adjoint_does_not_read_the_difference_beyond_the_end():
    v = randn(4, 1, 2, 2)
    other = v.clone()
    other[-1] = 7.0
    assert torch.equal(difference_adjoint(v, 0), difference_adjoint(other, 0))


def test_shrink_is_the_proximal_map():
    v = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert shrink(v, 1.0).tolist() == [-2.0, 0.0, 0.0, 0.0, 2.0]
    z = randn(50, dtype=torch.complex128)
    got = shrink(z, 0.4)
    torch.testing.assert_close(got.abs(), (z.abs() - 0.4).clamp(min=0))
    kept = got.abs() > 0
    torch.testing.assert_close(got[kept].angle(), z[kept].angle())
    assert bool(torch.isfinite(torch.view_as_real(shrink(torch.zeros(3, dtype=torch.complex64), 0.0))).all())


def test_unknown_axes():
    with pytest.raises(ValueError, match="axes must be one of z, zyx, got 'y'"):
        Coupling(axes="y")
