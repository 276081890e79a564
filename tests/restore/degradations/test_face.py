"""The degradation of faces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from restore.degradations import FACE_TEST, FACE_TRAINING, FaceDegradation, GeneratorFields, delta_kernel, to_8_bits


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(B: int = 1, side: int = 32) -> torch.Tensor:
    return torch.rand(B, 3, side, side, generator=generator(1))


def test_stages_that_do_nothing_leave_the_image():
    x = to_8_bits(faces()[0, :1].expand(3, 32, 32))
    y = FaceDegradation(delta_kernel(3), 1.0, 0.0, 100.0).apply(x, GeneratorFields(generator()))
    torch.testing.assert_close(y, x)


def test_reduction_is_linear_without_antialiasing_and_back():
    x = faces()[0, :1].expand(3, 32, 32)
    y = FaceDegradation(delta_kernel(3), 2.0, 0.0, 100.0).apply(x, GeneratorFields(generator()))
    small = torch.nn.functional.avg_pool2d(x[None], 2)  # halving samples between the pixels
    wanted = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear")[0]
    assert float((y - wanted).abs().max()) < 0.6 / 255


def test_draws_follow_the_ranges():
    g = generator(2)
    drawn = [FACE_TEST.draw(g) for _ in range(100)]
    for name in ("reduction", "sigma", "quality"):
        low, high = getattr(FACE_TEST, name)
        values = [getattr(d, name) for d in drawn]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high
    assert all(d.kernel.shape == (41, 41) for d in drawn)
    assert not any(d.grey for d in drawn)


def test_grey_images_have_a_grey_truth():
    x = faces(2)
    truth, degraded = replace(FACE_TRAINING, grey=1.0)(x, generator())
    for y in (truth, degraded):
        torch.testing.assert_close(y, y[:, :1].expand_as(y))
    truth, degraded = replace(FACE_TRAINING, grey=0.0)(x, generator())
    assert torch.equal(truth, x)
    assert degraded.shape == x.shape


def test_same_seed_same_faces():
    x = faces(2)
    one, other, again = (FACE_TRAINING(x, generator(s))[1] for s in (3, 4, 3))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_bad_values():
    with pytest.raises(ValueError, match="RGB images"):
        FACE_TRAINING(faces()[0], generator())
    with pytest.raises(ValueError, match="quality must be"):
        replace(FACE_TRAINING, quality=(0.0, 50.0))
    with pytest.raises(ValueError, match="reduction must be"):
        replace(FACE_TRAINING, reduction=(4.0, 2.0))
