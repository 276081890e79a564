"""The blocks of the ADM U-Net: residual block, attention, resampling (Dhariwal & Nichol 2021, appendix A)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Attention",
    "Downsample",
    "GroupNorm32",
    "ResBlock",
    "Stage",
    "Upsample",
    "attend",
    "doubled_convolution",
    "zero_init",
]

GROUPS = 32
LARGE = 32**2  # pixels from which on a summed kernel pays for its making
MIRRORED_PAIRS = ((0, 0, 1, 1), (0, 1, 1, 0), (1, 1, 0, 0))  # the two places from which a tap sees a doubled sample
PRECISE = (torch.float32, torch.float64)  # in which sums of weights are as good as the weights

Layer = TypeVar("Layer", nn.Conv1d, nn.Conv2d)


def zero_init(layer: Layer) -> Layer:
    """The same convolution with weight and bias zero, so that a new residual branch adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class GroupNorm32(nn.GroupNorm):
    """Group norm over 32 groups, evaluated in float32 (float64 for float64 input) and cast back."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.group_norm(x.to(wide), self.num_groups, self.weight.to(wide), self.bias.to(wide), self.eps).to(x.dtype)


class Upsample(nn.Module):
    """Nearest neighbour, twice the size; then a 3x3 convolution where ``conv``.

    On the CPU, in float32 and float64, both are one :func:`doubled_convolution` where x has ``LARGE`` pixels or more.
    """

    def __init__(self, channels: int, conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        conv, pays = self.conv, x.device.type == "cpu" and x.shape[-2:].numel() >= LARGE
        if pays and isinstance(conv, nn.Conv2d) and conv.weight.dtype in PRECISE:
            return doubled_convolution(x, conv.weight, conv.bias)
        return conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def doubled_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 3x3 convolution, padded by zeros, of ``x`` (B, C, H, W) doubled in size by nearest neighbours: (B, O, 2H, 2W).

    Both are a transposed convolution of stride 2 with the 4x4 kernel ``M^T w M`` of ``weight`` w (O, C, 3, 3), M being
    :data:`MIRRORED_PAIRS`: four products for each output and pair of channels instead of nine. Equal but for rounding.
    """
    M = weight.new_tensor(MIRRORED_PAIRS)
    kernel = (weight.flatten(2) @ torch.kron(M, M)).unflatten(2, (4, 4))
    return F.conv_transpose2d(x, kernel.transpose(0, 1), bias, stride=2, padding=1)


class Downsample(nn.Module):
    """Half the size: a strided 3x3 convolution where ``conv``, else the mean of 2x2 pixels."""

    def __init__(self, channels: int, conv: bool) -> None:
        super().__init__()
        self.op: nn.Module = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ResBlock(nn.Module):
    """``skip(x) + conv(silu(modulate(norm(conv(resize(silu(norm(x))))), embedding)))``.

    With ``scale_shift`` the embedding gives (scale, shift) and the modulation is ``norm(h) (1 + scale) + shift``; without,
    it is added before the norm. x (B, channels, H, W) becomes (B, out_channels, H', W').

    Parameters
    ----------
    resize: a parameter-free resize of both branches, between activation and convolution; nothing by default.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding: int,
        *,
        scale_shift: bool,
        dropout: float = 0.0,
        resize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resize = resize or nn.Identity()
        self.in_layers = nn.Sequential(GroupNorm32(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (1 + scale_shift) * out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, activation, conv = self.in_layers
        h = conv(self.resize(activation(norm(x))))
        modulation = self.emb_layers(embedding).to(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.out_layers[1:](torch.addcmul(shift, self.out_layers[0](h), 1 + scale))
        else:
            h = self.out_layers(h + modulation)
        return self.skip_connection(self.resize(x)) + h


class Attention(nn.Module):
    """``x + project(attend(qkv(norm(x))))`` over all pixels of x (B, C, H, W), in ``heads`` heads.

    Parameters
    ----------
    new_order: the 3C channels of qkv are [q | k | v][head][channel]; otherwise, as in all released models but the
        64-pixel one, [head][q | k | v][channel]. A file does not tell which.
    """

    def __init__(self, channels: int, heads: int, *, new_order: bool = False) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"heads must divide the {channels} channels, got {heads}")
        self.heads, self.new_order = heads, new_order
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero_init(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = attend(self.qkv(self.norm(x).flatten(2)), self.heads, new_order=self.new_order)
        return x + self.proj_out(tokens).view_as(x)


def attend(qkv: Tensor, heads: int, *, new_order: bool) -> Tensor:
    """Softmax attention of qkv (B, 3C, N), whose channels are ordered as :class:`Attention` says; returns (B, C, N)."""
    batch, channels, count = qkv.shape
    if new_order:
        q, k, v = qkv.view(batch, 3, heads, -1, count).unbind(1)
    else:
        q, k, v = qkv.view(batch, heads, 3, -1, count).unbind(2)
    out = F.scaled_dot_product_attention(q.mT, k.mT, v.mT)
    return out.mT.reshape(batch, channels // 3, count)


class Stage(nn.Sequential):
    """Layers in sequence, of which the residual blocks also read the embedding (B, E)."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x
