"""What a network of the shifted chain is trained for: its squared error, and how the decoded estimate looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.resshift.prediction import PREDICTIONS, Condition, Shares, ShiftedDenoiser

__all__ = ["LossTerms", "Perceptual", "ShiftedLoss"]


@dataclass(frozen=True, eq=False)
class LossTerms:
    """The parts of a loss, one value a batch member: ``total`` and ``mse`` (B,), ``perceptual`` (B,) or None; and x0.

    The parts are without their coefficients. ``perceptual`` is None where it was not asked for, or not finite.
    """

    total: Tensor
    mse: Tensor
    perceptual: Tensor | None
    x0: Tensor


@dataclass(frozen=True, eq=False)
class Perceptual:
    """``distance(clamp(decode(x0), -1, 1), image)``, one value a batch member (Yue et al. 2024).

    Attributes
    ----------
    distance: of two batches of images (B, C, H, W) in [-1, 1]; (B, ...) of one number a member, as LPIPS returns it.
    decode: from what the chain runs on to images; its weights are frozen by the caller, and gradients pass through it, and
        through a quantiser straight. None where the chain runs on images.
    """

    distance: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor] | None = None

    def __call__(self, x0: Tensor, image: Tensor) -> Tensor:
        """(B,), of the predicted ``x0`` (B, ...) and the clean ``image`` (B, C, H, W)."""
        decoded = x0 if self.decode is None else self.decode(x0)
        if decoded.shape != image.shape:
            raise ValueError(f"image must have the shape of the decoded x0, {tuple(decoded.shape)}, got {tuple(image.shape)}")
        distance = self.distance(decoded.clamp(-1, 1), image)
        if distance.numel() != len(image):
            raise ValueError(f"distance must give one value a member, {len(image)}, got shape {tuple(distance.shape)}")
        return distance.reshape(len(image))


@dataclass(frozen=True, eq=False, kw_only=True)
class ShiftedLoss:
    """``mse_weight mean((out - target)^2 / unit^2) [w_t] + perceptual_weight perceptual``, one value a batch member.

    The first release trains with the error alone; the later models with 1 + 1 (super-resolution), 1 + 10 (inpainting,
    faces) and 1 + 4 (deblurring).

    Attributes
    ----------
    weighted: whether errors are weighted as in the variational bound, :meth:`Prediction.weights`; the released models are not.
    root: whether a member's root mean square counts in place of its mean square, so that images that are badly damaged do
        not drown those that hardly are.
    perceptual: compared images, where wanted.
    mse_weight, perceptual_weight: the coefficients.
    """

    weighted: bool = False
    root: bool = False
    perceptual: Perceptual | None = None
    mse_weight: float = 1.0
    perceptual_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mse_weight", "perceptual_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def __call__(
        self, model: ShiftedDenoiser, x0: Tensor, *, eps: Tensor, t: Tensor, condition: Condition, image: Tensor | None = None
    ) -> Tensor:
        """The total of :meth:`terms`, (B,)."""
        return self.terms(model, x0, eps=eps, t=t, condition=condition, image=image).total

    def terms(
        self, model: ShiftedDenoiser, x0: Tensor, *, eps: Tensor, t: Tensor, condition: Condition, image: Tensor | None = None
    ) -> LossTerms:
        """Of the clean ``x0`` (B, ...), noised by ``eps`` to the whole times ``t`` (B,); the network is evaluated once.

        ``image`` (B, C, H, W) in [-1, 1] is what the decoded estimate is compared with, needed with ``perceptual`` alone. A
        batch in which any perceptual value is not finite has the loss of the error alone.
        """
        schedule, prediction = model.schedule, PREDICTIONS[model.prediction]
        if self.perceptual is not None and image is None:
            raise ValueError("image must be given: the perceptual part compares the decoded estimate with it")
        x = schedule.noised(x0, condition.y, eps, t)
        out = model.output(x, t, condition)
        shares = Shares.at(schedule, t, x0)
        precise = torch.promote_types(x0.dtype, torch.float32)
        error = (out.to(precise) - prediction.target(x0, condition.y, eps, shares)) / prediction.unit(shares)
        mse = error.square().flatten(1).mean(1)
        if self.weighted:
            mse = mse * prediction.weights(schedule).to(mse)[t.to(mse.device)]
        estimate = model.x0(out, x, t, condition)
        total, seen = self.mse_weight * (mse.clamp(min=1e-12).sqrt() if self.root else mse), None
        if self.perceptual is not None and image is not None:
            seen = self.perceptual(estimate, image)
            if bool(torch.isfinite(seen).all()):
                total = total + self.perceptual_weight * seen
            else:
                seen = None
        return LossTerms(total, mse, seen, estimate)
