"""Latent priors: an autoencoder that is exactly invertible, so that the latent posterior is that of the images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inverse import RedDiff
from inverse.latent import Decoded, reconstruct
from inverse.operators import Gaussian, Identity, Inpaint
from prior.latent import Autoencoder, LatentPrior
from tests.inverse.gaussian import GaussianPrior


class Shuffle(Autoencoder):
    """Pixels 2 x 2 to channels: invertible, and an isometry."""

    def __init__(self) -> None:
        super().__init__(factor=2)

    def encode(self, image: Tensor) -> Tensor:
        return torch.nn.functional.pixel_unshuffle(image, 2)

    def decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.pixel_shuffle(z, 2)


PRIOR = GaussianPrior()


def latent_prior() -> LatentPrior:
    model = PRIOR.denoiser()
    return LatentPrior(model, Shuffle())


def test_decoded_operator_and_its_gradient():
    A = Decoded(Identity(noise=Gaussian(0.1)), Shuffle())
    z = torch.rand(1, 4, 3, 3, requires_grad=True)
    y = A(z)
    assert y.shape == (1, 1, 6, 6)
    assert A.noise == Gaussian(0.1)
    torch.testing.assert_close(A.pinv(y), z)
    y.square().sum().backward()
    torch.testing.assert_close(z.grad, 2 * z)
    with pytest.raises(TypeError, match="is that of the decoded image"):
        A.output_shape((4, 3, 3))


def test_reconstruction_through_the_latents_equals_the_one_in_pixels():
    image = PRIOR.image((1, 6, 6)).clamp(0, 1)
    mask = (torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(3)) > 0.3).float()
    A = Inpaint(mask, noise=Gaussian(0.05))
    y = A.measure(image, seed=1)
    sampler = RedDiff.paper(steps=200, lr=0.05)
    seen = []
    out = reconstruct(sampler, latent_prior(), A, y, seed=0, progress=lambda *done: seen.append(done))
    assert seen == [(k, 200) for k in range(1, 201)]
    assert out.operator is A
    assert out.estimate.shape == image.shape
    assert out.samples.shape == (0, 1, 1, 6, 6)
    assert float((out.residual * mask).abs().mean()) < 0.05  # the data are fitted in the image, where they were taken
    hidden = out.estimate[:, mask == 0]
    assert float((hidden - PRIOR.mean).abs().mean()) < float((A.pinv(y)[:, mask == 0] - PRIOR.mean).abs().mean()) / 2
