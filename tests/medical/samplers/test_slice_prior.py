"""The denoiser in units of images, whatever its schedule, head and range."""

import math

import pytest
import torch
from torch import nn

from medical.samplers import Run
from medical.samplers.slice_prior import SlicePrior
from prior.denoiser import Denoiser, EDMHead, ImageHead, NoiseHead, ScoreHead, VelocityHead, VHead
from prior.schedules import EDM, VE, VP, Linear, RectifiedFlow
from tests.medical.classical.problems import randn
from tests.medical.samplers.problems import MEAN, TAU, prior
from tests.prior.gaussian import GaussianNetwork

SCHEDULES = {"ve": VE(), "vp": VP(), "edm": EDM(), "discrete": Linear(), "flow": RectifiedFlow()}
HEADS = {"noise": NoiseHead(), "image": ImageHead(), "score": ScoreHead(), "v": VHead(), "velocity": VelocityHead()}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("data_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 2.0)], ids=str)
def test_noise_of_a_gaussian(schedule, head, data_range):
    """eps = sigma (x - mu) / (sigma^2 + tau^2), in units of images, for mu and tau in those units."""
    low, scale = data_range[0], data_range[1] - data_range[0]
    network = GaussianNetwork(schedule, head, low + scale * MEAN, scale * TAU)
    slices = SlicePrior(Denoiser(network, schedule, head, data_range=data_range), Run(chunk=2))
    x = 3 * randn(5, 1, 4, 4)
    for sigma in (0.1, 0.7, 3.0):
        exact = sigma * (x - MEAN) / (sigma**2 + TAU**2)
        torch.testing.assert_close(slices.eps(x, sigma), exact, rtol=1e-6, atol=1e-7)


def test_edm_head():
    schedule = EDM()
    network = GaussianNetwork(schedule, EDMHead(), MEAN, TAU)
    slices = SlicePrior(Denoiser(network, schedule, EDMHead(), data_range=(0.0, 1.0)), Run())
    x = randn(2, 1, 3, 3)
    torch.testing.assert_close(slices.eps(x, 0.5), 0.5 * (x - MEAN) / (0.25 + TAU**2))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_ends(schedule):
    slices = SlicePrior(prior(schedule=schedule), Run())
    assert 0 < slices.lowest < slices.highest < math.inf
    for sigma in (slices.lowest, slices.highest, 1.0):
        assert float(schedule.level(slices.time(sigma))) == pytest.approx(sigma, rel=1e-9)


@pytest.mark.parametrize("channels", [1, 2])
def test_complex_slices(channels):
    model = prior(channels=channels)
    seen = []
    model.network.register_forward_pre_hook(lambda m, args: seen.append(tuple(args[0].shape)))
    x = randn(3, 1, 4, 4, dtype=torch.complex128)
    eps = SlicePrior(model, Run(chunk=2)).eps(x, 0.5)
    exact = 0.5 * (x - MEAN * (1 + 1j)) / (0.25 + TAU**2)
    torch.testing.assert_close(eps, exact)
    assert seen == ([(2, 2, 4, 4), (1, 2, 4, 4)] if channels == 2 else [(4, 1, 4, 4), (2, 1, 4, 4)])


class Mixing(nn.Module):
    """Returns the second channel in the first."""

    in_channels = 2

    def forward(self, x, t):
        return x.flip(1)


def test_two_channels_are_real_and_imaginary_part():
    x = randn(2, 1, 3, 3, dtype=torch.complex128)
    eps = SlicePrior(Denoiser(Mixing(), VE(), data_range=(0.0, 1.0)), Run()).eps(x, 0.5)
    torch.testing.assert_close(eps, torch.complex(x.imag, x.real))


def test_channels_of_released_networks():
    """Networks that keep their channels in a configuration are understood as well."""
    from prior.networks.adm import ADMConfig, ADMUNet

    config = ADMConfig(
        in_channels=2, out_channels=2, model_channels=32, channel_mult=(1,), num_res_blocks=1, attention_ds=(), head_channels=32
    )
    model = Denoiser(ADMUNet(config), Linear())
    x = randn(3, 1, 4, 4, dtype=torch.complex64)
    assert SlicePrior(model, Run()).eps(x, 0.5).shape == x.shape


def test_calls_and_reports():
    reports = []
    slices = SlicePrior(prior(), Run(chunk=2), lambda: reports.append(1))
    for _ in range(3):
        slices.eps(randn(5, 1, 2, 2), 0.5)
    assert slices.calls == 3
    assert len(reports) == 9
