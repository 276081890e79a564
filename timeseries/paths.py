"""Many sample paths of each series: their quantile levels, pieces that fit into memory, and gradients towards them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from timeseries.windows import Window

__all__ = ["PathWindow", "finite", "input_gradients", "quantile_levels"]


def quantile_levels(paths: int) -> Tensor:
    """``q_i = (i + 1) / (S + 1)`` for i = 0..S-1, float64: path i of every series stands for level q_i."""
    if paths < 1:
        raise ValueError(f"paths must be at least 1, got {paths}")
    return torch.arange(1, paths + 1, dtype=torch.float64) / (paths + 1)


@dataclass(frozen=True, eq=False)
class PathWindow:
    """Windows of P paths, an entry a path, and the quantile level of each.

    Attributes
    ----------
    window: of P entries; for S paths of each of B series, path i of series b is entry ``b S + i``.
    levels: (P, 1, 1), in the dtype and on the device of the window.
    first: index of the first entry among all paths, of which this may be a piece.
    """

    window: Window
    levels: Tensor
    first: int = 0

    @classmethod
    def of(cls, window: Window, paths: int) -> PathWindow:
        """All ``paths`` of each series of ``window``."""
        return next(cls.pieces(window, paths, len(window) * paths))

    @classmethod
    def pieces(cls, window: Window, paths: int, batch: int) -> Iterator[PathWindow]:
        """The same, at most ``batch`` paths at a time, in their order; a series may be cut in two."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if not len(window):
            raise ValueError("window must hold at least one series, got none")
        levels = quantile_levels(paths).to(window.x).view(-1, 1, 1)
        for first in range(0, len(window) * paths, batch):
            entries = torch.arange(first, min(first + batch, len(window) * paths), device=window.x.device)
            yield cls(_entries(window, entries // paths), levels[entries % paths], first)

    def __len__(self) -> int:
        return len(self.window)


def _entries(window: Window, index: Tensor) -> Window:
    features = None if window.features is None else window.features[index]
    return replace(window, x=window.x[index], observed=window.observed[index], scale=window.scale[index], features=features)


def finite(paths: Tensor, what: str, remedy: str) -> Tensor:
    """``paths`` (B, S, ...); ``ValueError`` where some are not finite: ``what`` happened for which series, and the remedy."""
    broken = (~paths.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"{what} for series {broken}; {remedy}")
    return paths


@contextmanager
def input_gradients(model: nn.Module) -> Iterator[None]:
    """Within, gradients flow through ``model`` to its inputs and to none of its parameters.

    Gradients are on although the caller turned them off, also under ``torch.inference_mode``, which is suspended: tensors
    made in it cannot take part in a gradient and have to be cloned within. A model whose parameters were made in inference
    mode must be built outside. The parameters' ``requires_grad`` is off meanwhile, so that nothing may train the model at
    the same time in another thread.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.inference_mode(False), torch.enable_grad():
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)
