"""Squares for training and benchmarks."""

from __future__ import annotations

import pytest
import torch

from restore.degradations import area_resize, benchmark_crop, eightfold, paired_crop, training_crop


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(H: int, W: int) -> torch.Tensor:
    return torch.rand(3, H, W, generator=generator(5), dtype=torch.float64)


def test_training_crop_is_as_wide_as_the_shorter_side():
    x = image(12, 12)
    reduced = {mirrored: area_resize(x.flip(-1) if mirrored else x, (6, 6)) for mirrored in (False, True)}
    crops = [training_crop(x, 6, generator(seed)) for seed in range(20)]
    seen = {mirrored for mirrored, wanted in reduced.items() if any(torch.allclose(c, wanted) for c in crops)}
    assert seen == {False, True}
    wide = image(8, 20)
    crops = [training_crop(wide, 8, generator(seed)) for seed in range(12)]
    windows = [w for base in (wide, wide.flip(-1)) for w in base.unfold(2, 8, 1).unbind(2)]
    assert all(any(torch.allclose(c, w) for w in windows) for c in crops)
    assert len({float(c.sum()) for c in crops}) > 5


def test_small_images_are_mirrored():
    x = image(5, 5)
    y = training_crop(x, 8, generator())
    assert any(torch.allclose(y[:, :5, :5], base) and torch.allclose(y[:, 5, :5], base[:, 3]) for base in (x, x.flip(-1)))


def test_benchmark_crop_is_the_middle():
    x = image(16, 24)
    torch.testing.assert_close(benchmark_crop(x, 16), x[..., 4:20])
    torch.testing.assert_close(benchmark_crop(x, 8), area_resize(x, (8, 12))[..., 2:10])
    assert benchmark_crop(image(5, 7), 8).shape == (3, 8, 8)


def test_paired_crops_show_the_same():
    small = torch.rand(2, 3, 10, 12, generator=generator())
    large = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    starts = set()
    for seed in range(10):
        truth, degraded = paired_crop(large, small, 5, generator=generator(seed))
        assert torch.equal(truth[..., ::4, ::4], degraded)
        assert truth.shape[-2:] == (20, 20)
        starts.add(float(degraded[0, 0, 0, 0]))
    assert len(starts) > 3


def test_eightfold_gives_eight_different_images():
    x = image(4, 4)
    assert len({tuple(eightfold(x, mode).flatten().tolist()) for mode in range(8)}) == 8
    assert eightfold(image(4, 6), 2).shape == (3, 6, 4)


def test_bad_values():
    for call, message in (
        (lambda: training_crop(image(4, 4)[None], 4, generator()), "image must be"),
        (lambda: benchmark_crop(image(4, 4), 0), "size at least 1"),
        (lambda: paired_crop(image(9, 9), image(4, 4), 2, generator=generator()), "whole factor"),
        (lambda: paired_crop(image(8, 8), image(4, 4), 5, generator=generator()), "size within"),
        (lambda: eightfold(image(4, 4), 8), "mode must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
