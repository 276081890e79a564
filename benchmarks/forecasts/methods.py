"""What forecasts: the two baselines, DeepAR trained on the spot, and TSDiff from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gluonts.model.predictor import Predictor

from benchmarks.forecasts.sets import SeriesSet
from timeseries.archive import device_of
from timeseries.baselines import RidgeEstimator, SeasonalNaive
from timeseries.downstream import DeepAR, DeepARForecaster, TransformerForecaster
from timeseries.predictor import TSDiffPredictor
from timeseries.synthesis import Downstream, RidgeForecaster

__all__ = ["BASELINES", "Method", "deepar", "downstreams", "models", "shipped", "weights_of"]


@dataclass(frozen=True)
class Method:
    """``fit(data)`` trains on ``data.train`` alone, and gives a GluonTS predictor.

    Attributes
    ----------
    name: in the tables.
    fit: the method.
    settings: what else there is to know, for the record.
    """

    name: str
    fit: Callable[[SeriesSet], Predictor]
    settings: str = ""


BASELINES = (
    Method("seasonal naive", lambda data: SeasonalNaive(data.freq, data.horizon)),
    Method(
        "ridge-linear",
        lambda data: RidgeEstimator(data.freq, data.horizon, data.context).train(data.train),
        "alpha 1, 10,000 windows, seed 0",
    ),
)


def deepar(epochs: int, batches: int, *, seed: int, accelerator: str = "auto") -> Method:
    """DeepAR of GluonTS in its default size."""

    def fit(data: SeriesSet) -> Predictor:
        made = DeepAR(data.freq, data.horizon, epochs=epochs, batches=batches, seed=seed, accelerator=accelerator)
        return made.train(data.train)

    return Method("DeepAR", fit, f"{epochs} epochs of {batches} batches, seed {seed}")


def shipped(name: str, model: TSDiffPredictor, device: str = "auto") -> Method:
    """A model that was trained before."""
    way = "" if model.config.conditional else f"{model.guidance!r}, "
    return Method(name, lambda data: model, f"{way}seed {model.seed}, {device_of(device)}")


def weights_of(words: Sequence[str], sets: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Folders by set and label of ``--weights``: ``exchange=FOLDER`` or ``exchange:label=FOLDER``; the label is else "".

    Raises ``ValueError`` for other words, unknown sets and folders that are not there.
    """
    found: dict[str, dict[str, Path]] = {}
    for word in words:
        key, separator, folder = word.partition("=")
        name, _, label = key.partition(":")
        if not separator or name not in sets:
            raise ValueError(f"--weights must be SET=FOLDER or SET:LABEL=FOLDER with SET of {', '.join(sets)}, got {word!r}")
        if not (Path(folder) / "config.json").is_file():
            raise ValueError(f"--weights {word!r}: there is no predictor in {folder}; TSDiffPredictor.serialize writes one")
        found.setdefault(name, {})[label] = Path(folder)
    return found


def models(folders: Mapping[str, Path], data: SeriesSet, *, device: str = "auto") -> dict[str, TSDiffPredictor]:
    """The predictors in ``folders``, named by their kind and label; ``ValueError`` for one that forecasts otherwise."""
    found = {}
    for label, folder in folders.items():
        predictor = TSDiffPredictor.deserialize(folder, device)
        if predictor.prediction_length != data.horizon:
            got = f"{predictor.prediction_length} steps, {data.name} has {data.horizon}"
            raise ValueError(f"--weights {data.name}={folder}: the model forecasts {got}")
        kind = "TSDiff-Cond" if predictor.config.conditional else "TSDiff"
        found[f"{kind} {label}".strip()] = predictor
    return found


def downstreams(freq: str, epochs: int, batches: int, *, seed: int, accelerator: str = "auto") -> dict[str, Downstream]:
    """The forecasters of the predictive score."""
    options: dict[str, Any] = {"epochs": epochs, "batches": batches, "seed": seed}
    return {
        "ridge-linear": RidgeForecaster(),
        "DeepAR": DeepARForecaster(freq, accelerator=accelerator, **options),
        "Transformer": TransformerForecaster(device=str(device_of("cpu" if accelerator == "cpu" else "auto")), **options),
    }
