"""Missing-value scenarios: what is hidden of a context to study forecasts from gaps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from timeseries.windows import filled

__all__ = ["SCENARIOS", "MissingScenario"]

SCENARIOS = ("RM", "BM-B", "BM-E")
"""Missing at random, a blackout at the beginning of the context, and one at its end."""


@dataclass(frozen=True, kw_only=True)
class MissingScenario:
    """Hides ``count`` values of the last ``context_length`` of a past (Kollovieh et al. 2023).

    Attributes
    ----------
    kind: ``"RM"``, positions drawn without replacement, of each series its own; ``"BM-B"``, the first of the context;
        ``"BM-E"``, the last. Case does not matter.
    count: number of hidden values, in 0..context_length; the study hides half of the context.
    context_length: steps at the end of the past that count as its context.
    """

    kind: str
    count: int
    context_length: int

    def __post_init__(self) -> None:
        if self.kind.upper() not in SCENARIOS:
            raise ValueError(f"kind must be one of {', '.join(SCENARIOS)}, got {self.kind!r}")
        object.__setattr__(self, "kind", self.kind.upper())
        if self.context_length < 1:
            raise ValueError(f"context_length must be at least 1, got {self.context_length}")
        if not 0 <= self.count <= self.context_length:
            raise ValueError(f"count must lie in 0..{self.context_length}, the length of the context, got {self.count}")

    def hidden(self, batch: int, *, seed: int = 0) -> Tensor:
        """True where the context of each of ``batch`` series is hidden, (batch, context_length), on the CPU.

        Series i has the random stream ``seed + i``, whatever the batch around it; blackouts read no seed.
        """
        mask = torch.zeros(batch, self.context_length, dtype=torch.bool)
        if self.kind == "BM-B":
            mask[:, : self.count] = True
        elif self.kind == "BM-E":
            mask[:, self.context_length - self.count :] = True
        else:
            for i in range(batch):
                order = torch.randperm(self.context_length, generator=torch.Generator().manual_seed(seed + i))
                mask[i, order[: self.count]] = True
        return mask

    def __call__(self, past: Tensor, observed: Tensor | None = None, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """``past`` (B, N) with 0 for what is missing or hidden, and the mask of what is left, both (B, N).

        NaN, and where ``observed`` is 0, is missing before anything is hidden; a value may be both. Raises ``ValueError``
        where the past is shorter than the context.
        """
        if past.ndim != 2 or past.shape[1] < self.context_length:
            raise ValueError(f"past must have shape (B, N), N at least {self.context_length}, got {tuple(past.shape)}")
        past, observed = filled(past, observed, name="past")
        hidden = self.hidden(len(past), seed=seed).to(past.device)
        shown = torch.cat([hidden.new_ones(len(past), past.shape[1] - self.context_length), ~hidden], 1)
        return filled(past, observed * shown, name="past")
