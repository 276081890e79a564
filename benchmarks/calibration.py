"""Whether the uncertainty of restored photographs can be trusted, and the factors that make its intervals hold.

    python -m benchmarks.calibration --photos FOLDER [--size 128] [--samples 4] [--limit N] [--only NAME]
        [--json FILE] [--plot FILE] [--keep FILE] [--ship posterior/calibration.json]

The photographs are those of ``benchmarks.photos``, cropped to their central ``size`` square, measured and restored with
seed = their number. The even ones calibrate, the odd ones test; 95 % needs at least 19 to calibrate. Finished photographs
are kept in the file --keep, a line each, so that an interrupted run goes on where it was; lines of other settings are
ignored. --ship writes what the package installs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import prior
from benchmarks.photos import photographs
from benchmarks.timing import machine
from inverse import RedDiff
from inverse.calibration import FLOOR, LEVELS, Calibration, coverage, half_width, images_needed, reliability, save, scores
from posterior.calibration import TASKS, CalibratedTask, identity
from prior.denoiser import Denoiser

__all__ = ["Kept", "Outcome", "Photo", "Row", "Setup", "brief", "draw", "measure", "outcome"]

GREY_LEVELS = 255
POINTS = 1000
KEEP = Path("runs/calibration.jsonl")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every photograph is restored with, and the side of its crop; ``prior`` names the weights."""

    sampler: RedDiff
    size: int
    prior: str


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One restored photograph, seed = ``number``: its scores in brief and its mean ``std + floor``, in grey levels."""

    task: str
    setup: str
    name: str
    number: int
    scores: tuple[float, ...]
    spread: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: mean coverage and mean width in grey levels of the test photographs' intervals.

    What concerns calibrated intervals is None where too few photographs calibrate.
    """

    task: str
    level: float
    raw: float
    raw_width: float
    factor: float | None
    calibrated: float | None
    calibrated_width: float | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One task: its rows, the reliability of its raw intervals, and its calibration (None with too few photographs)."""

    task: str
    calibration_photographs: int
    test_photographs: int
    rows: tuple[Row, ...]
    nominal: tuple[float, ...]
    observed: tuple[float, ...]
    calibration: Calibration | None


class Kept:
    """The photographs finished so far, a JSON line each in the file ``path``; what cannot be read is restored again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._photos: dict[tuple[str, str, str, int], Photo] = {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text and not text.endswith("\n"):
            path.write_text(f"{text}\n", encoding="utf-8")
        for line in text.splitlines():
            try:
                record = json.loads(line)
                photo = Photo(**record | {"scores": tuple(record["scores"])})
            except (ValueError, KeyError, TypeError):  # a line that an interruption cut short
                continue
            self._photos[photo.task, photo.setup, photo.name, photo.number] = photo

    def find(self, task: str, setup: Setup, name: str, number: int) -> Photo | None:
        """The photograph, where it was finished with just these settings."""
        return self._photos.get((task, repr(setup), name, number))

    def add(self, photo: Photo) -> None:
        """Append a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(photo)) + "\n")


def brief(values: Tensor) -> tuple[float, ...]:
    """A thousand quantiles of a photograph's scores, each the largest of its thousandth: coverage is never overstated."""
    found = np.quantile(values.double().cpu().numpy(), np.arange(1, POINTS + 1) / POINTS, method="inverted_cdf")
    return tuple(float(np.float32(q)) for q in found)


def measure(
    task: CalibratedTask, photos: dict[str, Tensor], model: Denoiser, setup: Setup, *, kept: Kept, console: Console
) -> list[Photo]:
    """All ``photos``, (1, 3, H, W) in [0, 1] by name, restored unless they are ``kept``."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    done = []
    for number, (name, x) in enumerate(track(list(photos.items()), task.name, console=console, transient=True)):
        photo = kept.find(task.name, setup, name, number)
        if photo is None:
            A = task.operator(tuple(x.shape[1:]), number)
            y = A.measure(x, seed=number)
            out = setup.sampler.reconstruct(model, A.to(device), y.to(device), seed=number)
            if out.std is None:
                raise ValueError(f"samples must be at least 2 to have a spread, got {setup.sampler.samples}")
            photo = Photo(
                task=task.name, setup=repr(setup), name=name, number=number, scores=brief(scores(out, x)[0]),
                spread=GREY_LEVELS * float(out.std.mean() + FLOOR),
            )  # fmt: skip
            kept.add(photo)
        done.append(photo)
    return done


def outcome(task: CalibratedTask, photos: Sequence[Photo], setup: Setup) -> Outcome:
    """Fitted on the photographs of even number, tested on those of odd number."""
    if len(photos) < 2:
        raise ValueError(f"photos must be at least 2, one to calibrate and one to test, got {len(photos)}")
    fitting = [torch.tensor(photo.scores) for photo in photos if photo.number % 2 == 0]
    testing = [torch.tensor(photo.scores) for photo in photos if photo.number % 2]
    levels = tuple(level for level in LEVELS if len(fitting) >= images_needed(level))
    samples = setup.sampler.samples
    calibration = None
    if levels:
        fitted = Calibration.fit(
            fitting, task=task.name, sampler=repr(setup.sampler), samples=samples, prior=setup.prior, levels=levels
        )
        calibration = fitted.checked(testing)
    spreads = [photo.spread for photo in photos if photo.number % 2]
    spread = sum(spreads) / len(spreads)
    nominal, observed = reliability(testing, samples)
    return Outcome(
        task=task.name,
        calibration_photographs=len(fitting),
        test_photographs=len(testing),
        rows=tuple(_row(task.name, level, testing, samples, spread, calibration) for level in LEVELS),
        nominal=tuple(nominal),
        observed=tuple(observed),
        calibration=calibration,
    )


def _row(task: str, level: float, testing: list[Tensor], samples: int, spread: float, calibration: Calibration | None) -> Row:
    def held(factor: float) -> float:
        return sum(coverage(s, factor) for s in testing) / len(testing)

    t = half_width(level, samples)
    factor = calibration.factor(level) if calibration is not None and level in calibration.levels else None
    return Row(
        task=task,
        level=level,
        raw=held(t),
        raw_width=2 * t * spread,
        factor=factor,
        calibrated=None if factor is None else held(factor),
        calibrated_width=None if factor is None else 2 * factor * spread,
    )


def _table(outcomes: Sequence[Outcome]) -> Table:
    found = outcomes[0]
    table = Table(
        title=f"intervals of {found.test_photographs} photographs: share of the values held, mean width in grey levels; "
        f"factors from {found.calibration_photographs} others"
    )
    for column in ("task", "wanted", "raw", "width", "calibrated", "width", "factor"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for r in (row for found in outcomes for row in found.rows):
        table.add_row(
            r.task, f"{100 * r.level:.0f} %", f"{100 * r.raw:.1f} %", f"{r.raw_width:.1f}",
            "-" if r.calibrated is None else f"{100 * r.calibrated:.1f} %",
            "-" if r.calibrated_width is None else f"{r.calibrated_width:.1f}",
            "-" if r.factor is None else f"{r.factor:.2f}",
            end_section=r.level == LEVELS[-1],
        )  # fmt: skip
    return table


def draw(path: Path, outcomes: Sequence[Outcome]) -> None:
    """The reliability diagram as PNG: raw curves of each task against the diagonal, points for calibrated levels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.4), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="wanted: level of the interval", ylabel="held: share of the true values within")
    axes.plot((0, 1), (0, 1), color="grey", linestyle=":", label="calibrated Gaussian")
    for found in outcomes:
        (line,) = axes.plot(found.nominal, found.observed, label=found.task)
        points = [(row.level, row.calibrated) for row in found.rows if row.calibrated is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], "o", color=line.get_color(), markeredgecolor="white")
    axes.plot([], [], "o", color="black", markeredgecolor="white", label="after the conformal correction")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _ship(path: Path, outcomes: Sequence[Outcome], facts: dict[str, object]) -> None:
    found = [o.calibration for o in outcomes if o.calibration is not None and o.calibration.levels == LEVELS]
    if len(found) < len(TASKS):
        raise ValueError(
            f"--ship needs all {len(TASKS)} tasks and {images_needed(LEVELS[-1])} photographs that calibrate; "
            f"this run has {len(found)} such tasks"
        )
    save(path, found, facts=facts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--limit", type=int, help="only so many photographs")
    parser.add_argument("--only", default="", help="only the tasks whose name holds this")
    parser.add_argument("--model", default="photos")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", type=Path, default=KEEP)
    parser.add_argument("--ship", type=Path)
    args = parser.parse_args(arguments)
    console = Console(width=130)
    weights = identity(args.model)
    tasks = [task for task in TASKS if args.only in task.name]
    if weights is None or not tasks or args.samples < 2:
        parser.error(
            f"--model must be embedded, --only part of one of {', '.join(repr(task.name) for task in TASKS)}, and --samples "
            f"at least 2; got {args.model!r}, {args.only!r}, {args.samples}"
        )
    setup = Setup(sampler=RedDiff(samples=args.samples), size=args.size, prior=weights)
    photos = dict(list(photographs(args.photos, args.size).items())[: args.limit])
    model = prior.load(args.model).to("cuda" if torch.cuda.is_available() else "cpu")
    kept = Kept(args.keep)
    outcomes = [outcome(t, measure(t, photos, model, setup, kept=kept, console=console), setup) for t in tasks]
    console.print(_table(outcomes))
    facts: dict[str, object] = {"machine": _machine(), "seed": "the number of the photograph", "size": args.size}
    if args.json is not None:
        record = {**facts, "sampler": repr(setup.sampler), "prior": weights, "tasks": [asdict(o) for o in outcomes]}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if args.plot is not None:
        draw(args.plot, outcomes)
    if args.ship is not None:
        _ship(args.ship, outcomes, facts)


def _machine() -> str:
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{machine()}"


if __name__ == "__main__":
    main()
