"""MRI encoding, coil maps and density weights side by side with sigpy, torchkbnufft and deepinv, in one run.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python -m benchmarks.mri [--json FILE] [--threads 1] [--budget 1.5]
    python -m benchmarks.mri --only kspace --kspace FOLDER [--json FILE] [--figures FOLDER]

Needs the extra ``bench``; a peer that is not installed is left out. The environment keeps NumPy and numba, which the peers
use, to as many threads as torch. FOLDER holds brain8_full.npz, brain8_smallfov.npz and single_coil_512.npz: real k-space,
undersampled and reconstructed by classical methods.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.mri.cartesian import FLOOR, SIZES, cartesian
from benchmarks.mri.coil_maps import coil_maps
from benchmarks.mri.measured import OURS, PEERS, Measured, installed
from benchmarks.mri.non_cartesian import Setting, density, encoding, normal_operator
from benchmarks.timing import machine

PARTS = {
    "Cartesian encoding; difference: from our result": lambda budget: [
        row for size in SIZES for row in cartesian(size, budget=budget)
    ],
    "non-Cartesian encoding; error: against exact sums": lambda budget: encoding(Setting(), budget),
    "A^H A; error: against both in float64": lambda budget: normal_operator(Setting(), budget),
    "density weights; error: of the weighted adjoint image": lambda budget: density(Setting(), budget),
    "coil maps; error: 1 - alignment with the true ones": lambda budget: coil_maps(budget=budget),
}


def speed_table(title: str, rows: Sequence[Measured]) -> Table:
    """One line a call; red where an aim is missed, with the aim."""
    out = Table(title=title)
    for column in ("task", "method", "library", "ms", "ours is faster", "error", "missed"):
        out.add_column(column, justify="right" if column in ("ms", "ours is faster", "error") else "left")
    ours = {(r.task, r.method): r.seconds for r in reversed(rows) if r.library.startswith(OURS)}
    for r in rows:
        ratio = "" if r.library.startswith(OURS) or r.library == FLOOR else f"{r.seconds / ours[r.task, r.method]:.1f} times"
        error = "" if r.error is None else f"{r.error:.1e}"
        out.add_row(
            r.task, r.method, r.library, f"{1e3 * r.seconds:.1f}", ratio, error, r.missed, style="red" if r.missed else None
        )
    return out


def quality_table(rows: Sequence[Any]) -> Table:
    """One line a reconstruction."""
    out = Table(title="real k-space, PSNR and SSIM of the magnitude within the head")
    for column in ("item", "pattern", "acceleration", "method", "share", "iterations", "s", "PSNR", "SSIM"):
        out.add_column(column, justify="left" if column in ("item", "pattern", "method") else "right")
    for r in rows:
        share = "" if r.share is None else f"{r.share:g}"
        out.add_row(
            r.item, r.pattern, f"{r.acceleration:.2f}", r.method, share, str(r.iterations), f"{r.seconds:.1f}",
            f"{r.psnr:.2f}", f"{r.ssim:.3f}",
        )  # fmt: skip
    return out


def speed(budget: float, console: Console) -> dict[str, list[Measured]]:
    """All timings."""
    here = installed()
    for name in PEERS:
        if name not in here:
            console.print(f"{name} is not installed and left out; pip install 'posterior[bench]'")
    results = {}
    for title, measure in track(PARTS.items(), "timing", console=console, transient=True):
        results[title] = measure(budget)
        console.print(speed_table(title, results[title]))
    return results


def reconstruct(folder: Path, figures: Path | None, console: Console) -> dict[str, Any]:
    """All reconstructions of real k-space, and their figures."""
    from benchmarks.mri import pictures
    from benchmarks.mri.kspace import PATTERNS
    from benchmarks.mri.reconstructions import Setup, brain_rows, one_or_two_maps, single_coil_rows

    setup, every = Setup(), []
    for name, rows_of in (("mri_brain.png", brain_rows), ("mri_single_coil.png", single_coil_rows)):
        rows, images, item = rows_of(folder, setup)
        every += rows
        if figures is not None:
            images = {cell: image for cell, image in images.items() if cell[0] != PATTERNS[0].name}  # the easiest
            titles = {(r.pattern, r.method): f"{r.psnr:.1f} dB, {r.ssim:.3f}" for r in rows}
            pictures.comparison(figures / name, item, images, titles)
    console.print(quality_table(every))
    maps, views = one_or_two_maps(folder)
    for row in maps:
        console.print(
            f"brain8_smallfov, {row['sets']} set(s) of maps: misfit {row['misfit']:.3f}, held-out samples {row['held_out']:.3f}"
        )
    if figures is not None:
        pictures.row_of_images(figures / "mri_small_fov.png", views)
    return {"reconstructions": [asdict(r) for r in every], "sets_of_maps": maps, "settings": asdict(setup)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and, if asked, write JSON and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kspace", type=Path, help="folder of real k-space; without it that part is left out")
    parser.add_argument("--figures", type=Path, help="folder for the figures of that part")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=1.5, help="seconds for each call of each library")
    parser.add_argument("--only", choices=("speed", "kspace"))
    args = parser.parse_args(arguments)
    if args.only == "kspace" and args.kspace is None:
        parser.error("--only kspace needs --kspace FOLDER")
    torch.set_num_threads(args.threads)
    console = Console(width=130)
    record: dict[str, Any] = {"machine": machine(args.threads), "peers": installed()}
    if args.only != "kspace":
        if os.environ.get("OMP_NUM_THREADS") != str(args.threads):
            console.print(f"OMP_NUM_THREADS is not {args.threads}: NumPy may use more threads than torch")
        record["speed"] = {title: [asdict(r) for r in rows] for title, rows in speed(args.budget, console).items()}
    if args.kspace is not None and args.only != "speed":
        record |= reconstruct(args.kspace, args.figures, console)
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
