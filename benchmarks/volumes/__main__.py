"""Volumes from few measurements on held-out subjects: DDS with the shipped slice priors beside the classical methods.

    python -m benchmarks.volumes ct|mr|steps|anatomy [--data ../shared/data] [--json FILE] [--pictures FOLDER]
        [--slices N] [--only PATTERN ...] [--steps 20] [--set eta=0.85 inner=5] [--weights FILE] [--device cuda]
    python -m benchmarks.volumes tune tv|cg|wavelet [--only PATTERN ...] [--evaluations 8]
    python -m benchmarks.volumes tune dds-ct|dds-mr --set eta=0,0.85 inner=3,5,10 [--weights FILE]

PSNR and SSIM have the data range 1 and clip nothing; they are means over the axial, coronal and sagittal slices that show
something. ``tune`` works on subjects of the training packs; the shares that it finds are those in ``baselines.py``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.timing import machine
from benchmarks.volumes.pictures import draw, file_name
from benchmarks.volumes.priors import load_prior
from benchmarks.volumes.problems import Problem
from benchmarks.volumes.rows import mean_table, table
from benchmarks.volumes.tables import TABLES, Setup, solve
from benchmarks.volumes.tuning import TUNED, combinations, problems_of, swept, tasks_of, tuned
from medical.samplers import DDS, Run

PRIORS = {"ct": "ct-slices", "mr": "mr-slices", "steps": "ct-slices", "anatomy": "ct-slices"}
SWEPT = {"dds-ct": "ct", "dds-mr": "mr"}


def make(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """One table, its record and, if asked, its pictures."""
    chosen = list(combinations(args.set))
    if len(chosen) != 1:
        raise ValueError(f"a table has one setting of DDS, got {len(chosen)} with {' '.join(args.set)}; tune compares them")
    sampler = DDS(**{"steps": args.steps, **chosen[0]})
    model = load_prior(PRIORS[args.what], args.weights).to(args.device)
    setup = Setup(args.data, model, sampler, args.slices, tuple(args.only), args.device, args.chunk, args.levels)

    def kept(problem: Problem, estimates: dict[str, Tensor]) -> None:
        if args.pictures is not None:
            args.pictures.mkdir(parents=True, exist_ok=True)
            draw(args.pictures / file_name(args.what, problem), problem, estimates)

    rows = solve(setup, args.what, told=console.print, kept=kept)
    console.print(table(f"{args.what}: PSNR in dB / SSIM by plane", rows))
    console.print(mean_table(rows))
    return {"rows": [asdict(r) for r in rows], "sampler": asdict(sampler), "prior": _prior_of(args)}


def tune(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The best share of a classical method for each task, or a sweep of DDS."""
    what = SWEPT.get(args.method)
    record: dict[str, Any] = {}
    model = None if what is None else load_prior(PRIORS[what], args.weights).to(args.device)
    for task in tasks_of(what or TUNED[args.method].modality):
        if not all(re.search(word, task.name) for word in args.only):
            continue
        problems = problems_of(args.data, task, args.slices or 4)
        if model is None:
            tell = lambda share, psnr, name=task.name: console.print(f"{name}: {share:.3g} {psnr:.3f} dB")  # noqa: E731
            record[task.name] = tuned(TUNED[args.method], problems, evaluations=args.evaluations, tried=tell)
            console.print(f"{task.name}: best share {record[task.name]:.2g}", style="bold")
            continue
        tried = [{"steps": args.steps, **chosen} for chosen in combinations(args.set)]
        found = [(swept(model, problems, c, device=args.device, run=Run(chunk=args.chunk)), c) for c in tried]
        for psnr, settings in sorted(found, key=lambda pair: -pair[0]):
            console.print(f"{task.name}: {psnr:.3f} dB {settings}")
        record[task.name] = [{"psnr": psnr, **settings} for psnr, settings in found]
    return {args.method: record}


def _prior_of(args: argparse.Namespace) -> str:
    return PRIORS[args.what] if args.weights is None else f"{PRIORS[args.what]}, weights {args.weights.name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*TABLES, "tune"))
    parser.add_argument("method", nargs="?", choices=(*TUNED, *SWEPT), help="what to tune")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--slices", type=int, help="of each volume, in its middle")
    only = "regular expressions; of the problems whose subject and task match all of them"
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help=only)
    parser.add_argument("--steps", type=int, default=20, help="network calls of DDS")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of DDS")
    parser.add_argument("--levels", type=int, default=2000, help="of DiffusionMBIR")
    parser.add_argument("--weights", type=Path, help="of the prior: .safetensors, or a .ckpt of its training")
    parser.add_argument("--evaluations", type=int, default=8, help="weights that tune tries")
    parser.add_argument("--chunk", type=int, default=16, help="slices that pass the network together")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a table or tune; print it and, if asked, write JSON and pictures."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if (args.what == "tune") != (args.method is not None):
        parser.error("tune needs what to tune" if args.what == "tune" else f"{args.what} takes no {args.method}")
    torch.set_num_threads(args.threads)
    console = Console(width=150)
    record = (tune if args.what == "tune" else make)(args, console)
    record |= {"machine": machine(args.threads), "device": args.device, "threads": args.threads, "seed": 0}
    if args.device == "cuda":
        record["device"] = torch.cuda.get_device_name()
    console.print(f"{record['machine']}; {record['device']}")
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
