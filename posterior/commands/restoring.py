"""How a restoring command is made: its own options and the shared ones, one job, and what it prints."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from posterior.commands.options import Options

if TYPE_CHECKING:
    from posterior.jobs import Job, Outcome, Result
    from posterior.tasks import Task

__all__ = ["restoring"]

Image = Annotated[Path, typer.Argument(metavar="IN", help="Image, or folder of images: PNG, JPEG, TIFF or WebP.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Where to write: an image for an image, a folder for a folder.")]


def restoring(app: typer.Typer) -> Callable[[Callable[..., Task | Job]], Callable[..., None]]:
    """Decorator: registers a command IN OUT with the options of the function, which gives the task, and the shared ones.

    Where the function gives a job instead, that restores the files in its own way.
    """

    def register(make: Callable[..., Task | Job]) -> Callable[..., None]:
        own = _parameters(make)
        shared = _parameters(Options)

        def command(**given: Any) -> None:
            options = Options(**{name: given[name] for name in shared})
            work = make(**{name: given[name] for name in own})
            _run(make.__name__, work, given["image"], given["out"], options)

        paths = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=a)
            for name, a in (("image", Image), ("out", Out))
        ]
        command.__signature__ = inspect.Signature([*paths, *own.values(), *shared.values()])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*paths, *own.values(), *shared.values())}
        app.command(make.__name__, help=make.__doc__)(command)
        return command

    return register


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, localns={"Task": object, "Job": object}, include_extras=True)  # they would import torch
    return {
        name: p.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, p in inspect.signature(function).parameters.items()
    }


def _run(name: str, work: Task | Job, image: Path, out: Path, options: Options) -> None:
    from posterior import jobs
    from posterior.progress import Meter

    with Meter(name) as meter:
        if isinstance(work, jobs.Job):
            outcome = work.run(image, out, options, meter)
        else:
            outcome = jobs.run(work, image, out, options, meter)
    if options.json:
        typer.echo(json.dumps({"command": name, **dataclasses.asdict(outcome)}, default=str))
    else:
        _print(outcome)
    for failure in outcome.failures:
        typer.echo(f"error: {failure.error}", err=True)
    if outcome.failures:
        raise typer.Exit(1)


def _print(outcome: Outcome) -> None:
    for r in outcome.results:
        fit = "" if r.residual_ratio is None else f", residual {r.residual_ratio:.2f} of the noise"
        share = "" if r.measured_share is None else f", {100 * r.measured_share:.0f} % measured, the rest filled in"
        typer.echo(f"{r.output}: {r.width} x {r.height}, {r.seconds:.1f} s{fit}{share}{_trust(r)}")


def _trust(r: Result) -> str:
    if r.std is None:
        return ""
    if r.calibration is None:
        return "; the spread of the samples is not calibrated for this task"
    level, factor = r.calibration.levels[-1], r.calibration.factors[-1]
    return f"; {100 * level:.0f} % of the values are expected within {factor:.1f} standard deviations (calibrated)"
