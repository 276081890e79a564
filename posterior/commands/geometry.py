"""geometry show, draw and new: CT geometries in YAML."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from posterior.geometries import Facts

__all__ = ["add_to"]

Geometry = Annotated[Path, typer.Argument(metavar="GEOMETRY", help="YAML file of volume and beam.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite/--no-overwrite", help="Replace a file that is there.")]


class Kind(StrEnum):
    """Of the geometry."""

    parallel = "parallel"
    fan = "fan"
    curved = "curved"
    cone = "cone"
    helix = "helix"


def add_to(app: typer.Typer) -> None:
    """Register the group ``geometry``."""
    group = typer.Typer(
        name="geometry", help="CT geometries: what they see, drawn and in numbers.", invoke_without_command=True
    )
    group.callback()(_group)
    group.command("show")(show)
    group.command("draw")(draw)
    group.command("new")(new)
    app.add_typer(group)


def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def show(geometry: Geometry, *, as_json: AsJson = False) -> None:
    """Print field of view, magnification, pitch, the voxel size it is good for, and warnings."""
    from posterior import geometries

    found = geometries.facts(geometry)
    if as_json:
        typer.echo(json.dumps({"command": "geometry show", **dataclasses.asdict(found)}))
        return
    _print(found)


def draw(
    geometry: Geometry,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Drawing to write, .svg.")],
    animate: Annotated[bool, typer.Option("--animate", help="Let source and detector run through the views.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Draw grid, sources, rays and detector."""
    from posterior import geometries

    geometries.draw(geometry, out, animated=animate, overwrite=overwrite)
    typer.echo(json.dumps({"command": "geometry draw", "output": str(out)}) if as_json else f"{out}: written")


def new(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="YAML file to write.")],
    *,
    kind: Annotated[Kind, typer.Option(help="Of the beam; curved is a fan with a curved detector.")] = Kind.fan,
    scan: Annotated[Path | None, typer.Option(help="NIfTI file whose grid it shall see; default 256 x 256 mm.")] = None,
    views: Annotated[int, typer.Option(min=1, max=100_000, help="In a turn; in half a turn where parallel.")] = 360,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a geometry to start from, one that sees the whole grid."""
    from posterior import geometries

    geometries.new(out, kind.value, scan=scan, views=views, overwrite=overwrite)
    typer.echo(json.dumps({"command": "geometry new", "output": str(out)}) if as_json else f"{out}: written")


def _print(f: Facts) -> None:
    detector, spacing = " x ".join(map(str, f.detector)), " x ".join(f"{s:g}" for s in f.spacing)
    typer.echo(f"{f.kind}: {f.views} views, detector {detector}, spacing {spacing}, {f.data / 1e6:.3g} million numbers")
    if f.angles is not None:
        scan = f", a {f.scan} scan" if f.scan else ""
        typer.echo(f"angles: {f.angles[0]:.6g} to {f.angles[1]:.6g} degrees in steps of {f.angles[2]:.4g}{scan}")
    if f.field_of_view:
        typer.echo(f"field of view: radius {' and '.join(f'{r:.5g}' for r in f.field_of_view)}")
    if f.magnification is not None and f.fan is not None:
        typer.echo(f"magnification: {f.magnification:.5g}, fan {-f.fan[0]:.4g} to {f.fan[1]:.4g} degrees")
    if f.normalised_pitch is not None:
        typer.echo(f"normalised pitch: {f.normalised_pitch:.4g}")
    if f.voxel is not None:
        views = f", and {f.views_needed} views sample the field of view fully" if f.views_needed else ""
        typer.echo(f"recommended voxel: {f.voxel:.4g}{views}")
    if f.grid is not None and f.grid_voxel is not None:
        typer.echo(f"grid: {' x '.join(map(str, f.grid))}, voxel {' x '.join(f'{h:g}' for h in f.grid_voxel)}")
    for warning in f.warnings:
        typer.echo(f"warning: {warning}", err=True)
