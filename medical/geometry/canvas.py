"""A panel of a drawing: it maps points of the world to the page and writes them down as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from torch import Tensor

__all__ = ["PALETTE", "Panel", "animate", "document", "draw_axes", "text"]

PALETTE = {
    "source": "#d9722b",
    "detector": "#3a80c9",
    "ray": "#c99a2e",
    "field": "#3f9b5f",
    "grid": "#8a8a8a",
    "text": "#7d7d7d",
}
"""Colours in the middle of the scale, legible on white and on black."""

Point = Sequence[float]


@dataclass
class Panel:
    """A part of the page, ``left + x scale_x`` from its left and ``top - y scale_y`` from its top.

    Parameters
    ----------
    scale: pixels per unit of the world, across and upwards.
    origin: where the world's origin lies on the page.
    """

    scale: tuple[float, float]
    origin: tuple[float, float]
    parts: list[str] = field(default_factory=list)

    @classmethod
    def fit(cls, points: Iterable[Point], box: tuple[float, float, float, float], stretch: float | None = 1.0) -> Panel:
        """The panel that shows all ``points`` in ``box`` (left, top, width, height).

        ``stretch`` is how much larger the second axis is drawn; None chooses 1, 2, 5, 10, ... such that it fills the box.
        """
        across, upwards = zip(*points, strict=True)
        left, top, width, height = box
        wide = max(max(across) - min(across), 1e-9)
        tall = max(max(upwards) - min(upwards), 1e-9 * wide)
        if stretch is None:
            room = min(height / tall * wide / width, 1e6)
            steps = [m * 10.0**k for k in range(7) for m in (1, 2, 5)]
            stretch = max([s for s in steps if s <= room], default=1.0) if room > 5 else 1.0
        scale = min(width / wide, height / (tall * stretch))
        middle = (max(across) + min(across)) / 2, (max(upwards) + min(upwards)) / 2
        origin = left + width / 2 - scale * middle[0], top + height / 2 + scale * stretch * middle[1]
        return cls((scale, scale * stretch), origin)

    @property
    def stretch(self) -> float:
        """How much larger the second axis is drawn."""
        return self.scale[1] / self.scale[0]

    def at(self, point: Point) -> tuple[float, float]:
        """Where a ``point`` of the world lies on the page."""
        return self.origin[0] + self.scale[0] * point[0], self.origin[1] - self.scale[1] * point[1]

    def path(self, points: Iterable[Point]) -> str:
        """``points`` of the world as the coordinates of a line on the page."""
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in map(self.at, points))

    def line(self, points: Iterable[Point], colour: str, *, width: float = 1.0, dash: str = "", name: str = "") -> None:
        """A line through ``points``."""
        extra = (f' stroke-dasharray="{dash}"' if dash else "") + (f' class="{name}"' if name else "")
        drawn = f'points="{self.path(points)}" fill="none" stroke="{colour}" stroke-width="{width}"{extra}'
        self.parts.append(f"<polyline {drawn}/>")

    def area(self, points: Iterable[Point], colour: str, opacity: float) -> None:
        """A filled polygon."""
        self.parts.append(f'<polygon points="{self.path(points)}" fill="{colour}" fill-opacity="{opacity}"/>')

    def dot(self, point: Point, colour: str, radius: float, *, name: str = "") -> None:
        """A filled circle of ``radius`` pixels."""
        x, y = self.at(point)
        called = f' class="{name}"' if name else ""
        self.parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius}" fill="{colour}"{called}/>')

    def ring(self, middle: Point, colour: str, radius: float, *, dash: str = "", name: str = "") -> None:
        """A circle of ``radius`` pixels."""
        x, y = self.at(middle)
        extra = (f' stroke-dasharray="{dash}"' if dash else "") + (f' class="{name}"' if name else "")
        self.parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}" fill="none" stroke="{colour}"{extra}/>')

    def head(self, tip: Point, direction: Point, colour: str, size: float = 9.0) -> None:
        """An arrowhead that ends at ``tip`` and points along ``direction``, both of the world."""
        x, y = self.at(tip)
        dx, dy = direction[0] * self.scale[0], -direction[1] * self.scale[1]
        length = math.hypot(dx, dy) or 1.0
        dx, dy = size * dx / length, size * dy / length
        corners = [(x, y), (x - dx - 0.38 * dy, y - dy + 0.38 * dx), (x - dx + 0.38 * dy, y - dy - 0.38 * dx)]
        self.parts.append(f'<polygon points="{" ".join(f"{a:.2f},{b:.2f}" for a, b in corners)}" fill="{colour}"/>')

    def arrow(self, points: Sequence[Point], colour: str, *, width: float = 1.5) -> None:
        """A line through ``points`` with a head at its end."""
        self.line(points, colour, width=width)
        (x0, y0), (x1, y1) = points[-2][:2], points[-1][:2]
        self.head(points[-1], (x1 - x0, y1 - y0), colour)

    def label(self, point: Point, words: str, *, away: Point = (0.0, 1.0), gap: float = 9.0, colour: str = "") -> None:
        """``words`` beside ``point``, ``gap`` pixels off in the direction ``away`` of the page (x right, y up)."""
        x, y = self.at(point)
        length = math.hypot(*away) or 1.0
        dx, dy = away[0] / length, -away[1] / length
        anchor = "start" if dx > 0.4 else "end" if dx < -0.4 else "middle"
        text(self.parts, (x + gap * dx, y + gap * dy + 4.5 + 4.5 * dy), words, anchor=anchor, colour=colour)

    def svg(self, name: str) -> str:
        """The panel as a group; ``data-scale`` and ``data-origin`` tell how it maps the world."""
        scale, origin = (" ".join(f"{v:.6g}" for v in pair) for pair in (self.scale, self.origin))
        return f'<g class="{name}" data-scale="{scale}" data-origin="{origin}">\n' + "\n".join(self.parts) + "\n</g>"


def text(parts: list[str], at: Point, words: str, *, anchor: str = "start", colour: str = "", bold: bool = False) -> None:
    """Add ``words`` at a point of the page."""
    style = ' font-weight="600"' if bold else ""
    place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour or PALETTE["text"]}"{style}'
    parts.append(f"<text {place}>{escape(words)}</text>")


def draw_axes(panel: Panel, names: tuple[str, str], corner: tuple[float, float]) -> None:
    """Arrows along the two axes of the world, at a ``corner`` of the page."""
    x, y = ((corner[0] - panel.origin[0]) / panel.scale[0], (panel.origin[1] - corner[1]) / panel.scale[1])
    right, up = (x + 42 / panel.scale[0], y), (x, y + 42 / panel.scale[1])
    panel.arrow([(x, y), right], PALETTE["text"], width=1.3)
    panel.arrow([(x, y), up], PALETTE["text"], width=1.3)
    panel.label(right, names[0], away=(1, 0), gap=5)
    panel.label(up, names[1], away=(0, 1), gap=4)


def animate(panel: Panel, starts: Tensor, ends: Tensor) -> None:
    """Source and detector running through the views, (views, points, 2) each, once in eight seconds."""
    fans, edges, sources = [], [], []
    for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
        fans.append(panel.path([a[0], *b, a[-1]]))
        edges.append(panel.path(b))
        sources.append(panel.at([(p + q) / 2 for p, q in zip(a[0], a[-1], strict=True)]))

    def over(attribute: str, values: list[str]) -> str:
        return f'<animate attributeName="{attribute}" dur="8s" repeatCount="indefinite" values="{";".join(values)}"/>'

    (x, y), blue, orange = sources[0], PALETTE["detector"], PALETTE["source"]
    across, down = ([f"{at[i]:.2f}" for at in sources] for i in (0, 1))
    panel.parts += [
        f'<polygon points="{fans[0]}" fill="{PALETTE["ray"]}" fill-opacity="0.2">{over("points", fans)}</polygon>',
        f'<polyline points="{edges[0]}" fill="none" stroke="{blue}" stroke-width="4">{over("points", edges)}</polyline>',
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="6" fill="{orange}">{over("cx", across)}{over("cy", down)}</circle>',
    ]


def document(parts: Iterable[str], size: tuple[float, float], title: str) -> str:
    """A whole SVG of ``size`` pixels; its ground is transparent."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="13">\n'
        f"<title>{escape(title)}</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )
