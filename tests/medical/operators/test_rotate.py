"""Rotate and sum against its dense matrix, closed forms, the ray-driven projector, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medical.geometry import ParallelBeam, Volume
from medical.operators import Projector, RotateRadon


def blob(W: int, column: float, upwards: float, width: float = 3.0) -> Tensor:
    """A Gaussian at pixels (column, upwards) from the middle of the picture, (1, 1, W, W), float64."""
    u = torch.arange(W, dtype=torch.float64) - (W - 1) / 2
    x, y = u[None, :] - column, -u[:, None] - upwards
    return torch.exp(-(x**2 + y**2) / (2 * width**2))[None, None]


def centroid(profile: Tensor) -> float:
    u = torch.arange(len(profile), dtype=torch.float64) - (len(profile) - 1) / 2
    return float((profile * u).sum() / profile.sum())


@pytest.mark.parametrize(("W", "P", "shift"), [(7, 10, 0.5), (9, 13, 0.0), (16, 23, 0.5), (24, 34, 0.0)])
def test_where_a_point_is_seen(W, P, shift):
    """At ``u = X cos theta + Y sin theta``, beside the axis by what the padding leaves over."""
    A = RotateRadon(W, (0.0, 0.4, math.pi / 2, 2.1))
    y = A(blob(W, 0.7, -0.3, 0.8))
    assert y.shape == (1, 1, P, 4)
    # the picture's centre on the padded grid: even in odd leaves it half a pixel before the axis, odd in even behind it
    left = P // 2 - W // 2 + (W - 1) / 2 - (P - 1) / 2
    assert abs(left) == shift
    for view, theta in enumerate(A.angles):
        wanted = (0.7 + left) * math.cos(theta) + (-0.3 - left) * math.sin(theta)
        assert centroid(y[0, 0, :, view]) == pytest.approx(wanted, abs=0.02)


def test_mass_is_kept():
    x = blob(24, 1.0, 2.0, 2.5)
    y = RotateRadon.sparse(24, 7)(x)
    torch.testing.assert_close(y.sum((0, 1, 2)), x.sum().expand(7), rtol=1e-3, atol=0)


def test_views_along_the_axes_are_sums():
    x = torch.rand(2, 1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = RotateRadon.sparse(9, 2)(x)
    torch.testing.assert_close(y[:, 0, 2:11, 0], x.sum(2)[:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(y[:, 0, 2:11, 1], x.sum(3)[:, 0].flip(1), rtol=0, atol=1e-12)  # theta = 90: u is upwards
    assert y[:, 0, :2].abs().max() < 1e-12


def test_agrees_with_the_ray_driven_projector():
    """Of a smooth picture, the half pixel between the two centres put into the volume."""
    W, A = 30, RotateRadon.sparse(30, 6)
    left = A.columns // 2 - W // 2 + (W - 1) / 2 - (A.columns - 1) / 2
    assert left == -0.5
    volume = Volume((W, W), 1.0, (-left, left))  # (y, x), y upwards
    x = blob(W, 4.0, -3.0) - 0.4 * blob(W, -5.0, 2.0)
    exact = Projector(volume, ParallelBeam(A.angles, A.columns))(x)
    assert (A(x).mT - exact).norm() < 0.02 * exact.norm()
    other = Projector(Volume((W, W)), ParallelBeam(A.angles, A.columns))(x)  # its centre on the axis: shifted by half a pixel
    assert (A(x).mT - other).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("W", [15, 16])
def test_angles(W):
    assert RotateRadon.sparse(W, 4).angles == pytest.approx([0, math.pi / 4, math.pi / 2, 3 * math.pi / 4])
    assert RotateRadon.limited(W, 3).angles == pytest.approx([0, math.pi / 180, math.pi / 90])
    assert RotateRadon(W, torch.tensor([0.1, 0.2])).columns == math.ceil(math.sqrt(2) * W)


@pytest.mark.parametrize("views", [1, 2])
def test_the_official_back_projection_is_the_adjoint_for_two_views(views):
    y = torch.randn(3, 1, 23, views, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = RotateRadon.sparse(16, views).adjoint(y)
    official = RotateRadon.sparse(16, views, matched=False).adjoint(y)
    torch.testing.assert_close(official, math.pi / (2 * views) * exact, rtol=0, atol=1e-12)


def test_the_official_back_projection_is_near_the_adjoint():
    y = RotateRadon.sparse(32, 12)(blob(32, 3.0, -2.0, 4.0))
    exact = math.pi / 24 * RotateRadon.sparse(32, 12).adjoint(y)
    official = RotateRadon.sparse(32, 12, matched=False).adjoint(y)
    assert 1e-4 < float((official - exact).norm() / exact.norm()) < 0.05
    assert RotateRadon.sparse(32, 12, matched=False).adjointness() > 1e-3


@pytest.mark.parametrize(("W", "views"), [(24, 4), (28, 9)])
def test_norm(W, views):
    """``|A|^2 = 1.52 W 2 views / pi``, and 1.52 W for the official pair."""
    assert RotateRadon.sparse(W, views).norm(iterations=12) ** 2 == pytest.approx(1.52 * W * 2 * views / math.pi, rel=0.03)
    A = RotateRadon.sparse(W, views, matched=False)
    assert A.norm(iterations=12) ** 2 == pytest.approx(1.52 * W, rel=0.03)


def test_fbp():
    """With many views it gives a smooth picture back; it is linear, and no scale is left over."""
    W, A = 48, RotateRadon.sparse(48, 90)
    x = blob(W, 3.0, -6.0, 4.0) + 0.5 * blob(W, -8.0, 2.0, 5.0)
    found = A.fbp(A(x))
    assert (found - x).norm() < 0.03 * x.norm()
    assert float(found.max()) == pytest.approx(float(x.max()), rel=0.03)
    torch.testing.assert_close(A.fbp(2 * A(x)), 2 * found, rtol=0, atol=1e-12)


def test_slices_do_not_touch():
    A = RotateRadon(11, (0.3, 1.9))
    x = torch.rand(4, 1, 11, 11, generator=torch.Generator().manual_seed(2))
    y = A(x)
    for i in range(4):
        torch.testing.assert_close(A(x[i : i + 1]), y[i : i + 1], rtol=0, atol=1e-6)
        torch.testing.assert_close(A.adjoint(y[i : i + 1]), A.adjoint(y)[i : i + 1], rtol=0, atol=1e-5)
    assert A(x[:0]).shape == (0, 1, 16, 2)
    assert A.adjoint(y[:0]).shape == (0, 1, 11, 11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RotateRadon(1, (0.0,)), "size must be"),
        (lambda: RotateRadon(8, ()), "angles must be"),
        (lambda: RotateRadon(8, torch.zeros(2, 2)), "angles must be"),
        (lambda: RotateRadon(8, (0.0, math.nan)), "angles must be"),
        (lambda: RotateRadon.sparse(8, 0), "views must be"),
        (lambda: RotateRadon.limited(8, -3), "views must be"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_shapes():
    A = RotateRadon.sparse(8, 3)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\)"):
        A(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 1, 12, 3\)"):
        A.fbp(torch.zeros(1, 1, 3, 12))
    assert repr(RotateRadon.sparse(8, 3, matched=False)) == "RotateRadon(size=8, views=3, matched=False)"
