"""Networks of MONAI: ``DiffusionModelUNet`` with one of MONAI's schedulers, in two or three dimensions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from prior.adapters.tables import head_of, schedule_of
from prior.denoiser import Denoiser

__all__ = ["from_monai"]


class _WithContext(nn.Module):
    def __init__(self, unet: nn.Module, context: Tensor | None, class_labels: Tensor | None) -> None:
        super().__init__()
        self.unet, self.context, self.class_labels = unet, context, class_labels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, timesteps=t, context=self.context, class_labels=self.class_labels)


def from_monai(
    unet: nn.Module,
    scheduler: Any,
    *,
    context: Tensor | None = None,
    class_labels: Tensor | None = None,
    data_range: tuple[float, float] = (0.0, 1.0),
) -> Denoiser:
    """A ``DiffusionModelUNet`` as a prior of images (B, C, H, W) or volumes (B, C, D, H, W).

    Parameters
    ----------
    scheduler: MONAI's ``DDPMScheduler``, ``DDIMScheduler`` or ``PNDMScheduler`` that it was trained with; only ``betas``
        and ``prediction_type`` are read.
    context: conditioning (B, tokens, features); ``class_labels`` (B,).
    data_range: what black and white were in training; MONAI's recipes scale to [0, 1].
    """
    for name in ("betas", "prediction_type"):
        if not hasattr(scheduler, name):
            raise TypeError(f"scheduler must be one of MONAI's, with {name}, got {type(scheduler).__name__}")
    prediction = getattr(scheduler.prediction_type, "value", scheduler.prediction_type)
    network = _WithContext(unet, context, class_labels)
    return Denoiser(network, schedule_of(scheduler.betas), head_of(str(prediction)), data_range=data_range)
