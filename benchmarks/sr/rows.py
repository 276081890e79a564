"""The lines of the tables: a method on a set, means over the photographs, and what it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.sr.methods import BICUBIC, Method
from benchmarks.sr.scores import Distance, Scores, blur, gradient_energy, scores, spread_to_error
from benchmarks.sr.sets import Photograph

__all__ = ["RealRow", "Row", "measured", "measured_real", "real_table", "table"]

Kept = Callable[[Photograph, dict[str, Tensor]], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on a set with known truth; see :class:`benchmarks.sr.scores.Scores`.

    Attributes
    ----------
    samples: of each photograph; psnr, ssim, energy and lpips are means over them.
    mean_psnr, mean_ssim, mean_energy: of the mean of the samples, and spread: see
        :func:`~benchmarks.sr.scores.spread_to_error`; None where there is one sample.
    seconds_per_megapixel: of the result, for one sample.
    """

    set: str
    method: str
    photographs: int
    samples: int
    psnr: float
    ssim: float
    energy: float
    lpips: float | None
    mean_psnr: float | None
    mean_ssim: float | None
    mean_energy: float | None
    spread: float | None
    seconds_per_megapixel: float
    settings: str = ""


@dataclass(frozen=True, kw_only=True)
class RealRow:
    """A method on photographs without truth, one sample of each.

    Attributes
    ----------
    blur: 0 sharp to 1 blurred, see :func:`benchmarks.sr.scores.blur`.
    energy: sum of the squared gradient over that of the bicubic enlargement.
    """

    set: str
    method: str
    photographs: int
    blur: float
    energy: float
    seconds_per_megapixel: float
    settings: str = ""


@dataclass(frozen=True)
class _Several:
    """What there is to say of several samples of a photograph together."""

    mean: Scores
    spread: float

    @classmethod
    def of(cls, samples: Tensor, truth: Tensor, border: int) -> _Several:
        mean = scores(samples.mean(0, keepdim=True), truth, border=border)
        return cls(mean, spread_to_error(samples, truth, border=border))


def measured(
    name: str,
    photos: Sequence[Photograph],
    methods: Sequence[Method],
    *,
    border: int,
    lpips: Distance | None = None,
    kept: Kept | None = None,
) -> list[Row]:
    """Every method on the photographs of the set ``name``; ``kept`` gets the first samples of each photograph."""
    found: dict[str, list[tuple[list[Scores], _Several | None, float]]] = {method.name: [] for method in methods}
    for number, photo in enumerate(photos):
        if photo.truth is None:
            raise ValueError(f"photos must have a truth, {photo.name} has none; measured_real takes those")
        shown = {}
        for method in methods:
            results, seconds = _timed(method, photo, number)
            each = [scores(x[None], photo.truth, border=border, lpips=lpips) for x in results]
            several = _Several.of(results, photo.truth, border) if len(results) > 1 else None
            found[method.name].append((each, several, seconds))
            shown[method.name] = results[:1]
        if kept is not None:
            kept(photo, shown)
    return [_row(name, method, found[method.name]) for method in methods]


def measured_real(
    name: str, photos: Sequence[Photograph], methods: Sequence[Method], *, kept: Kept | None = None
) -> list[RealRow]:
    """Every method on photographs without truth, by figures that need none."""
    found: dict[str, list[tuple[float, float, float]]] = {method.name: [] for method in methods}
    for number, photo in enumerate(photos):
        plain = max(gradient_energy(BICUBIC.enlarge(photo.degraded, 0)), 1e-9)
        shown = {}
        for method in methods:
            results, seconds = _timed(method, photo, number)
            shown[method.name] = x = results[:1]
            found[method.name].append((blur(x), gradient_energy(x) / plain, seconds))
        if kept is not None:
            kept(photo, shown)
    return [_real_row(name, method, found[method.name]) for method in methods]


