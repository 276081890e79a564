"""Jobs: a task over a file or a folder of files, from reading to writing."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import prior
from inverse.operators.base import Operator
from posterior import calibration, samplers
from posterior.calibration import Calibrated
from posterior.commands.options import Options, SamplerName
from posterior.errors import one_line
from posterior.images import FORMATS, Picture, check_format, encode, read, write_atomically
from posterior.outputs import compute_device
from posterior.restoration import Restored, Sampler, restore
from posterior.tasks import Task
from posterior.tiles import Tiling
from prior.denoiser import Denoiser

__all__ = ["STD_WHITE", "Failure", "Item", "Job", "Outcome", "Result", "check_free", "check_result", "over_files", "run"]

PRIOR, SAMPLER, ABOVE = "photos", SamplerName.reddiff, 4.0  # where the options leave them out
STD_WHITE = 0.25  # the standard deviation that is white in a .std.png: about that of a photograph's pixels

Progress = Callable[[float, float], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One restored file, as reports and ``--json`` give it.

    ``operator`` is None where a network restores without a model of the measurement.
    ``calibration`` is None where there are no samples or where none was measured for just this task, sampler and prior.
    """

    input: str
    output: str
    std: str | None
    measured: str | None
    height: int
    width: int
    channels: int
    bits: int
    model: str
    operator: str | None
    residual_ratio: float | None
    measured_share: float | None
    filled_share: float | None
    calibration: Calibrated | None
    network_calls: int
    seconds: float
    tiles: int
    settings: dict[str, object]


