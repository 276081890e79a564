"""Numbers at the edge of the geometries: whatever comes in becomes tuples, which compare by value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["angle_text", "chosen", "floats", "uniform", "vectors", "whole_numbers"]


def uniform(views: int, start: float = 0.0, stop: float = math.pi) -> tuple[float, ...]:
    """``views`` angles in radians from ``start`` on, at equal steps, ``stop`` left out: [0, pi) by default."""
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise ValueError(f"views must be a whole number, at least 1, got {views!r}")
    step = (stop - start) / views
    return tuple(start + k * step for k in range(views))


def whole_numbers(name: str, values: int | Sequence[int]) -> tuple[int, ...]:
    """``values`` as a tuple of whole numbers, each at least 1."""
    given = tuple(values) if isinstance(values, Iterable) else (values,)
    if not given or any(isinstance(n, (bool, str)) or not float(n).is_integer() or n < 1 for n in given):
        raise ValueError(f"{name} must hold whole numbers, at least 1, got {values}")
    return tuple(int(n) for n in given)


def floats(name: str, values: float | Sequence[float] | Tensor, count: int | None = None) -> tuple[float, ...]:
    """``values`` as a tuple of finite numbers, one number standing for ``count`` of them."""
    table = torch.as_tensor(values, dtype=torch.float64)
    given = tuple(table.flatten().tolist()) * (1 if table.ndim else count or 1)
    if count is not None and len(given) != count:
        raise ValueError(f"{name} must be one number or {count}, got {len(given)}")
    if not all(math.isfinite(v) for v in given):
        raise ValueError(f"{name} must be finite, got {next(v for v in given if not math.isfinite(v))}")
    return given


def vectors(name: str, values: Sequence[Sequence[float]] | Tensor, views: int | None = None) -> tuple[tuple[float, ...], ...]:
    """``values`` (V, 3) as a tuple of finite triples."""
    table = torch.as_tensor(values, dtype=torch.float64)
    if table.ndim != 2 or table.shape[1] != 3 or (views is not None and len(table) != views):
        wanted = "(views, 3)" if views is None else f"({views}, 3)"
        raise ValueError(f"{name} must have shape {wanted}, x, y and z of each view, got {tuple(table.shape)}")
    if not bool(table.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {float(table[~table.isfinite()][0])}")
    return tuple(tuple(row) for row in table.tolist())


def chosen(count: int, which: int | slice | Iterable[int] | Tensor) -> list[int]:
    """Which of ``count`` views an index, a slice, indices or a mask pick out."""
    if isinstance(which, slice):
        return list(range(count))[which]
    table = torch.as_tensor(list(which) if isinstance(which, Iterable) and not isinstance(which, Tensor) else which)
    return torch.arange(count)[table].reshape(-1).tolist() if table.numel() else []


def angle_text(angles: tuple[float, ...]) -> str:
    """Python that gives these ``angles`` back, ``uniform(180, 0.0, 3.14)`` where that says the same."""
    if len(angles) > 2:
        stop = angles[0] + (angles[1] - angles[0]) * len(angles)
        for end in (math.pi * round(stop / math.pi, 6), stop):
            if uniform(len(angles), angles[0], end) == angles:
                return f"uniform({len(angles)}, {angles[0]!r}, {end!r})"
    return repr(angles)
