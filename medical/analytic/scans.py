"""Which part of a turn a scan covers, and what each ray counts for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medical.analytic.weights import angular_weights, gaps, half_fan, is_open, parker, short_arc
from medical.geometry.beam import Beam
from medical.geometry.cone import ConeBeam
from medical.geometry.fan import FanBeam
from medical.geometry.volume import Volume

__all__ = ["SCANS", "ray_weights", "settle"]

SCANS = ("auto", "full", "short", "limited")
TURN = 2 * math.pi


def settle(beam: Beam, scan: str, volume: Volume) -> str:
    """``scan`` where it says which, else "full", "short" or "limited" by the angles of ``beam``.

    Full is a turn, short the least that determines the picture: half a turn, and for a fan its angle more, as far as it
    passes through ``volume``.

    Raises ``ValueError`` for another name, and for a fan that covers less than a short scan and is not said to be limited.
    """
    if scan not in SCANS:
        raise ValueError(f"scan must be one of {', '.join(SCANS)}, got {scan!r}")
    if scan != "auto":
        return scan
    if not beam.divergent:
        low, high = beam.detector.reach
        if abs(high - low) > 1e-9 * (high + low) and not is_open(beam.angles, TURN):
            return "full"
        return "limited" if is_open(beam.angles, math.pi) else "short"
    if not is_open(beam.angles, TURN):
        return "full"
    return _short(beam, volume)


def _short(beam: Beam, volume: Volume) -> str:
    span, step = short_arc(beam.angles)[1], float(gaps(beam.angles, TURN)[1].sort().values[-2])
    needed = math.pi
    if isinstance(beam, (FanBeam, ConeBeam)):
        through = math.asin(min(1.0, volume.outer_radius / beam.source_distance))
        needed += 2 * min(max(beam.fan_angles), through)
    if span >= max(math.pi * (1 + 1e-9), needed - step):
        return "short"
    raise ValueError(
        f"angles cover {math.degrees(span):.1f} degrees; a short scan needs half a turn and the fan angle, "
        f"{math.degrees(needed):.1f}. Measure more views, choose scan='short' where the object is narrower than that, "
        f"or scan='limited' to reconstruct what there is"
    )


def ray_weights(beam: Beam, scan: str, u: Tensor) -> Tensor:
    """What each ray counts, in radians, (views, columns): the angle of its view times its share of those measured twice.

    ``u`` holds the columns' coordinates at the axis of rotation, angles where the detector is curved.
    """
    gamma = _fan_angle(beam, u)
    if scan == "limited":
        period = TURN if beam.divergent else math.pi
        return angular_weights(beam.angles, period, limited=True)[:, None].expand(-1, len(u))
    if scan == "full":
        share = half_fan(beam.detector.u, beam.detector.reach)
        return angular_weights(beam.angles, TURN)[:, None] * share / 2
    if not beam.divergent:
        return angular_weights(beam.angles, math.pi)[:, None].expand(-1, len(u))
    beta, span = short_arc(beam.angles)
    if span <= math.pi:
        raise ValueError(f"scan='short' needs more than half a turn, got {math.degrees(span):.1f} degrees; take scan='limited'")
    return angular_weights(beam.angles, TURN, limited=True)[:, None] * parker(beta, gamma, span)


def _fan_angle(beam: Beam, u: Tensor) -> Tensor:
    if not isinstance(beam, (FanBeam, ConeBeam)) or beam.detector.curved:
        return u
    return torch.atan(u / beam.source_distance)
