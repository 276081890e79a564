"""A reconstruction as a figure: what was measured, the answer, how sure it is, and what comes from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inverse.panels import Panel, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from inverse.reconstruction import Reconstruction

__all__ = ["TITLES", "draw"]

TITLES = {
    "measurement": "measurement",
    "estimate": "estimate",
    "std": "standard deviation",
    "measured": "fixed by the measurement",
    "filled": "filled in by the prior",
}
SIDE = 3.2  # inches a panel


def draw(reconstruction: Reconstruction, member: int = 0) -> Figure:
    """A figure with one panel for each picture of batch member ``member``; a one-dimensional measurement is a curve.

    The figure belongs to no window: ``figure.savefig(path)`` writes it, and a notebook shows it.
    """
    from matplotlib.figure import Figure

    shown = panels(reconstruction)[member]
    curve = all(panel.name != "measurement" for panel in shown)
    count = len(shown) + curve
    figure = Figure(figsize=(SIDE * count, SIDE * 1.15), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    if curve:
        _draw_curve(axes.pop(0), reconstruction.measurement[member])
    for ax, panel in zip(axes, shown, strict=True):
        _draw_panel(figure, ax, panel)
    return figure


def _draw_panel(figure: Figure, ax: Axes, panel: Panel) -> None:
    pixels = panel.values[0].numpy() if len(panel.values) == 1 else panel.pixels()  # of colours, the scale is ignored
    image = ax.imshow(pixels, cmap="magma" if panel.name == "std" else "gray", vmin=panel.black, vmax=panel.white)
    ax.set_title(TITLES[panel.name] + (" (grey is zero)" if panel.signed else ""), fontsize="medium")
    ax.set_axis_off()
    if panel.name == "std":
        figure.colorbar(image, ax=ax, shrink=0.8)


def _draw_curve(ax: Axes, values: Any) -> None:
    values = values.detach().cpu().flatten()
    ax.plot((values.abs() if values.is_complex() else values).numpy(), linewidth=0.8)
    ax.set_title(TITLES["measurement"], fontsize="medium")
    ax.set_xlabel("index")
