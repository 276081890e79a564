"""What every posterior sampler promises, whatever its mathematics: seeds, batches, counting, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from inverse.operators import Blur, Downsample, Gaussian, Identity, Inpaint, Noiseless, Overexpose, Poisson
from inverse.samplers import DAPS, DDNM, DDRM, DPS, MCG, DiffPIR, FlowChef, Langevin, PiGDM, RedDiff
from prior.denoiser import Denoiser, NoiseHead
from prior.mixture import GaussianMixture
from prior.schedules import EDM, VP, Linear

SHAPE = (2, 4, 4)
SAMPLERS = {
    "DAPS": DAPS(steps=5),
    "DAPS-Langevin": DAPS(steps=4, ode_steps=2, ode_end=0.01, mcmc=Langevin(steps=3)),
    "DDNM": DDNM(steps=5),
    "DDNM-travel": DDNM(steps=6, travel_length=2, travel_repeat=2),
    "DDRM": DDRM(steps=5),
    "DPS": DPS(steps=5),
    "DiffPIR": DiffPIR(steps=5),
    "FlowChef": FlowChef(steps=5),
    "MCG": MCG(steps=5),
    "PiGDM": PiGDM(steps=5),
    "RedDiff": RedDiff(steps=5),
    "RedDiff-paper": RedDiff.paper(steps=5),
}
LINEAR_ONLY = ("DDNM", "DDRM", "DiffPIR", "MCG", "PiGDM", "RedDiff")
every = pytest.mark.parametrize("name", SAMPLERS)
MIXTURE = GaussianMixture.random(SHAPE, seed=3)


def model(schedule=None) -> Denoiser:
    return MIXTURE.denoiser(schedule or Linear(), data_range=(-1.0, 1.0)).float()


def measurement(A, count: int = 1):
    return torch.cat([A.measure(model().to_image(MIXTURE.sample(1, seed=s).float()), seed=s) for s in range(count)])


@every
@pytest.mark.parametrize("schedule", [Linear(), VP(), EDM()], ids=["Linear", "VP", "EDM"])
def test_any_schedule_and_a_finite_answer_of_the_right_shape(name, schedule):
    A = Inpaint.random(SHAPE, 0.5, seed=0, noise=Gaussian(0.05))
    out = SAMPLERS[name].reconstruct(model(schedule), A, measurement(A, 2))
    assert out.estimate.shape == (2, *SHAPE)
    assert bool(out.estimate.isfinite().all())
    assert out.settings["sampler"] == type(SAMPLERS[name]).__name__


@every
def test_network_calls_are_those_documented(name):
    A = Identity(SHAPE, noise=Gaussian(0.05))
    sampler, seen = SAMPLERS[name], []
    out = sampler.reconstruct(model(), A, measurement(A), progress=lambda done, total: seen.append((done, total)))
    times = sampler.times(Linear()) if not isinstance(sampler, RedDiff) else [0] * (sampler.steps + 1)
    assert out.network_calls == sampler.network_calls(len(times) - 1) == len(seen)
    assert seen[-1] == (out.network_calls,) * 2


@every
def test_progress_counts_through_members_whose_noise_differs(name):
    A, seen = Inpaint.random(SHAPE, 0.3, seed=1, noise=Poisson(200.0)), []
    out = SAMPLERS[name].reconstruct(model(), A, measurement(A, 2), progress=lambda *done: seen.append(done))
    assert seen == [(k + 1, out.network_calls) for k in range(out.network_calls)]


@every
def test_precision(name):
    """float64 stays; 16 bits are taken in float32; autocast touches the network alone, and this one computes no products."""
    A, sampler = Downsample.area(2, shape=SHAPE, noise=Gaussian(0.05)), SAMPLERS[name]
    y = measurement(A).bfloat16()
    wanted = sampler.reconstruct(model(), A, y.float()).estimate
    assert torch.equal(sampler.reconstruct(model(), A, y).estimate, wanted)
    double = sampler.reconstruct(model(), A, y.double()).estimate
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), wanted, atol=2e-3, rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sampler.reconstruct(model(), A, y.float()).estimate
    assert inside.dtype == torch.float32
    assert float((A(inside) - A(wanted)).abs().max()) < 0.1


@every
def test_inference_mode_and_gradients_of_the_measurement(name):
    A = Downsample.area(2, shape=SHAPE, noise=Gaussian(0.05))
    y = measurement(A)
    wanted = SAMPLERS[name].reconstruct(model(), A, y).estimate
    with torch.inference_mode():
        assert torch.equal(SAMPLERS[name].reconstruct(model(), A, y + 0).estimate, wanted)
    out = SAMPLERS[name].reconstruct(model(), A, y.clone().requires_grad_())
    assert torch.equal(out.estimate, wanted)
    assert not out.estimate.requires_grad


@every
@pytest.mark.parametrize("noise", [Noiseless(), Gaussian(0.0)], ids=repr)
def test_no_noise_divides_nothing_by_zero(name, noise):
    A = Blur(torch.tensor([[1.0, 0.0, 1.0]]) / 2, "circular", shape=SHAPE, noise=noise)  # some frequencies are lost
    assert bool(SAMPLERS[name].reconstruct(model(), A, measurement(A)).estimate.isfinite().all())


@every
def test_same_seed_same_bytes(name):
    A = Downsample.area(2, shape=SHAPE, noise=Gaussian(0.05))
    y = measurement(A)
    first, again, other = (SAMPLERS[name].reconstruct(model(), A, y, seed=s).estimate for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert name == "FlowChef" or not torch.equal(first, other)


@every
@pytest.mark.parametrize("noise", [Gaussian(0.05), Poisson(200.0), Poisson(300.0) + Gaussian(0.02)], ids=repr)
def test_a_batch_equals_its_members(name, noise):
    A = Inpaint.random(SHAPE, 0.3, seed=1, noise=noise)
    y = measurement(A, 3) * torch.tensor([1.0, 0.5, 0.1]).view(-1, 1, 1, 1)
    together = SAMPLERS[name].reconstruct(model(), A, y).estimate
    alone = torch.cat([SAMPLERS[name].reconstruct(model(), A, member[None]).estimate for member in y])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-3)


@every
def test_several_samples(name):
    if name == "FlowChef":
        pytest.skip("FlowChef draws no samples")
    A = Inpaint.random(SHAPE, 0.5, seed=0, noise=Gaussian(0.05))
    sampler = dataclasses.replace(SAMPLERS[name], samples=3)
    out = sampler.reconstruct(model(), A, measurement(A, 2))
    assert out.samples.shape == (3, 2, *SHAPE)
    assert float(out.std.mean()) > 0
    assert out.network_calls == (3 if not isinstance(sampler, RedDiff) else 1) * sampler.network_calls(
        len(sampler.times(Linear())) - 1 if not isinstance(sampler, RedDiff) else sampler.steps
    )
    if not isinstance(sampler, RedDiff):
        torch.testing.assert_close(out.estimate, out.samples.mean(0))


@every
def test_nonlinear_operators_are_solved_or_refused(name):
    A = Overexpose(1.5, shape=SHAPE)
    y = measurement(A)
    if name in LINEAR_ONLY or name == "DDNM-travel":
        with pytest.raises(TypeError, match=r"linear|Overexpose"):
            SAMPLERS[name].reconstruct(model(), A, y)
    else:
        assert bool(SAMPLERS[name].reconstruct(model(), A, y).estimate.isfinite().all())


@every
def test_bad_measurements_are_refused(name):
    A = Inpaint.random(SHAPE, 0.5, seed=0)
    with pytest.raises(ValueError, match=r"y must be floating point or complex, got torch\.uint8; convert it"):
        SAMPLERS[name].reconstruct(model(), A, torch.zeros(1, *SHAPE, dtype=torch.uint8))
    with pytest.raises(ValueError, match="y must be finite"):
        SAMPLERS[name].reconstruct(model(), A, torch.full((1, *SHAPE), float("nan")))
    with pytest.raises(ValueError, match="must have shape"):
        SAMPLERS[name].reconstruct(model(), A, torch.zeros(1, 2, 5, 4))
    with pytest.raises(ValueError, match=r"steps must be at least 1, got 0"):
        dataclasses.replace(SAMPLERS[name], steps=0)


@every
def test_a_network_that_fails_leaves_no_hook_behind(name):
    class Broken(nn.Module):
        def forward(self, x, t):
            raise RuntimeError("out of order")

    broken = Denoiser(Broken(), Linear(), NoiseHead())
    A = Identity(SHAPE, noise=Gaussian(0.05))
    with pytest.raises(RuntimeError, match="out of order"):
        SAMPLERS[name].reconstruct(broken, A, measurement(A))
    assert not broken._forward_hooks
