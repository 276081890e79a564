"""Hybrid input-output recovers small images, and does what Fienup proves of its steps."""

from itertools import pairwise

import pytest
import torch

from inverse import HybridInputOutput, align
from inverse.metrics import psnr
from inverse.operators import Gaussian, Identity, PhaseRetrieval
from inverse.samplers.problem import Problem
from tests.inverse.gaussian import GaussianPrior


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X = rand(2, 2, 12, 10)
A = PhaseRetrieval.oversampled((2, 12, 10), 3)


def residual(operator, x, y):
    return (operator(x) - y).square().sum((-2, -1))


def test_small_images_are_recovered():
    y = A(X)
    x = HybridInputOutput(steps=1500, restarts=6).solve(A, y)
    assert x.shape == X.shape
    assert float(x.min()) >= 0
    assert float(psnr(align(x, X, padding=A.padding), X).min()) > 40
    assert float(psnr(align(A.pinv(y), X, padding=A.padding), X).max()) < 15


def test_a_single_point():
    truth = torch.zeros(1, 1, 4, 4)
    truth[0, 0, 1, 2] = 0.7
    B = PhaseRetrieval.oversampled((1, 4, 4), 2)
    x = HybridInputOutput(steps=200, restarts=2).solve(B, B(truth))
    torch.testing.assert_close(align(x, truth, padding=B.padding), truth, atol=1e-5, rtol=0)


def test_error_reduction_never_increases_the_residual():
    y = A(X.double())
    errors = [residual(A, HybridInputOutput(steps=0, polish=n, restarts=1).solve(A, y), y) for n in range(1, 30)]
    assert all(bool((b <= a + 1e-12).all()) for a, b in pairwise(errors))
    assert bool((errors[-1] < 0.5 * errors[0]).all())


def test_the_truth_is_a_fixed_point():
    truth = X.double()
    magnitude = torch.fft.ifftshift(A(truth), dim=(-2, -1))
    inside = A.padded(torch.ones_like(truth)).bool()
    frame = HybridInputOutput(steps=3, polish=2).run(magnitude, inside, A.padded(truth))
    torch.testing.assert_close(frame, A.padded(truth), atol=1e-12, rtol=0)


def test_one_step_by_hand():
    """Fienup 1982, eq. 44, then the values that the image may have."""
    y, g = rand(1, 1, 4, 4, seed=1, dtype=torch.float64), rand(1, 1, 4, 4, seed=2, dtype=torch.float64)
    y = (y + y.flip(-2, -1).roll((1, 1), (-2, -1))) / 2  # as of a real image
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[1:3, 1:3] = True
    G = torch.fft.fft2(g, norm="ortho")
    projected = torch.fft.ifft2(y * G / G.abs(), norm="ortho").real
    wanted = torch.where(inside & (projected >= 0), projected, g - 0.7 * projected)
    got = HybridInputOutput(steps=1, polish=0, beta=0.7).run(y, inside, g)
    torch.testing.assert_close(got, (wanted * inside).clamp(min=0), atol=1e-12, rtol=0)
    reduced = HybridInputOutput(steps=0, polish=1).run(y, inside, g)
    torch.testing.assert_close(reduced, (projected * inside).clamp(min=0), atol=1e-12, rtol=0)


def test_the_best_start_is_kept_for_every_channel():
    y = A(X)
    alone = [HybridInputOutput(steps=20, polish=0, restarts=n).solve(A, y) for n in (1, 4, 8)]
    errors = [residual(A, x, y) for x in alone]
    assert bool((errors[1] <= errors[0]).all())
    assert bool((errors[2] <= errors[1]).all())
    assert bool((errors[2] < errors[0]).any())


def test_seeds_and_batches():
    y, few = A(X), {"steps": 20, "polish": 5, "restarts": 2}
    x = HybridInputOutput(**few).solve(A, y)
    assert torch.equal(x, HybridInputOutput(**few).solve(A, y))
    assert not torch.equal(x, HybridInputOutput(**few, seed=1).solve(A, y))
    torch.testing.assert_close(HybridInputOutput(**few).solve(A, y[1:]), x[1:], atol=1e-5, rtol=0)


def test_as_a_start():
    solver = HybridInputOutput(steps=300, polish=50, restarts=2)
    B = PhaseRetrieval(A.padding, solver=solver, noise=Gaussian(0.02))
    y = B.measure(X, seed=4)
    start = B.pinv(y)
    assert torch.equal(start, solver.solve(A, y))
    noise = 0.02**2 * y[0, 0].numel()  # what the truth leaves
    assert bool((residual(B, start, y) < 1.5 * noise).all())
    assert bool((residual(B, PhaseRetrieval(A.padding).pinv(y), y) > 9 * noise).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"polish": -1}, "polish must be at least 0, got -1"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"beta": 0.0}, r"beta must be positive and finite, got 0\.0"),
    ],
)
def test_settings_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HybridInputOutput(**options)


def test_measurements_refused():
    solver = HybridInputOutput(steps=1)
    with pytest.raises(TypeError, match=r"needs a PhaseRetrieval, got Identity\(\)"):
        solver.solve(Identity(), X)
    with pytest.raises(ValueError, match=r"larger than the border, got \(2, 2, 12, 10\)"):
        solver.solve(PhaseRetrieval(5), X)
    with pytest.raises(ValueError, match=r"y must have shape \(B, 2, 36, 30\), got \(2, 2, 40, 40\)"):
        solver.solve(A, torch.zeros(2, 2, 40, 40))


def test_channels_that_look_alike_are_matched():
    """Equal channels, found from other starts: without matching some come out as twins or shifted copies of others."""
    truth = rand(1, 1, 12, 10, seed=4).expand(1, 6, 12, 10)
    B = PhaseRetrieval.oversampled((6, 12, 10), 3)
    settings = {"steps": 1500, "restarts": 4, "seed": 3}
    apart = HybridInputOutput(**settings).solve(B, B(truth))
    together = HybridInputOutput(**settings, alike=True).solve(B, B(truth))
    assert float((apart - apart[:, :1]).abs().max()) > 0.1
    torch.testing.assert_close(together, together[:, :1].expand_as(together), atol=1e-2, rtol=0)


def test_a_slow_start_is_computed_once():
    calls = []

    class Solver:
        def solve(self, A, y):
            calls.append(len(y))
            return A.cropped(y)

    problem = Problem(GaussianPrior().denoiser(), PhaseRetrieval(1, solver=Solver()), rand(2, 1, 6, 6))
    assert problem.shape == (2, 1, 4, 4)
    assert problem.back_projected.shape == problem.shape
    assert calls == [2]


def test_sixteen_bits():
    y = A(X)[:1].bfloat16()
    solver = HybridInputOutput(steps=5, restarts=1)
    assert torch.equal(solver.solve(A, y), solver.solve(A, y.float()).bfloat16())
