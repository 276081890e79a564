"""demo: the tour, with a report to look at."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from posterior.demo import DemoResult

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo)


def demo(
    output: Annotated[Path, typer.Argument(help="Folder of the report.")] = Path("demo-report"),
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Small images and few steps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Restore sample photos and scans, forecast a time series, and write an illustrated report."""
    warnings.filterwarnings("ignore", message="Using `json`-module")  # which GluonTS warns of when it is imported
    from posterior import demo as tour
    from posterior.progress import Meter

    with Meter("demo") as meter:
        result = tour.run(output, tour.QUICK if quick else tour.Plan(), progress=meter)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result), default=str))
    else:
        _print(result)


def _print(result: DemoResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Task", "Method", box=None)
    for name in ("PSNR, dB", "SSIM", "seconds"):
        table.add_column(name, justify="right")
    for case in result.cases:
        methods = {**case.baseline_scores, "posterior": case.scores}
        if case.input_scores.psnr is not None:
            methods = {"input": case.input_scores, **methods}
        for i, (method, scores) in enumerate(methods.items()):
            numbers = [_number(scores.psnr, 2), _number(scores.ssim, 3), _number(scores.seconds, 1)]
            style = "bold" if method == "posterior" else None
            table.add_row("" if i else case.name, method, *numbers, style=style, end_section=method == "posterior")
    Console().print(table)
    if result.forecasts:
        Console().print(_forecasts(result))
    if result.left_out:
        typer.echo(result.left_out)
    count = len(result.cases) + len(result.forecasts)
    typer.echo(f"{result.report}: {count} cases, {result.seconds:.0f} s; open it in a browser")


def _forecasts(result: DemoResult) -> Table:
    from rich.table import Table

    table = Table("Task", "Method", box=None)
    for name in ("CRPS", "ND", "seconds"):
        table.add_column(name, justify="right")
    for case in result.forecasts:
        methods = {**case.baseline_scores, "posterior": case.scores}
        for i, (method, scores) in enumerate(methods.items()):
            numbers = [_number(scores.crps, 4), _number(scores.nd, 4), _number(scores.seconds, 1)]
            table.add_row("" if i else case.name, method, *numbers, style="bold" if method == "posterior" else None)
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
