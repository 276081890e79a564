r"""Density compensation: how much of k-space each sample of a trajectory stands for.

Weights are float64, (K,), in units of one Cartesian sample: cells of area dk weigh ``N dk / (2 pi)^d``, N the pixels of the
image, so that a full Cartesian grid weighs 1 everywhere. With the factor ``N^(-1/2)`` of a ``NUFFT`` the sum

    A.adjoint(w * y) = (2 pi)^-d sum_j dk_j (sum_r x[r] exp(-i k_j . r)) exp(i k_j . r')  ~  x

is then the inverse Fourier integral over the part of k-space that was sampled: x itself, in its own units, up to the
frequencies left out. Steps of 2 pi / N along a spoke shade large objects, for the response to a point has long tails that
fold back: discs of 60, 80 and 90 % of the field of view come out 1.5, 6 and 12 % too dark on average, and up to 5, 13 and
25 % at their rims. With half the step, a readout oversampled twice, their means are right to 0.4 %. Weights belong in that
first image, or in a preconditioner; in a data term they would discard signal-to-noise.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import Voronoi
from torch import Tensor

from inverse.operators.base import Shape
from medical.operators.kaiser_bessel import OVERSAMPLING, KaiserBessel
from medical.sampling.trajectories import check_trajectory

Array = NDArray[np.float64]

__all__ = ["pipe_menon_density", "radial_density", "voronoi_density"]


def radial_density(trajectory: Any, shape: Shape, *, spokes: int) -> Tensor:
    """The analytic weights ``|k|^(d - 1)`` of equally long spokes through the centre, in two or three dimensions.

    A sample at the distance h from its neighbours stands for ``|k| h dtheta``, dtheta half the angle between the spokes
    to its left and right; in three dimensions for ``k^2 h (2 pi / spokes)``, the spokes being spread evenly. At k = 0
    the integral over the radius, by Euler and Maclaurin, asks for ``h^2 dtheta / 6`` (about 1 / (2 spokes) where h = 1)
    and for 0 in three dimensions.

    Parameters
    ----------
    trajectory: k, (spokes * samples, 2) or (.., 3), spoke after spoke, as ``radial`` and ``kooshball`` give them.
    shape: the image.
    spokes: their number; each has at least 2 samples.
    """
    k = _matching(trajectory, shape)
    d = k.shape[1]
    if spokes < 1 or len(k) % spokes or len(k) < 2 * spokes:
        raise ValueError(f"spokes must divide the {len(k)} points into lines of at least 2, got {spokes}")
    lines = k.view(spokes, -1, d)
    step = (lines[:, -1] - lines[:, 0]) / (lines.shape[1] - 1)
    h = step.norm(dim=1, keepdim=True)
    unit = step / h
    rho = (lines * unit[:, None]).sum(2)
    through_zero = torch.allclose(rho[:, :, None] * unit[:, None], lines, atol=1e-6)
    if not (through_zero and torch.allclose(rho.diff(dim=1), h.expand(-1, rho.shape[1] - 1), atol=1e-6)):
        raise ValueError("trajectory must be straight spokes through k = 0 with equal steps; take voronoi_density instead")
    if d == 3:
        cells = rho**2 * h * (2 * math.pi / spokes)
    else:
        centre = rho.abs() < 1e-6 * h
        cells = torch.where(centre, h / 6, rho.abs()) * h * _angular_gaps(unit)[:, None]
    return cells.flatten() * _cartesian(shape)


def pipe_menon_density(trajectory: Any, shape: Shape, *, iterations: int = 15) -> Tensor:
    """The weights that grid to a constant: ``w <- w / |G G^T w|``, from 1 on (Pipe & Menon 1999).

    G interpolates from a grid oversampled twice with a Kaiser-Bessel kernel C of 6 grid points and beta = 2.34 * 6, the
    best for this oversampling by Fessler & Sutton 2003. The fixed point has ``G G^T w = 1``; where cells have the size dk,
    ``G G^T (N dk / (2 pi)^d) = 2^-d (int C du)^(2 d)``, which gives the scale.
    """
    k = _matching(trajectory, shape)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}; 10 to 15 are usual")
    G = KaiserBessel(k, tuple(shape), dtype=torch.float64, width=6, beta=2.34 * 6)
    w = torch.ones(1, len(k), dtype=torch.float64)
    for _ in range(iterations):
        w = w / G.interpolate(G.spread(w)).abs()
    return w[0] * (G.mass**2 / OVERSAMPLING) ** k.shape[1]


def voronoi_density(trajectory: Any, shape: Shape, *, region: Literal["disc", "square"] = "disc") -> Tensor:
    """The areas of the Voronoi cells, two dimensions (Rasche, Proksa, Sinkus, Boernert & Eggers 1999).

    Samples that coincide, such as the centres of spokes, share their cell.

    Parameters
    ----------
    trajectory: k, (K, 2), rad/pixel.
    shape: the image, (H, W).
    region: what the cells fill: the "disc" out to the largest |k|, or the "square" [-pi, pi)^2, which is periodic as
        k-space is: cells reach across its edges. It takes about ten times as long.
    """
    k = _matching(trajectory, shape)
    if k.shape[1] != 2:
        raise ValueError("voronoi_density takes trajectories in two dimensions, got three; take pipe_menon_density")
    if region not in ("disc", "square"):
        raise ValueError(f'region must be "disc" or "square", got {region!r}')
    points = k.numpy() + 0.0
    if region == "square":
        points = np.mod(points + math.pi, 2 * math.pi) - math.pi
    _, first, inverse, counts = np.unique(points.round(9), axis=0, return_index=True, return_inverse=True, return_counts=True)
    sites = points[first]
    areas = _disc_cells(sites) if region == "disc" else _periodic_cells(sites)
    inverse = inverse.reshape(-1)
    return torch.from_numpy((areas / counts)[inverse]) * _cartesian(shape)


def _matching(trajectory: Any, shape: Shape) -> Tensor:
    if len(shape) not in (2, 3):
        raise ValueError(f"shape must be (H, W) or (D, H, W), got {tuple(shape)}")
    return check_trajectory(trajectory, len(shape))


def _cartesian(shape: Shape) -> float:
    """Cartesian samples in a unit of k-space area."""
    return math.prod(shape) / (2 * math.pi) ** len(shape)


def _angular_gaps(unit: Tensor) -> Tensor:
    """Half the angle from each spoke's left to its right neighbour, modulo pi; they sum to pi."""
    angle = torch.atan2(unit[:, 0], unit[:, 1]) % math.pi
    ordered, order = angle.sort()
    gap = torch.cat([ordered, ordered[:1] + math.pi]).diff()
    return torch.empty_like(gap).scatter_(0, order, (gap + gap.roll(1)) / 2)


