"""Doubling by nearest neighbours and a 3x3 convolution, evaluated as one transposed convolution."""

import pytest
import torch
from torch.nn import functional as F

from prior.networks import adm_blocks
from prior.networks.adm_blocks import Upsample, doubled_convolution


def plainly(x, weight, bias):
    return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 3)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_transposed_convolution_is_doubling_and_convolving(size, with_bias):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, *size), (7, 5, 3, 3), (7,)]
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    x, weight, bias = inputs if with_bias else (*inputs[:2], None)
    out, wanted = doubled_convolution(x, weight, bias), plainly(x, weight, bias)
    torch.testing.assert_close(out, wanted, atol=1e-13, rtol=0)
    direction = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    given = inputs if with_bias else inputs[:2]
    for ours, plain in zip(*(torch.autograd.grad((y * direction).sum(), given) for y in (out, wanted)), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)


def test_only_large_images_are_doubled_in_one(monkeypatch):
    calls = []
    monkeypatch.setattr(adm_blocks, "doubled_convolution", lambda *given: calls.append(1) or doubled_convolution(*given))
    torch.manual_seed(0)
    layer, x = Upsample(32, conv=True), torch.randn(1, 32, 32, 32)
    torch.testing.assert_close(layer(x), plainly(x, layer.conv.weight, layer.conv.bias), atol=1e-5, rtol=0)
    assert calls == [1]
    small = x[..., 1:, :]
    assert torch.equal(layer(small), plainly(small, layer.conv.weight, layer.conv.bias))
    assert calls == [1]


def test_weights_that_sums_would_round_stay_as_they_are():
    torch.manual_seed(0)
    layer, x = Upsample(32, conv=True).bfloat16(), torch.randn(1, 32, 32, 32).bfloat16()
    assert torch.equal(layer(x), plainly(x, layer.conv.weight, layer.conv.bias))


def test_new_weights_are_used_at_once_and_none_is_added():
    torch.manual_seed(0)
    layer, x = Upsample(32, conv=True).requires_grad_(False), torch.randn(1, 32, 32, 32)
    before = layer(x)
    layer.conv.weight.mul_(-2)
    torch.testing.assert_close(layer(x) - layer.conv.bias.view(-1, 1, 1), -2 * (before - layer.conv.bias.view(-1, 1, 1)))
    assert set(layer.state_dict()) == {"conv.weight", "conv.bias"}
