"""The autoencoder of a deblurring checkpoint: parts of a state dict, or low-rank changes, over the plain autoencoder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from prior.checkpoints import read_file

__all__ = ["TUNED", "tuned_weights"]

TUNED = ("vae", "lora_vae")  # what a deblurring file has beside its network
LORA_ALPHA = 1.0


def tuned_weights(base: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of the autoencoder ``base`` that the deblurring file at ``path`` replaces, by name.

    - ``vae``: a part of the state dict; names that the autoencoder does not have are passed over.
    - ``lora_vae``: the same, and beside a layer ``lora_A`` and ``lora_B``, of which ``B A alpha / r`` is added to its kernel,
      with alpha = 1 and the rank r. The weights of such a layer are called ``conv.weight`` and ``conv.bias``.

    Warns, and gives none, where the file has neither. Raises ``FileNotFoundError``, or ``ValueError`` where the file is
    damaged or does not fit.
    """
    content = read_file(path)
    parts = [content[name] for name in TUNED if isinstance(content, dict) and isinstance(content.get(name), dict)]
    if not parts:
        warnings.warn(
            f"tuned: {path} has no autoencoder of its own, neither vae nor lora_vae; the plain autoencoder is used",
            stacklevel=3,
        )
    new: dict[str, Tensor] = {}
    for part in parts:
        new |= _overlaid({**base, **new}, part, path)
    return new


def _overlaid(base: Mapping[str, Tensor], part: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights that ``part`` gives by name, and those to which it adds by ``lora_A`` and ``lora_B``."""
    part = {re.sub(r"^(?:module\.|_orig_mod\.)+", "", key): value for key, value in part.items()}
    plain = {_plain_name(key, base): value.float() for key, value in part.items()}
    new = {key: value for key, value in plain.items() if key in base}
    for layer in [key.removesuffix(".lora_A") for key in part if key.endswith(".lora_A")]:
        key = f"{layer}.weight"
        if key not in base or f"{layer}.lora_B" not in part:
            raise ValueError(f"tuned: {path}: {layer}.lora_A must belong to a layer of the autoencoder, with lora_B beside it")
        new[key] = _adapted(new.get(key, base[key]), part[f"{layer}.lora_A"], part[f"{layer}.lora_B"], f"{path}: {layer}")
    wrong = next((key for key, value in new.items() if value.shape != base[key].shape), None)
    if wrong is not None or not new:
        what = "it has no name in common"
        if wrong is not None:
            what = f"{wrong} must have shape {tuple(base[wrong].shape)}, got {tuple(new[wrong].shape)}"
        raise ValueError(f"tuned: {path} must fit the autoencoder in path: {what}; give the autoencoder it was trained with")
    return new


def _plain_name(key: str, base: Mapping[str, Tensor]) -> str:
    """The name without the ``conv`` that an adapted layer puts before its own weight and bias."""
    return key if key in base else re.sub(r"\.conv\.(weight|bias)$", r".\1", key)


def _adapted(weight: Tensor, a: Tensor, b: Tensor, where: str) -> Tensor:
    """``W + B A alpha / r`` with A (r k, in k) and B (out k, r k) for a kernel W (out, in, k, k)."""
    k, inner = weight.shape[-1], a.shape[0]
    if a.shape != (inner, weight.shape[1] * k) or b.shape != (weight.shape[0] * k, inner) or inner % k or not inner:
        got = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"tuned: {where}: lora_A and lora_B must fit a kernel {tuple(weight.shape)}, got {got}")
    return weight + (b.float() @ a.float()).view_as(weight) * (LORA_ALPHA / (inner // k))
