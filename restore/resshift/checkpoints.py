"""ResShift checkpoints: released and trained files become Swin U-Nets and autoencoders."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prior.checkpoints import named_tensors, read_file
from prior.networks.vq_autoencoder import VQAutoencoder, VQAutoencoderConfig
from restore.resshift.configuration import SwinUNetConfig, released
from restore.resshift.swin_blocks import SwinBlock
from restore.resshift.swin_unet import SwinUNet
from restore.resshift.tuned_autoencoder import TUNED, tuned_weights

__all__ = ["load_autoencoder", "load_unet", "read_autoencoder", "read_unet"]

UNET_ANCHOR = r"time_embed\.0\.weight"  # every network has it, and has it once
VQ_ANCHOR = r"quantize\.embedding\.weight"


def load_unet(task: str | SwinUNetConfig, path: str | Path) -> SwinUNet:
    """The Swin U-Net in a file, in evaluation mode, its weights not to be trained.

    Parameters
    ----------
    task: a name of :func:`~restore.resshift.released`, or the configuration of another network.
    path: ``.safetensors`` or torch file, see :func:`read_unet`; a torch file is mapped into memory, so it has to stay.

    Warns once that the released weights are for non-commercial use. Raises as :func:`read_unet` does.
    """
    config, weights = _unet_config(task), read_unet(task, path)
    if any(config == entry.unet for entry in released().values()):
        _tell_licence()
    with torch.device("meta"):
        network = SwinUNet(config)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def load_autoencoder(task: str | VQAutoencoderConfig, path: str | Path, *, tuned: str | Path | None = None) -> VQAutoencoder:
    """The VQ autoencoder in a file, in evaluation mode, its weights not to be trained; ``task`` as of :func:`load_unet`.

    Parameters
    ----------
    path: ``.safetensors`` or torch file.
    tuned: the deblurring file, whose own weights of the autoencoder replace those of ``path``. It has them as ``vae``, a
        part of the state dict, or as ``lora_vae``, which adds ``B A alpha / r`` to the kernels, with alpha = 1 and rank r.
        Where it has neither, as files of one's own training, a warning says so and the autoencoder of ``path`` stays.

    Warns once that the released weights are for non-commercial use. Raises as :func:`read_autoencoder` does.
    """
    config, weights = _vq_config(task), read_autoencoder(task, path)
    if tuned is not None:
        weights |= tuned_weights(weights, Path(tuned))
    if any(config == entry.autoencoder for entry in released().values()):
        _tell_licence()
    with torch.device("meta"):
        network = VQAutoencoder(config)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def read_unet(task: str | SwinUNetConfig, path: str | Path) -> dict[str, Tensor]:
    """The weights of the Swin U-Net in a file, by their official names, float32 and, for indices, int64.

    Bare state dicts, training checkpoints (``{"state_dict": ...}``) and prefixes (``module.``, ``_orig_mod.``) are read;
    names that the network does not have are passed over, and masks are those of the configuration, because an average
    over the training has rounded them. Raises ``FileNotFoundError``, or ``ValueError`` where the file is damaged, holds
    something else or the weights of another task.
    """
    path, config = Path(path), _unet_config(task)
    content = read_file(path)
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in TUNED}
    weights = named_tensors(content, path, anchor=UNET_ANCHOR, family="ResShift")
    try:
        return _taken(config, weights) | _masks(config)
    except ValueError as error:
        fitting = [name for name, entry in released().items() if _fits(entry.unet, weights)]
        advice = _advice(fitting, "SwinUNetConfig")
        raise ValueError(f"path: {path} must hold the network of {_called(task)}: {error}; {advice}") from None


def read_autoencoder(task: str | VQAutoencoderConfig, path: str | Path) -> dict[str, Tensor]:
    """The weights of the VQ autoencoder in a file, by their official names, float32; otherwise as :func:`read_unet`."""
    path, config = Path(path), _vq_config(task)
    weights = named_tensors(read_file(path), path, anchor=VQ_ANCHOR, family="VQ autoencoder")
    try:
        return _taken(config, weights)
    except ValueError as error:
        fitting = [name for name, entry in released().items() if _fits(entry.autoencoder, weights)]
        advice = _advice(fitting, "VQAutoencoderConfig")
        raise ValueError(f"path: {path} must hold the autoencoder of {_called(task)}: {error}; {advice}") from None


def _unet_config(task: str | SwinUNetConfig) -> SwinUNetConfig:
    if isinstance(task, SwinUNetConfig):
        return task
    return released()[_known(task, "SwinUNetConfig")].unet


def _vq_config(task: str | VQAutoencoderConfig) -> VQAutoencoderConfig:
    if isinstance(task, VQAutoencoderConfig):
        return task
    return released()[_known(task, "VQAutoencoderConfig")].autoencoder


def _known(task: Any, config: str) -> str:
    if not isinstance(task, str):
        raise TypeError(f"task must be the name of a released model or a {config}, got {type(task).__name__}")
    if task not in released():
        raise ValueError(f"task must be one of {', '.join(released())}, or a {config}, got {task!r}")
    return task


def _called(task: Any) -> str:
    return task if isinstance(task, str) else "the given configuration"


def _advice(fitting: list[str], config: str) -> str:
    if fitting:
        return f"its weights are those of {', '.join(fitting)}: name that task"
    return f"they fit no released model: give the {config} that they were trained with"


@lru_cache
def _tell_licence() -> None:
    warnings.warn(
        "the released weights of ResShift, autoencoders included, are under the NTU S-Lab License 1.0: "
        "for non-commercial use only. Networks fine-tuned from them are bound by it too",
        stacklevel=3,
    )


@lru_cache
def _template(config: SwinUNetConfig | VQAutoencoderConfig) -> nn.Module:
    """The network of a configuration, without memory."""
    with torch.device("meta"):
        return SwinUNet(config) if isinstance(config, SwinUNetConfig) else VQAutoencoder(config)


def _misfits(config: SwinUNetConfig | VQAutoencoderConfig, weights: Mapping[str, Tensor]) -> Iterator[str]:
    expected = _template(config).state_dict()
    for key, tensor in expected.items():
        if key in weights and weights[key].shape != tensor.shape:
            yield f"{key} must have shape {tuple(tensor.shape)}, got {tuple(weights[key].shape)}"
    missing = [key for key in expected if key not in weights]
    if missing:
        yield f"{missing[0]} is missing" + (f", and {len(missing) - 1} others" if len(missing) > 1 else "")


def _fits(config: SwinUNetConfig | VQAutoencoderConfig, weights: Mapping[str, Tensor]) -> bool:
    return next(_misfits(config, weights), None) is None


def _taken(config: SwinUNetConfig | VQAutoencoderConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network, in its types, from ``weights``; ``ValueError`` for a misfit."""
    for misfit in _misfits(config, weights):
        raise ValueError(misfit)
    return {key: weights[key].to(tensor.dtype) for key, tensor in _template(config).state_dict().items()}


def _masks(config: SwinUNetConfig) -> dict[str, Tensor]:
    """The masks of every shifted block at the size of the configuration, by name."""
    blocks = ((name, m) for name, m in _template(config).named_modules() if isinstance(m, SwinBlock) and m.shift)
    return {f"{name}.attn_mask": block.configured_mask() for name, block in blocks}
