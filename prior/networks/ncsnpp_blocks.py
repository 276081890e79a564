"""The layers of NCSN++: embedding, residual blocks, attention, resampling (Song et al. 2021, appendix H).

Names of parameters are the official ones, and so is the order in which layers are made: released files list the averaged
weights in it, without names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prior.networks.fir import FIR, FIRDownConv, FIRUpConv, Nearest
from prior.networks.ncsnpp_configuration import NCSNppConfig

__all__ = [
    "NIN",
    "AttnBlock",
    "Combine",
    "Downsample",
    "GaussianFourierProjection",
    "ResBlock",
    "Upsample",
    "activation",
    "conv3x3",
    "group_norm",
    "initialised",
    "positional_embedding",
    "residual_sum",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": F.silu,
    "elu": F.elu,
    "relu": F.relu,
    "lrelu": partial(F.leaky_relu, negative_slope=0.2),
}

Layer = TypeVar("Layer", bound=nn.Conv2d | nn.Linear)


def activation(config: NCSNppConfig) -> Callable[[Tensor], Tensor]:
    """The nonlinearity of ``config``."""
    return ACTIVATIONS[config.nonlinearity]


def initialised(layer: Layer, scale: float = 1.0) -> Layer:
    """The same layer, its weights uniform with variance ``2 scale / (fan_in + fan_out)`` (0 stands for 1e-10), its bias 0."""
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(scale or 1e-10))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def conv3x3(channels: int, out_channels: int, scale: float = 1.0) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, newly initialised."""
    return initialised(nn.Conv2d(channels, out_channels, 3, padding=1), scale)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm over ``min(channels // 4, 32)`` groups, with eps 1e-6; they must divide the channels, else ``ValueError``."""
    groups = max(1, min(channels // 4, 32))
    if channels % groups:
        raise ValueError(f"nf and ch_mult must give widths, and sums of two, that {groups} groups divide, got {channels}")
    return nn.GroupNorm(groups, channels, eps=1e-6)


def residual_sum(x: Tensor, h: Tensor, config: NCSNppConfig) -> Tensor:
    """``x + h``, divided by sqrt(2) where ``skip_rescale``, so that the variance stays."""
    return (x + h) / math.sqrt(2) if config.skip_rescale else x + h


class GaussianFourierProjection(nn.Module):
    """``[sin p, cos p]`` with ``p = 2 pi W e`` for e (B,) and fixed random frequencies W (nf,); returns (B, 2 nf)."""

    def __init__(self, nf: int, scale: float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(nf).copy_(scale * torch.randn(nf, device="cpu")), requires_grad=False)

    def forward(self, e: Tensor) -> Tensor:
        p = e[:, None] * self.W[None, :] * 2 * math.pi  # in this order: p is in the thousands, and float32 tells
        return torch.cat([p.sin(), p.cos()], dim=-1)


def positional_embedding(t: Tensor, width: int) -> Tensor:
    """``[sin(t f_j), cos(t f_j)]`` with ``f_j = 10000^(-j / (half - 1))``, j = 0..half-1; a zero pads an odd width.

    t (B,), labels or real times; returns (B, width) float32, sines first, for a width of 4 and more.
    """
    half = width // 2
    f = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * -(math.log(10000) / (half - 1)))
    angles = t.float()[:, None] * f
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, width % 2))


class NIN(nn.Module):
    """``y = x W + b`` at every pixel, W (channels, out_channels): a 1x1 convolution with the transposed weight."""

    def __init__(self, channels: int, out_channels: int, scale: float = 0.1) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, out_channels))
        self.b = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.W, gain=math.sqrt(scale or 1e-10))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.W.T[:, :, None, None], self.b)


class AttnBlock(nn.Module):
    """``x + NIN_3(softmax(q k / sqrt(C)) v)`` over all pixels of x (B, C, H, W), one head; q, k, v from the normalised x."""

    def __init__(self, config: NCSNppConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.GroupNorm_0 = group_norm(channels)
        self.NIN_0 = NIN(channels, channels)
        self.NIN_1 = NIN(channels, channels)
        self.NIN_2 = NIN(channels, channels)
        self.NIN_3 = NIN(channels, channels, config.init_scale)

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x)
        q, k, v = (nin(h).flatten(2).mT[:, None] for nin in (self.NIN_0, self.NIN_1, self.NIN_2))
        attended = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape)
        return residual_sum(x, self.NIN_3(attended), self.config)


