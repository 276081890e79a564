"""Resizing: MATLAB's cubic convolution, exact area means, plain interpolation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from restore.degradations import ResizeRanges, area_resize, matlab_bicubic, rescale, resize_to


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_matlab_halving_has_the_known_taps():
    x = torch.zeros(1, 16, dtype=torch.float64)
    x[0, 8] = 1
    wanted = torch.tensor([0, 0, -0.01171875, 0.11328125, 0.43359375, -0.03515625, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(matlab_bicubic(x.expand(16, 16), 0.5)[4], wanted)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_matlab_reduction_is_the_antialiased_cubic_of_torch_away_from_the_edge(factor):
    x = image(1, 3, 48, 60)
    wanted = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(matlab_bicubic(x, 1 / factor)[inside], wanted[inside], atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [0.25, 0.37, 1.0, 2.6, 4.0])
def test_matlab_keeps_constants_and_rounds_sizes_up(scale):
    y = matlab_bicubic(torch.full((3, 11, 7), 0.4, dtype=torch.float64), scale)
    torch.testing.assert_close(y, torch.full_like(y, 0.4))
    assert y.shape[-2:] == tuple(-int(-n * scale // 1) for n in (11, 7))


def test_matlab_takes_images_smaller_than_its_kernel():
    torch.testing.assert_close(matlab_bicubic(image(3, 1, 1), 0.25), image(3, 1, 1))
    assert matlab_bicubic(image(3, 2, 3), 0.25).shape == (3, 1, 1)


def test_area_means():
    x = image(2, 3, 12, 18)
    torch.testing.assert_close(area_resize(x, (4, 6)), F.avg_pool2d(x, 3))
    row = torch.tensor([[1.0, 2, 4]])
    torch.testing.assert_close(area_resize(row, (1, 2)), torch.tensor([[(1 + 2 / 2) / 1.5, (2 / 2 + 4) / 1.5]]))
    torch.testing.assert_close(area_resize(x, (5, 7)).mean(), x.mean())


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
def test_rescale_samples_where_the_scale_says(mode):
    x = torch.arange(20.0).expand(1, 1, 20, 20)
    y = rescale(x, 0.72, mode)  # 14.4 pixels: 14
    assert y.shape[-2:] == (14, 14)
    if mode == "bilinear":
        torch.testing.assert_close(y[0, 0, 0], (torch.arange(14) + 0.5) / 0.72 - 0.5)
    assert resize_to(x, (6, 30), mode).shape[-2:] == (6, 30)
    torch.testing.assert_close(rescale(x, 1.0, mode), x)


def test_draws_follow_the_ranges():
    ranges, g = ResizeRanges(probabilities=(0.2, 0.7, 0.1), scales=(0.15, 1.5)), torch.Generator().manual_seed(0)
    drawn = [ranges.draw(g) for _ in range(2000)]
    scales = torch.tensor([r.scale for r in drawn])
    shares = [float(s.float().mean()) for s in (scales > 1, scales < 1, scales == 1)]
    assert shares == pytest.approx([0.2, 0.7, 0.1], abs=0.04)
    assert 0.15 <= float(scales.min()) < 0.17
    assert 1.45 < float(scales.max()) <= 1.5
    assert {sum(r.mode == mode for r in drawn) > 580 for mode in ("area", "bilinear", "bicubic")} == {True}


def test_bad_values():
    x = image(1, 3, 8, 8)
    with pytest.raises(ValueError, match="mode must be one of"):
        rescale(x, 0.5, "lanczos")
    with pytest.raises(ValueError, match="leaves no pixel"):
        rescale(x, 0.1, "area")
    with pytest.raises(ValueError, match="batch of images"):
        resize_to(x[0], (4, 4), "area")
    for call in (lambda: resize_to(x, (0, 4), "area"), lambda: area_resize(x, (4, 0))):
        with pytest.raises(ValueError, match="size must be"):
            call()
    with pytest.raises(ValueError, match="scale must be"):
        matlab_bicubic(x, 0.0)
    with pytest.raises(ValueError, match="scales must be"):
        ResizeRanges(scales=(1.1, 1.5))
    with pytest.raises(ValueError, match="probabilities must be"):
        ResizeRanges(probabilities=(0.0, 0.0, 0.0))
