"""Training as GluonTS has it: an estimator of series gives a predictor of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gluonts.model.estimator import Estimator
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

from prior.checkpoints import read_file
from timeseries.archive import device_of
from timeseries.backbone import BackboneSize
from timeseries.configuration import TSDiffConfig
from timeseries.data import WindowDataModule
from timeseries.missing import MissingScenario
from timeseries.predictor import TSDiffPredictor
from timeseries.training import TSDiffModule

__all__ = ["TSDiffEstimator", "Training"]

Entries = Iterable[Mapping[str, Any]]
AVERAGED = 0.1  # share of a run that the average covers at most


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how a model is trained; the defaults but for the average are published, with a tenth of the epochs.

    Attributes
    ----------
    epochs: at most; published are 1000 for TSDiff and 100 for TSDiff-Cond.
    batches: of an epoch; batch_size: windows of each.
    lr: of Adam; clip: largest norm of the gradient.
    decay: of the moving average of the weights, which are the result; less in runs so short that it would cover more than
        a tenth of them.
    validation_windows: windows of one prediction length, at the end of every series, that are validated on and not
        trained on; 0 trains on everything. Data to validate on may also be given to ``train``.
    validate_every: epochs between validations, which take the loss at every time with the same noise.
    patience: validations without a lower loss, after which training ends; the weights of the lowest are the result.
    hidden: what is hidden of contexts in training a conditional model, or None.
    progress: whether a progress bar is shown.
    """

    epochs: int = 100
    batches: int = 128
    batch_size: int = 64
    lr: float = 1e-3
    clip: float = 0.5
    decay: float = 0.999
    validation_windows: int = 0
    validate_every: int = 10
    patience: int = 10
    hidden: MissingScenario | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batches": 1, "batch_size": 1, "validation_windows": 0, "validate_every": 1, "patience": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        if not (self.lr > 0 and self.clip > 0 and 0 <= self.decay < 1):
            raise ValueError(f"lr and clip must be positive and decay in [0, 1), got {self.lr}, {self.clip} and {self.decay}")

    @property
    def average_decay(self) -> float:
        """``decay``, or ``1 - 10 / steps`` where that is less, and never below 0."""
        return max(0.0, min(self.decay, 1 - 1 / (AVERAGED * self.epochs * self.batches)))


class TSDiffEstimator(Estimator):
    """A GluonTS ``Estimator`` of :class:`~timeseries.diffusion.TSDiff`, or of TSDiff-Cond.

    ``TSDiffEstimator("h", 24).train(dataset)`` gives a :class:`~timeseries.predictor.TSDiffPredictor`. The same seed, data
    and machine give the same predictor. On a graphics card where there is one.

    Parameters
    ----------
    freq: frequency of the series, in any spelling.
    prediction_length: steps to forecast; context_length: observed steps of a window, see
        :func:`~timeseries.configuration.default_context`.
    conditional: whether TSDiff-Cond is trained.
    lags: see :class:`~timeseries.configuration.TSDiffConfig`, as for the next four.
    time_features, covariates: what the network sees besides the series; covariates are the rows of ``feat_dynamic_real``.
    input_skip, guidance_scale, T: see there.
    size: of the network, by default that of every published model.
    training: how long and how.
    seed: of the initial weights, windows, times and noise, and of the predictor's noise.
    accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, as Lightning names them.
    """

    def __init__(
        self,
        freq: str,
        prediction_length: int,
        context_length: int | None = None,
        *,
        conditional: bool = False,
        lags: tuple[int, ...] | None = None,
        time_features: bool = False,
        covariates: int = 0,
        input_skip: bool = False,
        guidance_scale: float = 1.0,
        T: int = 100,
        size: BackboneSize | None = None,
        training: Training | None = None,
        seed: int = 0,
        accelerator: str = "auto",
    ) -> None:
        super().__init__()
        self.config = TSDiffConfig(
            freq=freq,
            prediction_length=prediction_length,
            context_length=context_length,
            lags=lags,
            conditional=conditional,
            size=size or BackboneSize(),
            T=T,
            input_skip=input_skip,
            time_features=time_features,
            covariates=covariates,
            guidance_scale=guidance_scale,
        )
        self.prediction_length = prediction_length
        self.training, self.seed, self.accelerator = training or Training(), seed, accelerator

    def train(self, training_data: Entries, validation_data: Entries | None = None) -> TSDiffPredictor:
        """A predictor trained on ``training_data``, stopped by its loss on the last windows of ``validation_data``.

        Raises ``ValueError``, naming the series, for entries that :meth:`~timeseries.series.Series.of_entry` refuses, for a
        series of gaps alone, and where all are too short; of the shorter ones only a warning tells.
        """
        settings = self.training
        data = WindowDataModule(
            training_data,
            validation_data,
            validation_windows=settings.validation_windows,
            batch_size=settings.batch_size,
            batches=settings.batches,
            hidden=settings.hidden,
            seed=self.seed,
        )
        with torch.random.fork_rng(), _quiet(), TemporaryDirectory() as folder:
            torch.manual_seed(self.seed)
            module = TSDiffModule(self.config, lr=settings.lr)
            validated = validation_data is not None or settings.validation_windows > 0
            callbacks = self.callbacks_of_run(Path(folder), validated)
            self._trainer(Path(folder), callbacks, validated).fit(module, data)
            best = [c.best_model_path for c in callbacks if isinstance(c, ModelCheckpoint)]
            if best and best[0]:
                module.load_state_dict(read_file(Path(best[0]))["state_dict"])
        model = module.model.to(device_of("cpu" if self.accelerator == "cpu" else "auto"))
        return TSDiffPredictor(module.config, model, seed=self.seed)

    def callbacks_of_run(self, folder: Path, validated: bool) -> list[Callback]:
        """Those of Lightning in a training run that keeps its checkpoints in ``folder``; subclasses may add to them."""
        average = EMAWeightAveraging(decay=self.training.average_decay, use_buffers=False)
        if not validated:
            return [average]
        return [
            average,
            EarlyStopping("val/loss", patience=self.training.patience),
            ModelCheckpoint(dirpath=folder, filename="best", monitor="val/loss"),
        ]

    def _trainer(self, folder: Path, callbacks: list[Callback], validated: bool) -> Trainer:
        settings = self.training
        return Trainer(
            accelerator=self.accelerator,
            devices=1,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip,
            check_val_every_n_epoch=min(settings.validate_every, settings.epochs),
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validated else 0,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=validated,
            enable_progress_bar=settings.progress,
            enable_model_summary=False,
            default_root_dir=folder,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, Lightning neither reports the machine nor advises loader processes: batches are cut faster than sent."""
    names = [logging.getLogger(f"lightning.pytorch.{name}") for name in ("utilities.rank_zero", "accelerators.cuda")]
    levels = [logger.level for logger in names]
    for logger in names:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        for logger, level in zip(names, levels, strict=True):
            logger.setLevel(level)
