"""Recolouring: colours against the standard library, light by its formula, local contrast by its histograms."""

import colorsys

import pytest
import torch

from restore.degradations import Recolouring, RecolouringRanges, equalised
from restore.degradations.recolouring import from_hsv, to_hsv


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_hue_saturation_and_value_are_those_of_the_standard_library():
    colours = picture(3, 40, 1, seed=1).double()
    colours[:, :8, 0] = torch.tensor([[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)]).T
    wanted = [colorsys.rgb_to_hsv(*c) for c in colours[..., 0].T.tolist()]
    hsv = to_hsv(colours)
    torch.testing.assert_close(hsv[..., 0].T, torch.tensor(wanted).double() * torch.tensor([6.0, 1, 1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(from_hsv(hsv), colours, atol=1e-12, rtol=0)


def test_light_is_its_formula():
    x = 0.3 + 0.4 * picture(3, 5, 6)
    out = Recolouring(contrast=0.2, brightness=-0.1).apply(x)
    torch.testing.assert_close(out, 1.2 * x - 0.1)
    assert float(Recolouring(brightness=0.9).apply(x).max()) == 1


def test_a_third_of_a_turn_moves_the_channels_on():
    x = picture(3, 5, 6)
    torch.testing.assert_close(Recolouring(hue=120).apply(x), x.roll(1, 0), atol=1e-5, rtol=0)


def test_saturation_and_value_are_added():
    x = from_hsv(torch.stack([6 * picture(9, 9), 0.4 + 0.2 * picture(9, 9, seed=1), 0.5 + 0.2 * picture(9, 9, seed=2)]))
    change = to_hsv(Recolouring(saturation=-0.1, value=0.05).apply(x)) - to_hsv(x)
    torch.testing.assert_close(change, torch.tensor([0, -0.1, 0.05]).view(3, 1, 1).expand(3, 9, 9), atol=1e-4, rtol=0)


def test_nothing_changes_by_default():
    x = picture(3, 5, 6)
    assert Recolouring().apply(x) is x


def test_one_tile_without_a_limit_is_equalised():
    """Every value becomes the share of pixels that are not above it."""
    x = (picture(20, 30) ** 3 * 255).round() / 255
    wanted = (x.flatten()[None] <= x.flatten()[:, None]).float().mean(1).view(x.shape)
    torch.testing.assert_close(equalised(x, 256.0, tiles=1), wanted, atol=1e-6, rtol=0)


def test_the_limit_bounds_the_contrast():
    x = (100 + (picture(64, 64) * 20).floor()) / 255
    for clip in (1.0, 2.0, 4.0):
        spread = equalised(x, clip, tiles=1)
        cut = 1 - clip * 20 / 256  # of the pixels, evenly on 20 levels; given back to 256
        assert float(spread.max() - spread.min()) == pytest.approx(19 / 256 * (clip + cut), abs=2e-3)


def test_tiles_have_their_own_histograms_and_join_without_a_step():
    x = torch.cat([0.2 + 0.1 * picture(64, 64), 0.7 + 0.1 * picture(64, 64, seed=1)], 1)
    out = equalised(x, 256.0, tiles=8)
    assert float(out[:, :48].std()) > 0.2 > 0.1 > float(x[:, :48].std())
    assert abs(float(out[:, :48].mean() - out[:, 80:].mean())) < 0.05
    flat = equalised(torch.linspace(0, 1, 64).expand(64, 64), 2.0)
    assert float(flat.diff(dim=1).min()) > -0.05
    assert float(flat.diff(dim=0).abs().max()) < 1e-6


@pytest.mark.parametrize("size", [(3, 5), (17, 64), (1, 1)])
def test_sizes_that_tiles_do_not_fill(size):
    out = equalised(picture(*size), 3.0)
    assert out.shape == size
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_equalisation_changes_luminance_alone():
    x = 0.4 + 0.2 * picture(3, 32, 32)
    out = Recolouring(clip=1.5).apply(x)
    assert float((out - x).abs().max()) > 0.01
    inside = ((out > 0) & (out < 1)).all(0)
    assert int(inside.sum()) > 900
    difference = (out - x)[:, inside]
    torch.testing.assert_close(difference[0], difference[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(difference[0], difference[2], atol=1e-6, rtol=0)


def test_draws_keep_to_their_ranges_and_follow_the_seed():
    ranges, source = RecolouringRanges(), torch.Generator().manual_seed(1)
    drawn = [ranges.draw(source) for _ in range(400)]
    clips = [d.clip for d in drawn if d.clip is not None]
    assert 1 <= min(clips) < 1.1 < 3.9 < max(clips) <= 4
    assert len(clips) == pytest.approx(200, abs=40)
    bounds = {"contrast": 0.2, "brightness": 0.2, "hue": 10, "saturation": 30 / 255, "value": 5 / 255}
    for name, bound in bounds.items():
        values = [getattr(d, name) for d in drawn if getattr(d, name)]
        assert 0.95 * bound < max(map(abs, values)) <= bound
        assert len(values) == pytest.approx(200, abs=40)
    again = [ranges.draw(torch.Generator().manual_seed(3)) for _ in range(2)]
    assert again[0] == again[1]
    assert RecolouringRanges(probability=0).draw(source) == Recolouring()


def test_bad_values_are_named():
    for settings in ({"clip": (0.5, 2)}, {"hue": -1}, {"probability": -0.1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            RecolouringRanges(**settings)
    for given in ((torch.zeros(3, 4, 4), 2.0), (torch.zeros(4, 4), 0.5)):
        with pytest.raises(ValueError, match="x must be"):
            equalised(*given)
    with pytest.raises(ValueError, match="one RGB image"):
        Recolouring().apply(torch.zeros(1, 4, 4))
