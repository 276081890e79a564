"""The smooth start against the linear system it solves."""

from __future__ import annotations

import pytest
import torch

from inverse.operators import Blur, Downsample, Inpaint
from inverse.samplers.start import GRADIENT_STD, _laplacian, smooth_start

SHAPE = (1, 8, 12)
HOLE = torch.ones(SHAPE)
HOLE[:, 2:6, 3:9] = 0


@pytest.mark.parametrize("A", [Inpaint(HOLE), Blur.gaussian(1.0), Downsample.area(2)], ids=["hole", "blur", "area"])
def test_it_is_the_dense_solution(A):
    y = A(torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)))
    eye = torch.eye(96).view(96, *SHAPE)
    D, L = A(eye).flatten(1).T.double(), _laplacian(eye).flatten(1).T.double()
    wanted = torch.linalg.solve(D.T @ D + (0.05 / GRADIENT_STD) ** 2 * L, D.T @ y.flatten().double())
    torch.testing.assert_close(smooth_start(A, y, 0.05).flatten().double(), wanted, atol=1e-3, rtol=0)


def test_a_hole_in_a_plane_is_filled_with_the_plane():
    """A linear ramp is harmonic: the least gradient, given its surroundings."""
    ramp = torch.linspace(0.2, 0.8, 64).expand(1, 1, 40, 64).contiguous()
    mask = torch.ones(1, 40, 64)
    mask[:, 10:30, 20:40] = 0
    filled = smooth_start(Inpaint(mask), mask * ramp, 0.0)
    assert (filled - ramp)[..., 2:-2, 2:-2].abs().max() < 0.02


def test_the_laplacian_is_symmetric_and_ignores_constants():
    u, v = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close((_laplacian(u) * v).sum(), (u * _laplacian(v)).sum())
    assert (_laplacian(u) * u).sum() > 0
    assert _laplacian(torch.ones(1, *SHAPE)).abs().max() == 0
