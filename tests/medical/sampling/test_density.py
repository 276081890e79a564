"""Density compensation: areas in closed form, and images in their own units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medical.operators.kaiser_bessel import KaiserBessel
from medical.operators.nufft import NUFFT
from medical.sampling.density import pipe_menon_density, radial_density, voronoi_density
from medical.sampling.trajectories import kooshball, radial, spiral

N = 48
SHAPE = (N, N)


def blobs(shape: tuple[int, ...]) -> Tensor:
    """A smooth image off the centre, (1, 1, ...)."""
    r = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) - n // 2 for n in shape], indexing="ij")
    near = sum((axis - 0.1 * n) ** 2 for axis, n in zip(r, shape, strict=True))
    far = sum((axis + 0.15 * n) ** 2 for axis, n in zip(r, shape, strict=True))
    return (torch.exp(-near / 18) + 0.6j * torch.exp(-far / 12))[None, None]


def cartesian(n: int) -> Tensor:
    line = 2 * math.pi * (torch.arange(n, dtype=torch.float64) - n // 2) / n
    return torch.cartesian_prod(line, line)


def error_of_first_image(k: Tensor, w: Tensor, shape: tuple[int, ...] = SHAPE) -> tuple[float, float]:
    """``|A^H W A x - x| / |x|``, and how far the scale of ``A^H W A x`` is from 1."""
    A, x = NUFFT(k, shape), blobs(shape)
    image = A.adjoint(w * A(x))
    scale = torch.vdot(x.flatten(), image.flatten()) / x.norm() ** 2
    return float((image - x).norm() / x.norm()), float((scale - 1).abs())


@pytest.mark.parametrize("golden", [False, True])
def test_radial_weights_give_the_image_in_its_units(golden):
    k = radial(89, 2 * N, golden=golden)
    error, scale = error_of_first_image(k, radial_density(k, SHAPE, spokes=89))
    assert error < 0.005
    assert scale < 0.001


def test_radial_weights_are_the_areas_of_ring_segments():
    spokes, samples = 10, 16
    w = radial_density(radial(spokes, samples), SHAPE, spokes=spokes).view(spokes, samples)
    h, rho = 2 * math.pi / samples, 2 * math.pi / samples * (torch.arange(samples) - samples // 2).abs().double()
    rho[samples // 2] = h / 6
    expected = rho * h * (math.pi / spokes) * N**2 / (2 * math.pi) ** 2
    torch.testing.assert_close(w, expected.expand_as(w))


def test_radial_weights_know_the_gaps_between_spokes():
    k = radial(12, 10).view(12, 10, 2)
    kept = k[[0, 1, 2, 6]].reshape(-1, 2)  # gaps of 1, 1, 4 and 6 steps
    w = radial_density(kept, SHAPE, spokes=4).view(4, 10)
    torch.testing.assert_close(w[:, 0] / w[1, 0], torch.tensor([3.5, 1.0, 2.5, 5.0], dtype=torch.float64))


def test_three_dimensional_spokes_fill_the_ball():
    shape = (12, 12, 12)
    k = kooshball(700, 24)
    w = radial_density(k, shape, spokes=700)
    assert float(w.sum()) == pytest.approx(12**3 * math.pi / 6, rel=0.01)
    error, scale = error_of_first_image(k, w, shape)
    assert error < 0.05
    assert scale < 0.01


THREE = {
    "radial": radial(89, 2 * N),
    "spiral": spiral(12, 300, turns=2.4),
    "dense": spiral(16, 400, turns=3, density=1.5),
}


@pytest.mark.parametrize("k", THREE.values(), ids=THREE.keys())
def test_pipe_and_voronoi_weights_give_the_image_in_its_units(k):
    for w in (pipe_menon_density(k, SHAPE), voronoi_density(k, SHAPE)):
        error, scale = error_of_first_image(k, w)
        assert error < 0.03
        assert scale < 0.01


def test_pipe_weights_grid_to_a_constant():
    k = spiral(12, 300, turns=2.4)
    w = pipe_menon_density(k, SHAPE, iterations=30)
    G = KaiserBessel(k, SHAPE, dtype=torch.float64, width=6, beta=2.34 * 6)
    flat = G.interpolate(G.spread(w[None]))[0]
    spread = [float(values.std() / values.mean()) for values in (flat, G.interpolate(G.spread(torch.ones_like(w)[None]))[0])]
    assert spread[0] < 0.01
    assert spread[1] > 0.3
    assert float(flat.mean()) == pytest.approx((G.mass**2 / 2) ** 2, rel=0.01)


@pytest.mark.parametrize("n", [8, 9])
def test_a_cartesian_grid_weighs_one(n):
    k = cartesian(n)
    torch.testing.assert_close(voronoi_density(k, (n, n), region="square"), torch.ones(n * n, dtype=torch.float64))
    torch.testing.assert_close(pipe_menon_density(k, (n, n)), torch.ones(n * n, dtype=torch.float64), rtol=0.02, atol=0)


@pytest.mark.parametrize("region", ["disc", "square"])
def test_voronoi_cells_fill_their_region(region):
    k = (2 * torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1) * math.pi
    area = (2 * math.pi) ** 2
    if region == "disc":
        k = k[k.norm(dim=1) <= 3]
        area = math.pi * float(k.norm(dim=1).max()) ** 2
    w = voronoi_density(k, SHAPE, region=region)
    assert float(w.sum()) == pytest.approx(area * N**2 / (2 * math.pi) ** 2, rel=1e-10)
    assert float(w.min()) > 0


@pytest.mark.parametrize("region", ["disc", "square"])
def test_voronoi_cells_are_the_nearest_pixels(region):
    k = 0.6 * math.pi * (2 * torch.rand(12, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1)
    line = (torch.arange(600, dtype=torch.float64) + 0.5) / 300 * math.pi - math.pi
    place = torch.cartesian_prod(line, line)
    apart = place[:, None] - k
    if region == "square":
        apart = (apart + math.pi) % (2 * math.pi) - math.pi
    else:
        inside = place.norm(dim=1) <= k.norm(dim=1).max()
        apart = apart[inside]
    counted = torch.bincount(apart.norm(dim=2).argmin(1), minlength=12) * (N / 600) ** 2
    torch.testing.assert_close(voronoi_density(k, SHAPE, region=region), counted.double(), rtol=0.01, atol=0.1)


def test_voronoi_samples_that_coincide_share_their_cell():
    k = radial(20, 16)
    w = voronoi_density(k, SHAPE).view(20, 16)
    centre = w[:, 8]
    torch.testing.assert_close(centre, centre[:1].expand(20))
    assert float(centre.sum()) == pytest.approx(math.pi / 4 * (2 * math.pi / 16) ** 2 * N**2 / (2 * math.pi) ** 2, rel=0.02)
    twice = voronoi_density(torch.cat([k, k]), SHAPE)
    torch.testing.assert_close(twice[:320], w.flatten() / 2)
    # rings between: as the analytic weights
    analytic = radial_density(k, SHAPE, spokes=20).view(20, 16)
    torch.testing.assert_close(w[:, 2:8], analytic[:, 2:8], rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: radial_density(radial(5, 8), SHAPE, spokes=7), "spokes must divide the 40 points"),
        (lambda: radial_density(spiral(4, 8, turns=2), SHAPE, spokes=4), "straight spokes"),
        (lambda: radial_density(radial(5, 8) * 0, SHAPE, spokes=5), "straight spokes"),
        (lambda: radial_density(radial(5, 8), (8, 8, 8), spokes=5), r"shape \(K, 3\)"),
        (lambda: pipe_menon_density(radial(5, 8), SHAPE, iterations=0), "iterations must be at least 1"),
        (lambda: pipe_menon_density(radial(5, 8), (8,)), "shape must be"),
        (lambda: voronoi_density(kooshball(5, 8), (8, 8, 8)), "two dimensions"),
        (lambda: voronoi_density(radial(5, 8), SHAPE, region="hexagon"), "region must be"),
        (lambda: voronoi_density(torch.zeros(3, 2), SHAPE), "off k = 0"),
        (lambda: voronoi_density(radial(5, 8) * 9, SHAPE), "rad/pixel"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
