"""Where the axis of rotation is, found from the data of a parallel beam."""

from __future__ import annotations

import torch
from torch import Tensor

from medical.geometry import ParallelBeam

__all__ = ["axis_offset"]


def axis_offset(y: Tensor, beam: ParallelBeam) -> float:
    """The detector's offset for which the data rotate about x = y = 0, in the unit of the detector's spacing.

    The centre of mass of a parallel projection moves as ``x0 cos theta + y0 sin theta`` about the axis (Helgason-Ludwig);
    the constant of its least-squares fit over the views is where the axis is seen, and minus that is the offset to add.

    Parameters
    ----------
    y: line integrals (B, 1, views, columns) or (B, 1, views, rows, columns), of objects that are seen whole in all views.
    beam: the parallel beam that they were taken to come from; its own offset counts.

    Returns the offset for ``Detector(offset=...)``. Raises ``TypeError`` for other beams, ``ValueError`` for fewer than three
    views, shapes that are not the beam's, and data that sum to nothing.
    """
    if not isinstance(beam, ParallelBeam):
        raise TypeError(f"beam must be a ParallelBeam, got {type(beam).__name__}; a fan's axis takes a calibration scan")
    if tuple(y.shape[2:]) != beam.shape:
        raise ValueError(f"y must have shape (B, 1, {', '.join(map(str, beam.shape))}), got {tuple(y.shape)}")
    if len(beam) < 3:
        raise ValueError(f"beam must have at least three views, got {len(beam)}")
    profile = y.double().movedim(2, 0).flatten(1, -2).sum(1)  # (views, columns)
    mass = profile.sum(1)
    if not bool((mass.abs() > 1e-12 * profile.abs().sum(1)).all()) or not bool(mass.isfinite().all()):
        raise ValueError("y must hold finite projections of an object, got views that sum to nothing")
    middle = (profile * beam.detector.u.to(y.device)).sum(1) / mass
    theta = torch.tensor(beam.angles, dtype=torch.float64, device=y.device)
    design = torch.stack([theta.cos(), theta.sin(), torch.ones_like(theta)], 1)
    seen_at = torch.linalg.lstsq(design, middle[:, None]).solution[2]
    return float(beam.detector.offset[-1] - seen_at)  # type: ignore[index]
