"""Beside plain forecasts: from gappy histories, by refinement of the baselines, and by what is fitted on synthetic series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from gluonts.model.predictor import Predictor
from numpy.typing import NDArray

from benchmarks.forecasts.rows import Row, forecasts, row, timed
from benchmarks.forecasts.sets import SeriesSet
from timeseries.baselines import random_windows
from timeseries.configuration import TSDiffConfig
from timeseries.data import RandomWindows
from timeseries.diffusion import TSDiff
from timeseries.features import Covariates
from timeseries.guidance import Energy, QuantileEnergy, SquareEnergy
from timeseries.langevin import Descent, Langevin
from timeseries.missing import SCENARIOS, MissingScenario
from timeseries.predictor import TSDiffPredictor
from timeseries.refinement import Dynamics, ImplicitEnergy, Refiner, representative_step
from timeseries.series import Series, series_of
from timeseries.synthesis import Downstream, predictive_score
from timeseries.windows import Window

__all__ = ["hidden_entries", "lps", "missing", "refined", "refiners"]

STEPS = {"exchange": 0.01}
"""Published steps of refinement where they are not 0.1."""


def hidden_entries(data: SeriesSet, kind: str, *, seed: int = 0) -> SeriesSet:
    """``data`` with half of the context of every test window hidden, as ``kind`` of :class:`MissingScenario` says."""
    scenario = MissingScenario(kind=kind, count=data.context // 2, context_length=data.context)
    masks = scenario.hidden(len(data.test), seed=seed).numpy()
    return replace(data, test=[_without(entry, mask) for entry, mask in zip(data.test, masks, strict=True)])


def _without(entry: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
    target = np.array(entry["target"], dtype=np.float32)
    end = target[-len(mask) :]
    end[mask[len(mask) - len(end) :]] = np.nan
    return {**entry, "target": target}


def missing(data: SeriesSet, predictors: Mapping[str, Predictor], paths: int) -> Iterator[Row]:
    """Forecasts of every predictor, trained without gaps, from each kind of gap."""
    for kind in SCENARIOS:
        gappy = hidden_entries(data, kind)
        for name, predictor in predictors.items():
            samples, seconds = timed(partial(forecasts, predictor, gappy.test, paths))
            yield row(data, f"missing {kind}", name, samples, (None, seconds), f"{data.context // 2} of {data.context} hidden")


def refiners(step: float, tau: int) -> dict[str, Refiner]:
    """The four published variants: maximum likelihood and Langevin, with the square and the quantile energy."""
    dynamics: dict[str, Dynamics] = {"ML": Descent(lr=step), "LMC": Langevin(eta=step)}
    energies: dict[str, Energy] = {"MS": SquareEnergy(), "Q": QuantileEnergy()}
    return {
        f"{d}-{e}": Refiner(energy=ImplicitEnergy(regulariser=energy, tau=tau), dynamics=dynamic)
        for d, dynamic in dynamics.items()
        for e, energy in energies.items()
    }


def refined(
    data: SeriesSet, bases: Mapping[str, Predictor], name: str, model: TSDiffPredictor, paths: int, *, windows: int = 256
) -> Iterator[Row]:
    """Each base forecast, and what each variant makes of it with the model ``name``, which all but TSDiff are told with.

    tau is found on ``windows`` training windows.
    """
    whose = "" if name == "TSDiff" else f" of {name}"
    series = [Series.of_entry(entry, model.config, i).known() for i, entry in enumerate(data.test)]
    window, network = model.window(series), _unconditional(model)
    tau, seconds = timed(lambda: representative_step(network, _training_window(data, model, windows), batch=model.batch_size))
    step = STEPS.get(data.name, 0.1)
    for base_name, base in bases.items():
        samples, took = timed(partial(forecasts, base, data.test, paths))
        yield row(data, "refine", base_name, samples, (None, took), "")
        start = torch.from_numpy(samples)
        for variant, refiner in refiners(step, tau).items():
            found, took = timed(partial(_paths, refiner, model, window, start, paths))
            settings = f"tau {tau} in {seconds:.1f} s, step {step}, seed {model.seed}"
            yield row(data, "refine", f"{base_name}, {variant}{whose}", found, (None, took), settings)


def _paths(refiner: Refiner, model: TSDiffPredictor, window: Window, base: torch.Tensor, paths: int) -> NDArray[np.float32]:
    options = {"paths": paths, "seed": model.seed, "batch": model.batch_size}
    return refiner.refine(_unconditional(model), window, base, **options).float().cpu().numpy()


def _training_window(data: SeriesSet, model: TSDiffPredictor, count: int) -> Window:
    batch = RandomWindows(series_of(data.train, model.config), model.config, batch_size=count)[0]
    like = next(model.model.parameters())
    covariates = None if batch.steps is None else Covariates(steps=batch.steps.to(like))
    return _unconditional(model).window(batch.past.to(like), future=batch.future.to(like), covariates=covariates)


def _unconditional(model: TSDiffPredictor) -> TSDiff:
    if model.config.conditional:
        raise ValueError("refinement needs an unconditional model; give TSDiff instead of TSDiff-Cond")
    return cast(TSDiff, model.model)


def lps(
    data: SeriesSet,
    models: Mapping[str, TSDiffPredictor],
    downstreams: Mapping[str, Downstream],
    paths: int,
    *,
    windows: int = 10_000,
) -> Iterator[Row]:
    """The predictive score of real training windows and of each model's synthetic ones."""
    config = TSDiffConfig(freq=data.freq, prediction_length=data.horizon, context_length=data.context, lags=())
    draws: dict[str, tuple[int, Callable[[], NDArray[Any]]]] = {
        "real windows": (
            data.context,
            lambda: np.nan_to_num(random_windows(series_of(data.train, config), config, count=windows)),
        )
    }
    for name, model in models.items():
        draws[name] = (model.config.assembly.context_length, partial(model.sample, windows))
    for name, (context, draw) in draws.items():
        synthetic, seconds = timed(draw)
        real = _last(data, context + data.horizon)
        for which, downstream in downstreams.items():
            score = partial(predictive_score, downstream, synthetic, real, context_length=context, samples=paths)
            scores, took = timed(score)
            yield Row(
                set=data.name, study="lps", method=f"{which} on {name}", series=len(data.test) // data.windows,
                windows=data.windows, paths=paths, crps=scores.crps, nd=scores.nd, nrmse=scores.nrmse, fit_seconds=seconds,
                seconds=took, settings=f"{windows} windows",
            )  # fmt: skip


def _last(data: SeriesSet, length: int) -> NDArray[np.float64]:
    """The last ``length`` values of each test window with its truth, NaN before a series begins."""
    rows = np.full((len(data.test), length), np.nan)
    for values, entry, truth in zip(rows, data.test, data.truth, strict=True):
        known = np.concatenate([entry["target"], truth])[-length:]
        values[length - len(known) :] = known
    return rows
