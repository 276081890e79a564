"""Tiles: the weights sum to one, and what is local comes out as if there had been no tiles."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from posterior.tiles import Tiling, Window

TILING = Tiling(tile=32, overlap=16, above=0.0)
SIZES = [(32, 32), (33, 32), (50, 71), (64, 97), (100, 40), (20, 90)]


def mean_filter(x, radius):
    """Mean over a square, replicated at the border: local with that reach, and its border is what tiles must not show."""
    return F.avg_pool2d(F.pad(x[None], (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)[0]


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_weights_are_a_partition_of_unity(size, scale):
    total = torch.zeros(size[0] * scale, size[1] * scale, dtype=torch.float64)
    for window in TILING.windows(size, scale=scale):
        weight = TILING.weight(window, size, scale=scale)
        assert weight.min() >= 0
        (window * scale).crop(total).add_(weight)
    assert (total - 1).abs().max() < 1e-14


@pytest.mark.parametrize("size", SIZES)
def test_tiles_have_one_size_and_overlap_enough(size):
    windows = TILING.windows(size)
    assert {w.size for w in windows} == {(min(size[0], 32), min(size[1], 32))}
    columns = sorted({(w.left, w.right) for w in windows})
    assert columns[0][0] == 0
    assert columns[-1][1] == size[1]
    assert all(a[1] - b[0] >= 16 for a, b in itertools.pairwise(columns))


@pytest.mark.parametrize("size", SIZES)
def test_local_operation_is_reproduced(size):
    x = torch.rand(3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = mean_filter(x, 4)  # reach overlap / 4
    tiled = TILING.map(lambda w: mean_filter(w.crop(x), 4), size)
    assert (tiled - whole).abs().max() < 1e-14


def test_too_little_overlap_shows():
    x = torch.rand(1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tiled = TILING.map(lambda w: mean_filter(w.crop(x), 9), (64, 64))
    assert (tiled - mean_filter(x, 9)).abs().max() > 1e-3


@pytest.mark.parametrize("scale", [2, 3])
def test_larger_output(scale):
    x = torch.rand(2, 41, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def enlarge(x):
        return x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    tiled = TILING.map(lambda w: enlarge(w.crop(x)), (41, 30), scale=scale)
    assert len(TILING.windows((41, 30), scale=scale)) > 1
    assert (tiled - enlarge(x)).abs().max() < 1e-14


def test_the_ramp_is_smooth_and_leaves_the_rim_out():
    tiling = Tiling(tile=64, overlap=32, above=0.0)
    first = tiling.weight(tiling.windows((64, 96))[0], (64, 96))[0]
    assert first[:40].eq(1).all()  # the cut is at 48, the ramp 16 wide
    assert first[56:].eq(0).all()
    assert first[47] + first[48] == pytest.approx(1, abs=1e-12)
    assert first.diff().abs().max() < 0.1  # pi / 32 at the steepest


def test_small_images_stay_whole():
    assert Tiling(tile=64, overlap=8, above=0.01).windows((100, 100)) == [Window(0, 100, 0, 100)]
    assert len(Tiling(tile=64, overlap=8, above=0.01).windows((100, 101))) == 4
    assert len(Tiling(tile=64, overlap=8, above=0.01).windows((50, 51), scale=2)) == 4  # counted after enlarging
    assert Tiling(tile=0, overlap=8, above=0.0).windows((100, 100)) == [Window(0, 100, 0, 100)]


@pytest.mark.parametrize(("tile", "overlap"), [(32, 17), (-1, 0), (32, -1)])
def test_impossible_tilings(tile, overlap):
    with pytest.raises(ValueError, match=f"at least twice overlap.*got tile={tile} and overlap={overlap}"):
        Tiling(tile=tile, overlap=overlap)
