"""From the options of `posterior reconstruct` to a job: what kind of source it is, and whether the options go with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from medical.transmission import WATER
from posterior.commands.volume_options import Modality, VolumeOptions
from posterior.mri_simulation import Simulating
from posterior.volume_ct import Views, measured_ct, simulated_ct
from posterior.volume_inputs import Measured
from posterior.volume_mri import Coils, measured_mri, simulated_mri
from posterior.volume_outputs import VolumeOutputs
from posterior.volumes import Running, VolumeJob

__all__ = ["MODELS", "job_of", "outputs_of", "running_of"]

HDF5 = (".h5", ".hdf5")
MRI_START = 0.3  # noise level at which dds begins: the middle of k-space is known
MODELS = {Modality.ct: "ct-slices", Modality.mri: "mr-slices"}

BELONG = {
    "a CT scan": ("views", "degrees", "geometry", "photons"),
    "projections": (),
    "an MR scan": ("acceleration", "mask", "acs", "coils", "noise", "coils_compress"),
    "k-space": ("contrast", "repetition", "slab", "coils_compress"),
}
"""Options by the kind of source that they are for."""

FLAGS = {"degrees": "range"}  # where option and name differ


def job_of(
    source: Path, options: VolumeOptions, method: str, *, water: float | None = None, weight: float | None = None,
    iterations: int | None = None,
) -> VolumeJob:  # fmt: skip
    """The job; ``ValueError`` for options that are not of this kind of source, before anything is read."""
    measured = source.name.lower().endswith(HDF5)
    modality = options.modality or (Modality.ct if measured else None)
    if modality is None:
        raise ValueError(f"{source}: a scan needs --modality ct or --modality mri, to know what to simulate")
    kind = _kind(modality, measured)
    special = {name for names in BELONG.values() for name in names}
    for name in options.given():
        if name in special and name not in BELONG[kind]:
            raise ValueError(f"--{_flag(name)} is not for {kind}, which is what {source} is taken for")
    if modality is Modality.mri and water is not None:
        raise ValueError("--water is for CT; leave it out")
    given = {"steps": options.steps, "samples": options.samples, "weight": weight, "iterations": iterations}
    if (method, modality) == ("dds", Modality.mri):
        given["sigma_max"] = MRI_START
    return VolumeJob(
        read=_reader(kind, source, options, water), source=source.name, method=method, given=given,
        model=options.model or MODELS[modality], weights=options.weights, seed=options.seed,
    )  # fmt: skip


def outputs_of(out: Path, options: VolumeOptions, *, overwrite: bool) -> VolumeOutputs:
    """The files to write."""
    parts = (("std",) if options.samples > 1 else ()) + (("measured", "filled") if options.split else ())
    return VolumeOutputs(path=out, parts=parts, report=options.report, overwrite=overwrite)


def running_of(options: VolumeOptions, device: str) -> Running:
    """How to work."""
    from posterior.commands.options import Device

    return Running(
        chunk=options.chunk, resume=options.resume, every=options.save_every, device=Device(device), devices=options.devices,
        nodes=options.nodes,
    )  # fmt: skip


def _kind(modality: Modality, measured: bool) -> str:
    if modality is Modality.ct:
        return "projections" if measured else "a CT scan"
    return "k-space" if measured else "an MR scan"


def _flag(name: str) -> str:
    return FLAGS.get(name, name).replace("_", "-")


def _reader(kind: str, source: Path, options: VolumeOptions, water: float | None) -> Callable[[], Measured]:
    """What reads the measurement, its settings checked."""
    numbers = {"contrast": options.contrast, "repetition": options.repetition, "slice": options.slab}
    coils = Coils(compressed=options.coils_compress, only={name: n for name, n in numbers.items() if n is not None})
    if kind == "a CT scan":
        views = Views(
            views=options.views, degrees=options.degrees, geometry=options.geometry, photons=options.photons,
            water=WATER if water is None else water, seed=options.seed,
        )  # fmt: skip
        return partial(simulated_ct, source, views, options.slices)
    if kind == "projections":
        return partial(measured_ct, source, water=water, slices=options.slices)
    if kind == "k-space":
        return partial(measured_mri, source, coils, options.slices)
    simulating = Simulating(
        coils=options.coils, acceleration=options.acceleration, mask=options.mask.value, acs=options.acs, noise=options.noise,
        seed=options.seed,
    )  # fmt: skip
    return partial(simulated_mri, source, simulating, coils, options.slices)
