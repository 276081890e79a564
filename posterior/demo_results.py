"""What the demo says of each case besides its part of the report: the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posterior.cases import Case, Scores
from posterior.forecast_case import ForecastCase, ForecastScores

__all__ = ["CaseResult", "ForecastResult"]


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One row of the table. ``folder`` holds the saved reconstruction; a score is None where the sizes differ."""

    name: str
    folder: Path
    input_scores: Scores
    baseline_scores: dict[str, Scores]
    scores: Scores
    residual_ratio: float | None
    measured_share: float | None
    network_calls: int

    @classmethod
    def of(cls, case: Case, folder: Path) -> CaseResult:
        """Of ``case``, saved in ``folder``."""
        out = case.reconstruction
        return cls(
            name=case.name,
            folder=folder,
            input_scores=case.input_scores,
            baseline_scores=case.baseline_scores,
            scores=case.scores,
            residual_ratio=out.residual_ratio,
            measured_share=out.measured_share(),
            network_calls=out.network_calls,
        )


@dataclass(frozen=True, kw_only=True)
class ForecastResult:
    """The rows of a series. ``coverage`` is the share of the true values in the band of 90 %, ``gap_error`` that of what is
    filled in, in the unit of the series."""

    name: str
    baseline_scores: dict[str, ForecastScores]
    scores: ForecastScores
    coverage: float
    gap_error: float
    gap_seconds: float

    @classmethod
    def of(cls, case: ForecastCase) -> ForecastResult:
        """Of ``case``."""
        inside, known = case.held
        return cls(
            name=case.name,
            baseline_scores=case.baseline_scores,
            scores=case.scores,
            coverage=inside / known,
            gap_error=case.gap_error,
            gap_seconds=case.gap_seconds,
        )
