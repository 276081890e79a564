"""Priors that live in a latent space: a denoiser of codes, and the autoencoder between codes and images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from prior.denoiser import Denoiser

__all__ = ["Autoencoder", "LatentPrior"]


class Autoencoder(nn.Module):
    """Between images (B, C, H, W) in [0, 1] and latents (B, c, H / factor, W / factor); both ways differentiable."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def encode(self, image: Tensor) -> Tensor:
        """The latents of an image, without any random part."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(image)")

    def decode(self, z: Tensor) -> Tensor:
        """The image of the latents."""
        raise NotImplementedError(f"{type(self).__name__} must define decode(z)")


@dataclass(frozen=True, eq=False)
class LatentPrior:
    """A prior of images through their latents; ``inverse.latent`` reconstructs with it.

    Attributes
    ----------
    model: the denoiser of latents, with ``data_range`` (0, 1): nothing is converted. Latents have no bounds: sample with
        ``clip=False`` where a sampler has it.
    autoencoder: between latents and images in [0, 1].
    """

    model: Denoiser
    autoencoder: Autoencoder
