"""The reconstruction methods that ``--method`` names, in CT and in MRI: a name, a class, and whatever settings were given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from torch import Tensor

from inverse.operators.base import LinearOperator
from medical import classical, samplers
from medical.classical.course import Progress

__all__ = ["CT", "LEARNED", "MRI", "Method", "make", "plain", "within"]


class Method(Protocol):
    """What can stand in the tables: it gives an object with ``estimate`` and, where known, ``settings`` and the like."""

    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> classical.Classical:
        """Of ``y`` (B, ...), from the image ``start``."""


CT: dict[str, type[Any]] = {
    "fbp": classical.FBP,
    "sirt": classical.SIRT,
    "os-sart": classical.OSSART,
    "cgls": classical.CGLS,
    "fista-tv": classical.FISTATV,
    "admm-tv": classical.ADMMTV,
    "pdhg-tv": classical.PDHGTV,
}
"""Methods for projections; a method more is a line more."""

MRI: dict[str, type[Any]] = {
    "zero-filled": classical.ZeroFilled,
    "sense": classical.CGSense,
    "l1wavelet": classical.L1Wavelet,
    "tv": classical.FISTATV,
}
"""Methods for k-space."""

LEARNED: dict[str, type[Any]] = {
    "dds": samplers.DDS,
    "diffusion-mbir": samplers.DiffusionMBIR,
    "tpdm": samplers.TPDM,
}
"""Methods for volumes with a prior of slices: ``reconstruct(model, A, y, seed=, progress=, run=)``."""


def make(
    table: Mapping[str, type[Any]], name: str, given: Mapping[str, Any], *, wished: Mapping[str, Any] | None = None
) -> Method:
    """The method ``name`` of the ``table`` with the settings ``given``, where they are not None.

    ``wished`` are settings that it takes if it knows them. Raises ``ValueError`` for a name that is not there, and for a
    given setting that is not one of the method's.
    """
    if name not in table:
        raise ValueError(f"--method must be one of {', '.join(table)}, got {name!r}")
    known = [f.name for f in fields(table[name])]
    settings = {key: value for key, value in given.items() if value is not None}
    for key in settings:
        if key not in known:
            raise ValueError(f"--{key} is no setting of {name}, which takes {', '.join(known) or 'none'}")
    settings.update({key: value for key, value in (wished or {}).items() if key in known})
    method: Method = table[name](**settings)
    return method


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` for JSON: what is infinite, as an open bound, becomes None, and tensors are left out."""

    def finite(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [finite(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: finite(value) for key, value in settings.items() if not isinstance(value, Tensor)}


def within(progress: Callable[[float, float], None] | None, index: int, count: int) -> Callable[[int, int], None] | None:
    """The progress of one part of ``count`` as that of all."""
    if progress is None:
        return None
    return lambda done, total: progress(index + done / total, count)
