"""Golden-section search: the best setting where each trial is a whole reconstruction."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["golden_section"]

GOLDEN = (math.sqrt(5) - 1) / 2


def golden_section(quality: Callable[[float], float], left: float, right: float, *, evaluations: int) -> float:
    """The point of [left, right] at which ``quality`` is largest, of the ``evaluations`` tried, at least 2 (Kiefer 1953).

    Every trial after the second shortens the interval by 0.618. The best point is found where there is one peak alone; with
    several it is one of them. A quality that is not a number counts as bad.
    """

    def trial(x: float) -> float:
        value = quality(x)
        return -math.inf if math.isnan(value) else value

    a, b = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    at_a, at_b = trial(a), trial(b)
    for _ in range(evaluations - 2):
        if at_a > at_b:
            right, b, at_b = b, a, at_a
            a = right - GOLDEN * (right - left)
            at_a = trial(a)
        else:
            left, a, at_a = a, b, at_b
            b = left + GOLDEN * (right - left)
            at_b = trial(b)
    return a if at_a > at_b else b
