"""Fan charts: what is drawn where, and that nothing else is touched."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
from gluonts.model.forecast import QuantileForecast, SampleForecast
from matplotlib.colors import to_hex
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from timeseries.plots import BLUE, HIDDEN, INK, TRUTH, fan_chart, imputation_chart

N, H = 60, 12


def series(length=N + H, freq="h", start="2024-02-28"):
    index = pd.date_range(start, periods=length, freq=freq)
    return pd.Series(10 + np.sin(np.arange(length) / 4), index)


def forecast(paths=101, start="2024-03-01 12:00", freq="h"):
    samples = np.arange(paths)[:, None] + np.arange(H)[None, :] * 0.5
    return SampleForecast(samples=samples, start_date=pd.Period(start, freq=freq))


def drawn(figure, colour):
    """The points of all lines of a colour, NaN left out, as dates by value."""
    lines = [line for line in figure.axes[0].lines if to_hex(line.get_color()) == colour and len(line.get_xdata()) > 2]
    parts = [pd.Series(line.get_ydata(), pd.DatetimeIndex(line.get_xdata())) for line in lines]
    return pd.concat(parts).dropna() if parts else pd.Series(dtype=float)


def bands(figure):
    return {c.get_label(): c.get_paths()[0].vertices for c in figure.axes[0].collections}


def shades(figure):
    return [(p.get_x(), p.get_x() + p.get_width()) for p in figure.axes[0].patches]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_median_lies_in_its_bands_after_the_history():
    y = series()
    figure = fan_chart(y[:N], forecast(), y, title="waves")
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_title(loc="left") == "waves"
    median = drawn(figure, BLUE)
    np.testing.assert_allclose(median.to_numpy(), 50 + 0.5 * np.arange(H))
    assert (median.index == y.index[N:]).all()
    for label, low, high in (("90 %", 5, 95), ("50 %", 25, 75)):
        at_start = bands(figure)[label]
        at_start = at_start[at_start[:, 0] == date2num(y.index[N])][:, 1]
        assert (at_start.min(), at_start.max()) == (low, high)
    pd.testing.assert_series_equal(drawn(figure, TRUTH), y[N:], check_freq=False)
    pd.testing.assert_series_equal(drawn(figure, INK), y[N - 4 * H : N], check_freq=False)
    assert labels(figure) == ["observed", "90 %", "50 %", "median", "truth"]


def test_gaps_and_what_was_hidden_are_shaded():
    y = series()[:N].copy()
    y.iloc[40:43] = np.nan
    hidden = np.zeros(N, bool)
    hidden[50:60] = True
    figure = fan_chart(y, forecast(), hidden=hidden, shown=30)
    half = pd.Timedelta("30min")
    expected = [(y.index[a] - half, y.index[b] + half) for a, b in ((40, 42), (50, 59))]
    np.testing.assert_allclose(shades(figure), [[date2num(a), date2num(b)] for a, b in expected], rtol=1e-12)
    assert set(drawn(figure, INK).index) == set(y.index[30:50]) - set(y.index[40:43])
    assert set(drawn(figure, HIDDEN).index) == set(y.index[49:60])
    assert labels(figure) == ["not observed", "hidden", "observed", "90 %", "50 %", "median"]


def test_a_point_has_no_bands_and_quantiles_will_do():
    y = series()
    figure = fan_chart(y[:N], forecast(paths=1))
    assert bands(figure) == {}
    assert labels(figure) == ["observed", "forecast"]
    keys = ["0.05", "0.25", "0.5", "0.75", "0.95"]
    arrays = np.arange(5.0)[:, None] + np.zeros(H)
    quantiles = QuantileForecast(forecast_arrays=arrays, forecast_keys=keys, start_date=pd.Period("2024-03-01 12:00", "h"))
    np.testing.assert_allclose(drawn(fan_chart(y[:N], quantiles), BLUE), 2.0)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("freq", ["h", "15min", "D", "B", "MS"])
def test_dates_of_any_frequency_are_readable(freq):
    y = series(freq=freq, start="2024-01-01")
    start = y.index[N].to_period("M" if freq == "MS" else freq)
    history = y[:N].to_period("M") if freq == "MS" else y[:N].tz_localize("Europe/Berlin") if freq == "D" else y[:N]
    figure = fan_chart(history, SampleForecast(samples=np.ones((3, H)), start_date=start), y, shown=500)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=40)
        assert file.getvalue()[:4] == b"\x89PNG"
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert 4 <= len(ticks) <= 10
    assert len(drawn(figure, TRUTH)) == H


def test_imputations_fill_gaps_alone():
    y = series(N)
    gaps = np.zeros(N, bool)
    gaps[[10, 30, 31, 32, 33, N - 1]] = True
    paths = np.arange(5)[:, None] + np.zeros((5, N))
    figure = imputation_chart(y.where(~gaps), paths, y)
    assert len(shades(figure)) == 3
    assert set(drawn(figure, INK).index) == set(y.index[~gaps])
    inside = drawn(figure, BLUE)
    assert set(inside.index) == set(y.index[30:34])
    np.testing.assert_allclose(inside, 2.0)
    assert set(drawn(figure, TRUTH).index) == set(y.index[gaps])
    assert labels(figure) == ["not observed", "observed", "90 %", "50 %", "median", "truth"]
    one = imputation_chart(y, np.zeros(N), hidden=gaps)  # its own values are the truth
    assert set(drawn(one, TRUTH).index) == set(y.index[gaps])
    assert labels(one) == ["not observed", "observed", "forecast", "truth"]


def test_a_forecast_can_be_dated_and_the_clock_repeat_an_hour():
    y = series(start="2024-10-25")
    y.index = pd.date_range("2024-10-25", periods=N + H, freq="h", tz="Europe/Berlin") + pd.Timedelta("30min")
    local = y.index.tz_localize(None)
    assert not local.is_unique
    for cut in (N, 40):  # the hour in the history and in the forecast
        figure = fan_chart(y[:cut], forecast(), y[cut : cut + H], dates=y.index[cut : cut + H])
        for colour in (BLUE, TRUTH):
            assert drawn(figure, colour).index.tolist() == local[cut : cut + H].tolist()
    gaps = np.zeros(N, bool)
    gaps[45:55] = True
    figure = imputation_chart(y[:N], np.zeros((3, N)), y, hidden=gaps)
    assert drawn(figure, TRUTH).index.tolist() == local[45:55].tolist()
    with pytest.raises(ValueError, match="dates must be 12, one for each step of the forecast, got 5"):
        fan_chart(y[:N], forecast(), dates=y.index[N : N + 5])


def test_pyplot_is_left_alone():
    before = sys.modules.get("matplotlib.pyplot")
    fan_chart(series()[:N], forecast())
    assert before is not None or "matplotlib.pyplot" not in sys.modules
    if before is not None:
        assert before.get_fignums() == []


def test_bad_input_is_named():
    y = series()
    with pytest.raises(TypeError, match="history must be a pandas Series with a DatetimeIndex or PeriodIndex, got RangeIndex"):
        fan_chart(pd.Series([1.0, 2.0]), forecast())
    with pytest.raises(TypeError, match=r"truth must be a pandas Series .* got list"):
        fan_chart(y[:N], forecast(), [1.0])
    with pytest.raises(ValueError, match=r"hidden must have shape \(60,\)"):
        fan_chart(y[:N], forecast(), hidden=np.zeros(3))
    with pytest.raises(ValueError, match="shown must be at least 1"):
        fan_chart(y[:N], forecast(), shown=0)
    with pytest.raises(ValueError, match="history must begin before the forecast"):
        fan_chart(y[N:], forecast())
    with pytest.raises(ValueError, match=r"paths must have shape \(S, 60\)"):
        imputation_chart(y[:N], np.zeros((3, 7)))
