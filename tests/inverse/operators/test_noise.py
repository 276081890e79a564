"""Noise models: their moments in closed form, and what they refuse."""

import math

import pytest
import torch

from inverse.operators import Gaussian, Identity, Mixed, Noiseless, Poisson

N = 200_000


def draw(noise, clean, seed=0):
    return Identity().with_noise(noise).measure(clean, seed=seed)


def test_gaussian():
    y = draw(Gaussian(0.3), torch.full((1, N), 0.5))
    assert float(y.mean()) == pytest.approx(0.5, abs=4 * 0.3 / N**0.5)
    assert float(y.std()) == pytest.approx(0.3, rel=4 / (2 * N) ** 0.5)
    assert float(Gaussian(0.3).std(y)) == pytest.approx(0.3)


def test_complex_gaussian_carries_sigma_in_both_parts():
    y = draw(Gaussian(0.3), torch.zeros(1, N, dtype=torch.complex64))
    for part in (y.real, y.imag):
        assert float(part.std()) == pytest.approx(0.3, rel=4 / (2 * N) ** 0.5)
    assert Gaussian(0.3).std(y).dtype == torch.float32


@pytest.mark.parametrize("peak", [2.0, 100.0])
def test_poisson(peak):
    y = draw(Poisson(peak), torch.full((1, N), 0.5))
    variance = 0.5 / peak
    assert float(y.mean()) == pytest.approx(0.5, abs=4 * (variance / N) ** 0.5)
    kurtosis = 3 + 1 / (0.5 * peak)
    assert float(y.var()) == pytest.approx(variance, rel=4 * ((kurtosis - 1) / N) ** 0.5)
    torch.testing.assert_close(y * peak, (y * peak).round(), atol=1e-3, rtol=0)
    assert float(Poisson(peak).std(torch.tensor(0.5))) == pytest.approx(variance**0.5 if peak > 2 else 1 / peak)


def test_poisson_sees_no_negative_light():
    assert float(draw(Poisson(10.0), torch.full((1, 10), -1.0)).abs().max()) == 0
    assert float(Poisson(10.0).std(torch.zeros(()))) == pytest.approx(0.1)  # one photon


def test_noiseless():
    x = torch.rand(1, 4)
    assert torch.equal(draw(Noiseless(), x), x)
    assert float(Noiseless().std(x)) == 0


def test_mixed_variances_add_up():
    noise = Poisson(100.0) + Gaussian(0.05)
    y = draw(noise, torch.full((1, N), 0.5))
    variance = 0.5 / 100 + 0.05**2
    assert float(y.mean()) == pytest.approx(0.5, abs=4 * (variance / N) ** 0.5)
    assert float(y.var()) == pytest.approx(variance, rel=4 * (2 / N) ** 0.5)
    assert float(noise.std(torch.tensor(0.5))) == pytest.approx(variance**0.5)
    assert noise.std(torch.zeros(2, 3)).shape == (2, 3)


def test_mixed_parts_are_drawn_in_their_order_for_the_clean_signal():
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    counts = Poisson(50.0).sample(x, generator)
    read_out = 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(draw(Poisson(50.0) + Gaussian(0.1), x, 3), counts + read_out, atol=1e-15, rtol=0)
    first = torch.Generator().manual_seed(3)
    read_out = 0.1 * torch.randn(x.shape, generator=first, dtype=torch.float64)
    counts = Poisson(50.0).sample(x, first)  # of the clean signal, not of the one with read-out noise
    torch.testing.assert_close(draw(Gaussian(0.1) + Poisson(50.0), x, 3), counts + read_out, atol=1e-15, rtol=0)


def test_mixed_of_mixed_is_flat():
    noise = Gaussian(0.3) + (Gaussian(0.4) + Noiseless())
    assert noise == Mixed((Gaussian(0.3), Gaussian(0.4), Noiseless()))
    assert eval(repr(noise)) == noise
    assert float(noise.std(torch.zeros(2))) == pytest.approx(0.5)
    complex_noise = draw(noise, torch.zeros(1, N, dtype=torch.complex64))
    assert float(complex_noise.real.std()) == pytest.approx(0.5, rel=4 / (2 * N) ** 0.5)


@pytest.mark.parametrize(("parts", "shown"), [((), r"\(\)"), ((Gaussian(0.1), 0.2), r"0\.2")])
def test_parts_refused(parts, shown):
    with pytest.raises(TypeError, match=f"parts must be noises, at least one, got {shown}"):
        Mixed(parts)


@pytest.mark.parametrize("noise", [Gaussian(0.1), Poisson(20.0), Poisson(20.0) + Gaussian(0.1)])
def test_a_seed_gives_the_same_measurement(noise):
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(draw(noise, x, 5), draw(noise, x, 5))
    assert not torch.equal(draw(noise, x, 5), draw(noise, x, 6))


@pytest.mark.parametrize("sigma", [-0.1, math.inf, math.nan])
def test_sigma_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma must be finite and not negative, got {sigma}"):
        Gaussian(sigma)


@pytest.mark.parametrize("peak", [0.0, -1.0, math.inf, math.nan])
def test_peak_refused(peak):
    with pytest.raises(ValueError, match=f"peak must be positive and finite, got {peak}"):
        Poisson(peak)
