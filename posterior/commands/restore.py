"""deblur, inpaint, upscale, denoise, colorize and solve."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posterior.commands.options import Precision
from posterior.commands.restoring import restoring

if TYPE_CHECKING:
    from posterior.jobs import Job
    from posterior.tasks import Task

__all__ = ["add_to"]

Noise = Annotated[float, typer.Option(min=0.0, max=1.0, help="Standard deviation of the noise; white is 1.")]


class Reduction(StrEnum):
    """How an image was made smaller."""

    bicubic = "bicubic"
    area = "area"


class Method(StrEnum):
    """What enlarges: a prior and the known reduction, or a network trained to restore."""

    posterior = "posterior"
    resshift = "resshift"


RESSHIFT = "With --method resshift"


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
    method: Annotated[
        Method | None,
        typer.Option(
            help="resshift: a trained restorer for any damage; --weights names its files, --model its task. posterior: the "
            "image was made smaller in a known way. Default resshift; with --kernel, --noise or a factor above 4 posterior.",
            show_default=False,
        ),
    ] = None,
    factor: Annotated[
        int | None,
        typer.Option(min=2, max=16, help="How many times larger; default 4, and 1 for restorers that keep the size."),
    ] = None,
    kernel: Annotated[
        Reduction | None, typer.Option(help="posterior: how the small image was made; default bicubic.", show_default=False)
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="posterior: standard deviation of the noise; white is 1; default 0.01."),
    ] = None,
    face: Annotated[
        bool, typer.Option("--face", help="It is an aligned portrait: a model for faces.", rich_help_panel=RESSHIFT)
    ] = False,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Fill in what is white in this image; or a folder of them, named as in IN.", rich_help_panel=RESSHIFT
        ),
    ] = None,
    autoencoder: Annotated[
        Path | None,
        typer.Option(help="First stage; default: its released file beside --weights.", rich_help_panel=RESSHIFT),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="What the networks compute in.", rich_help_panel=RESSHIFT)
    ] = Precision.fp32,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Faster with bf16 or fp16 on a GPU.", rich_help_panel=RESSHIFT)
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile first: for folders of equal sizes.", rich_help_panel=RESSHIFT)
    ] = False,
) -> Task | Job:
    """Enlarge an image: by a network trained to restore, or one that was made smaller in a known way."""
    if method is None:
        method = Method.resshift if kernel is None and noise is None and (factor or 4) <= 4 else Method.posterior
    if method is Method.resshift:
        from posterior.upscaling import Upscaling

        _only("--method posterior", kernel=kernel, noise=noise)
        return Upscaling(
            factor=factor,
            face=face,
            mask=mask,
            autoencoder=autoencoder,
            precision=precision,
            channels_last=channels_last,
            compile=compile,
        )
    from inverse.operators import Downsample
    from posterior import tasks

    _only("--method resshift", face=face or None, mask=mask, autoencoder=autoencoder, compile=compile or None)
    _only("--method resshift", channels_last=channels_last or None, precision=None if precision == "fp32" else precision)
    reduce = {Reduction.bicubic: Downsample.bicubic, Reduction.area: Downsample.area}[kernel or Reduction.bicubic]
    noise, factor = 0.01 if noise is None else noise, factor or 4
    return tasks.upscale(reduce(factor, noise=tasks.gaussian(noise)), factor)


def _only(owner: str, **given: object) -> None:
    """Raise ``ValueError`` where one of the options that belong to ``owner`` is given."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"--{name.replace('_', '-')} belongs to {owner}; add it, or leave the option out")


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
