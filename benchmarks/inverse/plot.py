"""The figure of the comparison with deepinv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["plot"]

METHODS = {"forward": "o", "adjoint": "s", "pinv": "^", "prox": "D"}


def plot(record: dict[str, Any], path: Path) -> None:
    """How many times faster each method of each operator is, and what a step of each sampler costs beyond its network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    names = list(dict.fromkeys(r["operator"] for r in record["operators"]))[::-1]
    for method, marker in METHODS.items():
        mine = {r["operator"]: r["ratio"] for r in record["operators"] if r["method"] == method}
        left.plot([mine[n] for n in names], range(len(names)), marker, label=method, alpha=0.85, markersize=6)
    left.set(xscale="log", xlabel="times faster than deepinv, one thread, 3 x 256 x 256")
    left.set_yticks(range(len(names)), names)
    left.axvline(1, color="0.4", linewidth=0.8)
    left.grid(axis="x", alpha=0.3)
    left.legend(fontsize="small")
    cells = [f"{c['sampler']}, {c['task']}" for c in record["samplers"] if c["library"] == "posterior"][::-1]
    for offset, library, colour in ((0.2, "posterior", "C0"), (-0.2, "deepinv", "0.6")):
        mine = {f"{c['sampler']}, {c['task']}": c["overhead"] for c in record["samplers"] if c["library"] == library}
        bars = right.barh([i + offset for i in range(len(cells))], [mine[c] for c in cells], 0.38, label=library, color=colour)
        right.bar_label(bars, fmt="%.1f", fontsize="x-small", padding=2)
    right.set(xscale="log", xlabel="milliseconds a step beyond the network")
    right.set_yticks(range(len(cells)), cells)
    right.legend(fontsize="small")
    figure.suptitle(record["machine"] + f", deepinv {record['deepinv']}", fontsize="small")
    figure.savefig(path, dpi=110)
