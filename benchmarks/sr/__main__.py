"""Super-resolution x4 of photographs: interpolation, posterior samplers with the shipped prior, and ResShift.

    python -m benchmarks.sr --photos ../shared/data/photos_test [--sets set5 set14 bsd100 urban100] [--only PATTERN ...]
        [--first N] [--size 0] [--json FILE] [--pictures FOLDER] [--model photos-x4 --weights FILE] [--samples 4]
        [--lpips alex BACKBONE HEADS]
    python -m benchmarks.sr --photos ../shared/data/photos_test --realistic [imagenet_test|training] [--noise 0.05]

Photographs are cut to multiples of 4 and reduced as MATLAB's ``imresize`` does, in 8 bits, or with ``--realistic`` by the
second-order degradation with a seed of their own. PSNR and SSIM are of luma in 8 bits (BT.601, studio range) without a
border of 4 pixels, as papers on super-resolution report them; ResShift's own keep the border (``--border 0``). The energy
is the sum of the squared gradient of luma over the truth's. LPIPS needs its two weight files.

RED-Diff and DiffPIR suppose the bicubic reduction, also where it is none; of realistic and real photographs they suppose
noise of ``--noise`` besides. ``real_lq`` are photographs without truth, of which figures are given that need none.
With ``--json`` the rows of other methods and sets that the file holds are kept.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import prior
from benchmarks.sr.methods import BICUBIC, LANCZOS, ROUNDING, Method, restored, sampled
from benchmarks.sr.pictures import draw, file_name
from benchmarks.sr.restorers import restorers
from benchmarks.sr.rows import RealRow, Row, measured, measured_real, real_table, table
from benchmarks.sr.scores import Distance
from benchmarks.sr.sets import FACTOR, REAL, SETS, Photograph, photographs, present
from benchmarks.timing import machine
from inverse.choice import Sampler
from inverse.samplers import DiffPIR, RedDiff
from restore.resshift import LPIPS, Bicubic, Realistic

DRAWN = 6  # photographs of a set that are drawn
SAMPLERS: dict[str, Sampler] = {"RED-Diff": RedDiff(), "DiffPIR": DiffPIR()}


def methods_of(args: argparse.Namespace, noise: float) -> list[Method]:
    """The methods that ``--only`` lets through, in the order of the tables."""
    wanted = lambda name: not args.only or any(re.search(word, name, re.IGNORECASE) for word in args.only)  # noqa: E731
    methods = [method for method in (BICUBIC, LANCZOS) if wanted(method.name)]
    samplers = {name: sampler for name, sampler in SAMPLERS.items() if wanted(name)}
    if samplers:
        model = prior.load("photos").to(args.device)
        methods += [sampled(name, sampler, model, noise=noise) for name, sampler in samplers.items()]
    if not wanted("ResShift"):
        return methods
    for name, restorer in restorers(args.model, args.weights, args.autoencoder).items():
        moved = restorer.to(args.device)
        methods.append(restored(f"ResShift {name}", moved, samples=args.samples, tile=args.tile))
    return methods


def make(args: argparse.Namespace, console: Console) -> tuple[list[Row], list[RealRow]]:
    """All sets, written as they are done."""
    law = Bicubic(FACTOR) if args.realistic is None else Realistic(FACTOR, args.realistic)
    lpips: Distance | None = LPIPS(*args.lpips) if args.lpips else None
    methods: dict[float, list[Method]] = {}
    rows: list[Row] = []
    real: list[RealRow] = []
    for name in present(args.photos, args.sets, console.print):
        noise = args.noise if name == REAL or args.realistic is not None else ROUNDING
        if noise not in methods:
            methods[noise] = methods_of(args, noise)
        photos = photographs(args.photos / name, None if name == REAL else law, first=args.first, size=args.size)
        photos = [replace(photo, degraded=photo.degraded.to(args.device)) for photo in photos]
        drawing = _Drawing(args, name)
        if name == REAL:
            real += measured_real(name, photos, methods[noise], kept=drawing)
        else:
            rows += measured(name, photos, methods[noise], border=args.border, lpips=lpips, kept=drawing)
        _write(args, rows, real)
        console.print(f"{name}: {len(photos)} photographs done")
    return rows, real


class _Drawing:
    """Draws the first photographs of a set, where pictures are asked for."""

    def __init__(self, args: argparse.Namespace, name: str) -> None:
        self.folder, self.border, self.name, self.drawn = args.pictures, args.border, name, 0
        self.prefix = "real" if name == REAL else args.realistic or "bicubic"

    def __call__(self, photo: Photograph, results: dict[str, Tensor]) -> None:
        if self.folder is None or self.drawn >= DRAWN:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        draw(self.folder / file_name(self.prefix, self.name, photo), photo, results, border=self.border)
        self.drawn += 1


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file have in common."""
    names = ("realistic", "border", "first", "size", "samples", "noise", "device")
    weights = None if args.weights is None else args.weights.name
    return {name: getattr(args, name) for name in names} | {"weights": weights, "threads": torch.get_num_threads()}


