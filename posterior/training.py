"""``posterior train``: LightningCLI in subclass mode, so that a YAML file names the module, the data and the trainer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback

__all__ = ["run"]


def run(args: Sequence[str]) -> None:
    """``fit``, ``validate``, ``test`` or ``predict`` with LightningCLI's own arguments."""
    # the arguments are those of the command line, less the words that led here
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")
    LightningCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfigCallback,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        parser_kwargs={"prog": "posterior train"},
        args=list(args),
    )
