"""Volumes from measurements with a prior of slices: one job, from its inputs to the files and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import prior
from inverse.reconstruction import Reconstruction
from medical.files import Scan
from medical.intensity import peak
from medical.samplers import Run
from posterior import volume_report
from posterior.commands.options import Device
from posterior.methods import LEARNED, make, plain
from posterior.outputs import compute_device
from posterior.processes import fabric_of, is_first
from posterior.volume_inputs import Measured, magnitude
from posterior.volume_outputs import VolumeOutputs
from posterior.volume_scores import Scores, fit, scores

__all__ = ["Running", "VolumeJob", "VolumeRecord", "reconstruct"]

Progress = Callable[[float, float], None]


@dataclass(frozen=True, kw_only=True)
class VolumeJob:
    """What to reconstruct, and how.

    Attributes
    ----------
    read: gives the measurement; called once the outputs are known to be possible.
    source: its name, for the record.
    method: a name of :data:`posterior.methods.LEARNED`; given: its settings, None where it has its own.
    model: name of the prior; weights: a file to load instead of its own.
    seed: the same seed gives the same volume.
    """

    read: Callable[[], Measured]
    source: str
    method: str = "dds"
    given: Mapping[str, Any] = field(default_factory=dict)
    model: str = "ct-slices"
    weights: Path | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where and in what portions; nothing of it changes the result.

    Attributes
    ----------
    chunk: slices a pass through the network.
    resume: go on where an earlier run was cut short.
    every: seconds between two writes of the state to go on from.
    device, devices, nodes: where to compute, processes on a machine, and machines.
    """

    chunk: int = 16
    resume: bool = False
    every: float = 60.0
    device: Device = Device.auto
    devices: int = 1
    nodes: int = 1


@dataclass(frozen=True, kw_only=True)
class VolumeRecord:
    """What was written and how it fares.

    ``files`` are by name: "std", "measured", "filled", "report". ``chi_square`` is that of the residual (None without noise),
    ``expected`` how far it lies from 1 for noise alone. ``scores`` are against the truth, where it is known, of the
    classical method and of this one, each by its name and by plane, for the data range in ``data_range``.
    """

    output: str
    files: dict[str, str]
    shape: tuple[int, ...]
    voxel: tuple[float, ...]
    source: str
    modality: str
    method: str
    model: str
    settings: dict[str, Any]
    measurement: dict[str, Any]
    samples: int
    network_calls: int
    seconds: float
    residual: float
    chi_square: float | None
    expected: float | None
    data_range: str | None = None
    scores: dict[str, Scores] = field(default_factory=dict)


def reconstruct(
    job: VolumeJob, outputs: VolumeOutputs, running: Running, *, progress: Progress | None = None
) -> VolumeRecord | None:
    """Do the job and write its files, once all is computed; None in processes other than the first, which write nothing.

    Raises ``ValueError`` or ``OSError`` for files that are missing, damaged or there already, for settings that do not fit,
    and where the state of an earlier run is there and is not to be gone on with.
    """
    outputs.check()
    outputs.check_state(resume=running.resume)
    method: Any = make(LEARNED, job.method, job.given)
    fabric = fabric_of(running.devices, running.nodes, running.device)
    device = compute_device(running.device) if fabric is None else fabric.device
    model = prior.load(job.model, weights=job.weights).to(device)
    measured = job.read().to(device)
    run = Run(chunk=running.chunk, fabric=fabric, state=outputs.state, every=running.every)
    first = is_first(fabric)
    out = method.reconstruct(
        model, measured.A, measured.y, seed=job.seed, progress=progress if first else None, run=run
    )  # fmt: skip
    if not first:
        return None
    if not bool(torch.isfinite(out.samples).all()):
        raise ValueError(f"{job.method} has diverged: values are not finite; does the model {job.model} fit the measurement?")
    record = _written(job, outputs, measured, out)
    outputs.state.unlink(missing_ok=True)
    return record


def _written(job: VolumeJob, outputs: VolumeOutputs, measured: Measured, out: Reconstruction) -> VolumeRecord:
    """Write all volumes and the report, and tell of them."""
    volumes = _volumes(measured, out, split="measured" in outputs.parts)
    began = time.perf_counter()
    baseline = None if measured.baseline is None or not (outputs.report or measured.truth) else measured.baseline[1]()
    took = time.perf_counter() - began
    if baseline is not None:
        volumes["baseline"] = measured.scan(magnitude(baseline))
    if measured.truth is not None:
        volumes["truth"] = measured.truth
    found, scale = fit(out), _scale(measured)
    names = {"estimate": job.method, "baseline": measured.baseline[0] if measured.baseline else ""}
    close = _scores(measured, volumes, scale, names)
    files = {name: str(outputs.part(name)) for name in outputs.parts if name in volumes}
    record = VolumeRecord(
        output=str(outputs.path), files=files | ({"report": str(outputs.html)} if outputs.report else {}),
        shape=tuple(volumes["estimate"].data.shape), voxel=volumes["estimate"].spacing, source=job.source,
        modality=measured.modality, method=job.method, model=str(job.weights or job.model), settings=plain(out.settings),
        measurement=plain(measured.facts), samples=len(out.samples), network_calls=out.network_calls, seconds=out.seconds,
        residual=found.relative, chi_square=found.chi_square, expected=None if found.chi_square is None else found.expected,
        data_range=_range_words(measured, scale) if close else None, scores=close,
    )  # fmt: skip
    for name in ("", *files):
        outputs.write(volumes[name or "estimate"], name, like=measured.like, modality=measured.modality)
    if outputs.report:
        case = volume_report.VolumeCase(
            modality=measured.modality, volumes=volumes, fit=found, record=plain(vars(record)),
            baseline=None if measured.baseline is None else (measured.baseline[0], took),
            share=out.measured_share() if "measured" in outputs.parts else None,
        )  # fmt: skip
        volume_report.write(outputs.html, case, overwrite=outputs.overwrite)
    return record


def _volumes(measured: Measured, out: Reconstruction, *, split: bool) -> dict[str, Scan]:
    """Estimate, spread and parts as scans."""
    found = {"estimate": measured.scan(magnitude(out.estimate))}
    if len(out.samples) > 1:
        found["std"] = measured.scan(torch.stack([magnitude(x) for x in out.samples]).std(0), difference=True)
    if split:
        seen, filled = (magnitude(part, along=out.estimate) for part in out.split())
        found["measured"] = measured.scan(seen)
        found["filled"] = measured.scan(filled, difference=True)
    return found


def _scale(measured: Measured) -> float:
    """The data range: 1 in the units of images, or of MR the brightness of the truth."""
    if measured.modality == "CT" or measured.truth is None:
        return measured.white - measured.black
    return peak(measured.truth.data)


def _range_words(measured: Measured, scale: float) -> str:
    if measured.modality == "CT":
        return f"1 in the units of images: {measured.black:g} to {measured.white:g} HU"
    return f"{scale:.6g}, the 99.9 % quantile of the truth"


def _scores(measured: Measured, volumes: Mapping[str, Scan], scale: float, names: Mapping[str, str]) -> dict[str, Scores]:
    if measured.truth is None:
        return {}
    ratio = (measured.white - measured.black) / scale

    def images(name: str) -> Tensor:
        return measured.images(volumes[name]) * ratio

    truth = images("truth")
    return {names[key]: scores(images(key), truth) for key in ("baseline", "estimate") if key in volumes}
