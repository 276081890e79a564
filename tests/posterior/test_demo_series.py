"""The demo's series: how it is read, what of it is hidden and filled, what is claimed of the result, and how it is shown."""

import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest

from posterior import demo_series, forecast_report
from posterior.forecast_case import Answer, Chart, ForecastCase
from tests.posterior.flow import stand_in
from timeseries.scores import crps, nd

needs_pvlib = pytest.mark.skipif(demo_series.read() is None, reason="no pvlib, whose series this is about")


@pytest.fixture(scope="module")
def series():
    return demo_series.read()


@pytest.fixture(scope="module")
def solved(series):
    """The case, the progress told, and the model."""
    seen, model = [], stand_in()
    return demo_series.solve(series, model, paths=5, seed=0, progress=lambda *step: seen.append(step)), seen, model


def made(samples, truth, **fields):
    """A case of a few values."""
    history = np.array([1.0, np.nan, 2.0])
    answer = Answer(name="Posterior", samples=np.asarray(samples, float), seconds=1.5)
    naive = Answer(name="Naive & simple", samples=np.full((1, len(truth)), 2.0), seconds=0.0)
    png = b"\x89PNG\r\n\x1a\n" + bytes(8) + bytes([0, 0, 1, 2, 0, 0, 0, 9])  # 258 x 9
    chart = Chart(title="<b>", caption="a & b", alt='"quoted"', png=png)
    parts = {
        "posterior": answer,
        "baselines": (naive,),
        "gap": np.zeros((4, 7)),
        "gap_truth": np.full(7, 1.5),
        "gap_seconds": 2.0,
        "charts": (chart,),
    }
    texts = {"name": "A < B", "summary": "s", "unit": "l/s", "credit": "me & you", "settings": {"paths": 4}}
    return ForecastCase(history=history, truth=np.asarray(truth, float), **{**parts, **texts, **fields})


@needs_pvlib
def test_the_series_on_its_grid(series):
    assert "pvlib" not in sys.modules
    assert len(series) == 1464
    assert not np.isnan(series.target).any()
    times = series.grid.times(0, len(series))
    assert (str(times[0]), str(times[-1])) == ("1981-06-01 01:00:00", "1981-08-01 00:00:00")
    assert (series.target.min(), series.target.max()) == (15.0, 35.6)
    assert len(pd.unique(np.diff(times.asi8))) == 1


@needs_pvlib
def test_the_case(series, solved):
    case, seen, _ = solved
    assert seen == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(case.history, series.target[:-48])
    np.testing.assert_array_equal(case.truth, series.target[-48:])
    assert case.posterior.samples.shape == (5, 48)
    assert case.gap.shape == (5, 24)
    assert np.ptp(case.gap, axis=0).min() > 0
    np.testing.assert_array_equal(case.gap_truth, series.target[-192:-168])
    naive, spread = case.baselines
    assert (naive.samples.shape, spread.samples.shape) == ((1, 48), (5, 48))
    yesterday = series.target[-72:-48].astype(np.float32)
    np.testing.assert_array_equal(naive.samples[0], np.tile(yesterday, 2))
    assert [chart.png[:4] for chart in case.charts] == [b"\x89PNG"] * 2
    assert case.charts[1].title == "24 hidden hours, filled"


@needs_pvlib
def test_nothing_is_seen_of_what_is_hidden(series, solved):
    case, _, model = solved
    for hidden, found, truth in ((slice(-48, None), "posterior", "truth"), (slice(-192, -168), "gap", "gap_truth")):
        other = series.target.copy()
        other[hidden] *= 2
        again = demo_series.solve(replace(series, target=other), model, paths=5, seed=0)
        mine, theirs = (getattr(c, found) for c in (case, again))
        np.testing.assert_array_equal(getattr(mine, "samples", mine), getattr(theirs, "samples", theirs))
        np.testing.assert_array_equal(getattr(again, truth), 2 * getattr(case, truth))


@needs_pvlib
def test_another_seed_is_another_forecast(series, solved, monkeypatch):
    monkeypatch.setattr(demo_series, "fill", lambda model, series, paths: np.zeros((paths, len(series))))
    moved = demo_series.solve(series, solved[2], paths=5, seed=1)
    assert not np.array_equal(moved.posterior.samples, solved[0].posterior.samples)


def test_scores_and_coverage():
    samples = np.arange(21.0)[:, None] + np.array([0.0, 10.0, 0.0, 100.0])  # bands of 90 %: 1..19, 11..29, 1..19, 101..119
    case = made(samples, [1.0, 29.5, np.nan, 110.0])
    assert case.held == (2, 3)
    assert (case.scores.crps, case.scores.nd) == (crps(samples, case.truth), nd(samples, case.truth))
    assert case.scores.seconds == 1.5
    naive = case.baseline_scores["Naive & simple"]
    assert naive.crps == naive.nd == pytest.approx((1 + 27.5 + 108) / 140.5)


def test_answers_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"samples must have shape \(S, 3\).*got \(2, 4\) of Posterior"):
        made(np.zeros((2, 4)), [1.0, 2.0, 3.0])


def test_the_section():
    html = forecast_report.section(made(np.full((20, 3), 2.0), [2.0, 3.0, np.nan]), "forecast-1")
    assert '<h2 id="forecast-1-name">A &lt; B</h2>' in html
    assert "me &amp; you" in html
    assert "<b>3</b> hours, <b>2</b> of them with a value" in html
    assert "Of these 3, 1 were never recorded" in html
    assert "<b>1 of 2</b> known values, <b>50 %</b>. This spread is not calibrated" in html
    assert "all <b>7</b> of the gap" in html
    assert "off by <b>1.5</b> l/s on average" in html
    assert '<img width="258" height="9" alt="&quot;quoted&quot;" src="data:image/png;base64,' in html
    assert "<b>&lt;b&gt;</b>a &amp; b" in html
    rows = [row.split("</tr>")[0] for row in html.split("<tr class=")[1:]]
    assert [unescape(row.split('"name">')[1].split("<")[0]) for row in rows] == ["Naive & simple", "Posterior"]
    assert all(row.startswith('"best"') for row in rows)  # both forecast 2
    assert "0.2000</td><td>0.2000</td><td>1.5" in rows[1]
