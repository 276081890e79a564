"""What every forecaster has to beat: the last season repeated, and ridge regression on the history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gluonts.model.estimator import Estimator
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor
from numpy.typing import NDArray

from timeseries.batches import seed_of
from timeseries.configuration import TSDiffConfig
from timeseries.refinement import seasonal_naive
from timeseries.scaling import typical_scale
from timeseries.series import Series, series_of
from timeseries.synthesis import RidgeForecaster, mean_scaling
from timeseries.windows import Window, filled

__all__ = ["PointPredictor", "RidgeEstimator", "RidgePredictor", "SeasonalNaive", "random_windows", "without_gaps"]

Array = NDArray[np.float64]
Entries = Iterable[Mapping[str, Any]]


class PointPredictor(Predictor):
    """A GluonTS ``Predictor`` of one path a series; with ``errors`` of many, errors of the past being added to it.

    The error of a path is one whole trajectory ``y - point`` of :meth:`past_errors`, drawn with replacement, so that its steps
    hang together. Subclasses say what the point and the errors are.

    Parameters
    ----------
    config: frequency and lengths.
    errors: whether paths are drawn; else a forecast has one path, whatever ``num_samples`` is, and its CRPS is its ND.
    seed: of the paths; series n of a data set has draws of its own.
    """

    def __init__(self, config: TSDiffConfig, *, errors: bool = False, seed: int = 0) -> None:
        super().__init__(prediction_length=config.prediction_length)
        self.config, self.errors, self.seed = config, errors, seed

    def point(self, series: Series) -> Array:
        """The forecast (H,) of what follows ``series``, in its unit."""
        raise NotImplementedError

    def past_errors(self, series: Series) -> Array:
        """Errors (n, H) that the method made before, in the unit of ``series``; n may be 0."""
        raise NotImplementedError

    def predict(self, dataset: Entries, num_samples: int | None = None, **kwargs: Any) -> Iterator[SampleForecast]:
        """A forecast for each entry, in order, of ``num_samples`` paths, by default 100, or of one without ``errors``.

        Raises ``ValueError``, naming the series, for entries that :meth:`~timeseries.series.Series.of_entry` refuses and for
        those without a single value; ``TypeError`` for arguments that other predictors have.
        """
        if kwargs:
            raise TypeError(f"predict takes dataset and num_samples, got {', '.join(kwargs)} besides")
        paths = 100 if num_samples is None else num_samples
        if paths < 1:
            raise ValueError(f"num_samples must be at least 1, got {paths}")
        return self._forecasts(dataset, paths)

    def _forecasts(self, dataset: Entries, paths: int) -> Iterator[SampleForecast]:
        for number, entry in enumerate(dataset):
            series = Series.of_entry(entry, self.config, number).known()
            samples = self.point(series)[None]
            if self.errors:
                samples = samples + self._drawn(self.past_errors(series), paths, number)
            yield SampleForecast(samples=samples.astype(np.float32), start_date=series.end, item_id=series.item_id)

    def _drawn(self, errors: Array, paths: int, number: int) -> Array:
        """``paths`` of the trajectories; zeros where there is none."""
        if not len(errors):
            return np.zeros((paths, self.prediction_length))
        return errors[np.random.default_rng(seed_of("errors", self.seed, number)).integers(len(errors), size=paths)]


class SeasonalNaive(PointPredictor):
    """The last season again and again, ``y(n + k) = y(n + k mod s - s)`` for k = 0..H - 1.

    A step that is missing there is taken from the season before, and so on; a history shorter than a season is forecast by
    its mean. See :func:`timeseries.refinement.seasonal_naive`. The errors are those at every earlier place of the same
    series, where nothing was missing.

    Parameters
    ----------
    freq, prediction_length: of the series, and H.
    season: s, by default that of the frequency: hours 24, business days 5, days 1.
    errors, seed: see :class:`PointPredictor`.
    """

    def __init__(
        self, freq: str, prediction_length: int, *, season: int | None = None, errors: bool = False, seed: int = 0
    ) -> None:
        config = TSDiffConfig(freq=freq, prediction_length=prediction_length, lags=())
        super().__init__(config, errors=errors, seed=seed)
        self.season = config.frequency.season if season is None else season
        if self.season < 1:
            raise ValueError(f"season must be at least 1 step, got {season}")

    def point(self, series: Series) -> Array:
        past = torch.from_numpy(series.target.astype(np.float64))[None]
        future = past.new_full((1, self.prediction_length), torch.nan)
        x, observed = filled(torch.cat([past, future], 1))
        window = Window(x=x[..., None], observed=observed[..., None], scale=x.new_ones(1, 1), context=len(series))
        return seasonal_naive(window, self.season)[0, 0].numpy()

    def past_errors(self, series: Series) -> Array:
        steps = np.arange(self.prediction_length)
        place = np.arange(self.season, len(series) - self.prediction_length + 1)[:, None]
        y = series.target.astype(np.float64)
        errors = y[place + steps] - y[place - self.season + steps % self.season]
        return errors[~np.isnan(errors).any(1)]


class RidgeEstimator(Estimator):
    """Ridge regression from the last ``context_length`` values, divided by their mean size, to the whole horizon.

    The linear baseline of the literature: 10,000 random windows of all series together, alpha 1, an intercept.

    Parameters
    ----------
    freq, prediction_length, context_length: see :class:`~timeseries.configuration.TSDiffConfig`.
    windows: how many are drawn.
    alpha: weight of the squared coefficients.
    errors: whether the predictor draws paths, see :class:`PointPredictor`; seed: of windows and paths.
    """

    def __init__(
        self,
        freq: str,
        prediction_length: int,
        context_length: int | None = None,
        *,
        windows: int = 10_000,
        alpha: float = 1.0,
        errors: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = TSDiffConfig(freq=freq, prediction_length=prediction_length, context_length=context_length, lags=())
        self.prediction_length, self.windows, self.errors, self.seed = prediction_length, windows, errors, seed
        self.forecaster = RidgeForecaster(alpha)

    def train(self, training_data: Entries, validation_data: Entries | None = None) -> RidgePredictor:
        """The predictor; ``validation_data`` is not looked at. Raises as :func:`random_windows` does."""
        context = self.config.assembly.context_length
        windows = random_windows(series_of(training_data, self.config), self.config, count=self.windows, seed=self.seed)
        windows = without_gaps(windows, self.config.frequency.season)
        forecaster = RidgeForecaster(self.forecaster.alpha)
        forecaster.fit(windows, context)
        residuals = windows[:, context:] - forecaster.forecast(windows[:, :context])[:, 0]
        return RidgePredictor(self.config, forecaster, residuals, errors=self.errors, seed=self.seed)


class RidgePredictor(PointPredictor):
    """What :class:`RidgeEstimator` trains.

    What is missing of the history is taken from other seasons, see :func:`without_gaps`. A history without a known value
    other than 0 has the scale of the whole series. The errors are the residuals of the training windows of all series, each
    scaled like the history.

    Parameters
    ----------
    config: frequency and lengths; forecaster: a fitted one.
    residuals: scaled errors (n, H) of the windows it was fitted on.
    errors, seed: see :class:`PointPredictor`.
    """

    def __init__(
        self,
        config: TSDiffConfig,
        forecaster: RidgeForecaster,
        residuals: Array,
        *,
        errors: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(config, errors=errors, seed=seed)
        self.forecaster, self.residuals = forecaster, residuals

    def point(self, series: Series) -> Array:
        history, scale = self._scaled(series)
        return scale * self.forecaster.forecast(history)[0, 0]

    def past_errors(self, series: Series) -> Array:
        return self._scaled(series)[1] * self.residuals

    def _scaled(self, series: Series) -> tuple[Array, float]:
        context = self.config.assembly.context_length
        known = series.target[-context:].astype(np.float64)
        history = np.concatenate([np.full(context - len(known), np.nan), known])[None]
        scale = float(mean_scaling(history)[1][0, 0])
        if not np.nan_to_num(known).any():
            scale = typical_scale([torch.from_numpy(series.target)])
        return without_gaps(history / scale, self.config.frequency.season), scale


def without_gaps(windows: Array, season: int) -> Array:
    """What is missing of ``windows`` (N, n) from the nearest season before, else after; else the row's mean, 0 where all is.

    A season has ``season`` steps; as ridge regression takes no gaps, it is held against the best that is easily had.
    """
    N, n = windows.shape
    seasons = np.pad(windows, ((0, 0), (-n % season, 0)), constant_values=np.nan).reshape(N, -1, season)
    for order in (1, -1):
        ordered = seasons[:, ::order]
        known = np.where(np.isnan(ordered), 0, np.arange(ordered.shape[1])[:, None])
        seasons = np.take_along_axis(ordered, np.maximum.accumulate(known, 1), 1)[:, ::order]
    found = seasons.reshape(N, -1)[:, -n:]
    mean = np.nansum(windows, 1, keepdims=True) / np.maximum((~np.isnan(windows)).sum(1, keepdims=True), 1)
    return np.where(np.isnan(found), mean, found)


def random_windows(series: Sequence[Series], config: TSDiffConfig, *, count: int, seed: int = 0) -> Array:
    """``count`` windows (count, L) of ``series``, each divided by the mean size of its first Lc values, its history.

    All places are equally likely where all H values of the future are known and one of the history is other than 0; missing
    history is NaN. A series shorter than a window has one, padded with NaN on its left. Raises ``ValueError`` where no series
    has such a place.
    """
    if count < 1:
        raise ValueError(f"windows must be at least 1, got {count}")
    context, length = config.assembly.context_length, config.assembly.length
    places = [_places(one.target, config) for one in series]
    ends = np.cumsum([len(found) for found in places])
    if not len(ends) or not ends[-1]:
        raise ValueError(
            f"series must have {config.prediction_length} known values in a row after one that is known and not 0, "
            f"got none in {len(series)} series; give longer ones, or forecast fewer steps"
        )
    windows = np.full((count, length), np.nan)
    drawn = np.random.default_rng(seed_of("windows", seed)).integers(ends[-1], size=count)
    for row, i, n in zip(windows, np.searchsorted(ends, drawn, side="right"), drawn, strict=True):
        end = int(places[i][n - ends[i]]) + config.prediction_length  # n - ends[i] counts from the last one
        values = series[i].target[max(end - length, 0) : end]
        row[length - len(values) :] = values
    return windows / mean_scaling(windows[:, :context])[1]


def _places(target: NDArray[np.float32], config: TSDiffConfig) -> NDArray[np.int64]:
    """Positions of ``target`` where a window's forecast may begin."""
    context, horizon = config.assembly.context_length, config.prediction_length
    last = len(target) - horizon
    place = np.arange(max(1, min(context, last)), last + 1)
    known = np.concatenate([[0], np.cumsum(~np.isnan(target))])
    other = np.concatenate([[0], np.cumsum(np.nan_to_num(target) != 0)])
    whole = known[place + horizon] - known[place] == horizon
    return place[whole & (other[place] > other[np.maximum(place - context, 0)])]
