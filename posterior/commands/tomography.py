"""project, fbp and reconstruct: CT scans to projections and back."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posterior.commands.options import Device
from posterior.commands.volume_options import VolumeOptions, with_options

if TYPE_CHECKING:
    from posterior.projections import Projected
    from posterior.tomography import Reconstructed, Reconstructing
    from posterior.volumes import VolumeRecord

__all__ = ["add_to"]

ATTENUATION_OF_WATER = 0.0193  # 1/mm at 70 keV


class ScanUnit(StrEnum):
    """Of the values in a scan."""

    auto = "auto"
    hu = "hu"
    attenuation = "attenuation"


class Unit(StrEnum):
    """Of the values to write."""

    hu = "hu"
    attenuation = "attenuation"


class RayModel(StrEnum):
    """How a ray meets the voxels."""

    joseph = "joseph"
    siddon = "siddon"
    strip_ = "strip"  # str has a method of that name


class Window(StrEnum):
    """On the ramp filter, from sharp to smooth."""

    ram_lak = "ram-lak"
    shepp_logan = "shepp-logan"
    cosine = "cosine"
    hamming = "hamming"
    hann = "hann"


class ScanKind(StrEnum):
    """Which part of a turn was measured."""

    auto = "auto"
    full = "full"
    short = "short"
    limited = "limited"


class Method(StrEnum):
    """How to reconstruct."""

    fbp = "fbp"
    sirt = "sirt"
    os_sart = "os-sart"
    cgls = "cgls"
    fista_tv = "fista-tv"
    admm_tv = "admm-tv"
    pdhg_tv = "pdhg-tv"
    dds = "dds"
    diffusion_mbir = "diffusion-mbir"
    tpdm = "tpdm"


LEARNED = (Method.dds, Method.diffusion_mbir, Method.tpdm)

Source = Annotated[Path, typer.Argument(metavar="SINOGRAM", help="HDF5 file that `posterior project` writes.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="NIfTI file to write, .nii or .nii.gz.")]
UnitOption = Annotated[Unit, typer.Option(help="Write CT numbers, or attenuation per unit of length.")]
Water = Annotated[
    float | None, typer.Option(min=1e-6, max=10.0, help="Attenuation of water, 1/mm; default: that of the file, or 0.0193.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite/--no-overwrite", help="Replace a file that is there.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("project")(project)
    app.command("fbp")(fbp)
    app.command("reconstruct")(with_options(reconstruct))


def project(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="NIfTI file of a CT scan.")],
    *,
    geometry: Annotated[
        Path, typer.Option("--geometry", "-g", help="YAML file of the beam; `posterior geometry new` makes one.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="HDF5 file to write, .h5.")],
    unit: Annotated[
        ScanUnit, typer.Option(help="Of the scan: CT numbers, or attenuation in 1/mm; auto: what the file says, or CT numbers.")
    ] = ScanUnit.auto,
    counts: Annotated[
        float | None, typer.Option(min=1.0, max=1e12, help="Photons of a ray that meets nothing; default: no noise.")
    ] = None,
    readout: Annotated[
        float, typer.Option(min=0.0, max=1e6, help="Standard deviation of the electronic noise, in counts.")
    ] = 0.0,
    model: Annotated[RayModel, typer.Option(help="How a ray meets the voxels; strip for slices only.")] = RayModel.joseph,
    slices: Annotated[str, typer.Option(metavar="FIRST:LAST", help="Of the scan, LAST left out; default all.")] = "",
    truncated: Annotated[bool, typer.Option("--truncated", help="Allow a detector too small for the object.")] = False,
    water: Annotated[float, typer.Option(min=1e-6, max=10.0, help="Attenuation of water, 1/mm.")] = ATTENUATION_OF_WATER,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same noise.")] = 0,
    device: DeviceOption = Device.auto,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a CT measurement of a scan: line integrals, with the noise of so many photons."""
    from posterior import projections
    from posterior.progress import Meter

    settings = projections.Projecting(
        unit=unit.value, counts=counts, readout=readout, model=model.value, slices=slices, truncated=truncated, water=water,
        seed=seed,
    )  # fmt: skip
    with Meter("project") as meter:
        done = projections.project(scan, geometry, out, settings, device=device, overwrite=overwrite, progress=meter)
    if as_json:
        typer.echo(json.dumps({"command": "project", **dataclasses.asdict(done)}))
    else:
        typer.echo(_measured(done))


