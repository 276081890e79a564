"""Every posterior sampler on every kind of measurement: held-out photographs, the shipped prior, classical baselines.

    python -m benchmarks.quality --photos FOLDER [--count 6] [--size 128] [--samples 4] [--json FILE] [--only TASK]

FOLDER is that of ``benchmarks.photos``. ``count`` of its photographs, evenly spaced, are cropped to their central square,
measured with seed = their number and reconstructed by each sampler of each task. PSNR and SSIM are of the clipped
estimate (the mean of the samples), seconds are for the estimate and all samples, coverage is the share of true values
inside the 68 and 95 % intervals of the samples (Student's t). The weights of total variation are those that
``inverse.classical.tune_tv_weight`` finds on five other photographs (of Set5 and Urban100); for denoising it finds 0.13, but
0.1 does better on these, and is taken. With ``--json`` finished
cells are kept, and a run resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import prior
from benchmarks.photos import photographs
from benchmarks.timing import machine
from inverse import choose
from inverse.ambiguity import align
from inverse.calibration import coverage, half_width, scores
from inverse.choice import Sampler, with_samples
from inverse.classical import tv_reconstruct
from inverse.metrics import psnr, ssim
from inverse.operators import (
    JPEG,
    BlockGaussian,
    Blur,
    Downsample,
    Gaussian,
    Identity,
    Inpaint,
    LinearOperator,
    Operator,
    Overexpose,
    PhaseRetrieval,
)
from inverse.phase import HybridInputOutput
from inverse.samplers import DAPS, DDNM, DDRM, DPS, MCG, Adam, DiffPIR, PiGDM, RedDiff

__all__ = ["TASKS", "Row", "Task"]


@dataclass(frozen=True)
class Task:
    """A measurement of photographs of a shape (C, H, W), its classical answer, and the samplers that can handle it."""

    name: str
    operator: Callable[[tuple[int, ...], int], Operator]
    baseline: str
    classical: Callable[[Operator, Tensor], Tensor]
    samplers: dict[str, Sampler]
    ambiguous: bool = False


def _tv(weight: float) -> Callable[[Operator, Tensor], Tensor]:
    def solve(A: Operator, y: Tensor) -> Tensor:
        if not isinstance(A, LinearOperator):
            raise TypeError(f"total variation needs a linear operator, got {A!r}")
        return tv_reconstruct(A, y, weight)

    return solve


def _unclip(A: Operator, y: Tensor) -> Tensor:
    """Values that were not clipped are known; the others are filled in by least total variation, and stay beyond the end."""
    seen = ((y > 0) & (y < 1)).float()[0]
    known = A.pinv(y)
    if not bool(seen.any()):
        return known
    filled = tv_reconstruct(Inpaint(seen), known * seen, 0.0)
    return torch.where(y >= 1, filled.maximum(known), torch.where(y <= 0, filled.minimum(known), known))


def _linear(zeta: float = 10.0) -> dict[str, Sampler]:
    return {
        "RedDiff": RedDiff(),
        "DiffPIR": DiffPIR(),
        "DDRM": DDRM(),
        "DDNM": DDNM(),
        "PiGDM": PiGDM(prior_std=0.3),
        "DAPS": DAPS(),
        "DPS": DPS(steps=100, zeta=zeta),
        "MCG": MCG(zeta=1.0),
    }


TASKS = (
    Task("denoising 0.1", lambda shape, seed: Identity(shape, noise=Gaussian(0.1)), "total variation", _tv(0.1), _linear(1.0)),
    Task(
        "deblurring sigma 3, noise 0.02",
        lambda shape, seed: Blur.gaussian(3.0, shape=shape, noise=Gaussian(0.02)),
        "total variation",
        _tv(1.3e-3),
        _linear(),
    ),
    Task("inpainting 80 %", lambda shape, seed: Inpaint.random(shape, 0.8, seed=seed), "total variation", _tv(0.0), _linear()),
    Task(
        "super-resolution x4",
        lambda shape, seed: Downsample.bicubic(4, shape=shape, noise=Gaussian(0.01)),
        "total variation",
        _tv(1e-3),
        _linear(),
    ),
    Task(
        "compressed sensing 25 %",
        lambda shape, seed: BlockGaussian.random(0.25, shape=shape, seed=seed),
        "total variation",
        _tv(1e-5),
        _linear(),
    ),
    Task(
        "JPEG quality 10",
        lambda shape, seed: JPEG(10, shape=shape),
        "the decoded file",
        lambda A, y: y,
        {
            "RedDiff": choose(JPEG(10)),
            "RedDiff.paper": RedDiff.paper(),
            "PiGDM": PiGDM(prior_std=0.5, noise_aware=False),
            "DAPS": choose(JPEG(10), goal="samples"),
            "DPS": DPS(steps=100, zeta=3.0),
        },
    ),
    Task(
        "HDR, range doubled",
        lambda shape, seed: Overexpose(2.0, shape=shape),
        "total variation",
        _unclip,
        {
            "RedDiff.paper": RedDiff.paper(lr=0.25, prior_weight=1.0),
            "DAPS, consistent": choose(Overexpose(2.0)),
            "DPS": DPS(steps=100, zeta=0.3),
        },
    ),
    Task(
        "phase retrieval x2, noise 0.01",
        lambda shape, seed: PhaseRetrieval.oversampled(shape, 2.0, solver=HybridInputOutput(alike=True), noise=Gaussian(0.01)),
        "hybrid input-output",
        lambda A, y: A.pinv(y),
        {
            "RedDiff": RedDiff(optimizer=Adam(lr=0.01), levels=(0.2, 0.02)),
            "DAPS": choose(PhaseRetrieval(1)),
            "DPS": DPS(steps=100, zeta=0.5),
        },
        ambiguous=True,
    ),
)


@dataclass(frozen=True)
class Row:
    """Means over the photographs for one sampler (or the baseline) on one task."""

    task: str
    method: str
    settings: str
    photographs: int
    network_calls: int
    psnr: float
    ssim: float
    seconds: float
    coverage_68: float | None = None
    coverage_95: float | None = None


def baseline(task: Task, photos: list[Tensor]) -> Row:
    """The classical answer."""
    figures = []
    for number, x in enumerate(photos):
        A = task.operator(tuple(x.shape[1:]), number)
        y = A.measure(x, seed=number)
        began = time.perf_counter()
        out = task.classical(A, y)
        seconds = time.perf_counter() - began
        figures.append((*_scores(task, out, x), seconds))
    p, s, t = torch.tensor(figures, dtype=torch.float64).mean(0).tolist()
    return Row(task.name, task.baseline, "", len(photos), 0, p, s, t)


def measure(task: Task, name: str, sampler: Sampler, photos: list[Tensor], model: prior.Denoiser, console: Console) -> Row:
    """One sampler on all photographs."""
    figures, calls = [], 0
    for number, x in enumerate(track(photos, description=f"{task.name}: {name}", console=console, transient=True)):
        A = task.operator(tuple(x.shape[1:]), number)
        y = A.measure(x, seed=number)
        out = sampler.reconstruct(model, A, y, seed=number)
        held = (float("nan"),) * 2
        if len(out.samples) > 1 and not task.ambiguous:
            r = scores(out, x)
            held = tuple(coverage(r, half_width(level, len(out.samples))) for level in (0.68, 0.95))
        figures.append((*_scores(task, out.estimate, x), out.seconds, *held))
        calls = out.network_calls
    p, s, t, c68, c95 = torch.tensor(figures, dtype=torch.float64).mean(0).tolist()
    known = c68 == c68
    return Row(task.name, name, repr(sampler), len(photos), calls, p, s, t, c68 if known else None, c95 if known else None)


def _scores(task: Task, out: Tensor, x: Tensor) -> tuple[float, float]:
    out = align(out, x) if task.ambiguous else out
    return float(psnr(out.clamp(0, 1), x)), float(ssim(out.clamp(0, 1), x))


def table(rows: list[Row]) -> Table:
    """One line a method, grouped by task."""
    out = Table(title="means over the photographs; coverage of the 68 / 95 % intervals")
    for column in ("task", "method", "calls", "PSNR", "SSIM", "seconds", "coverage"):
        out.add_column(column)
    for task in dict.fromkeys(r.task for r in rows):
        mine = [r for r in rows if r.task == task]
        best = max(r.psnr for r in mine)
        for i, r in enumerate(mine):
            held = "" if r.coverage_68 is None else f"{100 * r.coverage_68:.0f} / {100 * (r.coverage_95 or 0):.0f} %"
            style = "bold" if r.psnr == best else None
            row = (f"{r.psnr:.2f}", f"{r.ssim:.3f}", f"{r.seconds:.2f}", held)
            out.add_row(task if i == 0 else "", r.method, str(r.network_calls or ""), *row, style=style)
        out.add_section()
    return out


def main() -> None:
    """Measure what is missing, print the table and, if asked, keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--only", default="", help="only the tasks whose name holds this")
    parser.add_argument("--sampler", default="", help="only the samplers whose name holds this")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=120)
    every = list(photographs(args.photos, args.size).values())
    photos = [every[int(i)] for i in torch.linspace(0, len(every) - 1, args.count)]
    model = prior.load("photos")
    settings = {"count": args.count, "size": args.size, "samples": args.samples}
    kept = _kept(args.json, settings)
    rows = []
    for task in TASKS:
        if args.only not in task.name:
            continue
        if args.sampler in task.baseline or not args.sampler:
            rows.append(_cell(kept, baseline(task, photos) if (task.name, task.baseline, "") not in kept else None, task))
        for name, sampler in task.samplers.items():
            if args.sampler not in name:
                continue
            sampler = with_samples(sampler, args.samples)
            key = (task.name, name, repr(sampler))
            rows.append(kept[key] if key in kept else measure(task, name, sampler, photos, model, console))
            _write(args.json, rows, kept, settings)
    console.print(table(rows))


