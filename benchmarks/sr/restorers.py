"""The restorers of the benchmark: those that ship, or files given by hand, of a training that has not ended too."""

from __future__ import annotations

from pathlib import Path

from restore import ResShift
from restore.resshift import released, shipped

__all__ = ["restorers"]


def restorers(name: str | None, weights: Path | None, autoencoder: Path | None = None) -> dict[str, ResShift]:
    """The restorer ``name`` as :meth:`restore.ResShift.load` knows it, or without one all that ship for x4."""
    if name is not None:
        return {name: ResShift.load(name, weights, autoencoder=autoencoder)}
    if weights is not None:
        raise ValueError(f"--model must say what network {weights} holds: {', '.join([*shipped(), *released()])}")
    every = {known: ResShift.load(known) for known in shipped()}
    return {known: found for known, found in every.items() if found.model.factor == 4}
