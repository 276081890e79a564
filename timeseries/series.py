"""One series with its dates and covariates, checked once where it comes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timeseries.configuration import TSDiffConfig
from timeseries.frequencies import Frequency, age, quiet_periods

__all__ = ["LARGEST", "Series", "period_of", "series_of", "shown"]

Array = NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """Values on a regular grid; NaN is missing.

    Attributes
    ----------
    name: what errors call it, its item_id or its number.
    start: period of the first value.
    target: (n,) float32.
    covariates: (m, k) float32, m >= n where the future is known, or None.
    item_id: as it came, or None.
    """

    name: str
    start: pd.Period
    target: Array
    covariates: Array | None = None
    item_id: Any = None

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any], config: TSDiffConfig, number: int = 0) -> Series:
        """Of a GluonTS entry: ``start``, ``target``, perhaps ``item_id``; ``feat_dynamic_real`` if the model has covariates.

        ``start`` is a period of the model's frequency, or a date. Raises ``ValueError``, naming the series by item_id or
        ``number`` and the first bad row, for another frequency, for values that are no numbers or not finite in float32, and
        for covariates that are not as many as the model's, end before the target or have gaps.
        """
        item_id = entry.get("item_id")
        name = f"number {number}" if item_id is None else repr(item_id)
        missing = [key for key in ("start", "target") if key not in entry]
        if missing:
            raise ValueError(f"series {name}: an entry must have 'start' and 'target', got {sorted(map(str, entry))}")
        start = period_of(entry["start"], config.frequency, name)
        target = _numbers(entry["target"], name, "target")
        if target.ndim != 1 or not len(target):
            hint = "; several channels are several series" if target.ndim > 1 else ""
            raise ValueError(f"series {name}: target must have shape (n,) with n >= 1, got {target.shape}{hint}")
        _refuse(np.abs(target) > LARGEST, target, name, "target must be finite in float32, NaN where it is missing")
        covariates = _covariates(entry, config.covariates, len(target), name)
        return cls(name=name, start=start, target=target.astype(np.float32), covariates=covariates, item_id=item_id)

    def __len__(self) -> int:
        return len(self.target)

    def known(self) -> Series:
        """The series itself; raises ``ValueError`` where it has no value at all."""
        if np.isnan(self.target).all():
            raise ValueError(f"series {self.name}: all {len(self)} values are missing, from row 0 on; leave it out")
        return self

    def cut(self, length: int) -> Series:
        """The first ``length`` values; covariates stay."""
        return replace(self, target=self.target[: max(length, 0)])

    @property
    def end(self) -> pd.Period:
        """The period after the last value, where a forecast starts."""
        with quiet_periods():
            return self.start + len(self)

    def steps(self, config: TSDiffConfig, first: int, length: int) -> Array:
        """The step features of positions ``first`` .. ``first + length - 1``, (length, config.steps), see there.

        Before the series, ages are that of its first step and covariates are their mean. Raises ``ValueError`` naming the
        first row where covariates are needed and end.
        """
        parts = []
        if config.time_features:
            with quiet_periods():
                index = pd.period_range(self.start + first, periods=length, freq=self.start.freq)
                parts.append(config.frequency.features_of(index))
            before = min(max(-first, 0), length)
            ages = np.concatenate([np.repeat(age(1), before), age(length - before, max(first, 0))])
            parts.append(ages[:, None])
        if config.covariates:
            parts.append(self._standardised(config, first, length))
        return np.concatenate(parts, 1).astype(np.float32) if parts else np.zeros((length, 0), np.float32)

    def _standardised(self, config: TSDiffConfig, first: int, length: int) -> Array:
        known = np.zeros((0, config.covariates), np.float32) if self.covariates is None else self.covariates
        if len(known) < first + length:
            need = f"rows 0..{first + length - 1}, the forecast included"
            raise ValueError(
                f"series {self.name}: covariates end early, the first missing row is {len(known)}; "
                f"feat_dynamic_real must cover {need}. Extend them, or forecast fewer steps"
            )
        pairs = config.covariate_statistics or ((0.0, 1.0),) * config.covariates
        mean, std = np.asarray(pairs, dtype=np.float64).T
        rows = (known[max(first, 0) : first + length] - mean) / std
        return np.concatenate([np.zeros((length - len(rows), config.covariates)), rows]).astype(np.float32)


def series_of(dataset: Iterable[Mapping[str, Any]], config: TSDiffConfig) -> list[Series]:
    """All series of a GluonTS data set; raises ``ValueError`` where there is none, and as :meth:`Series.of_entry` does."""
    series = [Series.of_entry(entry, config, number) for number, entry in enumerate(dataset)]
    if not series:
        raise ValueError("dataset must hold at least one series, got none")
    return series


def period_of(start: Any, frequency: Frequency, name: str) -> pd.Period:
    """``start`` as a period of ``frequency``: a date of any kind, without its time zone, or such a period.

    Raises ``ValueError``, naming the series ``name``, for a period of another frequency and for what is no date.
    """
    with quiet_periods():
        if isinstance(start, pd.Period):
            if start.freq != pd.Period("2000-01-03", freq=frequency.period).freq:
                raise ValueError(
                    f"series {name}: start must have the model's frequency {frequency.alias!r}, got {start.freqstr!r}. "
                    "Resample the series, or train a model of its frequency"
                )
            return start
        try:
            return pd.Period(pd.Timestamp(start).tz_localize(None), freq=frequency.period)
        except (TypeError, ValueError) as error:
            raise ValueError(f"series {name}: start must be a date or a pandas Period, got {start!r}") from error


def _numbers(values: Any, name: str, field: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        row = next((i for i, value in enumerate(values) if not _is_number(value)), 0) if np.ndim(values) == 1 else 0
        raise ValueError(f"series {name}: {field} must hold numbers, row {row} has {shown(values[row])}") from error


def shown(value: Any) -> str:
    """``value`` as errors quote it: ``inf``, not ``np.float64(inf)``."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _is_number(value: Any) -> bool:
    try:
        float("nan" if value is None else value)
    except (TypeError, ValueError):
        return False
    return True


def _refuse(bad: Any, values: NDArray[np.float64], name: str, rule: str) -> None:
    if np.any(bad):
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"series {name}: {rule}, row {row} has {values[row]}")


def _covariates(entry: Mapping[str, Any], count: int, length: int, name: str) -> Array | None:
    """``feat_dynamic_real`` (k, m) as (m, k); None for a model without."""
    if not count:
        return None
    if entry.get("feat_dynamic_real") is None:
        raise ValueError(f"series {name}: the model has {count} covariates, but the entry has no 'feat_dynamic_real'")
    values = _numbers(entry["feat_dynamic_real"], name, "feat_dynamic_real")
    if values.ndim != 2 or len(values) != count:
        raise ValueError(f"series {name}: feat_dynamic_real must have shape ({count}, m), got {values.shape}")
    if values.shape[1] < length:
        raise ValueError(
            f"series {name}: covariates end early, the first missing row is {values.shape[1]}; the target has {length} rows"
        )
    _refuse(~(np.abs(values) <= LARGEST).all(0), values.T, name, "feat_dynamic_real must be finite in float32 everywhere")
    return values.T.astype(np.float32)
