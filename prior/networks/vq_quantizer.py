"""A codebook: the nearest of a list of vectors, at every pixel (van den Oord et al. 2017, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["VectorQuantizer"]

DISTANCES = 2**26  # of pixels to codes, at once


class VectorQuantizer(nn.Module):
    """``(z_q, indices)`` of h (B, c, H, W): ``z_q = e_i`` with ``i = argmin_j |h - e_j|^2`` at every pixel.

    indices (B, H, W) are int64 in 0..n-1, the lowest where several codes are equally near. The gradient of z_q goes to h
    as if nothing were quantised (straight through), and none to the codes. Distances are float32, or float64 for h of it,
    and taken in pieces of pixels.

    Parameters
    ----------
    n_embed, embed_dim: n codes of c numbers each; new ones are uniform in (-1 / n, 1 / n).
    """

    def __init__(self, n_embed: int, embed_dim: int) -> None:
        super().__init__()
        codes = torch.empty(n_embed, embed_dim).uniform_(-1 / n_embed, 1 / n_embed)
        self.embedding = nn.Embedding.from_pretrained(codes, freeze=False)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        indices = self.nearest(h)
        z_q = self.codes(indices).detach().to(h.dtype)
        return z_q + (h - h.detach()) if h.requires_grad else z_q, indices

    @torch.no_grad()
    def nearest(self, h: Tensor) -> Tensor:
        """The numbers (B, H, W) of the codes nearest to h (B, c, H, W)."""
        wide = torch.promote_types(h.dtype, torch.float32)
        codes = self.embedding.weight.to(wide)
        squares = codes.square().sum(dim=1)  # |h|^2 is the same for all codes
        pixels = h.permute(0, 2, 3, 1).reshape(-1, h.shape[1]).to(wide)
        with torch.autocast(h.device.type, enabled=False):
            found = [(squares - 2 * piece @ codes.mT).argmin(dim=1) for piece in pixels.split(max(1, DISTANCES // len(codes)))]
        return torch.cat(found).view(h.shape[0], *h.shape[2:])

    def codes(self, indices: Tensor) -> Tensor:
        """The codes (B, c, H, W) of the numbers ``indices`` (B, H, W)."""
        return self.embedding(indices).permute(0, 3, 1, 2)
