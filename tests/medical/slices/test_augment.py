"""Random changes of training slices: what they keep, what they change, and by how much."""

import math

import pytest
import torch

from medical.slices import Augment
from medical.slices.augment import smooth_phase


def disc(side, radius=0.5):
    axis = torch.linspace(-1, 1, side)
    return (torch.hypot(axis[:, None], axis) < radius).float()


def draws(augment, image, count=60):
    torch.manual_seed(0)
    return torch.stack([augment(image) for _ in range(count)])


def test_shape_and_range():
    out = draws(Augment(size=32), disc(32))
    assert out.shape == (60, 1, 32, 32)
    assert float(out.min()) >= 0
    assert float(out.max()) < 1.3  # bicubic interpolation overshoots a little


def test_without_zoom_the_mass_stays():
    out = draws(Augment(size=64, zoom=(1, 1)), disc(64))
    assert out.sum((1, 2, 3)).tolist() == pytest.approx([float(disc(64).sum())] * 60, rel=0.03)


def test_zoom_scales_the_area():
    area = draws(Augment(size=64, zoom=(0.5, 1.25), shift=0.0), disc(64)).sum((1, 2, 3)) / disc(64).sum()
    assert float(area.min()) == pytest.approx(0.25, rel=0.15)
    assert float(area.max()) == pytest.approx(1.5625, rel=0.1)


def test_smaller_and_larger_slices_fit():
    for side in (20, 50):
        assert draws(Augment(size=32), torch.ones(side, side), 10).shape == (10, 1, 32, 32)


def test_half_of_the_slices_keep_their_grid():
    image = torch.rand(24, 24, generator=torch.Generator().manual_seed(1))
    values = set(image.flatten().tolist()) | {0.0}
    exact = [set(out.flatten().tolist()) <= values for out in draws(Augment(size=24), image)]
    assert 20 <= sum(exact) <= 40


def test_dihedral_shows_all_eight_views():
    image = torch.arange(9.0).view(3, 3)
    augment = Augment(size=3, turn=0, zoom=(1, 1), shift=0, dihedral=True)
    seen = {tuple(out.flatten().tolist()) for out in draws(augment, image, 300)}
    views = [image.rot90(k, (0, 1)) for k in range(4)]
    for view in (*views, *(v.flip(1) for v in views)):
        assert tuple(view.flatten().tolist()) in seen


def test_gamma_keeps_black_and_white():
    image = disc(16)
    out = draws(Augment(size=16, turn=0, zoom=(1, 1), shift=0, gamma=2.0), image)
    assert torch.allclose(out.amax((1, 2, 3)), torch.ones(60), atol=1e-5)
    grey = draws(Augment(size=16, turn=0, zoom=(1, 1), shift=0, gamma=2.0), 0.25 * torch.ones(16, 16))
    assert 0.25**2 <= float(grey.amin()) < 0.15
    assert 0.4 < float(grey.amax()) <= 0.25**0.5 + 1e-6


def test_the_real_part_of_a_phase():
    out = draws(Augment(size=16, turn=0, zoom=(1, 1), shift=0, phase=1.0), 0.7 * torch.ones(16, 16), 400)
    assert out.shape == (400, 1, 16, 16)
    assert float(out.abs().max()) <= 0.7 + 1e-5  # what interpolation rounds
    assert float(out.mean()) == pytest.approx(0.0, abs=0.1)
    assert float(out.square().mean()) == pytest.approx(0.7**2 / 2, rel=0.1)


def test_phase_is_smooth_and_turned_at_will():
    torch.manual_seed(0)
    phases = torch.stack([smooth_phase(64, 0.5) for _ in range(200)])
    assert float(phases.diff(dim=-1).abs().max()) < 0.3  # radians from pixel to pixel
    constant = torch.exp(1j * phases).mean((1, 2))
    assert abs(complex(constant.mean())) < 0.2
    assert float(smooth_phase(8, 0.0).std()) < 1e-6
    assert 0 <= float(smooth_phase(8, 0.0)[0, 0]) <= 2 * math.pi
