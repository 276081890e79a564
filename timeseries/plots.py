"""Pictures of forecasts and imputations: the median in its bands, the truth, and what was not known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from gluonts.model.forecast import Forecast, SampleForecast
from numpy.typing import ArrayLike, NDArray

from timeseries.scores import order_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fan_chart", "imputation_chart"]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Ends of the band of 90 %, of that of 50 %, and the median between."""

INK, BLUE, TRUTH, GAP = "#30343b", "#1f6fb4", "#c4511d", "#d9d9d9"
HIDDEN = "#9a9a9a"  # what is known here and was kept from the model
BANDS = ((0.18, "90 %"), (0.42, "50 %"))  # opacity, label
SHOWN = 4  # horizons of history, unless told otherwise

UNNAMED = "_"  # keeps what is drawn out of the legend
Mask = NDArray[np.bool_]


def fan_chart(
    history: pd.Series,
    forecast: Forecast,
    truth: pd.Series | None = None,
    *,
    dates: pd.DatetimeIndex | None = None,
    hidden: ArrayLike | None = None,
    shown: int | None = None,
    title: str = "",
) -> Figure:
    """History, then the median of a forecast in its bands of 50 and 90 %, with the truth where it is given.

    Gaps and what was hidden from the model are shaded; values that are known but were hidden are drawn in grey.

    Parameters
    ----------
    history: values by date, ``DatetimeIndex`` or ``PeriodIndex``, NaN where missing; it may reach into the forecast's time.
    forecast: of GluonTS, paths or quantiles; one path is drawn as a line, without bands.
    truth: values by date, those outside the time of the forecast being left out.
    dates: of the forecast's steps, by default the beginnings of its own periods.
    hidden: True where the model saw nothing, of the length of history.
    shown: last steps of history that are drawn, at least 1; four horizons by default.
    title: above the picture.

    Returns a figure of its own, which ``figure.savefig(path)`` writes; pyplot is not touched. Raises ``TypeError`` for series
    without dates, ``ValueError`` for masks and dates of another length and a history that ends before it begins to be shown.
    """
    past, ahead = _dates(history, "history"), _stamps(forecast.index if dates is None else dates)
    if len(ahead) != len(forecast.index):
        raise ValueError(f"dates must be {len(forecast.index)}, one for each step of the forecast, got {len(ahead)}")
    steps = SHOWN * len(ahead) if shown is None else shown
    if steps < 1:
        raise ValueError(f"shown must be at least 1 step, got {shown}")
    mask = _mask(hidden, len(history))
    before = np.flatnonzero(past < ahead[0])[-steps:]
    if not len(before):
        raise ValueError(f"history must begin before the forecast, {ahead[0]}, got none; give the values that led to it")
    figure, axes = _canvas(title)
    values = history.to_numpy(dtype=np.float64)[before]
    _past(axes, past[before], values, mask[before])
    points = isinstance(forecast, SampleForecast) and forecast.num_samples == 1
    _fan(axes, ahead, np.stack([forecast.quantile(q) for q in LEVELS]), bands=not points)
    _truth(axes, truth, ahead)
    axes.axvline(ahead[0] - _step(ahead, past) / 2, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.7)
    return _finished(figure, axes)


def imputation_chart(
    series: pd.Series, paths: ArrayLike, truth: pd.Series | None = None, *, hidden: ArrayLike | None = None, title: str = ""
) -> Figure:
    """A series with gaps, each gap shaded and filled by the median of ``paths`` in its bands of 50 and 90 %.

    Parameters
    ----------
    series: values by date, ``DatetimeIndex`` or ``PeriodIndex``, NaN where missing.
    paths: (S, n) of the whole series, of which only the gaps are drawn; or (n,), one answer.
    truth: values by date, of which those in the gaps are drawn.
    hidden: True where the model saw nothing besides the gaps, (n,); the values of ``series`` there are the truth by default.
    title: above the picture.

    Returns and raises as :func:`fan_chart` does, and ``ValueError`` for paths of another length.
    """
    dates, values = _dates(series, "series"), series.to_numpy(dtype=np.float64)
    samples = np.atleast_2d(np.asarray(paths, dtype=np.float64))
    if samples.ndim != 2 or samples.shape[1] != len(series) or not len(samples):
        raise ValueError(f"paths must have shape (S, {len(series)}), of every date of series, got {samples.shape}")
    gaps = _mask(hidden, len(series)) | np.isnan(values)
    figure, axes = _canvas(title)
    _past(axes, dates, np.where(gaps, np.nan, values), gaps)
    quantiles = order_statistics(samples, LEVELS)
    for number, (first, last) in enumerate(_runs(gaps)):
        part = slice(first, last + 1)
        _fan(axes, dates[part], quantiles[:, part], bands=len(samples) > 1, label=number == 0)
        edge = [i for i in (first - 1, last + 1) if 0 <= i < len(dates)]
        for i, j in zip(edge, [first if i < first else last for i in edge], strict=True):
            axes.plot(dates[[i, j]], [values[i], quantiles[2, j]], color=BLUE, linewidth=1.0, alpha=0.7)
    known = values if truth is None else _at(truth, dates)
    _truth(axes, pd.Series(np.where(gaps, known, np.nan), index=dates), dates)
    return _finished(figure, axes)


