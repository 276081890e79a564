"""Siddon's projector against the definition: all faces that a ray meets, sorted, and the voxel between each two of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medical.geometry import ParallelBeam, VectorBeam, Volume
from medical.operators import Projector
from tests.medical.operators.examples import FLAT, SOLID, random_geometry


def sorted_faces(x: Tensor, volume: Volume, point: Tensor, way: Tensor) -> float:
    """``sum of x * length`` along one line, by sorting where it meets the planes between voxels; ``way`` of length one."""
    axes = [volume.axis(k - volume.ndim) for k in range(volume.ndim)]
    order = [2, 1, 0][3 - volume.ndim :]  # world axes of z, y, x
    meets = []
    for axis, h, k in zip(axes, volume.spacing, order, strict=True):
        faces = torch.cat([axis.min()[None] - h / 2, axis.sort().values + h / 2])
        if way[k] != 0:
            meets.append((faces - point[k]) / way[k])
    s = torch.cat(meets).sort().values
    middles = point + (s[1:, None] + s[:-1, None]) / 2 * way
    total = torch.zeros((), dtype=torch.float64)
    for middle, length in zip(middles, s.diff(), strict=True):
        index = [int((axis - middle[k]).abs().argmin()) for axis, k in zip(axes, order, strict=True)]
        inside = all(
            abs(float(axis[i] - middle[k])) < h / 2 for axis, i, k, h in zip(axes, index, order, volume.spacing, strict=True)
        )
        total += length * x[tuple(index)] if inside else 0
    return float(total)


@pytest.mark.parametrize("kind", FLAT + SOLID)
def test_lengths_between_sorted_faces(kind):
    for seed in (0, 10, 30):
        volume, beam = random_geometry(kind, seed)
        x = torch.randn(volume.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        got = Projector(volume, beam, model="siddon", truncated=True)(x[None, None])[0, 0].view(beam.rays().shape)
        points, ways = beam.rays().lines()
        for view, row, column in ((0, 0, 1), (1, -1, 2), (3, 0, -1), (2, got.shape[1] // 2, got.shape[2] // 2)):
            wanted = sorted_faces(x, volume, points[view, row, column], ways[view, row, column])
            assert float(got[view, row, column]) == pytest.approx(wanted, abs=1e-11)


def test_a_uniform_box_gives_the_chord():
    volume = Volume((6, 9), (1.5, 0.8))
    beam = ParallelBeam((0.3, 1.2, 2.2), 13)
    y = Projector(volume, beam, model="siddon")(torch.full((1, 1, 6, 9), 2.0, dtype=torch.float64))[0, 0]
    points, ways = (t[:, 0, :, :2] for t in beam.rays().lines())
    half = torch.tensor([9 * 0.8, 6 * 1.5], dtype=torch.float64) / 2
    first, second = (-half - points) / ways, (half - points) / ways
    chord = (torch.maximum(first, second).min(-1).values - torch.minimum(first, second).max(-1).values).clamp(min=0)
    assert float(chord.max()) > 7
    torch.testing.assert_close(y, 2 * chord, atol=1e-12, rtol=0)


def test_on_a_face_the_voxel_at_the_larger_coordinate_counts():
    x = torch.arange(1.0, 17).view(1, 1, 4, 4).double()
    down = Projector(Volume((4, 4)), ParallelBeam((0.0,), 5), model="siddon", truncated=True)(x)[0, 0, 0]
    columns = x[0, 0].sum(0)
    torch.testing.assert_close(down, torch.cat([columns, torch.zeros(1, dtype=torch.float64)]), atol=1e-12, rtol=0)
    exact = (0.0, -1.0, 0.0)  # along the rows, without a rounding error in the direction
    along = VectorBeam(((1.0, 0.0, 0.0),), ((0.0, 0.0, 0.0),), (exact,), ((0.0, 0.0, 1.0),), 5, parallel=True)
    across = Projector(Volume((4, 4)), along, model="siddon")(x)[0, 0, 0]  # u = -y: rows from the top
    rows = x[0, 0].sum(1)
    torch.testing.assert_close(across, torch.cat([torch.zeros(1, dtype=torch.float64), rows]), atol=1e-12, rtol=0)


def test_corners_are_met_once():
    """Rays through corners of pixels: each length is counted once, whatever the order of faces that coincide."""
    for angle in (math.pi / 4, 3 * math.pi / 4, math.atan(0.5), math.atan(2)):
        beam = ParallelBeam((angle, angle + math.pi), 1)
        y = Projector(Volume((8, 8)), beam, model="siddon", truncated=True)(torch.ones(1, 1, 8, 8, dtype=torch.float64))
        chord = 8 / max(abs(math.cos(angle)), abs(math.sin(angle)))
        torch.testing.assert_close(y[0, 0, :, 0], torch.full((2,), chord, dtype=torch.float64), atol=1e-11, rtol=0)


def test_rays_beside_the_grid_give_zero():
    A = Projector(Volume((4, 4), centre=(0.0, 20.0)), ParallelBeam((0.1, 1.4), 5), model="siddon", truncated=True)
    assert A(torch.ones(1, 1, 4, 4))[0, 0, 0].abs().max() == 0
    assert A.adjoint(torch.ones(1, 1, 2, 5))[0, 0].sum() > 0  # the other view looks along x
