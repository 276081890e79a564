"""A small network of the shifted chain on images themselves, fast enough for two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prior.networks.residual_unet import ResidualUNet

__all__ = ["CompactUNet"]


class CompactUNet(nn.Module):
    """``m + refine([x - m, m], t)`` with ``m = lq + restore(lq)``: what the degraded image tells, and what x adds to it.

    ``restore`` never sees noise and has most of the weights; ``refine`` is shallow and sees the state beside m. At the start
    of the chain, where x is mostly noise, the answer is m, the mean of what may have been; towards its end x counts.

    All images are folded by ``unshuffle``, so that for x4 super-resolution the network runs at the size of the picture
    before it was enlarged. Without normalisation and attention it is local: any size runs, and tiles do not differ from the
    whole picture beyond the receptive field. A new network answers lq itself, the plain enlargement.

    ``network(x, t, lq)``: x (B, in_channels, H, W) is the scaled state, t (B,) the step, lq the degraded image, enlarged to
    the size of x, as :meth:`~restore.resshift.chain.ResShift.condition` gives it where there is no first stage. Returns the
    shape of x. ``context`` is :meth:`context` of lq, computed where it is not given.

    Parameters
    ----------
    channels: features of each level of ``restore``, the first at 1 / unshuffle of the size, each next at half of it.
    blocks: its residual blocks of each level, on the way down and again on the way up; once in the last level.
    refine: residual blocks of ``refine``, which has one level of ``channels[0]`` features.
    embedding: width of the time embedding.
    unshuffle: side of the pixel blocks folded into channels; the factor of the enlargement suits.
    in_channels: channels of the image.
    """

    def __init__(
        self,
        channels: Sequence[int] = (96, 128, 192),
        blocks: Sequence[int] = (4, 2, 4),
        *,
        refine: int = 4,
        embedding: int = 128,
        unshuffle: int = 4,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.restore = ResidualUNet(in_channels, channels, blocks, embedding, unshuffle)
        self.refine = ResidualUNet(2 * in_channels, channels[:1], (refine,), embedding, unshuffle)

    def context(self, lq: Tensor) -> Tensor:
        """m, which no step changes: a chain computes it once."""
        return lq + self.restore(lq, lq.new_zeros(len(lq)))

    def forward(self, x: Tensor, t: Tensor, lq: Tensor, context: Tensor | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.shape != lq.shape:
            wanted = f"(B, {self.in_channels}, H, W)"
            raise ValueError(f"x and lq must both have shape {wanted}, got {tuple(x.shape)} and {tuple(lq.shape)}")
        m = self.context(lq) if context is None else context
        return m + self.refine(torch.cat([x - m, m], 1), t)[:, : self.in_channels]
