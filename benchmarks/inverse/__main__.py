"""Side by side with deepinv: operators and samplers, same machine, same run, same denoiser weights.

    python -m benchmarks.inverse --photos FOLDER [--json FILE] [--plot FILE] [--threads 1] [--count 4] [--full-size]

Needs the extra ``bench``. FOLDER is that of ``benchmarks.photos``. Operators are timed alternately on one 3 x 256 x 256
image; samplers run on ``count`` photographs, each cell in its own process. ``--full-size`` also times one call of the
552-million-parameter ImageNet network (random weights), to set the samplers' overhead against.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.inverse.operators import PAIRS, Measured, compare
from benchmarks.inverse.plot import plot
from benchmarks.inverse.samplers import CELLS, Cell, run_cell
from benchmarks.timing import machine


def operator_table(rows: list[Measured]) -> Table:
    """One line an operator and method."""
    out = Table(title="milliseconds on 3 x 256 x 256; error: each library's own defect")
    for column in ("operator", "method", "posterior", "deepinv", "times faster", "aim", "our error", "their error"):
        out.add_column(column, justify="left" if column in ("operator", "method") else "right")
    for r in rows:
        style = None if r.ratio >= r.aim else "red"
        out.add_row(
            r.operator if r.method == "forward" else "", r.method, f"{1e3 * r.ours:.2f}", f"{1e3 * r.theirs:.2f}",
            f"{r.ratio:.1f}", f"{r.aim:.0f}", f"{r.our_error:.0e}", f"{r.their_error:.0e}", style=style,
        )  # fmt: skip
    return out


def sampler_table(cells: list[Cell]) -> Table:
    """One line a sampler, task and library."""
    out = Table(title="samplers; overhead: milliseconds a step beyond the network")
    for column in ("sampler", "task", "library", "steps", "calls", "s / step", "overhead", "MiB", "PSNR"):
        out.add_column(column)
    for c in cells:
        out.add_row(
            c.sampler, c.task, c.library, str(c.steps), str(c.network_calls), f"{c.seconds_per_step:.3f}",
            f"{c.overhead:.2f}", f"{c.memory:.0f}", f"{c.psnr:.2f}",
        )  # fmt: skip
    return out


def full_size_call() -> float:
    """Seconds of one evaluation of the unconditional ImageNet network at 256 x 256, with random weights."""
    from prior.checkpoints import released

    network = released()["adm-imagenet-256"].model.build().eval()
    x, t = torch.randn(1, 3, 256, 256), torch.full((1,), 500.0)
    with torch.no_grad():
        network(x, t)
        began = time.perf_counter()
        network(x, t)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print the tables and, if asked, write JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--budget", type=float, default=1.5, help="seconds for each method of each operator")
    parser.add_argument("--only", choices=("operators", "samplers"))
    parser.add_argument("--full-size", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=130)
    rows: list[Measured] = []
    cells: list[Cell] = []
    if args.only != "samplers":
        for pair in track(PAIRS, "operators", console=console, transient=True):
            rows += compare(pair, args.budget)
        console.print(operator_table(rows))
    if args.only != "operators":
        every = [(library, *cell) for cell in CELLS for library in ("posterior", "deepinv")]
        for cell in track(every, "samplers", console=console, transient=True):
            cells.append(run_cell(*cell, args.photos, args.count, args.threads))
        console.print(sampler_table(cells))
    record = {
        "operators": [asdict(r) | {"ratio": r.ratio} for r in rows],
        "samplers": [asdict(c) for c in cells],
        "full_size_call": full_size_call() if args.full_size else None,
        "deepinv": version("deepinv"),
        "machine": machine(args.threads),
    }
    if args.full_size:
        console.print(f"one call of the 552 M network at 256 x 256: {record['full_size_call']:.2f} s")
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if args.plot is not None:
        plot(record, args.plot)


if __name__ == "__main__":
    main()
