"""Official checkpoints: files of released models become denoisers and classifiers, without flags."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from prior.denoiser import Denoiser, NoiseHead
from prior.inert_pickles import read_inert
from prior.networks.adm import ADMConfig, ADMEncoder
from prior.networks.adm_classifier import ADMClassifier
from prior.networks.adm_configuration import ADMModel, ReleasedADM, infer_adm, released_adm, released_as
from prior.schedules import Cosine, DiscreteVP, Linear

__all__ = ["load_adm", "load_classifier", "named_tensors", "read_file", "read_state_dict", "released"]

SCHEDULES: dict[str | None, DiscreteVP] = {"linear": Linear(), "cosine": Cosine()}
ANCHOR = r"time_embed\.0\.weight"  # every ADM network has it, and has it once
WRAPPERS = ("state_dict", "model_state_dict", "model")


def released() -> dict[str, ReleasedADM]:
    """The released denoisers that :func:`load_adm` opens without any setting, by name."""
    return {entry.name: entry for entry in released_adm() if entry.model.kind != "classifier"}


def load_adm(
    path: str | Path,
    *,
    config: ADMConfig | None = None,
    num_heads: int | None = None,
    head_channels: int | None = None,
    new_attention_order: bool | None = None,
    schedule: DiscreteVP | None = None,
) -> Denoiser:
    """The denoiser in a file of the ADM family, U-Net or upsampler: in evaluation mode, its weights not to be trained.

    The condition of the denoiser is the class y (B,) of a class-conditional model, and the low-resolution image of an
    upsampler; for both together, put :meth:`~prior.networks.adm.SuperResUNet.given` into a denoiser. To differentiate
    through a large network in little memory, set ``denoiser.network.checkpointing = True``.

    Parameters
    ----------
    path: ``.safetensors`` or torch file; a torch file is mapped into memory, so it has to stay where it is.
    config: the configuration, where it is not to be read off the file; it must fit.
    num_heads, head_channels, new_attention_order: of a file that was not released, see
        :func:`~prior.networks.adm_configuration.infer_adm`.
    schedule: by default that of the released file, and linear for other files.

    Raises ``FileNotFoundError``, or ``ValueError`` where the file is damaged, holds something else or does not fit.
    """
    model, weights = _open(path, config, num_heads, head_channels, new_attention_order)
    if model.kind == "classifier":
        raise ValueError(f"path: {path} is a classifier; load it with load_classifier")
    channels, out_channels = model.config.in_channels, model.config.out_channels
    if out_channels not in (channels, 2 * channels):
        raise ValueError(
            f"path: {path} must give {channels} or {2 * channels} channels for {channels} of image, got {out_channels}"
        )
    released = released_as(weights, model.kind)
    schedule = schedule or SCHEDULES[released.schedule if released else "linear"]
    network = _filled(model, weights)
    return Denoiser(network, schedule, NoiseHead(), learned_variance=out_channels == 2 * channels, data_range=(-1.0, 1.0))


def load_classifier(
    path: str | Path,
    *,
    config: ADMConfig | None = None,
    num_heads: int | None = None,
    head_channels: int | None = None,
    new_attention_order: bool | None = None,
) -> ADMClassifier:
    """The classifier of noisy images in a file, in evaluation mode; arguments and errors as of :func:`load_adm`."""
    model, weights = _open(path, config, num_heads, head_channels, new_attention_order)
    if model.kind != "classifier":
        raise ValueError(f"path: {path} is a {model.kind}; load it with load_adm")
    return _filled(model, weights)  # type: ignore[return-value]


def _open(
    path: str | Path, config: ADMConfig | None, num_heads: int | None, head_channels: int | None, new_order: bool | None
) -> tuple[ADMModel, dict[str, Tensor]]:
    weights = read_state_dict(path)
    try:
        model = infer_adm(
            weights, config=config, num_heads=num_heads, head_channels=head_channels, new_attention_order=new_order
        )
    except ValueError as error:
        raise ValueError(f"path: {path}: {error}") from error
    return model, weights


def _filled(model: ADMModel, weights: dict[str, Tensor]) -> ADMEncoder:
    with torch.device("meta"):
        network = model.build()
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The ADM weights of a ``.safetensors`` or torch file, by their official names, float32.

    Wrappers (``{"state_dict": ...}``) and prefixes (``module.``) are taken off. Raises ``FileNotFoundError``, or
    ``ValueError`` for a file that is damaged or holds something else.
    """
    path = Path(path)
    weights = named_tensors(read_file(path), path, anchor=ANCHOR, family="ADM")
    return {key: value.float() for key, value in weights.items()}


def named_tensors(content: Any, path: Path, *, anchor: str, family: str) -> dict[str, Tensor]:
    """The state dict in the ``content`` of a file, without its wrappers and without its prefix, in its own order.

    The prefix is what stands before ``anchor``, a regular expression for the end of one key that every network of the
    ``family`` has once. Raises ``ValueError``, naming ``path``, where there is no such state dict.
    """
    while isinstance(content, dict) and (wrapper := next((w for w in WRAPPERS if isinstance(content.get(w), dict)), None)):
        content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"path: {path} must hold a state dict, got {'nothing' if content == {} else type(content).__name__}")
    if {"state", "param_groups"} <= content.keys():
        raise ValueError(f"path: {path} holds the state of an optimizer; load the model or ema file saved beside it")
    prefix = _prefix(path, [str(key) for key in content], anchor, family)
    weights = {str(key).removeprefix(prefix): value for key, value in content.items() if str(key).startswith(prefix)}
    wrong = next((key for key, value in weights.items() if not isinstance(value, Tensor)), None)
    if wrong is not None:
        raise ValueError(f"path: {path} must hold tensors only, got {type(weights[wrong]).__name__} at {wrong!r}")
    return weights


def read_file(path: Path) -> Any:
    """The content of a ``.safetensors`` or torch file: tensors, plain containers and numbers; errors as above.

    No code of a file runs. Objects of other packages, as in the settings that Lightning writes, come as
    :class:`~prior.inert_pickles.Inert`, which is empty; a file without a tensor beside them is refused.
    """
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _read_torch(path)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"path: {path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is truncated or damaged, "
            "or it holds pickled objects other than tensors and no tensor beside them"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        return read_inert(path)


def _numpy_numbers() -> list[Any]:
    """What a pickled NumPy number is made of, by its names of NumPy 1 and 2: learning rates of optimizers are such."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [np.dtype, *kinds, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]


def _prefix(path: Path, keys: list[str], anchor: str, family: str) -> str:
    prefixes = [key[: match.start()] for key in keys if (match := re.search(f"(?:{anchor})$", key))]
    if not prefixes:
        name = anchor.replace("\\", "")
        raise ValueError(
            f"path: {path} must hold {name}, as all files of the {family} family do, got {keys[0]!r} and {len(keys) - 1} others"
        )
    if len(prefixes) > 1:
        raise ValueError(f"path: {path} must hold one network, got {len(prefixes)}, with the prefixes {prefixes}")
    return prefixes[0]
