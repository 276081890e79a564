"""A small network of the shifted chain on images themselves, fast enough for two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prior.networks.residual_unet import ResidualUNet

__all__ = ["CompactUNet"]


class CompactUNet(nn.Module):
    """``lq + unet([x, lq])``: a residual U-Net that sees the degraded image beside x, and says what is missing in it.

    Both images are folded by ``unshuffle``, so that for x4 super-resolution the network runs at the size of the picture
    before it was enlarged. Without normalisation and attention it is local: any size runs, and tiles do not differ from the
    whole picture beyond the receptive field. A new network answers lq itself, the plain enlargement.

    ``network(x, t, lq)``: x (B, in_channels, H, W) is the scaled state, t (B,) the step, lq the degraded image, enlarged to
    the size of x, as :meth:`~restore.resshift.chain.ResShift.condition` gives it where there is no first stage. Returns the
    shape of x.

    Parameters
    ----------
    channels: features of each level, the first at 1 / unshuffle of the size, each next at half of it.
    blocks: residual blocks of each level, on the way down and again on the way up; once in the last level.
    embedding: width of the time embedding.
    unshuffle: side of the pixel blocks folded into channels; the factor of the enlargement suits.
    in_channels: channels of the image.
    """

    def __init__(
        self,
        channels: Sequence[int] = (96, 128, 192),
        blocks: Sequence[int] = (4, 2, 4),
        *,
        embedding: int = 128,
        unshuffle: int = 4,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.unet = ResidualUNet(2 * in_channels, channels, blocks, embedding, unshuffle)

    def forward(self, x: Tensor, t: Tensor, lq: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape != lq.shape:
            wanted = f"(B, {self.in_channels}, H, W)"
            raise ValueError(f"x and lq must both have shape {wanted}, got {tuple(x.shape)} and {tuple(lq.shape)}")
        return lq + self.unet(torch.cat([x, lq], 1), t)[:, : self.in_channels]
