"""Frequencies: spellings, seasons, lags and time features."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from timeseries.frequencies import NAMES, Frequency, age

HOURLY = tuple(24 * n for n in (1, 2, 3, 4, 5, 6, 7, 14, 21, 28))
DAILY = tuple(range(30, 361, 30))


@pytest.mark.parametrize(
    ("old", "new"),
    [("H", "h"), ("T", "min"), ("S", "s"), ("L", "ms"), ("M", "ME"), ("Q", "QE"), ("A", "YE"), ("Y", "YE"), ("AS", "YS")],
)
def test_old_and_new_spelling_are_one(old: str, new: str) -> None:
    assert Frequency.parse(old) == Frequency.parse(new) == Frequency.parse(f"1{new}")
    assert Frequency.parse(f"3{old}").alias == f"3{new}"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_pandas_reads_every_alias_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        offset = pd.tseries.frequencies.to_offset(Frequency.parse(f"2{name}").alias)
    assert offset.n == 2
    assert Frequency.parse(offset) == Frequency.parse(offset.freqstr)
    assert Frequency.parse(offset).unit == NAMES[name][0]


@pytest.mark.parametrize("text", ["d", "D", "1d", "1D", " 1 D "])
def test_case_and_blanks_do_not_matter(text: str) -> None:
    assert Frequency.parse(text) == Frequency("D", 1, "D")


def test_folded_names_of_several_letters() -> None:
    assert Frequency.parse("MIN") == Frequency.parse("min")
    assert Frequency.parse("w-mon") == Frequency.parse("W-MON")
    assert Frequency.parse("qe-mar").alias == "QE-MAR"
    assert (Frequency.parse("MS").unit, Frequency.parse("ms").unit) == ("M", "ms")


@pytest.mark.parametrize(
    ("start", "period"), [("QS-JAN", "Q-DEC"), ("QS-FEB", "Q-JAN"), ("QE-MAR", "Q-MAR"), ("YS-APR", "Y-MAR")]
)
def test_periods_are_those_that_begin_or_end_there(start: str, period: str) -> None:
    frequency = Frequency.parse(start)
    assert frequency.period == period
    edge = pd.Timestamp("2021-01-01") + pd.tseries.frequencies.to_offset(frequency.alias)
    span = pd.Period(edge, frequency.period)
    assert edge in (span.start_time, span.end_time.normalize())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m", "minutes or months"),
        ("fortnight", "unknown"),
        ("", "whole multiple"),
        ("1.5h", "whole multiple"),
        ("0D", "at least"),
    ],
)
def test_what_is_no_frequency(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frequency.parse(text)


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="anchors are MON"):
        Frequency.parse("W-DEC")
    with pytest.raises(ValueError, match="anchors are none"):
        Frequency.parse("h-SUN")
    with pytest.raises(TypeError, match="got 24 of int"):
        Frequency.parse(24)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length and start"):
        age(-1)


@pytest.mark.parametrize(
    ("text", "season"),
    [("H", 24), ("D", 1), ("B", 5), ("2h", 12), ("15min", 96), ("5h", 1), ("60T", 24), ("3600s", 24), ("ME", 12), ("QS", 4)],
)
def test_season(text: str, season: int) -> None:
    assert Frequency.parse(text).season == season


@pytest.mark.parametrize(
    ("text", "lags"), [("H", HOURLY), ("h", HOURLY), ("60min", HOURLY), ("1D", DAILY), ("24h", DAILY), ("B", DAILY)]
)
def test_published_lags(text: str, lags: tuple[int, ...]) -> None:
    assert Frequency.parse(text).lags == lags


@pytest.mark.parametrize(("text", "same"), [("60min", "h"), ("24H", "D"), ("120T", "2h"), ("3600s", "h"), ("h", "H")])
def test_one_step_in_several_spellings(text: str, same: str) -> None:
    assert Frequency.parse(text).reduced == Frequency.parse(same).reduced == Frequency.parse(same)


@pytest.mark.parametrize("text", ["2h", "6h", "15min", "30T", "20min"])
def test_lags_of_parts_of_a_day_are_the_hourly_ones_in_time(text: str) -> None:
    frequency = Frequency.parse(text)
    hours = pd.Timedelta(pd.tseries.frequencies.to_offset(frequency.alias)) / pd.Timedelta("1h")
    assert [lag * hours for lag in frequency.lags] == pytest.approx(HOURLY)


@pytest.mark.parametrize(
    ("text", "first", "count"), [("min", 60, 10), ("5min", 12, 10), ("s", 60, 10), ("W", 52, 2), ("MS", 12, 3), ("QE", 4, 3)]
)
def test_other_lags(text: str, first: int, count: int) -> None:
    lags = Frequency.parse(text).lags
    assert (lags[0], len(lags)) == (first, count)
    assert list(lags) == sorted(set(lags))


@pytest.mark.parametrize("text", ["7h", "7D", "YE", "4ms", "7min", "7B"])
def test_no_lags_without_a_whole_cycle(text: str) -> None:
    assert Frequency.parse(text).lags == ()


@pytest.mark.parametrize("text", ["s", "min", "15min", "h", "D", "W", "ME", "QE", "YE"])
def test_time_features_are_those_of_gluonts(text: str) -> None:
    features = pytest.importorskip("gluonts.time_feature")
    frequency = Frequency.parse(text)
    index = pd.period_range("2019-12-25", periods=400, freq=frequency.period)
    wanted = [feature(index) for feature in features.time_features_from_frequency_str(text)]
    got = frequency.features_of(index)
    assert got.shape == (400, len(wanted))
    assert got.dtype == np.float32
    assert len(frequency.time_features) == len(wanted)
    np.testing.assert_allclose(got.T, np.array(wanted).reshape(len(wanted), 400), atol=1e-7)
    assert frequency.season == features.get_seasonality(text)


def test_time_features_of_one_hour() -> None:
    index = pd.DatetimeIndex(["2024-12-31 23:00"])  # a Tuesday, day 366
    got = Frequency.parse("H").features_of(index)
    np.testing.assert_allclose(got, [[0.5, 1 / 6 - 0.5, 0.5, 0.5]], atol=1e-7)


def test_age() -> None:
    np.testing.assert_allclose(age(3, start=6), np.log10([8, 9, 10]), rtol=1e-7)
