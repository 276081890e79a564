"""The way back along the shifted chain, in latents or pixels, and the whole restorer of one picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prior.randomness import MemberNoise
from prior.schedules import ShiftedChain
from restore.resshift.prediction import Condition, ShiftedDenoiser, dtype_of

__all__ = ["FirstStage", "ResShift", "ShiftedSampler"]


@dataclass(frozen=True, kw_only=True)
class ShiftedSampler:
    r"""From the degraded image back to the clean one, a network evaluation a step (Yue et al. 2023).

    From t to t-1, with ``s^2 = ddim_eta^2 kappa^2 a_t eta_{t-1} / eta_t`` and
    ``k = sqrt(kappa^2 eta_{t-1} - s^2) / (kappa sqrt(eta_t))``,

        x_{t-1} = k x_t + (1 - eta_{t-1} - k (1 - eta_t)) x0 + (eta_{t-1} - k eta_t) y + s z,

    which is ``x0 + eta_{t-1} (y - x0) + sqrt(kappa^2 eta_{t-1} - s^2) eps + s z`` with the noise eps that x0 leaves. At
    ``ddim_eta = 1`` this is the posterior ``q(x_{t-1} | x_t, x_0)``: y falls out. The last step is x0 itself.

    x0 is the mean of what may have been, and not one of it: in few steps its lack of detail remains. The law of x_{t-1}
    given x_t has the variance ``s^2 + b^2 error^2`` (Bao et al. 2022, Analytic-DPM, theorem 1), b being what x0 is
    multiplied with and ``error`` how far x0 is off.

    Attributes
    ----------
    ddim_eta: share of the posterior's noise that is drawn: 1 is the chain as published, 0 a deterministic walk.
    clip: whether each x0 is clamped to [-1, 1]; :class:`ResShift` never clamps latents.
    error: root mean square error of x0, in units of x; 0 is the chain as published.
    """

    ddim_eta: float = 1.0
    clip: bool = False
    error: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.ddim_eta <= 1:
            raise ValueError(f"ddim_eta must lie in [0, 1], from deterministic to the chain itself, got {self.ddim_eta}")
        if not 0 <= self.error < math.inf:
            raise ValueError(f"error must be at least 0 and finite, got {self.error}")

    def coefficients(self, schedule: ShiftedChain) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a step multiplies x_t, x0, y and z with, each float64 (T,)."""
        eta, eta_prev = schedule.eta, schedule.eta_prev
        variance = self.ddim_eta**2 * schedule.posterior_variance
        k = (schedule.kappa**2 * eta_prev - variance).clamp(min=0).sqrt() / schedule.std
        on_x0 = 1 - eta_prev - k * (1 - eta)
        spread = (self.error * on_x0).square() * (eta_prev > 0)  # none at t = 0, which ends at x0
        return k, on_x0, eta_prev - k * eta, (variance + spread).sqrt()

    def step(self, model: ShiftedDenoiser, x: Tensor, t: int | Tensor, condition: Condition, z: Tensor) -> Tensor:
        """From ``x`` (B, ...) at time ``t``, a number or (B,), to t - 1; ``z`` is standard noise, unused at t = 0."""
        x0 = model(x, t, condition)
        if self.clip:
            x0 = x0.clamp(-1, 1)
        on_x, on_x0, on_y, on_z = (model.schedule.at(table, t, x) for table in self.coefficients(model.schedule))
        return on_x * x + on_x0 * x0 + on_y * condition.y + on_z * z

    def sample(self, model: ShiftedDenoiser, condition: Condition, *, seed: int = 0) -> Tensor:
        """What ``condition.y`` (B, C, H, W) came from; the same seed gives the same result, member i has ``seed + i``."""
        return self.walk(model, condition, MemberNoise(seed, len(condition.y)))

    @torch.no_grad()
    def walk(self, model: ShiftedDenoiser, condition: Condition, noise: Callable[[Tensor], Tensor]) -> Tensor:
        """From ``condition.y`` (B, C, H, W) to x_0; ``noise(x)`` is drawn for the start and then for each of the T steps.

        The draw of the last step, t = 0, changes nothing; it is made so that a stored or seeded stream of T + 1 draws is
        read as the official sampler reads it.
        """
        condition = model.prepared(condition)
        x = model.schedule.start(condition.y, noise(condition.y))
        for t in reversed(range(model.schedule.T)):
            x = self.step(model, x, t, condition, noise(x))
        return x


