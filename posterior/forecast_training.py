"""Training of a forecaster that the command line's progress bar follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from timeseries.estimator import TSDiffEstimator

__all__ = ["MeteredEstimator"]

Progress = Callable[[float, float], None]


class MeteredEstimator(TSDiffEstimator):
    """Calls ``meter(done, total)`` after every batch, where there is one."""

    meter: Progress | None = None

    def callbacks_of_run(self, folder: Path, validated: bool) -> list[Callback]:
        meter = [] if self.meter is None else [_Steps(self.meter, self.training.epochs * self.training.batches)]
        return [*super().callbacks_of_run(folder, validated), *meter]


class _Steps(Callback):
    def __init__(self, meter: Progress, total: int) -> None:
        self.meter, self.total = meter, total

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.meter(trainer.global_step, self.total)
