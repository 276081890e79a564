"""Networks of EDM (Karras et al. 2022) and those written in its way."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from prior.checkpoints import read_file
from prior.denoiser import Denoiser, EDMHead, ImageHead
from prior.schedules import EDM

__all__ = ["from_edm"]

WRAPPERS = ("ema", "net", "model", "state_dict")


class _Labelled(nn.Module):
    """A network called as ``network(x, sigma, class_labels)``, with the labels filled in."""

    def __init__(self, network: nn.Module, labels: Tensor | None) -> None:
        super().__init__()
        self.network, self.labels = network, labels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        labels = None if self.labels is None else self.labels.to(x).expand(len(x), -1)
        out = self.network(x, t, labels)
        return out[0] if isinstance(out, tuple) else out


def from_edm(
    network: nn.Module,
    path: str | Path | None = None,
    *,
    preconditioned: bool = True,
    sigma_data: float = 0.5,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    class_labels: Tensor | None = None,
) -> Denoiser:
    """``network(x, sigma, class_labels)`` as a prior, images in [-1, 1].

    Parameters
    ----------
    network: returns the denoised image D(x, sigma); or, with ``preconditioned=False``, the raw F that is called as
        ``F(c_in x, log(sigma) / 4)`` and combined here (Karras et al. 2022, table 1).
    path: a state dict to fill it with, ``strict``; wrappers (``ema``, ``net``, ``model``) and the prefix ``module.`` are
        taken off. The published ``.pkl`` files hold code, are never opened, and give a ``ValueError``: save the
        ``state_dict()`` of their ``ema`` entry first.
    class_labels: (classes,) one-hot, or (B, classes).
    """
    if path is not None:
        network.load_state_dict(_state_dict(Path(path)), strict=True)
    schedule = EDM(sigma_min=sigma_min, sigma_max=sigma_max)
    labelled = _Labelled(network, class_labels)
    if preconditioned:
        return Denoiser(labelled, schedule, ImageHead())
    if class_labels is None:  # a raw network may take two arguments only
        return Denoiser(network, schedule, EDMHead(sigma_data))
    return Denoiser(labelled, schedule, EDMHead(sigma_data))


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".pkl":
        raise ValueError(
            f"path: {path} is a pickle, which can run code when opened; save its network's state_dict() to .safetensors or .pt"
        )
    content = read_file(path)
    while isinstance(content, dict) and (key := next((k for k in WRAPPERS if isinstance(content.get(k), dict)), None)):
        content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"path: {path} must hold a state dict of tensors, got {type(content).__name__}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
