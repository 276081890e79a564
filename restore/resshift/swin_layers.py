"""Attention in shifted windows, with the mask of the released ResShift models or that of the textbook.

Names of parameters and buffers are the official ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["WindowAttention", "relative_position_index", "seam", "shift_mask"]

MASKED = -100.0
CPU = torch.device("cpu")
ALL, BUT_LAST, LAST = slice(None), slice(None, -1), slice(-1, None)

# rows and columns of windows, and the axes whose seams split each of these windows; 0 counts rows, 1 columns
REGIONS: dict[str, tuple[tuple[slice, slice, tuple[int, ...]], ...]] = {
    "unshifted": ((ALL, ALL, ()),),
    "official": ((BUT_LAST, ALL, ()), (LAST, ALL, (1,))),
    "textbook": (
        (BUT_LAST, BUT_LAST, ()),
        (BUT_LAST, LAST, (1,)),
        (LAST, BUT_LAST, (0,)),
        (LAST, LAST, (0, 1)),
    ),
}


def relative_position_index(window: int) -> Tensor:
    """``(r_i - r_j + w - 1)(2w - 1) + c_i - c_j + w - 1`` for tokens i and j at rows r and columns c of a window of side w.

    Returns (w^2, w^2) int64 on the CPU, in 0..(2w - 1)^2 - 1; tokens are counted by rows (Liu et al. 2021, section 3.2).
    """
    row, col = _row_and_column(window)
    rows, cols = (v[:, None] - v[None, :] + window - 1 for v in (row, col))
    return rows * (2 * window - 1) + cols


def seam(window: int, shift: int, axes: tuple[int, ...], *, device: torch.device = CPU) -> Tensor:
    """-100 for the pairs of tokens on two sides of the seam, along any of ``axes`` (0 rows, 1 columns), and 0 for others.

    A shift by s brings ``v >= w - s`` of a window of side w from the other end of the image. Returns (w^2, w^2).
    """
    coordinates = _row_and_column(window, device)
    apart = torch.zeros(window**2, window**2, dtype=torch.bool, device=device)
    for axis in axes:
        beyond = coordinates[axis] >= window - shift
        apart = apart | (beyond[:, None] ^ beyond[None, :])
    return torch.where(apart, MASKED, 0.0)


def shift_mask(rows: int, cols: int, window: int, *, shift: int, mask: str) -> Tensor:
    """What is added to the attention of each of ``rows`` x ``cols`` windows: (rows * cols, w^2, w^2), on the CPU.

    Windows are counted by rows.

    - ``textbook``: windows of the last row are split by rows and those of the last column by columns, so that nothing
      attends across the border of the image (Liu et al. 2021, section 3.2).
    - ``official``: windows of the last row are split by columns, and no other window is. The released code takes one
      axis for another, and all released weights are trained with it.
    """
    n = window**2
    full = torch.zeros(rows, cols, n, n, device=CPU)
    for r, c, axes in REGIONS[mask]:
        full[r, c] = seam(window, shift, axes)
    return full.view(-1, n, n)


class WindowAttention(nn.Module):
    """``proj(softmax(q k / sqrt(d) + b + mask) v)`` within each window of x (B, H, W, C); returns the same shape.

    Windows of side w fill x, which has been shifted before; b are the biases of the relative positions. The mask takes at
    most four values over the windows, so that each set of equal windows is evaluated at once and none is stored.

    Parameters
    ----------
    channels, heads: C and the heads it is divided into.
    window: w; H and W must be multiples of it.
    shift: by how much x has been shifted, 0 for not at all.
    mask: ``official`` or ``textbook``, see :func:`shift_mask`.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, *, window: int, shift: int, mask: str) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.regions = REGIONS[mask if shift else "unshifted"]
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # computed on the CPU: the device may be meta
        self.register_buffer("relative_position_index", relative_position_index(window).to(torch.get_default_device()))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        qkv, bias = self.qkv(x), self._bias()
        out = qkv.new_empty(x.shape)
        for r, c, axes in self.regions:
            rows, cols = _pixels(r, self.window), _pixels(c, self.window)
            part = qkv[:, rows, cols]
            if part.numel():
                masked = bias + seam(self.window, self.shift, axes, device=bias.device) if axes else bias
                out[:, rows, cols] = self._attend(part, masked.to(qkv.dtype))
        return self.proj(out)

    def _bias(self) -> Tensor:
        """(heads, w^2, w^2)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1).contiguous()

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attention within windows of qkv (B, h, w, 3C), channels ordered [q | k | v][head][channel]; returns (B, h, w, C)."""
        batch, height, width, channels = qkv.shape
        side, heads = self.window, self.heads
        windows = qkv.reshape(batch, height // side, side, width // side, side, 3, heads, -1)
        q, k, v = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, side**2, channels // 3 // heads)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        out = out.view(batch, height // side, width // side, heads, side, side, -1)
        return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, channels // 3)


def _row_and_column(window: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Row and column of each token of a window."""
    token = torch.arange(window**2, device=device)
    return token // window, token % window


def _pixels(windows: slice, side: int) -> slice:
    """The pixels of a slice of windows."""
    start, stop = windows.start, windows.stop
    return slice(None if start is None else start * side, None if stop is None else stop * side)
