"""What takes one step: filtered back-projection for CT, the zero-filled or gridded image for MRI."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.classical.course import Progress
from medical.classical.inputs import checked_measurement
from medical.classical.result import Classical

__all__ = ["FBP", "ZeroFilled"]


@dataclass(frozen=True, kw_only=True)
class FBP:
    """Filtered back-projection, for cones that of Feldkamp: ``A.fbp(y)`` of a ``Projector``.

    Parameters
    ----------
    window: on the ramp, "ram-lak", "shepp-logan", "cosine", "hamming" or "hann", from sharp to smooth.
    cutoff: where it ends, as a fraction of the Nyquist frequency.
    scan: "full", "short", "limited" or "auto"; see :func:`medical.analytic.fbp`.
    """

    window: str = "ram-lak"
    cutoff: float = 1.0
    scan: str = "auto"

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, 1, views, ...)."""
        fbp = cast(Callable[..., Tensor] | None, getattr(A, "fbp", None))
        if fbp is None:
            raise TypeError(f"filtered back-projection needs an operator with fbp(y), such as a Projector, got {A!r}")
        began = time.perf_counter()
        y = _without_start(A, y, start)
        estimate = fbp(y, window=self.window, cutoff=self.cutoff, scan=self.scan)
        return _finished(self, A, y, estimate, began, progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class ZeroFilled:
    """``A^H (weights y)``: the image of k-space with zeros where nothing was measured; off the grid, the gridded image.

    Parameters
    ----------
    weights: the density compensation of a trajectory, (K,), as :mod:`medical.sampling.density` gives; None for masks.
    """

    weights: Tensor | None = None

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, C, H, W) or (B, C, K)."""
        began = time.perf_counter()
        y, w = _without_start(A, y, start), self.weights
        if w is None:
            return _finished(self, A, y, A.adjoint(y), began, progress)
        if w.ndim > y.ndim or any(n not in (1, m) for n, m in zip(w.shape[::-1], y.shape[::-1], strict=False)):
            raise ValueError(f"weights must spread over the measurement {tuple(y.shape)}, got shape {tuple(w.shape)}")
        return _finished(self, A, y, A.adjoint(w.to(y.device, y.real.dtype) * y), began, progress)


def _without_start(A: LinearOperator, y: Tensor, start: Tensor | None) -> Tensor:
    if start is not None:
        raise ValueError("start has no meaning for a formula; leave it out, or pass the estimate to an iterative method")
    return checked_measurement(A, y)


def _finished(
    method: FBP | ZeroFilled, A: LinearOperator, y: Tensor, estimate: Tensor, began: float, progress: Progress | None
) -> Classical:
    if progress is not None:
        progress(1, 1)
    return Classical(
        estimate=estimate, operator=A, measurement=y, iterations=1, converged=True,
        reason="A formula in one step.", seconds=time.perf_counter() - began,
        settings={"method": type(method).__name__, **asdict(method)},
    )  # fmt: skip
