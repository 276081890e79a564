"""TurnedVolume: the turn to canonical axes as a part of the operator."""

import itertools

import pytest
import torch

from inverse.operators import Identity
from medical.files import Scan
from medical.files.orientation import canonical
from medical.geometry import ParallelBeam, Volume
from medical.operators import Projector
from posterior.turned import TurnedVolume, in_plane, turned

AXES = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def scan(order=(0, 1, 2), signs=(1, 1, 1), shape=(2, 3, 4)):
    """Axis n of (x, y, z) along direction order[n] of RAS."""
    affine = torch.zeros(4, 4, dtype=torch.float64)
    for n in range(3):
        affine[order[n], n] = signs[n] * (n + 1.0)
    affine[3, 3] = 1
    return Scan(data=torch.arange(24.0).reshape(shape), affine=affine)


@pytest.mark.parametrize(("order", "signs"), AXES)
def test_volumes_come_back_to_the_source(order, signs):
    source = scan(order, signs)
    image, undo = canonical(source)
    A = turned(Identity(source.data[None].shape), undo)
    assert torch.equal(A(image.data[None, None])[0, 0], source.data)
    assert torch.equal(A.adjoint(source.data[None, None])[0, 0], image.data)
    if isinstance(A, TurnedVolume):
        assert A.domain == (1, *image.data.shape)
        assert A.adjointness() < 1e-6
        assert torch.equal(A.back(A.turn(image.data)), image.data)


@pytest.mark.parametrize(("order", "signs"), [pair for pair in AXES if pair[0][2] == 2])
def test_slices_are_turned_within(order, signs):
    source = scan(order, signs)
    image, undo = canonical(source)
    assert in_plane(undo)
    A = turned(Identity((1, *source.data.shape[-2:])), undo)
    slices = image.data.flip(0) if undo.flips[0] else image.data  # the order of the slices is not the operator's
    assert torch.equal(A(slices[:, None])[:, 0], source.data)


def test_what_has_the_axes_already_is_left_alone():
    A = Projector(Volume((3, 4)), ParallelBeam.uniform(5, 6))
    assert turned(A, canonical(scan(signs=(-1, -1, 1)))[1]) is A
    assert not in_plane(canonical(scan((1, 2, 0)))[1])


def test_bad_input():
    A = Projector(Volume((3, 4)), ParallelBeam.uniform(5, 6))
    with pytest.raises(ValueError, match=r"order must be a permutation of 2 axes with as many flips, got \(0, 0\) and"):
        TurnedVolume(A, (0, 0), (True, False))
    with pytest.raises(ValueError, match="A must have a domain to turn"):
        TurnedVolume(Identity(), (0, 1), (True, False))
