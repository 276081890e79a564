"""Forecasts, imputations and backtests of pandas frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from gluonts.model.estimator import Estimator
from gluonts.model.forecast import SampleForecast
from numpy.typing import NDArray

from timeseries.backtests import Backtest, backtest
from timeseries.batches import path_seed
from timeseries.columns import Columns, FrameSeries
from timeseries.conditional import TSDiffCond
from timeseries.imputation import fill
from timeseries.predictor import TSDiffPredictor
from timeseries.refinement import Refiner
from timeseries.series import Series, series_of
from timeseries.tables import NAME, Made, base_paths, check_names, filled_table, forecast_table, paths_of, wide_table

if TYPE_CHECKING:
    from timeseries.estimator import TSDiffEstimator

__all__ = ["Forecaster"]

COLUMNS = "columns.json"

Progress = Callable[[int, int], None]
"""Told how many series are done, of how many."""


class Forecaster:
    """TSDiff on pandas frames: ``Forecaster(TSDiffEstimator("h", 24)).fit(df).predict(df)``.

    Frames are long or wide, see :class:`~timeseries.columns.Columns`; irregular times are laid onto the grid of the frequency,
    with gaps where there are none. What the methods return is long, with a row for each series and step. They raise
    ``ValueError``, naming the series and the first bad row, for bad frames, and never return NaN where a value was asked for.
    ``progress`` is told after each series how many are done.

    Parameters
    ----------
    model: an estimator, which :meth:`fit` trains, or a predictor.
    columns: where the series are.

    Attributes
    ----------
    columns: as given.
    """

    def __init__(self, model: TSDiffEstimator | TSDiffPredictor, columns: Columns | None = None) -> None:
        self.columns = columns or Columns()
        self._estimator = model if isinstance(model, Estimator) else None
        self._predictor = model if isinstance(model, TSDiffPredictor) else None
        if self._estimator is None and self._predictor is None:
            raise TypeError(f"model must be a TSDiffEstimator or a TSDiffPredictor, got {type(model).__name__}")
        wanted, given = model.config.covariates, len(self.columns.covariates)
        if wanted != given:
            raise ValueError(f"the model has {wanted} covariates, but columns name {given}; both must be the same")

    @property
    def predictor(self) -> TSDiffPredictor:
        """The trained predictor; raises ``ValueError`` before :meth:`fit`."""
        if self._predictor is None:
            raise ValueError("the model is not trained yet: call fit(df) first, or build the Forecaster of a predictor")
        return self._predictor

    def fit(self, df: pd.DataFrame, *, held_out: int = 0) -> Forecaster:
        """Train on ``df`` but for the last ``held_out`` windows of each series, which :meth:`backtest` can then use.

        Warns of series shorter than two prediction lengths, and raises ``ValueError`` where all are. Raises ``TypeError`` for a
        Forecaster of a predictor.
        """
        if self._estimator is None:
            raise TypeError("fit needs a Forecaster of a TSDiffEstimator; this one has a predictor and forecasts as it is")
        if held_out < 0:
            raise ValueError(f"held_out must be at least 0 windows, got {held_out}")
        config = self._estimator.config
        rest = [(s, len(s) - held_out * config.prediction_length) for s in self.columns.series(df, config.frequency)]
        entries = [series.entry(length) for series, length in rest if length > 0]
        if not entries:
            raise ValueError(f"no series has values before the {held_out} windows held out; hold out fewer, or forecast less")
        self._predictor = self._estimator.train(entries)
        return self

    def forecasts(
        self,
        df: pd.DataFrame,
        *,
        future: pd.DataFrame | None = None,
        samples: int | None = None,
        progress: Progress | None = None,
    ) -> list[SampleForecast]:
        """The sample paths that follow each series, as GluonTS has them.

        ``future`` holds rows of covariates after the end, in the layout of ``df`` and without the target. A forecast begins
        after the last row of its series, with covariates after its last value.
        """
        series = self._series(self._with_future(df, future))
        for one in series:
            one.check_future(self.predictor.prediction_length)
        made = []
        for forecast in self.predictor.predict([one.entry() for one in series], samples):
            made.append(forecast)
            if progress is not None:
                progress(len(made), len(series))
        return made

    def predict(
        self,
        df: pd.DataFrame,
        *,
        levels: Sequence[float] = (0.1, 0.5, 0.9),
        future: pd.DataFrame | None = None,
        samples: int | None = None,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Times, the mean and the quantiles of :meth:`forecasts`: columns id, time, ``mean`` and ``0.1``, ``0.5``, ``0.9``.

        Quantiles are those of single steps, order statistics of ``samples`` paths. The id of a wide frame is ``series``.
        """
        levels = self._checked(levels, "forecast")
        return self.table(
            self.forecasts(df, future=future, samples=samples, progress=progress), df, levels=levels, future=future
        )

    def table(
        self,
        forecasts: Iterable[SampleForecast],
        df: pd.DataFrame,
        *,
        levels: Sequence[float] = (0.1, 0.5, 0.9),
        future: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """:meth:`predict`'s frame of ``forecasts`` that follow the series of ``df``, one each and in their order.

        Raises besides ``ValueError``, naming the series, for the forecast of another one or time, and where it is not finite.
        """
        series, levels = self._series(self._with_future(df, future)), self._checked(levels, "forecast")
        paths = paths_of(forecasts, series)
        return forecast_table([(s, len(s), p) for s, p in zip(series, paths, strict=True)], levels, self.columns)

    def impute(
        self,
        df: pd.DataFrame,
        *,
        levels: Sequence[float] = (),
        samples: int | None = None,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """The frame on its regular grid, gaps filled with the median of ``samples`` series that fit what is known.

        Long: id, time, target, ``imputed`` (whether it was missing) and the quantiles of ``levels``. Wide: as it was. Known
        values stay as they are. Every row is filled, also after the last value, so that covariates must be known in all.
        Raises besides ``TypeError`` for a conditional model, and ``ValueError`` for levels with a wide frame.
        """
        levels = self._checked(levels, "imputation")
        return self.filled(self.imputations(df, samples=samples, progress=progress), levels=levels)

    def imputations(
        self, df: pd.DataFrame, *, samples: int | None = None, progress: Progress | None = None
    ) -> list[tuple[FrameSeries, NDArray[np.float32]]]:
        """Each series of ``df`` on its regular grid, and ``samples`` paths (S, n) without gaps. Raises as :meth:`impute`."""
        paths = self.predictor.num_samples if samples is None else samples
        if paths < 1:
            raise ValueError(f"samples must be at least 1, got {paths}")
        found, made = self.columns.series(df, self.predictor.config.frequency, whole=True), []
        for number, (one, entry) in enumerate(zip(found, self._entries(found), strict=True)):
            made.append((one, fill(self.predictor, entry, paths, number=number)))
            if progress is not None:
                progress(number + 1, len(found))
        return made

    def filled(self, made: Sequence[tuple[FrameSeries, NDArray[np.float32]]], *, levels: Sequence[float] = ()) -> pd.DataFrame:
        """The frame that :meth:`impute` returns, of its :meth:`imputations`."""
        levels = self._checked(levels, "imputation")
        return wide_table(made, self.columns) if self.columns.target is None else filled_table(made, levels, self.columns)

    def refine(
        self,
        forecasts: pd.DataFrame | Iterable[Any],
        df: pd.DataFrame,
        *,
        refiner: Refiner | None = None,
        samples: int | None = None,
    ) -> list[SampleForecast]:
        """The forecasts of another model, moved to where this one finds series likely that begin as ``df`` does.

        ``forecasts`` are GluonTS ``SampleForecast`` s, one a series in their order, or a frame of point forecasts with id, time
        and one more column. Paths keep their number, points become ``samples`` paths. :meth:`table` makes a frame of them.
        Raises ``TypeError`` for a conditional model, ``ValueError``, naming the series, where a forecast is missing, of another
        series or time, or not finite.
        """
        predictor = self.predictor
        if isinstance(predictor.model, TSDiffCond):
            raise TypeError("refine needs an unconditional model, got TSDiffCond; train with conditional=False")
        series = self._series(df)
        for one in series:
            one.check_future(predictor.prediction_length)
        entries = [one.known() for one in self._entries(series)]
        base = torch.from_numpy(base_paths(forecasts, series, predictor.prediction_length, self.columns))
        paths = base.shape[1] if base.shape[1] > 1 else (predictor.num_samples if samples is None else samples)
        refined = (refiner or Refiner()).refine(
            predictor.model,
            predictor.window(entries),
            base,
            paths=paths,
            seed=path_seed(predictor.seed),
            batch=predictor.batch_size,
        )
        drawn = refined.float().cpu().numpy()
        return [SampleForecast(d, start_date=e.end, item_id=e.item_id) for d, e in zip(drawn, entries, strict=True)]

    def sample(self, count: int, *, seed: int | None = None) -> pd.DataFrame:
        """``count`` synthetic windows in scaled values, a column each; see :meth:`TSDiffPredictor.sample`."""
        drawn = self.predictor.sample(count, seed=seed)
        return pd.DataFrame(drawn.T, index=pd.RangeIndex(drawn.shape[1], name="step"), columns=pd.RangeIndex(count, name=NAME))

    def backtest(
        self,
        df: pd.DataFrame,
        windows: int = 1,
        *,
        levels: Sequence[float] = (0.1, 0.5, 0.9),
        samples: int | None = None,
        progress: Progress | None = None,
    ) -> Backtest:
        """Forecasts of the last ``windows`` prediction lengths of every series from what was before each, and their scores.

        The model should not have seen these windows: ``fit(df, held_out=windows)``. Raises ``ValueError``, naming the series,
        for those without a value before the first window.
        """
        levels = self._checked(levels, "backtest")
        return backtest(self.predictor, self._series(df), windows, levels, self.columns, samples, progress)

    def save(self, path: str | Path) -> None:
        """The predictor and the columns into the new folder ``path``, completely or not at all.

        Raises ``FileExistsError`` for a folder that holds files.
        """
        path, predictor = Path(path), self.predictor
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(f"path: {path} is there already; name a new folder")
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            made = Path(folder) / path.name
            predictor.serialize(made)
            (made / COLUMNS).write_text(json.dumps(asdict(self.columns), indent=2) + "\n", encoding="utf-8")
            made.replace(path)

    @classmethod
    def load(cls, path: str | Path, *, columns: Columns | None = None, device: str | torch.device = "auto") -> Forecaster:
        """What :meth:`save` wrote, or a predictor that GluonTS serialised; ``columns`` replaces the saved ones.

        Raises ``FileNotFoundError`` or ``ValueError``.
        """
        path = Path(path)
        predictor = TSDiffPredictor.deserialize(path, device)
        if columns is None and (path / COLUMNS).is_file():
            try:
                columns = Columns(**json.loads((path / COLUMNS).read_text(encoding="utf-8")))
            except (TypeError, ValueError) as error:
                raise ValueError(f"path: {path / COLUMNS} does not hold the settings of Columns: {error}") from error
        return cls(predictor, columns)

    def _series(self, df: pd.DataFrame) -> list[FrameSeries]:
        return self.columns.series(df, self.predictor.config.frequency)

    def _entries(self, series: Sequence[FrameSeries]) -> list[Series]:
        return series_of([one.entry() for one in series], self.predictor.config)

    def _with_future(self, df: pd.DataFrame, future: pd.DataFrame | None) -> pd.DataFrame:
        if future is None:
            return df
        if not self.columns.covariates:
            raise ValueError("future holds covariates to come, but columns name none; leave it out")
        df, future = self.columns.framed(df), self.columns.with_times(future)
        named = [name for name in (self.columns.time, self.columns.id, *self.columns.covariates) if name is not None]
        missing = [name for name in named if name not in future.columns]
        if missing:
            raise ValueError(
                f"future: there is no column {missing[0]!r}; the columns are {', '.join(map(str, future.columns))}"
            )
        return pd.concat([df, future.reindex(columns=df.columns)], ignore_index=True)

    def _checked(self, levels: Sequence[float], made: Made) -> tuple[float, ...]:
        """``levels`` without the noise of sums, such as 0.30000000000000004; raises where they, or columns, do not suit."""
        levels = tuple(float(level) for level in levels)
        least = 0 if made == "imputation" else 1
        if len(levels) < least or not all(0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
            raise ValueError(f"levels must be increasing numbers between 0 and 1, got {', '.join(map(str, levels)) or 'none'}")
        if levels and made == "imputation" and self.columns.target is None:
            raise ValueError("levels are for long frames; without them the filled frame is wide as well")
        levels = tuple(np.round(levels, 10).tolist())
        check_names(made, levels, self.columns)
        return levels
