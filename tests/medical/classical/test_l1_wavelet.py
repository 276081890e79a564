"""Wavelet sparsity: closed forms, optimality, and images whose sides are no powers of two."""

from __future__ import annotations

import pytest
import torch

from inverse.operators import Identity
from medical.classical import CGSense, L1Wavelet, Wavelet, ZeroFilled
from tests.medical.classical.problems import Dense, mri, randn


def test_denoising_shrinks_the_details_and_leaves_the_approximation():
    y, W = randn(2, 1, 16, 24, dtype=torch.complex128), Wavelet("db2", 2)
    r = L1Wavelet(weight=0.8, wavelet="db2", levels=2, shifts=1).reconstruct(Identity(), y)
    c = W.forward(y)
    shrunk = c * (1 - 0.8 / c.abs()).clamp(min=0)
    inside = W.approximation(c.shape)
    shrunk[inside] = c[inside]
    torch.testing.assert_close(r.estimate, W.inverse(shrunk), rtol=1e-9, atol=1e-9)
    objective = (r.estimate - y).abs().square().sum() / 2 + 0.8 * (shrunk.abs().sum() - shrunk[inside].abs().sum())
    assert r.trace.objective[-1] == pytest.approx(float(objective))
    assert r.iterations <= 3


def test_the_gradient_lies_in_the_subdifferential():
    weight, W = 0.4, Wavelet("haar", 2)
    A, y = Dense(randn(50, 64) / 7, (1, 8, 8)), randn(1, 50, seed=1)
    x = (
        L1Wavelet(weight=weight, wavelet="haar", levels=2, shifts=1, iterations=3000, tolerance=1e-12)
        .reconstruct(A, y)
        .estimate
    )
    g, c = W.forward(A.adjoint(y - A(x)))[0, 0], W.forward(x)[0, 0]
    free = torch.zeros(8, 8, dtype=torch.bool)
    free[W.approximation((8, 8))] = True
    assert float(g[free].abs().max()) < 1e-7
    assert float(g[~free].abs().max()) <= weight + 1e-7
    alive = ~free & (c.abs() > 1e-6)
    assert 5 < int(alive.sum()) < 55
    torch.testing.assert_close(g[alive], weight * c[alive].sign(), rtol=0, atol=1e-7)


def test_odd_sides_are_filled_up_at_the_least_cost():
    y = randn(1, 1, 13, 18)
    r = L1Wavelet(weight=0.5, levels=2, shifts=1, iterations=2000, tolerance=1e-10).reconstruct(Identity(), y)
    assert r.estimate.shape == y.shape
    W = Wavelet("db4", 2)

    def least(x, filled):  # the objective of a picture that is filled up by `filled`
        whole = torch.zeros(1, 1, 16, 20, dtype=torch.float64) + filled
        whole[..., :13, :18] = x
        c = W.forward(whole)
        c[W.approximation(c.shape)] = 0
        return float((x - y).square().sum() / 2 + 0.5 * c.abs().sum())

    best = r.trace.objective[-1]
    assert best <= min(least(r.estimate, float(v)) for v in torch.linspace(-1, 1, 9))
    assert best < min(least(y, 0.0), least(torch.zeros_like(y), 0.0))


def test_beats_zero_filling_and_least_squares():
    A, y, x = mri(sides=(32, 32), kept=0.4)
    error = [
        float((method.reconstruct(A, y).estimate - x).abs().square().mean())
        for method in (ZeroFilled(), CGSense(), L1Wavelet(wavelet="haar"))
    ]
    assert error[2] < 0.5 * error[1] < error[0]


def test_averaged_shifts_converge_to_a_less_blocky_image():
    A, y, x = mri(sides=(20, 24), kept=0.5)
    one, four = (L1Wavelet(wavelet="haar", levels=2, shifts=n).reconstruct(A, y) for n in (1, 4))
    assert four.converged
    assert float((four.estimate - x).norm()) < float((one.estimate - x).norm())


def test_a_batch_gives_what_its_members_give_and_volumes_work():
    A, y, x = mri(sides=(12, 12))
    y = torch.cat([y, A.mask * A.measure(4 * x, seed=2)])
    together, apart = L1Wavelet(levels=2).reconstruct(A, y), [L1Wavelet(levels=2).reconstruct(A, part[None]) for part in y]
    torch.testing.assert_close(together.estimate, torch.cat([r.estimate for r in apart]), rtol=1e-5, atol=1e-5)
    assert len(together.settings["weight"]) == 2
    volume = randn(1, 1, 5, 8, 9)
    r = L1Wavelet(weight=1e-6, levels=1).reconstruct(Identity(), volume)
    torch.testing.assert_close(r.estimate, volume, rtol=0, atol=1e-4)


def test_settings_out_of_range_are_refused():
    for wrong in ({"weight": -1.0}, {"iterations": 0}, {"shifts": 0}, {"levels": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            L1Wavelet(**wrong)
    with pytest.raises(ValueError, match="orthogonal"):
        L1Wavelet(wavelet="bior4.4")
