"""The regular grid of a frequency that irregular times are laid onto, and the times of its steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import reduce
from math import gcd

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timeseries.frequencies import Frequency, quiet_periods

__all__ = ["WALL", "Grid"]

CALENDAR = ("W", "M", "Q", "Y")
WALL = ("D", "B", *CALENDAR)  # counted by the clock on the wall; shorter steps are counted in UTC
SPARSE, FEW = 1000, 8  # steps a row beyond which, and rows below which, nobody can tell what is meant

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Steps 0, 1, ... of a frequency from a first period on, and how they are written as times.

    Attributes
    ----------
    frequency: of the steps.
    first: ordinal of the first period, in units of the frequency.
    late: how long after the beginning of its period a step's time is; None for the rule of the frequency, by which ``ME`` is
        the last day of the month and ``W-SUN`` the Sunday.
    zone: time zone of the times, or None.
    """

    frequency: Frequency
    first: int
    late: pd.Timedelta | None = None
    zone: tzinfo | None = None

    @classmethod
    def of(cls, times: pd.DatetimeIndex, frequency: Frequency) -> tuple[Grid, Numbers]:
        """The grid of ``times``, in any order, and the step of each, from 0.

        A time belongs to the period that holds it; where fewer steps are then doubled or left out, to the period whose
        beginning is nearest, as for times that scatter around the hour. Steps of several units begin where most times do.
        The grid's own times keep what the given ones have in common: half past the hour, the first or the last of the month.
        Steps shorter than a day are counted in UTC if the times have a zone, longer ones by its clock.

        Raises ``ValueError`` for weekends among business days, and for a frequency much finer than the times.
        """
        wall = times
        if times.tz is not None:
            wall = (times if frequency.unit in WALL else times.tz_convert("UTC")).tz_localize(None)
        if frequency.unit == "B" and (wall.dayofweek >= 5).any():
            raise ValueError(f"{wall[wall.dayofweek >= 5][0]:%Y-%m-%d} is no business day; give freq 'D', or leave it out")
        unit = replace(frequency, multiple=1)
        with quiet_periods():
            ordinals = np.asarray(wall.to_period(unit.period).asi8)
        phases, counts = np.unique(ordinals % frequency.multiple, return_counts=True)
        phase = int(phases[counts.argmax()])
        steps = (ordinals - phase) // frequency.multiple
        origin = cls(frequency=frequency, first=phase, zone=times.tz)
        begin, end = (origin._starts(steps + ahead) for ahead in (0, 1))
        nearest = steps + np.asarray(wall - begin > (end - begin) / 2)
        if _disorder(nearest) < _disorder(steps):
            steps = nearest
        grid = replace(origin, first=phase + frequency.multiple * int(steps.min()))
        steps = steps - steps.min()
        grid._check(steps)
        return replace(grid, late=grid._lateness(wall, steps)), steps

    @property
    def start(self) -> pd.Period:
        """The first period, as GluonTS has it."""
        with quiet_periods():
            return pd.Period(self._starts(np.zeros(1, np.int64))[0], freq=self.frequency.period)

    def times(self, first: int, length: int) -> pd.DatetimeIndex:
        """The times of steps ``first`` .. ``first + length - 1``."""
        wall = self._wall(np.arange(first, first + length))
        if self.zone is None:
            return wall
        if self.frequency.unit not in WALL:
            return wall.tz_localize("UTC").tz_convert(self.zone)
        return wall.tz_localize(self.zone, ambiguous=np.ones(length, bool), nonexistent="shift_forward")

    def _starts(self, steps: Numbers) -> pd.DatetimeIndex:
        with quiet_periods():
            ordinals = self.first + self.frequency.multiple * np.asarray(steps)
            return pd.PeriodIndex.from_ordinals(ordinals, freq=replace(self.frequency, multiple=1).period).to_timestamp()

    def _wall(self, steps: Numbers) -> pd.DatetimeIndex:
        starts = self._starts(steps)
        if self.late is not None:
            return starts + self.late
        if self.frequency.unit not in CALENDAR:
            return starts
        offset = pd.tseries.frequencies.to_offset(replace(self.frequency, multiple=1).alias)
        return pd.DatetimeIndex([offset.rollforward(start) for start in starts])

    def _lateness(self, wall: pd.DatetimeIndex, steps: Numbers) -> pd.Timedelta | None:
        if np.array_equal(self._wall(steps), wall):
            return None
        late = (wall - self._starts(steps)).unique()
        return late[0] if len(late) == 1 else None

    def _check(self, steps: Numbers) -> None:
        """Raise ``ValueError`` where the frequency is much finer than the times."""
        apart = reduce(gcd, np.diff(np.unique(steps)).tolist(), 0)
        if (len(steps) >= FEW and apart > 1) or steps.max() >= SPARSE * (len(steps) + 1):
            several = f"all times are multiples of {apart} steps apart" if apart > 1 else f"{len(steps)} times span"
            span = f"{several}, {steps.max() + 1} steps in all"
            raise ValueError(f"freq {self.frequency.alias!r} is too fine or a time is wrong: {span}; give the freq of the data")


def _disorder(steps: Numbers) -> int:
    """How many times share a step with another, and how many steps between the first and the last have none."""
    distinct = len(np.unique(steps))
    return int(len(steps) + steps.max() - steps.min() + 1 - 2 * distinct)
