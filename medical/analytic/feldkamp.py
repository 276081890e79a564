"""Reconstruction from cone beams after Feldkamp, Davis and Kress: circles, short scans and helices."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from medical.analytic.filters import check_window
from medical.analytic.pixels import Pixels, at_axis
from medical.analytic.reconstruction import Filter, check_measurement, reconstruct
from medical.analytic.scans import ray_weights, settle
from medical.analytic.weights import half_fan, helix_window
from medical.geometry.cone import ConeBeam
from medical.geometry.volume import Volume

__all__ = ["fdk"]

OVERLAP = (0.2, 1.0)
"""Least and most of a turn of a helix over which a slice passes on to the next one."""


def fdk(
    y: Tensor, volume: Volume, beam: ConeBeam, *, window: str = "ram-lak", cutoff: float = 1.0, scan: str = "auto"
) -> Tensor:
    """The volume whose line integrals are ``y``, in attenuation per unit of length; linear in y and differentiable.

    Each row is filtered as a fan of its own, weighted by the cosine of the ray's angle to the central one, and
    backprojected along the cone (Feldkamp et al. 1984). Exact in the plane of a circle, approximate away from it.
    The filter runs along rows, flat or curved; in u and v the filtered data are interpolated linearly.

    A helix: each slice takes one turn of views about its height, ``g((z - z_b) / pitch)`` with the sum of g over the turns
    one (:func:`medical.analytic.weights.helix_window`), overlapping as far as the rows reach at the axis. Rows beyond the
    detector take the outermost one's values; above a normalised pitch of one they often do, and artefacts grow. Slices
    less than half a turn and half the overlap from the ends fade.

    Parameters
    ----------
    y: (B, 1, views, rows, columns), float32 or float64, in attenuation times length.
    volume: where to reconstruct; a picture is the plane z = 0. The result has shape (B, 1, *volume.shape).
    beam: a circle (``pitch=0``) or a helix, flat or curved.
    window, cutoff, scan: as in :func:`fbp`; a helix is a full scan of at least one turn.

    Raises ``ValueError`` for shapes that do not fit, values that are not finite, and too few angles.
    """
    if not isinstance(beam, ConeBeam):
        raise TypeError(f"beam must be a ConeBeam, got {type(beam).__name__}; fbp takes parallel beams and fans")
    check_measurement(y, beam)
    check_window(window, cutoff)
    pixels = Pixels.of(volume, beam)
    if beam.pitch == 0:
        weights = ray_weights(beam, settle(beam, scan, volume), at_axis(beam)[0])
    else:
        weights = _helix_weights(beam, scan)
        overlap = min(max(1 / abs(beam.normalised_pitch) - 1, OVERLAP[0]), OVERLAP[1])
        slices = helix_window(pixels.grid[0], beam.heights(), beam.pitch, overlap=overlap)
        pixels = replace(pixels, window=slices, margin=math.inf)
    return reconstruct(y, volume, beam, weights=weights, pixels=pixels, ramp_filter=Filter(window, cutoff))


def _helix_weights(beam: ConeBeam, scan: str) -> Tensor:
    """The angle that each view stands for along the helix, and half of it for each of the two rays of a full turn."""
    if scan not in ("auto", "full"):
        raise ValueError(f"scan must be 'auto' or 'full' for a helix, got {scan!r}")
    theta, order = torch.sort(torch.tensor(beam.angles, dtype=torch.float64))
    gap = theta.diff()
    turn = float(theta[-1] - theta[0]) + (float(gap.mean()) if len(gap) else 0.0)
    if turn < 2 * math.pi * (1 - 1e-6):
        raise ValueError(
            f"angles of a helix must cover at least one turn, got {turn / (2 * math.pi):.3f}; reconstruct by SIRT or CGLS"
        )
    before, after = torch.cat([gap[:1], gap]), torch.cat([gap, gap[-1:]])
    widths = torch.empty_like(theta)
    widths[order] = (before + after) / 2
    return widths[:, None] * half_fan(beam.detector.u, beam.detector.reach) / 2
