"""The residual U-Net: any size, local, zero at the start."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prior.networks.residual_unet import ResidualUNet


@pytest.fixture
def network() -> ResidualUNet:
    torch.manual_seed(0)
    net = ResidualUNet(channels=(8, 8), blocks=(1, 1), embedding=16).double()
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return net.eval()


def test_a_new_network_is_zero():
    x = torch.randn(2, 3, 20, 12)
    assert ResidualUNet(channels=(8, 16), blocks=(1, 1), embedding=16)(x, torch.tensor([0.1, -1.0])).abs().max() == 0


def test_any_size(network):
    t = torch.zeros(1)
    for size in ((1, 1), (5, 9), (16, 20)):
        x = torch.randn(1, 3, *size, dtype=torch.float64)
        assert network(x, t).shape == x.shape


def test_a_padded_image_is_the_image_with_its_edge_repeated(network):
    x = torch.randn(1, 3, 10, 14, dtype=torch.float64)
    padded = nn.functional.pad(x, (0, 2, 0, 2), mode="replicate")
    torch.testing.assert_close(network(x, torch.zeros(1)), network(padded, torch.zeros(1))[..., :10, :14])


def test_a_tile_sees_what_the_image_shows(network):
    """Nothing averages over the image: far enough from the cut, a tile gives what the whole gives."""
    x = torch.randn(1, 3, 16, 96, dtype=torch.float64)
    whole, tile = network(x, torch.zeros(1)), network(x[..., :64], torch.zeros(1))
    torch.testing.assert_close(tile[..., :32], whole[..., :32], atol=1e-12, rtol=0)
    assert (tile[..., 60:] - whole[..., 60:64]).abs().max() > 1e-6


def test_the_time_matters_and_is_each_members_own(network):
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64).repeat(2, 1, 1, 1)
    out = network(x, torch.tensor([-1.0, 0.5]))
    torch.testing.assert_close(out[:1], network(x[:1], torch.tensor([-1.0])))
    assert (out[0] - out[1]).abs().max() > 1e-3


def test_blocks_fit_channels():
    with pytest.raises(ValueError, match="blocks must have one entry a level, 2, got 1"):
        ResidualUNet(channels=(8, 8), blocks=(1,))
