"""The page that every report is: one HTML file that needs nothing else, with what was made on top and how below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

__all__ = ["definitions", "filled", "page"]


def page(body: str, *, title: str, lead: str, facts: Mapping[str, object], styles: Sequence[str] = ()) -> str:
    """The HTML of a page: ``title`` and ``lead`` open it, ``facts`` (names and values) close it, and all three are escaped.

    ``body`` is HTML already; ``styles`` are templates with further CSS.
    """
    return filled(
        "page.html",
        title=escape(title),
        lead=escape(lead),
        style="".join(_text(name) for name in ("report.css", *styles)),
        script=_text("report.js"),
        body=body,
        facts=definitions(facts),
    )


def filled(template: str, /, **values: object) -> str:
    """The file ``template`` with its ``$words`` replaced."""
    return Template(_text(template)).substitute(values)


def definitions(items: Mapping[str, object]) -> str:
    """Names and values as the entries of a ``<dl>``, escaped."""
    return "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in items.items())


def _text(name: str) -> str:
    return resources.files("posterior").joinpath("templates", name).read_text(encoding="utf-8")
