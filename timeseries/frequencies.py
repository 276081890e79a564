"""Frequencies of series: their pandas aliases, season, lags and time features."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["Frequency", "age", "quiet_periods"]

SPELLINGS: dict[tuple[str, str], tuple[str, ...]] = {
    # unit, current offset alias
    ("ns", "ns"): ("ns", "N", "n"),
    ("us", "us"): ("us", "U", "u"),
    ("ms", "ms"): ("ms", "L", "l"),
    ("s", "s"): ("s", "S"),
    ("min", "min"): ("min", "T", "t"),
    ("h", "h"): ("h", "H"),
    ("D", "D"): ("D", "d"),
    ("B", "B"): ("B", "b"),
    ("W", "W"): ("W", "w"),
    ("M", "ME"): ("ME", "M"),
    ("M", "MS"): ("MS",),
    ("M", "BME"): ("BME", "BM"),
    ("M", "BMS"): ("BMS",),
    ("Q", "QE"): ("QE", "Q", "q"),
    ("Q", "QS"): ("QS",),
    ("Q", "BQE"): ("BQE", "BQ"),
    ("Q", "BQS"): ("BQS",),
    ("Y", "YE"): ("YE", "Y", "y", "A", "a"),
    ("Y", "YS"): ("YS", "AS"),
    ("Y", "BYE"): ("BYE", "BY", "BA"),
    ("Y", "BYS"): ("BYS", "BAS"),
}
NAMES = {name: found for found, names in SPELLINGS.items() for name in names}
"""Every spelling that is read. Others are read without regard to case, but for ``m``, which could be minute or month."""

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
ANCHORS = {"W": WEEKDAYS, "Q": MONTHS, "Y": MONTHS}

CARRY = {"ns": (1000, "us"), "us": (1000, "ms"), "ms": (1000, "s"), "s": (60, "min"), "min": (60, "h"), "h": (24, "D")}

SEASONS = {"s": 3600, "min": 1440, "h": 24, "D": 1, "B": 5, "W": 1, "M": 12, "Q": 4, "Y": 1}
"""Steps of a season, of one unit each."""

DAYS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
CYCLES: dict[str, tuple[int, tuple[int, ...]]] = {
    "s": (60, DAYS),
    "min": (60, DAYS),
    "h": (24, DAYS),
    "D": (30, tuple(range(1, 13))),
    "B": (30, tuple(range(1, 13))),
    "W": (52, (1, 2)),
    "M": (12, (1, 2, 3)),
    "Q": (4, (1, 2, 3)),
}
"""The cycle of a unit, in steps, and the multiples of it that are lags."""

QUARTER_HOUR = 15  # from here on, the cycle of minutes is the day

FEATURES: dict[str, tuple[str, ...]] = {
    "s": ("second_of_minute", "minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year"),
    "min": ("minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year"),
    "h": ("hour_of_day", "day_of_week", "day_of_month", "day_of_year"),
    "D": ("day_of_week", "day_of_month", "day_of_year"),
    "B": ("day_of_week", "day_of_month", "day_of_year"),
    "W": ("day_of_month", "week_of_year"),
    "M": ("month_of_year",),
    "Q": ("month_of_year",),
    "Y": (),
}


@dataclass(frozen=True)
class Frequency:
    """A pandas frequency: a number of units, with an anchor where it has one. :meth:`parse` reads it.

    Attributes
    ----------
    unit: ``ns``, ``us``, ``ms``, ``s``, ``min``, ``h``, ``D``, ``B`` (business day), ``W``, ``M``, ``Q`` or ``Y``.
    multiple: how many of them, from 1 on.
    offset: the current offset alias of the unit: ``ME`` and ``MS`` are both months.
    anchor: ``SUN`` of ``W-SUN``, ``DEC`` of ``QE-DEC``; empty for the default of pandas.
    """

    unit: str
    multiple: int = 1
    offset: str = ""
    anchor: str = ""

    @classmethod
    def parse(cls, text: str | pd.offsets.BaseOffset | Frequency) -> Frequency:
        """Of an alias in the old or the new spelling: ``"H"``, ``"1h"``, ``"15T"``, ``"15min"``, ``"ME"``, ``"W-MON"``.

        Raises ``ValueError`` for what is no frequency, and for ``m``; ``TypeError`` for what is no text.
        """
        if isinstance(text, Frequency):
            return text
        text = text.freqstr if isinstance(text, pd.offsets.BaseOffset) else text
        if not isinstance(text, str):
            raise TypeError(f"freq must be a pandas alias such as 'h', '15min' or 'B', got {text!r} of {type(text).__name__}")
        match = re.fullmatch(r"\s*(\d*)\s*([A-Za-z]+)(?:-([A-Za-z]{3}))?\s*", text)
        if match is None:
            raise ValueError(f"freq must be a whole multiple of one unit, such as 'h', '15min' or 'W-SUN', got {text!r}")
        multiple, name, anchor = int(match[1] or 1), match[2], (match[3] or "").upper()
        if name == "m":
            raise ValueError(f"freq {text!r} could mean minutes or months; give 'min' or 'ME'")
        unit, offset = _named(name, text)
        if multiple < 1:
            raise ValueError(f"freq must be at least one {offset}, got {text!r}")
        if anchor and anchor not in ANCHORS.get(unit, ()):
            raise ValueError(f"freq {text!r}: -{anchor} is no anchor of {offset}, whose anchors are {_anchors(unit)}")
        return cls(unit, multiple, offset, anchor)

    @property
    def alias(self) -> str:
        """What pandas calls the offset today, ``"15min"``, ``"ME"``, ``"W-SUN"``: for ``date_range`` and ``asfreq``."""
        return _spelt(self.multiple, self.offset or NAMES[self.unit][1], self.anchor)

    @property
    def period(self) -> str:
        """What pandas calls periods of it, ``"15min"``, ``"M"``, ``"Q-DEC"``: for ``Period`` and ``to_period``.

        Periods are anchored at their last month: those of ``QS-FEB`` are ``Q-JAN``.
        """
        starts = self.anchor in MONTHS and (self.offset or "").endswith("S")
        anchor = MONTHS[MONTHS.index(self.anchor) - 1] if starts else self.anchor
        return _spelt(self.multiple, self.unit, anchor)

    @property
    def reduced(self) -> Frequency:
        """The same step in the largest unit up to a day: ``60min`` is ``h``, ``24h`` is ``D``."""
        unit, multiple = self.unit, self.multiple
        while unit in CARRY and multiple % CARRY[unit][0] == 0:
            multiple, unit = multiple // CARRY[unit][0], CARRY[unit][1]
        return self if unit == self.unit else Frequency.parse(_spelt(multiple, unit, ""))

    @property
    def season(self) -> int:
        """Steps of a season: ``h`` 24, ``B`` 5, ``M`` 12, ``Q`` 4, ``min`` 1440, ``s`` 3600, others 1.

        Of a multiple, its share where that is whole, else 1: ``15min`` has 96, ``5h`` has 1. A daily series has 1, the
        convention of GluonTS; users of a weekly pattern name their own.
        """
        step = self.reduced
        season = SEASONS.get(step.unit, 1)
        return season // step.multiple if season % step.multiple == 0 else 1

    @property
    def lags(self) -> tuple[int, ...]:
        """Lags of the window's channels, in steps; empty where the frequency has no cycle that a lag could follow.

        ``h`` has 24 x (1..7, 14, 21, 28), ``D`` and ``B`` have 30 x (1..12), as published. Otherwise the lags are multiples of
        a cycle: of a day for 15 minutes and longer, of an hour for less, of a minute for seconds, each x (1..7, 14, 21, 28);
        of 30 steps of days, 52 of weeks x (1, 2), 12 of months and 4 of quarters x (1, 2, 3). A multiple of a unit has its
        share of the cycle, ``2h`` 12 x (...), and no lags where that is not whole or less than 2. Years and steps below
        a second have none.
        """
        step = self.reduced
        if step.unit not in CYCLES:
            return ()
        cycle, counts = CYCLES[step.unit]
        if step.unit == "min" and step.multiple >= QUARTER_HOUR:
            cycle = 1440
        share, rest = divmod(cycle, step.multiple)
        return () if rest or share < 2 else tuple(share * count for count in counts)

    @property
    def time_features(self) -> tuple[str, ...]:
        """Names of the time features, in order."""
        return FEATURES.get(self.unit, FEATURES["s"])

    def features_of(self, index: pd.PeriodIndex | pd.DatetimeIndex) -> np.ndarray:
        """The time features of ``index``, (len(index), n) float32, each spread over [-0.5, 0.5].

        Hour of day h is ``h / 23 - 1/2``, and so on with 59 for minute and second, 6 for the day of the week from Monday,
        30 for the day of the month, 365 for that of the year, 52 for the ISO week and 11 for the month, all counted from 0.
        """
        columns = [_FEATURE_VALUES[name](index) for name in self.time_features]
        return np.stack(columns, -1).astype(np.float32) if columns else np.zeros((len(index), 0), np.float32)


def age(length: int, start: int = 0) -> np.ndarray:
    """``log10(2 + position)`` of ``length`` steps from position ``start`` of a series on, (length,) float32."""
    if length < 0 or start < 0:
        raise ValueError(f"length and start must be at least 0, got {length} and {start}")
    return np.log10(2.0 + np.arange(start, start + length)).astype(np.float32)


def _named(name: str, text: str) -> tuple[str, str]:
    """Unit and offset alias of a unit's spelling."""
    if name in NAMES:
        return NAMES[name]
    folded = {spelling.lower(): found for spelling, found in NAMES.items() if len(spelling) > 1}
    if name.lower() in folded and name.lower() != "ms":
        return folded[name.lower()]
    known = "s, min, h, D, B, W, MS, ME, QS, QE, YS, YE, with a whole number before them"
    raise ValueError(f"freq {text!r} is unknown; known are {known}")


