"""Posterior sampling with a latent prior: the measurement of a decoded image is a nonlinear measurement of its code."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor

from inverse.operators.base import Operator, Shape
from inverse.reconstruction import Reconstruction
from inverse.samplers.loop import Progress
from prior.denoiser import Denoiser
from prior.latent import Autoencoder, LatentPrior

__all__ = ["Decoded", "reconstruct"]


class Decoded(Operator):
    """``z -> A(decode(z))``: what ``A`` measures of the image that the latents z (B, c, h, w) stand for."""

    rank = 3

    def __init__(self, A: Operator, autoencoder: Autoencoder) -> None:
        super().__init__(None, A.noise)
        self.A, self.autoencoder = A, autoencoder

    def _apply_operator(self, z: Tensor) -> Tensor:
        return self.A(self.autoencoder.decode(z))

    def output_shape(self, shape: Shape) -> Shape:
        raise TypeError("the measurement's shape is that of the decoded image; ask the operator itself")

    def pinv(self, y: Tensor) -> Tensor:
        """The code of what ``A.pinv`` makes of y: a start, not an inverse."""
        return self.autoencoder.encode(self.A.pinv(y).clamp(0, 1))


class _Sampler(Protocol):
    def reconstruct(
        self, model: Denoiser, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None
    ) -> Reconstruction: ...


@torch.no_grad()
def reconstruct(
    sampler: _Sampler, prior: LatentPrior, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None
) -> Reconstruction:
    """As ``sampler.reconstruct``, for any sampler that takes nonlinear operators (DPS, DAPS, ``RedDiff.paper()``).

    The estimate is the decoded mean of the codes, the samples are decoded one by one; both are images in [0, 1]. What the
    autoencoder cannot express cannot be reconstructed, however exact the measurement.
    """
    codes = sampler.reconstruct(prior.model, Decoded(A, prior.autoencoder), y, seed=seed, progress=progress)
    decode = prior.autoencoder.decode
    estimate = decode(codes.estimate)
    samples = (
        torch.stack([decode(z) for z in codes.samples]) if len(codes.samples) else estimate.new_empty((0, *estimate.shape))
    )
    return dataclasses.replace(codes, estimate=estimate, samples=samples, operator=A)
