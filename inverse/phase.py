"""Phase retrieval before learned priors: hybrid input-output, the baseline and a start for samplers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.ambiguity import align
from inverse.operators.nonlinear import PhaseRetrieval
from inverse.operators.precision import full_precision
from prior.randomness import NoiseSource

__all__ = ["HybridInputOutput"]


@dataclass(frozen=True, kw_only=True)
class HybridInputOutput:
    """Fienup 1982, eq. 44: keep what has the measured magnitude and a legal value, and push the rest towards zero.

    In each step ``g'`` is the image g with the magnitude of its Fourier transform replaced by the measured one. Where
    g' is not negative and not in the border, ``g <- g'``; elsewhere ``g <- g - beta g'`` (hybrid input-output), or
    ``g <- 0`` in the last steps (error reduction, which never increases the residual). The problem is not convex: of several
    random starts the one with the least residual is kept, for every image and channel on its own.

    Attributes
    ----------
    steps: of hybrid input-output, from each start; polish: of error reduction after them.
    restarts: random starts.
    beta: the feedback, 0.5 to 1.
    seed: of the starts.
    alike: turn and shift the channels after the first to match it, as the channels of a photograph do; each was found on
        its own, and may be the twin or a shifted copy of what the others show.
    """

    steps: int = 1000
    polish: int = 100
    restarts: int = 4
    beta: float = 0.9
    seed: int = 0
    alike: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("polish", 0), ("restarts", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be positive and finite, got {self.beta}")

    @full_precision
    def solve(self, A: PhaseRetrieval, y: Tensor) -> Tensor:
        """An image (B, C, H, W), not negative, whose measurement by ``A`` is near ``y`` (B, C, H', W').

        The same seed gives the same bytes, and a batch equals its members.
        """
        if not isinstance(A, PhaseRetrieval):
            raise TypeError(f"hybrid input-output retrieves phases; it needs a PhaseRetrieval, got {A!r}")
        if y.ndim != 4 or any(n <= 2 * p for n, p in zip(y.shape[-2:], A.padding, strict=True)):
            raise ValueError(f"{A!r}: y must have shape (B, C, H, W) and be larger than the border, got {tuple(y.shape)}")
        if A.codomain is not None and tuple(y.shape[1:]) != A.codomain:
            raise ValueError(f"{A!r}: y must have shape (B, {', '.join(map(str, A.codomain))}), got {tuple(y.shape)}")
        magnitude = torch.fft.ifftshift(y, dim=(-2, -1)).clamp(min=0)
        opposite = magnitude.flip(-2, -1).roll((1, 1), (-2, -1))
        magnitude = (magnitude + opposite) / 2  # equal for a real image, so that half of the noise goes
        inside = A.padded(torch.ones_like(A.cropped(y))).bool()
        noise = NoiseSource(self.seed)
        best, least = A.cropped(y), torch.full(y.shape[:2], math.inf, dtype=y.dtype, device=y.device)
        with torch.no_grad():
            for _ in range(self.restarts):
                x = A.cropped(self.run(magnitude, inside, noise(y).abs()))
                residual = (A(x) - y).square().sum((-2, -1))
                best = torch.where((residual < least)[..., None, None], x, best)
                least = torch.minimum(residual, least)
        if self.alike and best.shape[1] > 1:
            best = align(best, best[:, :1].expand_as(best), padding=A.padding)
        return best

    def run(self, magnitude: Tensor, inside: Tensor, g: Tensor) -> Tensor:
        """From the start ``g`` to an image of the frame (B, C, H', W'); ``magnitude`` of the plain transform."""
        for step in range(self.steps + self.polish):
            G = torch.fft.rfft2(g, norm="ortho")
            G = magnitude[..., : G.shape[-1]] * torch.sgn(G)
            projected = torch.fft.irfft2(G, s=g.shape[-2:], norm="ortho")
            legal = inside & (projected >= 0)
            g = torch.where(legal, projected, g - self.beta * projected if step < self.steps else 0)
        return torch.where(inside, g, 0).clamp(min=0)
