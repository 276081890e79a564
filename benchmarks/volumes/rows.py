"""One line of a table: a method on a problem, its scores and what they cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.volumes.baselines import Answer, Method
from benchmarks.volumes.problems import Problem
from benchmarks.volumes.scores import PLANES, scores
from medical.samplers import Run
from medical.samplers.volume_sampler import VolumeSampler
from prior.denoiser import Denoiser

__all__ = ["Row", "mean_table", "measured", "sampled", "table"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on a subject and task.

    Attributes
    ----------
    slices: of the volume.
    psnr, ssim: by plane; see :class:`benchmarks.volumes.scores.Scores`.
    calls: passes of a slice through the network.
    seconds: wall-clock time of the reconstruction alone.
    mebibytes: the most memory that the process held meanwhile, on a GPU the most that was allocated there.
    """

    subject: str
    task: str
    method: str
    slices: int
    psnr: dict[str, float]
    ssim: dict[str, float | None]
    calls: int
    seconds: float
    mebibytes: float
    settings: dict[str, object] = field(default_factory=dict)


def sampled(model: Denoiser, sampler: VolumeSampler, *, seed: int = 0, chunk: int = 16) -> Method:
    """A sampler of volumes as a method."""

    def method(problem: Problem) -> Answer:
        out = sampler.reconstruct(model, problem.A, problem.y, seed=seed, run=Run(chunk=chunk))
        return Answer(out.estimate, out.network_calls, {k: v for k, v in out.settings.items() if _plain(v)})

    return method


def measured(problem: Problem, name: str, method: Method) -> tuple[Row, Tensor]:
    """The row of ``method``, and its estimate (D, 1, H, W) on the CPU."""
    memory = _Memory(problem.y.device)
    began = time.perf_counter()
    answer = method(problem)
    if problem.y.is_cuda:
        torch.cuda.synchronize()
    seconds, mebibytes = time.perf_counter() - began, memory.most()
    estimate = answer.estimate.cpu()
    found = scores(estimate, problem.truth.cpu())
    row = Row(
        subject=problem.subject, task=problem.task, method=name, slices=len(problem.truth), psnr=found.psnr, ssim=found.ssim,
        calls=answer.calls, seconds=seconds, mebibytes=mebibytes, settings=dict(answer.settings),
    )  # fmt: skip
    return row, estimate


def table(title: str, rows: Sequence[Row]) -> Table:
    """One line a row; the best PSNR of a subject and task is bold."""
    out = Table(title=title)
    for column in ("subject", "task", "method", *PLANES, "calls", "seconds", "MiB"):
        out.add_column(column, justify="left" if column in ("subject", "task", "method") else "right")
    best: dict[tuple[str, str], float] = {}
    for r in rows:
        key = (r.subject, r.task)
        best[key] = max(best.get(key, 0.0), r.psnr["axial"])
    for r in rows:
        cells = [_cell(r.psnr.get(plane), r.ssim.get(plane)) for plane in PLANES]
        cost = [str(r.calls or ""), f"{r.seconds:.1f}", f"{r.mebibytes:.0f}"]
        style = "bold" if r.psnr["axial"] == best[r.subject, r.task] else None
        out.add_row(f"{r.subject}, {r.slices}", r.task, r.method, *cells, *cost, style=style)
    return out


def mean_table(rows: Sequence[Row]) -> Table:
    """Means over the subjects, with how far the last method of a task is above the others."""
    out = Table("task", "method", "PSNR, dB", "SSIM", "the last is above by, dB", title="means over subjects and planes")
    groups: dict[str, dict[str, list[Row]]] = {}
    for r in rows:
        groups.setdefault(r.task, {}).setdefault(r.method, []).append(r)
    for task, methods in groups.items():
        means = {name: _mean([v for r in group for v in r.psnr.values()]) for name, group in methods.items()}
        last = list(means.values())[-1]
        for name, group in methods.items():
            structure = _mean([v for r in group for v in r.ssim.values() if v is not None])
            out.add_row(task, name, f"{means[name]:.2f}", f"{structure:.3f}", f"{last - means[name]:+.2f}")
    return out


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _cell(psnr: float | None, ssim: float | None) -> str:
    if psnr is None:
        return ""
    return f"{psnr:.2f}" if ssim is None else f"{psnr:.2f} / {ssim:.3f}"


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


class _Memory:
    """The most memory since it was made: of the process, or what torch allocated on the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(OSError):  # the kernel then counts anew; elsewhere the figure is the most since the process began
            Path("/proc/self/clear_refs").write_text("5")

    def most(self) -> float:
        """In MiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
