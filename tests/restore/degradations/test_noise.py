"""Gaussian and Poisson noise: moments, grey and coloured, seeds."""

from __future__ import annotations

import pytest
import torch

from restore.degradations import GeneratorFields, Noise, NoiseRanges, gaussian_noise, poisson_noise
from restore.degradations.noise import poisson_rate


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fields(seed: int = 0) -> GeneratorFields:
    return GeneratorFields(generator(seed))


COLOUR, GREY = torch.tensor([False]), torch.tensor([True])


def test_gaussian_noise_has_its_standard_deviation():
    x = torch.full((2, 3, 100, 100), 0.5)
    n = 255 * (gaussian_noise(x, torch.tensor([5.0, 20.0]), torch.tensor([False, True]), fields=fields()) - x)
    torch.testing.assert_close(n.flatten(1).std(1), torch.tensor([5.0, 20.0]), rtol=0.03, atol=0)
    assert not torch.allclose(n[0, 0], n[0, 1])
    assert torch.equal(n[1, 0], n[1, 1])
    assert torch.equal(n[1, 0], n[1, 2])


def test_poisson_noise_has_the_variance_of_photon_counts():
    ramp = torch.arange(256).float().div(255).repeat(1, 3, 256, 1)  # all levels occur: vals = 256
    n = poisson_noise(ramp, torch.tensor([0.5]), COLOUR, fields=fields())[..., 64:192] - ramp[..., 64:192]
    wanted = 0.5 * (ramp[0, 0, 0, 64:192] / 256).sqrt()
    torch.testing.assert_close(n[0].movedim(-1, 0).flatten(1).std(1), wanted, rtol=0.15, atol=0)
    assert abs(float(n.mean())) < 1e-3


def test_grey_poisson_noise_is_equal_in_all_channels():
    x = torch.rand(1, 3, 20, 20, generator=generator(3)) * 0.5 + 0.25
    n = poisson_noise(x, torch.tensor([0.1]), GREY, fields=fields()) - x
    torch.testing.assert_close(n, n[:, :1].expand_as(n), atol=1e-6, rtol=0)
    assert float(n.abs().mean()) > 1e-3


@pytest.mark.parametrize(("levels", "vals"), [(1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (200, 256)])
def test_vals_is_the_number_of_levels_rounded_up_to_a_power_of_two(levels, vals):
    x = (torch.arange(1024) % levels).view(1, 1, 32, 32) / 255
    rate, got = poisson_rate(x + 0.3 / 255)  # rounded away
    assert got.item() == vals
    torch.testing.assert_close(rate, x * vals)


def test_nothing_leaves_the_unit_interval():
    x = torch.rand(1, 3, 16, 16, generator=generator())
    for add, strength in ((gaussian_noise, 100.0), (poisson_noise, 5.0)):
        y = add(x, torch.tensor([strength]), COLOUR, fields=fields())
        assert float(y.min()) == 0
        assert float(y.max()) == 1


def test_draws_follow_the_ranges():
    ranges, g = NoiseRanges(gaussian=0.25, grey=0.6), generator(4)
    drawn = [ranges.draw(8, g) for _ in range(400)]
    assert sum(n.kind == "gaussian" for n in drawn) / 400 == pytest.approx(0.25, abs=0.07)
    assert float(torch.cat([n.grey for n in drawn]).float().mean()) == pytest.approx(0.6, abs=0.04)
    for kind, (low, high) in (("gaussian", ranges.sigma), ("poisson", ranges.scale)):
        strengths = torch.cat([n.strength for n in drawn if n.kind == kind])
        assert low <= float(strengths.min()) < float(strengths.max()) <= high
        assert float(strengths.mean()) == pytest.approx((low + high) / 2, rel=0.1)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_same_seed_same_noise(kind):
    x = torch.rand(2, 3, 8, 8, generator=generator())
    noise = Noise(kind, torch.tensor([2.0, 1.0]), torch.tensor([True, False]))
    assert torch.equal(noise.apply(x, fields(7)), noise.apply(x, fields(7)))
    assert not torch.equal(noise.apply(x, fields(7)), noise.apply(x, fields(8)))


def test_bad_values():
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(ValueError, match="kind must be"):
        Noise("speckle", torch.ones(2), torch.zeros(2))
    with pytest.raises(ValueError, match="grey or RGB"):
        gaussian_noise(x[:, :2], torch.ones(2), torch.zeros(2, dtype=torch.bool), fields=fields())
    with pytest.raises(ValueError, match="one value an image"):
        gaussian_noise(x, torch.ones(3), torch.zeros(2, dtype=torch.bool), fields=fields())
    with pytest.raises(ValueError, match="sigma must be"):
        NoiseRanges(sigma=(20, 10))
    with pytest.raises(ValueError, match="must lie in"):
        NoiseRanges(grey=-0.1)
