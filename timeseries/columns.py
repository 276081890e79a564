"""Series out of pandas frames, long or wide, checked where they come in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timeseries.frequencies import Frequency
from timeseries.grid import WALL, Grid
from timeseries.series import LARGEST, shown

__all__ = ["Columns", "FrameSeries", "times_of"]

DAY_FIRST = r"\s*\d{1,2}[./-]\d{1,2}[./-]\d{4}\b"  # where no month comes first, which was tried before
OFFSET = r":\d\d(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$"

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameSeries:
    """One series of a frame, on its grid.

    Attributes
    ----------
    item_id: its value in the id column, or its column's name; None where the frame holds one series without a name.
    label: the same, but the name of the column of values for None.
    grid: whose step 0 is the first value.
    target: (n,), NaN in gaps.
    covariates: (m, k), m > n where the future is known; None without covariates.
    """

    item_id: Any
    label: Any
    grid: Grid
    target: Array
    covariates: Array | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def name(self) -> str:
        """What errors call it."""
        return repr(self.label)

    def entry(self, length: int | None = None) -> dict[str, Any]:
        """The GluonTS entry of its first ``length`` values, with all covariates."""
        entry = {"item_id": self.label, "start": self.grid.start, "target": self.target[:length]}
        return entry if self.covariates is None else {**entry, "feat_dynamic_real": self.covariates.T}

    def check_future(self, horizon: int) -> None:
        """Raise ``ValueError``, naming the first missing time, where the covariates end within the next ``horizon`` steps."""
        if self.covariates is not None and len(self.covariates) < len(self) + horizon:
            first, last = self.grid.times(len(self.covariates), 1)[0], self.grid.times(len(self) + horizon - 1, 1)[0]
            raise ValueError(
                f"series {self.name}: covariates end early, the first missing row is that of {first}; forecasts need them "
                f"up to {last}. Add rows for these times, or forecast fewer steps"
            )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where the series are in a frame.

    A long frame has a row for each time of each series; a wide one, ``target=None``, has a row for each time and a column for
    each series. The times may also be the index. Rows in errors are counted from 0.

    Attributes
    ----------
    time: column of the times: dates, periods or texts of dates.
    target: column of the values, or None for a wide frame.
    id: column that tells the series of a long frame apart; None where there is one.
    covariates: columns known beforehand; rows after the last value of the target are then the future.
    regularise: whether rows may be unsorted, missing and between the steps of the frequency. False refuses the first of them.
    """

    time: str = "ds"
    target: str | None = "y"
    id: str | None = None
    covariates: tuple[str, ...] = ()
    regularise: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariates", tuple(self.covariates))
        names = [name for name in (self.time, self.target, self.id, *self.covariates) if name is not None]
        if len(set(names)) < len(names):
            raise ValueError(f"time, target, id and covariates must be different columns, got {', '.join(map(repr, names))}")
        if self.target is None and self.id is not None:
            raise ValueError(f"a wide frame has its series in columns and no id column, got id={self.id!r} and target=None")

    def series(self, df: pd.DataFrame, frequency: Frequency, *, whole: bool = False) -> list[FrameSeries]:
        """All series of ``df``, in the order in which they first appear.

        With covariates a series ends with its last value, rows after it being the future; ``whole`` keeps these rows in it, as
        gaps. Raises ``TypeError`` for what is no frame, and ``ValueError`` naming column, series and first bad row: for missing
        columns, times that are none, twice the same time, values that are no numbers or infinite, covariates with gaps.
        """
        df = self.framed(df)
        times = times_of(df[self.time], f"column {self.time!r}", by_clock=frequency.unit in WALL)
        parts = self._wide(df) if self.target is None else self._long(df)
        return [self._one(item_id, rows, df, column, times, frequency, whole) for item_id, rows, column in parts]

    def with_times(self, df: pd.DataFrame) -> pd.DataFrame:
        """``df`` with its index as columns where the times are in it. Raises ``TypeError`` for what is no frame."""
        if not isinstance(df, pd.DataFrame):
            raise TypeError(f"df must be a pandas DataFrame, got {type(df).__name__}")
        if self.time in df.columns:
            return df
        if self.time in df.index.names:
            return df.reset_index()
        return df.rename_axis(self.time).reset_index() if isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex) else df

    def framed(self, df: pd.DataFrame) -> pd.DataFrame:
        """``df`` with its index as columns where the times are in it; raises as :meth:`series` for columns."""
        df = self.with_times(df)
        wanted = [name for name in (self.time, self.id, self.target, *self.covariates) if name is not None]
        missing = [name for name in wanted if name not in df.columns]
        if missing:
            raise ValueError(f"there is no column {missing[0]!r}; the columns are {', '.join(map(str, df.columns))}")
        if df.columns.has_duplicates:
            raise ValueError(f"columns must have different names, got {df.columns[df.columns.duplicated()][0]!r} twice")
        if df.empty:
            raise ValueError("the frame must have at least one row, got none")
        return df

    def _long(self, df: pd.DataFrame) -> Iterator[tuple[Any, Rows, Any]]:
        if self.id is None:
            yield None, np.arange(len(df)), self.target
            return
        codes, names = pd.factorize(df[self.id])
        if (codes < 0).any():
            raise ValueError(f"column {self.id!r} must name a series in every row, row {int(codes.argmin())} is empty")
        order = np.argsort(codes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        for name, rows in zip(names, groups, strict=True):
            yield name.item() if isinstance(name, np.generic) else name, rows, self.target

    def _wide(self, df: pd.DataFrame) -> Iterator[tuple[Any, Rows, Any]]:
        names = [name for name in df.columns if name != self.time and name not in self.covariates]
        if not names:
            raise ValueError(f"a wide frame must have a column for each series besides {self.time!r}, got none")
        for name in names:
            yield name, np.arange(len(df)), name

    def _one(
        self,
        item_id: Any,
        rows: Rows,
        df: pd.DataFrame,
        column: Any,
        times: pd.DatetimeIndex,
        frequency: Frequency,
        whole: bool,
    ) -> FrameSeries:
        label = column if item_id is None else item_id
        name = repr(label)
        try:
            grid, steps = Grid.of(times[rows], frequency)
        except ValueError as error:
            raise ValueError(f"series {name}: {error}") from error
        _check_once(times, rows, steps, f"series {name}", frequency, hint=self.id is None and self.target is not None)
        if not self.regularise:
            _check_regular(times[rows], rows, grid, name)
        length = int(steps.max()) + 1
        target = np.full(length, np.nan)
        target[steps] = _numbers(df[column], rows, f"series {name}: column {column!r}")
        if not self.covariates:
            return FrameSeries(item_id=item_id, label=label, grid=grid, target=target)
        known = np.flatnonzero(~np.isnan(target))
        target = target[: known[-1] + 1] if len(known) and not whole else target
        covariates = np.full((length, len(self.covariates)), np.nan)
        for k, covariate in enumerate(self.covariates):
            covariates[steps, k] = _numbers(df[covariate], rows, f"series {name}: column {covariate!r}")
        covariates = self._unbroken(covariates, len(target), grid, name)
        return FrameSeries(item_id=item_id, label=label, grid=grid, target=target, covariates=covariates)

    def _unbroken(self, covariates: Array, length: int, grid: Grid, name: str) -> Array:
        """``covariates`` up to their first gap; raises ``ValueError`` where it is before the end of the target."""
        gaps = np.isnan(covariates)
        if not gaps.any():
            return covariates
        first = int(gaps.any(1).argmax())
        if first < length:
            covariate = self.covariates[int(gaps[first].argmax())]
            raise ValueError(
                f"series {name}: covariate {covariate!r} must be known at every step of the series, but is missing at "
                f"{grid.times(first, 1)[0]}"
            )
        return covariates[:first]


def times_of(column: pd.Series, name: str, *, by_clock: bool = False) -> pd.DatetimeIndex:
    """The times of ``column``, in UTC where they have several offsets from it.

    Raises ``ValueError`` naming the first row that is none, and, where steps are counted ``by_clock``, for several offsets:
    midnights of one place are then no midnights of UTC.
    """
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise ValueError(f"{name} must hold dates, row 0 has the number {column.iloc[0]}; convert it by pandas.to_datetime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that differ from row to row, which is what the later readings are for
        times = pd.to_datetime(column, errors="coerce")
        if times.isna().any():
            days = column.astype(str).str.match(DAY_FIRST).all()  # 31.12.2024: one format, not one for each row
            times = pd.to_datetime(column, errors="coerce", **({"dayfirst": True} if days else {"format": "mixed"}))
        if times.isna().any() or times.dtype == object:
            times = pd.to_datetime(column, errors="coerce", format="mixed", utc=True)
    bad = np.flatnonzero(times.isna())
    if len(bad):
        raise ValueError(f"{name} must hold dates, row {bad[0]} has {shown(column.iloc[bad[0]])}")
    if by_clock and pd.api.types.is_string_dtype(column.dtype):
        offsets = column.astype(str).str.extract(OFFSET, expand=False).fillna("")
        if (other := offsets.ne(offsets.iloc[0]).to_numpy()).any():
            row = int(other.argmax())
            both = f"row 0 has {shown(column.iloc[0])}, row {row} has {shown(column.iloc[row])}"
            raise ValueError(f"{name} must have one offset from UTC where steps are days or longer: {both}; leave offsets out")
    return pd.DatetimeIndex(times)


def _numbers(column: pd.Series, rows: Rows, name: str) -> Array:
    part = column.iloc[rows]
    values = pd.to_numeric(part, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        bad = (np.isnan(values) & ~part.isna().to_numpy()) | (np.abs(values) > LARGEST)
    if bad.any():
        row = int(rows[bad].min())
        raise ValueError(
            f"{name} must hold finite numbers, nothing where they are missing; row {row} has {shown(column.iloc[row])}"
        )
    return values


def _check_once(
    times: pd.DatetimeIndex, rows: Rows, steps: NDArray[np.int64], name: str, frequency: Frequency, *, hint: bool
) -> None:
    """Raise ``ValueError`` for the first row whose step an earlier one has."""
    again = pd.Series(steps).duplicated().to_numpy()
    if not again.any():
        return
    row = int(rows[again.argmax()])
    other = int(rows[(steps == steps[again.argmax()]).argmax()])
    if times[row] == times[other]:
        advice = "name the column that tells the series apart" if hint else "keep one of them"
        raise ValueError(f"{name}: row {row} repeats the time {times[row]} of row {other}; {advice}")
    both = f"rows {other} and {row}, {times[other]} and {times[row]}"
    raise ValueError(f"{name}: {both}, belong to one step of freq {frequency.alias!r}; aggregate them, or give a finer freq")


def _check_regular(times: pd.DatetimeIndex, rows: Rows, grid: Grid, name: str) -> None:
    """Raise ``ValueError`` for the first row that is not at its place of the grid."""
    expected = grid.times(0, len(times))
    wrong = np.flatnonzero(times != expected)
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(f"series {name}: row {int(rows[i])} must be {expected[i]}, got {times[i]}; regularise=True allows it")
