"""Whether intervals of reconstructed volumes hold: factors from some subjects, coverage on others.

    python -m benchmarks.volume_calibration --modality ct|mr [--weights FILE] [--data FOLDER] [--json FILE]
        [--steps 20] [--samples 4] [--slices 4] [--blocks 2] [--only NAME] [--fast]

Blocks of neighbouring slices, spread evenly over each volume, are measured, reconstructed by DDS with the shipped prior of the
modality (or its network with the weights of FILE) and compared with the truth. The subjects of the training packs that are
for research only, and two more, calibrate; those of the test folders test. The shipped priors have been trained on some of
the former, which makes their factors too small rather than too large; the check on the others shows whether they hold. At
256 x 256 the default is about 45 slices of CT a task, 80 network calls each: six minutes a task, were a call to take 0.1 s.
--fast is a trial: five steps, two samples, one block of two slices. The JSON keeps what it holds of other runs, and is read
by ``inverse.calibration.load``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional as F

import prior
from benchmarks.calibration import brief
from benchmarks.timing import machine
from benchmarks.volumes import data
from benchmarks.volumes.data import Subject
from benchmarks.volumes.problems import Lines, Problem, Views
from inverse.calibration import FLOOR, LEVELS, Calibration, coverage, half_width
from medical.samplers import DDS
from medical.trust import calibrate, chi_square, magnitudes, voxel_scores
from medical.trust.subjects import AIR
from posterior.volume_request import MRI_START
from prior.denoiser import Denoiser

__all__ = ["MODALITIES", "Block", "Modality", "Row", "Setup", "block_of", "padded", "places", "rows", "table", "write"]

MULTIPLE = 32  # of the sides, as networks want them
JSON = Path("docs/figures/volume_calibration.json")


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What is measured, and of whom.

    Attributes
    ----------
    prior: name of the shipped prior.
    training, held_out: how to read a subject of the training pack and a held-out one.
    calibrating, testing: their names.
    tasks: measurements, noisy and noiseless.
    unit, white: of the widths in the table, and what black to white is in it.
    start: noise at which DDS begins, that of the command line.
    """

    prior: str
    training: Callable[[Path, str], Subject]
    held_out: Callable[[Path, str], Subject]
    calibrating: tuple[str, ...]
    testing: tuple[str, ...]
    tasks: tuple[Views | Lines, ...]
    unit: str
    white: float
    start: float = DDS.sigma_max


