"""deblur, inpaint, upscale, denoise, colorize and solve."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posterior.commands.restoring import restoring

if TYPE_CHECKING:
    from posterior.tasks import Task

__all__ = ["add_to"]

Noise = Annotated[float, typer.Option(min=0.0, max=1.0, help="Standard deviation of the noise; white is 1.")]


class Reduction(StrEnum):
    """How an image was made smaller."""

    bicubic = "bicubic"
    area = "area"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for make in (deblur, inpaint, upscale, denoise, colorize, solve):
        restoring(app)(make)


def deblur(
    *,
    sigma: Annotated[
        float | None, typer.Option(min=0.1, max=100.0, help="Gaussian blur of this width in pixels; default 3.")
    ] = None,
    kernel: Annotated[Path | None, typer.Option(help="Image of the blur: how a bright point would look.")] = None,
    motion: Annotated[
        str | None, typer.Option(metavar="LENGTH,ANGLE", help="Straight motion: pixels, degrees anticlockwise from the right.")
    ] = None,
    noise: Noise = 0.02,
) -> Task:
    """Remove a blur: Gaussian, straight motion, or any given as an image."""
    from posterior import blurs, tasks

    blur = blurs.chosen(sigma=sigma, kernel=kernel, motion=motion, noise=tasks.gaussian(noise))
    return tasks.same_size(blur, reach=max(blur.kernel.shape) // 2)


def inpaint(
    *,
    mask: Annotated[
        Path | None,
        typer.Option(help="Image of the same size, white where IN is missing; or a folder of them, named as in IN."),
    ] = None,
    mask_alpha: Annotated[bool, typer.Option("--mask-alpha", help="What is transparent in IN is missing.")] = False,
    mask_color: Annotated[str | None, typer.Option(metavar="#RRGGBB", help="What has this colour in IN is missing.")] = None,
    noise: Noise = 0.0,
) -> Task:
    """Fill in what is missing. White in the mask is filled; without --noise everything else stays as it is, bit by bit."""
    from posterior import holes, tasks

    task = tasks.inpaint(holes.chosen(mask=mask, alpha=mask_alpha, colour=mask_color), tasks.gaussian(noise))
    return tasks.opaque(task) if mask_alpha else task


def upscale(
    *,
    factor: Annotated[int, typer.Option(min=2, max=16, help="How many times larger.")] = 4,
    kernel: Annotated[Reduction, typer.Option(help="How the small image was made.")] = Reduction.bicubic,
    noise: Noise = 0.01,
) -> Task:
    """Enlarge an image that was made smaller in a known way."""
    from inverse.operators import Downsample
    from posterior import tasks

    reduce = {Reduction.bicubic: Downsample.bicubic, Reduction.area: Downsample.area}[kernel]
    return tasks.upscale(reduce(factor, noise=tasks.gaussian(noise)), factor)


def denoise(
    *, noise: Annotated[float, typer.Option(min=0.001, max=1.0, help="Standard deviation of the noise; white is 1.")] = 0.1
) -> Task:
    """Remove Gaussian noise of known strength."""
    from inverse.operators import Identity
    from posterior import tasks

    return tasks.same_size(Identity(noise=tasks.gaussian(noise)))


def colorize(*, noise: Noise = 0.01) -> Task:
    """Give a grey image colours; brightness is kept as far as the noise allows."""
    from inverse.operators import Grayscale
    from posterior import tasks

    return tasks.colorize(Grayscale(noise=tasks.gaussian(noise)))


def solve(*, operator: Annotated[Path, typer.Option(help="YAML file that says how IN was measured.")]) -> Task:
    """Invert any operator of the library, described in YAML."""
    from posterior import recipes, tasks

    return tasks.solve(recipes.read(operator).build)