def _read(args: argparse.Namespace) -> dict[str, Any]:
    """What the file of ``--json`` holds; ``SystemExit`` where it was measured otherwise."""
    if args.json is None or not args.json.exists():
        return {"rows": [], "real": []}
    record: dict[str, Any] = json.loads(args.json.read_text(encoding="utf-8"))
    differing = [name for name, value in _settings(args).items() if record["settings"].get(name) != value]
    if differing:
        raise SystemExit(f"--json: {args.json} was measured with another {', '.join(differing)}; give another file")
    return record


def _write(args: argparse.Namespace, rows: Sequence[Row], real: Sequence[RealRow]) -> None:
    if args.json is None:
        return
    record = _read(args)
    merged = {"rows": _merged(record["rows"], rows), "real": _merged(record["real"], real)}
    content = {"settings": _settings(args), "machine": machine(), **merged}
    args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _merged(old: Sequence[dict[str, Any]], new: Sequence[Row] | Sequence[RealRow]) -> list[dict[str, Any]]:
    """Both, the new ones in place of old ones of their set and method."""
    return list(({(r["set"], r["method"]): r for r in old} | {(r.set, r.method): asdict(r) for r in new}).values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="the folder of the sets")
    parser.add_argument("--sets", nargs="+", help=f"subfolders; {' '.join(SETS)}, and with --realistic {REAL}")
    only = "regular expressions; the methods that match one: bicubic, Lanczos, RED-Diff, DiffPIR, ResShift"
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help=only)
    parser.add_argument("--first", type=int, help="photographs of each set")
    parser.add_argument("--size", type=int, default=0, help="side of the central square that is taken; 0 takes all")
    parser.add_argument("--border", type=int, default=FACTOR, help="pixels that PSNR, SSIM and energy leave out")
    parser.add_argument("--realistic", nargs="?", const="imagenet_test", choices=("imagenet_test", "training"))
    parser.add_argument("--noise", type=float, default=0.05, help="that the samplers suppose where it is not known")
    parser.add_argument("--model", help="a restorer that ships, or a released task with --weights")
    parser.add_argument("--weights", type=Path, help="of --model: a file, or a folder of released ones")
    parser.add_argument("--autoencoder", type=Path, help="of --model, where it does not lie beside the weights")
    parser.add_argument("--samples", type=int, default=4, help="of ResShift")
    parser.add_argument("--tile", type=int, default=256, help="of ResShift, in pixels of the small photograph")
    parser.add_argument("--lpips", nargs=3, metavar=("NET", "BACKBONE", "HEADS"), help="vgg or alex, and its two files")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help=f"for the first {DRAWN} photographs of each set")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and, if asked, write JSON and pictures."""
    parser = _parser()
    args = parser.parse_args(arguments)
    for name, least in (("first", 1), ("size", 0), ("border", 0), ("samples", 1), ("tile", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}, got {value}")
    args.sets = args.sets or [*SETS, *([REAL] if args.realistic is not None else [])]
    console = Console(width=130)
    _read(args)
    rows, real = make(args, console)
    if rows:
        title = f"x{FACTOR}, {args.realistic or 'bicubic'}: PSNR in dB and SSIM on luma, border {args.border}"
        console.print(table(title, rows))
    if real:
        console.print(real_table(real))
    console.print(machine())


if __name__ == "__main__":
    main()
