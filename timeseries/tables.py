"""Frames of forecasts and of filled series, and forecasts out of frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timeseries.columns import Columns, FrameSeries, times_of
from timeseries.scores import order_statistics

__all__ = ["NAME", "TRUTH", "Made", "base_paths", "check_names", "filled_table", "forecast_table", "paths_of", "wide_table"]

NAME, TRUTH = "series", "y"  # the id column, and that of true values, of what is made of a wide frame

Made = Literal["forecast", "imputation", "backtest"]
MADE: dict[Made, tuple[str, ...]] = {"forecast": ("mean",), "imputation": ("imputed",), "backtest": ("window", "mean")}
"""Columns that each frame has besides those of quantiles and of the data."""

Paths = NDArray[np.float32]


def check_names(made: Made, levels: Sequence[float], columns: Columns) -> None:
    """Raise ``ValueError``, naming the setting, where two columns of the frame that is ``made`` would have one name."""
    wide, labels = columns.target is None, [_label(level) for level in levels]
    if wide and made == "imputation":
        return
    if len(set(labels)) < len(labels):
        both = ", ".join(map(str, levels))
        raise ValueError(f"levels must differ in their first six digits, which name their columns, got {both}")
    own = {*MADE[made], *labels, *([NAME] if wide else []), *([TRUTH] if wide and made == "backtest" else [])}
    given = {"time": columns.time, "id": columns.id, **({} if made == "forecast" else {"target": columns.target})}
    for setting, name in given.items():
        if name in own:
            raise ValueError(f"{setting} must not be {name!r}, the name of a column that the {made} adds; rename that column")


def forecast_table(
    forecasts: Iterable[tuple[FrameSeries, int, Paths]], levels: Sequence[float], columns: Columns
) -> pd.DataFrame:
    """Id, time, ``mean`` and quantiles of forecasts: the series, the step at which it begins, and paths (S, H)."""
    parts = []
    for series, first, samples in forecasts:
        part = {columns.time: series.grid.times(first, samples.shape[1]), "mean": samples.mean(0, dtype=np.float64)}
        parts.append(pd.DataFrame(_named(series, {**part, **_quantiles(samples, levels)}, columns)))
    return pd.concat(parts, ignore_index=True)


def filled_table(filled: Iterable[tuple[FrameSeries, Paths]], levels: Sequence[float], columns: Columns) -> pd.DataFrame:
    """Id, time, target, ``imputed`` and quantiles of filled series: paths (S, n), of which gaps take the median."""
    parts = []
    for series, samples in filled:
        values = {"imputed": np.isnan(series.target), **_quantiles(samples, levels)}
        part: dict[Any, Any] = {columns.time: series.grid.times(0, len(series)), columns.target: _whole(series, samples)}
        parts.append(pd.DataFrame(_named(series, {**part, **values}, columns)))
    return pd.concat(parts, ignore_index=True)


def wide_table(filled: Sequence[tuple[FrameSeries, Paths]], columns: Columns) -> pd.DataFrame:
    """Time and a column for each filled series; raises ``ValueError`` where one is shorter than the others."""
    longest = max((series for series, _ in filled), key=len)
    times = longest.grid.times(0, len(longest))
    for series, _ in filled:
        if len(series) < len(longest):
            raise ValueError(f"series {series.name}: ends before the others, the first missing row is {times[len(series)]}")
    return pd.DataFrame({columns.time: times, **{series.item_id: _whole(series, samples) for series, samples in filled}})


def base_paths(
    forecasts: pd.DataFrame | Iterable[Any], series: Sequence[FrameSeries], horizon: int, columns: Columns
) -> NDArray[np.float64]:
    """Paths (B, S, horizon) of base forecasts for ``series``: GluonTS ``SampleForecast`` s, or a frame of one value a step.

    Raises ``ValueError``, naming the series, as :func:`paths_of` and for another number of paths.
    """
    if isinstance(forecasts, pd.DataFrame):
        return _of_frame(forecasts, series, horizon, columns)
    made = paths_of(forecasts, series)
    for one, samples in zip(series, made, strict=True):
        if samples.shape != made[0].shape:
            raise ValueError(
                f"series {one.name}: forecasts must have paths of one shape, got {samples.shape} after {made[0].shape}"
            )
    return np.stack(made).astype(np.float64)


def paths_of(forecasts: Iterable[Any], series: Sequence[FrameSeries]) -> list[Paths]:
    """The paths (S, H) of GluonTS ``SampleForecast`` s that follow ``series``, in their order.

    Raises ``ValueError``, naming the series, where a forecast is missing, of another series or time, or not finite.
    """
    given = list(forecasts)
    if len(given) != len(series):
        raise ValueError(f"forecasts must be one for each of {len(series)} series, got {len(given)}")
    return [_paths(one, forecast) for one, forecast in zip(series, given, strict=True)]


def _paths(series: FrameSeries, forecast: Any) -> Paths:
    if getattr(forecast, "samples", None) is None:
        raise TypeError(f"forecasts must be SampleForecasts or a frame, got {type(forecast).__name__}")
    ids = (series.item_id, forecast.item_id)
    if None not in ids and str(ids[0]) != str(ids[1]):
        raise ValueError(
            f"series {series.name}: its forecast is that of {ids[1]!r}; forecasts must be in the order of the series"
        )
    end = series.entry()["start"] + len(series)
    if forecast.start_date != end:
        raise ValueError(
            f"series {series.name}: its forecast must begin at {end}, where the series ends, got {forecast.start_date}"
        )
    samples = np.asarray(forecast.samples)
    if not np.isfinite(samples).all():
        path, step, *_ = np.argwhere(~np.isfinite(samples))[0].tolist()
        raise ValueError(
            f"series {series.name}: its forecast must be finite, step {step} of path {path} is {samples[path, step]}"
        )
    return samples


def _of_frame(df: pd.DataFrame, series: Sequence[FrameSeries], horizon: int, columns: Columns) -> NDArray[np.float64]:
    named = columns.id if columns.target is not None else NAME
    keys = [columns.time] if named is None else [named, columns.time]
    values = [name for name in df.columns if name not in keys]
    if len(values) != 1 or not set(keys) <= set(df.columns):
        wanted = f"{', '.join(map(str, keys))} and one column of values"
        raise ValueError(f"a frame of forecasts must have {wanted}, got {', '.join(map(str, df.columns))}")
    names = [None] * len(df) if named is None else df[named].tolist()
    numbers = pd.to_numeric(df[values[0]], errors="coerce")
    known = dict(zip(zip(names, times_of(df[columns.time], f"column {columns.time!r}"), strict=True), numbers, strict=True))
    made = np.full((len(series), 1, horizon), np.nan)
    for i, one in enumerate(series):
        for step, time in enumerate(one.grid.times(len(one), horizon)):
            value = known.get((one.item_id, time))
            if value is None or not np.isfinite(value):
                raise ValueError(
                    f"series {one.name}: the frame of forecasts has no value for {time}; it must have all {horizon} steps"
                )
            made[i, 0, step] = value
    return made


def _named(series: FrameSeries, values: dict[Any, Any], columns: Columns) -> dict[Any, Any]:
    name = NAME if columns.target is None else columns.id
    return values if name is None else {name: series.item_id, **values}


def _quantiles(samples: Paths, levels: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    if not levels:
        return {}
    return {_label(level): values for level, values in zip(levels, order_statistics(samples, levels), strict=True)}


def _label(level: float) -> str:
    return f"{level:g}"


def _whole(series: FrameSeries, samples: Paths) -> NDArray[np.float64]:
    """The series itself, in gaps the median of ``samples``; raises ``ValueError`` where that is none."""
    whole = np.where(np.isnan(series.target), np.median(samples, 0), series.target)
    if not np.isfinite(whole).all():
        time = series.grid.times(int((~np.isfinite(whole)).argmax()), 1)[0]
        raise ValueError(f"series {series.name}: what fills its gaps must be finite, but is not at {time}")
    return whole
