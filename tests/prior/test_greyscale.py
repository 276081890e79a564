"""The grey denoiser that a colour denoiser contains."""

import math

import pytest
import torch
from torch import nn

from prior.denoiser import Denoiser, EDMHead, NoiseHead
from prior.greyscale import grey, grey_from
from prior.networks.residual_unet import ResidualUNet
from prior.schedules import EDM

NETWORK = {"in_channels": 3, "channels": [8, 12], "blocks": [1, 1], "embedding": 16, "unshuffle": 2}


@pytest.fixture(scope="module")
def colour():
    torch.manual_seed(0)
    network = ResidualUNet(**NETWORK)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return Denoiser(network, EDM(), EDMHead(0.5)).requires_grad_(False)


@pytest.mark.parametrize("sigma", [0.03, 0.4, 7.0])
def test_it_is_the_mean_over_three_equal_colours(colour, sigma):
    x = torch.randn(2, 1, 20, 16, generator=torch.Generator().manual_seed(1))
    wanted = colour(x.expand(-1, 3, -1, -1), math.sqrt(3) * sigma).x0.mean(1, keepdim=True)
    got = grey(colour, NETWORK)(x, sigma).x0
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_the_shipped_photographs_denoise_in_grey():
    model = grey_from("photos").eval()
    assert model.network.in_channels == 1
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    noisy = ramp + 0.2 * torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x0 = model(noisy, 0.2).x0
    assert float((x0 - ramp).square().mean()) < 0.05 * 0.2**2


def test_the_range_is_that_of_the_new_images():
    assert grey_from("photos", (0.0, 1.0)).data_range == (0.0, 1.0)


@pytest.mark.parametrize("head", [NoiseHead(), EDMHead()])
def test_only_colour_networks_of_this_kind(head):
    model = Denoiser(ResidualUNet(**{**NETWORK, "in_channels": 1}), EDM(), head)
    with pytest.raises(TypeError, match="must be a ResidualUNet of 3 channels behind an EDMHead"):
        grey(model, NETWORK)
