"""Learnt forecasters to compare with: DeepAR of GluonTS as a peer, and DeepAR and a transformer for the predictive score."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from gluonts.model.estimator import Estimator
from gluonts.model.forecast import Forecast
from gluonts.model.predictor import Predictor
from gluonts.time_feature import get_lags_for_frequency
from gluonts.transform import ValidationSplitSampler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import StudentT
from torch.nn import functional as F

from timeseries.frequencies import Frequency

__all__ = ["DeepAR", "DeepARForecaster", "SeededPredictor", "TransformerForecaster"]

Array = NDArray[np.float64]
Entries = Iterable[Mapping[str, Any]]
START = "2000-01-03"  # of windows that have no date; a Monday


class SeededPredictor(Predictor):
    """``inner`` with the same paths whenever it is asked, whatever else draws random numbers."""

    def __init__(self, inner: Predictor, *, seed: int = 0) -> None:
        super().__init__(prediction_length=inner.prediction_length)
        self.inner, self.seed = inner, seed

    def predict(self, dataset: Entries, num_samples: int | None = None, **kwargs: Any) -> Iterator[Forecast]:
        """Of every entry in order, all made before the first comes out."""
        options = {} if num_samples is None else {"num_samples": num_samples}
        with _seeded(self.seed):
            yield from list(self.inner.predict(list(dataset), **options, **kwargs))


class DeepAR(Estimator):
    """DeepAR of ``gluonts.torch`` (Salinas et al. 2020) with its default sizes, quiet and with a seed.

    Two layers of 40 cells, Student's t, 32 windows a batch. The weights of the lowest training loss are kept.

    Parameters
    ----------
    freq, prediction_length: of the series, and the steps to forecast.
    context_length: steps over which the network runs before it forecasts, None for ``prediction_length``.
    epochs, batches: of training, GluonTS' own being 100 and 50.
    seed: of weights, windows and paths.
    accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, as Lightning names them.
    """

    def __init__(
        self,
        freq: str,
        prediction_length: int,
        context_length: int | None = None,
        *,
        epochs: int = 20,
        batches: int = 50,
        seed: int = 0,
        accelerator: str = "auto",
    ) -> None:
        super().__init__()
        _at_least_one(prediction_length=prediction_length, epochs=epochs, batches=batches)
        self.freq, self.prediction_length, self.context_length = Frequency.parse(freq).alias, prediction_length, context_length
        self.epochs, self.batches, self.seed, self.accelerator = epochs, batches, seed, accelerator

    def train(self, training_data: Entries, validation_data: Entries | None = None) -> SeededPredictor:
        """Trained on random windows of ``training_data``; with ``validation_data`` its loss chooses the weights."""
        return self.fitted(training_data, validation_data, {})

    def fitted(self, data: Entries, validation: Entries | None, options: Mapping[str, Any]) -> SeededPredictor:
        """The same with ``options`` of GluonTS' estimator besides."""
        from gluonts.torch.model.deepar import DeepAREstimator

        checked = None if validation is None else list(validation)
        with _seeded(self.seed), TemporaryDirectory() as folder:
            estimator = DeepAREstimator(
                freq=self.freq,
                prediction_length=self.prediction_length,
                context_length=self.context_length,
                num_batches_per_epoch=self.batches,
                trainer_kwargs=_trainer(folder, self.epochs, self.accelerator),
                **options,
            )
            return SeededPredictor(estimator.train(list(data), checked), seed=self.seed)


@dataclass
class DeepARForecaster:
    """:class:`DeepAR` as a :class:`~timeseries.synthesis.Downstream`: no scaling, no time features, lags within the history.

    Attributes
    ----------
    freq: of the windows, which says what the lags are.
    epochs, batches: of training, 32 windows a batch; seed: of weights and paths.
    accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``.
    """

    freq: str
    epochs: int = 10
    batches: int = 50
    seed: int = 0
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        self._predictor: SeededPredictor | None = None

    def fit(self, windows: Array, context_length: int) -> None:
        """Trains on windows (n, L), the last ``L - context_length`` values of each being what it forecasts."""
        horizon = _horizon(windows, context_length)
        made = DeepAR(
            self.freq, horizon, epochs=self.epochs, batches=self.batches, seed=self.seed, accelerator=self.accelerator
        )
        lags = [lag for lag in get_lags_for_frequency(made.freq, lag_ub=context_length) if lag <= context_length]
        sampler = ValidationSplitSampler(min_future=horizon)  # one window of each, at its end
        options = {"scaling": False, "time_features": [], "lags_seq": lags, "train_sampler": sampler}
        self._predictor = made.fitted(self._entries(windows), None, options)

    def forecast(self, history: Array, samples: int = 100) -> Array:
        """Paths (N, samples, H) after history (N, context_length). Raises ``RuntimeError`` before :meth:`fit`."""
        if self._predictor is None:
            raise RuntimeError("this DeepARForecaster is not trained yet; call fit(windows, context_length) first")
        found = self._predictor.predict(self._entries(history), num_samples=samples)
        return np.stack([forecast.samples for forecast in found]).astype(np.float64)  # type: ignore[attr-defined]

    def _entries(self, rows: Array) -> list[dict[str, Any]]:
        with _seeded(0):  # pandas warns of business days
            start = pd.Period(START, freq=Frequency.parse(self.freq).period)
        return [{"start": start, "target": row.astype(np.float32)} for row in rows]


