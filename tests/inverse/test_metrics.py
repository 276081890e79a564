"""PSNR and SSIM against their closed forms."""

import math

import pytest
import torch

from inverse.metrics import psnr, ssim


def images(seed: int = 0, shape: tuple[int, ...] = (2, 3, 16, 14)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_constant_error():
    x = images()
    assert psnr(x + 0.1, x).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert psnr(255 * x + 25.5, 255 * x, data_range=255).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert psnr(x, x).tolist() == [math.inf, math.inf]


def test_psnr_is_of_each_member():
    x = torch.zeros(2, 1, 4, 4)
    y = torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.01)])
    assert psnr(y, x).tolist() == pytest.approx([20.0, 40.0], abs=1e-5)


def test_ssim_of_constant_images_is_its_luminance_term():
    # without variance, SSIM = (2 a b + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2
    a, b = 0.3, 0.5
    wanted = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim(torch.full((1, 3, 12, 12), a), torch.full((1, 3, 12, 12), b)).item() == pytest.approx(wanted, abs=1e-6)


def test_ssim_of_a_contrast_change():
    # y = m + k (x - m) has the same mean and correlation one: SSIM = (2 k v + C2) / ((1 + k^2) v + C2) at each pixel,
    # which tends to 2 k / (1 + k^2) where the variance v is far above C2 = 0.03^2
    n = torch.arange(32)
    x = torch.where((n[:, None] + n) % 2 == 0, 100.0, -100.0).view(1, 1, 32, 32)
    assert ssim(0.5 * x, x).item() == pytest.approx(2 * 0.5 / 1.25, abs=1e-4)
    assert ssim(x, x).item() == pytest.approx(1.0, abs=1e-12)


def test_bad_input():
    x = images()
    with pytest.raises(ValueError, match=r"one shape \(B, C, H, W\), got \(2, 3, 16, 14\) and \(1, 3, 16, 14\)"):
        psnr(x, x[:1])
    with pytest.raises(ValueError, match=r"one shape \(B, C, H, W\)"):
        ssim(x[0], x[0])
    with pytest.raises(ValueError, match="data_range must be positive, got 0"):
        psnr(x, x, data_range=0)
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(x[..., :10], x[..., :10])
