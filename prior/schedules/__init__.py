r"""Noise schedules: how ``x_t = alpha(t) x_0 + sigma(t) eps`` is noised.

A schedule is a value: frozen, compared by its fields, and its ``repr`` rebuilds it. It answers in float64 and on the
device of ``t``; callers cast once, where the image meets the coefficient. Two derived quantities make schedules
interchangeable:

* the *noise level* ``sigma(t) / alpha(t)``, the sigma of Karras et al. 2022: any two schedules describe the same noisy
  image, up to a scale, where their noise levels agree;
* the *time* of a noise level, its inverse.

``schedule.clean`` is the time at which ``sigma`` is zero; every time grid ends there.
"""

from prior.schedules.base import Schedule
from prior.schedules.continuous import EDM, VE, VP, RectifiedFlow, SubVP
from prior.schedules.discrete import Cosine, DiscreteVP, Linear, Respaced, ScaledLinear, Tabulated
from prior.schedules.mean_reverting import MeanReverting
from prior.schedules.shifted import RespacedShifted, Shifted, ShiftedChain

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "DiscreteVP",
    "Linear",
    "MeanReverting",
    "RectifiedFlow",
    "Respaced",
    "RespacedShifted",
    "ScaledLinear",
    "Schedule",
    "Shifted",
    "ShiftedChain",
    "SubVP",
    "Tabulated",
]
