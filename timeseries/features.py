"""Features of a window: what conditions the network besides the series, one vector a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Covariates", "FeatureAssembly"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Covariates:
    """What is known of a batch of windows besides the series themselves.

    Attributes
    ----------
    steps: (B, L, n), of every step from the first of the context to the last of the future: time features, then age, then
        covariates whose future is known.
    static_real: (B, r), numbers of the whole series; None stands for zeros.
    static_category: (B, c), whole numbers of the whole series; None stands for category 0 of each.
    """

    steps: Tensor
    static_real: Tensor | None = None
    static_category: Tensor | None = None


class FeatureAssembly(nn.Module):
    """A step's features, in this order: log scale, embedded categories, static numbers, then those of the step.

    Parameters
    ----------
    cardinalities: number of values of each static category, by default one category of one value.
    widths: of the embedding of each, by default 1.
    static_reals: number of static numbers.
    """

    def __init__(self, cardinalities: Sequence[int] = (1,), widths: Sequence[int] = (1,), *, static_reals: int = 1) -> None:
        super().__init__()
        if len(cardinalities) != len(widths) or min((*cardinalities, *widths), default=1) < 1:
            raise ValueError(
                f"cardinalities and widths must be positive, one width a category, got {cardinalities} and {widths}"
            )
        if static_reals < 0:
            raise ValueError(f"static_reals must be at least 0, got {static_reals}")
        self.widths = tuple(widths)
        self._embedders = nn.ModuleList(nn.Embedding(n, width) for n, width in zip(cardinalities, widths, strict=True))
        self.static_reals = static_reals

    def size(self, steps: int) -> int:
        """F, the number of features where each step has ``steps`` of its own."""
        return 1 + sum(self.widths) + self.static_reals + steps

    def forward(self, scale: Tensor, covariates: Covariates, length: int) -> Tensor:
        """(B, length, F), of ``scale`` (B, 1). Raises ``ValueError`` for covariates of another batch, length or number."""
        batch, steps = len(scale), covariates.steps
        if steps.ndim != 3 or steps.shape[:2] != (batch, length):
            raise ValueError(
                f"covariates.steps must have shape ({batch}, {length}, n), context and future, got {tuple(steps.shape)}"
            )
        real, category = covariates.static_real, covariates.static_category
        real = scale.new_zeros(batch, self.static_reals) if real is None else real
        if category is None:
            category = torch.zeros(batch, len(self._embedders), dtype=torch.long, device=scale.device)
        for name, part, width in (("real", real, self.static_reals), ("category", category, len(self._embedders))):
            if part.shape != (batch, width):
                raise ValueError(f"covariates.static_{name} must have shape ({batch}, {width}), got {tuple(part.shape)}")
        embedded = [embedder(category[:, i]) for i, embedder in enumerate(self._embedders)]
        whole = torch.cat([scale.log(), *embedded, real.to(scale)], 1)
        return torch.cat([whole[:, None].expand(-1, length, -1), steps.to(scale)], -1)
