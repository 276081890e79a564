"""Mean scaling: every window is divided by the mean absolute value of its observed context."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from timeseries.windows import filled

__all__ = ["MeanScale", "typical_scale"]


class MeanScale(nn.Module):
    r"""``scale = sum(|y| o) / max(sum o, 1)`` over the context, o its mask, and never below ``minimum_scale``.

    Where nothing is observed, or all that is observed is 0, the scale says nothing; the default of the data set stands in.
    The released code takes ``sum / sum`` over the whole batch there, so that a series' forecast depends on its neighbours;
    ``batch_rule`` does the same.

    Both numbers are kept in the state dict, under the released names. Released files have the default 0, which means none:
    reading one, or a file without the two entries, leaves the default of this module.

    Parameters
    ----------
    default_scale: scale of windows without one of their own, in the unit of the series, by default 1; :func:`typical_scale`
        gives that of a data set.
    minimum_scale: least scale, which only a series of very small numbers meets.
    batch_rule: whether the batch's scale is taken instead of the default.
    """

    default_scale: Tensor
    minimum_scale: Tensor

    def __init__(self, default_scale: float = 1.0, *, minimum_scale: float = 1e-10, batch_rule: bool = False) -> None:
        super().__init__()
        for name, value in (("default_scale", default_scale), ("minimum_scale", minimum_scale)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        self.register_buffer("default_scale", torch.tensor(default_scale))
        self.register_buffer("minimum_scale", torch.tensor(minimum_scale))
        self.batch_rule = batch_rule

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """(B, 1), of ``values`` and ``observed``, both (B, N); missing values must be finite."""
        total = (values.abs() * observed).sum(1, keepdim=True)
        count = observed.sum(1, keepdim=True)
        fallback = total.sum() / count.sum().clamp(min=1) if self.batch_rule else self.default_scale.to(total)
        scale = torch.where(total > 0, total / count.clamp(min=1), fallback)
        return torch.maximum(scale, self.minimum_scale.to(scale))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("default_scale", "minimum_scale"):
            value = state_dict.get(prefix + name)
            if value is None or not float(value) > 0:
                state_dict[prefix + name] = getattr(self, name).detach().clone()
        super()._load_from_state_dict(state_dict, prefix, *args)


def typical_scale(series: Iterable[Tensor]) -> float:
    """The mean absolute value of all observed values of a data set, NaN being missing; 1 where there is none but 0."""
    total, count = 0.0, 0.0
    for values in series:
        known, observed = filled(values.double())
        total += float(known.abs().sum())
        count += float(observed.sum())
    return total / count if total > 0 else 1.0
