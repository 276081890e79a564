r"""Where in k-space a scanner samples off the grid: radial spokes, spirals and three-dimensional golden means.

A trajectory is a float64 tensor (K, 2) or (K, 3) of angular frequencies in rad/pixel within [-pi, pi), component 0 along
the rows of the image (in 3D: along the slices). Its points come interleave by interleave, sample by sample.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

__all__ = ["GOLDEN_ANGLE", "GOLDEN_MEANS", "check_trajectory", "kooshball", "radial", "spiral"]

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2  # 111.246 degrees

GOLDEN_MEANS = (0.46557123187676802, 0.68232780382801933)  # b - 1 and 1 / b, where b^3 = b^2 + 1

_RANGE = math.pi * (1 + 1e-6)  # float32 rounds pi upwards


def check_trajectory(trajectory: Any, axes: int | None = None) -> Tensor:
    """The trajectory in float64 on the CPU; ``ValueError`` unless it is (K, 2) or (K, 3), finite and in [-pi, pi] rad/pixel.

    ``trajectory`` is a tensor or an array; ``axes``, where given, is the number of columns that it must have.
    """
    k = torch.as_tensor(trajectory).detach()
    allowed = (2, 3) if axes is None else (axes,)
    if k.ndim != 2 or k.shape[1] not in allowed or len(k) == 0:
        wanted = " or ".join(f"(K, {n})" for n in allowed)
        raise ValueError(
            f"trajectory must have shape {wanted} with K >= 1, got {tuple(k.shape)}; "
            f"flatten interleaves and samples with trajectory.reshape(-1, {allowed[0]})"
        )
    if not k.is_floating_point():
        raise ValueError(f"trajectory must be floating point, in rad/pixel, got {k.dtype}; convert it with .double()")
    k = k.to("cpu", torch.float64)
    if not bool(torch.isfinite(k).all()):
        raise ValueError(f"trajectory must be finite, got {int((~torch.isfinite(k)).sum())} values that are not; remove them")
    largest = float(k.abs().max())
    if largest > _RANGE:
        raise ValueError(
            f"trajectory must lie in [-pi, pi) rad/pixel, got values up to {largest:.6g}; multiply cycles/pixel by 2 pi, "
            f"and grid units (-N/2 to N/2) by 2 pi / N"
        )
    return k.contiguous()


def radial(spokes: int, samples: int, *, golden: bool = False) -> Tensor:
    """Spokes through the centre of k-space: (spokes * samples, 2).

    Sample j of a spoke lies at the radius ``2 pi (j - samples // 2) / samples``, so that one of them hits the centre;
    spoke i points along the angle ``theta_i`` from the column axis, ``k = rho (sin theta, cos theta)``, with
    ``theta_i = i pi / spokes``, or ``i`` times 111.246 degrees where ``golden`` (Winkelmann et al. 2007).
    """
    _check_count(spokes=spokes, samples=samples)
    theta = torch.arange(spokes, dtype=torch.float64) * (GOLDEN_ANGLE if golden else math.pi / spokes)
    direction = torch.stack([theta.sin(), theta.cos()], 1)
    return _along(direction, samples)


def kooshball(spokes: int, samples: int) -> Tensor:
    """Three-dimensional spokes through the centre, in the order of the golden means: (spokes * samples, 3).

    Spoke i points to the height ``{i phi_1}`` of the unit sphere and the azimuth ``2 pi {i phi_2}``, where {} is the
    fractional part, ``phi_1 = 0.4656`` and ``phi_2 = 0.6823`` (Chan et al. 2009): every run of spokes covers the sphere
    about evenly. Radii as in ``radial``.
    """
    _check_count(spokes=spokes, samples=samples)
    i = torch.arange(spokes, dtype=torch.float64)
    height, azimuth = (i * GOLDEN_MEANS[0]).frac(), 2 * math.pi * (i * GOLDEN_MEANS[1]).frac()
    across = (1 - height**2).sqrt()
    return _along(torch.stack([height, across * azimuth.sin(), across * azimuth.cos()], 1), samples)


def spiral(interleaves: int, samples: int, *, turns: float, density: float = 1.0, radius: float = math.pi) -> Tensor:
    """Spirals from the centre outwards: (interleaves * samples, 2).

    Sample j of interleaf i lies, with ``t = j / samples``, at ``rho = radius t^density`` and at the angle
    ``2 pi (turns t + i / interleaves)``.

    Parameters
    ----------
    interleaves: number of spirals, each turned against the one before.
    samples: points of each.
    turns: revolutions of each; ``interleaves * turns`` of at least N/2 sample N pixels without gaps between the arms.
    density: 1 gives the Archimedean spiral, whose arms are equally far apart; above 1 they lie closer at the centre.
    radius: the largest radius, rad/pixel, at most pi.
    """
    _check_count(interleaves=interleaves, samples=samples)
    for name, value in (("turns", turns), ("density", density), ("radius", radius)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if radius > math.pi:
        raise ValueError(f"radius must be at most pi rad/pixel, got {radius}; give it in radians a pixel")
    t = torch.arange(samples, dtype=torch.float64) / samples
    turned = torch.arange(interleaves, dtype=torch.float64)[:, None] / interleaves
    angle = 2 * math.pi * (turns * t + turned)
    return (radius * t**density * torch.stack([angle.sin(), angle.cos()])).permute(1, 2, 0).reshape(-1, 2)


def _along(direction: Tensor, samples: int) -> Tensor:
    rho = 2 * math.pi * (torch.arange(samples, dtype=torch.float64) - samples // 2) / samples
    return (direction[:, None, :] * rho[None, :, None]).reshape(-1, direction.shape[1])


def _check_count(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            raise ValueError(f"{name} must be a positive integer, got {count!r}")