def _spelt(multiple: int, name: str, anchor: str) -> str:
    return f"{'' if multiple == 1 else multiple}{name}{'-' if anchor else ''}{anchor}"


def _anchors(unit: str) -> str:
    return ", ".join(ANCHORS[unit]) if unit in ANCHORS else "none"


def _spread(values: object, last: int, first: int = 0) -> np.ndarray:
    return (np.asarray(values, dtype=np.float64) - first) / last - 0.5


_FEATURE_VALUES = {
    "second_of_minute": lambda index: _spread(index.second, 59),
    "minute_of_hour": lambda index: _spread(index.minute, 59),
    "hour_of_day": lambda index: _spread(index.hour, 23),
    "day_of_week": lambda index: _spread(index.dayofweek, 6),
    "day_of_month": lambda index: _spread(index.day, 30, 1),
    "day_of_year": lambda index: _spread(index.dayofyear, 365, 1),
    "week_of_year": lambda index: _spread(_week(index), 52, 1),
    "month_of_year": lambda index: _spread(index.month, 11, 1),
}


def _week(index: pd.PeriodIndex | pd.DatetimeIndex) -> np.ndarray:
    """ISO weeks, 1..53."""
    return np.asarray(index.week if isinstance(index, pd.PeriodIndex) else index.isocalendar().week)


@contextmanager
def quiet_periods() -> Iterator[None]:
    """Within, pandas does not warn that periods of business days may be dropped one day; GluonTS data have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*(BDay|PeriodDtype\[B\]).*", category=FutureWarning)
        yield
