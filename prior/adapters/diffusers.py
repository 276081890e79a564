"""Models of diffusers: a U-Net with its scheduler, or a pipeline that holds both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prior.adapters.tables import head_of, schedule_of
from prior.denoiser import Denoiser, EDMHead, Head, ScoreHead, VelocityHead
from prior.latent import Autoencoder, LatentPrior
from prior.schedules import EDM, VE, RectifiedFlow, Schedule

__all__ = ["from_diffusers", "from_latent_diffusion"]


class _UNet(nn.Module):
    """``unet(x, t, ...).sample``, with its conditioning filled in; guidance without a classifier costs a doubled batch."""

    def __init__(self, unet: nn.Module, prompt: Tensor | None, negative: Tensor | None, guidance: float) -> None:
        super().__init__()
        self.unet, self.prompt, self.negative, self.guidance = unet, prompt, negative, guidance

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.prompt is None:
            return self.unet(x, t).sample
        prompt = self.prompt.to(x).expand(len(x), -1, -1)
        if self.negative is None or self.guidance == 1:
            return self.unet(x, t, encoder_hidden_states=prompt).sample
        both = torch.cat([self.negative.to(x).expand(len(x), -1, -1), prompt])
        without, with_ = self.unet(torch.cat([x, x]), torch.cat([t, t]), encoder_hidden_states=both).sample.chunk(2)
        return without + self.guidance * (with_ - without)


def from_diffusers(
    model: Any,
    scheduler: Any = None,
    *,
    prompt: Tensor | None = None,
    negative: Tensor | None = None,
    guidance: float = 1.0,
    data_range: tuple[float, float] = (-1.0, 1.0),
) -> Denoiser:
    """A pixel-space model of diffusers as a prior.

    Parameters
    ----------
    model: a pipeline (anything with ``unet`` and ``scheduler``), or a U-Net, then with its ``scheduler``.
    scheduler: DDPM, DDIM, DPM-Solver and the like (``betas``, ``prediction_type``), ``ScoreSdeVeScheduler``,
        ``EDMEulerScheduler`` or ``FlowMatchEulerDiscreteScheduler``; only its noise schedule is used.
    prompt, negative: text embeddings (1, tokens, features) of a conditional U-Net and of its empty prompt.
    guidance: classifier-free: 1 is the conditional model itself (Ho & Salimans 2022); else both embeddings are needed.
    """
    if guidance != 1 and (prompt is None or negative is None):
        raise ValueError(f"guidance = {guidance} needs both prompt and negative, the embeddings that it extrapolates between")
    unet = getattr(model, "unet", model)
    scheduler = scheduler or getattr(model, "scheduler", None)
    if scheduler is None:
        raise ValueError("scheduler must be given with a bare U-Net: it knows how the training images were noised")
    if getattr(model, "vae", None) is not None or getattr(model, "vqvae", None) is not None:
        raise TypeError(f"{type(model).__name__} works on latents; load it with from_latent_diffusion")
    schedule, head = _schedule_and_head(scheduler)
    network = _UNet(unet, prompt, negative, guidance)
    channels = unet.config.in_channels, unet.config.out_channels
    return Denoiser(network, schedule, head, learned_variance=channels[1] == 2 * channels[0], data_range=data_range)


def from_latent_diffusion(
    pipeline: Any, *, prompt: Tensor | None = None, negative: Tensor | None = None, guidance: float = 1.0
) -> LatentPrior:
    """A latent diffusion pipeline (``unet``, ``scheduler``, and ``vae`` or ``vqvae``) as a prior of images in [0, 1]."""
    codec = getattr(pipeline, "vae", None) or getattr(pipeline, "vqvae", None)
    if codec is None:
        raise TypeError(f"{type(pipeline).__name__} has no vae or vqvae; a pixel-space pipeline loads with from_diffusers")
    model = from_diffusers(
        pipeline.unet, pipeline.scheduler, prompt=prompt, negative=negative, guidance=guidance, data_range=(0.0, 1.0)
    )
    return LatentPrior(model, _Codec(codec))


class _Codec(Autoencoder):
    """``AutoencoderKL``, ``VQModel`` and their kin: latents are ``scaling_factor (z - shift_factor)``."""

    def __init__(self, codec: Any) -> None:
        config = codec.config
        super().__init__(factor=2 ** (len(config.block_out_channels) - 1))
        self.codec = codec
        self.scale = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)

    def encode(self, image: Tensor) -> Tensor:
        encoded = self.codec.encode(2 * image - 1)  # type: ignore[operator]
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return self.scale * (z - self.shift)

    def decode(self, z: Tensor) -> Tensor:
        return (self.codec.decode(z / self.scale + self.shift).sample + 1) / 2  # type: ignore[operator]


def _schedule_and_head(scheduler: Any) -> tuple[Schedule, Head]:
    config = scheduler.config
    if getattr(config, "use_flow_sigmas", False) or "FlowMatch" in type(scheduler).__name__:
        return RectifiedFlow(time_scale=float(config.num_train_timesteps)), VelocityHead()
    if hasattr(config, "sigma_data"):
        if config.prediction_type != "epsilon":
            raise ValueError(f"prediction_type of an EDM scheduler must be 'epsilon', got {config.prediction_type!r}")
        return EDM(sigma_min=config.sigma_min, sigma_max=config.sigma_max), EDMHead(config.sigma_data)
    if hasattr(scheduler, "betas"):
        return schedule_of(scheduler.betas), head_of(config.prediction_type)
    if "ScoreSdeVe" in type(scheduler).__name__:
        return VE(sigma_min=config.sigma_min, sigma_max=config.sigma_max, reads_sigma=True), ScoreHead()
    raise TypeError(f"scheduler must have betas, flow or EDM sigmas, or be ScoreSdeVe, got {type(scheduler).__name__}")
