"""The settings: weights of the classical methods by golden section, those of DDS by a sweep, on subjects of the training packs.

The share of the squared norm that a weight is does not depend on the number of views, nor on the size of the voxels: the
limited angle is tuned with a third of its views. Few slices and fewer iterations than in the tables move it little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.volumes import baselines, data
from benchmarks.volumes.problems import CT_TASKS, MR_TASKS, Lines, Problem, Views, on
from benchmarks.volumes.scores import quality
from inverse.golden_section import golden_section
from medical.samplers import DDS, Run
from prior.denoiser import Denoiser

__all__ = ["TUNED", "Tuned", "combinations", "problems_of", "swept", "tasks_of", "tuned"]

SLICES = 4
FEWER = 30  # views of the limited angle


@dataclass(frozen=True)
class Tuned:
    """What is tuned: the tasks, the method of a problem and a share, the range of shares."""

    modality: str
    method: Callable[[Problem, float], baselines.Answer]
    bounds: tuple[float, float]


TUNED = {
    "tv": Tuned("ct", lambda p, s: baselines.total_variation(p, s, replace(baselines.TV, iterations=100)), (3e-6, 3e-3)),
    "cg": Tuned("mr", lambda p, s: baselines.cg_sense(p, s), (1e-4, 1.0)),
    "wavelet": Tuned("mr", lambda p, s: baselines.wavelet(p, s, replace(baselines.WAVELET, iterations=100)), (3e-5, 3e-2)),
}


def problems_of(folder: Path, task: Views | Lines, slices: int = SLICES) -> list[Problem]:
    """The measurements of the subjects to tune on."""
    if isinstance(task, Lines):
        return [task.measure(data.mr_training(folder, name).middle(slices)) for name in data.MR_TUNE]
    fewer = replace(task, views=FEWER) if task.arc < math.pi else task
    return [fewer.measure(data.ct_training(folder, name).middle(slices)) for name in data.CT_TUNE]


def tasks_of(modality: str) -> Sequence[Views | Lines]:
    """All tasks of ``"ct"`` or ``"mr"``."""
    return CT_TASKS if modality == "ct" else MR_TASKS


def tuned(what: Tuned, problems: Sequence[Problem], *, evaluations: int, tried: Callable[[float, float], None]) -> float:
    """The share of the highest mean PSNR; ``tried(share, psnr)`` hears of every one."""

    def mean(log_share: float) -> float:
        share = math.exp(log_share)
        found = sum(quality(what.method(p, share).estimate, p.truth) for p in problems) / len(problems)
        tried(share, found)
        return found

    low, high = what.bounds
    return math.exp(golden_section(mean, math.log(low), math.log(high), evaluations=evaluations))


def combinations(settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    """``["eta=0,0.85", "inner=5"]`` to every combination of values, as fields of :class:`DDS`.

    Raises ``ValueError`` for a word that is no ``name=value`` and for a name that is no setting.
    """
    known = set(DDS.__dataclass_fields__)
    names, values = [], []
    for setting in settings:
        name, _, listed = setting.partition("=")
        if name not in known or not listed:
            raise ValueError(f"a setting must be name=value,value with a name of {', '.join(sorted(known))}, got {setting!r}")
        names.append(name)
        values.append([_value(word) for word in listed.split(",")])
    for chosen in itertools.product(*values):
        yield dict(zip(names, chosen, strict=True))


def _value(word: str) -> float | str | None:
    """A whole number, a number, None or a word."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    return None if word == "None" else word


def swept(model: Denoiser, problems: Sequence[Problem], settings: Mapping[str, Any], *, device: str, run: Run) -> float:
    """Mean PSNR of DDS with these settings."""
    sampler, total = DDS(**settings), 0.0
    for problem in problems:
        moved = on(problem, device)
        out = sampler.reconstruct(model, moved.A, moved.y, seed=0, run=run)
        total += quality(out.estimate.cpu(), problem.truth)
    return total / len(problems)
