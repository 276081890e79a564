"""weights list, verify and export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def add_to(app: typer.Typer) -> None:
    """Register the group ``weights``."""
    group = typer.Typer(
        name="weights", help="The models that ship: what they are, whether they are intact.", invoke_without_command=True
    )
    group.callback()(_group)
    group.command("list")(list_cards)
    group.command("verify")(verify)
    group.command("export")(export)
    app.add_typer(group)


def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def list_cards(*, as_json: AsJson = False) -> None:
    """List the models that ship."""
    from prior import registry

    cards = registry.cards()
    if as_json:
        typer.echo(json.dumps({"weights": [dataclasses.asdict(card) for card in cards.values()]}, default=str))
        return
    for name, card in cards.items():
        typer.echo(f"{name}: {card.summary}; {card.parameters / 1e6:.1f} M parameters; {card.licence}")


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Which; default all.")] = None, *, as_json: AsJson = False
) -> None:
    """Check that the files of the weights are the ones that were measured."""
    from prior import registry

    checked = names or list(registry.cards())
    for name in checked:
        registry.verify(name)
    typer.echo(json.dumps({"verified": checked}) if as_json else "\n".join(f"{name}: intact" for name in checked))


def export(
    name: Annotated[str, typer.Argument(help="The model whose network the checkpoint has.")],
    checkpoint: Annotated[Path, typer.Argument(help="Training checkpoint (.ckpt).")],
    *,
    to: Annotated[Path | None, typer.Option(help="File to write; default: the file of the model's card.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the averaged weights of a training checkpoint as float16 safetensors."""
    from prior import registry

    digest = registry.export(name, checkpoint, to=to)
    typer.echo(json.dumps({"name": name, "sha256": digest}) if as_json else f"{name}: sha256 {digest}")
