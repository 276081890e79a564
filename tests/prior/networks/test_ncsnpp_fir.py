"""Resampling by two: its definition, evaluated naively, what it keeps, and its adjoint."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from prior.networks.fir import FIR, FIRDownConv, FIRUpConv, Nearest

TAPS = [(1, 3, 3, 1), (1, 1), (1, 2, 1), (1, 2, 3), (4, 3, 2, 1, 1)]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def kernel(taps):
    f = np.array(taps) / sum(taps)
    return np.outer(f, f)


def filtered(image, taps, pad, gain=1.0):
    """The true convolution of an image (H, W) with the filter, after ``pad`` zeros before and after on each axis."""
    return convolve2d(np.pad(image, pad), gain * kernel(taps), mode="valid")


def zeros_between(image):
    out = np.zeros((2 * image.shape[0], 2 * image.shape[1]))
    out[::2, ::2] = image
    return out


@pytest.mark.parametrize("taps", TAPS)
def test_up_and_down_are_what_they_are_defined_as(taps):
    x, p = noise(2, 3, 6, 8), len(taps) - 2
    up, down = FIR(taps).upsample(x), FIR(taps).downsample(x)
    for b in range(2):
        for c in range(3):
            image = x[b, c].double().numpy()
            expected = filtered(zeros_between(image), taps, ((p + 1) // 2 + 1, p // 2), gain=4)
            np.testing.assert_allclose(up[b, c].numpy(), expected, atol=1e-6)
            expected = filtered(image, taps, ((p + 1) // 2, p // 2))[::2, ::2]
            np.testing.assert_allclose(down[b, c].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("taps", TAPS)
def test_convolutions_that_resample_are_what_they_are_defined_as(taps):
    x, w, k = noise(1, 1, 6, 8), noise(1, 1, 3, 3, seed=1), len(taps)
    image, weight = x[0, 0].double().numpy(), w[0, 0].double().numpy()[::-1, ::-1]  # layers correlate
    down, up = FIRDownConv(1, 1, taps), FIRUpConv(1, 1, taps)
    for layer in (down, up):
        layer.load_state_dict({"weight": w, "bias": torch.tensor([0.5])})
    smooth = filtered(image, taps, ((k + 1) // 2, k // 2))
    np.testing.assert_allclose(down(x)[0, 0].detach(), convolve2d(smooth, weight, mode="valid")[::2, ::2] + 0.5, atol=1e-5)
    full = convolve2d(zeros_between(image)[:-1, :-1], weight)
    expected = filtered(full, taps, ((k - 4 + 1) // 2 + 1, (k - 4) // 2 + 1), gain=4) + 0.5
    np.testing.assert_allclose(up(x)[0, 0].detach(), expected, atol=1e-5)


@pytest.mark.parametrize("resampling", [*(FIR(taps) for taps in TAPS[:3]), Nearest()], ids=str)
def test_a_constant_stays_constant_in_the_interior(resampling):
    x = torch.full((1, 2, 12, 10), 3.0)
    for out, shape in ((resampling.upsample(x), (24, 20)), (resampling.downsample(x), (6, 5))):
        assert out.shape[2:] == shape
        torch.testing.assert_close(out[..., 2:-2, 2:-2], torch.full_like(out[..., 2:-2, 2:-2], 3.0))


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1), (1, 2, 1)])
def test_up_is_four_times_the_adjoint_of_down_for_even_symmetric_taps(taps):
    x, y = noise(1, 2, 8, 10).double(), noise(1, 2, 4, 5, seed=1).double()
    fir = FIR(taps)
    left, right = (fir.downsample(x) * y).sum(), (x * fir.upsample(y)).sum() / 4
    gap = float((left - right).abs() / (x.norm() * y.norm()))
    assert gap < 1e-12 if len(taps) % 2 == 0 else gap > 1e-3


def test_a_pair_of_ones_is_the_resampling_without_filter():
    x = noise(1, 2, 6, 4)
    torch.testing.assert_close(FIR((1, 1)).upsample(x), Nearest().upsample(x))
    torch.testing.assert_close(FIR((1, 1)).downsample(x), Nearest().downsample(x))


def test_filters_leave_no_trace_in_state_dicts():
    assert list(FIRUpConv(2, 3, (1, 3, 3, 1)).state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("taps", [(1,), (), (1, -1)])
def test_bad_taps(taps):
    with pytest.raises(ValueError, match="taps must be at least two numbers with a sum that is not zero, got"):
        FIR(taps)
