"""Gaps of a series filled by the unconditional model: windows around them, held to all that is observed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from timeseries.batches import cut_windows, seed_of
from timeseries.conditional import TSDiffCond
from timeseries.configuration import TSDiffConfig
from timeseries.features import Covariates
from timeseries.predictor import TSDiffPredictor
from timeseries.scaling import typical_scale
from timeseries.series import Series
from timeseries.windows import filled

__all__ = ["fill", "places"]


def places(target: NDArray[np.float32], config: TSDiffConfig) -> list[tuple[int, NDArray[np.intp]]]:
    """Windows that hold all gaps of ``target``: the step at which each one's forecast part begins, and the gaps it fills.

    The first gap lies a quarter of the window in, and the window fills all up to three quarters; the next one begins with the
    first gap left. At the ends windows fill to their edge. Of a gap of more than half a window the parts are filled
    independently.
    """
    context, length = config.assembly.context_length, config.assembly.length
    n, gaps, found = len(target), np.flatnonzero(np.isnan(target)), []
    first = n - length if n > config.prediction_length else min(n - context, 0)
    while len(gaps):
        begin = min(max(int(gaps[0]) - length // 4, min(first, 0)), max(first, min(first, 0)))
        edge = n if begin + length >= n else begin + length - length // 4
        found.append((begin + context, gaps[gaps < edge]))
        gaps = gaps[gaps >= edge]
    return found


def fill(predictor: TSDiffPredictor, series: Series, paths: int, *, number: int = 0) -> NDArray[np.float32]:
    """``paths`` series without gaps, (S, n), with every known value as it is.

    The observations before, after and, through the lags, a cycle away from a gap guide it. Path i of a window has its own
    noise, of the predictor's seed and ``number``, that of the series. A series of zeros and gaps is filled with 0. Raises
    ``TypeError`` for a conditional model, ``ValueError`` for a series without a value and where the chain diverges.
    """
    model, config = predictor.model, predictor.config
    if isinstance(model, TSDiffCond):
        raise TypeError("imputing needs an unconditional model, got TSDiffCond; train with conditional=False")
    target = series.known().target
    whole, found = np.repeat(target[None], paths, 0), places(target, config)
    if not np.nan_to_num(target).any():
        return np.nan_to_num(whole)
    if not found:
        return whole
    batch, like = cut_windows([(series, split) for split, _ in found], config), next(model.parameters())
    past, future = batch.past.to(like), batch.future.to(like)
    context, observed = filled(past[:, -config.assembly.context_length :])
    scale = model.scaler(context, observed)
    scale[(context == 0).all(1)] = typical_scale([torch.from_numpy(target)])
    covariates = None if batch.steps is None else Covariates(steps=batch.steps.to(like))
    window = model.window(past, future=future, covariates=covariates, scale=scale)
    try:
        seed = seed_of("fill", predictor.seed, number)
        drawn = predictor.guidance.sample(model, window, paths, seed=seed, batch=predictor.batch_size)
    except ValueError as error:
        raise ValueError(f"series {series.name}, windows counted from 0: {error}") from error
    samples = drawn.float().cpu().numpy()
    for part, (split, gaps) in zip(samples, found, strict=True):
        whole[:, gaps] = part[:, gaps - split + config.assembly.context_length]
    return whole