class FirstStage(Protocol):
    """Between images (B, C, f H, f W) in [-1, 1] and latents (B, c, H, W)."""

    def encode(self, x: Tensor, /) -> Tensor:
        """The latents of an image, not quantised."""

    def decode(self, z: Tensor, /) -> Tensor:
        """The image of latents, quantised first where the autoencoder does."""


class ResShift(nn.Module):
    """A denoiser with its first stage: degraded images in, restored images out, both in [-1, 1].

    Parameters
    ----------
    model: the denoiser of latents, or of images where there is no first stage.
    first_stage: an autoencoder with ``encode`` and ``decode``; None runs the chain on the images themselves.
    factor: how much larger the restored image is.
    scale: what latents are multiplied by; 1 for every released model.
    multiple: what the sides of the degraded image must be multiples of: the released networks take 64 for x4, 256 for
        inpainting and deblurring, 512 for faces.
    sampler: how the chain runs unless :meth:`forward` is told otherwise.
    """

    def __init__(
        self,
        model: ShiftedDenoiser,
        first_stage: FirstStage | None = None,
        *,
        factor: int = 1,
        scale: float = 1.0,
        multiple: int = 64,
        sampler: ShiftedSampler = ShiftedSampler(clip=True),
    ) -> None:
        super().__init__()
        for name, value in (("factor", factor), ("multiple", multiple)):
            if value < 1 or value != int(value):
                raise ValueError(f"{name} must be a whole number from 1 on, got {value}")
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.model, self.first_stage = model, first_stage
        self.factor, self.scale, self.multiple, self.sampler = int(factor), scale, int(multiple), sampler

    def encode(self, image: Tensor) -> Tensor:
        """Where the chain runs: the latents of ``image`` (B, C, H, W), or the image itself."""
        if self.first_stage is None:
            return image
        return self.scale * self.first_stage.encode(image.to(dtype_of(self.first_stage, image))).to(image.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """The image of ``z``, not clamped; differentiable where the first stage is."""
        if self.first_stage is None:
            return z
        return self.first_stage.decode((z / self.scale).to(dtype_of(self.first_stage, z))).to(z.dtype)

    def condition(self, lq: Tensor, mask: Tensor | None = None) -> Condition:
        """Of degraded images ``lq`` (B, C, H, W) in [-1, 1] and ``mask`` (B, 1, H, W), 1 unknown, -1 known.

        y is the bicubically enlarged image (a = -0.75, nothing clamped), encoded. The network sees lq at its own size; in
        pixel space, where it must have the size of the chain, the enlarged one.
        """
        if mask is not None and (len(mask) != len(lq) or mask.shape[1:] != (1, *lq.shape[2:])):
            wanted = (len(lq), 1, *lq.shape[2:])
            raise ValueError(f"mask must have shape {wanted}, one channel of the size of lq, got {tuple(mask.shape)}")
        if self.factor == 1:
            return Condition(self.encode(lq), lq, mask)
        if mask is not None:
            raise ValueError(f"mask must be None where images are enlarged, by {self.factor}: fill the holes at factor 1 first")
        large = F.interpolate(lq, scale_factor=self.factor, mode="bicubic")
        return Condition(self.encode(large), large if self.first_stage is None else lq)

    @torch.no_grad()
    def forward(
        self,
        lq: Tensor,
        mask: Tensor | None = None,
        *,
        noise: Callable[[Tensor], Tensor],
        sampler: ShiftedSampler | None = None,
    ) -> Tensor:
        """The restored images (B, C, factor H, factor W), clamped to [-1, 1].

        ``lq`` and ``mask`` as in :meth:`condition`, with sides that are multiples of ``multiple``; ``noise`` as in
        :meth:`ShiftedSampler.walk`. Without a ``sampler`` the model's own runs the chain.
        """
        if lq.shape[-2] % self.multiple or lq.shape[-1] % self.multiple:
            size = tuple(lq.shape[-2:])
            raise ValueError(f"lq must have sides that are multiples of {self.multiple}, got {size}; restore_picture pads it")
        sampler = self.sampler if sampler is None else sampler
        sampler = replace(sampler, clip=sampler.clip and self.first_stage is None)
        return self.decode(sampler.walk(self.model, self.condition(lq, mask), noise)).clamp(-1, 1)
