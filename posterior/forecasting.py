"""Time series from CSV files to CSV files: a model, read or trained first, and what it makes of them."""

from __future__ import annotations

import io
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from posterior.commands.forecast_options import SeriesOptions
from posterior.images import write_atomically
from posterior.outputs import check_output, compute_device
from prior import registry
from timeseries.backtests import check_windows
from timeseries.columns import Columns, FrameSeries
from timeseries.frames import Forecaster
from timeseries.frequencies import Frequency
from timeseries.predictor import TSDiffPredictor
from timeseries.scores import Scores
from timeseries.tables import Made, check_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report", "backtest", "forecast", "impute"]

HOURLY = "hourly"  # the model that ships
PLOTS = (".png", ".svg", ".pdf")
SHOWN = 4  # horizons of history in a chart

SPOKEN = {
    r"^(time|id|target) must not be": r"--\1 must not be",
    r"^levels must": "--quantiles must",
    r"columns name (\d+)": r"--covariates names \1",
    r"regularise=True allows it": "leave out --strict to allow it",
    r"lower scale$": "lower --guidance",
}
"""What the library's errors call its arguments, and how the command line says it."""

Progress = Callable[[float, float], None]


@contextmanager
def _spoken() -> Iterator[None]:
    """Within, errors name the options of the command line."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        for said, spoken in SPOKEN.items():
            message = re.sub(said, spoken, message)
        if message == str(error):
            raise
        raise ValueError(message) from error


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a command did, as ``--json`` gives it: files, series and rows, seconds, warnings, and the scores of a backtest."""

    output: str | None
    series: int
    rows: int
    seconds: float
    plot: str | None = None
    model: str | None = None
    scores: Scores | None = None
    naive: Scores | None = None
    warnings: tuple[str, ...] = ()


