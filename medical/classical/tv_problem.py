"""The objective that the three methods for total variation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.classical.differences import scales, spacing_of
from medical.classical.inputs import Inputs, check_bounds, check_positive, check_weight
from medical.classical.tv import TotalVariation
from medical.classical.weights import as_setting, default_weight

__all__ = ["TVProblem", "check_tv_settings"]

STRENGTH = 0.5  # times the noise in the gradient
SHARE = 1e-4  # of the largest value of A^H y, for measurements without noise


@dataclass(frozen=True, eq=False)
class TVProblem:
    """``|A x - y|^2 / 2 + weight TV(x)``, ``bounds[0] <= x <= bounds[1]``, for checked inputs.

    The voxels' sides are those of the operator's ``volume``, where it has one. Without a weight of the user's it is
    ``0.5 std(A^H n)``, n the noise; without noise ``1e-4 max |A^H y|``, which is little. ``weight`` is (B, 1, ..., 1).
    """

    inputs: Inputs
    tv: TotalVariation
    weight: Tensor

    @classmethod
    def of(cls, method: Any, A: LinearOperator, y: Tensor, start: Tensor | None) -> TVProblem:
        """For the ``weight`` and ``bounds`` of ``method``."""
        inputs = Inputs.checked(A, y, start, method.bounds)
        dims = inputs.x.ndim - 2
        if dims not in (2, 3):
            raise ValueError(f"{A!r}: images must be (B, C, H, W) or (B, C, D, H, W), got {tuple(inputs.x.shape)}")
        tv = TotalVariation(scales(spacing_of(A), dims), method.bounds)
        if method.weight is None:
            weight = default_weight(A, inputs.y, inputs.b, strength=STRENGTH, share=SHARE)
        else:
            weight = inputs.x.real.new_full((1,) * inputs.x.ndim, method.weight)
        return cls(inputs, tv, weight)

    def penalty(self, x: Tensor) -> Tensor:
        """``weight TV(x)``, (B,)."""
        return self.weight.flatten() * self.tv.value(x)

    @property
    def chosen(self) -> dict[str, object]:
        """What a rule may have chosen."""
        return {"weight": as_setting(self.weight)}


def check_tv_settings(method: Any) -> None:
    """Raise ``ValueError`` for a setting out of range."""
    check_weight(method.weight)
    check_bounds(method.bounds)
    check_positive(iterations=method.iterations, tolerance=method.tolerance)
    if hasattr(method, "inner"):
        check_positive(inner=method.inner)
