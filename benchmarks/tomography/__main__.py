"""Projectors beside ASTRA and deepinv, FBP beside scikit-image: same machine, same run, one thread.

    python -m benchmarks.tomography [--json FILE] [--threads 1] [--budget 2]
    python -m benchmarks.tomography --pictures FOLDER --data ../shared/data

Needs the extra ``bench``; a peer that is missing is left out. The second form reconstructs the real tooth sinogram and a
real CT slice by every classical method and draws them into FOLDER.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.timing import machine
from benchmarks.tomography.analytic import AIM, Reconstructed, filtered
from benchmarks.tomography.projectors import CASES, Measured, adjoint_errors, compare, cone

PEERS = ("astra-toolbox", "deepinv", "scikit-image")


def projector_table(rows: list[Measured]) -> Table:
    """One line a case, method and library, with how many times faster our single slice and our stack are."""
    out = Table(title="milliseconds a slice; error: relative distance from the exact line integrals of the phantom")
    for column in ("case", "method", "library", "ms", "one slice", "in a stack", "error"):
        out.add_column(column, justify="left" if column in ("case", "method", "library") else "right")
    for r in rows:
        own = {m.library: m.seconds for m in rows if (m.case, m.method) == (r.case, r.method)}
        stack = next((t for name, t in own.items() if "stack" in name), None)
        ours = r.library.startswith("posterior")
        ratios = (
            ["", ""] if ours else [f"{r.seconds / own['posterior']:.1f}x", "" if stack is None else f"{r.seconds / stack:.1f}x"]
        )
        error = "" if r.error is None else f"{r.error:.2e}"
        out.add_row(r.case, r.method, r.library, f"{1e3 * r.seconds:.1f}", *ratios, error, style="bold" if ours else None)
    return out


def filtered_table(rows: list[Reconstructed]) -> Table:
    """One line a size, library and window."""
    out = Table(title="filtered back-projection of Shepp-Logan: PSNR over the full square")
    for column in ("size", "views", "library", "window", "PSNR, dB", "ms"):
        out.add_column(column, justify="right" if column in ("PSNR, dB", "ms") else "left")
    for r in rows:
        missed = r.window == "ram-lak" and r.psnr < AIM.get(r.size, 0.0)
        cells = (str(r.size), str(r.views), r.library, r.window, f"{r.psnr:.2f}", f"{1e3 * r.seconds:.0f}")
        out.add_row(*cells, style="red" if missed else None)
    return out


def adjoint_table(errors: dict[str, tuple[float, float]]) -> Table:
    """One line a geometry."""
    out = Table("geometry", "float32", "float64", title="mismatch of the adjoint")
    for name, (single, double) in errors.items():
        out.add_row(name, f"{single:.1e}", f"{double:.1e}")
    return out


def installed() -> dict[str, str]:
    """The peers and their versions."""
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Measure, print the tables and, if asked, write JSON; or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each method of each library")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=130)
    if args.pictures is not None:
        from benchmarks.tomography.pictures import draw

        draw(args.data, args.pictures, console)
        return
    rows: list[Measured] = []
    for case in track(CASES, "projectors", console=console, transient=True):
        rows += compare(case, args.budget)
    rows += cone(args.budget)
    images, errors = filtered(args.budget), adjoint_errors()
    for table in (projector_table(rows), filtered_table(images), adjoint_table(errors)):
        console.print(table)
    peers = installed()
    console.print(f"peers: {', '.join(f'{n} {v}' for n, v in peers.items())}; {machine(args.threads)}")
    if args.json is not None:
        record = {
            "projectors": [asdict(r) for r in rows],
            "filtered": [asdict(r) for r in images],
            "adjoint": errors,
            "peers": peers,
            "machine": machine(args.threads),
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
