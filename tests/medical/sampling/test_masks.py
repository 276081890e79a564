"""Cartesian masks: the rate to the line, the centre, the density, the distances, and what they refuse."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medical.operators.sense import Sense
from medical.sampling.masks import equispaced, gaussian, poisson_disc, uniform, variable_density

RANDOM = {"uniform": uniform, "gaussian": gaussian, "variable_density": variable_density, "poisson_disc": poisson_disc}
ALL = {"equispaced": equispaced, **RANDOM}
SHAPES = [(64, 96), (61, 45), (48, 47)]

every_random = pytest.mark.parametrize("f", RANDOM.values(), ids=RANDOM.keys())
every = pytest.mark.parametrize("f", ALL.values(), ids=ALL.keys())
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def distances(mask: Tensor) -> Tensor:
    """Of each point from frequency zero, in halves of the sides."""
    i, j = mask.nonzero().double().unbind(1)
    H, W = mask.shape
    return torch.hypot((i - H // 2) / (H / 2), (j - W // 2) / (W / 2))


@every
@every_shape
@pytest.mark.parametrize("acceleration", [1, 2, 3.5, 4])
@pytest.mark.parametrize("axis", [0, 1])
def test_lines(f, shape, acceleration, axis):
    mask = f(shape, acceleration, acs=8, axis=axis)
    n = shape[axis]
    assert mask.dtype == torch.bool
    assert mask.shape == ((n, 1) if axis == 0 else (1, n))
    assert int(mask.sum()) == round(n / acceleration)
    assert mask.flatten()[n // 2 - 4 : n // 2 + 4].all()
    assert torch.equal(mask.flatten(), f(shape[::-1], acceleration, acs=8, axis=1 - axis).flatten())


@every_random
@every_shape
@pytest.mark.parametrize(("acceleration", "acs"), [(1, 0), (4, 8), (6, (10, 5)), (12.5, 7)])
def test_points(f, shape, acceleration, acs):
    mask = f(shape, acceleration, acs=acs, axis=None)
    H, W = shape
    assert mask.shape == shape
    assert int(mask.sum()) == round(H * W / acceleration)
    a, b = acs if isinstance(acs, tuple) else (acs, acs)
    assert mask[H // 2 - a // 2 :, W // 2 - b // 2 :][:a, :b].all()
    if acs == 7:  # odd: as far to both sides
        assert mask[H // 2 - 3 : H // 2 + 4, W // 2 - 3 : W // 2 + 4].all()


@every
def test_the_default_rate_of_a_scan(f):
    mask = f((256, 256), 8)
    assert mask.numel() / int(mask.sum()) == pytest.approx(8, rel=0.01)


@every_random
@pytest.mark.parametrize("axis", [1, None])
def test_seeds(f, axis):
    first = f((48, 64), 4, acs=8, axis=axis, seed=3)
    assert torch.equal(first, f((48, 64), 4, acs=8, axis=axis, seed=3))
    assert not torch.equal(first, f((48, 64), 4, acs=8, axis=axis, seed=4))


@pytest.mark.parametrize("n", [60, 64, 97, 11])
@pytest.mark.parametrize("acceleration", [2, 3, 4, 4.7])
@pytest.mark.parametrize("offset", [0, 1])
def test_equispaced_gaps(n, acceleration, offset):
    """Without ACS the gaps differ by one at most, around the edge too."""
    lines = equispaced((1, n), acceleration, acs=0, offset=offset).flatten().nonzero().flatten()
    gaps = torch.diff(lines, append=lines[:1] + n)
    assert len(lines) == round(n / acceleration)
    assert int(gaps.max() - gaps.min()) <= 1
    assert bool((lines == offset).any())


def test_equispaced_whole():
    mask = equispaced((8, 24), 4, acs=6, offset=1, whole=True)
    assert mask.flatten().nonzero().flatten().tolist() == [1, 5, 9, 10, 11, 12, 13, 14, 17, 21]
    frames = torch.stack([equispaced((1, 20), 4, acs=0, offset=t, whole=True) for t in range(4)])
    assert torch.equal(frames.sum(0), torch.ones(1, 20, dtype=torch.int64))  # the frames fill k-space


def test_equispaced_lies_evenly_on_both_sides():
    mask = equispaced((1, 128), 4, acs=16).flatten()
    gap = max(len(list(run)) for seen, run in itertools.groupby(mask.tolist()) if not seen)
    assert gap <= math.ceil(112 / 16)
    assert abs(int(mask[:56].sum()) - int(mask[72:].sum())) <= 1


def test_uniform_is_uniform():
    counts = sum(uniform((1, 40), 4, acs=4, seed=s).double() for s in range(2000)).flatten()
    outer = torch.cat([counts[:18], counts[22:]]) / 2000
    assert float(outer.mean()) == pytest.approx(6 / 36, rel=1e-12)
    assert float((outer - 6 / 36).abs().max()) < 5 * math.sqrt(6 / 36 * 30 / 36 / 2000)


def test_gaussian_has_its_width():
    """Far below saturation the points have the standard deviation asked for."""
    mask = gaussian((400, 600), 200, acs=0, width=0.1, axis=None)
    i, j = mask.nonzero().double().unbind(1)
    assert float(i.std()) == pytest.approx(40, rel=0.06)
    assert float(j.std()) == pytest.approx(60, rel=0.06)
    assert float(i.mean()) == pytest.approx(200, abs=5)


def test_variable_density_decays():
    shares = []
    for decay in (0, 1, 3, 6):
        inside = distances(variable_density((128, 128), 10, acs=0, decay=decay)) < 0.5
        shares.append(float(inside.double().mean()))
    assert shares[0] == pytest.approx(math.pi / 16, abs=0.03)  # the area of the disc
    assert shares[1] > shares[0] + 0.1
    assert shares[2] > shares[1] + 0.1
    assert shares[3] > shares[2] + 0.1


@pytest.mark.parametrize(("shape", "acceleration", "decay"), [((64, 64), 8, 0.0), ((61, 80), 6, 1.0), ((72, 48), 12, 3.0)])
def test_poisson_disc_keeps_its_distance(shape, acceleration, decay):
    """Distances over radii: no pair is much nearer than the typical one, unlike for random points."""

    def nearest(mask: Tensor) -> Tensor:
        points = mask.nonzero().double()
        gaps = torch.cdist(points, points).fill_diagonal_(math.inf).min(1).values
        return gaps / (1 + decay * distances(mask))

    mask = poisson_disc(shape, acceleration, acs=0, decay=decay)
    regular, random = nearest(mask), nearest(uniform(shape, acceleration, acs=0, axis=None))
    assert float(regular.min() / regular.median()) > 0.5
    assert float(regular.std() / regular.mean()) < 0.5 * float(random.std() / random.mean())


def test_poisson_disc_has_no_holes():
    points = poisson_disc((96, 96), 8, acs=0, decay=0.0).nonzero().double()
    grid = torch.cartesian_prod(torch.arange(96.0), torch.arange(96.0)).double()
    hole = torch.cdist(grid, points).min(1).values.max()
    assert float(hole) < 3.5  # random points leave holes of 8 and more
    gaps = torch.cdist(points, points).fill_diagonal_(math.inf).min()
    assert float(gaps) >= 2


def test_poisson_disc_density():
    """Points per area fall as (1 + decay |k|)^-2."""
    r = distances(poisson_disc((192, 192), 8, acs=0, decay=3.0))
    rings = torch.histc(r, bins=5, min=0, max=1)
    edges = torch.linspace(0, 1, 6, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2
    density = rings / (edges[1:].square() - edges[:-1].square()) * (1 + 3 * middle) ** 2
    assert float(density.std() / density.mean()) < 0.15


def test_poisson_lines():
    lines = poisson_disc((8, 200), 5, acs=0, decay=0.0, axis=1).flatten().nonzero().flatten()
    gaps = torch.diff(lines)
    assert len(lines) == 40
    assert int(gaps.min()) >= 3  # of 5 on average
    assert int(gaps.max()) <= 8


def test_masks_fit_the_operator():
    maps = torch.ones(2, 24, 32, dtype=torch.complex64)
    for axis in (0, 1):
        y = Sense(maps, uniform((24, 32), 4, acs=4, axis=axis))(torch.ones(1, 1, 24, 32))
        assert y.shape == (1, 2, 24, 32)
        assert float(y[..., 12, 16].abs().min()) == pytest.approx(math.sqrt(24 * 32), rel=1e-6)  # the mean is measured


@every
def test_refusals(f):
    with pytest.raises(ValueError, match=r"acceleration must be a finite number, at least 1.*got 0\.5"):
        f((64, 64), 0.5, acs=4, axis=1)
    with pytest.raises(ValueError, match="acceleration must be a finite number"):
        f((64, 64), math.nan, acs=4, axis=1)
    with pytest.raises(ValueError, match=r"acs must lie within the 1 x 64 points.*got 65"):
        f((64, 64), 2, acs=65, axis=1)
    with pytest.raises(ValueError, match=r"acs must lie within.*got -1"):
        f((64, 64), 2, acs=-1, axis=1)
    with pytest.raises(ValueError, match=r"acs must fit into the 16 of 64 lines.*got 24.*at most 2\.67"):
        f((64, 64), 4, acs=24, axis=1)
    with pytest.raises(ValueError, match=r"acs must be a number of lines.*got \(4, 4\)"):
        f((64, 64), 4, acs=(4, 4), axis=1)
    with pytest.raises(ValueError, match=r"shape must be \(H, W\), got \(1, 64, 64\)"):
        f((1, 64, 64), 4, acs=4, axis=1)
    with pytest.raises(ValueError, match=r"axis must be 0 .*got 2"):
        f((64, 64), 4, acs=4, axis=2)
    assert int(f((64, 64), 4, acs=16, axis=1).sum()) == 16  # the ACS may be all there is


@every_random
def test_refusals_of_points(f):
    with pytest.raises(ValueError, match=r"acs must fit into the 64 of 1024 points.*got 24"):
        f((32, 32), 16, acs=24, axis=None)
    with pytest.raises(ValueError, match=r"acs must lie within the 32 x 16 points.*got 24"):
        f((32, 16), 1, acs=24, axis=None)


def test_refusals_of_one():
    with pytest.raises(ValueError, match=r"offset must be a whole number in \[0, 4\).*got 4"):
        equispaced((8, 64), 4, acs=0, offset=4)
    with pytest.raises(ValueError, match=r"acceleration must be a whole number with whole=True, got 2\.5"):
        equispaced((8, 64), 2.5, acs=0, whole=True)
    with pytest.raises(ValueError, match="axis must be 0"):
        equispaced((8, 64), 2.5, acs=0, axis=None)
    with pytest.raises(ValueError, match="width must be a positive share of the sides, got 0"):
        gaussian((8, 64), 2, acs=0, width=0)
    for f in (variable_density, poisson_disc):
        with pytest.raises(ValueError, match="decay must be finite and not negative, got -1"):
            f((8, 64), 2, acs=0, decay=-1)


@pytest.mark.parametrize(("shape", "acceleration", "axis"), [((1, 1), 1, None), ((12, 9), 108, None), ((1, 7), 7, 1)])
def test_a_single_dart(shape, acceleration, axis):
    """The first dart always sticks, however large the discs."""
    mask = poisson_disc(shape, acceleration, acs=0, axis=axis)
    assert int(mask.sum()) == 1


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert torch.equal(gaussian((16, 12), 2, acs=np.int64(4), axis=None), gaussian((16, 12), 2, acs=4, axis=None))
    assert torch.equal(equispaced((16, 12), 2, acs=0, offset=np.int64(1)), equispaced((16, 12), 2, acs=0, offset=1))
    with pytest.raises(ValueError, match="acs must be a number of lines"):
        gaussian((16, 12), 2, acs=4.0, axis=None)
