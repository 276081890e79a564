"""Projection onto what was measured: nearest images in closed form, and samplers whose answers explain the measurement."""

from __future__ import annotations

import pytest
import torch

from inverse.operators import JPEG, Downsample, Gaussian, Identity, Overexpose, Quantize
from inverse.samplers import DAPS, HMC, Consistent, DiffPIR
from tests.inverse.gaussian import GaussianPrior

PRIOR = GaussianPrior(mean=0.5, std=0.25)
SHAPE = (2, 8, 8)


@pytest.mark.parametrize("A", [Overexpose(2.0), Quantize(2), Downsample.bicubic(2)], ids=repr)
def test_projections_are_nearest_and_idempotent(A):
    truth, x = PRIOR.image(SHAPE, seed=1), PRIOR.image(SHAPE, seed=2)
    y = A(truth)
    p = A.project(x, y)
    torch.testing.assert_close(A(p), y, atol=1e-5, rtol=0)
    torch.testing.assert_close(A.project(p, y), p, atol=1e-5, rtol=0)
    torch.testing.assert_close(A.project(truth, y), truth, atol=1e-5, rtol=0)
    assert float((x - p).norm()) <= float((x - truth).norm())  # the truth is one of those images


def test_overexposure_by_hand():
    A = Overexpose(2.0)
    y = torch.tensor([0.0, 0.0, 0.4, 1.0, 1.0]).view(1, 1, 1, 5)
    x = torch.tensor([0.1, 0.6, 0.9, 0.2, 0.9]).view(1, 1, 1, 5)
    torch.testing.assert_close(A.project(x, y).flatten(), torch.tensor([0.1, 0.25, 0.45, 0.75, 0.9]))


def test_estimate_and_samples_explain_the_measurement():
    A = Overexpose(2.0, shape=SHAPE)
    truth = PRIOR.image(SHAPE, seed=3)
    y = A(truth)
    plain = DAPS(steps=10, mcmc=HMC(steps=5), samples=2)
    out = Consistent(sampler=plain).reconstruct(PRIOR.denoiser(), A, y)
    torch.testing.assert_close(A(out.estimate), y, atol=1e-6, rtol=0)
    assert all(torch.allclose(A(x), y, atol=1e-6) for x in out.samples)
    before = plain.reconstruct(PRIOR.denoiser(), A, y)
    assert float((out.estimate - truth).norm()) < float((before.estimate - truth).norm())
    assert out.network_calls == before.network_calls
    assert out.settings["sampler"] == "Consistent(DAPS)"


def test_refusals():
    model, y = PRIOR.denoiser(), torch.full((1, *SHAPE), 0.5)
    with pytest.raises(ValueError, match="Consistent is for noiseless measurements"):
        Consistent(sampler=DiffPIR()).reconstruct(model, Identity(noise=Gaussian(0.1)), y)
    with pytest.raises(TypeError, match=r"has no project\(x, y\)"):
        Consistent(sampler=DAPS()).reconstruct(model, JPEG(10), torch.full((1, 3, 16, 16), 0.5))
    with pytest.raises(TypeError, match="DiffPIR needs a linear operator"):
        Consistent(sampler=DiffPIR()).reconstruct(model, Overexpose(2.0), y)
