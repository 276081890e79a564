"""Batches of windows by number: each follows from its number and the seed, so that a resumed run goes on exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from timeseries.configuration import TSDiffConfig
from timeseries.missing import MissingScenario
from timeseries.series import Series

__all__ = ["WindowBatch", "cut_windows", "generator_of", "path_seed", "seed_of"]

SPREAD = 0x9E3779B9  # 2^32 over the golden ratio, whose multiples lie far apart from each other


class WindowBatch(NamedTuple):
    """Windows in the unit of their series; NaN is missing.

    Attributes
    ----------
    past: (B, past_length), with what a missing-value scenario hides as NaN.
    truth: the past before anything was hidden.
    future: (B, prediction_length).
    steps: features of each step of the windows, (B, L, n), or None.
    seed: of whatever else is drawn for this batch: times and noise.
    """

    past: Tensor
    truth: Tensor
    future: Tensor
    steps: Tensor | None = None
    seed: int = 0


Place = tuple[Series, int]
"""A series and the position in it where the forecast begins."""


def cut_windows(
    places: Sequence[Place], config: TSDiffConfig, *, hidden: MissingScenario | None = None, seed: int = 0
) -> WindowBatch:
    """The windows at ``places``, padded with NaN before the series begins and after it ends.

    ``hidden`` takes values away from the context; of entry i it draws from a seed of ``seed`` and i.
    """
    before, ahead = config.assembly.past_length, config.prediction_length
    truth = torch.full((len(places), before), torch.nan)
    future = torch.full((len(places), ahead), torch.nan)
    for i, (series, split) in enumerate(places):
        known, coming = series.target[max(split - before, 0) : split], series.target[split : split + ahead]
        truth[i, before - len(known) :] = torch.from_numpy(known)
        future[i, : len(coming)] = torch.from_numpy(coming)
    steps = None
    if config.steps is not None:
        first, length = -config.assembly.context_length, config.assembly.length
        steps = torch.from_numpy(np.stack([series.steps(config, split + first, length) for series, split in places]))
    past = truth
    if hidden is not None:
        mask = hidden.hidden(len(truth), seed=seed_of("hidden", seed))
        past = truth.clone()
        past[:, -hidden.context_length :][mask] = torch.nan
    return WindowBatch(past=past, truth=truth, future=future, steps=steps, seed=seed)


def seed_of(*key: int | str) -> int:
    """A seed in 0..2^62 - 1 for a key of numbers and words; other keys have unrelated seeds."""
    return int.from_bytes(hashlib.sha256("/".join(map(repr, key)).encode()).digest()[:8], "big") >> 2


def path_seed(seed: int) -> int:
    """The seed of path 0 of a run with ``seed``, that of path i being i more: 0 for 0, and those of other runs are far away.

    Generators read 32 bits of a seed. Runs of seeds below N share no noise up to 2^32 / (3 N) paths.
    """
    return seed * SPREAD % 2**32


def generator_of(*key: int | str) -> torch.Generator:
    """A generator on the CPU with the seed of ``key``."""
    return torch.Generator().manual_seed(seed_of(*key))
