"""Vector beams have the rays of the beams they come from, and take any others."""

from __future__ import annotations

import math

import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam

BEAMS = [
    ParallelBeam((0.1, 0.5, 2.0), Detector((3, 5), (2.0, 1.0), (1.0, -0.5))),
    ParallelBeam.uniform(4, Detector(5, 2.0, 0.25)),
    FanBeam.uniform(5, Detector(6, 1.5, 2.0), 100.0, 50.0),
    ConeBeam.helical(6, Detector((4, 6), (2.0, 1.5), (1.0, -2.0)), 100.0, 50.0, pitch=12.0, turns=2.5),
]
PARTS = {"sources": [[0, -10, 0]], "centres": [[0, 5, 1]], "columns": [[1, 0, 0]], "rows": [[0, 0, 1]]}


@pytest.mark.parametrize("beam", BEAMS, ids=lambda b: f"{type(b).__name__}-{len(b)}")
def test_of_has_the_same_rays(beam):
    vectors = VectorBeam.of(beam)
    assert vectors.shape == beam.shape
    assert vectors.divergent == beam.divergent
    for ours, theirs in zip(vectors.rays().lines(), beam.rays().lines(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_a_ray_by_hand():
    points, ways = VectorBeam(**PARTS, detector=Detector((2, 3), (4.0, 0.5), (0.0, 1.0))).rays().lines()
    way = torch.tensor([0.5 + 1.0, 15.0, 1.0 + 2.0], dtype=torch.float64)  # C + u U + v V - S at u = 1.5, v = 2
    torch.testing.assert_close(ways[0, 1, 2], way / way.norm(), rtol=0, atol=1e-12)
    torch.testing.assert_close(points[0, 1, 2], torch.tensor([0.0, -10.0, 0.0], dtype=torch.float64))


def test_slicing_equality_and_repr():
    beam = VectorBeam.of(BEAMS[3])
    assert eval(repr(beam)) == beam
    assert hash(beam) == hash(VectorBeam.of(BEAMS[3]))
    for which in (1, -1, slice(None, None, -2), [2, 0], torch.arange(6) > 3, [True, False] * 3):
        assert beam[which] == VectorBeam.of(BEAMS[3][which])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": []}, "shape"),
        ({"sources": [[0, 0]]}, r"\(views, 3\)"),
        ({"centres": [[0, 0, 0], [1, 1, 1]]}, r"centres must have shape \(1, 3\)"),
        ({"rows": [[0, 0, math.nan]]}, "rows must be finite"),
        ({"sources": [[0, 0, 0]], "parallel": True}, r"directions other than zero, got \(0.0, 0.0, 0.0\) in view 0"),
        ({"sources": PARTS["centres"]}, "points off the detector's middle, got .* in view 0"),
        ({"detector": Detector(5, curved=True)}, "flat"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        VectorBeam(**({**PARTS, "detector": 5} | change))


def test_a_curved_detector_has_no_vectors():
    with pytest.raises(TypeError, match="flat detector"):
        VectorBeam.of(FanBeam.uniform(4, Detector(5, curved=True), 10.0, 5.0))
