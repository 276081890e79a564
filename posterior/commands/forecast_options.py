"""Options that forecast, impute and backtest share: where the series are, and the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from posterior.commands.options import Device
from posterior.commands.unfolding import unfolded

__all__ = ["SeriesOptions", "with_options"]

DATA, MODEL, OUTPUT = "Data", "Model", "Output"


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """Where in the file the series are, which model is used or trained, and how the result is written."""

    time: Annotated[str, typer.Option(help="Column of the times.", rich_help_panel=DATA)] = "ds"
    target: Annotated[str | None, typer.Option(help="Column of the values; default y.", rich_help_panel=DATA)] = None
    id: Annotated[str | None, typer.Option(help="Column that tells several series apart.", rich_help_panel=DATA)] = None
    wide: Annotated[
        bool, typer.Option("--wide", help="Each column but that of the times is a series.", rich_help_panel=DATA)
    ] = False
    covariates: Annotated[
        str,
        typer.Option(metavar="A,B", help="Columns known beforehand; the last rows, without values, are the future.",
                     rich_help_panel=DATA),
    ] = ""  # fmt: skip
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unsorted, missing and shifted times.", rich_help_panel=DATA)
    ] = False
    freq: Annotated[
        str | None, typer.Option(help="Of the series: h, 15min, D, B, W, MS ...; default: the model's.", rich_help_panel=DATA)
    ] = None
    horizon: Annotated[
        int | None, typer.Option(min=1, help="Steps to forecast; default: the model's.", rich_help_panel=DATA)
    ] = None
    model: Annotated[
        Path | None,
        typer.Option(help="Trained model: a folder of --save or a .ckpt; default, for hours: hourly, which ships.",
                     rich_help_panel=MODEL),
    ] = None  # fmt: skip
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Train first, on the given data.", rich_help_panel=MODEL)
    ] = None
    batches: Annotated[int, typer.Option(min=1, help="Of 64 windows, an epoch.", rich_help_panel=MODEL)] = 128
    context: Annotated[
        int | None, typer.Option(min=1, help="Steps before the forecast that training shows.", rich_help_panel=MODEL)
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Strength of the pull towards what is known; default: the model's, 1 if trained here.",
                     rich_help_panel=MODEL),
    ] = None  # fmt: skip
    save: Annotated[Path | None, typer.Option(help="New folder for the trained model.", rich_help_panel=MODEL)] = None
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Sample paths of each series.", rich_help_panel=MODEL)] = 100
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result.", rich_help_panel=MODEL)] = 0
    device: Annotated[
        Device, typer.Option(help="Where to compute; auto takes a GPU where there is one.", rich_help_panel=MODEL)
    ] = Device.auto
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.", rich_help_panel=OUTPUT)] = (
        False
    )
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace files that are there.", rich_help_panel=OUTPUT)
    ] = False


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command(..., options=SeriesOptions)`` as a function that takes the options one by one."""
    return unfolded(command, "options", SeriesOptions)
