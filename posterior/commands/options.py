"""Options that all restoring commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Device", "Mask", "Options", "Precision", "SamplerName"]

LARGE = "Large images"
OUTPUT = "Output"


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Mask(StrEnum):
    """Which part of k-space is measured."""

    equispaced = "equispaced"
    uniform = "uniform"
    gaussian = "gaussian"
    variable_density = "variable-density"
    poisson = "poisson"
    radial = "radial"
    spiral = "spiral"


class Precision(StrEnum):
    """What networks compute in."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class SamplerName(StrEnum):
    """How to restore: a sampler by its name, or the one that suits the operator."""

    auto = "auto"
    reddiff = "reddiff"
    diffpir = "diffpir"
    ddrm = "ddrm"
    ddnm = "ddnm"
    pigdm = "pigdm"
    daps = "daps"
    dps = "dps"
    mcg = "mcg"


SAMPLER = (
    "Default reddiff. Network evaluations by default: ddrm 20; reddiff 60, and 71 a sample; diffpir, ddnm and daps 100; "
    "pigdm, dps and mcg 100, about twice as slow. But for reddiff, each sample costs as many again. auto: what suits the "
    "operator."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to restore, whatever was done to the image: the model, the sampler, the output and the limits."""

    model: Annotated[
        str | None, typer.Option(help="The prior; `posterior weights list` names them; default photos.", show_default=False)
    ] = None
    weights: Annotated[Path | None, typer.Option(help="File to load the prior's weights from instead.")] = None
    sampler: Annotated[SamplerName | None, typer.Option(help=SAMPLER, show_default=False)] = None
    steps: Annotated[int | None, typer.Option(min=1, max=10_000, help="Network evaluations; default: the sampler's own.")] = (
        None
    )
    samples: Annotated[
        int,
        typer.Option(min=0, max=1000, help="Posterior samples, two or more: saves their standard deviation as OUT.std.png."),
    ] = 0
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same image.")] = 0
    device: Annotated[Device, typer.Option(help="Where to compute; auto takes a GPU where there is one.")] = Device.auto
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Save settings and figures as OUT.json, and what the measurement fixes as OUT.measured.png.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.", rich_help_panel=OUTPUT)] = (
        False
    )
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Replace files that are there.", rich_help_panel=OUTPUT)
    ] = False
    tile: Annotated[int, typer.Option(min=0, help="Side of the tiles; 0 never cuts.", rich_help_panel=LARGE)] = 512
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that tiles share.", rich_help_panel=LARGE)] = 64
    tile_above: Annotated[
        float | None,
        typer.Option(min=0, help="Cut images of more megapixels; default 4, with resshift 1.", rich_help_panel=LARGE),
    ] = None
    max_megapixels: Annotated[float, typer.Option(min=0.0, help="Refuse larger images.", rich_help_panel=LARGE)] = 100.0
