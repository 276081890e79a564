"""Fan charts of the first windows of a set."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from gluonts.model.forecast import SampleForecast
from numpy.typing import NDArray

from benchmarks.forecasts.sets import SeriesSet

__all__ = ["DRAWN", "draw"]

DRAWN = 3  # series of a set


def draw(folder: Path, data: SeriesSet, method: str, samples: NDArray[np.float32]) -> None:
    """Of the first series in their last window; ``forecast_exchange_ridge_linear_0.png`` and alike.

    samples: paths (N, S, H) of all windows of ``data``.
    """
    from timeseries.plots import fan_chart

    folder.mkdir(parents=True, exist_ok=True)
    series = len(data.test) // data.windows
    for i in range(min(DRAWN, series)):
        place = len(data.test) - series + i
        entry = data.test[place]
        dates = _dates(entry["start"], len(entry["target"]) + data.horizon, data.freq)
        history = pd.Series(entry["target"], dates[: -data.horizon])
        forecast = SampleForecast(samples=samples[place], start_date=dates[-data.horizon].to_period(entry["start"].freq))
        truth = pd.Series(data.truth[place], dates[-data.horizon :])
        figure = fan_chart(history, forecast, truth, title=f"{data.name}, {entry['item_id']}: {method}")
        word = re.sub(r"[^a-z0-9]+", "_", f"{data.name} {method} {i}".lower()).strip("_")
        figure.savefig(folder / f"forecast_{word}.png")


def _dates(start: pd.Period, length: int, freq: str) -> pd.DatetimeIndex:
    return pd.date_range(start.to_timestamp(), periods=length, freq=freq)
