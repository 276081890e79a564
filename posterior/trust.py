"""How far the uncertainty of a reconstruction can be trusted: in words, and as a reliability diagram (inline SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from torch import Tensor

from inverse.calibration import LEVELS, Calibration, coverage, half_width, reliability, scores
from inverse.reconstruction import Reconstruction
from posterior.cases import Case
from posterior.page import filled

__all__ = ["coverage_words", "plot", "words"]

GREY_LEVELS = 255
SIDE = 200  # of the diagram, in pixels

UNCALIBRATED = "This spread is not calibrated for this task: read it as where the picture is unsure, not as how much. "


def words(out: Reconstruction, calibration: Calibration | None) -> str:
    """What is known of the spread of the samples from other photographs, as HTML."""
    if calibration is None:
        return UNCALIBRATED
    level = max(calibration.levels)
    at = calibration.levels.index(level)
    reach = GREY_LEVELS * float(calibration.reach(out, level).mean())
    text = f"Calibrated, the {100 * level:.0f} % interval of a value reaches <b>±{reach:.1f}</b> grey levels on average. "
    check = calibration.check
    if check is None:
        return f"{text}How often it holds on other photographs was not measured. "
    return (
        f"{text}On {check.images} held-out photographs such intervals held "
        f"<b>{100 * check.calibrated[at]:.1f} %</b> of the values; straight from the samples, {100 * check.raw[at]:.1f} %. "
    )


def coverage_words(out: Reconstruction, truth: Tensor | None, calibration: Calibration | None) -> str:
    """What the intervals hold of this picture, where the ``truth`` is known, as HTML."""
    if truth is None:
        return ""
    level = LEVELS[-1] if calibration is None else max(calibration.levels)
    off = scores(out, truth)
    raw = coverage(off, half_width(level, len(out.samples)))
    values = "values" if off.numel() == truth.numel() else "missing values"
    text = f"Of this picture’s {values}, {100 * level:.0f} % intervals straight from the samples hold <b>{100 * raw:.1f} %</b>"
    if calibration is None:
        return f"{text}."
    return f"{text}, calibrated ones <b>{100 * coverage(off, calibration.factor(level)):.1f} %</b>."


def plot(case: Case) -> str:
    """The reliability diagram of a case, as HTML; empty where there is nothing to draw.

    A line for the photographs held out from the calibration, one for this picture where its truth is known, both before
    calibration, and a point for each calibrated level.
    """
    out, check = case.reconstruction, None if case.calibration is None else case.calibration.check
    marks, told = [], []
    if check is not None and case.calibration is not None:
        marks.append(_curve("held-out", check.nominal, check.observed))
        marks += [_point(*point) for point in zip(case.calibration.levels, check.calibrated, strict=True)]
        told.append("bold, other photographs; dots, calibrated")
    if case.truth is not None and out.std is not None:
        marks.append(_curve("own", *reliability(scores(out, case.truth), len(out.samples))))
        told.append("thin, this picture")
    if not marks:
        return ""
    return filled(
        "reliability.html", name=escape(case.name), side=SIDE, marks="\n".join(marks), caption="; ".join(told).capitalize()
    )


def _curve(name: str, nominal: Sequence[float], observed: Sequence[float]) -> str:
    path = " ".join(f"{SIDE * x:.1f},{SIDE * (1 - y):.1f}" for x, y in zip(nominal, observed, strict=True))
    return f'<polyline class="{name}" points="{path}"/>'


def _point(nominal: float, observed: float) -> str:
    return f'<circle class="calibrated" cx="{SIDE * nominal:.1f}" cy="{SIDE * (1 - observed):.1f}" r="4"/>'
