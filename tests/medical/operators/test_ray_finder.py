"""The table of rays about a pixel: none is missed, on any plane of any beam, and few are in vain."""

from __future__ import annotations

import math

import pytest
import torch

from medical.geometry import Detector, FanBeam, ParallelBeam, Rays, VectorBeam, Volume
from medical.operators.lines import lines
from medical.operators.ray_finder import find_rays

VOLUME = Volume((23, 18), (0.8, 1.1), (1.5, -2.0))
BEAMS = {
    "parallel": ParallelBeam.uniform(9, Detector(33, 0.7, 0.3)),
    "fan": FanBeam.uniform(8, Detector(30, 1.7), 60.0, 40.0),
    "curved": FanBeam.uniform(8, Detector(30, 1.7, curved=True), 35.0, 40.0),
    "far away": FanBeam.uniform(5, Detector(30, 1.0), 1e6, 40.0),
    "source within": FanBeam.uniform(8, Detector(50, 1.0, curved=True), 4.0, 20.0),
    "one ray": FanBeam.uniform(8, 1, 60.0, 40.0),
    "vectors": VectorBeam.of(FanBeam((0.1, math.pi / 4, 2.0), Detector(20, 1.5, 0.4), 30.0, 30.0)),
}


def passing(finder, each, view, plane, pixel):
    """The places in ``finder.order`` that its table names for a pixel, as the kernel reads it, and all rays of the view."""
    rays = finder.order[finder.ends[view, 0] : finder.ends[view, 1] + 1]
    position = torch.from_numpy(each.intercept + each.slope * plane)[rays]
    steps = finder.bins.shape[1] - 1
    span = float(position[-1] - position[0]) or 1e-9
    middle, half = (pixel - float(position[0])) / span * steps, steps / abs(span) + 0.0625
    low, high = min(max(middle - half, 0.0), steps), min(max(middle + half, -1.0), steps - 1)
    start, stop = int(finder.bins[view, math.floor(low)]), int(finder.bins[view, math.floor(high) + 1])
    return range(start - int(finder.ends[view, 0]), stop - int(finder.ends[view, 0])), position


@pytest.mark.parametrize("beam", BEAMS.values(), ids=BEAMS.keys())
def test_every_ray_that_touches_a_pixel_is_found(beam):
    touched = 0
    for each in lines(VOLUME, beam.rays()):
        planes, across = VOLUME.shape[1 - each.major], VOLUME.shape[each.major]
        finder = find_rays(each, planes, beam.shape[1])
        assert (finder is None) == (not (each.first < each.last).any())
        if finder is None:
            continue
        assert sorted(finder.order.tolist()) == (each.first < each.last).nonzero()[0].tolist()
        for view in range(len(finder.bins)):
            for plane in (0, planes // 2, planes - 1):
                for pixel in range(across):
                    named, position = passing(finder, each, view, plane, pixel)
                    near = ((position - pixel).abs() < 1).nonzero().flatten().tolist()
                    assert set(near) <= set(named)
                    touched += len(near)
    assert touched > 40


def test_few_rays_are_named_in_vain():
    """A parallel beam with a ray a pixel: two touch a pixel, three or four are named."""
    volume = Volume((64, 64))
    each = lines(volume, ParallelBeam((0.0,), Detector(64, 1.0, 0.3)).rays())[1]
    finder = find_rays(each, 64, 64)
    named = [len(passing(finder, each, 0, 10, pixel)[0]) for pixel in range(2, 62)]
    assert min(named) >= 2
    assert max(named) <= 4


def test_rays_with_neither_a_direction_nor_a_point_in_common_have_no_finder():
    rays = BEAMS["parallel"].rays()
    turned = rays.direction.clone()
    turned[:, :, 0] += 0.01 * torch.arange(33, dtype=torch.float64) ** 2 / 33
    crooked = Rays(rays.origin, turned, rays.origin_step, rays.direction_step, rays.v)
    assert all(find_rays(each, 23, 33) is None for each in lines(VOLUME, crooked))
