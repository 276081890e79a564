"""train: everything after it belongs to LightningCLI."""

from __future__ import annotations

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command; its options, ``--help`` included, are passed on."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
    app.command("train", add_help_option=False, context_settings=settings)(train)


def train(context: typer.Context) -> None:
    """Train a model: fit, validate, test or predict, as in `posterior train fit --config prior/configs/photos.yaml`."""
    from posterior import training

    training.run(context.args or ["--help"])
