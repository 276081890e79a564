"""How good sample paths are as a probabilistic forecast: CRPS, ND and NRMSE as the literature reports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

__all__ = ["LEVELS", "Scores", "crps", "nd", "nrmse", "order_statistics", "weighted_quantile_losses"]

LEVELS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The nine quantile levels over which the CRPS is averaged."""

Array = NDArray[np.float64]


def order_statistics(samples: ArrayLike | Tensor, levels: Sequence[float] = LEVELS) -> Array:
    """Quantiles of sample paths without interpolation: level q is path ``round((S - 1) q)`` of the sorted ones.

    A tie of the rounding goes to the even index, which is the rule of GluonTS' ``SampleForecast``. samples (..., S, H) are
    sorted for each time step; returns (..., len(levels), H), float64. Raises ``ValueError`` for levels outside [0, 1].
    """
    if not levels or not all(0 <= q <= 1 for q in levels):
        raise ValueError(f"levels must be numbers in [0, 1], at least one, got {levels}")
    paths = _double(samples)
    if paths.ndim < 2 or paths.shape[-2] == 0:
        raise ValueError(f"samples must have shape (..., S, H) with at least one path, got {paths.shape}")
    index = [int(np.round((paths.shape[-2] - 1) * q)) for q in levels]
    return np.sort(paths, axis=-2)[..., index, :]


def weighted_quantile_losses(
    samples: ArrayLike | Tensor, target: ArrayLike | Tensor, *, levels: Sequence[float] = LEVELS
) -> Array:
    """``wQL_q = 2 sum |(f_q - y) ((y <= f_q) - q)| / sum |y|`` at each level, f_q the order statistic.

    Both sums run over every series, window and step with a known target: a ratio of sums, so that averages of the scores of
    single series mean something else. samples (..., S, H), target (..., H), NaN where unknown; returns (len(levels),),
    float64. Raises ``ValueError`` for shapes that do not match, for NaN among the samples, and where no target is known or
    all are zero, since then the loss has no scale.
    """
    paths, y, known = _checked(samples, target)
    f, q = order_statistics(paths, levels), np.asarray(levels)[:, None]
    y = y[..., None, :]
    losses = np.where(known[..., None, :], 2 * np.abs((f - y) * ((y <= f) - q)), 0.0)
    return losses.sum(-1).reshape(-1, len(levels)).sum(0) / np.abs(y).sum()


def crps(samples: ArrayLike | Tensor, target: ArrayLike | Tensor, *, levels: Sequence[float] = LEVELS) -> float:
    """The mean weighted quantile loss over ``levels``, which the papers call CRPS (``mean_wQuantileLoss`` of GluonTS).

    samples (..., S, H), target (..., H) with NaN where unknown, both in original units. Of one path, or of equal ones, it is
    exactly :func:`nd`. Raises as :func:`weighted_quantile_losses` does.
    """
    return float(weighted_quantile_losses(samples, target, levels=levels).mean())


def nd(samples: ArrayLike | Tensor, target: ArrayLike | Tensor) -> float:
    """Normalised deviation of the median path: ``sum |f_0.5 - y| / sum |y|``.

    samples (..., S, H), target (..., H) with NaN where unknown. Raises as :func:`weighted_quantile_losses` does.
    """
    paths, y, known = _checked(samples, target)
    median = order_statistics(paths, (0.5,))[..., 0, :]
    return float(np.where(known, np.abs(median - y), 0.0).sum() / np.abs(y).sum())


def nrmse(samples: ArrayLike | Tensor, target: ArrayLike | Tensor) -> float:
    """Normalised root mean square error of the mean path: ``RMSE / mean |y|``.

    The means run over the known steps of a window first and then over the windows, as in GluonTS; where a window misses
    targets this is not the mean over all steps. A window without a known target counts nowhere. samples (..., S, H), target
    (..., H) with NaN where unknown. Raises as :func:`weighted_quantile_losses` does.
    """
    paths, y, known = _checked(samples, target)
    square, size = np.where(known, (paths.mean(-2) - y) ** 2, 0.0), np.abs(y)
    count = known.sum(-1)
    counted = count > 0
    mean_square, mean_size = ((a.sum(-1)[counted] / count[counted]).mean() for a in (square, size))
    return float(np.sqrt(mean_square) / mean_size)


@dataclass(frozen=True)
class Scores:
    """The three scores of one forecast, all without unit and the lower the better.

    Attributes
    ----------
    crps: :func:`crps` over the nine levels; nd: :func:`nd`; nrmse: :func:`nrmse`.
    """

    crps: float
    nd: float
    nrmse: float

    @classmethod
    def of(cls, samples: ArrayLike | Tensor, target: ArrayLike | Tensor) -> Scores:
        """Of samples (..., S, H) against target (..., H), NaN where unknown; raises as the functions do."""
        return cls(crps(samples, target), nd(samples, target), nrmse(samples, target))


def _double(values: ArrayLike | Tensor) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _checked(samples: ArrayLike | Tensor, target: ArrayLike | Tensor) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Samples, target with 0 where it is unknown, and where it is known."""
    paths, y = _double(samples), _double(target)
    if paths.ndim != y.ndim + 1 or y.ndim < 1 or (*paths.shape[:-2], paths.shape[-1]) != y.shape:
        raise ValueError(f"samples must have shape (..., S, H) and target (..., H), got {paths.shape} and {y.shape}")
    if np.isinf(y).any():
        raise ValueError("target must be finite, or NaN where it is unknown, and has infinite values; set them to NaN")
    if not np.isfinite(paths).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(paths))[0])
        raise ValueError(f"samples must be finite, got {paths[where]} at index {where}; a forecast has no missing values")
    known = ~np.isnan(y)
    y = np.where(known, y, 0.0)
    if not np.abs(y).sum() > 0:
        raise ValueError(f"target must have a known value other than 0, got {int(known.sum())} known of {y.size}, all 0")
    return paths, y, known
