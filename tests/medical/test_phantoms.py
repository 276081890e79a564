"""Phantoms against closed forms: chords, areas, volumes, and the same numbers for cylinders and slices."""

import math

import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.phantoms import Ellipses, Ellipsoids

ELLIPSE = (1.5, -2.0, 3.0, 5.0, 0.4, 0.7)


def test_chords_of_a_disc():
    beam = ParallelBeam([0.3, 1.9], Detector(41, 0.5, offset=0.2))
    got = Ellipses.disc(4.0, (1.0, 2.0), 0.5).project(beam)
    for theta, row in zip(beam.angles, got, strict=True):
        d = beam.detector.u - (math.cos(theta) + 2 * math.sin(theta))
        torch.testing.assert_close(row, (16 - d**2).clamp_min(0).sqrt(), rtol=0, atol=1e-12)


def test_chords_of_a_turned_ellipse():
    """The projection of an ellipse: 2 v a b sqrt(s^2 - d^2) / s^2 with s^2 = a^2 cos^2 + b^2 sin^2 of the turned angle."""
    cx, cy, a, b, phi, value = ELLIPSE
    beam = ParallelBeam(uniform(7, 0.1), Detector(31, 0.7))
    theta = torch.tensor(beam.angles, dtype=torch.float64)[:, None]
    s2 = (a * torch.cos(theta - phi)) ** 2 + (b * torch.sin(theta - phi)) ** 2
    d = beam.detector.u - cx * theta.cos() - cy * theta.sin()
    expected = 2 * value * a * b * (s2 - d**2).clamp_min(0).sqrt() / s2
    torch.testing.assert_close(Ellipses((ELLIPSE,)).project(beam), expected, rtol=0, atol=1e-12)


def test_a_distant_fan_is_parallel():
    phantom, angles = Ellipses.shepp_logan(40.0), uniform(5)
    fan = phantom.project(FanBeam(angles, 41, 1e8, 0.0))
    torch.testing.assert_close(fan, phantom.project(ParallelBeam(angles, 41)), rtol=0, atol=2e-4)


def test_chord_of_a_ball_through_the_cone():
    beam = ConeBeam([0.7], Detector((5, 7), 2.0), 50.0, 25.0)
    ball = Ellipsoids.ball(6.0, value=2.0)
    points, directions = beam.rays().lines()
    miss = torch.linalg.cross(points, directions).square().sum(-1)
    torch.testing.assert_close(ball.project(beam)[0], 4 * (36 - miss[0]).clamp_min(0).sqrt(), rtol=0, atol=1e-11)


def test_any_beam():
    beam = ConeBeam.helical(12, Detector((5, 7), 2.0), 50.0, 25.0, 6.0, 1.5)
    phantom = Ellipsoids.shepp_logan(20.0)
    torch.testing.assert_close(phantom.project(VectorBeam.of(beam)), phantom.project(beam), rtol=0, atol=1e-12)


def test_ellipses_are_cylinders():
    beam = ConeBeam(uniform(4), Detector((3, 21), 1.0), 50.0, 25.0)
    fan = FanBeam(uniform(4), Detector(21, 1.0), 50.0, 25.0)
    cone, plane = Ellipses((ELLIPSE,)).project(beam), Ellipses((ELLIPSE,)).project(fan)
    torch.testing.assert_close(cone[:, 1], plane, rtol=0, atol=1e-12)
    slope = (75.0**2 + 1 + fan.detector.u**2).sqrt() / (75.0**2 + fan.detector.u**2).sqrt()
    torch.testing.assert_close(cone[:, 0], plane * slope, rtol=0, atol=1e-12)


def test_blocks_of_views(monkeypatch):
    phantom, beam = Ellipses.shepp_logan(20.0), ParallelBeam.uniform(11, 21)
    whole = phantom.project(beam)
    monkeypatch.setattr("medical.phantoms.CHUNK", 50)
    assert torch.equal(phantom.project(beam), whole)


@pytest.mark.parametrize("voxel", [1.0, (0.8, 1.7)])
def test_area(voxel):
    volume = Volume((30, 21), voxel, (0.4, -0.3))
    got = Ellipses((ELLIPSE,)).rasterise(volume, oversampling=16).sum() * volume.spacing[0] * volume.spacing[1]
    assert got == pytest.approx(0.7 * math.pi * 15, rel=2e-4)


def test_volume_and_centre():
    volume = Volume((18, 20, 22), (1.1, 0.9, 1.0), (0.2, 0.1, -0.3))
    image = Ellipsoids(((1.0, -2.0, 0.5, 3.0, 5.0, 4.0, 0.4, 2.0),)).rasterise(volume)
    assert image.sum() * 1.1 * 0.9 == pytest.approx(2 * 4 / 3 * math.pi * 60, rel=1e-3)
    for axis, middle in ((0, 0.5), (1, -2.0), (2, 1.0)):
        others = [k for k in range(3) if k != axis]
        assert (image.sum(others) * volume.axis(axis)).sum() / image.sum() == pytest.approx(middle, abs=2e-3)


def test_rows_fall_in_pictures_and_grow_in_volumes():
    dot = Ellipses.disc(0.4, (2.0, 3.0))
    assert dot.sample(Volume((9, 9))).nonzero().tolist() == [[1, 6]]
    assert dot.sample(Volume((1, 9, 9))).nonzero().tolist() == [[0, 7, 6]]
    assert dot.rasterise(Volume((9, 9)), oversampling=32)[1, 6] == pytest.approx(math.pi * 0.16, rel=5e-3)


def test_picture_is_the_middle_slice():
    head, volume = Ellipsoids.shepp_logan(18.0), Volume((19, 20, 22), 1.0)
    torch.testing.assert_close(head.sample(volume)[9], head.sample(volume.slice()))
    assert head.sample(volume).max() == 1.0


def test_heads():
    head = Ellipses.shepp_logan(64.0)
    assert head.table[0] == (0.0, 0.0, 0.69 * 32, 0.92 * 32, 0.0, 1.0)
    image = head.rasterise(Volume((64, 64)))
    assert image[32, 32] == pytest.approx(0.2, abs=1e-12)
    assert image.max() == pytest.approx(1.0)
    original = Ellipses.shepp_logan(64.0, original=True).rasterise(Volume((64, 64)))
    assert original[32, 32] == pytest.approx(1.02, abs=1e-12)


def test_values_compare():
    assert Ellipses.disc(2.0) == Ellipses(torch.tensor([[0.0, 0, 2, 2, 0, 1]]))
    assert len({Ellipsoids.ball(1.0), Ellipsoids.ball(1.0)}) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ellipses(((0.0, 0.0, 1.0),)), r"shape \(n, 6\)"),
        (lambda: Ellipsoids(((0.0,) * 6,)), r"shape \(n, 8\)"),
        (lambda: Ellipses.disc(0.0), "positive half axes"),
        (lambda: Ellipses.disc(1.0, value=math.nan), "finite"),
        (lambda: Ellipses.shepp_logan(-1.0), "size must be positive"),
        (lambda: Ellipses.disc(1.0).rasterise(Volume((4, 4)), oversampling=0), "oversampling"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