@_spoken()
def forecast(
    data: Path,
    out: Path,
    quantiles: str,
    options: SeriesOptions,
    *,
    plot: Path | None = None,
    plot_id: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Forecast the series of ``data`` into ``out``, and draw one of them."""
    levels = _levels(quantiles)
    work = _Work("forecast", levels, options, data, out, plot, plot_id)
    df, forecaster, series = work.begin(progress)
    number = _number(series, plot_id)
    forecasts = forecaster.forecasts(df, progress=progress)
    files = [] if plot is None else [(plot, _drawn(_chart(series[number], forecasts[number]), plot))]
    table = forecaster.table(forecasts, df, levels=levels)
    return work.end([*files, (out, _csv(table))], output=out, plot=plot, series=len(series), rows=len(table))


@_spoken()
def impute(
    data: Path,
    out: Path,
    quantiles: str,
    options: SeriesOptions,
    *,
    plot: Path | None = None,
    plot_id: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Fill the gaps of the series of ``data`` into ``out``, and draw the longest of one of them."""
    levels = _levels(quantiles) if quantiles else ()
    if levels and options.wide:
        raise ValueError("--quantiles is for long files; the filled file of --wide has its columns")
    work = _Work("imputation", levels, options, data, out, plot, plot_id)
    df, forecaster, series = work.begin(progress)
    number = _number(series, plot_id)
    made = forecaster.imputations(df, progress=progress)
    filled = forecaster.filled(made, levels=levels)
    files = [] if plot is None else [(plot, _drawn(_gap_chart(*made[number], forecaster.predictor.prediction_length), plot))]
    return work.end([*files, (out, _csv(filled))], output=out, plot=plot, series=len(made), rows=len(filled))


@_spoken()
def backtest(
    data: Path,
    out: Path | None,
    quantiles: str,
    windows: int,
    options: SeriesOptions,
    *,
    plot: Path | None = None,
    plot_id: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Forecast the last ``windows`` horizons of the series of ``data``; a model trained here has not seen them.

    Drawn is the last window of one series.
    """
    levels = _levels(quantiles)
    work = _Work("backtest", levels, options, data, out, plot, plot_id)
    df, forecaster, series = work.begin(progress, windows=windows)
    number, horizon = _number(series, plot_id), forecaster.predictor.prediction_length
    found = forecaster.backtest(df, windows, levels=levels, progress=progress)
    files = [] if out is None else [(out, _csv(found.frame))]
    if plot is not None:
        files.append((plot, _drawn(_chart(series[number], found.forecasts[number], known=horizon), plot)))
    scores = {"scores": found.scores, "naive": found.naive}
    return work.end(files, output=out, plot=plot, series=len(series), rows=len(found.frame), **scores)


class _Work:
    """What every command does around its own: checks and the model before, files and report after."""

    def __init__(
        self,
        made: Made,
        levels: Sequence[float],
        options: SeriesOptions,
        data: Path,
        out: Path | None,
        plot: Path | None,
        plot_id: str | None,
    ) -> None:
        self.made, self.options, self.data, self.plot_id, self.began = made, options, data, plot_id, time.monotonic()
        self.warnings: list[str] = []
        for path, suffixes in ((out, (".csv",)), (plot, PLOTS)):
            if path is not None:
                check_output(path, suffixes, overwrite=options.overwrite)
                if path.exists() and data.exists() and path.samefile(data):
                    raise ValueError(f"{path} is the input, which is never replaced; name another file")
        if plot_id is not None and plot is None:
            raise ValueError("--plot-id names the series that --plot draws; give --plot too, or leave it out")
        _check(options)
        self.columns = _columns(options)
        check_names(made, levels, self.columns)

    def begin(self, progress: Progress | None, *, windows: int = 0) -> tuple[pd.DataFrame, Forecaster, list[FrameSeries]]:
        """The frame of the data, the forecaster and the series, checked; then it is trained, and kept, if asked for."""
        options, columns, model = self.options, self.columns, _model(self.options)
        df = _read(self.data, columns)
        if model is None:
            estimator = _estimator(options, len(columns.covariates), progress)
            forecaster, config = Forecaster(estimator, columns), estimator.config
        else:
            forecaster = _loaded(model, options, columns)
            config = forecaster.predictor.config
        series = columns.series(df, config.frequency, whole=self.made == "imputation")
        _number(series, self.plot_id)
        if self.made == "backtest":
            check_windows(series, windows, config.prediction_length)
        elif self.made == "forecast":
            for one in series:
                one.check_future(config.prediction_length)
        if model is None:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", UserWarning)
                forecaster.fit(df, held_out=windows)
            self.warnings += [str(w.message) for w in told if " series " in str(w.message)]
        _set(forecaster.predictor, options)
        if options.save is not None:
            forecaster.save(options.save)
        return df, forecaster, series

    def end(self, files: list[tuple[Path, bytes]], **found: Any) -> Report:
        """Write ``files``, completely or not at all each; say what was done."""
        saved = self.options.save
        for path, content in files:
            write_atomically(path, content)
        paths = {name: None if found.get(name) is None else str(found[name]) for name in ("output", "plot")}
        seconds = round(time.monotonic() - self.began, 3)
        told = {"model": None if saved is None else str(saved), "seconds": seconds, "warnings": tuple(self.warnings)}
        return Report(**{**found, **paths, **told})


def _check(options: SeriesOptions) -> None:
    """Raise ``ValueError`` or ``OSError`` for options that cannot go together, before anything is read."""
    if options.model is not None and options.epochs is not None:
        raise ValueError("give one of --model and --epochs, got both: a model is read or trained, not trained further")
    if _model(options) is None:
        _training(options)
    elif options.context is not None or options.save is not None:
        raise ValueError("--context and --save are for models trained here, by --epochs; others are as they are")
    if options.save is not None and options.save.exists():
        raise FileExistsError(f"{options.save} is there already; --save needs a new folder")
    if options.save is not None and not options.save.parent.is_dir():
        raise FileNotFoundError(f"{options.save}: there is no folder {options.save.parent}")
    if options.wide and (options.target is not None or options.id is not None):
        raise ValueError("--wide takes every column for a series; leave out --target and --id")
    if options.freq is not None:
        Frequency.parse(options.freq)
    if options.guidance is not None and not math.isfinite(options.guidance):
        raise ValueError(f"--guidance must be finite and at least 0, got {options.guidance}")
    compute_device(options.device)


def _columns(options: SeriesOptions) -> Columns:
    target = None if options.wide else options.target or "y"
    covariates = tuple(name.strip() for name in options.covariates.split(",") if name.strip())
    return Columns(time=options.time, target=target, id=options.id, covariates=covariates, regularise=not options.strict)


def _model(options: SeriesOptions) -> Path | None:
    """The folder or name of the model, for hours the one that ships; None where one is trained."""
    if options.model is not None or options.epochs is not None:
        return options.model
    hours = options.freq is not None and Frequency.parse(options.freq).reduced == Frequency.parse("h")
    return Path(HOURLY) if hours and not options.covariates else None


def _training(options: SeriesOptions) -> tuple[str, int, int]:
    """Frequency, horizon and epochs of a model to train; raises ``ValueError`` where they are not given."""
    if options.epochs is None:
        raise ValueError(
            "the model that ships is for --freq h, without covariates: "
            "otherwise train one on the data by --epochs 100, or name one by --model"
        )
    if options.freq is None or options.horizon is None:
        raise ValueError("training needs --freq and --horizon, such as --freq h --horizon 24")
    return options.freq, options.horizon, options.epochs


def _read(path: Path, columns: Columns) -> pd.DataFrame:
    """Times and ids stay texts, so that ``007`` is not 7."""
    texts = {name: str for name in (columns.time, columns.id) if name is not None}
    try:
        return pd.read_csv(path, dtype=texts)  # type: ignore[arg-type]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error


def _loaded(model: Path, options: SeriesOptions, columns: Columns) -> Forecaster:
    """The forecaster in the folder or training checkpoint ``model``, or of the shipped model of that name."""
    device = compute_device(options.device)
    if options.model is None or (not model.exists() and str(model) in registry.cards()):
        forecaster = Forecaster(TSDiffPredictor.shipped(str(model), device=device), columns)
    elif model.suffix == ".ckpt":
        forecaster = Forecaster(TSDiffPredictor.from_checkpoint(model, device=device), columns)
    else:
        forecaster = Forecaster.load(model, columns=columns, device=device)
    predictor = forecaster.predictor
    if options.freq is not None and Frequency.parse(options.freq).reduced != predictor.config.frequency.reduced:
        raise ValueError(f"--freq {options.freq}: the model {model} is for {predictor.config.freq!r}; leave --freq out")
    if options.horizon in (None, predictor.prediction_length):
        return forecaster
    try:
        return Forecaster(predictor.for_horizon(options.horizon), forecaster.columns)
    except ValueError as error:
        raise ValueError(f"--horizon {options.horizon}: {error}") from error


def _estimator(options: SeriesOptions, covariates: int, progress: Progress | None) -> Any:
    from posterior.forecast_training import MeteredEstimator
    from timeseries.estimator import Training

    freq, horizon, epochs = _training(options)
    estimator = MeteredEstimator(
        freq,
        horizon,
        options.context,
        covariates=covariates,
        training=Training(epochs=epochs, batches=options.batches),
        seed=options.seed,
        accelerator="cpu" if compute_device(options.device).type == "cpu" else "gpu",
    )
    estimator.meter = progress
    return estimator


def _set(predictor: TSDiffPredictor, options: SeriesOptions) -> None:
    predictor.num_samples, predictor.seed = options.samples, options.seed
    if options.guidance is not None:
        if predictor.config.conditional:
            raise ValueError("--guidance is for unconditional models; the model is TSDiff-Cond, which is not guided")
        predictor.guidance = replace(predictor.guidance, scale=options.guidance)


def _levels(text: str) -> tuple[float, ...]:
    try:
        levels = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError as error:
        raise ValueError(f"--quantiles must be numbers with commas between, such as 0.1,0.5,0.9, got {text!r}") from error
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"--quantiles must lie between 0 and 1, got {text!r}")
    return levels


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _number(series: Sequence[FrameSeries], name: str | None) -> int:
    """The place of the series called ``name``, the first without; raises ``ValueError`` where there is none."""
    names = [str(one.label) for one in series]
    if name is not None and name not in names:
        raise ValueError(f"--plot-id {name}: there is no such series; the first of {len(names)} is {names[0]}")
    return 0 if name is None else names.index(name)


def _chart(series: FrameSeries, forecast: Any, *, known: int = 0) -> Figure:
    """The forecast after the series, or of its last ``known`` steps, the truth beside it."""
    from timeseries.plots import fan_chart

    whole, cut = _dated(series), len(series) - known
    dates = series.grid.times(cut, forecast.prediction_length)
    return fan_chart(whole[:cut], forecast, whole[cut:] if known else None, dates=dates, title=str(series.label))


def _gap_chart(series: FrameSeries, paths: Any, horizon: int) -> Figure:
    """What the longest gap is filled with, and two horizons on each side."""
    from timeseries.plots import imputation_chart

    gaps = np.isnan(series.target)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], gaps, [0]])))
    first, end = max(edges.reshape(-1, 2), key=lambda gap: gap[1] - gap[0], default=(len(series), len(series)))
    shown = slice(max(first - 2 * horizon, 0), end + 2 * horizon)
    return imputation_chart(_dated(series)[shown], paths[:, shown], title=str(series.label))


def _dated(series: FrameSeries) -> pd.Series:
    return pd.Series(series.target, index=series.grid.times(0, len(series)))


def _drawn(figure: Figure, path: Path) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower())
    return buffer.getvalue()