class Upsample(nn.Module):
    """Twice the size, with a 3x3 convolution between ``channels``, (in, out), where they are given."""

    def __init__(self, config: NCSNppConfig, channels: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.resampling = FIR(config.fir_kernel) if config.fir else Nearest()
        self.with_conv = channels is not None
        if channels is not None and config.fir:
            self.Conv2d_0 = initialised(FIRUpConv(*channels, config.fir_kernel))
        elif channels is not None:
            self.Conv_0 = conv3x3(*channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.with_conv and isinstance(self.resampling, FIR):
            return self.Conv2d_0(x)
        x = self.resampling.upsample(x)
        return self.Conv_0(x) if self.with_conv else x


class Downsample(nn.Module):
    """Half the size, with a 3x3 convolution between ``channels``, (in, out), where they are given.

    Without a filter the convolution is strided, on x with one more row and column of zeros at the end.
    """

    def __init__(self, config: NCSNppConfig, channels: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.resampling = FIR(config.fir_kernel) if config.fir else Nearest()
        self.with_conv = channels is not None
        if channels is not None and config.fir:
            self.Conv2d_0 = initialised(FIRDownConv(*channels, config.fir_kernel))
        elif channels is not None:
            self.Conv_0 = initialised(nn.Conv2d(*channels, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        if not self.with_conv:
            return self.resampling.downsample(x)
        return self.Conv2d_0(x) if isinstance(self.resampling, FIR) else self.Conv_0(F.pad(x, (0, 1, 0, 1)))


class Combine(nn.Module):
    """The pyramid of inputs, through a 1x1 convolution to the width of h, then added to h or put before it."""

    def __init__(self, config: NCSNppConfig, channels: int, width: int) -> None:
        super().__init__()
        self.cat = config.progressive_combine == "cat"
        self.Conv_0 = initialised(nn.Conv2d(channels, width, 1))

    def forward(self, pyramid: Tensor, h: Tensor) -> Tensor:
        entering = self.Conv_0(pyramid)
        return torch.cat([entering, h], dim=1) if self.cat else entering + h


class ResBlock(nn.Module):
    """``shortcut(x) + conv(act(norm(conv(resize(act(norm(x)))) + dense(act(temb)))))``, of the BigGAN or the DDPM kind.

    x (B, channels, H, W) becomes (B, out_channels, H', W'). The two kinds differ in their shortcut, where the widths
    differ: a 1x1 convolution, which a block that resizes always has, or NIN.

    Parameters
    ----------
    resize: resampling without convolution of both branches; only in a BigGAN block.
    """

    def __init__(
        self, config: NCSNppConfig, channels: int, out_channels: int, *, resize: Upsample | Downsample | None = None
    ) -> None:
        super().__init__()
        self.config, self.act = config, activation(config)
        self.resize = resize
        self.GroupNorm_0 = group_norm(channels)
        self.Conv_0 = conv3x3(channels, out_channels)
        self.Dense_0 = initialised(nn.Linear(4 * config.nf, out_channels))
        self.GroupNorm_1 = group_norm(out_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.Conv_1 = conv3x3(out_channels, out_channels, config.init_scale)
        self.shortcut = "identity"
        if config.resblock_type == "ddpm" and channels != out_channels:
            self.shortcut, self.NIN_0 = "NIN_0", NIN(channels, out_channels)
        elif channels != out_channels or resize is not None:
            self.shortcut, self.Conv_2 = "Conv_2", initialised(nn.Conv2d(channels, out_channels, 1))

    def forward(self, x: Tensor, temb: Tensor | None) -> Tensor:
        h = self.act(self.GroupNorm_0(x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = self.Conv_0(h)
        if temb is not None:
            h = h + self.Dense_0(self.act(temb))[:, :, None, None]
        h = self.Conv_1(self.dropout(self.act(self.GroupNorm_1(h))))
        if self.shortcut != "identity":
            x = getattr(self, self.shortcut)(x)
        return residual_sum(x, h, self.config)
