"""Rays of parallel, fan and cone beams against the formulas by hand; slicing, equality, repr and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, uniform

DSO, DOD = 100.0, 50.0
BEAMS = [
    ParallelBeam.uniform(7, Detector(5, 2.0, 0.25)),
    ParallelBeam((0.1, 0.5, 0.2), Detector((3, 5), (2.0, 1.0), (1.0, -0.5))),
    FanBeam.uniform(8, Detector(6, 1.5, 2.0), DSO, DOD),
    FanBeam((0.1, 0.5, 0.2), Detector(5, 1.5, 2.0, True), DSO, 0.0),
    ConeBeam.circular(9, Detector((4, 6), (2.0, 1.5), (1.0, -2.0)), DSO, DOD),
    ConeBeam.helical(10, Detector((4, 6), curved=True), DSO, DOD, pitch=12.0, turns=2.5),
]


def close(a, b):
    a, b = (torch.as_tensor(t, dtype=torch.float64) for t in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_parallel_ray_by_hand():
    theta, offset = 0.3, 0.25
    points, ways = ParallelBeam((0.0, theta), Detector(4, 2.0, offset)).rays().lines()
    u = (3 - 1.5) * 2.0 + offset
    close(points[1, 0, 3], [u * math.cos(theta), u * math.sin(theta), 0.0])
    close(ways[1, 0, 3], [math.sin(theta), -math.cos(theta), 0.0])


def test_rows_of_a_parallel_beam_lie_along_z():
    points, ways = ParallelBeam((0.3,), Detector((3, 2), (2.0, 1.0), (0.5, 0.0))).rays().lines()
    close(points[0, :, 0, 2], [-1.5, 0.5, 2.5])
    close(ways[0, :, :, 2], torch.zeros(3, 2))


def test_flat_fan_by_hand():
    theta = 0.7
    points, ways = FanBeam((theta,), Detector(5, 3.0, 1.0), DSO, DOD).rays().lines()
    source = np.array([DSO * math.sin(theta), -DSO * math.cos(theta), 0.0])
    u = (4 - 2) * 3.0 + 1.0
    pixel = np.array([-DOD * math.sin(theta) + u * math.cos(theta), DOD * math.cos(theta) + u * math.sin(theta), 0.0])
    close(points[0, 0, 4], source)
    close(ways[0, 0, 4], (pixel - source) / np.linalg.norm(pixel - source))


def test_curved_fan_by_hand():
    theta, arc = 0.7, (4 - 2) * 3.0 + 1.0
    beam = FanBeam((theta,), Detector(5, 3.0, 1.0, curved=True), DSO, DOD)
    g = arc / (DSO + DOD)
    c, e = np.array([-math.sin(theta), math.cos(theta), 0.0]), np.array([math.cos(theta), math.sin(theta), 0.0])
    close(beam.rays().lines()[1][0, 0, 4], math.cos(g) * c + math.sin(g) * e)
    # equal angles between neighbours, and every pixel as far from the source as the detector
    ways = beam.rays().direction[0]
    close(torch.linalg.vector_norm(ways, dim=-1), torch.full((5,), DSO + DOD))
    cosines = (ways[1:] * ways[:-1]).sum(-1) / (DSO + DOD) ** 2
    torch.testing.assert_close(cosines.acos(), torch.full((4,), 3.0 / 150.0, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("curved", [False, True])
def test_cone_by_hand(curved):
    b, pitch, z0 = 2.0, 12.0, 3.0
    beam = ConeBeam((b,), Detector((3, 5), (2.0, 3.0), (0.5, 1.0), curved), DSO, DOD, pitch, z0)
    points, ways = beam.rays().lines()
    z = z0 + pitch * b / (2 * math.pi)
    source = np.array([DSO * math.sin(b), -DSO * math.cos(b), z])
    c, e, ez = np.array([-math.sin(b), math.cos(b), 0]), np.array([math.cos(b), math.sin(b), 0]), np.array([0, 0, 1.0])
    u, v, L = (3 - 2) * 3.0 + 1.0, (2 - 1) * 2.0 + 0.5, DSO + DOD
    g = u / L
    way = L * (math.cos(g) * c + math.sin(g) * e) + v * ez if curved else L * c + u * e + v * ez
    close(points[0, 2, 3], source)
    close(ways[0, 2, 3], way / np.linalg.norm(way))


def test_a_helix_climbs_by_the_pitch_in_a_turn():
    beam = ConeBeam.helical(24, (2, 3), DSO, DOD, pitch=8.0, turns=3)
    heights = beam.heights()
    close(heights[8:] - heights[:-8], torch.full((16,), 8.0))
    assert float(heights[12]) == 0.0
    assert float(heights[0]) == -12.0
    close(beam.rays().origin[:, 0, 2], heights)


def test_magnification_fan_angles_coverage_and_normalised_pitch():
    beam = FanBeam((0.0,), Detector(10, 3.0, 5.0), DSO, DOD)  # edges at -10 and 20
    assert beam.magnification == 1.5
    assert beam.distance == 150.0
    assert beam.fan_angles == pytest.approx((math.atan(10 / 150), math.atan(20 / 150)))
    assert beam.coverage() == pytest.approx((100 * math.sin(math.atan(10 / 150)), 100 * math.sin(math.atan(20 / 150))))
    curved = FanBeam((0.0,), Detector(10, 3.0, 5.0, True), DSO, DOD)
    assert curved.fan_angles == pytest.approx((10 / 150, 20 / 150))
    cone = ConeBeam((0.0,), Detector((16, 10), (1.5, 3.0)), DSO, DOD, pitch=8.0)
    assert cone.normalised_pitch == pytest.approx(8.0 / (16 * 1.5 / 1.5))
    assert ParallelBeam.uniform(2, Detector(10, 3.0, 5.0)).coverage() == (10.0, 20.0)
    assert ParallelBeam.uniform(2, 4).magnification == 1.0


def test_coverage_is_the_distance_of_the_outermost_rays():
    n, beam = 4000, FanBeam((0.4,), Detector(4000, 0.02, 3.0), DSO, DOD)
    points, ways = beam.rays().lines()
    away = (points[..., 0] * ways[..., 1] - points[..., 1] * ways[..., 0])[0, 0]
    low, high = beam.coverage()
    assert len(away) == n
    assert abs(float(away[0])) == pytest.approx(low, abs=0.02)
    assert abs(float(away[-1])) == pytest.approx(high, abs=0.02)


@pytest.mark.parametrize("beam", BEAMS, ids=lambda b: f"{type(b).__name__}-{len(b)}")
def test_repr_gives_an_equal_value_back(beam):
    again = eval(repr(beam))
    assert again == beam
    assert hash(again) == hash(beam)


@pytest.mark.parametrize("beam", BEAMS, ids=lambda b: f"{type(b).__name__}-{len(b)}")
def test_slicing_takes_views_and_leaves_the_rest(beam):
    mask = torch.arange(len(beam)) % 2 == 0
    for which in (1, slice(0, 2), slice(None, None, -1), [2, 0], mask, mask.tolist(), torch.tensor([1]), np.int64(1)):
        part = beam[which]
        wanted = np.atleast_1d(np.array(beam.angles)[which.numpy() if isinstance(which, torch.Tensor) else which])
        assert part.angles == tuple(wanted)
        assert type(part) is type(beam)
        assert part.detector == beam.detector
        assert part.shape == (len(wanted), *beam.detector.size)
    close(beam[1].rays().lines()[1][0], beam.rays().lines()[1][1])
    close(beam[-1].rays().lines()[0][0], beam.rays().lines()[0][-1])


def test_different_kinds_are_not_equal():
    assert ParallelBeam.uniform(4, 5) != FanBeam.uniform(4, 5, DSO, DOD)
    assert FanBeam.uniform(4, 5, DSO, DOD) != FanBeam.uniform(4, 5, DSO, DOD + 1)
    same = FanBeam(torch.tensor(uniform(4, 0, 2 * math.pi), dtype=torch.float64), (5,), 100, 50)
    assert len({FanBeam.uniform(4, 5, DSO, DOD), same}) == 1


def test_detector_coordinates():
    detector = Detector((2, 3), (4.0, 0.5), 1.0)  # one offset is u
    close(detector.v, [-2.0, 2.0])
    close(detector.u, [0.5, 1.0, 1.5])
    assert detector.pitch == (4.0, 0.5)
    assert detector.reach == (0.75 - 1.0, 0.75 + 1.0)
    assert eval(repr(detector)) == detector
    assert Detector(5).v.tolist() == [0.0]
    assert Detector((2, 3), offset=np.float32(1.5)).offset == (0.0, 1.5)
    assert Detector((np.int64(2), 3), np.float32(0.5)).spacing == (0.5, 0.5)
    assert Detector(np.int64(3)) == Detector(3)
    assert Detector.of((2, 3)) == Detector((2, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ParallelBeam(range(1800), 5), "radians"),
        (lambda: FanBeam(torch.arange(0.0, 360.0), 5, DSO, DOD), "deg2rad"),
        (lambda: ConeBeam(torch.arange(0.0, 360.0), (2, 5), DSO, DOD), "radians"),
        (lambda: ParallelBeam((), 5), "at least one view"),
        (lambda: ParallelBeam.uniform(4, 5)[[]], "at least one view"),
        (lambda: ParallelBeam((0.0, math.nan), 5), "angles must be finite"),
        (lambda: ParallelBeam.uniform(4, Detector(5, curved=True)), "flat"),
        (lambda: ParallelBeam.uniform(0, 5), "views"),
        (lambda: FanBeam.uniform(4, (2, 5), DSO, DOD), "ConeBeam takes rows"),
        (lambda: FanBeam.uniform(4, 5, 0.0, DOD), "source_distance must be positive"),
        (lambda: FanBeam.uniform(4, 5, math.nan, DOD), "source_distance must be positive"),
        (lambda: FanBeam.uniform(4, 5, DSO, -1.0), "detector_distance must be finite and not negative"),
        (lambda: FanBeam.uniform(4, 5, DSO, math.inf), "detector_distance"),
        (lambda: FanBeam.uniform(4, Detector(100, 5.0, 0.0, True), DSO, DOD), "less than 90 degrees"),
        (lambda: ConeBeam.circular(4, Detector((2, 100), 5.0, 0.0, True), DSO, DOD), "less than 90 degrees"),
        (lambda: ConeBeam.circular(4, 5, DSO, DOD), "FanBeam takes one line"),
        (lambda: ConeBeam.helical(4, (2, 5), DSO, DOD, pitch=math.nan, turns=1), "pitch must be finite"),
        (lambda: ConeBeam((0.0,), (2, 5), DSO, DOD, z0=math.inf), "z0 must be finite"),
        (lambda: Detector(5, -1.0), "spacing must be positive"),
        (lambda: Detector((5, 4), (1.0, 0.0)), "spacing must be positive"),
        (lambda: Detector((5, 4, 3)), "columns or"),
        (lambda: Detector(0), "at least 1"),
        (lambda: Detector(5, math.nan), "finite"),
        (lambda: Detector(5, 1.0, (1.0, 2.0)), "one number or 1"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_helix_may_run_on_beyond_two_turns():
    assert len(ConeBeam.helical(100, (2, 5), DSO, DOD, pitch=1.0, turns=10)) == 100