MODALITIES = {
    "ct": Modality(
        prior="ct-slices", training=data.ct_training, held_out=data.ct,
        calibrating=("rider_pilot_0117", "c4kc_kits_00072", "ricord_1a_001012"),
        testing=("lidc_idri_0001", "lungfcp_01_0001", "totalseg_example_3mm"),
        tasks=(Views("CT, 8 views, 1e5 photons", 8, photons=1e5), Views("CT, 8 views, noiseless", 8)),
        unit="HU", white=2500.0,
    ),
    "mr": Modality(
        prior="mr-slices", training=data.mr_training, held_out=data.mr,
        calibrating=("clinical_t2", "niivue_t1"),
        testing=("vs_seg_001_t1gd", "stroke_t1", "stroke_t2", "stroke_flair"),
        tasks=(Lines("MR, 4x, 8 coils, noise 0.5 %", 4.0, 20),),
        unit="% of white", white=100.0, start=MRI_START,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every block is reconstructed with: ``blocks`` of ``slices`` slices a subject; ``prior`` names the weights."""

    sampler: DDS
    slices: int
    blocks: int
    prior: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """One reconstructed block of slices.

    Attributes
    ----------
    subject, task: names.
    inside, everywhere: scores in brief, of what is not air and of all voxels.
    spread: mean ``std + 1e-3`` of what is not air; error: root mean square of the same voxels.
    chi_square: reduced; None without noise.
    """

    subject: str
    task: str
    inside: tuple[float, ...]
    everywhere: tuple[float, ...]
    spread: float
    error: float
    chi_square: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: what the intervals of a held-out subject hold.

    Shares are those of voxels that are not air, ``everywhere`` of all; widths are means in the unit of the modality.
    """

    task: str
    subject: str
    level: float
    raw: float
    raw_width: float
    calibrated: float
    everywhere: float
    calibrated_width: float


def places(depth: int, slices: int, blocks: int) -> list[slice]:
    """Where the blocks of a volume of ``depth`` slices lie: in the middle of equal parts, shorter only if the volume is."""
    size = min(slices, depth)
    firsts = [round((k + 0.5) * depth / blocks - size / 2) for k in range(blocks)]
    return [slice(first, first + size) for first in (min(max(first, 0), depth - size) for first in firsts)]


def padded(subject: Subject) -> Subject:
    """With air at the right and below, to sides that are multiples of 32."""
    height, width = subject.image.shape[-2:]
    return replace(subject, image=F.pad(subject.image, (0, -width % MULTIPLE, 0, -height % MULTIPLE)))


def block_of(problem: Problem, model: Denoiser, setup: Setup, *, seed: int = 0) -> Block:
    """Reconstructed and compared with the truth."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    out = setup.sampler.reconstruct(model, problem.A.to(device), problem.y.to(device), seed=seed)
    truth = problem.truth.to(device)
    seen = magnitudes(out)
    inside = seen.estimate >= AIR
    assert seen.std is not None
    misfit = chi_square(out, seed=seed)
    return Block(
        subject=problem.subject,
        task=problem.task,
        inside=brief(voxel_scores(out, truth)),
        everywhere=brief(voxel_scores(out, truth, air=None)),
        spread=float((seen.std + FLOOR)[inside].mean()),
        error=float((seen.estimate - (truth.abs() if truth.is_complex() else truth))[inside].square().mean().sqrt()),
        chi_square=None if misfit is None else misfit.reduced,
    )


def measured(
    subjects: Mapping[str, Subject], task: Views | Lines, model: Denoiser, setup: Setup, *, console: Console
) -> dict[str, list[Block]]:
    """All blocks of all subjects, seed = number of the block."""
    found: dict[str, list[Block]] = {}
    for name, subject in track(list(subjects.items()), task.name, console=console, transient=True):
        parts = places(len(subject.image), setup.slices, setup.blocks)
        pieces = [replace(subject, image=subject.image[part]) for part in parts]
        found[name] = [block_of(task.measure(piece, seed=k), model, setup, seed=k) for k, piece in enumerate(pieces)]
    return found


def fitted(blocks: Mapping[str, Sequence[Block]], held_out: Mapping[str, Sequence[Block]], setup: Setup) -> Calibration:
    """Factors from some subjects, checked on the others."""

    def scores(found: Sequence[Block]) -> list[torch.Tensor]:
        return [torch.tensor(block.inside) for block in found]

    task = next(iter(blocks.values()))[0].task
    calibration = calibrate(
        {name: scores(found) for name, found in blocks.items()},
        task=task, sampler=repr(setup.sampler), samples=setup.sampler.samples, prior=setup.prior,
    )  # fmt: skip
    return calibration.checked([torch.cat(scores(found)) for found in held_out.values()])


def rows(held_out: Mapping[str, Sequence[Block]], calibration: Calibration, white: float) -> list[Row]:
    """Of every held-out subject and level."""
    found = []
    for name, blocks in held_out.items():
        inside = torch.tensor([block.inside for block in blocks])
        everywhere = torch.tensor([block.everywhere for block in blocks])
        spread = white * sum(block.spread for block in blocks) / len(blocks)
        for level, factor in zip(calibration.levels, calibration.factors, strict=True):
            t = half_width(level, calibration.samples)
            found.append(
                Row(
                    task=calibration.task, subject=name, level=level,
                    raw=coverage(inside, t), raw_width=2 * t * spread,
                    calibrated=coverage(inside, factor), everywhere=coverage(everywhere, factor),
                    calibrated_width=2 * factor * spread,
                )
            )  # fmt: skip
    return found


def table(found: Sequence[Row], calibrations: Sequence[Calibration], unit: str) -> Table:
    """A line for each task, subject and level, and the factors."""
    out = Table(title="held-out subjects: share of the voxels held (what is not air; 'all' with the air), mean widths")
    for column in ("task", "subject", "wanted", "raw", f"width, {unit}", "calibrated", "all", f"width, {unit}", "factor"):
        out.add_column(column, justify="left" if column in ("task", "subject") else "right")
    factors = {(c.task, level): c.factor(level) for c in calibrations for level in c.levels}
    for r in found:
        out.add_row(
            r.task, r.subject, f"{100 * r.level:.0f} %", f"{100 * r.raw:.1f} %", f"{r.raw_width:.3g}",
            f"{100 * r.calibrated:.1f} %", f"{100 * r.everywhere:.1f} %", f"{r.calibrated_width:.3g}",
            f"{factors[r.task, r.level]:.2f}", end_section=r.level == LEVELS[-1],
        )  # fmt: skip
    return out


def write(path: Path, run: str, calibrations: Sequence[Calibration], facts: Mapping[str, object]) -> None:
    """Put the calibrations and ``facts`` of one run into the JSON file, in the place of earlier ones of its name or tasks."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"runs": {}, "calibrations": []}
    tasks = [c.task for c in calibrations]
    runs = {**record["runs"], run: {**facts, "tasks": tasks}}
    old = {*tasks, *record["runs"].get(run, {}).get("tasks", ())}
    kept = [entry for entry in record["calibrations"] if entry["task"] not in old]
    record = {"runs": runs, "calibrations": kept + [asdict(c) for c in calibrations]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def run(modality: Modality, model: Denoiser, setup: Setup, *, folder: Path, only: str = "", console: Console) -> tuple[
    list[Calibration], list[Row], list[Block]
]:  # fmt: skip
    """All tasks whose name holds ``only``: calibrations, the table's rows, and every block."""
    calibrating = {name: padded(modality.training(folder, name)) for name in modality.calibrating}
    testing = {name: padded(modality.held_out(folder, name)) for name in modality.testing}
    calibrations: list[Calibration] = []
    found: list[Row] = []
    every: list[Block] = []
    for task in (task for task in modality.tasks if only in task.name):
        blocks = measured(calibrating, task, model, setup, console=console)
        held_out = measured(testing, task, model, setup, console=console)
        calibrations.append(fitted(blocks, held_out, setup))
        found += rows(held_out, calibrations[-1], modality.white)
        every += [block for group in (*blocks.values(), *held_out.values()) for block in group]
    return calibrations, found, every


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modality", choices=tuple(MODALITIES), required=True)
    parser.add_argument("--weights", type=Path, help="of the network of the shipped prior")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path, default=JSON)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--slices", type=int, default=4, help="of a block")
    parser.add_argument("--blocks", type=int, default=2, help="of a subject")
    parser.add_argument("--only", default="", help="only the tasks whose name holds this")
    parser.add_argument("--fast", action="store_true", help="a trial in a minute; its figures say little")
    args = parser.parse_args(arguments)
    modality = MODALITIES[args.modality]
    names = [task.name for task in modality.tasks]
    if args.samples < 2 or args.slices < 1 or args.blocks < 1 or not any(args.only in name for name in names):
        parser.error(
            f"--samples must be at least 2, --slices and --blocks 1, and --only part of one of {', '.join(map(repr, names))}; "
            f"got {args.samples}, {args.slices}, {args.blocks}, {args.only!r}"
        )
    steps, samples, slices, blocks = (5, 2, 2, 1) if args.fast else (args.steps, args.samples, args.slices, args.blocks)
    name = modality.prior if args.weights is None else f"{modality.prior}, {args.weights.name}"
    setup = Setup(sampler=DDS(steps=steps, samples=samples, sigma_max=modality.start), slices=slices, blocks=blocks, prior=name)
    console = Console(width=150)
    model = prior.load(modality.prior, weights=args.weights).to("cuda" if torch.cuda.is_available() else "cpu")
    calibrations, found, every = run(modality, model, setup, folder=args.data, only=args.only, console=console)
    console.print(table(found, calibrations, modality.unit))
    facts = {
        "machine": machine(), "sampler": repr(setup.sampler), "prior": name, "slices": slices, "blocks": blocks,
        "unit": modality.unit, "air": AIR, "rows": [asdict(row) for row in found],
        "blocks_measured": [
            {"task": b.task, "subject": b.subject, "error": b.error, "spread": b.spread, "chi_square": b.chi_square}
            for b in every
        ],
    }  # fmt: skip
    write(args.json, f"{args.modality}, {args.only}" if args.only else args.modality, calibrations, facts)


if __name__ == "__main__":
    main()
