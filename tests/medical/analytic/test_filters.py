"""The ramp filter against its closed forms."""

import math

import pytest
import torch

from medical.analytic.filters import WINDOWS, equiangular_ramp, filter_columns, ramp


def test_samples_of_the_ramp():
    got = ramp(torch.arange(-3, 4), 0.5)
    expected = [-1 / (1.5 * math.pi) ** 2, 0, -1 / (0.5 * math.pi) ** 2, 1.0, -1 / (0.5 * math.pi) ** 2, 0]
    assert got[:-1].tolist() == pytest.approx(expected, abs=1e-15)


def test_equiangular_ramp_is_the_ramp_for_small_angles():
    lags = torch.arange(-5, 6)
    torch.testing.assert_close(equiangular_ramp(lags, 1e-5), ramp(lags, 1e-5), rtol=1e-8, atol=0)
    assert equiangular_ramp(torch.tensor([3]), 0.2)[0] == pytest.approx(-1 / (0.6 * math.pi) ** 2 * (0.6 / math.sin(0.6)) ** 2)


@pytest.mark.parametrize("beyond", [(0, 0), (4, 9)])
def test_convolution_is_linear(beyond):
    p = torch.rand(2, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = filter_columns(p, lambda lags: ramp(lags, 0.7), beyond=beyond)
    at = torch.arange(-beyond[0], 17 + beyond[1])
    h = ramp(at[:, None] - torch.arange(17), 0.7)
    torch.testing.assert_close(got, p @ h.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "expected"),
    [("ram-lak", 1.0), ("shepp-logan", 2 * math.sqrt(2) / math.pi), ("cosine", math.cos(math.pi / 4)), ("hamming", 0.54)],
)
def test_windows_at_half_of_nyquist(window, expected):
    assert WINDOWS[window](torch.tensor(0.5, dtype=torch.float64)).item() == pytest.approx(expected)


def test_nothing_passes_beyond_the_cutoff():
    p = torch.zeros(256, dtype=torch.float64)
    p[128] = 1.0
    kernel = lambda lags: ramp(lags, 1.0)  # noqa: E731
    spectrum = torch.fft.rfft(filter_columns(p, kernel, cutoff=0.5, beyond=(128, 128))).abs()
    f = torch.arange(len(spectrum)) / (len(spectrum) - 1)
    assert spectrum[f > 0.51].max() < 2e-2
    torch.testing.assert_close(spectrum[(f > 0.1) & (f < 0.45)], f[(f > 0.1) & (f < 0.45)].double() / 2, rtol=0, atol=1e-2)