def fbp(
    sinogram: Source,
    *,
    out: Out,
    window: Annotated[Window, typer.Option(help="On the ramp filter, from sharp to smooth.")] = Window.ram_lak,
    cutoff: Annotated[float, typer.Option(min=0.01, max=1.0, help="Where it ends, a fraction of the Nyquist frequency.")] = 1.0,
    scan: Annotated[ScanKind, typer.Option(help="What the views cover; auto tells by their angles.")] = ScanKind.auto,
    unit: UnitOption = Unit.hu,
    water: Water = None,
    device: DeviceOption = Device.auto,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct by filtered back-projection; cones by the method of Feldkamp."""
    from posterior import tomography

    given = {"window": window.value, "cutoff": cutoff, "scan": scan.value}
    settings = tomography.Reconstructing(method="fbp", given=given, unit=unit.value, water=water)
    _run("fbp", sinogram, out, settings, device=device, overwrite=overwrite, as_json=as_json)


def reconstruct(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="SOURCE", help="Projections, k-space (HDF5), or a scan to simulate: NIfTI, DICOM folder."),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="NIfTI file to write; with a prior also a DICOM folder.")
    ],
    sinogram: Annotated[Path | None, typer.Option(help="Projections that `posterior project` writes, as SOURCE.")] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="Default: fista-tv; with --modality dds. dds, diffusion-mbir and tpdm take a prior."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, max=100_000, help="At most; default: the method's own.")] = None,
    weight: Annotated[
        float | None, typer.Option(min=0.0, help="Of total variation, or of the squares for cgls; default: from the noise.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=1e-12, max=1.0, help="Stop at a smaller relative change; default: the method's own.")
    ] = None,
    positive: Annotated[
        bool, typer.Option("--positive/--signed", help="Keep attenuation from becoming negative, where the method can.")
    ] = True,
    unit: UnitOption = Unit.hu,
    water: Water = None,
    device: DeviceOption = Device.auto,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    volume: VolumeOptions,
) -> None:
    """Reconstruct projections by a chosen method, or with a prior of slices a volume of CT or MRI."""
    found = _one_source(source, sinogram)
    method = method or (Method.dds if volume.modality else Method.fista_tv)
    if method in LEARNED:
        _check_learned(method, tolerance=tolerance, unit=unit, positive=positive)
        given = {"water": water, "weight": weight, "iterations": iterations}
        _run_volume(found, out, method, volume, given=given, device=device, overwrite=overwrite, as_json=as_json)
        return
    _check_classical(method, found, volume)
    from posterior import tomography

    settings = tomography.Reconstructing(
        method=method.value, given={"iterations": iterations, "weight": weight, "tolerance": tolerance}, unit=unit.value,
        water=water, positive=positive,
    )  # fmt: skip
    _run("reconstruct", found, out, settings, device=device, overwrite=overwrite, as_json=as_json)


def _one_source(source: Path | None, sinogram: Path | None) -> Path:
    if (source is None) == (sinogram is None):
        raise ValueError("name one SOURCE to reconstruct from, or projections by --sinogram")
    found = source or sinogram
    assert found is not None
    return found


def _check_learned(method: Method, *, tolerance: float | None, unit: Unit, positive: bool) -> None:
    refused = {"--tolerance": tolerance is not None, "--unit attenuation": unit is not Unit.hu, "--signed": not positive}
    for option, given in refused.items():
        if given:
            raise ValueError(f"{option} is no setting of {method.value}")


def _check_classical(method: Method, source: Path, volume: VolumeOptions) -> None:
    learned = ", ".join(m.value for m in LEARNED)
    if source.name.lower().endswith((".nii", ".nii.gz")) or source.is_dir():
        raise ValueError(
            f"{source}: {method.value} takes projections, which `posterior project` makes of a scan; "
            f"{learned} simulate them, with --modality"
        )
    for name in volume.given():
        flag = {"degrees": "range"}.get(name, name).replace("_", "-")
        raise ValueError(f"--{flag} is for the methods with a prior ({learned}), not for {method.value}")


def _run_volume(
    source: Path, out: Path, method: Method, volume: VolumeOptions, *, given: dict[str, Any], device: Device, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from posterior import volume_request as request
    from posterior import volumes
    from posterior.methods import plain
    from posterior.progress import Meter

    job = request.job_of(source, volume, method.value, **given)
    outputs = request.outputs_of(out, volume, overwrite=overwrite)
    with Meter("reconstruct") as meter:
        done = volumes.reconstruct(job, outputs, request.running_of(volume, device), progress=meter)
    if done is None:
        return
    record = {"command": "reconstruct", **plain(dataclasses.asdict(done))}
    typer.echo(json.dumps(record, default=str) if as_json else _volume_lines(done))


def _run(name: str, sinogram: Path, out: Path, settings: Reconstructing, *, as_json: bool, **where: Any) -> None:
    from posterior import tomography
    from posterior.progress import Meter

    with Meter(name) as meter:
        done = tomography.reconstruct(sinogram, out, settings, progress=meter, **where)
    typer.echo(json.dumps({"command": name, **dataclasses.asdict(done)}, default=str) if as_json else _line(done))


def _measured(done: Projected) -> str:
    clipped = f"; {done.air} voxels below -1000 HU count as vacuum" if done.air else ""
    starved = f"; {done.starved} readings of less than one photon raised to one" if done.starved else ""
    shape = " x ".join(f"{n} {name}" for n, name in zip(done.shape, done.axes, strict=True))
    return f"{done.output}: {shape}, up to {done.maximum:.3g}{clipped}{starved}"


def _line(done: Reconstructed) -> str:
    shape, voxel = " x ".join(map(str, done.shape)), " x ".join(f"{h:g}" for h in done.voxel)
    steps = f", {done.iterations} iterations" if done.iterations > 1 else ""
    fit = "" if done.residual_ratio is None else f", residual {done.residual_ratio:.2f} of the noise"
    advice = "" if done.converged else f"; {done.reason}"
    return f"{done.output}: {shape}, voxel {voxel}, {done.method}{steps}, {done.seconds:.1f} s{fit}{advice}"


def _volume_lines(done: VolumeRecord) -> str:
    shape, voxel = " x ".join(map(str, done.shape)), " x ".join(f"{h:.4g}" for h in done.voxel)
    fit = f"residual {100 * done.residual:.2g} %" if done.chi_square is None else f"chi-square {done.chi_square:.3f}"
    lines = [
        f"{done.output}: {shape}, voxel {voxel}, {done.method} with {done.model}, {done.network_calls} network calls a slice, "
        f"{done.seconds:.1f} s, {fit}"
    ]
    for name, found in done.scores.items():
        planes = ", ".join(
            f"{plane} {value:.2f} dB" + ("" if found.ssim[plane] is None else f" {found.ssim[plane]:.3f}")
            for plane, value in found.psnr.items()
            if value is not None
        )
        lines.append(f"{name}: {planes}")
    if done.scores:
        lines.append(f"PSNR and SSIM are means over slices, for a data range of {done.data_range}")
    return "\n".join([*lines, *(f"{path}: {name}" for name, path in done.files.items())])