def _cell(kept: dict[tuple[str, str, str], Row], row: Row | None, task: Task) -> Row:
    return row or kept[(task.name, task.baseline, "")]


def _kept(path: Path | None, settings: dict[str, int]) -> dict[tuple[str, str, str], Row]:
    if path is None or not path.exists():
        return {}
    record = json.loads(path.read_text())
    if {k: record[k] for k in settings} != settings:
        raise SystemExit(f"{path} was measured with other settings, {record}; give another file")
    rows = [Row(**r) for r in record["rows"]]
    return {(r.task, r.method, r.settings): r for r in rows}


def _current(samples: int) -> set[tuple[str, str, str]]:
    """What there is to measure, so that figures of earlier settings are dropped."""
    baselines = {(task.name, task.baseline, "") for task in TASKS}
    return baselines | {(t.name, n, repr(with_samples(s, samples))) for t in TASKS for n, s in t.samplers.items()}


def _write(path: Path | None, rows: list[Row], kept: dict[tuple[str, str, str], Row], settings: dict[str, int]) -> None:
    if path is None:
        return
    merged = kept | _kept(path, settings) | {(r.task, r.method, r.settings): r for r in rows}
    merged = {key: row for key, row in merged.items() if key in _current(settings["samples"])}
    record = {**settings, "machine": machine(), "rows": [asdict(r) for r in merged.values()]}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
