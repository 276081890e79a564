"""The part of a report that shows a time series: its table of scores, its charts, and what of it was measured."""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from posterior.forecast_case import BAND, Chart, ForecastCase
from posterior.page import definitions, filled

__all__ = ["section"]


def section(case: ForecastCase, id: str) -> str:
    """The HTML of ``case``, whose element has the id ``id``; all text is escaped."""
    return filled(
        "forecast.html",
        id=id,
        name=escape(case.name),
        summary=escape(case.summary) + (f" <small>{escape(case.credit)}</small>" if case.credit else ""),
        table=_table(case),
        words="\n".join(f"<div><h3>{title}</h3><p>{text}</p></div>" for title, text in _words(case)),
        charts="\n".join(_figure(chart) for chart in case.charts),
        settings=definitions(case.settings),
    )


def _table(case: ForecastCase) -> str:
    methods = {**case.baseline_scores, case.posterior.name: case.scores}
    best = min(scores.crps for scores in methods.values())
    names = "".join(f'<th scope="col">{name}</th>' for name in ("CRPS", "ND", "Seconds"))
    rows = "".join(
        f'<tr class="{"best" if scores.crps == best else "rest"}"><td class="name">{escape(name)}</td>'
        f"<td>{scores.crps:.4f}</td><td>{scores.nd:.4f}</td><td>{scores.seconds:.1f}</td></tr>"
        for name, scores in methods.items()
    )
    return f'<table><thead><tr><th class="name" scope="col">Method</th>{names}</tr></thead><tbody>{rows}</tbody></table>'


def _words(case: ForecastCase) -> list[tuple[str, str]]:
    """What was measured, what the model made up and how sure that is: headings and paragraphs, as HTML."""
    known, length, horizon, step = int((~np.isnan(case.history)).sum()), len(case.history), len(case.truth), escape(case.step)
    paths, gap = case.gap.shape
    inside, of = case.held
    missing = "" if of == horizon else f" Of these {horizon}, {horizon - of} were never recorded and count nowhere."
    return [
        (
            "What was measured",
            f"Before the forecast lie <b>{length:,}</b> {step}, <b>{known:,}</b> of them with a value. "
            f"The {horizon} that follow were kept from the model and serve to score it.{missing}",
        ),
        (
            "What the model made up",
            f"All <b>{horizon}</b> {step} of the forecast and all <b>{gap}</b> of the gap: what a model that has seen other "
            f"series holds for likely, given the values around. In the gap its median is off by "
            f"<b>{case.gap_error:.1f}</b> {escape(case.unit)} on average; filling it took {case.gap_seconds:.1f} s.",
        ),
        (
            "How sure it is",
            f"Each band comes from {paths} paths. That of {100 * BAND:.0f} % held <b>{inside} of {of}</b> known values, "
            f"<b>{100 * inside / of:.0f} %</b>. This spread is not calibrated: neither band is bound to hold its share.",
        ),
    ]


def _figure(chart: Chart) -> str:
    width, height = (int.from_bytes(chart.png[i : i + 4], "big") for i in (16, 20))  # of the first chunk of every PNG
    uri = f"data:image/png;base64,{base64.b64encode(chart.png).decode()}"
    return (
        f'      <figure><img width="{width}" height="{height}" alt="{escape(chart.alt)}" src="{uri}">'
        f"<figcaption><b>{escape(chart.title)}</b>{escape(chart.caption)}</figcaption></figure>"
    )
