"""How useful synthetic series are: forecasters fitted on them alone, and scored on real series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import Ridge
from torch import Tensor

from timeseries.scores import Scores

__all__ = ["Downstream", "RidgeForecaster", "linear_predictive_score", "mean_scaling", "min_max_scaling", "predictive_score"]

Array = NDArray[np.float64]
Scaling = Callable[[Array], tuple[Array, Array]]

FLOOR = 1e-7
"""The least scale: a history of zeros, or a constant one under min-max scaling, is divided by this."""


def mean_scaling(history: Array) -> tuple[Array, Array]:
    """``loc = 0``, ``scale = mean |history|`` over the known values, at least 1e-7.

    history (N, Lc), NaN where unknown; both results (N, 1). A history without any known value has scale 1e-7.
    """
    known = ~np.isnan(history)
    size = np.where(known, np.abs(history), 0.0).sum(-1, keepdims=True) / np.maximum(known.sum(-1, keepdims=True), 1)
    return np.zeros_like(size), np.maximum(size, FLOOR)


def min_max_scaling(history: Array) -> tuple[Array, Array]:
    """``loc = min``, ``scale = max - min`` of the known history, at least 1e-7; for generators that draw within [0, 1].

    history (N, Lc), NaN where unknown; both results (N, 1). A history without any known value has loc 0 and scale 1e-7.
    """
    known = ~np.isnan(history)
    low = np.where(known, history, np.inf).min(-1, keepdims=True)
    high = np.where(known, history, -np.inf).max(-1, keepdims=True)
    empty = ~known.any(-1, keepdims=True)
    return np.where(empty, 0.0, low), np.maximum(np.where(empty, 0.0, high - low), FLOOR)


class Downstream(Protocol):
    """A forecaster that is trained on scaled windows and sees nothing else: no time features, no scaling of its own.

    ``fit`` may be called again and then forgets what it knew. A random forecaster takes its seed where it is built.
    """

    def fit(self, windows: Array, context_length: int) -> None:
        """Trains on windows (n, L), float64, the first ``context_length`` values of each being the history."""

    def forecast(self, history: Array, samples: int) -> Array:
        """Paths (N, S, H) after history (N, context_length); S is ``samples``, or 1 where the forecast is a point."""


@dataclass
class RidgeForecaster:
    """Ridge regression with an intercept from the history to the whole horizon, a point forecast.

    Attributes
    ----------
    alpha: the weight of the squared coefficients.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < np.inf:
            raise ValueError(f"alpha must be finite and at least 0, got {self.alpha}")
        self._regression: Ridge | None = None

    def fit(self, windows: Array, context_length: int) -> None:
        """Solves for the coefficients on windows (n, L); raises ``ValueError`` unless ``0 < context_length < L``."""
        if windows.ndim != 2 or not 0 < context_length < windows.shape[-1]:
            raise ValueError(f"windows must be (n, L) with L > context_length = {context_length} > 0, got {windows.shape}")
        self._regression = Ridge(alpha=self.alpha).fit(windows[:, :context_length], windows[:, context_length:])

    def forecast(self, history: Array, samples: int = 1) -> Array:
        """One path (N, 1, H) after history (N, context_length), however many ``samples`` are asked for.

        Raises ``RuntimeError`` before :meth:`fit`.
        """
        if self._regression is None:
            raise RuntimeError("this RidgeForecaster knows no coefficients yet; call fit(windows, context_length) first")
        return self._regression.predict(history).reshape(len(history), 1, -1)


def predictive_score(
    downstream: Downstream,
    synthetic: ArrayLike | Tensor,
    real: ArrayLike | Tensor,
    *,
    context_length: int,
    scaling: Scaling = mean_scaling,
    samples: int = 100,
) -> Scores:
    """Train on synthetic, test on real (Kollovieh et al. 2023, section 4.3): scores of a forecaster that saw no real window.

    The forecaster is fitted on the synthetic windows as they are. Of each real series the last L values count: the history
    is scaled by its own ``(loc, scale) = scaling(history)``, unknown values are 0 in scaled units, forecasts are brought
    back by ``loc + scale f`` and scored against the rest, unknown targets apart.

    Parameters
    ----------
    downstream: the forecaster to train.
    synthetic: windows (n, L) in scaled units; the papers draw 10,000 of them.
    real: series (N, at least L) in original units, NaN where unknown.
    context_length: Lc, how many of the L values are history.
    scaling: :func:`mean_scaling`, which TSDiff is trained with, or :func:`min_max_scaling`.
    samples: paths that a probabilistic forecaster draws.

    Raises ``ValueError`` for unknown values among the synthetic ones, and for real series shorter than the windows.
    """
    windows, series = _matrix("synthetic", synthetic), _matrix("real", real)
    length = windows.shape[-1]
    if not 0 < context_length < length:
        raise ValueError(f"context_length must lie in 1..{length - 1}, within the windows of {length}, got {context_length}")
    if series.shape[-1] < length:
        raise ValueError(f"real must hold at least the {length} values of a synthetic window, got {series.shape[-1]}")
    if not np.isfinite(windows).all():
        raise ValueError("synthetic must be finite, and has values that are not; leave such windows out")
    if np.isinf(series).any():
        raise ValueError("real must be finite, or NaN where it is unknown, and has infinite values; set them to NaN")
    series = series[:, -length:]
    history, target = series[:, :context_length], series[:, context_length:]
    loc, scale = scaling(history)
    downstream.fit(windows, context_length)
    forecast = downstream.forecast(np.nan_to_num((history - loc) / scale, nan=0.0), samples)
    return Scores.of(loc[:, None] + scale[:, None] * forecast, target)


def linear_predictive_score(
    synthetic: ArrayLike | Tensor, real: ArrayLike | Tensor, *, context_length: int, scaling: Scaling = mean_scaling
) -> float:
    """LPS: the CRPS, which here is the ND, of ridge regression (alpha 1) under :func:`predictive_score`."""
    return predictive_score(RidgeForecaster(), synthetic, real, context_length=context_length, scaling=scaling).crps


def _matrix(name: str, values: ArrayLike | Tensor) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must be a matrix, a series in each row, got shape {matrix.shape}")
    return matrix
