"""Restorers by name: those that ship, and the released ones with the user's files."""

from __future__ import annotations

import copy
import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from prior import registry
from prior.schedules import Shifted
from restore.resshift import chain
from restore.resshift.checkpoints import load_autoencoder, load_unet
from restore.resshift.configuration import ReleasedResShift, released
from restore.resshift.enlarging import enlarge_strips
from restore.resshift.noise_field import NoiseField
from restore.resshift.picture import restore_picture
from restore.resshift.prediction import ShiftedDenoiser
from restore.resshift.tiles import Tiling

__all__ = ["DTYPES", "ResShift", "load", "prepared", "shipped", "task_of_file"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CAP = math.sqrt(0.001)  # of sqrt(eta_1), where the start is capped


@dataclass(frozen=True, eq=False)
class ResShift:
    """A restorer for pictures of any size, (B, C, H, W) in [0, 1], by a name: ``ResShift.load("realsr_v3", weights=folder)``.

    Attributes
    ----------
    model: the chain with its networks, :class:`restore.resshift.ResShift`.
    """

    model: chain.ResShift

    @classmethod
    def load(
        cls,
        name: str,
        weights: str | Path | None = None,
        *,
        autoencoder: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        compile: bool = False,
    ) -> ResShift:
        """The restorer called ``name``; arguments and errors as of :func:`load`."""
        return cls(load(name, weights, autoencoder=autoencoder, dtype=dtype, channels_last=channels_last, compile=compile))

    def to(self, device: str | torch.device) -> ResShift:
        """The same on another device; pictures may stay where they are."""
        return ResShift(self.model.to(device))

    @torch.no_grad()
    def upscale(
        self,
        image: Tensor,
        factor: int | None = None,
        *,
        seed: int = 0,
        sampler: chain.ShiftedSampler | None = None,
        tiling: Tiling | None = None,
    ) -> Tensor:
        """``image`` restored and ``factor`` times larger, by default as large as the restorer was trained for.

        Member i of the batch has the noise of ``seed + i``. Without a ``tiling`` nothing is cut. See
        :func:`~restore.resshift.enlarge_strips`.
        """
        field, factor = NoiseField(seed), self.model.factor if factor is None else factor
        strips = enlarge_strips(self.model, image, factor=factor, noise=field, sampler=sampler, tiling=tiling)
        return torch.cat(list(strips), -2)

    @torch.no_grad()
    def restore(
        self,
        image: Tensor,
        *,
        mask: Tensor | None = None,
        seed: int = 0,
        sampler: chain.ShiftedSampler | None = None,
        tiling: Tiling | None = None,
    ) -> Tensor:
        """``image`` restored at the restorer's own factor; ``mask`` (B, 1, H, W) is 1 where an inpainting model fills in."""
        return restore_picture(self.model, image, noise=NoiseField(seed), mask=mask, sampler=sampler, tiling=tiling)


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    autoencoder: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    compile: bool = False,
) -> chain.ResShift:
    """The restorer called ``name``, on the CPU, in evaluation mode, its weights not to be trained.

    Parameters
    ----------
    name: a model of :func:`shipped`, or a task of :func:`~restore.resshift.released`.
    weights: of a released task, its file, or the folder in which the files lie under their released names; of a model that
        ships, a file to take instead of its own.
    autoencoder: of a released task, the file of its first stage; by default the released name in the folder of ``weights``.
    dtype: of both networks but for the codes of the first stage, which stay float32, one of ``DTYPES``; the chain itself
        runs in the dtype of the images.
    channels_last: lay the kernels out for convolutions in half precision on a GPU.
    compile: compile both networks when they are first called, once more for each size.

    Raises ``ValueError`` for an unknown name and for a file that is damaged or of another task, and ``FileNotFoundError``
    where a file is not there. Warns once that the released weights are for non-commercial use.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if name in released():
        model = _released(released()[name], weights, autoencoder)
    elif name in shipped():
        if autoencoder is not None:
            raise ValueError(f"autoencoder must be None for {name}, whose file holds its first stage, got {autoencoder}")
        model = cast(chain.ResShift, registry.embedded(name, weights=weights))
    else:
        raise ValueError(_unknown(name))
    model = model.eval().requires_grad_(False)
    return prepared(model, dtype=dtype, channels_last=channels_last, compile=compile)


def prepared(model: chain.ResShift, *, dtype: torch.dtype, channels_last: bool, compile: bool) -> chain.ResShift:
    """``model`` itself, changed as :func:`load` says of these arguments."""
    _cast(model, dtype)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        for network in _networks(model):
            network.compile()
    return model


def shipped() -> tuple[str, ...]:
    """The names of the embedded models that are restorers."""
    return tuple(name for name, card in registry.cards().items() if _restores(str(card.denoiser.get("class_path", ""))))


def task_of_file(path: str | Path) -> str | None:
    """The released task whose file has the name of ``path``, or None."""
    return next((name for name, entry in released().items() if Path(path).name in entry.files), None)


def _restores(class_path: str) -> bool:
    module, _, name = class_path.rpartition(".")
    if not module.startswith("restore."):
        return False
    found = getattr(importlib.import_module(module), name)
    return isinstance(found, type) and issubclass(found, chain.ResShift)


def _unknown(name: str) -> str:
    what = "is a prior, no restorer" if name in registry.cards() else "is unknown"
    ours, theirs = ", ".join(shipped()), ", ".join(released())
    return f"name: {name!r} {what}: models that ship are {ours}; released tasks, with files of your own, are {theirs}"


def _released(entry: ReleasedResShift, weights: str | Path | None, autoencoder: str | Path | None) -> chain.ResShift:
    if weights is None:
        files = " or ".join(entry.files)
        raise ValueError(
            f"{entry.name} does not ship: give weights, the path of {files}, with {entry.autoencoder_file} beside it"
        )
    path = _file(Path(weights), entry.files, "weights")
    if task_of_file(path) not in (None, entry.name):
        raise ValueError(f"weights: {path} is the released file of {task_of_file(path)}, not of {entry.name}: name that task")
    first = _file(Path(autoencoder) if autoencoder is not None else path.parent, (entry.autoencoder_file,), "autoencoder")
    schedule = Shifted(
        T=entry.steps, kappa=entry.kappa, min_noise=entry.min_noise_level, cap=CAP if entry.capped_start else None
    )
    network = load_unet(entry.name, path)
    first_stage = load_autoencoder(entry.name, first, tuned=path if entry.task == "deblur" else None)
    return chain.ResShift(
        ShiftedDenoiser(network, schedule),
        first_stage,
        factor=entry.scale,
        multiple=entry.unet.multiple * first_stage.factor // entry.scale,
    )


def _file(path: Path, names: tuple[str, ...], argument: str) -> Path:
    """``path``, or in a folder the first of ``names`` that is there."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{argument}: there is no file or folder {path}")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(
        f"{argument}: there is no {' or '.join(names)} in {path}; name the file itself if it has another name"
    )


def _cast(model: chain.ResShift, dtype: torch.dtype) -> chain.ResShift:
    """The model in ``dtype``; rounded codes would be other codes."""
    codes = getattr(model.first_stage, "quantize", None)
    kept = copy.deepcopy(codes)
    model.to(dtype)
    if isinstance(model.first_stage, nn.Module) and isinstance(kept, nn.Module):
        model.first_stage.quantize = kept
    return model


def _networks(model: chain.ResShift) -> list[nn.Module]:
    """What is compiled: the network, and the halves of the first stage, of which ``forward`` is never called."""
    halves = (getattr(model.first_stage, name, None) for name in ("encoder", "decoder"))
    return [model.model.network, *(half for half in halves if isinstance(half, nn.Module))]
