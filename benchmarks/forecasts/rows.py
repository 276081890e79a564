"""The lines of the tables: a method on a set, its scores, and what it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from gluonts.model.predictor import Predictor
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.forecasts.sets import SeriesSet
from benchmarks.timing import machine
from timeseries.scores import Scores

__all__ = ["Row", "forecasts", "row", "table", "timed"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on a set; see :class:`timeseries.scores.Scores`.

    Attributes
    ----------
    study: ``forecast``, ``missing RM`` and alike, ``refine`` or ``lps``.
    series, windows: how many are forecast, and how often each.
    paths: of each forecast.
    fit_seconds, seconds: of training, None where a model came from a file, and of all forecasts.
    settings: of the method. machine: what the seconds were measured on.
    """

    set: str
    study: str
    method: str
    series: int
    windows: int
    paths: int
    crps: float
    nd: float
    nrmse: float
    fit_seconds: float | None
    seconds: float
    settings: str = ""
    machine: str = field(default_factory=machine)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What ``call`` returns, and its seconds."""
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def forecasts(predictor: Predictor, entries: Sequence[dict[str, Any]], paths: int) -> NDArray[np.float32]:
    """The paths (N, S, H) of all entries, S being 1 of forecasts of a point."""
    return np.stack([forecast.samples for forecast in predictor.predict(entries, num_samples=paths)])


def row(
    data: SeriesSet, study: str, method: str, samples: NDArray[np.float32], times: tuple[float | None, float], settings: str
) -> Row:
    """Of paths (N, S, H) of all windows of ``data``; ``times`` are those of training and forecasting."""
    return Row(
        set=data.name, study=study, method=method, series=len(data.test) // data.windows, windows=data.windows,
        paths=samples.shape[1], **asdict(Scores.of(samples, data.truth)), fit_seconds=times[0], seconds=times[1],
        settings=settings,
    )  # fmt: skip


def table(study: str, rows: Sequence[Row]) -> Table:
    """One line a method, grouped by set; the seconds of training in brackets."""
    out = Table(title=study)
    for column in ("set", "method", "paths", "CRPS", "ND", "NRMSE", "s"):
        out.add_column(column, justify="left" if column in ("set", "method") else "right")
    for name in dict.fromkeys(r.set for r in rows):
        for r in (r for r in rows if r.set == name):
            took = f"{r.seconds:.1f}" if r.fit_seconds is None else f"({r.fit_seconds:.1f}) {r.seconds:.1f}"
            scores = f"{r.crps:.5f}", f"{r.nd:.5f}", f"{r.nrmse:.5f}"
            out.add_row(f"{r.set}, {r.series} x {r.windows}", r.method, str(r.paths), *scores, took)
        out.add_section()
    return out
