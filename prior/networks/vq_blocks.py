"""The blocks of the VQ autoencoder: residual block, attention, reduction (Esser et al. 2021, appendix A).

Names of parameters are the official ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["GROUPS", "Attention", "Downsample", "Middle", "ResnetBlock", "activated", "group_norm", "laid_out"]

GROUPS = 32
SCORES = 2**28  # pairs of tokens at once: 1 GiB in float32, for the devices that keep them


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm over 32 groups with eps 1e-6."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def laid_out(x: Tensor) -> Tensor:
    """``x`` (B, C, H, W) with the features of a pixel side by side on the CPU, whose convolutions are faster then."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def activated(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """``silu(norm(x))``, in the memory of the norm where no gradient is recorded."""
    h = norm(x)
    return F.silu(h, inplace=not h.requires_grad)


class ResnetBlock(nn.Module):
    """``shortcut(x) + conv2(dropout(silu(norm2(conv1(silu(norm1(x)))))))``; the shortcut is 1x1 where the widths differ."""

    def __init__(self, channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(activated(self.norm1, x))
        h = self.conv2(self.dropout(activated(self.norm2, h)))
        shortcut = self.nin_shortcut(x)
        return shortcut + h if h.requires_grad or h.dtype != shortcut.dtype else h.add_(shortcut)


class Attention(nn.Module):
    """``x + proj_out(softmax(q k / sqrt(C)) v)`` over all pixels of x (B, C, H, W), one head; q, k, v from the normalised x.

    The queries come in pieces of at most ``scores / (H W)``, so that memory grows with the pixels and not with their
    square, whatever the device makes of one piece.

    Attributes
    ----------
    scores: pairs of a query and a key that are looked at together; any number gives the same result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scores = SCORES
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        # fused kernels want the features of a token side by side
        q, k, v = (layer(h).flatten(2).mT[:, None].contiguous() for layer in (self.q, self.k, self.v))
        count = max(1, self.scores // q.shape[2])
        pieces = [F.scaled_dot_product_attention(piece, k, v) for piece in q.split(count, dim=2)]
        attended = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)
        return x + self.proj_out(attended[:, 0].mT.reshape(x.shape))


class Downsample(nn.Module):
    """Half the size by a strided 3x3 convolution, on x with one more row and column of zeros at the end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Middle(nn.Module):
    """Two residual blocks with attention between them."""

    def __init__(self, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, dropout=dropout)
        self.attn_1 = Attention(channels)
        self.block_2 = ResnetBlock(channels, channels, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))
