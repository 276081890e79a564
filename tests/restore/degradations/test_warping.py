"""Warps: each map is what its formula says, their chain too, and draws keep to their ranges."""

import math

import pytest
import torch

from restore.degradations import Warp, WarpRanges


def ramp(height, width):
    """A picture whose first channel is the place from left to right in 0..1, the second that from top to bottom."""
    x, y = ((torch.arange(n) + 0.5) / n for n in (width, height))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_moves_by_default():
    x = ramp(6, 9)
    assert Warp().apply(x) is x
    places = Warp().places(6, 9)
    torch.testing.assert_close((places.permute(2, 0, 1).float() + 1) / 2, x[:2], atol=1e-6, rtol=0)


def test_a_quarter_turn_is_a_quarter_turn():
    x = torch.rand(3, 8, 8, generator=generator())
    torch.testing.assert_close(Warp(rotation=math.pi / 2).apply(x), x.rot90(-1, (-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(Warp(rotation=math.pi).apply(x[:, :5]), x[:, :5].rot90(2, (-2, -1)), atol=1e-5, rtol=0)


def test_an_enlarged_image_shows_its_middle():
    out = Warp(scale=2.0).apply(ramp(16, 32))[:2]
    wanted = 0.25 + ramp(16, 32)[:2] / 2
    torch.testing.assert_close(out, wanted, atol=0.05 / 16, rtol=0)  # a twentieth of a pixel, off by which cubics with a = -3/4


def test_a_reduced_image_is_mirrored_at_its_edges():
    out = Warp(scale=0.5).apply(ramp(16, 16))[0]
    torch.testing.assert_close(out, out.flip(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(out[:, :4], out[:, 4:8].flip(1), atol=1e-5, rtol=0)


def test_shear_moves_rows_in_proportion():
    places = Warp(shear=0.25).places(8, 8)
    y = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
    torch.testing.assert_close(places[..., 0], y - 0.25 * y[:, None], atol=1e-12, rtol=0)
    torch.testing.assert_close(places[..., 1], y[:, None].expand(8, 8), atol=1e-12, rtol=0)


def test_the_corners_are_where_they_are_moved_and_lines_stay_straight():
    corners = ((0.1, 0.05), (0.0, 0.02), (0.03, 0.04), (0.2, 0.0))
    homography = Warp(corners=corners)._homography()
    for (x, y), (dx, dy) in zip(((-1, -1), (1, -1), (1, 1), (-1, 1)), corners, strict=True):
        u, v, w = (homography @ torch.tensor([x, y, 1.0], dtype=torch.float64)).tolist()
        assert (u / w, v / w) == pytest.approx((x * (1 - 2 * dx), y * (1 - 2 * dy)), abs=1e-12)
    row = Warp(corners=corners).places(9, 12)[4]
    across = row - row[0]
    area = across[1:-1, 0] * across[-1, 1] - across[1:-1, 1] * across[-1, 0]
    assert float(area.abs().max()) < 1e-12


def test_the_lens_moves_pixels_along_their_radius():
    places = Warp(distortion=0.1).places(8, 16)
    c = Warp().places(8, 16) * torch.tensor([1.0, 0.5], dtype=torch.float64)
    wanted = c * (1 + 0.1 * c.square().sum(-1, keepdim=True))
    torch.testing.assert_close(places * torch.tensor([1.0, 0.5], dtype=torch.float64), wanted, atol=1e-12, rtol=0)


def test_lens_then_affine_map_then_perspective():
    parts = {"distortion": 0.1, "rotation": 0.3, "scale": 1.2, "shear": 0.1}
    corners = ((0.1, 0.05), (0.0, 0.02), (0.03, 0.04), (0.2, 0.0))
    before = Warp(**parts).places(7, 7)
    homography = Warp(corners=corners)._homography()
    p = torch.cat([before, torch.ones(7, 7, 1, dtype=torch.float64)], -1) @ homography.mT
    torch.testing.assert_close(Warp(corners=corners, **parts).places(7, 7), p[..., :2] / p[..., 2:], atol=1e-12, rtol=0)


def test_draws_keep_to_their_ranges_and_follow_the_seed():
    ranges, source = WarpRanges(), generator(1)
    drawn = [ranges.draw(source) for _ in range(400)]
    shares = torch.tensor([w.corners for w in drawn if w.corners != Warp().corners])
    assert 0 <= float(shares.min()) < 0.001 < 0.059 < float(shares.max()) <= 0.06
    turned = [w for w in drawn if w.scale != 1]
    for values, bound in (([w.rotation for w in turned], math.radians(40)), ([w.shear for w in turned], 0.1)):
        assert 0.95 * bound < max(map(abs, values)) <= bound
        assert abs(sum(values) / len(values)) < 0.15 * bound
    assert 0.7 <= min(w.scale for w in turned) < 0.72
    assert 1.28 < max(w.scale for w in turned) <= 1.3
    bent = [w.distortion for w in drawn if w.distortion]
    assert 0.045 < max(map(abs, bent)) <= 0.05
    for number in (len(shares), len(turned), len(bent)):
        assert number == pytest.approx(200, abs=40)  # four standard deviations
    assert [ranges.draw(generator(2)) for _ in range(2)] == [ranges.draw(generator(2))] * 2
    assert WarpRanges(probability=0).draw(source) == Warp()


def test_bad_values_are_named():
    for settings, message in (
        ({"corners": ((0.5, 0),) * 4}, "corners must be four pairs"),
        ({"corners": ((0.1, 0.1),)}, "corners must be four pairs"),
        ({"scale": 0.0}, "scale must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            Warp(**settings)
    for settings in ({"corners": (0.0, 0.5)}, {"scale": (2, 1)}, {"rotation": -1}, {"probability": 1.5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            WarpRanges(**settings)
    with pytest.raises(ValueError, match="one image"):
        Warp().apply(torch.zeros(1, 3, 4, 4))
