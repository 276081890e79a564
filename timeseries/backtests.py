"""Backtests: forecasts of what is known already, window by window, and how good they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from gluonts.model.forecast import SampleForecast

from timeseries.columns import Columns, FrameSeries
from timeseries.predictor import TSDiffPredictor
from timeseries.refinement import seasonal_naive
from timeseries.scores import Scores
from timeseries.series import Series
from timeseries.tables import TRUTH, forecast_table

__all__ = ["Backtest", "backtest", "check_windows"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Backtest:
    """What a backtest found.

    Attributes
    ----------
    frame: as that of forecasts, with ``window`` (0 the earliest) and the true value in the column of the target, ``y`` for wide
        frames; NaN where it is missing.
    scores: of all windows of all series together.
    naive: those of repeating the last season, which a model must beat to be of use.
    forecasts: of the last window, one a series in their order.
    """

    frame: pd.DataFrame
    scores: Scores
    naive: Scores
    forecasts: tuple[SampleForecast, ...]


def backtest(
    predictor: TSDiffPredictor,
    series: Sequence[FrameSeries],
    windows: int,
    levels: Sequence[float],
    columns: Columns,
    samples: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Backtest:
    """Forecasts of the last ``windows`` prediction lengths of each of ``series``; see :class:`Backtest`.

    A season is that of the frequency. Raises as :func:`check_windows`.
    """
    horizon, config = predictor.prediction_length, predictor.config
    check_windows(series, windows, horizon)
    cuts = [(one, len(one) - left * horizon) for left in range(windows, 0, -1) for one in series]
    truth = np.stack([one.target[cut : cut + horizon] for one, cut in cuts])
    entries, forecasts = [one.entry(cut) for one, cut in cuts], []
    for forecast in predictor.predict(entries, samples):
        forecasts.append(forecast)
        if progress is not None:
            progress(len(forecasts), len(cuts))
    drawn = [forecast.samples for forecast in forecasts]
    history = [Series.of_entry(entry, config, number) for number, entry in enumerate(entries)]
    naive = seasonal_naive(predictor.window(history), config.frequency.season).double().cpu().numpy()
    frame = forecast_table([(one, cut, paths) for (one, cut), paths in zip(cuts, drawn, strict=True)], levels, columns)
    position = list(frame.columns).index("mean")
    frame.insert(position, "window", np.repeat(np.arange(windows), len(series) * horizon))
    frame.insert(position + 1, columns.target or TRUTH, truth.ravel())
    scores, last = Scores.of(np.stack(drawn), truth), tuple(forecasts[-len(series) :])
    return Backtest(frame=frame, scores=scores, naive=Scores.of(naive, truth), forecasts=last)


def check_windows(series: Sequence[FrameSeries], windows: int, horizon: int) -> None:
    """Raise ``ValueError``, naming the series, for one without a value before its last ``windows`` horizons, and where no true
    value is known in them or all are 0."""
    if windows < 1:
        raise ValueError(f"windows must be at least 1, got {windows}")
    tested = windows * horizon
    for one in series:
        if np.isnan(one.target[: max(len(one) - tested, 0)]).all():
            needed = f"a value before its last {tested} steps, {windows} windows of {horizon}"
            raise ValueError(
                f"series {one.name}: needs {needed}, and has {len(one)} steps; test fewer windows, or leave it out"
            )
    if not any(np.nan_to_num(one.target[-tested:]).any() for one in series):
        raise ValueError(f"series must have known values other than 0 in their last {tested} steps to be scored by")
