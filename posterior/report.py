"""Reports: reconstructions side by side with what there was before them, as one HTML file that needs nothing else.

Pictures are embedded, nothing is fetched (the page forbids it to itself), and all text is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image

from posterior import forecast_report, trust
from posterior.cases import Case, View, views
from posterior.forecast_case import ForecastCase
from posterior.images import write_atomically
from posterior.page import definitions, filled, page

__all__ = ["html", "write"]

SPREAD = colormaps["magma"]  # of maps of numbers: dark is zero
GREY_LEVELS = 255


def write(
    path: Path,
    cases: Sequence[Case],
    *,
    forecasts: Sequence[ForecastCase] = (),
    title: str,
    lead: str,
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write the report to the HTML file ``path``, completely or not at all; see :func:`html`."""
    write_atomically(path, html(cases, forecasts=forecasts, title=title, lead=lead, facts=facts).encode())
    return path


def html(
    cases: Sequence[Case],
    *,
    forecasts: Sequence[ForecastCase] = (),
    title: str,
    lead: str,
    facts: Mapping[str, object] | None = None,
) -> str:
    """The report of ``cases``, and of ``forecasts`` after them, as one HTML page.

    ``lead`` opens it, and ``facts`` (names and values) close it.
    """
    if not cases:
        raise ValueError("cases must hold at least one case, got none")
    shown = [_case(case, f"case-{i}") for i, case in enumerate(cases, 1)]
    shown += [forecast_report.section(case, f"forecast-{i}") for i, case in enumerate(forecasts, 1)]
    body = filled("report.html", table=_table(cases), note=_note(cases), cases="\n".join(shown))
    return page(body, title=title, lead=lead, facts=facts or {}, styles=("forecast.css",) if forecasts else ())


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


# the table


def _table(cases: Sequence[Case]) -> str:
    names = "".join(f'<th scope="col">{name}</th>' for name in ("PSNR", "SSIM", "Seconds", "Against the best baseline"))
    head = f'<thead><tr><th class="name" scope="col">Task</th><th class="name" scope="col">Method</th>{names}</tr></thead>'
    return f"<table>{head}{''.join(_rows(case, f'case-{i}') for i, case in enumerate(cases, 1))}</table>"


def _rows(case: Case, id: str) -> str:
    methods = {"Input": case.input_scores, **case.baseline_scores, "Posterior": case.scores}
    if case.input_scores.psnr is None:
        del methods["Input"]
    best = max((scores.psnr for scores in methods.values() if scores.psnr is not None), default=None)
    task = f'<th scope="rowgroup" rowspan="{len(methods)}"><a href="#{id}">{escape(case.name)}</a></th>'
    rows = []
    for name, scores in methods.items():
        tone = "best" if scores.psnr is not None and scores.psnr == best else "rest"
        gain = _gain(case) if name == "Posterior" else ""
        numbers = f"<td>{_number(scores.psnr, 2)}</td><td>{_number(scores.ssim, 3)}</td><td>{_number(scores.seconds, 1)}</td>"
        rows.append(f'<tr class="{tone}">{task}<td class="name">{escape(name)}</td>{numbers}<td>{gain}</td></tr>')
        task = ""
    return f"<tbody>{''.join(rows)}</tbody>"


def _gain(case: Case) -> str:
    rivals = [scores.psnr for scores in case.baseline_scores.values() if scores.psnr is not None]
    if case.scores.psnr is None or not rivals:
        return ""
    gain = case.scores.psnr - max(rivals)
    tone = "gain up" if gain > 0 else "gain"
    return f'<span class="{tone}">{gain:+.2f} dB</span>'


def _note(cases: Sequence[Case]) -> str:
    samples = max(len(case.reconstruction.samples) for case in cases)
    took = f" and the {samples} samples behind its uncertainty" if samples else ""
    return (
        "PSNR (dB) and SSIM are against the true image; higher is closer. "
        f"Seconds are wall-clock time; Posterior's include the estimate{took}."
    )


# one case


def _case(case: Case, id: str) -> str:
    out = case.reconstruction
    height, width = out.estimate.shape[-2:]
    settings = {"operator": out.operator, "noise": out.operator.noise, **out.settings, "network calls": out.network_calls}
    return filled(
        "case.html",
        id=id,
        name=escape(case.name),
        summary=escape(case.summary) + (f" <small>{escape(case.credit)}</small>" if case.credit else ""),
        ratio=f"{width} / {height}",
        scores=_scores(case),
        words="\n".join(f"<h3>{title}</h3><p>{text}</p>" for title, text in _words(case)) + trust.plot(case),
        panels="\n".join(_figure(case, view) for view in views(case)),
        settings=definitions(settings),
    )


