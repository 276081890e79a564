"""The demo: three photographs, blurred, full of holes and shrunk, two scans and a time series, beside the classical answers.

The photographs are crops of those that scikit-image installs with itself; nothing is downloaded. The scans: ``demo_scans``;
the series: ``demo_series``.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

import prior
import restore
from inverse import RedDiff
from inverse.classical import bicubic_upscale, tv_reconstruct
from inverse.operators import Blur, Downsample, Gaussian, Inpaint
from inverse.operators.base import LinearOperator
from inverse.saving import check_free
from medical.samplers import DDS
from posterior import __version__, calibration, demo_scans, demo_series, images, report
from posterior.cases import Baseline, Case
from posterior.demo_results import CaseResult, ForecastResult
from posterior.demo_scans import SCANS
from posterior.forecast_case import ForecastCase
from prior.denoiser import Denoiser
from timeseries.predictor import TSDiffPredictor

__all__ = ["QUICK", "CaseResult", "DemoResult", "ForecastResult", "Plan", "run"]

Progress = Callable[[float, float], None]

DEBLUR_TV = 1.3e-3
"""Weight with the best mean PSNR for this blur and noise on eight other photographs (``tune_tv_weight``, 25.29 dB).
For inpainting without noise the same search goes to zero: least total variation with every seen pixel kept."""

UPSCALE_TV = 1e-4
"""The same for the reduction by four: 25.82 dB, where bicubic interpolation reaches 25.32 dB."""

LARGEST = 300  # pixels: the shortest side of the photographs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run: for photographs the prior, the sampler's steps and samples and the side of the crops in pixels; the seed.

    For scans: the network calls and samples of DDS, and at most how many slices. For the series: the paths of its forecast.
    """

    model: str = "photos"
    steps: int = 60
    samples: int = 4
    size: int = 256
    seed: int = 0
    scan_steps: int = 20
    scan_samples: int = 2
    slices: int = 4
    paths: int = 50

    def __post_init__(self) -> None:
        if self.size % 4 or not 32 <= self.size <= LARGEST:
            raise ValueError(f"size must be a multiple of 4 from 32 to {LARGEST}, got {self.size}")


QUICK = Plan(steps=15, samples=2, size=96, scan_steps=8, scan_samples=2, slices=2, paths=20)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Where the report is, how long everything took, and what came out; ``left_out`` says which case is missing and why."""

    report: Path
    seconds: float
    plan: Plan
    cases: tuple[CaseResult, ...]
    forecasts: tuple[ForecastResult, ...] = ()
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class _Task:
    name: str
    summary: str
    folder: str
    photo: str
    centre: tuple[float, float]  # of the crop, as a share of height and width
    credit: str
    operator: Callable[[Plan], LinearOperator]
    classical: dict[str, Callable[[LinearOperator, Tensor], Tensor]]
    trained: dict[str, Callable[[LinearOperator, Tensor], Tensor]] = field(default_factory=dict)  # networks that restore


def _resshift(A: LinearOperator, y: Tensor) -> Tensor:
    return restore.ResShift.load("photos-x4").upscale(y, seed=0)


TASKS = (
    _Task(
        name="Deblurring",
        summary="A Gaussian blur of three pixels (standard deviation), then noise of 2 %.",
        folder="deblur",
        photo="astronaut.png",
        centre=(0.24, 0.44),
        credit="Photo: Eileen Collins, NASA, public domain.",
        operator=lambda plan: Blur.gaussian(3.0, noise=Gaussian(0.02)),
        classical={"Total variation": lambda A, y: tv_reconstruct(A, y, DEBLUR_TV)},
    ),
    _Task(
        name="Inpainting",
        summary="Four pixels out of five are missing, at random.",
        folder="inpaint",
        photo="chelsea.png",
        centre=(0.45, 0.52),
        credit="Photo: Chelsea the cat, Stéfan van der Walt, CC0.",
        operator=lambda plan: Inpaint.random((3, plan.size, plan.size), 0.8, seed=plan.seed),
        classical={"Total variation": lambda A, y: tv_reconstruct(A, y, 0.0)},
    ),
    _Task(
        name="Super-resolution",
        summary="Shrunk to a quarter of its width and height (bicubic): one pixel for every sixteen.",
        folder="upscale",
        photo="coffee.png",
        centre=(0.5, 0.5),
        credit="Photo: Pikolo Espresso Bar, Rachel Michetti, CC0.",
        operator=lambda plan: Downsample.bicubic(4),
        classical={
            "Bicubic": lambda A, y: bicubic_upscale(y, 4),
            "Total variation": lambda A, y: tv_reconstruct(A, y, UPSCALE_TV),
        },
        trained={"ResShift": _resshift},
    ),
)

LEAD = (
    "Each picture below was degraded in a known way and then restored from what was left, together with a diffusion model that "
    "knows what such pictures look like. Beside every result are the classical answers, the truth, how sure the result is, and "
    "which part of it was measured and which was filled in. Drag the handle to compare."
)
SERIES_LEAD = " Last comes a time series, of which the end was hidden and forecast, and a day was hidden and filled."


def run(
    output: Path = Path("demo-report"),
    plan: Plan | None = None,
    *,
    models: Mapping[str, Denoiser] | None = None,
    predictor: TSDiffPredictor | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Restore the photographs and scans of ``plan``; write ``report.html`` and one folder a case into the folder ``output``.

    The report ends with the forecast of a series, where pvlib, which brings the series, is installed. ``models`` stand in for
    the priors of their names, ``predictor`` for the shipped model of series. ``progress(done, total)`` counts cases, the one
    under way in part. Raises ``FileExistsError``, before anything is computed, where a folder in ``output`` holds something
    else.
    """
    plan = plan or Plan()
    began = time.perf_counter()
    tasks: list[_Task | demo_scans.Scan] = [*TASKS, *SCANS]
    for task in tasks:
        check_free(output / task.folder, overwrite=True)
    known = calibration.identity(plan.model) if plan.model not in (models or {}) else None
    priors = _priors((plan.model, *(scan.prior for scan in SCANS)), models or {})
    series = demo_series.read()
    forecaster = None if series is None else predictor or TSDiffPredictor.shipped("hourly")
    count = len(tasks) + (series is not None)
    output.mkdir(parents=True, exist_ok=True)
    cases, forecasts = [], []
    for index, task in enumerate(tasks):
        case = _solve(task, plan, priors, known, _step(progress, index, count))
        case.reconstruction.save(output / task.folder, overwrite=True)
        cases.append(case)
    if series is not None and forecaster is not None:
        step = _step(progress, len(tasks), count)
        forecasts.append(demo_series.solve(series, forecaster, paths=plan.paths, seed=plan.seed, progress=step))
    page = _report(output / "report.html", cases, forecasts, {**_facts(plan, priors), **_series_facts(forecaster)})
    return DemoResult(
        report=page,
        seconds=time.perf_counter() - began,
        plan=plan,
        cases=tuple(CaseResult.of(case, output / task.folder) for task, case in zip(tasks, cases, strict=True)),
        forecasts=tuple(ForecastResult.of(case) for case in forecasts),
        left_out="" if forecasts else demo_series.LEFT_OUT,
    )


