"""mri simulate and reconstruct: k-space from pictures, and pictures from k-space."""

from __future__ import annotations

import dataclasses
import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posterior.commands.options import Device, Mask

if TYPE_CHECKING:
    from posterior.mri import Reconstructed

__all__ = ["add_to"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite/--no-overwrite", help="Replace files that are there.")]
Choice = Annotated[int | None, typer.Option(min=0, help="Which one of an ISMRMRD file that has several.")]


class Method(StrEnum):
    """How to reconstruct."""

    zero_filled = "zero-filled"
    sense = "sense"
    l1wavelet = "l1wavelet"
    tv = "tv"


class Maps(StrEnum):
    """How coil maps are estimated."""

    espirit = "espirit"
    lowres = "lowres"


def add_to(app: typer.Typer) -> None:
    """Register the group ``mri``."""
    group = typer.Typer(name="mri", help="MRI: k-space to pictures, and pictures to k-space.", invoke_without_command=True)
    group.callback()(_group)
    group.command("simulate")(simulate)
    group.command("reconstruct")(reconstruct)
    app.add_typer(group)


def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def simulate(
    source: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI volume, or fastMRI file that is fully sampled.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="fastMRI file to write, .h5.")],
    coils: Annotated[int | None, typer.Option(min=1, max=128, help="Around a picture; default 8. K-space has its own.")] = None,
    acceleration: Annotated[
        float, typer.Option(min=1.0, max=100.0, help="A full measurement over what is measured, --acs and all.")
    ] = 4.0,
    mask: Annotated[
        Mask,
        typer.Option(
            help="Columns: equispaced, uniform, gaussian. Points: variable-density, poisson. Off the grid: radial, spiral."
        ),
    ] = Mask.equispaced,
    acs: Annotated[int, typer.Option(min=0, max=1024, help="Central lines, or points a side, for the coil maps.")] = 24,
    noise: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Standard deviation of each part of a sample; the brightest pixel is 1.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same mask and noise.")] = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure a picture with several coils, or leave out a part of k-space."""
    from posterior import mri_simulation
    from posterior.progress import Meter

    settings = mri_simulation.Simulating(
        coils=coils, acceleration=acceleration, mask=mask.value, acs=acs, noise=noise, seed=seed
    )
    with Meter("mri simulate") as meter:
        done = mri_simulation.simulate(source, out, settings, overwrite=overwrite, progress=meter)
    if as_json:
        typer.echo(json.dumps({"command": "mri simulate", **dataclasses.asdict(done)}))
        return
    slices, n, *sides = done.shape
    typer.echo(f"{out}: {slices} slices, {n} coils, {' x '.join(map(str, sides))}, {done.measured:.3g} samples a pixel")


def reconstruct(
    kspace: Annotated[Path, typer.Argument(metavar="KSPACE", help="fastMRI or ISMRMRD file.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="NIfTI file to write: magnitudes.")],
    method: Annotated[
        Method, typer.Option(help="zero-filled: the adjoint; sense: least squares; l1wavelet and tv: sparse.")
    ] = Method.sense,
    maps: Annotated[Maps, typer.Option(help="How coil maps are estimated from the centre of k-space.")] = Maps.espirit,
    sets: Annotated[int, typer.Option(min=1, max=4, help="Maps a coil; 2 for an object larger than the field of view.")] = 1,
    coils_compress: Annotated[int | None, typer.Option(min=1, max=1024, help="Virtual coils to reconstruct from.")] = None,
    weight: Annotated[
        float | None, typer.Option(min=0.0, help="Of the penalty, for images of maximum 1; default: from the noise.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, max=100_000, help="At most; default: the method's own.")] = None,
    complex_out: Annotated[
        Path | None, typer.Option("--complex", metavar="NPZ", help="Also write the complex images, (slices, sets, h, w).")
    ] = None,
    repetition: Choice = None,
    contrast: Choice = None,
    slab: Choice = None,
    device: Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU where there is one.")] = Device.auto,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct k-space slice by slice; noise is whitened where the file has a noise measurement."""
    from posterior import mri
    from posterior.methods import plain
    from posterior.progress import Meter

    chosen = {"repetition": repetition, "contrast": contrast, "slice": slab}
    settings = mri.Reconstructing(
        method=method.value, given={"weight": weight, "iterations": iterations}, maps=maps.value, sets=sets,
        coils=coils_compress, only={name: number for name, number in chosen.items() if number is not None},
    )  # fmt: skip
    outputs = {"complex_output": complex_out, "overwrite": overwrite}
    with Meter("mri reconstruct") as meter:
        done = mri.reconstruct(kspace, out, settings, device=device, progress=meter, **outputs)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps({"command": "mri reconstruct", **plain(dataclasses.asdict(done))}, default=str))
    else:
        _print(done)


def _print(done: Reconstructed) -> None:
    for number, seconds in enumerate(done.seconds):
        close = "" if done.psnr is None else f", PSNR {done.psnr[number]:.2f} dB"
        close += "" if done.ssim is None else f", SSIM {done.ssim[number]:.4f}"
        typer.echo(f"slice {number}: {seconds:.2f} s, {done.iterations[number]} iterations{close}")
    shape, voxel = " x ".join(map(str, done.shape)), " x ".join(f"{h:.4g}" for h in done.voxel)
    coils = f"{done.coils[0]} coils" + (f" as {done.coils[1]}" if done.coils[1] != done.coils[0] else "")
    counted = [n for n, value in enumerate(done.psnr or ()) if math.isfinite(value)]  # empty slices are left out
    mean = "" if done.psnr is None or not counted else f", PSNR {sum(done.psnr[n] for n in counted) / len(counted):.2f} dB"
    mean += "" if done.ssim is None or not counted else f", SSIM {sum(done.ssim[n] for n in counted) / len(counted):.4f}"
    against = " against the file's root sum of squares of all coils" if done.psnr is not None else ""
    typer.echo(f"{done.output}: {shape}, voxel {voxel}, {coils}, {done.method}, {sum(done.seconds):.1f} s{mean}{against}")
    if done.reasons:
        typer.echo(f"note: {len(done.reasons)} of {len(done.seconds)} slices did not converge. {done.reasons[0]}", err=True)
