"""The data sets: series cut into what is trained on and rolling test windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timeseries.files import read_entries

__all__ = ["SETS", "SeriesSet", "present", "read_set"]

Entry = dict[str, Any]
SETS = {
    # name: file, context
    "exchange": ("exchange_rate_nips.npz", 360),
    "m4": ("m4_hourly_train.npz", 312),
    "pjm": ("pjm_hourly_load.npz", 336),
    "etth1": ("ETTh1.npz", 336),
    "air_quality": ("air_quality_valencia.npz", 312),
    "taxi": ("nyc_taxi_hourly.npz", 336),
}
"""What is measured, and how much history a model sees."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SeriesSet:
    """Series of one frequency.

    Attributes
    ----------
    name: in the tables; freq: in pandas' spelling.
    context, horizon: steps of history that models with a window see, and steps to forecast.
    train: entries without the test windows.
    test: entries that end where a forecast begins, window by window and within a window series by series.
    truth: (len(test), horizon), what followed; NaN where nobody knows.
    windows: of each series.
    """

    name: str
    freq: str
    context: int
    horizon: int
    train: Sequence[Entry]
    test: Sequence[Entry]
    truth: NDArray[np.float64]
    windows: int


def present(folder: Path, sets: Sequence[str], told: Callable[[str], None]) -> list[str]:
    """Those of ``sets`` whose file is in ``folder``; ``told`` hears of the others. Raises ``ValueError`` for unknown names."""
    unknown = [name for name in sets if name not in SETS]
    if unknown:
        raise ValueError(f"--sets must be of {', '.join(SETS)}, got {', '.join(unknown)}")
    there = [name for name in sets if (folder / SETS[name][0]).is_file()]
    for name in sets:
        if name not in there:
            told(f"{name}: skipped, there is no file {folder / SETS[name][0]}")
    return there


def read_set(folder: Path, name: str, *, windows: int | None = None, first: int | None = None) -> SeriesSet:
    """The set ``name``, with the last ``windows`` of its test windows and its first ``first`` series, all with None.

    The file says how many windows W of H steps there are. Whatever is asked for, training ends W H steps before the end; of W
    windows, number w = 1..W begins ``(W - w + 1) H`` steps before it.
    """
    file, context = SETS[name]
    with np.load(folder / file, allow_pickle=False) as archive:
        freq, horizon, rolling = str(archive["freq"]), int(archive["prediction_length"]), int(archive["rolling_windows"])
    entries = read_entries(folder / file)[:first]
    kept = rolling if windows is None else min(windows, rolling)
    train = [_until(entry, rolling * horizon) for entry in entries]
    pairs = [(entry, w * horizon) for w in range(kept, 0, -1) for entry in entries]
    test = [_until(entry, before) for entry, before in pairs]
    truth = [entry["target"][len(entry["target"]) - before :][:horizon] for entry, before in pairs]
    return SeriesSet(
        name=name, freq=freq, context=context, horizon=horizon, train=train, test=test,
        truth=np.asarray(truth, dtype=np.float64), windows=kept,
    )  # fmt: skip


def _until(entry: Entry, before: int) -> Entry:
    """The entry without its last ``before`` values and without covariates."""
    return {key: entry[key] for key in ("item_id", "start")} | {"target": entry["target"][: len(entry["target"]) - before]}
