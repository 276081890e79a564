"""JPEG of a batch: against a real codec, its limits, and bad input."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from restore.degradations import jpeg_compress
from restore.degradations.jpeg import table_factor


def picture(H: int, W: int, seed: int = 0) -> torch.Tensor:
    """A smooth colour picture with some texture, (1, 3, H, W)."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, size=(H, W), mode="bicubic", align_corners=True)
    return (0.8 * smooth + 0.2 * torch.rand(1, 1, H, W, generator=g)).clamp(0, 1)


def through_pillow(x: torch.Tensor, quality: int) -> torch.Tensor:
    levels = (255 * x[0]).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("quality", [10, 25, 50])  # the tables are whole numbers
def test_grey_images_are_those_of_a_real_codec_once_turned(quality):
    x = (255 * picture(48, 64)[:, :1].expand(1, 3, 48, 64)).round() / 255
    turned = jpeg_compress(x.mT, quality).mT  # the luminance table is transposed
    error = (turned - through_pillow(x, quality)).abs()
    assert float(error.mean()) < 0.75 / 255
    assert float((jpeg_compress(x, quality) - turned).abs().mean()) > 0.5 / 255


def test_colour_images_are_near_those_of_a_real_codec():
    x = picture(64, 48, seed=1)
    real = through_pillow(x, 50)  # its decoder smooths the chroma
    assert float((jpeg_compress(x.mT, 50).mT - real).abs().mean()) < 0.5 * float((x - real).abs().mean())


def test_lower_quality_is_further_away():
    x = picture(40, 40)
    errors = [float((jpeg_compress(x, q) - x).square().mean()) for q in (95, 60, 30, 10)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 4


def test_quality_100_leaves_grey_images():
    x = picture(19, 33)[:, :1].expand(1, 3, 19, 33)
    torch.testing.assert_close(jpeg_compress(x, 100.0), x, atol=1e-5, rtol=0)


def test_every_image_has_its_quality_and_a_batch_equals_its_members():
    x = torch.cat([picture(20, 28), picture(20, 28, seed=1)])
    y = jpeg_compress(x, torch.tensor([30.0, 80.0]))
    for i, q in enumerate((30.0, 80.0)):
        torch.testing.assert_close(y[i : i + 1], jpeg_compress(x[i : i + 1], q))


def test_table_factor():
    torch.testing.assert_close(table_factor(torch.tensor([10.0, 25, 50, 75, 100])), torch.tensor([5.0, 2, 1, 0.5, 0]))


@pytest.mark.parametrize("quality", [0.0, 101.0, float("nan")])
def test_bad_quality(quality):
    with pytest.raises(ValueError, match="quality must lie in"):
        jpeg_compress(picture(16, 16), quality)


def test_bad_images():
    with pytest.raises(ValueError, match="RGB images"):
        jpeg_compress(picture(16, 16)[:, :1], 50)
