"""One measured call, and the peers that it is measured against."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import torch

from benchmarks.timing import side_by_side

__all__ = ["OURS", "PEERS", "Measured", "installed", "relative", "take_turns"]

OURS = "posterior"
PEERS = ("deepinv", "sigpy", "torchkbnufft")


@dataclass(frozen=True)
class Measured:
    """Seconds of one call of one library; what ``error`` is says the table that it belongs to."""

    task: str
    method: str
    library: str
    seconds: float
    error: float | None = None
    missed: str = ""
    """The aim that was not reached, in words; empty where there is none or it was."""


def installed() -> dict[str, str]:
    """The versions of the peers that are here."""
    return {name: version(name) for name in PEERS if importlib.util.find_spec(name) is not None}


def take_turns(calls: Mapping[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """Median seconds of each call, the calls alternating, without gradients."""
    with torch.no_grad():
        return dict(zip(calls, side_by_side(list(calls.values()), budget=budget), strict=True))


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """``|a - b| / |b|``, in float64."""
    a, b = a.to(torch.complex128), b.to(torch.complex128)
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))
