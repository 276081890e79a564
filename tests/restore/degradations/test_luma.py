"""Luma and the metrics of 8-bit images."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from restore.degradations import psnr, psnr_y, ssim, ssim_y, to_8_bits, to_luma, to_ycbcr


def pair(H: int = 24, W: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, H, W, generator=g)
    return to_8_bits(a), to_8_bits(a + 0.1 * torch.randn(a.shape, generator=g))


def colour(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("rgb", "levels"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((1, 1, 1), (235, 128, 128)),
        ((1, 0, 0), (81.481, 90.203, 240)),
        ((0, 0, 1), (40.966, 240, 109.786)),
    ],
)
def test_colours(rgb, levels):
    torch.testing.assert_close(255 * to_ycbcr(colour(*rgb)), colour(*levels), atol=1e-9, rtol=0)
    torch.testing.assert_close(255 * to_luma(colour(*rgb)), colour(*levels)[:, :1], atol=1e-9, rtol=0)


def test_psnr_of_one_level_is_known():
    a = torch.full((2, 3, 8, 8), 100 / 255)
    b = a.clone()
    b[1] += 2 / 255
    torch.testing.assert_close(psnr(a, b), torch.tensor([math.inf, 20 * math.log10(255 / 2)], dtype=torch.float64))


def test_the_border_is_left_out():
    a, b = pair()
    frame = b.clone()
    frame[..., 3:-3, 3:-3] = a[..., 3:-3, 3:-3]
    assert torch.isinf(psnr(a, frame, border=3)).all()
    assert torch.isfinite(psnr(a, frame, border=2)).all()
    torch.testing.assert_close(ssim(a, b, border=4), ssim(a[..., 4:-4, 4:-4], b[..., 4:-4, 4:-4]))


def test_ssim_is_that_of_scikit_image():
    a, b = pair()
    for got, x, y in ((ssim(a, b), a, b), (ssim_y(a, b), to_8_bits(to_luma(a.double())), to_8_bits(to_luma(b.double())))):
        for i in range(2):
            wanted = structural_similarity(
                (255 * x[i].double()).round().numpy(), (255 * y[i].double()).round().numpy(), data_range=255,
                channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            )  # fmt: skip
            assert float(got[i]) == pytest.approx(float(wanted), abs=1e-9)


def test_luma_is_rounded_to_8_bits():
    a, b = pair()
    levels = [(255 * to_luma(x.double())).round() for x in (a, b)]
    wanted = 10 * torch.log10(255**2 / (levels[0] - levels[1]).square().flatten(1).mean(1))
    torch.testing.assert_close(psnr_y(a, b), wanted)
    torch.testing.assert_close(ssim_y(a, a), torch.ones(2, dtype=torch.float64))


def test_bad_values():
    a, b = pair(12, 12)
    for call, message in (
        (lambda: psnr(a, b[..., :-1]), "one shape"),
        (lambda: psnr(a, b, border=6), "border must leave"),
        (lambda: ssim(a, b, border=1), "11 x 11"),
        (lambda: psnr_y(a[:, :1], b[:, :1]), "RGB images"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