def _scores(case: Case) -> str:
    ours, theirs = case.scores, case.baseline_scores
    items = []
    for title, key, digits in (("PSNR, dB", "psnr", 2), ("SSIM", "ssim", 3), ("Seconds", "seconds", 1)):
        beside = "".join(
            f"<small>{escape(name)} {_number(getattr(scores, key), digits)}</small>" for name, scores in theirs.items()
        )
        items.append(f"<div><dt>{title}</dt><dd>{_number(getattr(ours, key), digits)}{beside}</dd></div>")
    return "".join(items)


def _words(case: Case) -> list[tuple[str, str]]:
    """What the measurement fixes, what the prior filled in and how sure that is: headings and paragraphs, as HTML."""
    words = [("What was measured", f"{_share(case)}{_fit(case)}")]
    if case.reconstruction.measured_share() is not None:
        words.append(("What was filled in", f"{FILLED}{_error_by_part(case)}"))
    if case.reconstruction.std is not None:
        words.append(("How sure it is", _certainty(case)))
    return words


FILLED = (
    "The rest is what the prior, having seen other pictures, holds for likely. It was not observed: "
    "a detail that shows only under “Filled in” may be invented."
)


def _share(case: Case) -> str:
    share = case.reconstruction.measured_share()
    return "" if share is None else f"The measurement fixes about <b>{100 * share:.1f} %</b> of what makes up this picture. "


def _fit(case: Case) -> str:
    ratio = case.reconstruction.residual_ratio
    if ratio is None:
        rms = GREY_LEVELS * float(case.reconstruction.residual.abs().square().mean().sqrt())
        return (
            f"It has no noise; measured again, the estimate differs from it by <b>{rms:.2f}</b> of {GREY_LEVELS} grey levels."
        )
    if ratio > 1.2:
        verdict = "more than noise explains, so the estimate contradicts what was measured"
    elif ratio < 0.8:
        verdict = "less than the noise, so the estimate follows some of it"
    else:
        verdict = "as close as the noise allows"
    return f"Measured again, the estimate differs from it by <b>{ratio:.2f}</b> times the noise: {verdict}."


def _error_by_part(case: Case) -> str:
    if case.truth is None:
        return ""
    error = case.reconstruction.estimate - case.truth.to(case.reconstruction.estimate)
    measured = case.reconstruction.project(error)
    here, there = (GREY_LEVELS * float(part.square().mean().sqrt()) for part in (measured, error - measured))
    return (
        f" Here, where the truth is known, the error is <b>{here:.1f}</b> grey levels (RMS, of {GREY_LEVELS}) "
        f"in the measured part and <b>{there:.1f}</b> in the filled-in part."
    )


def _certainty(case: Case) -> str:
    out = case.reconstruction
    if out.std is None:
        return ""
    spread = GREY_LEVELS * float(out.std.mean())
    return (
        f"Between {len(out.samples)} samples a pixel varies by <b>{spread:.1f}</b> grey levels. "
        f"{trust.words(out, case.calibration)}{trust.coverage_words(out, case.truth, case.calibration)}"
    )


def _figure(case: Case, view: View) -> str:
    height, width = view.pixels.shape[:2]
    coarse = ' class="coarse"' if width < case.reconstruction.estimate.shape[-1] else ""
    alt = escape(f"{case.name}, {view.title}: {view.caption}")
    title = escape(view.title)
    return (
        f'      <figure class="panel" data-key="{view.key}" data-title="{title}">'
        f'<button type="button" aria-label="Compare with {title}">'
        f'<img{coarse} width="{width}" height="{height}" alt="{alt}" src="{_data_uri(view)}"></button>'
        f"<figcaption><b>{title}</b>{escape(view.caption)}{_scale(view)}</figcaption></figure>"
    )


def _data_uri(view: View) -> str:
    pixels = view.pixels if view.white is None else SPREAD(view.pixels, bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _scale(view: View) -> str:
    """The colour bar of a map of numbers."""
    if view.white is None:
        return ""
    stops = ", ".join("#{:02x}{:02x}{:02x}".format(*SPREAD(i / 8, bytes=True)[:3]) for i in range(9))
    return (
        f'<span class="scale" style="background: linear-gradient(90deg, {stops})"></span>'
        f'<span class="ends"><span>0</span><span>{GREY_LEVELS * view.white:.0f} of {GREY_LEVELS}</span></span>'
    )
