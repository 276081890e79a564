"""The demo's time series: two days of an airport's temperature forecast, and a hidden day filled, by the shipped model.

The series is one that pvlib installs with itself; it is read as a file, pvlib is not imported, and nothing is downloaded.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor
from numpy.typing import NDArray

from posterior.forecast_case import Answer, Chart, ForecastCase
from timeseries.baselines import SeasonalNaive
from timeseries.columns import Columns, FrameSeries
from timeseries.frequencies import Frequency
from timeseries.imputation import fill
from timeseries.plots import fan_chart, imputation_chart
from timeseries.predictor import TSDiffPredictor
from timeseries.series import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LEFT_OUT", "NAME", "read", "solve"]

NAME = "Forecasting"

LEFT_OUT = 'The forecasting case is left out: its series comes with pvlib. Add it by pip install "posterior[demo]".'

UNIT = "°C"
FREQUENCY = Frequency.parse("h")
FILE, DATE, TEMPERATURE = "723170TYA.CSV", "Date (MM/DD/YYYY)", "Dry-bulb (C)"
MONTHS, START = ("06", "07"), "1981-06-01 01:00"  # local standard time; June is that of 1989, see CREDIT

HIDDEN = 48
"""Hours that are forecast: the last of July, not chosen by the result."""

GAP, BEFORE = 24, 192
"""Hours that are hidden and filled, and where they begin, counted from the end."""

AROUND = 60
"""Hours that are drawn on each side of the gap."""

SUMMARY = (
    f"Hourly air temperature at an airport in July. The last {HIDDEN} hours were hidden and forecast from what precedes them; "
    f"then {GAP} hours in the middle were hidden and filled."
)
CREDIT = (
    "Greensboro, North Carolina, of the typical year TMY3 (NREL, public domain; July is that of 1981, June of 1989), "
    "as pvlib installs it."
)

Progress = Callable[[int, int], None]


def read() -> FrameSeries | None:
    """The temperature of June and July, 1464 hours; None where pvlib is not installed."""
    path = _file()
    if path is None:
        return None
    table = pd.read_csv(path, skiprows=1, usecols=[DATE, TEMPERATURE])
    values = table[TEMPERATURE][table[DATE].str[:2].isin(MONTHS)].to_numpy(dtype=np.float64)
    frame = pd.DataFrame({"ds": pd.date_range(START, periods=len(values), freq="h"), "y": values})
    return Columns().series(frame, FREQUENCY)[0]


def _file() -> Path | None:
    found = find_spec("pvlib")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder, "data", FILE)
        if path.is_file():
            return path
    return None


def solve(
    series: FrameSeries, predictor: TSDiffPredictor, *, paths: int, seed: int, progress: Progress | None = None
) -> ForecastCase:
    """Forecast the last hours of ``series`` and fill hidden ones, by ``paths`` paths each; the baseline is the last day.

    ``progress(done, total)`` is told after the forecast and after the gap. Raises ``ValueError`` for a model whose window is
    shorter than twice the forecast.
    """
    step = progress or (lambda done, total: None)
    model = predictor.for_horizon(HIDDEN)
    model = TSDiffPredictor(model.config, model.model, model.guidance, batch_size=model.batch_size, seed=seed)
    cut = len(series) - HIDDEN
    entry = series.entry(cut)
    forecast, posterior = _answer("Posterior", model, entry, paths)
    step(1, 2)
    naive = (("Seasonal naive", False), ("Seasonal naive, past errors", True))
    baselines = tuple(
        _answer(name, SeasonalNaive("h", HIDDEN, season=24, errors=errors, seed=seed), entry, paths)[1]
        for name, errors in naive
    )
    gap = slice(len(series) - BEFORE, len(series) - BEFORE + GAP)
    hidden = replace(series, target=series.target.copy())
    hidden.target[gap] = np.nan
    began = time.perf_counter()
    filled = fill(model, Series.of_entry(hidden.entry(), model.config, 0), paths)[:, gap]
    seconds = time.perf_counter() - began
    step(2, 2)
    return ForecastCase(
        name=NAME, summary=SUMMARY, credit=CREDIT, unit=UNIT,
        history=series.target[:cut], truth=series.target[cut:], posterior=posterior, baselines=baselines,
        gap=filled, gap_truth=series.target[gap], gap_seconds=seconds,
        charts=(_fan(series, forecast), _gap(series, filled, gap)), settings=_settings(model, paths, seed),
    )  # fmt: skip


def _answer(name: str, predictor: Predictor, entry: dict[str, object], paths: int) -> tuple[SampleForecast, Answer]:
    began = time.perf_counter()
    forecast = next(iter(predictor.predict([entry], paths)))  # type: ignore[call-arg]
    if not isinstance(forecast, SampleForecast):
        raise TypeError(f"predictor must forecast paths, got {type(forecast).__name__} of {name}")
    return forecast, Answer(name=name, samples=forecast.samples, seconds=time.perf_counter() - began)


def _settings(model: TSDiffPredictor, paths: int, seed: int) -> dict[str, object]:
    context = model.config.assembly.context_length
    return {
        "sampler": model.guidance,
        "paths": paths,
        "window": f"{context} hours before the forecast, with the same hours of earlier days through its lags",
        "seed": seed,
    }


# the charts


def _dated(series: FrameSeries) -> pd.Series:
    return pd.Series(series.target, index=series.grid.times(0, len(series)))


def _fan(series: FrameSeries, forecast: SampleForecast) -> Chart:
    whole = _dated(series)
    title = f"{HIDDEN} hours ahead"
    return Chart(
        title=title,
        caption=f"Temperature in {UNIT}. The truth was hidden from the model.",
        alt=f"{NAME}, {title}: the temperature of the last days, then the median of the forecast in its bands of 50 and 90 %, "
        "with the true one dashed",
        png=_png(fan_chart(whole[:-HIDDEN], forecast, whole[-HIDDEN:])),
    )


def _gap(series: FrameSeries, filled: NDArray[np.float32], gap: slice) -> Chart:
    shown = slice(max(gap.start - AROUND, 0), gap.stop + AROUND)
    whole = _dated(series)
    paths = np.repeat(series.target[None, shown], len(filled), 0)
    paths[:, gap.start - shown.start : gap.stop - shown.start] = filled
    hidden = np.zeros(len(whole), dtype=bool)
    hidden[gap] = True
    title = f"{GAP} hidden hours, filled"
    return Chart(
        title=title,
        caption=f"Temperature in {UNIT}. What is blue is the model's, which did not see the truth.",
        alt=f"{NAME}, {title}: the temperature around them, and in them the median of what the model fills in, "
        "in its bands of 50 and 90 %, with the true one dashed",
        png=_png(imputation_chart(whole[shown], paths, hidden=hidden[shown])),
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
