"""What a method is given, checked before any work: a linear operator, a measurement of it, and an image to start from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.precision import lengthened

__all__ = ["Bounds", "Inputs", "check_bounds", "check_positive", "check_weight", "checked_measurement"]

Bounds = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Inputs:
    """``A``, ``y``, ``b = A^H y`` and the first image ``x``, which has the shape and type of ``b``."""

    A: LinearOperator
    y: Tensor
    b: Tensor
    x: Tensor

    @classmethod
    def checked(cls, A: LinearOperator, y: Tensor, start: Tensor | None, bounds: Bounds | None = None) -> Inputs:
        """The same, 16-bit numbers in float32; ``start`` None is an image of zeros, brought within ``bounds``.

        Raises what :func:`checked_measurement` raises, and ``ValueError`` for a start that does not fit or is not finite,
        and for bounds on complex images.
        """
        y = checked_measurement(A, y)
        b = A.adjoint(y)
        if bounds is not None and b.is_complex():
            raise ValueError(f"bounds {bounds} order real numbers, but the images of {A!r} are complex; leave bounds out")
        return cls(A, y, b, _started(A, b, start, bounds))


def checked_measurement(A: LinearOperator, y: Tensor) -> Tensor:
    """``y``, 16-bit numbers in float32.

    Raises ``TypeError`` where A is not linear or y no tensor of floating-point numbers, ``ValueError`` for shapes that do not
    fit, an empty batch, and values that are not finite.
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"A must be a linear operator, got {A!r}")
    _check_numbers("y", y)
    A.check_output(y)
    if len(y) == 0:
        raise ValueError(f"y must hold at least one measurement, got a batch of none, {tuple(y.shape)}")
    return lengthened(y)


def _started(A: LinearOperator, b: Tensor, start: Tensor | None, bounds: Bounds | None) -> Tensor:
    x = torch.zeros_like(b)
    if start is not None:
        _check_numbers("start", start)
        if start.shape != b.shape:
            raise ValueError(f"start must have the shape of the images of {A!r}, {tuple(b.shape)}, got {tuple(start.shape)}")
        if start.is_complex() and not b.is_complex():
            raise ValueError(f"start must be real as the images of {A!r} are, got {start.dtype}; give its real part")
        x = start.detach().to(b)
    return x if bounds is None else x.clamp(*bounds)


def _check_numbers(name: str, t: Tensor) -> None:
    if not isinstance(t, Tensor) or not (t.is_floating_point() or t.is_complex()):
        kind = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"{name} must be a tensor of floating-point or complex numbers, got {kind}; convert it")
    bad = int((~t.isfinite()).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} of {t.numel()} values NaN or infinite; mend them or leave them out")


def check_bounds(bounds: Bounds | None) -> None:
    """Raise ``ValueError`` unless ``bounds`` is None or (low, high), either of them possibly infinite."""
    if bounds is not None and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ValueError(f"bounds must be (low, high) with low < high, such as (0, inf), got {bounds}")


def check_weight(weight: float | None) -> None:
    """Raise ``ValueError`` unless ``weight`` is None or finite and not negative."""
    if weight is not None and not 0 <= weight < math.inf:
        raise ValueError(f"weight must be finite and not negative, or None for the rule, got {weight}")


def check_positive(**settings: float | None) -> None:
    """Raise ``ValueError`` unless every setting is positive and finite; None is let through."""
    for name, value in settings.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