def _step(progress: Progress | None, index: int, count: int) -> Callable[[int, int], None]:
    """Progress within case ``index`` of ``count`` as that of all."""

    def step(done: int, total: int) -> None:
        if progress is not None:
            progress(index + done / total, count)

    return step


def _report(path: Path, cases: list[Case], forecasts: list[ForecastCase], facts: Mapping[str, object]) -> Path:
    lead = LEAD + (SERIES_LEAD if forecasts else "")
    return report.write(path, cases, forecasts=forecasts, title="Prior + measurement = posterior", lead=lead, facts=facts)


def _priors(names: tuple[str, ...], models: Mapping[str, Denoiser]) -> dict[str, Denoiser]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {name: (models[name] if name in models else prior.load(name)).to(device) for name in names}


def _solve(
    task: _Task | demo_scans.Scan,
    plan: Plan,
    priors: Mapping[str, Denoiser],
    known: str | None,
    progress: Callable[[int, int], None],
) -> Case:
    if isinstance(task, _Task):
        return _restore(task, plan, priors[plan.model], known, progress)
    sampler = DDS(steps=plan.scan_steps, samples=plan.scan_samples, sigma_max=task.start)
    return demo_scans.solve(task, priors[task.prior], sampler, slices=plan.slices, seed=plan.seed, progress=progress)


def _restore(task: _Task, plan: Plan, model: Denoiser, known: str | None, progress: Callable[[int, int], None]) -> Case:
    truth = _photo(task, plan.size)
    A = task.operator(plan)
    y = A.measure(truth, seed=plan.seed)
    baselines = [_baseline(name, method, A, y) for name, method in task.classical.items()]
    baselines += [_baseline(name, method, A, y, "a trained restorer") for name, method in task.trained.items()]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sampler = RedDiff(steps=plan.steps, samples=plan.samples)
    out = sampler.reconstruct(model, A.to(device), y.to(device), seed=plan.seed, progress=progress)
    return Case(
        name=task.name,
        summary=task.summary,
        reconstruction=out,
        truth=truth,
        baselines=tuple(baselines),
        credit=task.credit,
        calibration=calibration.find(A, tuple(truth.shape[1:]), sampler=sampler, prior=known),
    )


def _baseline(
    name: str, method: Callable[[LinearOperator, Tensor], Tensor], A: LinearOperator, y: Tensor, kind: str = "classical"
) -> Baseline:
    began = time.perf_counter()
    image = method(A, y)
    return Baseline(name=name, image=image, seconds=time.perf_counter() - began, kind=kind)


def _photo(task: _Task, size: int) -> Tensor:
    """The crop, (1, 3, size, size) in [0, 1]."""
    with resources.as_file(resources.files("skimage.data").joinpath(task.photo)) as path:
        photo = images.read(path).colour
    height, width = photo.shape[-2:]
    top, left = (
        min(max(round(share * side - size / 2), 0), side - size)
        for share, side in zip(task.centre, (height, width), strict=True)
    )  # fmt: skip
    return photo[None, :, top : top + size, left : left + size].contiguous()


def _facts(plan: Plan, priors: Mapping[str, Denoiser]) -> dict[str, object]:
    device = next((p.device for p in priors[plan.model].parameters()), torch.device("cpu"))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    sizes = (f"{name}, {sum(p.numel() for p in model.parameters()):,} parameters" for name, model in priors.items())
    return {
        "command": "posterior demo",
        "priors": "; ".join(sizes),
        "samplers": f"RedDiff, {plan.steps} steps, {plan.samples} samples; "
        f"for scans DDS, {plan.scan_steps} steps, {plan.scan_samples} samples",
        "crops": f"{plan.size} x {plan.size} pixels, from the photographs installed with scikit-image",
        "scans": "installed with pydicom and nibabel",
        "seed": plan.seed,
        "device": where,
        "versions": f"posterior {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def _series_facts(forecaster: TSDiffPredictor | None) -> dict[str, object]:
    if forecaster is None:
        return {"left out": demo_series.LEFT_OUT}
    size = sum(p.numel() for p in forecaster.model.parameters())
    return {"series": f"installed with pvlib, forecast by TSDiff, {size:,} parameters"}
