"""Degradations compute in the dtype of their images, also within a training step that runs in mixed precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["without_autocast"]


def without_autocast(x: Tensor) -> torch.autocast:
    """The context in which matrix products and convolutions on the device of ``x`` keep their dtype.

    In 16 bits a JPEG coefficient would be wrong by whole levels.
    """
    return torch.autocast(x.device.type, enabled=False)
