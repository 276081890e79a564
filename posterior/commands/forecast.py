"""forecast, impute and backtest: time series in CSV files."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posterior.commands.forecast_options import SeriesOptions, with_options

if TYPE_CHECKING:
    from posterior.forecasting import Report

__all__ = ["add_to"]

Data = Annotated[Path, typer.Argument(metavar="DATA", help="CSV file with a row for each time, and a header.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="CSV file to write.")]
Levels = Annotated[str, typer.Option(metavar="Q,Q", help="Quantiles to write, between 0 and 1.")]

Plot = Annotated[Path | None, typer.Option(help="Chart of one series to write: .png, .svg or .pdf.")]
PlotId = Annotated[str | None, typer.Option(help="The series that is drawn; default: the first.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (forecast, impute, backtest):
        app.command(command.__name__)(with_options(command))


def forecast(
    data: Data,
    *,
    out: Out,
    quantiles: Levels = "0.1,0.5,0.9",
    plot: Plot = None,
    plot_id: PlotId = None,
    options: SeriesOptions,
) -> None:
    """Forecast time series: mean and quantiles of the steps that follow each."""
    _quiet()
    from posterior import forecasting
    from posterior.progress import Meter

    with Meter("forecast") as meter:
        report = forecasting.forecast(data, out, quantiles, options, plot=plot, plot_id=plot_id, progress=meter)
    _tell("forecast", report, options)


def impute(
    data: Data,
    *,
    out: Out,
    quantiles: Levels = "",
    plot: Plot = None,
    plot_id: PlotId = None,
    options: SeriesOptions,
) -> None:
    """Fill the gaps of time series; known values stay as they are."""
    _quiet()
    from posterior import forecasting
    from posterior.progress import Meter

    with Meter("impute") as meter:
        report = forecasting.impute(data, out, quantiles, options, plot=plot, plot_id=plot_id, progress=meter)
    _tell("impute", report, options)


def backtest(
    data: Data,
    *,
    windows: Annotated[int, typer.Option(min=1, help="Horizons at the end of each series, kept from training.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT", help="CSV file for the forecasts.")] = None,
    quantiles: Levels = "0.1,0.5,0.9",
    plot: Plot = None,
    plot_id: PlotId = None,
    options: SeriesOptions,
) -> None:
    """Forecast the end of time series, which is known, and score it against repeating the last season."""
    _quiet()
    from posterior import forecasting
    from posterior.progress import Meter

    with Meter("backtest") as meter:
        report = forecasting.backtest(data, out, quantiles, windows, options, plot=plot, plot_id=plot_id, progress=meter)
    _tell("backtest", report, options)


def _quiet() -> None:
    """GluonTS shall not advise faster JSON modules on stderr when it is imported."""
    warnings.filterwarnings("ignore", message="Using `json`-module")


def _tell(command: str, report: Report, options: SeriesOptions) -> None:
    if options.json:
        typer.echo(json.dumps({"command": command, **dataclasses.asdict(report)}))
    else:
        for name, scores in (("TSDiff", report.scores), ("seasonal naive", report.naive)):
            if scores is not None:
                typer.echo(f"{name}: CRPS {scores.crps:.4f}, ND {scores.nd:.4f}, NRMSE {scores.nrmse:.4f}")
        number = "1 series" if report.series == 1 else f"{report.series} series"
        typer.echo(f"{report.output or command}: {number}, {report.rows} rows, {report.seconds:.1f} s")
        for path in filter(None, (report.plot, report.model)):
            typer.echo(f"{path}: written")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
