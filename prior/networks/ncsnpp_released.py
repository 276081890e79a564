"""Which NCSN++ network do these weights belong to? The released ones, and how to tell them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import yaml
from torch import Tensor

from prior.networks.ncsnpp import NCSNpp
from prior.networks.ncsnpp_configuration import NCSNppConfig

__all__ = ["ReleasedNCSNpp", "check_fit", "recognised", "released_ncsnpp"]

CLOSE = 1e-3  # noise levels that differ by less are the same, written with fewer digits


@dataclass(frozen=True, kw_only=True)
class ReleasedNCSNpp:
    """A released model: the files it goes by, () where they have no known name, and its network."""

    name: str
    files: tuple[str, ...]
    parameters: int
    config: NCSNppConfig


@lru_cache
def released_ncsnpp() -> tuple[ReleasedNCSNpp, ...]:
    """The released NCSN++ models."""
    table = Path(__file__).parents[1] / "configs" / "ncsnpp_released.yaml"
    return tuple(
        ReleasedNCSNpp(
            name=entry["name"],
            files=tuple(entry["files"]),
            parameters=entry["parameters"],
            config=NCSNppConfig(**entry["config"]),
        )
        for entry in yaml.safe_load(table.read_text())
    )


@lru_cache
def _shapes(config: NCSNppConfig) -> Mapping[str, tuple[int, ...]]:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return {key: tuple(t.shape) for key, t in NCSNpp(config).state_dict().items()}


def recognised(weights: Mapping[str, Tensor]) -> NCSNppConfig:
    """The released network that ``weights`` fit, by names and shapes, and where several do, by their noise levels.

    Other noise levels than theirs are taken over into the configuration. Raises ``ValueError`` where no released network
    fits, and where several do that differ in their noise levels and ``weights`` have no ``sigmas``.
    """
    count = sum(value.numel() for key, value in weights.items() if key != "sigmas")
    same_size = [entry for entry in released_ncsnpp() if entry.parameters == count]
    fitting = [entry for entry in same_size if next(_misfits(entry.config, weights), None) is None]
    if not fitting:
        known = ", ".join(f"{entry.name} {entry.parameters}" for entry in released_ncsnpp())
        raise ValueError(
            f"no released NCSN++ network has these weights: {count} parameters in {len(weights)} tensors; "
            f"give the config. Released are {known}"
        )
    if "sigmas" not in weights:
        if len({_levels(entry.config) for entry in fitting}) > 1:
            names = ", ".join(f"{entry.name} (sigma_max {entry.config.sigma_max:g})" for entry in fitting)
            raise ValueError(f"the weights have no sigmas, and fit {names} alike; load them by name or give the config")
        return fitting[0].config
    same = [entry.config for entry in fitting if _same_levels(entry.config, weights["sigmas"])]
    return same[0] if same else _with_levels(fitting[0].config, weights["sigmas"])


def check_fit(config: NCSNppConfig, weights: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError`` unless ``weights`` are those of a network of ``config``, with its noise levels.

    A network trained in continuous time does not count its noise levels; there only their ends are compared.
    """
    wrong = next(_misfits(config, weights), None)
    if wrong is not None:
        raise ValueError(f"config must fit the weights: {wrong}")
    if "sigmas" in weights and not _same_levels(config, weights["sigmas"]):
        theirs = _with_levels(config, weights["sigmas"])
        raise ValueError(
            f"config must have the noise levels of the weights, sigma_min={theirs.sigma_min:g}, "
            f"sigma_max={theirs.sigma_max:g} and num_scales={theirs.num_scales}, got {config.sigma_min:g}, "
            f"{config.sigma_max:g} and {config.num_scales}; another released network has those, or replace them in the config"
        )


def _misfits(config: NCSNppConfig, weights: Mapping[str, Tensor]) -> Iterator[str]:
    expected = _shapes(config)
    for key in {**expected, **weights}:
        if key == "sigmas":
            continue
        if key not in expected:
            yield f"{key} is unexpected"
        elif key not in weights:
            yield f"{key} is missing"
        elif tuple(weights[key].shape) != expected[key]:
            yield f"{key} must have shape {expected[key]}, got {tuple(weights[key].shape)}"


def _levels(config: NCSNppConfig) -> tuple[float, float]:
    return config.sigma_min, config.sigma_max


def _same_levels(config: NCSNppConfig, sigmas: Tensor) -> bool:
    if len(sigmas) != config.num_scales and not config.continuous:
        return False
    ends = torch.tensor([config.sigma_max, config.sigma_min], dtype=torch.float64)
    return bool((sigmas.double()[[0, -1]] / ends - 1).abs().max() < CLOSE)


def _with_levels(config: NCSNppConfig, sigmas: Tensor) -> NCSNppConfig:
    return replace(
        config, sigma_max=float(f"{float(sigmas[0]):.6g}"), sigma_min=float(f"{float(sigmas[-1]):.6g}"), num_scales=len(sigmas)
    )
