"""Blurring with a kernel an image, and unsharp masking."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from restore.degradations import UnsharpMask, blur
from restore.degradations.filtering import mirrored, separable_blur


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_mirrored_is_the_reflection_of_torch_and_goes_on_beyond_it():
    x = noise(2, 3, 9, 7)
    assert torch.equal(mirrored(mirrored(x, 5, -2), 5, -1), F.pad(x, (5, 5, 5, 5), mode="reflect"))
    assert mirrored(torch.tensor([0, 1, 2]), 5, 0).tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert mirrored(torch.tensor([4]), 2, 0).tolist() == [4] * 5


def test_every_image_has_its_own_kernel():
    x, kernel = noise(2, 3, 12, 10), noise(2, 5, 5, seed=1)
    y = blur(x, kernel)
    for i in range(2):
        torch.testing.assert_close(y[i], blur(x[i : i + 1], kernel[i])[0])
    by_hand = (x[1, 2, 3:8, 2:7] * kernel[1]).sum()
    torch.testing.assert_close(y[1, 2, 5, 4], by_hand)


def test_separable_blur_is_the_blur_by_the_outer_product():
    x, taps = noise(2, 3, 8, 9), noise(7)
    torch.testing.assert_close(separable_blur(x, taps), blur(x, torch.outer(taps, taps)))


def test_unsharp_mask_leaves_flat_images_and_raises_the_contrast_of_an_edge():
    sharpen = UnsharpMask(radius=10)
    flat = torch.full((1, 3, 20, 20), 0.3, dtype=torch.float64)
    torch.testing.assert_close(sharpen(flat), flat)
    edge = torch.where(torch.arange(40) < 20, 0.3, 0.6).double().expand(1, 3, 40, 40)
    out = sharpen(edge)
    assert float(out[..., 20, 20].mean()) > 0.63
    assert float(out[..., 20, 19].mean()) < 0.27
    torch.testing.assert_close(out[..., :5], edge[..., :5])


def test_detail_below_the_threshold_stays():
    x = 0.5 + (noise(1, 1, 24, 24) - 0.5) * 8 / 255
    assert torch.equal(UnsharpMask(radius=11)(x), x)
    assert not torch.equal(UnsharpMask(radius=11, threshold=1.0)(x), x)


def test_bad_values():
    x = noise(2, 3, 8, 8)
    with pytest.raises(ValueError, match="x must be a batch"):
        blur(x[0], noise(3, 3))
    for kernel in (noise(4, 4), noise(3, 3, 3), noise(3, 5)):
        with pytest.raises(ValueError, match="kernel must be"):
            blur(x, kernel)
    with pytest.raises(ValueError, match="taps must be"):
        separable_blur(x, noise(4))
    with pytest.raises(ValueError, match="radius must be"):
        UnsharpMask(radius=1)