@dataclass
class TransformerForecaster:
    """A small transformer as a :class:`~timeseries.synthesis.Downstream`.

    Patches of the history are the tokens of an encoder of two layers, a learnt query for each step of the horizon reads them
    in a decoder of two, and Student's t of each step comes out, fitted by its likelihood. Steps of a path are drawn
    independently: scores that are sums over steps, as the CRPS, do not see it.

    Attributes
    ----------
    patch: values of a token; hidden: features of it, a multiple of four heads.
    epochs, batches: of training, 64 windows a batch; seed: of weights, windows and paths.
    device: where it is trained.
    """

    patch: int = 12
    hidden: int = 32
    epochs: int = 10
    batches: int = 50
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        _at_least_one(patch=self.patch, hidden=self.hidden, epochs=self.epochs, batches=self.batches)
        if self.hidden % HEADS:
            raise ValueError(f"hidden must be a multiple of {HEADS}, the number of heads, got {self.hidden}")
        self._network: PatchTransformer | None = None

    def fit(self, windows: Array, context_length: int) -> None:
        """Adam with a rate that falls from 3e-3 to 0 along half a cosine, on random batches of windows (n, L)."""
        horizon, data = _horizon(windows, context_length), torch.from_numpy(windows).float()
        draw, steps = torch.Generator().manual_seed(self.seed), self.epochs * self.batches
        with _seeded(self.seed):
            network = PatchTransformer(context_length, horizon, patch=self.patch, hidden=self.hidden).to(self.device)
            optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            for _ in range(steps):
                batch = data[torch.randint(len(data), (BATCH,), generator=draw)].to(self.device)
                loss = -network(batch[:, :context_length]).log_prob(batch[:, context_length:]).mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
        self._network = network.eval()

    @torch.no_grad()
    def forecast(self, history: Array, samples: int = 100) -> Array:
        """Paths (N, samples, H) after history (N, context_length). Raises ``RuntimeError`` before :meth:`fit`."""
        if self._network is None:
            raise RuntimeError("this TransformerForecaster is not trained yet; call fit(windows, context_length) first")
        with _seeded(self.seed):
            pieces = torch.from_numpy(history).float().split(BATCH)
            drawn = [self._network(piece.to(self.device)).sample((samples,)).transpose(0, 1).cpu() for piece in pieces]
        return torch.cat(drawn).double().numpy()


HEADS, LAYERS, BATCH = 4, 2, 64


class PatchTransformer(nn.Module):
    """History (B, context) to Student's t of the horizon, ``loc``, ``scale`` and ``df`` each (B, horizon).

    Parameters
    ----------
    context, horizon: steps; patch: of a token, the first one padded with zeros; hidden: features of it.
    """

    def __init__(self, context: int, horizon: int, *, patch: int, hidden: int) -> None:
        super().__init__()
        self.patch, self.padding = patch, -context % patch
        tokens = (context + self.padding) // patch
        self.embed = nn.Linear(patch, hidden)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, hidden))
        self.query = nn.Parameter(0.02 * torch.randn(horizon, hidden))
        sizes: dict[str, Any] = {"nhead": HEADS, "dim_feedforward": 4 * hidden, "dropout": 0.0, "batch_first": True}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(hidden, **sizes), LAYERS)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(hidden, **sizes), LAYERS)
        self.out = nn.Linear(hidden, 3)

    def forward(self, history: Tensor) -> StudentT:
        tokens = F.pad(history, (self.padding, 0)).unflatten(1, (-1, self.patch))
        memory = self.encoder(self.embed(tokens) + self.position)
        loc, scale, df = self.out(self.decoder(self.query.expand(len(history), -1, -1), memory)).unbind(-1)
        return StudentT(2 + F.softplus(df), loc, F.softplus(scale) + 1e-4)


def _horizon(windows: Array, context_length: int) -> int:
    if windows.ndim != 2 or not len(windows) or not 0 < context_length < windows.shape[-1]:
        raise ValueError(f"windows must be (n, L) with L > context_length = {context_length} > 0, got {windows.shape}")
    return windows.shape[-1] - context_length


def _at_least_one(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _trainer(folder: str, epochs: int, accelerator: str) -> dict[str, Any]:
    """Of Lightning: nothing is shown, and nothing is left behind."""
    return {
        "max_epochs": epochs,
        "accelerator": accelerator,
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within, torch and NumPy draw from ``seed``, and neither Lightning nor GluonTS has anything to say; then as before."""
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "gluonts")
    loggers = [logging.getLogger(name) for name in names]
    levels, state = [logger.level for logger in loggers], np.random.get_state()
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        np.random.set_state(state)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
