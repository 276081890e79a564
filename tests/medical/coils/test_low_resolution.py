"""The fully sampled centre, the maps from it, and the choice of the method."""

from __future__ import annotations

import warnings

import pytest
import torch

from medical.coils import calibration_region, espirit, estimate, low_resolution_maps, sampled_centre
from tests.medical.coils.phantom import alignment, kspace_of, smooth_maps, textured, unit

SHAPE = (40, 45)


def measured(lines: slice = slice(None)) -> torch.Tensor:
    y = torch.zeros(4, *SHAPE, dtype=torch.complex128)
    y[:, :, lines] = kspace_of(smooth_maps(4, SHAPE, seed=0), textured(SHAPE, seed=1))[:, :, lines]
    return y


def test_sampled_centre():
    assert sampled_centre(measured()) == (32, 32)
    assert sampled_centre(measured(), largest=100) == SHAPE
    assert sampled_centre(measured(slice(22 - 5, 22 + 5))) == (32, 10)
    assert sampled_centre(measured(slice(22 - 5, 22 + 6))) == (32, 11)
    assert sampled_centre(measured(slice(0, 20))) == (0, 0)
    lone = torch.zeros(4, *SHAPE, dtype=torch.complex64)
    lone[1, 20, 22] = 1
    assert sampled_centre(lone) == (1, 1)


def test_calibration_region():
    y = measured()
    assert torch.equal(calibration_region(y, 5), y[:, 18:23, 20:25])
    assert torch.equal(calibration_region(y, 42), y[:, :, 22 - 21 : 22 + 21])
    assert calibration_region(measured(slice(17, 27))).shape == (4, 32, 10)
    with pytest.raises(ValueError, match="must be sampled at its centre"):
        calibration_region(measured(slice(0, 20)))


def test_a_flat_object_gives_the_maps():
    S = smooth_maps(4, SHAPE, seed=0)
    y = kspace_of(S, torch.ones(SHAPE, dtype=S.dtype))
    found = low_resolution_maps(y, lines=16)
    assert found.shape == (1, 4, *SHAPE)
    # the window keeps frequencies 0 and lowers those next to it, so that the maps are those, smoothed
    window = torch.hann_window(18, periodic=False, dtype=torch.float64)[1:-1]
    weights = torch.zeros(SHAPE, dtype=torch.float64)
    weights[20 - 8 : 20 + 8, 22 - 8 : 22 + 8] = torch.outer(window, window)
    smoothed = torch.fft.ifft2(torch.fft.fft2(S) * torch.fft.ifftshift(weights))
    torch.testing.assert_close(found[0], unit(smoothed), atol=1e-10, rtol=0)


def test_normalised_inside_and_zero_outside():
    image = torch.zeros(SHAPE, dtype=torch.complex128)
    image[10:30, 12:33] = 1
    y = kspace_of(smooth_maps(4, SHAPE, seed=0), image).to(torch.complex64)
    full, cut = low_resolution_maps(y), low_resolution_maps(y, support=0.2)
    assert full.dtype == torch.complex64
    torch.testing.assert_close(full.abs().square().sum(1), torch.ones(1, *SHAPE), atol=1e-4, rtol=0)
    assert float(cut[0, :, :4].abs().max()) == 0
    assert torch.equal(cut[0, :, 14:26, 16:29], full[0, :, 14:26, 16:29])
    with pytest.raises(ValueError, match="support must lie in"):
        low_resolution_maps(y, support=1.0)


def test_a_volume():
    shape = (9, 12, 10)
    S = smooth_maps(3, shape, seed=0)
    found = low_resolution_maps(kspace_of(S, torch.ones(shape, dtype=S.dtype)), lines=10)
    assert found.shape == (1, 3, *shape)
    assert float(alignment(found[0], S).mean()) > 0.98


def test_estimate_takes_espirit_where_it_can():
    y = measured(slice(22 - 7, 22 + 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate(y, crop=0.5)
    torch.testing.assert_close(found, espirit(y, calibration=None, crop=0.5).maps)


def test_estimate_says_that_it_falls_back():
    y = measured(slice(22 - 5, 22 + 5))
    with pytest.warns(UserWarning, match=r"low-resolution coil maps instead of ESPIRiT.*\(32, 10\) lines.*needs 12"):
        found = estimate(y)
    torch.testing.assert_close(found, low_resolution_maps(y, lines=None, support=0.05))
    with pytest.raises(ValueError, match="only one map"):
        estimate(y, maps=2)
