"""Every sampler that `prior.samplers` exports, as a user calls it: a small network in single precision, all arguments."""

import dataclasses

import pytest
import torch
from torch import nn

import prior.samplers
from prior.denoiser import Denoiser, EDMHead, VelocityHead
from prior.networks import ResidualUNet
from prior.samplers import IRSDE, PredictorCorrector, Sampler
from prior.schedules import EDM, VE, VP, Linear, MeanReverting, RectifiedFlow, ScaledLinear, SubVP

SHAPE = (2, 1, 4, 4)
EVERY = [getattr(prior.samplers, name) for name in prior.samplers.__all__]
EVERY = [c for c in EVERY if isinstance(c, type) and issubclass(c, Sampler) and c is not Sampler]
SCHEDULES = [Linear(), ScaledLinear().respace(40), VP(), SubVP(), VE(), EDM(), RectifiedFlow(), MeanReverting()]
ONLY = {IRSDE: (MeanReverting,), PredictorCorrector: (VP, VE)}  # the others take every schedule
CASES = [(c, s) for c in EVERY for s in SCHEDULES if isinstance(s, ONLY.get(c, object))]
cases = pytest.mark.parametrize(("kind", "schedule"), CASES, ids=lambda v: getattr(v, "__name__", type(v).__name__))


class Network(nn.Module):
    """A U-Net with random weights; a condition is added to what it sees."""

    def __init__(self):
        super().__init__()
        self.unet = ResidualUNet(1, (4, 4), (1, 1), embedding=4)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.unet.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def forward(self, x, t, condition=None):
        return self.unet(x if condition is None else x + condition, t)


def model_of(schedule):
    return Denoiser(Network(), schedule, VelocityHead() if isinstance(schedule, RectifiedFlow) else EDMHead())


def test_all_are_found():
    assert len(EVERY) >= 16
    assert {kind for kind, _ in CASES} == set(EVERY)


@cases
def test_a_user_samples(kind, schedule):
    model, sampler, done = model_of(schedule), kind(steps=24 if kind is PredictorCorrector else 4), []
    x = sampler.sample(model, SHAPE, seed=3, progress=lambda i, n: done.append((i, n)))
    assert (x.shape, x.dtype, x.requires_grad) == (SHAPE, torch.float32, False)
    assert bool(x.isfinite().all())
    assert done == [(i, sampler.steps) for i in range(1, sampler.steps + 1)]
    alone = sampler.sample(model, (1, *SHAPE[1:]), seed=4)
    torch.testing.assert_close(x[1:], alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max()))
    assert torch.equal(x, sampler.sample(model, SHAPE, seed=3))
    conditioned = sampler.sample(model, SHAPE, seed=3, condition=torch.ones(SHAPE))
    guided = sampler.sample(model, SHAPE, seed=3, guidance=lambda x, t: -0.01 * x)
    for other in (conditioned, guided, sampler.sample(model, SHAPE, seed=9)):
        assert bool(other.isfinite().all())
        assert float((other - x).abs().max()) > 1e-6


@pytest.mark.parametrize("kind", [c for c in EVERY if c is not IRSDE], ids=lambda c: c.__name__)
def test_every_tensor_is_made_where_the_image_is(kind):
    """The device "meta" holds no numbers: a tensor left behind on the CPU fails here as it would beside a GPU.

    Not of IRSDE, whose schedule compares its times, which are on that device, with the ends.
    """
    model, sampler = model_of(VP()).to("meta"), kind(steps=24 if kind is PredictorCorrector else 4)
    condition = torch.ones(SHAPE, device="meta")
    x = sampler.sample(model, SHAPE, condition=condition, guidance=lambda x, t: -x)
    assert (x.device.type, x.shape) == ("meta", SHAPE)


@pytest.mark.parametrize("kind", EVERY, ids=lambda c: c.__name__)
def test_every_sampler_is_a_value(kind):
    sampler = kind(steps=7)
    assert dataclasses.replace(kind(), steps=7) == sampler
    assert "steps=7" in repr(sampler)
