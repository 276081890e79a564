"""Blur kernels: their moments, their limits, and what the ranges draw."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from restore.degradations import (
    KernelRanges,
    SincRanges,
    bivariate_kernel,
    delta_kernel,
    lowpass_kernel,
    padded_kernel,
    plateau_kernel,
)
from restore.degradations.draws import choose

ALWAYS = (1.0, 0, 0, 0, 0, 0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(kernel: torch.Tensor) -> torch.Tensor:
    axis = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    xy = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))
    return torch.einsum("ihw,jhw,hw->ij", xy, xy, kernel)


def test_gaussian_has_the_covariance_of_its_sigmas_and_rotation():
    angle, (a, b) = 0.6, (4.0, 1.5)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    wanted = turn @ torch.diag(torch.tensor([a**2, b**2], dtype=torch.float64)) @ turn.T
    torch.testing.assert_close(covariance(bivariate_kernel(61, (a, b), rotation=angle)), wanted, atol=1e-9, rtol=0)


def test_ratios_follow_the_formulas():
    q = 1 / 1.5**2  # of the pixel beside the middle
    for kernel, ratio in (
        (bivariate_kernel(9, (1.5, 1.5), beta=0.7), math.exp(-0.5 * q**0.7)),
        (plateau_kernel(9, (1.5, 1.5), beta=1.4), 1 / (1 + q**1.4)),
    ):
        assert float(kernel[4, 5] / kernel[4, 4]) == pytest.approx(ratio, rel=1e-12)
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)


def test_lowpass_passes_below_its_cutoff_and_stops_above():
    kernel, cutoff = lowpass_kernel(101, 1.5), 1.5
    axis = torch.arange(101, dtype=torch.float64) - 50
    for frequency, wanted in ((0.0, 1.0), (0.8 * cutoff, 1.0), (1.2 * cutoff, 0.0), (3.0, 0.0)):
        response = (kernel.sum(0) * torch.cos(frequency * axis)).sum()
        assert float(response) == pytest.approx(wanted, abs=0.06)


def test_padding_keeps_the_middle():
    kernel = padded_kernel(bivariate_kernel(5, (1, 1)), 9)
    assert kernel.shape == (9, 9)
    assert torch.equal(kernel[2:7, 2:7], bivariate_kernel(5, (1, 1)))
    assert torch.equal(padded_kernel(delta_kernel(3), 7), delta_kernel(7))


def support(kernel: torch.Tensor) -> int:
    rows = kernel.abs().sum(1).nonzero()[:, 0]
    return int(rows[-1] - rows[0]) + 1


def test_sizes_are_drawn_alike_and_never_beyond_the_range():
    ranges = KernelRanges(sizes=(3, 11), padded=13, lowpass=0.0, families=ALWAYS, sigma=(2.0, 3.0))
    g = generator()
    sizes = torch.tensor([support(ranges.draw(g)) for _ in range(500)])
    counts = torch.bincount(sizes)
    assert counts.nonzero()[:, 0].tolist() == [3, 5, 7, 9, 11]
    assert counts[3::2].min() > 70


def test_families_are_as_frequent_as_their_weights():
    g = generator(1)
    counts = torch.bincount(torch.tensor([choose(g, (0.45, 0.25, 0.0, 0.3)) for _ in range(4000)]), minlength=4) / 4000
    torch.testing.assert_close(counts, torch.tensor([0.45, 0.25, 0.0, 0.3]), atol=0.03, rtol=0)


@pytest.mark.parametrize("family", range(6))
def test_isotropic_families_are_symmetric_and_the_others_are_not(family):
    weights = tuple(float(i == family) for i in range(6))
    kernel = KernelRanges(sizes=(9, 9), padded=9, lowpass=0.0, families=weights, sigma=(0.5, 3.0)).draw(generator(family))
    assert bool(torch.isclose(kernel, kernel.T, rtol=1e-9).all()) == (family % 2 == 0)
    torch.testing.assert_close(kernel, kernel.flip(0, 1))
    assert (kernel > 0).all()


def test_lowpass_probability_and_negative_lobes():
    ranges = KernelRanges(sizes=(7, 13), padded=13, lowpass=0.3)
    g = generator(2)
    lobes = sum(bool((ranges.draw(g) < 0).any()) for _ in range(600)) / 600
    assert lobes == pytest.approx(0.3, abs=0.06)


def test_sinc_is_a_delta_or_a_lowpass():
    assert torch.equal(SincRanges(probability=0.0).draw(generator()), delta_kernel(15))
    batch = SincRanges(probability=1.0).draw_batch(3, generator())
    assert batch.shape == (3, 15, 15)
    torch.testing.assert_close(batch.sum((1, 2)), torch.ones(3))
    assert not torch.equal(batch[0], batch[1])


def test_same_seed_same_kernels():
    assert torch.equal(KernelRanges().draw_batch(4, generator(5)), KernelRanges().draw_batch(4, generator(5)))
    assert not torch.equal(KernelRanges().draw_batch(4, generator(5)), KernelRanges().draw_batch(4, generator(6)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bivariate_kernel(8, (1, 1)), "size must be odd"),
        (lambda: bivariate_kernel(9, (0, 1)), "sigma must be positive"),
        (lambda: plateau_kernel(9, (1, 1), beta=-1), "beta must be positive"),
        (lambda: lowpass_kernel(9, 4.0), "cutoff must lie in"),
        (lambda: padded_kernel(delta_kernel(5), 8), "size must be 5"),
        (lambda: KernelRanges(sizes=(3, 23)), "sizes must be odd"),
        (lambda: KernelRanges(families=(0,) * 6), "families must be 6 weights"),
        (lambda: KernelRanges(sigma=(3, 1)), "sigma must be"),
        (lambda: replace(SincRanges(), probability=1.5), "probability must lie"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