def _disc_cells(sites: Array) -> Array:
    """Areas of the cells within the disc around 0 that reaches to the outermost of the ``sites`` (n, 2).

    A cell's area is the sum over its edges ab of the signed areas of the triangles 0ab within the disc. Sites far
    outside, which own no part of the disc, close the cells at the border.
    """
    radius = np.linalg.norm(sites, axis=1).max()
    if radius == 0:
        raise ValueError("trajectory must have points off k = 0, got none; the disc that they fill has no area")
    angle = np.arange(6) * math.pi / 3
    far = 10 * radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _cell_areas(Voronoi(np.concatenate([sites, far])), radius)[: len(sites)]


def _periodic_cells(sites: Array) -> Array:
    """Areas of the cells on the torus [-pi, pi)^2, bounded by the copies of the ``sites`` a period to each side."""
    periods = 2 * math.pi * np.array([(0, 0), *[(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]])
    copies = (sites + periods[:, None]).reshape(-1, 2)
    return _cell_areas(Voronoi(copies), math.inf)[: len(sites)]


def _cell_areas(diagram: Voronoi, radius: float) -> Array:
    """Areas of the cells within the disc of ``radius`` around 0; edges that go to infinity count nothing."""
    edges = np.asarray(diagram.ridge_vertices)
    finite = (edges >= 0).all(1)
    a, b = (diagram.vertices[edges[finite, end]] for end in (0, 1))
    area = _sector_area(a, b, radius)
    areas = np.zeros(len(diagram.points))
    for site in diagram.ridge_points[finite].T:
        p = diagram.points[site]
        np.add.at(areas, site, np.sign(_cross(a - p, b - p)) * area)  # edges count anticlockwise about the site
    return areas


def _sector_area(a: Array, b: Array, radius: float) -> Array:
    """Signed areas of the triangles 0ab within the disc of ``radius`` around 0."""
    if math.isinf(radius):
        return _cross(a, b) / 2
    d = b - a
    dd, ad = np.maximum((d * d).sum(1), 1e-300), (a * d).sum(1)
    root = np.sqrt(np.maximum(ad**2 - dd * ((a * a).sum(1) - radius**2), 0))
    enter, leave = (np.clip((-ad + sign * root) / dd, 0, 1)[:, None] for sign in (-1, 1))
    p, q = a + enter * d, a + leave * d  # the part of ab inside the disc; p = q where there is none

    def wedge(u: Array, v: Array) -> Array:
        return radius**2 / 2 * np.arctan2(_cross(u, v), (u * v).sum(1))

    return wedge(a, p) + _cross(p, q) / 2 + wedge(q, b)


def _cross(u: Array, v: Array) -> Array:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
