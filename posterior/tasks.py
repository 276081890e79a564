"""What was done to a picture, as an inverse problem: each task turns a picture into a measurement and its operator.

The priors know RGB. A grey picture is measured as three equal channels and its answer averaged back to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from inverse import operators
from inverse.operators.base import LinearOperator, Operator
from inverse.operators.noise import Gaussian, Noise
from posterior.images import Picture
from posterior.tiles import Window

__all__ = ["Holes", "Problem", "Task", "colorize", "gaussian", "inpaint", "opaque", "resized", "same_size", "solve", "upscale"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """One picture's inverse problem.

    Attributes
    ----------
    measurement: ``y``, (1, C, h, w) in [0, 1].
    operator: the forward model of a window of the measurement.
    finish: the picture to save, from the restored colour (3, H, W).
    scale: how many times larger than the measurement the restored image is.
    reach: how many pixels apart the operator mixes: tiles overlap accordingly.
    tiled: whether windows of the measurement can be restored apart from each other.
    """

    measurement: Tensor
    operator: Callable[[Window], Operator]
    finish: Callable[[Tensor], Picture]
    scale: int = 1
    reach: int = 0
    tiled: bool = True


Task = Callable[[Picture, Path], Problem]
"""From a picture and its name (relative to the folder given by the user) to its problem."""

Holes = Callable[[Picture, Path], Tensor]
"""From a picture and its name to where it is missing: (H, W), boolean."""


def gaussian(noise: float) -> Noise | None:
    """Gaussian noise of that standard deviation, or none."""
    return Gaussian(noise) if noise else None


def same_size(operator: Operator, reach: int = 0) -> Task:
    """The picture was measured by ``operator``, which keeps its size and mixes what is up to ``reach`` pixels apart."""

    def problem(picture: Picture, name: Path) -> Problem:
        y = _rgb(picture.colour)
        finish = _finish(picture, picture.alpha)
        return Problem(measurement=y[None], operator=lambda window: operator, finish=finish, reach=reach)

    return problem


def upscale(operator: Operator, factor: int) -> Task:
    """The picture is what ``operator`` left of one ``factor`` times larger."""

    def problem(picture: Picture, name: Path) -> Problem:
        height, width = picture.size
        alpha = resized(picture.alpha, (height * factor, width * factor))
        y = _rgb(picture.colour)
        return Problem(
            measurement=y[None],
            operator=lambda window: operator,
            finish=_finish(picture, alpha),
            scale=factor,
            reach=2 * factor,  # the cubic kernel's
        )

    return problem


def colorize(operator: Operator) -> Task:
    """The picture lost its colour to ``operator``; what colour it has is dropped."""

    def problem(picture: Picture, name: Path) -> Problem:
        y = operator(_rgb(picture.colour)[None])
        return Problem(
            measurement=y,
            operator=lambda window: operator,
            finish=lambda colour: picture.with_colour(colour, picture.alpha),
        )

    return problem


def inpaint(holes: Holes, noise: Noise | None = None) -> Task:
    """The picture is missing where ``holes`` says. Without noise, the pixels that are there are kept exactly."""

    def problem(picture: Picture, name: Path) -> Problem:
        missing = holes(picture, name)
        if bool(missing.all()):
            raise ValueError("the mask leaves no pixel to start from")
        known = (~missing).to(picture.colour.dtype)
        y = known * _rgb(picture.colour)
        finish = _finish(picture, picture.alpha)

        def keep(colour: Tensor) -> Picture:
            return finish(colour if noise is not None else torch.where(missing, colour, _rgb(picture.colour)))

        return Problem(
            measurement=y[None],
            operator=lambda window: _seen(window.crop(known), noise),
            finish=keep,
        )

    return problem


def _seen(known: Tensor, noise: Noise | None) -> Operator:
    if not bool(known.any()):
        raise ValueError(
            f"a tile of {known.shape[-1]} x {known.shape[-2]} pixels lies wholly within a hole; give a larger --tile"
        )
    return operators.Inpaint(known[None], shape=(3, *known.shape), noise=noise)


def solve(build: Callable[[tuple[int, int, int]], Operator]) -> Task:
    """The picture was measured by the operator that ``build`` makes for its shape (3, H, W)."""

    def problem(picture: Picture, name: Path) -> Problem:
        operator = build((3, *picture.size))
        y = _measured_by(operator, picture.colour)

        def finish(colour: Tensor) -> Picture:
            alpha = resized(picture.alpha, (colour.shape[-2], colour.shape[-1]))
            return picture.with_colour(colour, alpha) if len(y) == 1 else _finish(picture, alpha)(colour)

        return Problem(measurement=y[None], operator=lambda window: operator, finish=finish, tiled=False)

    return problem


def _measured_by(operator: Operator, colour: Tensor) -> Tensor:
    # a grey file is one channel of a measurement, or stands for three equal ones: whichever comes from an RGB image
    if not isinstance(operator, LinearOperator):
        return _rgb(colour)
    for y in (colour, _rgb(colour)):
        if operator.input_shape(tuple(y.shape))[0] == 3:
            operator.check_output(y[None])
            return y
    raise ValueError(
        f"{operator!r} takes images of {operator.input_shape(tuple(colour.shape))[0]} channels; the priors know RGB"
    )


def opaque(task: Task) -> Task:
    """``task`` on a picture whose transparency marked the holes: the answer has none."""

    def problem(picture: Picture, name: Path) -> Problem:
        given = task(picture, name)
        return replace(given, finish=lambda colour: replace(given.finish(colour), alpha=None))

    return problem


def _finish(picture: Picture, alpha: Tensor | None) -> Callable[[Tensor], Picture]:
    grey = len(picture.colour) == 1
    return lambda colour: picture.with_colour(colour.mean(0, keepdim=True) if grey else colour, alpha)


def _rgb(colour: Tensor) -> Tensor:
    return colour.expand(3, -1, -1)


def resized(alpha: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """Opacity (1, h, w) at another ``size`` (H, W); None stays None."""
    if alpha is None or tuple(alpha.shape[-2:]) == size:
        return alpha
    return F.interpolate(alpha[None], size=size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
