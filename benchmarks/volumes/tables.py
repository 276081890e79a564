"""The tables: CT and MR on held-out subjects, few steps against the full walk, and objects the prior has never seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from benchmarks.volumes import data
from benchmarks.volumes.anatomy import TOOTH_VIEWS, engine_problems, tooth_problem
from benchmarks.volumes.baselines import Method, ct_baselines, filtered, mr_baselines, total_variation
from benchmarks.volumes.problems import CT_TASKS, MR_TASKS, Problem, measured_brain, on
from benchmarks.volumes.rows import Row, measured, sampled
from benchmarks.volumes.tuning import TUNED, tuned
from medical.samplers import DDS, DiffusionMBIR
from prior.denoiser import Denoiser

__all__ = ["TABLES", "Setup", "Told", "solve"]

Told = Callable[[str], None]
Methods = Mapping[str, Method]

CT_SLICES, MR_SLICES, ENGINE_SLICES, FEW_SLICES = 48, 24, 24, 8
SPARE = 1  # slices by which a block may grow to the whole volume
SIDE = 96  # pixels of the small volume
STEPS = (10, 20, 50, 100)
EVALUATIONS = 7


@dataclass(frozen=True)
class Setup:
    """How a table is made.

    Attributes
    ----------
    folder: of the data.
    model: the prior; dds: the sampler.
    slices: of each volume, None for the table's own number.
    only: regular expressions; a problem is taken whose subject and task match them all.
    device: where it is computed; chunk: slices that pass the network together; full: levels of the full walk.
    """

    folder: Path
    model: Denoiser
    dds: DDS
    slices: int | None = None
    only: tuple[str, ...] = ()
    device: str = "cpu"
    chunk: int = 16
    full: int = 2000

    def wanted(self, subject: str, task: str) -> bool:
        """Whether ``only`` lets them through."""
        return all(re.search(word, f"{subject} {task}") for word in self.only)

    def ours(self) -> Methods:
        """DDS."""
        return {f"DDS, {self.dds.steps} steps": sampled(self.model, self.dds, chunk=self.chunk)}


def ct(setup: Setup) -> tuple[list[Problem], Callable[[Problem], Methods]]:
    """Held-out chests at 256 x 256: sparse views, limited angle, photons."""
    problems = []
    for name in data.CT_TEST:
        subject = data.ct(setup.folder, name)
        count = setup.slices or CT_SLICES
        subject = subject.middle(None if 0 <= len(subject.image) - count <= SPARE else count)
        problems += [task.measure(subject) for task in CT_TASKS if setup.wanted(name, task.name)]
    return problems, lambda problem: {**ct_baselines(problem.task), **setup.ours()}


def mr(setup: Setup) -> tuple[list[Problem], Callable[[Problem], Methods]]:
    """Held-out heads with simulated coils, and a slice of real k-space."""
    problems = []
    for name in data.MR_TEST:
        subject = data.mr(setup.folder, name).middle(setup.slices or MR_SLICES)
        problems += [task.measure(subject) for task in MR_TASKS if setup.wanted(name, task.name)]
    item = measured_brain(setup.folder / "kspace" / "brain8_full.npz")
    problems += [task.undersample(item) for task in MR_TASKS if setup.wanted(item.subject, task.name)]
    return problems, lambda problem: {**mr_baselines(problem.task), **setup.ours()}


def steps(setup: Setup) -> tuple[list[Problem], Callable[[Problem], Methods]]:
    """A small volume from 8 views: DDS with few and more network calls, and the whole of DiffusionMBIR."""
    subject = data.ct(setup.folder, data.CT_TEST[0]).middle(setup.slices or FEW_SLICES).reduced(SIDE)
    problem = CT_TASKS[0].measure(subject)

    def methods(problem: Problem) -> Methods:
        found: dict[str, Method] = {"FBP": filtered}
        for count in STEPS:
            found[f"DDS, {count} steps"] = sampled(setup.model, replace(setup.dds, steps=count), chunk=setup.chunk)
        full = DiffusionMBIR(steps=setup.full)
        return {**found, f"DiffusionMBIR, {setup.full} levels": sampled(setup.model, full, chunk=setup.chunk)}

    return [problem], methods


def anatomy(setup: Setup) -> tuple[list[Problem], Callable[[Problem], Methods]]:
    """An engine and a tooth; TV has the weight that is best on the object itself, which nobody would know."""
    problems = engine_problems(setup.folder, setup.slices or ENGINE_SLICES)
    problems += [tooth_problem(setup.folder, views) for views in TOOTH_VIEWS]

    def methods(problem: Problem) -> Methods:
        share = tuned(TUNED["tv"], [problem], evaluations=EVALUATIONS, tried=lambda share, psnr: None)
        return {"FBP": filtered, "3D ADMM-TV, best weight": lambda p: total_variation(p, share), **setup.ours()}

    return [p for p in problems if setup.wanted(p.subject, p.task)], methods


TABLES = {"ct": ct, "mr": mr, "steps": steps, "anatomy": anatomy}


def solve(
    setup: Setup, table: str, *, told: Told = print, kept: Callable[[Problem, dict[str, Tensor]], None] | None = None
) -> list[Row]:
    """Every method on every problem of a table; ``kept`` gets the estimates of each problem, for pictures."""
    problems, methods = TABLES[table](setup)
    rows = []
    for problem in problems:
        estimates: dict[str, Tensor] = {}
        found = methods(problem)
        moved = on(problem, setup.device)
        for name, method in found.items():
            row, estimates[name] = measured(moved, name, method)
            rows.append(row)
            told(f"{row.subject}, {row.task}, {name}: {row.psnr['axial']:.2f} dB in axial slices, {row.seconds:.1f} s")
        if kept is not None:
            kept(problem, estimates)
    return rows
