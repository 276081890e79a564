"""NCSN++ checkpoints, released and other, become denoisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prior.checkpoints import named_tensors, read_file
from prior.denoiser import Denoiser, NoiseHead, ScoreHead
from prior.networks.ncsnpp import NCSNpp
from prior.networks.ncsnpp_configuration import NCSNppConfig
from prior.networks.ncsnpp_released import ReleasedNCSNpp, check_fit, recognised, released_ncsnpp
from prior.schedules import VE, VP

__all__ = ["LabelledScoreHead", "load_ncsnpp", "ncsnpp_denoiser", "read_ncsnpp", "released"]

ANCHOR = r"all_modules\.0\.(W|weight)"  # every network has one of them, once
UNTRAINED = ("sigmas", "all_modules.0.W")  # not in the list of averaged tensors


@dataclass(frozen=True)
class LabelledScoreHead(ScoreHead):
    """The score of a network that reads the number of a noise level, from the largest down: ``round((1 - t)(N - 1))``.

    Exact where t is k / (N - 1); between, the network answers for the nearest level, which differs from sigma(t) by a
    factor of at most ``(sigma_max / sigma_min)^(1 / (2 N - 2))``, 1.004 for N = 1000 levels from 50 to 0.01.

    Attributes
    ----------
    levels: N.
    """

    levels: int

    def inputs(self, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.round((1 - t) * (self.levels - 1)).long()


def released() -> dict[str, ReleasedNCSNpp]:
    """The released networks that :func:`load_ncsnpp` opens without any setting, by name."""
    return {entry.name: entry for entry in released_ncsnpp()}


def load_ncsnpp(path: str | Path, *, config: NCSNppConfig | None = None) -> Denoiser:
    """The denoiser in an NCSN++ file, with its averaged weights where it has them, in evaluation mode, not to be trained.

    Parameters
    ----------
    path: ``.safetensors`` or torch file, see :func:`read_ncsnpp`; it is not needed any more afterwards.
    config: the configuration of a network that was not released; that of the released network that fits by default.

    Raises ``FileNotFoundError``, or ``ValueError`` where the file is damaged, holds something else or does not fit.
    """
    weights = read_ncsnpp(path)
    try:
        return ncsnpp_denoiser(recognised(weights) if config is None else config, weights)
    except ValueError as error:
        raise ValueError(f"path: {path}: {error}") from error


def ncsnpp_denoiser(config: NCSNppConfig, state: Mapping[str, Tensor]) -> Denoiser:
    """The denoiser of the network of ``config`` with the weights ``state``, by their official names, ``sigmas`` or not.

    - ``scale_by_sigma``, ``fourier``, ``continuous``: variance exploding; the network reads sigma and gives the score.
    - ``scale_by_sigma``, ``positional``, not ``continuous``: the same process; the network reads the number of a noise
      level, and answers for the nearest one, see :class:`LabelledScoreHead`.
    - otherwise, ``continuous``: variance preserving, beta from 0.1 to 20; the network reads 999 t and its output h is the
      noise, ``score = -h / std(t)``.

    ``data_range`` is (-1, 1) where ``centered``, else (0, 1). Raises ``ValueError`` for weights of another network and
    for other configurations, in which the network does not tell its process: build a :class:`~prior.Denoiser` of one's own.
    """
    labelled = config.embedding_type == "positional"
    told = config.continuous != labelled if config.scale_by_sigma else config.continuous
    if not told:
        raise ValueError(
            "config must be continuous with a fourier embedding, discrete with a positional one, or continuous without "
            f"scale_by_sigma, got continuous={config.continuous}, {config.embedding_type!r}, "
            f"scale_by_sigma={config.scale_by_sigma}; put the network into a Denoiser with its own schedule and head"
        )
    check_fit(config, state)
    if "sigmas" in state:
        config = replace(config, num_scales=len(state["sigmas"]))
    with torch.random.fork_rng(devices=[]):  # new weights, all of them replaced, leave no trace
        network = NCSNpp(config)
    network.load_state_dict(dict(state), strict=True)
    network.eval().requires_grad_(False)
    data_range = (-1.0, 1.0) if config.centered else (0.0, 1.0)
    if not config.scale_by_sigma:
        return Denoiser(network, VP(time_scale=999.0), NoiseHead(), data_range=data_range)
    head = LabelledScoreHead(config.num_scales) if labelled else ScoreHead()
    schedule = VE(sigma_min=config.sigma_min, sigma_max=config.sigma_max, reads_sigma=not labelled)
    return Denoiser(network, schedule, head, data_range=data_range)


def read_ncsnpp(path: str | Path) -> dict[str, Tensor]:
    """The NCSN++ weights of a ``.safetensors`` or torch file, by their official names, float32 but for ``sigmas``.

    A training state, ``{optimizer, model, ema, step}``, gives its averaged weights: a list without names, in the order
    of ``model`` without the fixed frequencies, which come from ``model``. Wrappers (``{"state_dict": ...}``) and prefixes
    (``module.``) are taken off. Raises ``FileNotFoundError``, or ``ValueError`` for a file that is damaged or holds
    something else, or whose averaged weights are not as many as its trained ones.
    """
    path = Path(path)
    content = read_file(path)
    weights = named_tensors(content, path, anchor=ANCHOR, family="NCSN++")
    ema = content.get("ema")
    if isinstance(ema, dict) and "shadow_params" in ema:
        weights |= _averaged(path, weights, ema["shadow_params"])
    return {key: value.double() if key == "sigmas" else value.float() for key, value in weights.items()}


def _averaged(path: Path, weights: Mapping[str, Tensor], shadow: Any) -> dict[str, Tensor]:
    """The averaged tensors ``shadow`` by name."""
    trained = [key for key in weights if key not in UNTRAINED]
    if not isinstance(shadow, list | tuple) or not all(isinstance(value, Tensor) for value in shadow):
        raise ValueError(f"path: {path} must hold its averaged weights as a list of tensors, got {type(shadow).__name__}")
    if len(shadow) != len(trained):
        raise ValueError(
            f"path: {path} must hold as many averaged tensors as trained ones, got {len(shadow)} for {len(trained)}"
        )
    for key, value in zip(trained, shadow, strict=True):
        if value.shape != weights[key].shape:
            raise ValueError(
                f"path: {path}: the averaged tensor of {key} must have shape {tuple(weights[key].shape)}, "
                f"got {tuple(value.shape)}: the list is in another order"
            )
    return dict(zip(trained, shadow, strict=True))
