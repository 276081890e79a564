"""The course of an iteration: who of a batch still moves, when and why each stopped, and what was seen on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from medical.classical.inputs import Inputs
from medical.classical.result import Classical, Trace, noise_ratio

__all__ = ["Course", "Progress"]

Progress = Callable[[int, int], None]


class Course:
    """Iterate over it, ``record`` each step, and ask for the ``result``; it ends when all members of the batch stand still.

    A member that has met a stopping rule stands still from then on, so that a batch gives what its members give alone.

    Parameters
    ----------
    method: the settings, with ``iterations`` and ``tolerance``.
    measure: what is held against the tolerance.
    discrepancy: stop where the residual is as small as so many times the noise (Morozov 1966), where the noise is known.
    progress: called with (done, total) after every iteration.
    """

    def __init__(
        self,
        method: Any,
        inputs: Inputs,
        *,
        measure: str = "change",
        discrepancy: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.method, self.inputs, self.progress, self.measure = method, inputs, progress, measure
        self.limit, self.tolerance = int(method.iterations), float(method.tolerance)
        std = inputs.A.noise.std(inputs.y)
        self.std = std if discrepancy is not None and bool((std > 0).all()) else None
        self.discrepancy = discrepancy or 0.0
        self.shape = (-1, *[1] * (inputs.x.ndim - 1))
        self.moving = torch.ones(len(inputs.x), dtype=torch.bool, device=inputs.x.device)
        self.fitted = torch.zeros_like(self.moving)
        self.began = time.perf_counter()
        self.rows: list[tuple[float | None, float | None, float, float]] = []

    @property
    def done(self) -> int:
        """Iterations recorded."""
        return len(self.rows)

    @property
    def active(self) -> Tensor:
        """Which members still move, in the shape that multiplies images."""
        return self.moving.view(self.shape)

    def __iter__(self) -> Iterator[int]:
        while self.done < self.limit and bool(self.moving.any()):
            yield self.done

    def keep(self, new: Tensor, old: Tensor) -> Tensor:
        """``new`` for the members that move, ``old`` for those that stand still."""
        return new if bool(self.moving.all()) else torch.where(self.moving.view(-1, *[1] * (new.ndim - 1)), new, old)

    def start_fits(self, r: Tensor) -> None:
        """Let members stand still from the beginning whose start explains the measurement as well as the noise allows."""
        self._fit(r)

    def record(self, change: Tensor, *, residual: Tensor | None = None, objective: Tensor | None = None) -> None:
        """One iteration: the relative ``change`` (B,), the residual ``y - A x`` (B, ...), the objective (B,).

        Raises ``ArithmeticError`` where they are no longer numbers.
        """
        largest = float(torch.where(self.moving, change, 0).max())
        if largest != largest or largest == float("inf"):
            raise ArithmeticError(
                f"{type(self.method).__name__} diverged at iteration {self.done + 1}: is the adjoint of {self.inputs.A!r} "
                f"exact (see its adjointness()) and does it fit in {self.inputs.x.dtype}?"
            )
        size = None if residual is None else float(torch.linalg.vector_norm(residual))
        total = None if objective is None else float(objective.sum())
        self.rows.append((total, size, largest, time.perf_counter() - self.began))
        if residual is not None:
            self._fit(residual)
        self.moving = self.moving & (change > self.tolerance)
        if self.progress is not None:
            self.progress(self.done, self.limit)

    def _fit(self, r: Tensor) -> None:
        if self.std is not None:
            self.fitted |= self.moving & (noise_ratio(r, self.inputs.y, self.std) <= self.discrepancy)
            self.moving = self.moving & ~self.fitted

    def result(self, estimate: Tensor, **chosen: object) -> Classical:
        """With the settings ``chosen`` by a rule in place of None."""
        objective, residual, change, seconds = zip(*self.rows, strict=True) if self.rows else ((), (), (), ())
        trace = Trace(_known(objective), _known(residual), change, seconds)
        method = {"method": type(self.method).__name__, **asdict(self.method), **chosen}
        return Classical(
            estimate=estimate, operator=self.inputs.A, measurement=self.inputs.y, iterations=self.done,
            converged=not bool(self.moving.any()), reason=self._reason(change), seconds=time.perf_counter() - self.began,
            trace=trace, settings=method,
        )  # fmt: skip

    def _reason(self, change: tuple[float, ...]) -> str:
        if not self.done:
            return "The start explains the measurement as well as its noise allows."
        if bool(self.moving.any()):
            many = "" if len(self.moving) == 1 else f" for {int(self.moving.sum())} of {len(self.moving)} images"
            return (
                f"Stopped at the limit of {self.limit} iterations with a relative {self.measure} of {change[-1]:.1e}{many}, "
                f"above the tolerance {self.tolerance:.1e}; raise iterations, or start from this estimate to go on."
            )
        if bool(self.fitted.all()):
            return f"The residual came down to {self.discrepancy:g} times the noise after {self.done} iterations."
        return f"The relative {self.measure} fell to the tolerance {self.tolerance:.1e} after {self.done} iterations."


def _known(values: tuple[float | None, ...]) -> tuple[float, ...]:
    return tuple(v for v in values if v is not None)
