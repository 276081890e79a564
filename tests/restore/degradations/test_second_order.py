"""The whole degradation: what is left when every stage does nothing, what is drawn, seeds and settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from restore.degradations import (
    IMAGENET_TEST,
    TRAINING,
    Degradation,
    Ending,
    GeneratorFields,
    Noise,
    Pass,
    Resizing,
    area_resize,
    delta_kernel,
    to_8_bits,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(B: int = 1, side: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(B, 3, side, side, generator=generator(seed))


def nothing(*, jpeg_last: bool, second: bool) -> Degradation:
    none = Noise("gaussian", torch.zeros(1), torch.tensor([False]))
    best = torch.tensor([100.0])
    final = Pass(None, Resizing(1.0, "area"), none) if second else None
    return Degradation(Pass(delta_kernel(5), Resizing(1.0, "area"), none), best, final,
                       Ending(delta_kernel(3), "area", best, jpeg_last))  # fmt: skip


@pytest.mark.parametrize("jpeg_last", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_stages_that_do_nothing_leave_the_reduced_image(jpeg_last, second):
    x = picture()[:, :1].expand(1, 3, 48, 48)
    y = TRAINING.apply(x, nothing(jpeg_last=jpeg_last, second=second), GeneratorFields(generator()))
    wanted = to_8_bits(area_resize(x, (12, 12)))
    assert float((y - wanted).abs().max()) < 1.01 / 255
    assert float(((y - wanted).abs() > 1e-5).float().mean()) < 0.01  # grey levels on the border of two


@pytest.mark.parametrize("settings", [TRAINING, IMAGENET_TEST, replace(TRAINING, factor=2, second=1.0)])
def test_results_are_8_bit_images_of_the_reduced_size(settings):
    for seed in range(3):
        y = settings(picture(2, 45, seed), generator(seed))
        assert y.shape == (2, 3, 45 // settings.factor, 45 // settings.factor)
        torch.testing.assert_close(255 * y, (255 * y).round(), atol=1e-4, rtol=0)
        assert 0 <= float(y.min()) <= float(y.max()) <= 1


def test_same_seed_same_degradation():
    x = picture(2)
    assert torch.equal(TRAINING(x, generator(3)), TRAINING(x, generator(3)))
    assert not torch.equal(TRAINING(x, generator(3)), TRAINING(x, generator(4)))


def test_a_drawn_degradation_can_be_repeated():
    x, drawn = picture(2), TRAINING.draw(2, generator(1))
    first, again = (TRAINING.apply(x, drawn, GeneratorFields(generator(9))) for _ in range(2))
    assert torch.equal(first, again)


def test_probabilities_of_the_second_pass_its_blur_and_the_order_of_the_ending():
    g, count = generator(2), 300
    drawn = [TRAINING.draw(1, g) for _ in range(count)]
    second = [d.second for d in drawn if d.second is not None]
    assert len(second) / count == pytest.approx(0.5, abs=0.1)
    assert sum(p.kernel is not None for p in second) / len(second) == pytest.approx(0.8, abs=0.1)
    assert sum(d.ending.jpeg_last for d in drawn) / count == pytest.approx(0.5, abs=0.1)
    delta = delta_kernel(15).float()
    assert sum(torch.equal(d.ending.kernel[0], delta) for d in drawn) / count == pytest.approx(0.2, abs=0.08)
    qualities = torch.cat([d.quality for d in drawn])
    assert 30 <= float(qualities.min()) < 33
    assert 92 < float(qualities.max()) <= 95


def test_the_test_settings_are_milder():
    x = torch.nn.functional.interpolate(picture(1, 8), size=(96, 96), mode="bicubic").clamp(0, 1)
    truth = area_resize(x, (24, 24))
    errors = [[float((s(x, generator(i)) - truth).square().mean()) for i in range(12)] for s in (IMAGENET_TEST, TRAINING)]
    assert sum(errors[0]) < 0.5 * sum(errors[1])
    assert all(IMAGENET_TEST.draw(1, generator(i)).second is None for i in range(20))


def test_mixed_precision_around_it_changes_nothing():
    x = picture(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [TRAINING(x, generator(seed)) for seed in range(3)]
    assert all(torch.equal(y, TRAINING(x, generator(seed))) for seed, y in enumerate(inside))


def test_smallest_images():
    assert TRAINING(picture(1, 7), generator()).shape == (1, 3, 1, 1)


def test_bad_values():
    with pytest.raises(ValueError, match="RGB images"):
        TRAINING(picture()[:, :1], generator())
    with pytest.raises(ValueError, match="at least 4 pixels"):
        TRAINING(picture(1, 3), generator())
    with pytest.raises(ValueError, match="second and second_blur"):
        replace(TRAINING, second=2.0)
    with pytest.raises(ValueError, match="jpeg2 must be"):
        replace(TRAINING, jpeg2=(0.0, 95.0))
    with pytest.raises(ValueError, match="factor must be"):
        replace(TRAINING, factor=0)
