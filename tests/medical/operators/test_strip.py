"""The strip projector: areas, mass that is kept exactly, and means of line integrals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medical.geometry import Detector, FanBeam, ParallelBeam, Volume
from medical.operators import Projector
from tests.medical.operators.examples import random_geometry


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("du", [0.3, 1.0, 2.7])
def test_a_parallel_beam_keeps_all_mass(du):
    """``du sum y = dx dy sum x`` in every view."""
    volume, x = Volume((7, 10), (1.3, 0.7), (0.4, -0.6)), randn(2, 1, 7, 10)
    A = Projector(volume, ParallelBeam.uniform(13, Detector(math.ceil(16 / du), du, 0.11)), model="strip")
    wanted = 1.3 * 0.7 * x.sum((2, 3))[..., None].expand(2, 1, 13)
    torch.testing.assert_close(du * A(x).sum(-1), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("curved", [False, True])
def test_a_fan_keeps_all_mass_over_the_distance(curved):
    """``sum_k w_k y_k = sum x dx dy / rho``: w the strip's width a unit from the source, rho the pixel's distance."""
    volume, x, dso = Volume((7, 10), (1.3, 0.7), (0.4, -0.6)), randn(1, 1, 7, 10), 30.0
    beam = FanBeam.uniform(5, Detector(30, 1.1, 0.2, curved), dso, 12.0)
    y = Projector(volume, beam, model="strip")(x)[0, 0]
    edges = (torch.arange(31, dtype=torch.float64) - 15) * 1.1 + 0.2
    gamma = edges / beam.distance if curved else (edges / beam.distance).atan()
    widths = 2 * (gamma.diff() / 2).tan()
    for k, theta in enumerate(beam.angles):
        rho = torch.hypot(
            volume.axis(-1) - dso * math.sin(theta), (volume.axis(-2) + dso * math.cos(theta))[:, None].expand(7, 10)
        )
        assert float((widths * y[k]).sum()) == pytest.approx(float((x[0, 0] * 1.3 * 0.7 / rho).sum()), abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, math.pi, -math.pi / 2])
def test_along_the_axes_shares_are_overlaps_of_intervals(angle):
    x, offset = randn(1, 1, 6, 6), 0.3
    y = Projector(Volume((6, 6)), ParallelBeam((angle,), Detector(8, 1.0, offset)), model="strip")(x)[0, 0, 0]
    turned = torch.rot90(x[0, 0], round(-2 * angle / math.pi))  # the object seen at angle 0
    sums = torch.nn.functional.pad(turned.sum(0), (1, 2))
    torch.testing.assert_close(y, (1 - offset) * sums[:-1] + offset * sums[1:], atol=1e-12, rtol=0)


def test_a_corner_cut_off_at_45_degrees():
    """Of one pixel of side 1 the strip beyond u = t holds the triangle ``(sqrt(1/2) - t)^2``."""
    t = 0.4
    beam = ParallelBeam((math.pi / 4,), Detector(1, 1.0, t + 0.5))
    y = Projector(Volume((1, 1)), beam, model="strip", truncated=True)(torch.ones(1, 1, 1, 1, dtype=torch.float64))
    assert float(y) == pytest.approx((math.sqrt(0.5) - t) ** 2, abs=1e-14)


@pytest.mark.parametrize("kind", ["parallel", "fan-flat", "fan-curved"])
def test_the_mean_of_many_lines(kind):
    """Lines spread evenly over a detector pixel (over its angle, for fans) by Siddon's method have the same mean."""
    fine = 200
    for seed in (0, 10, 20):
        volume, beam = random_geometry(kind, seed)
        x = randn(1, 1, *volume.shape)
        strip = Projector(volume, beam, model="strip", truncated=True)(x)[0, 0]
        detector = beam.detector
        many = replace(detector, shape=detector.columns * fine, spacing=detector.spacing[0] / fine)
        other = replace(beam, detector=many)
        lines = Projector(volume, other, model="siddon", truncated=True)(x)[0, 0].unflatten(-1, (-1, fine))
        if kind == "fan-flat":
            cosine = (1 + (many.u / beam.distance) ** 2).rsqrt().view(-1, fine)  # d gamma = cos^2(gamma) du / L
            lines = lines * cosine**2 / cosine.square().mean(-1, keepdim=True)
        error = float((strip - lines.mean(-1)).norm() / strip.norm())
        assert error < (1e-3 if kind == "parallel" else 0.02)  # fans: one distance from the source for all of a pixel


def test_strips_of_a_distant_fan_are_those_of_a_parallel_beam():
    x, detector = randn(1, 1, 9, 8), Detector(14, 0.9, 0.2)
    angles = (0.0, 0.4, 2.0)
    far = Projector(Volume((9, 8)), FanBeam(angles, detector, 1e6, 0.0), model="strip")(x)
    near = Projector(Volume((9, 8)), ParallelBeam(angles, detector), model="strip")(x)
    torch.testing.assert_close(far, near, atol=1e-4, rtol=0)


def test_pixels_beyond_the_detector_are_left_out():
    """What a truncated detector sees is what the whole one sees there."""
    volume, x = Volume((9, 9)), randn(1, 1, 9, 9)
    whole = Projector(volume, FanBeam.uniform(5, Detector(24, 1.2), 30, 10), model="strip")(x)
    part = Projector(volume, FanBeam.uniform(5, Detector(6, 1.2), 30, 10), model="strip", truncated=True)(x)
    torch.testing.assert_close(part, whole[..., 9:15], atol=1e-12, rtol=0)