def _canvas(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e8e8e8", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _past(axes: Axes, dates: pd.DatetimeIndex, values: NDArray[np.float64], hidden: Mask) -> None:
    """What is known as a line, what is hidden of it in grey, and the time of both kinds of gap shaded."""
    missing = np.isnan(values)
    step = _step(dates)
    for number, (first, last) in enumerate(_runs(missing | hidden)):
        label = "not observed" if number == 0 else UNNAMED
        axes.axvspan(dates[first] - step / 2, dates[last] + step / 2, color=GAP, alpha=0.45, linewidth=0, label=label)
    if (hidden & ~missing).any():
        axes.plot(dates, np.where(_widened(hidden), values, np.nan), color=HIDDEN, linewidth=1.0, label="hidden")
    shown = np.where(hidden, np.nan, values)
    axes.plot(dates, shown, color=INK, linewidth=1.2, label="observed")
    lonely = [first for first, last in _runs(~np.isnan(shown)) if first == last]
    axes.plot(dates[lonely], shown[lonely], color=INK, linestyle="none", marker=".", markersize=2.5)


def _fan(axes: Axes, dates: pd.DatetimeIndex, quantiles: NDArray[np.float64], *, bands: bool, label: bool = True) -> None:
    """The median, and the bands around it where there is more than a point."""
    for i, (opacity, name) in enumerate(BANDS if bands else ()):
        low, high = quantiles[i], quantiles[-1 - i]
        shown = name if label else UNNAMED
        if len(dates) == 1:
            axes.vlines(dates, low, high, color=BLUE, alpha=opacity, linewidth=4, label=shown)
        else:
            axes.fill_between(dates, low, high, color=BLUE, alpha=opacity, linewidth=0, label=shown)
    marker = "o" if len(dates) == 1 else None
    named = ("median" if bands else "forecast") if label else UNNAMED
    axes.plot(dates, quantiles[len(LEVELS) // 2], color=BLUE, linewidth=1.6, marker=marker, markersize=3, label=named)


def _truth(axes: Axes, truth: pd.Series | None, dates: pd.DatetimeIndex) -> None:
    """Where it is known within ``dates``, a value between unknown ones as a dot."""
    if truth is None:
        return
    values = _at(truth, dates)
    if np.isnan(values).all():
        return
    axes.plot(dates, values, color=TRUTH, linewidth=1.2, linestyle=(0, (5, 1.5)), label="truth")
    lonely = [first for first, last in _runs(~np.isnan(values)) if first == last]
    axes.plot(dates[lonely], values[lonely], color=TRUTH, linestyle="none", marker="o", markersize=2)


def _finished(figure: Figure, axes: Axes) -> Figure:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.margins(x=0.01)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _dates(series: pd.Series, name: str) -> pd.DatetimeIndex:
    if not isinstance(series, pd.Series) or not isinstance(series.index, pd.DatetimeIndex | pd.PeriodIndex):
        got = type(series.index).__name__ if isinstance(series, pd.Series) else type(series).__name__
        raise TypeError(f"{name} must be a pandas Series with a DatetimeIndex or PeriodIndex, got {got}")
    return _stamps(series.index)


def _at(truth: pd.Series, dates: pd.DatetimeIndex) -> NDArray[np.float64]:
    """The values at ``dates``, NaN where there are none; of an hour that the clock repeats, the first."""
    own, values = _dates(truth, "truth"), truth.to_numpy(dtype=np.float64)
    if own.equals(dates):
        return values
    first = ~own.duplicated()
    return pd.Series(values[first], index=own[first]).reindex(dates).to_numpy()


def _stamps(index: pd.Index) -> pd.DatetimeIndex:
    """Dates without time zone, periods at their beginning."""
    stamps = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else pd.DatetimeIndex(index)
    return stamps.tz_localize(None)


def _step(*indices: pd.DatetimeIndex) -> pd.Timedelta:
    """The usual distance of neighbours in the first index that has any."""
    for index in indices:
        if len(index) > 1:
            return pd.Timedelta(np.median(np.diff(index.to_numpy()).astype("timedelta64[ns]").astype(np.int64)), unit="ns")
    return pd.Timedelta(0)


def _mask(hidden: ArrayLike | None, length: int) -> Mask:
    mask = np.zeros(length, bool) if hidden is None else np.asarray(hidden).astype(bool)
    if mask.shape != (length,):
        raise ValueError(f"hidden must have shape ({length},), an entry a date, got {mask.shape}")
    return mask


def _widened(mask: Mask) -> Mask:
    """With the neighbours, so that a line reaches the values at both ends."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    return wide


def _runs(mask: Mask) -> Iterator[tuple[int, int]]:
    """First and last position of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    yield from ((int(first), int(end) - 1) for first, end in edges.reshape(-1, 2))