@dataclass(frozen=True)
class Failure:
    """One file of a folder that could not be restored, and why."""

    input: str
    error: str


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    results: tuple[Result, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Item:
    """A file to restore, and the files that come of it."""

    source: Path
    target: Path
    name: Path  # relative to the folder given

    @property
    def std(self) -> Path:
        return self.target.with_name(f"{self.target.name}.std.png")

    @property
    def measured(self) -> Path:
        return self.target.with_name(f"{self.target.name}.measured.png")

    @property
    def report(self) -> Path:
        return self.target.with_name(f"{self.target.name}.json")


Process = Callable[[Item, Callable[[int, int], None]], Result]
"""From one file, and a callback for its progress, to its result."""


@runtime_checkable
class Job(Protocol):
    """What restores files in its own way, where a task is restored by the samplers."""

    def run(self, source: Path, target: Path, options: Options, progress: Progress | None = None) -> Outcome:
        """As :func:`run`."""


def run(task: Task, source: Path, target: Path, options: Options, progress: Progress | None = None) -> Outcome:
    """Restore the file ``source`` to the file ``target``, or every image of the folder ``source`` to the folder ``target``."""

    def prepare() -> Process:
        above = ABOVE if options.tile_above is None else options.tile_above
        tiling = Tiling(tile=options.tile, overlap=options.overlap, above=above)
        model = prior.load(options.model or PRIOR, weights=options.weights).to(compute_device(options.device))
        return lambda item, step: _process(task, item, model, tiling, options, step)

    return over_files(prepare, source, target, options, progress)


def over_files(
    prepare: Callable[[], Process], source: Path, target: Path, options: Options, progress: Progress | None = None
) -> Outcome:
    """What ``prepare`` gives, for the file ``source`` or for every image of the folder ``source``; ``target`` is of its kind.

    Outputs that are in the way are found before anything is prepared. One file that fails raises its error. In a folder the
    others go on, and the failures are in the outcome.
    """
    items = _folder(source, target) if source.is_dir() else [_single(source, target)]
    if not source.is_dir():
        check_free(items[0], options)
    process = prepare()
    results, failures = [], []
    for index, item in enumerate(items):

        def step(done: int, total: int, index: int = index) -> None:
            if progress is not None:
                progress(index + done / total, len(items))

        try:
            results.append(process(item, step))
        except Exception as error:
            message = one_line(error)
            if message is None or not source.is_dir():
                raise
            failures.append(Failure(str(item.source), message))
    return Outcome(tuple(results), tuple(failures))


def _process(
    task: Task, item: Item, model: Denoiser, tiling: Tiling, options: Options, step: Callable[[int, int], None]
) -> Result:
    check_free(item, options)
    picture = read(item.source, max_megapixels=options.max_megapixels)
    check_format(item.target, picture)
    problem = task(picture, item.name)
    check_result(item, (picture.size[0] * problem.scale, picture.size[1] * problem.scale), options)

    def choose(operator: Operator) -> Sampler:
        return samplers.chosen(options.sampler or SAMPLER, operator, steps=options.steps, samples=options.samples)

    restored = restore(problem, model, choose, tiling, seed=options.seed, progress=step)
    calibrated = _calibration(restored, picture, options)
    result = _result(item, restored, options, calibrated)
    _save(item, restored, result, options)
    return result


def check_result(item: Item, size: tuple[int, int], options: Options) -> None:
    """Raise ``ValueError`` where a result of this ``size`` (H, W) has more pixels than allowed."""
    height, width = size
    if height * width > options.max_megapixels * 1e6:
        raise ValueError(
            f"{item.source}: the result, {width} x {height}, would have more than the {options.max_megapixels:g} "
            "megapixels of --max-megapixels"
        )


def _calibration(restored: Restored, picture: Picture, options: Options) -> Calibrated | None:
    # a grey picture, or one put together from tiles, is none of those that calibrations are measured on
    if restored.std is None or restored.tiles > 1 or len(picture.colour) == 1:
        return None
    weights = calibration.identity(options.model or PRIOR, options.weights)
    found = calibration.find(restored.operator, (3, *restored.picture.size), sampler=restored.sampler, prior=weights)
    return None if found is None else Calibrated.of(found)


def _result(item: Item, restored: Restored, options: Options, calibrated: Calibrated | None) -> Result:
    picture, share, name = restored.picture, restored.measured_share, options.model or PRIOR
    return Result(
        input=str(item.source),
        output=str(item.target),
        std=None if restored.std is None else str(item.std),
        measured=str(item.measured) if options.report and restored.measured is not None else None,
        height=picture.size[0],
        width=picture.size[1],
        channels=len(picture.colour) + (picture.alpha is not None),
        bits=picture.depth,
        model=name if options.weights is None else f"{name} ({options.weights})",
        operator=repr(restored.operator),
        residual_ratio=restored.residual_ratio,
        measured_share=share,
        filled_share=None if share is None else 1 - share,
        calibration=calibrated,
        network_calls=restored.network_calls,
        seconds=round(restored.seconds, 3),
        tiles=restored.tiles,
        settings=restored.settings,
    )


def _save(item: Item, restored: Restored, result: Result, options: Options) -> None:
    files = []
    if restored.std is not None:
        files.append((item.std, encode(Picture(colour=restored.std / STD_WHITE, depth=16), ".png")))
    if options.report and restored.measured is not None:
        files.append((item.measured, encode(restored.measured, ".png")))
    if options.report:
        files.append((item.report, (json.dumps(dataclasses.asdict(result), indent=2, default=str) + "\n").encode()))
    files.append((item.target, encode(restored.picture, item.target.suffix)))  # last: where it is, its evidence is
    item.target.parent.mkdir(parents=True, exist_ok=True)
    for path, data in files:
        write_atomically(path, data)


def _single(source: Path, target: Path) -> Item:
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no such file or folder")
    if target.is_dir():
        raise ValueError(f"{target} is a folder, but {source} is a file; give the output a file name")
    check_format(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: there is no such folder to write {target.name} to")
    return Item(source, target, Path(source.name))


def _folder(source: Path, target: Path) -> list[Item]:
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, but {source} is a folder; give the output a folder name")
    paths = [p for p in _images(source) if target.resolve() == source.resolve() or target.resolve() not in p.resolve().parents]
    if not paths:
        raise ValueError(f"{source}: no image in this folder; suffixes read are {', '.join(FORMATS)}")
    return [Item(p, target / p.relative_to(source), p.relative_to(source)) for p in paths]


def _images(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix.lower() in FORMATS and not p.name.startswith("."))


def check_free(item: Item, options: Options) -> None:
    """Raise ``OSError`` where a file that is to be written is there already, or must not be written to."""
    written = [item.target]
    if options.samples > 1:
        written.append(item.std)
    if options.report:
        written += [item.report, item.measured]
    for path in written:
        if path.exists() and not options.overwrite:
            raise FileExistsError(f"{path} is there already; --overwrite replaces it")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(f"{path} must not be written to")
