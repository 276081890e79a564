"""Where voxels are: the grid's coordinates, its direction of y, and the map from the world to indices."""

from __future__ import annotations

import math

import pytest
import torch

from medical.geometry import Volume


def coordinates(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("volume", "axis", "wanted"),
    [
        (Volume((3, 4)), -1, [-1.5, -0.5, 0.5, 1.5]),  # even: no pixel at 0
        (Volume((3, 4)), -2, [1.0, 0.0, -1.0]),  # a picture: row 0 at the top
        (Volume((2, 3, 4)), -2, [-1.0, 0.0, 1.0]),  # a volume: y grows
        (Volume((2, 3, 4)), -3, [-0.5, 0.5]),
        (Volume((2, 3, 4), voxel=(5.0, 2.0, 1.0)), -3, [-2.5, 2.5]),
        (Volume((2, 3, 4), voxel=(5.0, 2.0, 1.0)), 1, [-2.0, 0.0, 2.0]),
        (Volume((3, 4), voxel=(2.0, 0.5), centre=(10.0, -1.0)), -2, [12.0, 10.0, 8.0]),
        (Volume((3, 4), voxel=(2.0, 0.5), centre=(10.0, -1.0)), -1, [-1.75, -1.25, -0.75, -0.25]),
        (Volume((3, 4), flip_y=False), -2, [-1.0, 0.0, 1.0]),
        (Volume((1, 3, 4), flip_y=True), -2, [1.0, 0.0, -1.0]),
    ],
)
def test_axis(volume, axis, wanted):
    torch.testing.assert_close(volume.axis(axis), coordinates(wanted), rtol=0, atol=0)


@pytest.mark.parametrize(
    "volume",
    [
        Volume((5, 8), (0.7, 1.3), (2.0, -3.0)),
        Volume((4, 5, 6), (3.0, 2.0, 1.0), (1.0, -2.0, 0.5)),
        Volume((4, 5, 6), 0.3, (1.0, -2.0, 0.5), flip_y=True),
    ],
    ids=repr,
)
def test_to_index_inverts_axis(volume):
    scale, shift = volume.to_index()
    for axis in range(-volume.ndim, 0):
        k = -axis - 1  # x first
        index = scale[k] * volume.axis(axis) + shift[k]
        torch.testing.assert_close(index, torch.arange(volume.shape[axis]).double(), rtol=0, atol=1e-12)


def test_the_z_index_of_a_picture_is_0_in_its_plane():
    scale, shift = Volume((5, 8)).to_index()
    assert (scale[2], shift[2]) == (1.0, 0.0)


def test_radii_and_extent():
    volume = Volume((10, 20), (2.0, 0.5))  # 20 by 10
    assert volume.extent == (20.0, 10.0)
    assert volume.radius == 5.0
    assert volume.outer_radius == pytest.approx(math.hypot(10, 5))
    moved = Volume((10, 20), (2.0, 0.5), (0.0, 3.0))
    assert moved.radius == 2.0
    assert moved.outer_radius == pytest.approx(math.hypot(10, 8))
    assert Volume((4, 4), 1.0, (10.0, 0.0)).radius == 0.0


def test_slice_keeps_the_plane():
    assert Volume((7, 5, 6), (3.0, 2.0, 1.0), (9.0, 8.0, 7.0)).slice() == Volume((5, 6), (2.0, 1.0), (8.0, 7.0), flip_y=False)


def test_equal_by_value_hash_and_repr():
    a, b = Volume([4, 5], 1), Volume((4, 5), (1.0, 1.0), torch.zeros(2), flip_y=True)
    assert a == b
    assert hash(a) == hash(b)
    assert eval(repr(a)) == a
    assert a != Volume((4, 5), 1, flip_y=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((4,),), "shape"),
        (((4, 0),), "at least 1"),
        (((4, 2.5),), "whole"),
        (((4, True),), "whole"),
        (((4, 4), -1.0), "voxel must be positive"),
        (((4, 4), (1.0, 0.0)), "voxel must be positive"),
        (((4, 4), float("nan")), "voxel must be finite"),
        (((4, 4), (1.0, 1.0, 1.0)), "one number or 2"),
        (((4, 4), 1.0, (0.0, math.inf)), "centre must be finite"),
    ],
)
def test_what_is_no_grid_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Volume(*arguments)
