"""demo: the tour, with a report to look at."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

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
    """Restore sample photos in every way and write an illustrated report."""
    from posterior import demo as tour
    from posterior.progress import Meter

    with Meter("demo") as meter:
        result = tour.run(output, quick=quick, progress=meter)
    typer.echo(json.dumps(dataclasses.asdict(result), default=str) if as_json else f"{output}: report written")
