"""The command line ``posterior``: its commands, and what becomes of errors.

Nothing heavy is imported here or in the command modules: torch and the library wait until a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from posterior import __version__
from posterior.commands import demo, forecast, geometry, mri, restore, tomography, train, weights
from posterior.errors import one_line

__all__ = ["app", "main"]

BAD_INPUT = 2
INTERRUPTED = 130


class Commands(TyperGroup):
    """The group of commands; bad input ends as one line on stderr and exit code 2, a bug as a traceback."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands in plain text: rich would take longer to import than all the rest."""
        self.rich_markup_mode = None
        super().format_help(ctx, formatter)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:  # what Ctrl-C becomes in some versions of Typer, where others give the code
            code = INTERRUPTED
        except Exception as error:
            message = one_line(error)
            if message is None:
                raise
            typer.echo(f"error: {message}", err=True)
            code = BAD_INPUT
        if code == INTERRUPTED:
            typer.echo("error: interrupted", err=True)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    cls=Commands,
    name="posterior",
    help="Restore images, reconstruct CT and MRI, forecast series: a prior and a measurement give the posterior.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"posterior {__version__}")
        raise typer.Exit


@app.callback()
def _posterior(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _commands in (restore, geometry, tomography, mri, forecast, weights, train, demo):
    _commands.add_to(app)


def main() -> None:
    """Run the command line with the arguments of the process."""
    app(prog_name="posterior")
