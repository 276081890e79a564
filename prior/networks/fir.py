r"""Resampling by two, with a low-pass filter or without (Karras et al. 2019; Zhang 2019).

With K taps f, normalised to sum 1, the filter is their outer product, ``k = f f^T``, applied as a true convolution:

    up(x)   = 4 k * (x with zeros between its pixels)
    down(x) = every second pixel of k * x

A constant image stays constant under both, away from the borders, beyond which the image is zero. For a symmetric filter
of even length the two are adjoint: ``<down(x), y> = <x, up(y)> / 4``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FIR", "FIRDownConv", "FIRUpConv", "Nearest"]


class FIR(nn.Module):
    """Resampling by two with the separable filter of the given taps; x (B, C, H, W) becomes (B, C, 2H, 2W) or half.

    Parameters
    ----------
    taps: at least two, with a sum that is not zero.
    """

    kernel: Tensor

    def __init__(self, taps: Sequence[float] = (1, 3, 3, 1)) -> None:
        super().__init__()
        total = sum(taps)
        if len(taps) < 2 or total == 0:
            raise ValueError(f"taps must be at least two numbers with a sum that is not zero, got {tuple(taps)}")
        f = [tap / total for tap in taps]
        self.register_buffer("kernel", torch.tensor([[a * b for b in f] for a in f], dtype=torch.float32), persistent=False)

    @property
    def size(self) -> int:
        """K, the number of taps."""
        return self.kernel.shape[0]

    def upsample(self, x: Tensor) -> Tensor:
        """``up(x)``."""
        filtered = F.conv_transpose2d(x, self._depthwise(x, 4 * self.kernel), stride=2, groups=x.shape[1])
        start = self.size - 2 - (self.size - 1) // 2
        return filtered[..., start : start + 2 * x.shape[-2], start : start + 2 * x.shape[-1]]

    def downsample(self, x: Tensor) -> Tensor:
        """``down(x)``; H and W must be even."""
        return self.smooth(x, self.size - 2, stride=2)

    def smooth(self, x: Tensor, extra: int, *, stride: int = 1, shift: int = 0, gain: float = 1.0) -> Tensor:
        """``gain k * x`` with ``extra`` zeros around x on either axis, split evenly, and ``shift`` more at each end."""
        before, after = (extra + 1) // 2 + shift, extra // 2 + shift
        if before > after:  # by one, with an odd number of taps
            x = F.pad(x, (1, 0, 1, 0))
        flipped = gain * self.kernel.flip(0, 1)  # conv2d correlates
        return F.conv2d(x, self._depthwise(x, flipped), stride=stride, padding=after, groups=x.shape[1])

    def _depthwise(self, x: Tensor, kernel: Tensor) -> Tensor:
        return kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)

    def extra_repr(self) -> str:
        return f"{self.size} taps"


class Nearest(nn.Module):
    """Resampling by two without a filter: pixels are repeated on the way up, 2x2 of them averaged on the way down."""

    def upsample(self, x: Tensor) -> Tensor:
        """Every pixel as 2x2."""
        return F.interpolate(x, scale_factor=2, mode="nearest")

    def downsample(self, x: Tensor) -> Tensor:
        """The means of 2x2 pixels."""
        return F.avg_pool2d(x, 2)


class FIRDownConv(nn.Conv2d):
    """Filter at full resolution, then a strided 3x3 convolution: (B, channels, H, W) to (B, out_channels, H / 2, W / 2)."""

    def __init__(self, channels: int, out_channels: int, taps: Sequence[float]) -> None:
        super().__init__(channels, out_channels, 3, stride=2)
        self.fir = FIR(taps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.fir.smooth(x, self.fir.size))  # K - 2 of the filter and 2 of the convolution


class FIRUpConv(nn.Conv2d):
    """A 3x3 convolution of x with zeros between its pixels, then the filter.

    (B, channels, H, W) becomes (B, out_channels, 2H, 2W), as by ``up`` and a convolution, but at the borders.
    """

    def __init__(self, channels: int, out_channels: int, taps: Sequence[float]) -> None:
        super().__init__(channels, out_channels, 3)
        self.fir = FIR(taps)

    def forward(self, x: Tensor) -> Tensor:
        transposed = self.weight.flip(2, 3).transpose(0, 1)  # conv_transpose2d is the adjoint of a correlation
        h = F.conv_transpose2d(x, transposed, stride=2)
        h = self.fir.smooth(h, self.fir.size - 4, shift=1, gain=4.0)
        return h if self.bias is None else h + self.bias[:, None, None]