def _timed(method: Method, photo: Photograph, number: int) -> tuple[Tensor, float]:
    """The samples (S, 3, H, W) on the CPU, and the seconds that a megapixel of one of them took."""
    y = photo.degraded
    if y.is_cuda and number == 0:
        method.enlarge(y, 0)  # kernels are chosen and compiled
        torch.cuda.synchronize()
    began = time.perf_counter()
    results = method.enlarge(y, 1000 * number)
    if y.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    pixels = results.shape[-2] * results.shape[-1] * len(results)
    return results.cpu(), seconds / (pixels / 1e6)


def _row(name: str, method: Method, found: Sequence[tuple[list[Scores], _Several | None, float]]) -> Row:
    each = [s for scores_of_samples, _, _ in found for s in scores_of_samples]
    several = [s for _, s, _ in found if s is not None]
    perceptual = [s.lpips for s in each if s.lpips is not None]
    return Row(
        set=name, method=method.name, photographs=len(found), samples=len(each) // len(found),
        psnr=_mean([s.psnr for s in each]), ssim=_mean([s.ssim for s in each]), energy=_mean([s.energy for s in each]),
        lpips=_mean(perceptual) if perceptual else None,
        mean_psnr=_mean([s.mean.psnr for s in several]) if several else None,
        mean_ssim=_mean([s.mean.ssim for s in several]) if several else None,
        mean_energy=_mean([s.mean.energy for s in several]) if several else None,
        spread=_mean([s.spread for s in several]) if several else None,
        seconds_per_megapixel=_mean([seconds for _, _, seconds in found]), settings=method.settings,
    )  # fmt: skip


def _real_row(name: str, method: Method, found: Sequence[tuple[float, float, float]]) -> RealRow:
    blurred, energy, seconds = (_mean(values) for values in zip(*found, strict=True))
    return RealRow(
        set=name, method=method.name, photographs=len(found), blur=blurred, energy=energy, seconds_per_megapixel=seconds,
        settings=method.settings,
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(title: str, rows: Sequence[Row]) -> Table:
    """One line a method, grouped by set; what the mean of samples reaches is in a line of its own."""
    out = Table(title=title)
    for column in ("set", "method", "PSNR", "above bicubic", "SSIM", "energy", "LPIPS", "spread", "s / MP"):
        out.add_column(column, justify="left" if column in ("set", "method") else "right")
    for name in dict.fromkeys(r.set for r in rows):
        mine = [r for r in rows if r.set == name]
        plain = next((r.psnr for r in mine if r.method == BICUBIC.name), None)
        for r in mine:
            who = r.method if r.samples == 1 else f"{r.method}, each of {r.samples} samples"
            perceptual = "" if r.lpips is None else f"{r.lpips:.3f}"
            cells = _cells(r.psnr, r.ssim, r.energy, plain)
            out.add_row(f"{r.set}, {r.photographs}", who, *cells, perceptual, "", f"{r.seconds_per_megapixel:.2f}")
            if r.mean_psnr is not None and r.mean_ssim is not None and r.mean_energy is not None and r.spread is not None:
                cells, cost = _cells(r.mean_psnr, r.mean_ssim, r.mean_energy, plain), r.samples * r.seconds_per_megapixel
                out.add_row("", f"{r.method}, mean of the samples", *cells, "", f"{r.spread:.2f}", f"{cost:.2f}")
        out.add_section()
    return out


def real_table(rows: Sequence[RealRow]) -> Table:
    """One line a method."""
    out = Table(title="photographs without truth: blur 0 sharp..1 blurred, gradient energy over bicubic's")
    for column in ("set", "method", "blur", "energy", "s / MP"):
        out.add_column(column, justify="left" if column in ("set", "method") else "right")
    for r in rows:
        cells = f"{r.blur:.3f}", f"{r.energy:.2f}", f"{r.seconds_per_megapixel:.2f}"
        out.add_row(f"{r.set}, {r.photographs}", r.method, *cells)
    return out


def _cells(psnr: float, ssim: float, energy: float, plain: float | None) -> tuple[str, str, str, str]:
    return f"{psnr:.2f}", "" if plain is None else f"{psnr - plain:+.2f}", f"{ssim:.4f}", f"{energy:.2f}"
