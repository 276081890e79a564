"""CT numbers, photon counts and their logarithm against closed forms, and a synchrotron's raw counts."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from inverse.operators import Gaussian, Mixed, Poisson, Separable
from medical.operators import Sense
from medical.transmission import (
    WATER,
    BeerLambert,
    LogPoisson,
    Transmission,
    Weighted,
    attenuation,
    hounsfield,
    line_integrals,
    log_weights,
)

DATA = Path(os.environ.get("POSTERIOR_DATA") or Path(__file__).parents[2] / "../shared/data")
TOOTH = DATA / "science" / "tooth_sinogram.npz"
MANY = 200_000


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projector(dtype=torch.float64):
    """Row and column sums of a kind: any linear operator will do."""
    A = Separable(random(5, 4, seed=1) / 4, random(3, 4, seed=2) / 4, shape=(1, 4, 4))
    return A.to(dtype)


def test_water_at_70_kev():
    # logarithmic interpolation between the tabulated 60 and 80 keV, times the density at 20 degrees
    part = math.log(70 / 60) / math.log(80 / 60)
    per_cm = 0.998 * 0.2059 ** (1 - part) * 0.1837**part
    assert pytest.approx(per_cm / 10, abs=5e-5) == WATER


def test_ct_numbers():
    hu = torch.tensor([-1000.0, 0.0, 1000.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(attenuation(hu), WATER * torch.tensor([0.0, 1.0, 2.0, 1.04], dtype=torch.float64))
    torch.testing.assert_close(attenuation(hu, 0.193), 10 * attenuation(hu))  # 1/cm
    hu = 4000 * random(100) - 1000
    torch.testing.assert_close(hounsfield(attenuation(hu, 0.02), 0.02), hu, rtol=1e-12, atol=1e-9)
    with pytest.raises(ValueError, match="water must be positive"):
        attenuation(hu, 0.0)


def test_correction_inverts_the_simulation_without_noise():
    p = 5 * random(2, 1, 6, 8)
    flat, dark = 1e4 + 5e3 * random(6, 8, seed=1), 100 * random(6, 8, seed=2)
    beam = Transmission(flat, dark)
    back = beam.line_integrals(beam.expected(p))
    torch.testing.assert_close(back.values, p, rtol=0, atol=1e-10)
    assert back.clamped == 0
    raw = line_integrals(beam.expected(p), flat + dark, dark)  # flats as they are measured hold the dark signal
    torch.testing.assert_close(raw.values, p, rtol=0, atol=1e-10)


def test_readings_below_the_floor_are_raised_and_counted():
    counts = torch.tensor([[1000.0, 100.0, 50.0, 100.5, 300.0]])
    back = line_integrals(counts, torch.tensor([1100.0, 1100.0, 1100.0, 1100.0, 90.0]), 100.0)
    assert back.clamped == 4
    expected = torch.tensor([[math.log(1000 / 900), math.log(1000), math.log(1000), math.log(1000), math.log(1 / 200)]])
    torch.testing.assert_close(back.values, expected)
    assert line_integrals(counts, 1100.0, 100.0, minimum=0.25).clamped == 2


def test_whole_numbers_neither_wrap_around_nor_truncate():
    counts, dark = torch.tensor([5, 100], dtype=torch.uint8), torch.tensor([10, 10], dtype=torch.uint8)
    back = line_integrals(counts, torch.tensor([200, 200], dtype=torch.uint8), dark)
    assert back.clamped == 1
    torch.testing.assert_close(back.values, torch.tensor([math.log(190), math.log(190 / 90)]))
    back = line_integrals(counts.int(), torch.tensor([200.7, 200.7]), dark.int())
    torch.testing.assert_close(back.values[1:], torch.tensor([math.log(190.7 / 90)]))
    torch.testing.assert_close(log_weights(counts, dark), torch.tensor([0.0, 81.0]))


def test_counts_have_the_mean_and_variance_of_their_model():
    p, beam = torch.full((MANY,), 1.5, dtype=torch.float64), Transmission(5000.0, dark=40.0, readout=12.0)
    counts = beam.sample(p, seed=3)
    mean = 5000 * math.exp(-1.5) + 40
    assert float(counts.mean()) == pytest.approx(mean, abs=4 * math.sqrt((mean + 144) / MANY))
    assert float(counts.var()) == pytest.approx(mean + 144, rel=4 * math.sqrt(2 / MANY))
    assert torch.equal(counts, beam.sample(p, seed=3))
    assert not torch.equal(counts, beam.sample(p, seed=4))


@pytest.mark.parametrize(("readout", "dark"), [(0.0, 0.0), (30.0, 0.0), (30.0, 200.0)])
def test_weights_are_the_inverse_variance_of_the_logarithm(readout, dark):
    beam = Transmission(2e4, dark, readout)
    p = torch.full((MANY,), 2.0, dtype=torch.float64)
    counts = beam.sample(p, seed=1)
    N = 2e4 * math.exp(-2.0)
    variance = (N + dark + readout**2) / N**2
    back = beam.line_integrals(counts).values
    assert float(back.var()) == pytest.approx(variance, rel=0.015)  # 4 standard errors and the second order in 1/N
    assert float(back.mean()) == pytest.approx(2.0 + variance / 2, abs=4 * math.sqrt(variance / MANY))
    assert float(beam.weights(counts).mean()) == pytest.approx(1 / variance, rel=0.01)


def test_weights_of_photons_alone_are_the_counts():
    counts = torch.tensor([0.0, 1.0, 250.0])
    torch.testing.assert_close(log_weights(counts), counts)
    torch.testing.assert_close(log_weights(counts, readout=10.0), counts**2 / (counts + 100))
    assert log_weights(torch.tensor([5.0, -3.0]), 10.0, readout=4.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("readout", "mu"), [(0.0, 1.0), (20.0, 1.0), (0.0, 0.25)])
def test_log_poisson_against_theory(readout, mu):
    noise, p = LogPoisson(1e4, readout, mu), torch.full((MANY,), 1.2 / mu, dtype=torch.float64)
    y = noise.sample(p, torch.Generator().manual_seed(0))
    N = 1e4 * math.exp(-1.2)
    std = math.sqrt(N + readout**2) / (mu * N)
    assert float(noise.std(p)[0]) == pytest.approx(std, rel=1e-12)
    assert float(y.std()) == pytest.approx(std, rel=0.01)
    bias = (N + readout**2) / (2 * N**2 * mu)
    assert float(y.mean()) == pytest.approx(1.2 / mu + bias, abs=4 * std / math.sqrt(MANY))


def test_log_poisson_never_takes_the_logarithm_of_nothing():
    noise = LogPoisson(100.0, readout=5.0)
    y = noise.sample(torch.full((1000,), 50.0), torch.Generator().manual_seed(0))
    assert y.dtype == torch.float32
    assert bool(y.isfinite().all())
    assert float(y.max()) == pytest.approx(math.log(100.0))
    assert float(noise.std(torch.tensor(50.0))) == pytest.approx(math.sqrt(26.0))


def test_an_operator_carries_log_poisson_noise():
    A = projector().with_noise(LogPoisson(1e6))
    x = random(1, 1, 4, 4)
    y = A.measure(x, seed=1)
    assert torch.equal(y, A.measure(x, seed=1))
    assert 0 < float((y - A(x)).abs().max()) < 6 * float(A.noise.std(A(x)).max())


def test_beer_lambert_is_the_exponential_of_the_projector():
    P, x = projector(), random(2, 1, 4, 4)
    A = BeerLambert(P, Transmission(1000.0 + random(5, 3), dark=7.0, readout=2.0))
    torch.testing.assert_close(A(x), (1000.0 + random(5, 3)) * torch.exp(-P(x)) + 7.0)
    assert A.codomain == (1, 5, 3)
    assert A.noise == Mixed((Poisson(1.0), Gaussian(2.0)))
    assert not A.linear
    assert torch.autograd.gradcheck(A, x.requires_grad_())
    x = x.detach()
    torch.testing.assert_close(P(A.pinv(A(x))), P(x), rtol=0, atol=1e-5)


def test_gradient_of_beer_lambert_in_closed_form():
    P, x = projector(), random(1, 1, 4, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(BeerLambert(P, Transmission(1000.0))(x).sum(), x)
    torch.testing.assert_close(gradient, P.adjoint(-1000.0 * torch.exp(-P(x.detach()))))


@pytest.mark.parametrize("shape", [(2, 1, 5, 3), (1, 5, 3), (5, 3), (3,), ()])
def test_weighted_has_the_exact_adjoint(shape):
    A, w = projector(), random(*(shape or (1,)), seed=5).reshape(shape)
    x, y = random(2, 1, 4, 4), random(2, 1, 5, 3, seed=3)
    W = Weighted(A, w)
    torch.testing.assert_close(W(x), w.sqrt() * A(x))
    assert float((W(x) * y).sum()) == pytest.approx(float((x * W.adjoint(y)).sum()), rel=1e-13)


def test_weighted_least_squares():
    A = Separable(random(6, 3, seed=1), random(5, 3, seed=2), shape=(1, 3, 3)).double()
    w, y = random(1, 6, 5, seed=3), random(1, 1, 6, 5, seed=4)
    W = Weighted(A, w)
    M = torch.stack([A(e.view(1, 1, 3, 3)).flatten() for e in torch.eye(9, dtype=torch.float64)], -1)
    D = torch.diag(w.flatten())
    wanted = torch.linalg.solve(M.T @ D @ M, M.T @ D @ y.flatten())
    torch.testing.assert_close(W.pinv(W.measurement(y), tolerance=1e-12).flatten(), wanted, rtol=1e-6, atol=1e-8)
    x = random(1, 1, 3, 3, seed=6)
    objective = float((W(x) - W.measurement(y)).square().sum())
    assert objective == pytest.approx(float((w * (A(x) - y).square()).sum()), rel=1e-12)


def test_with_inverse_variances_the_noise_is_white():
    noise, P = LogPoisson(1e4), projector()
    x = random(1, 1, 4, 4).repeat(5000, 1, 1, 1)
    y = P.with_noise(noise).measure(x)
    W = Weighted(P, noise.std(P(x[:1])) ** -2)
    residual = W.measurement(y) - W(x)
    assert W.noise == Gaussian(1.0)
    assert float(residual.std()) == pytest.approx(1.0, abs=4 / math.sqrt(2 * residual.numel()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Transmission(0.0), "photons must be positive"),
        (lambda: Transmission(torch.tensor([1.0, math.nan])), "photons must be positive"),
        (lambda: Transmission(1.0, dark=-1.0), "dark must be"),
        (lambda: Transmission(1.0, readout=-1.0), "readout must be"),
        (lambda: LogPoisson(1.0), "photons must be finite and larger than 1"),
        (lambda: LogPoisson(1e4, -1.0), "readout"),
        (lambda: LogPoisson(1e4, 0.0, 0.0), "attenuation"),
        (lambda: line_integrals(torch.ones(3), 2.0, minimum=0.0), "minimum"),
        (lambda: log_weights(torch.ones(3), readout=math.inf), "readout"),
        (lambda: Weighted(projector(), -torch.ones(5, 3)), "weights must be finite and not negative"),
        (lambda: Weighted(projector(), torch.ones(3, 5)), "weights must broadcast"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.skipif(not TOOTH.is_file(), reason="needs the tooth's raw counts")
def test_raw_counts_of_a_tooth():
    raw = np.load(TOOTH)
    data, flat, dark = (torch.from_numpy(raw[name]).double() for name in ("data", "flat", "dark"))
    p, clamped = line_integrals(data, flat.mean(0), dark.mean(0))
    assert p.shape == (181, 2, 640)
    assert clamped == 0
    assert bool(p.isfinite().all())
    assert -0.1 < float(p.min()) < 0
    assert 1.9 < float(p.max()) < 2.0
    air = p[..., :40]
    assert float(air.mean()) == pytest.approx(0.003, abs=0.001)
    assert float(air.std()) < 0.01
    mass = p.sum(-1)  # every view sees the whole tooth, so their sums agree
    assert float((mass.std(0) / mass.mean(0)).max()) < 0.004
    # single readings scatter as their counts say, within the gain of the camera
    assert float(log_weights(data, dark.mean(0)).min()) > 3500


def test_weighted_checks_what_its_operator_checks():
    masks = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    A = Sense(torch.ones(1, 4, 4, dtype=torch.complex64), masks)
    W = Weighted(A, torch.ones(1, 4, 4))
    x = torch.ones(2, 1, 4, 4, dtype=torch.complex64)
    torch.testing.assert_close(W.adjoint(W(x)), A.adjoint(A(x)))
    with pytest.raises(ValueError, match="x must have a batch of 2, one member for each mask, got 3"):
        W(torch.ones(3, 1, 4, 4, dtype=torch.complex64))
