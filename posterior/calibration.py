"""Which calibration holds for a restoration: that of the same task, the same sampler and the same weights, or none.

``calibration.json`` beside this file, where it is installed, comes from ``python -m benchmarks.calibration --ship``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inverse.calibration import FLOOR, Calibration, load
from inverse.operators import Blur, Downsample, Gaussian, Inpaint
from inverse.operators.base import LinearOperator, Operator, Shape
from posterior.restoration import Sampler
from prior import registry

__all__ = ["SHIPPED", "TASKS", "Calibrated", "CalibratedTask", "find", "identity", "shipped", "task_of"]

SHIPPED = Path(__file__).with_name("calibration.json")

SHARE = 0.01  # by which the missing share of a mask may differ
SPECKLED = 5.0  # deviations of the correlation of neighbours that still count as drawn pixel by pixel


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """How a standard deviation becomes intervals that hold: ``estimate +- factor (std + floor)``, in units of [0, 1].

    Attributes
    ----------
    task, images: what the factors were measured on, and how many photographs.
    levels, factors, floor: the shares of the values wanted within, and the half-widths.
    held: the shares found on photographs that the factors do not come from, where that was measured.
    """

    task: str
    images: int
    levels: tuple[float, ...]
    factors: tuple[float, ...]
    floor: float
    held: tuple[float, ...] | None

    @classmethod
    def of(cls, known: Calibration) -> Calibrated:
        """What a record says of a calibration."""
        held = None if known.check is None else known.check.calibrated
        return cls(task=known.task, images=known.images, levels=known.levels, factors=known.factors, floor=FLOOR, held=held)


@dataclass(frozen=True)
class CalibratedTask:
    """A task that is calibrated.

    Attributes
    ----------
    name: of the task.
    operator: the measurement of images of a shape (C, H, W); a seed for what is drawn of it.
    same: whether two operators measure an image (1, C, H, W) in the same way.
    """

    name: str
    operator: Callable[[Shape, int], LinearOperator]
    same: Callable[[Operator, Operator, Tensor], bool]


def _equal(A: Operator, B: Operator, x: Tensor) -> bool:
    return repr(A) == repr(B) and torch.allclose(A(x), B(x), atol=1e-5)


def _equally_speckled(A: Operator, B: Operator, x: Tensor) -> bool:
    if not isinstance(A, Inpaint) or not isinstance(B, Inpaint):
        return False
    missing, wanted = (~A.mask).double().mean(0), (~B.mask).double().mean(0)
    if abs(float(missing.mean() - wanted.mean())) > SHARE or not bool(((missing == 0) | (missing == 1)).all()):
        return False
    off = missing - missing.mean()
    pairs = (off[1:] * off[:-1]).mean(), (off[:, 1:] * off[:, :-1]).mean()
    chance = SPECKLED * float(off.square().mean()) / off.numel() ** 0.5
    return all(abs(float(pair)) <= chance for pair in pairs)


TASKS = (
    CalibratedTask(
        "Gaussian deblurring, sigma 3, noise 0.02", lambda shape, seed: Blur.gaussian(3.0, noise=Gaussian(0.02)), _equal
    ),
    CalibratedTask(
        "inpainting, 80 % missing at random", lambda shape, seed: Inpaint.random(shape, 0.8, seed=seed), _equally_speckled
    ),
    CalibratedTask("super-resolution x4, bicubic", lambda shape, seed: Downsample.bicubic(4), _equal),
    CalibratedTask(
        "super-resolution x4, bicubic, noise 0.01", lambda shape, seed: Downsample.bicubic(4, noise=Gaussian(0.01)), _equal
    ),
)
"""Those of the demo, and what ``posterior upscale`` takes for granted."""


def task_of(operator: Operator, shape: Shape) -> str | None:
    """Name of the calibrated task that ``operator`` is, for images of ``shape`` (C, H, W); None where it is another."""
    for task in TASKS:
        known = task.operator(shape, 0)
        if operator.noise != known.noise or type(operator) is not type(known):
            continue
        device = next((b.device for b in operator.buffers()), torch.device("cpu"))
        x = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0)).to(device)
        if task.same(operator, known.to(device), x):
            return task.name
    return None


def identity(model: str, weights: Path | None = None) -> str | None:
    """What a calibration names a prior by: the embedded model and the hash of its weights; None for any other."""
    cards = registry.cards()
    return f"{model}, sha256 {cards[model].sha256}" if weights is None and model in cards else None


def shipped() -> tuple[Calibration, ...]:
    """The calibrations that are installed; none where there is no such file."""
    return load(SHIPPED) if SHIPPED.is_file() else ()


def find(
    operator: Operator, shape: Shape, *, sampler: Sampler, prior: str | None, among: Sequence[Calibration] | None = None
) -> Calibration | None:
    """The calibration ``among`` those given, else those shipped, that was measured in just this way; None where none was.

    ``shape`` (C, H, W) is that of the images, ``prior`` their prior's :func:`identity`.
    """
    known = [
        c
        for c in (shipped() if among is None else among)
        if (c.sampler, c.samples, c.prior) == (repr(sampler), sampler.samples, prior)
    ]
    task = task_of(operator, shape) if known else None
    return next((c for c in known if c.task == task), None)
