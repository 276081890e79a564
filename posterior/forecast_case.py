"""What a report shows of a time series: a forecast beside the truth and simple answers, its scores, a filled gap, charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from timeseries.scores import Scores, order_statistics

__all__ = ["BAND", "Answer", "Chart", "ForecastCase", "ForecastScores"]

BAND = 0.9
"""Share of the paths between the ends of the wide band of the charts."""

Array = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ForecastScores:
    """How close paths are to the truth, :class:`~timeseries.scores.Scores` without NRMSE, and their wall-clock seconds."""

    crps: float
    nd: float
    seconds: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """What a method forecasts: its name, the paths (S, H) in the unit of the series, the wall-clock seconds of all of them."""

    name: str
    samples: Array
    seconds: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Chart:
    """A picture of a series: a word or two, what is seen, the same for those who cannot see it, and the PNG file."""

    title: str
    caption: str
    alt: str
    png: bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class ForecastCase:
    """One series of a report, its end hidden and forecast, and a gap in it hidden and filled.

    Attributes
    ----------
    name: of the case, a few words; summary: what the series is and what was hidden, a sentence or two.
    history: what the model saw before the forecast (n,), NaN in gaps; truth: what followed (H,), NaN where nobody knows it.
    posterior: the forecast of the model; baselines: those of simple methods.
    gap: paths of the filled gap, (S, g); gap_truth: what was hidden there (g,); gap_seconds: of wall-clock time.
    charts: in the order in which they are shown.
    unit: of all values, such as "l/s"; step: what a step is, in the plural.
    credit: whose series it is.
    settings: names and values of what was set.
    """

    name: str
    summary: str
    history: Array
    truth: Array
    posterior: Answer
    baselines: tuple[Answer, ...]
    gap: Array
    gap_truth: Array
    gap_seconds: float
    charts: tuple[Chart, ...]
    unit: str
    step: str = "hours"
    credit: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for answer in (self.posterior, *self.baselines):
            if answer.samples.ndim != 2 or answer.samples.shape[1:] != self.truth.shape:
                got = f"{answer.samples.shape} of {answer.name}"
                raise ValueError(f"samples must have shape (S, {len(self.truth)}), a value for each of truth, got {got}")

    @property
    def scores(self) -> ForecastScores:
        """Of the model's forecast."""
        return self._scores(self.posterior)

    @property
    def baseline_scores(self) -> dict[str, ForecastScores]:
        """Of each baseline, by its name."""
        return {answer.name: self._scores(answer) for answer in self.baselines}

    @property
    def held(self) -> tuple[int, int]:
        """How many of the true values the band of 90 % holds, its ends included, and how many are known."""
        low, high = order_statistics(self.posterior.samples, ((1 - BAND) / 2, (1 + BAND) / 2))
        return int(((low <= self.truth) & (self.truth <= high)).sum()), int((~np.isnan(self.truth)).sum())

    @property
    def gap_error(self) -> float:
        """The mean distance of the median from what was hidden in the gap, in the unit of the series."""
        return float(np.nanmean(np.abs(np.median(self.gap, 0) - self.gap_truth)))

    def _scores(self, answer: Answer) -> ForecastScores:
        scores = Scores.of(answer.samples, self.truth)
        return ForecastScores(crps=scores.crps, nd=scores.nd, seconds=answer.seconds)
