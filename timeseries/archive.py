"""A forecaster in a folder: ``config.json`` says what it is, ``model.safetensors`` has its weights, and nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prior.checkpoints import read_file
from timeseries.guidance import DDIMGuidance, DDPMGuidance, Guidance, QuantileEnergy, SquareEnergy

__all__ = ["guidance_as_dict", "guidance_of_dict", "load_weights", "read_archive", "write_archive"]

GUIDANCES: dict[str, type[Guidance]] = {f"timeseries.guidance.{c.__name__}": c for c in (DDPMGuidance, DDIMGuidance)}
ENERGIES: dict[str, type] = {f"timeseries.guidance.{c.__name__}": c for c in (QuantileEnergy, SquareEnergy)}
"""Classes that a file may name; no other is ever looked up."""

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_archive(path: Path, settings: Mapping[str, Any], model: nn.Module) -> None:
    """``settings``, plain values, and the weights of ``model`` into the folder ``path``, which is made if need be."""
    path.mkdir(parents=True, exist_ok=True)
    (path / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, path / WEIGHTS)


def read_archive(path: Path, class_path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and weights in the folder ``path``.

    Raises ``FileNotFoundError`` where one of the files is missing, and ``ValueError`` where one is damaged or the settings
    are not those of ``class_path``.
    """
    config = path / CONFIG
    if not config.is_file():
        raise FileNotFoundError(f"path: there is no {CONFIG} in {path}")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: {config} is not JSON: {error}") from error
    if not isinstance(settings, dict) or settings.get("class_path") != class_path:
        got = settings.get("class_path") if isinstance(settings, dict) else type(settings).__name__
        raise ValueError(f"path: {config} must have the class_path {class_path!r}, got {got!r}; other classes are not loaded")
    return settings, read_file(path / WEIGHTS)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """``weights`` into ``model``, all of them and no others.

    Released files have feature encoders also where features were never used; a model without leaves them out. Raises
    ``ValueError``, naming ``path``, where they do not fit or are not finite.
    """
    own = model.state_dict()
    unused = [name for name in weights if name not in own and ".feature_encoder." in name]
    broken = [name for name, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"path: {path} must hold finite weights, but {broken[0]} has NaN or infinity")
    try:
        model.load_state_dict({name: value for name, value in weights.items() if name not in unused}, strict=True)
    except RuntimeError as error:
        raise ValueError(f"path: {path} does not hold the weights of the configured {type(model).__name__}: {error}") from error


def guidance_as_dict(guidance: Guidance) -> dict[str, Any]:
    """``{"class_path": ..., "init_args": ...}`` of ``guidance``, its energy likewise.

    Raises ``TypeError`` for classes from elsewhere, which could not be read again.
    """
    for name, part, known in (("guidance", guidance, GUIDANCES), ("guidance.energy", guidance.energy, ENERGIES)):
        if _path(part) not in known:
            raise TypeError(f"{name} must be one of {', '.join(known)} to be written to a file, got {_path(part)}")
    arguments = {f.name: getattr(guidance, f.name) for f in fields(guidance) if f.name != "energy"}
    return {"class_path": _path(guidance), "init_args": {**arguments, "energy": {"class_path": _path(guidance.energy)}}}


def guidance_of_dict(plain: Mapping[str, Any]) -> Guidance:
    """The guidance of :func:`guidance_as_dict`; raises ``ValueError`` for other classes, and for what they do not take."""
    try:
        arguments = dict(plain["init_args"])
        kind, energy = GUIDANCES[plain["class_path"]], ENERGIES[arguments.pop("energy")["class_path"]]
        return kind(energy=energy(), **arguments)
    except (KeyError, TypeError) as error:
        allowed = ", ".join((*GUIDANCES, *ENERGIES))
        raise ValueError(f"guidance must have a class_path among {allowed} and its init_args, got {plain}") from error


def device_of(name: str | torch.device) -> torch.device:
    """The device; ``"auto"`` is the accelerator where there is one, otherwise the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _path(part: object) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"
