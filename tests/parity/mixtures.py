"""What the cases of ``samplers`` share: their settings and the Gaussian mixture that they were made with."""

from __future__ import annotations

from typing import Any

from prior.mixture import GaussianMixture
from tests.parity.cases import parity_cases

__all__ = ["mixture", "settings"]


def settings() -> dict[str, Any]:
    """The JSON of the case of kind ``settings``: ``config``, step sequences, measured errors and slopes."""
    (case,) = (case for case in parity_cases("samplers") if case.kind == "settings")  # a kind that needs no test of its own
    return case.meta


def mixture() -> GaussianMixture:
    """The mixture of the case of kind ``prior``, over tensors of ``config.shape``."""
    (case,) = parity_cases("samplers", "prior")
    shape = (-1, *settings()["config"]["shape"])
    return GaussianMixture(case["w"], case["m"].view(shape), case["v"].view(shape))
