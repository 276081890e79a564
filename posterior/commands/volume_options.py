"""Options of `posterior reconstruct` for volumes with a prior of slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from posterior.commands.options import Mask
from posterior.commands.unfolding import unfolded

__all__ = ["Modality", "VolumeOptions", "with_options"]

SCANS, CT, MR, PRIOR, RUN = "Volumes with a prior", "Simulated CT", "Simulated MRI", "Prior", "Running"


class Modality(StrEnum):
    """What the scan is."""

    ct = "ct"
    mri = "mri"


Number = Annotated[int | None, typer.Option(min=0, help="Which one of an ISMRMRD file.", rich_help_panel=SCANS)]


@dataclass(frozen=True, kw_only=True)
class VolumeOptions:
    """What is measured of which scan, with which prior, and how the work is done."""

    modality: Annotated[
        Modality | None,
        typer.Option(
            help="Of a scan (NIfTI, DICOM folder) to simulate, or of k-space; takes --method dds.", rich_help_panel=SCANS
        ),
    ] = None
    slices: Annotated[
        str,
        typer.Option(metavar="FIRST:LAST", help="LAST left out; axial ones of a scan, from the feet.", rich_help_panel=SCANS),
    ] = ""
    split: Annotated[
        bool, typer.Option("--split", help="Also OUT_measured and OUT_filled: who vouches for what.", rich_help_panel=SCANS)
    ] = False
    report: Annotated[bool, typer.Option("--report", help="Also OUT.html, an illustrated report.", rich_help_panel=SCANS)] = (
        False
    )
    contrast: Number = None
    repetition: Number = None
    slab: Number = None
    views: Annotated[int | None, typer.Option(min=1, max=100_000, help="Of a parallel beam.", rich_help_panel=CT)] = None
    degrees: Annotated[
        float, typer.Option("--range", min=1e-3, max=360.0, help="That the views cover, in degrees.", rich_help_panel=CT)
    ] = 180.0
    geometry: Annotated[
        Path | None, typer.Option("--geometry", "-g", help="YAML file of another beam, instead of --views.", rich_help_panel=CT)
    ] = None
    photons: Annotated[
        float | None,
        typer.Option(min=2.0, max=1e12, help="Of a ray that meets nothing; default: no noise.", rich_help_panel=CT),
    ] = None
    acceleration: Annotated[
        float, typer.Option(min=1.0, max=100.0, help="A full measurement over what is measured.", rich_help_panel=MR)
    ] = 4.0
    mask: Annotated[Mask, typer.Option(help="Which columns, points or lines.", rich_help_panel=MR)] = Mask.equispaced
    acs: Annotated[int, typer.Option(min=0, max=1024, help="Central lines, for the coil maps.", rich_help_panel=MR)] = 24
    coils: Annotated[int, typer.Option(min=1, max=128, help="Around the volume.", rich_help_panel=MR)] = 8
    noise: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Of each part of a sample, where the brightest is 1.", rich_help_panel=MR)
    ] = 0.0
    coils_compress: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Virtual coils to reconstruct MRI from.", rich_help_panel=PRIOR)
    ] = None
    model: Annotated[str, typer.Option(help="The prior of slices; default: ct-slices or mr-slices.", rich_help_panel=PRIOR)] = (
        ""
    )
    weights: Annotated[
        Path | None, typer.Option(help="File to load the prior's weights from instead.", rich_help_panel=PRIOR)
    ] = None
    steps: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Noise levels; default: the method's own.", rich_help_panel=PRIOR)
    ] = None
    samples: Annotated[
        int, typer.Option(min=1, max=1000, help="Draws; of two or more their spread is OUT_std.", rich_help_panel=PRIOR)
    ] = 1
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same volume.", rich_help_panel=PRIOR)] = 0
    chunk: Annotated[
        int, typer.Option(min=1, help="Slices that pass the network together: bounds memory.", rich_help_panel=RUN)
    ] = 16
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run was cut short, with the same result.", rich_help_panel=RUN)
    ] = False
    save_every: Annotated[
        float, typer.Option(min=0.0, help="Seconds between two states to go on from.", rich_help_panel=RUN)
    ] = 60.0
    devices: Annotated[
        int, typer.Option(min=1, help="Processes on a machine, a GPU or share of the CPU each.", rich_help_panel=RUN)
    ] = 1
    nodes: Annotated[int, typer.Option(min=1, help="Machines, under torchrun.", rich_help_panel=RUN)] = 1

    def given(self) -> list[str]:
        """Names of the options that differ from their defaults."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command(..., volume=VolumeOptions)`` as a function that takes the options one by one."""
    return unfolded(command, "volume", VolumeOptions)
