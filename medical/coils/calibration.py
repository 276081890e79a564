"""The calibration region: the fully sampled centre of k-space (auto-calibration signal, ACS) that coil maps are read from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["LARGEST_CALIBRATION", "calibration_region", "check_kspace", "sampled_centre"]

LARGEST_CALIBRATION = 32  # lines a side; maps are smooth, so that more lines add cost and little else


def check_kspace(kspace: Tensor) -> None:
    """Holds ``kspace`` to be complex, (C, H, W) or (C, D, H, W) with at least two coils, finite and not all zero."""
    if not kspace.is_complex():
        raise TypeError(f"kspace must be complex, got {kspace.dtype}; torch.view_as_complex reads pairs (re, im)")
    if kspace.ndim not in (3, 4):
        raise ValueError(
            f"kspace must have shape (C, H, W) or (C, D, H, W), coils first and no batch, got {tuple(kspace.shape)}. "
            "Pass one slice or one volume at a time."
        )
    if kspace.shape[0] < 2:
        raise ValueError(
            f"kspace must have at least two coils in its first axis, got shape {tuple(kspace.shape)}. "
            "If that axis is a batch, pass kspace[0]; a single coil needs no map."
        )
    if not bool(torch.isfinite(torch.view_as_real(kspace)).all()):
        raise ValueError("kspace must be finite, got NaN or infinity; set samples that were not measured to zero")
    if not bool(kspace.any()):
        raise ValueError("kspace must have samples that are not zero, got zeros alone")


def sampled_centre(kspace: Tensor, *, largest: int = LARGEST_CALIBRATION) -> tuple[int, ...]:
    """Widths (h, w) or (d, h, w) of the fully sampled box at the centre of k-space, at most ``largest`` a side.

    A position counts as sampled where any coil is not zero. The box is the largest cube, then widened axis by axis.
    All widths are 0 where the centre itself, index N // 2 of each axis, is not sampled.
    """
    check_kspace(kspace)
    sampled = (kspace != 0).any(0)
    limits = [min(largest, n) for n in sampled.shape]
    widths = [0] * len(limits)
    for w in range(max(limits), 0, -1):
        cube = [min(w, limit) for limit in limits]
        if bool(_centre(sampled, cube).all()):
            widths = cube
            break
    for axis, limit in enumerate(limits):
        for w in range(limit, widths[axis], -1):
            wider = [*widths[:axis], w, *widths[axis + 1 :]]
            if min(wider) > 0 and bool(_centre(sampled, wider).all()):
                widths = wider
                break
    return tuple(widths)


def calibration_region(kspace: Tensor, width: int | None = None) -> Tensor:
    """The central part of ``kspace``, ``width`` lines along each axis: indices N // 2 - width // 2 and on.

    An axis shorter than ``width`` is taken whole. ``None`` takes the fully sampled centre, at most
    ``LARGEST_CALIBRATION`` lines a side. ``ValueError`` where the region is not fully sampled.
    """
    check_kspace(kspace)
    if width is None:
        widths: Sequence[int] = sampled_centre(kspace)
        if min(widths) == 0:
            raise ValueError(
                "kspace must be sampled at its centre, index N // 2 of each axis, for coil maps, and is not; "
                "measure central lines (an ACS), or shift k-space there"
            )
        return _centre(kspace, widths)
    if width < 1:
        raise ValueError(f"the width of the calibration region must be at least 1, got {width}")
    region = _centre(kspace, [min(width, n) for n in kspace.shape[1:]])
    if not bool((region != 0).any(0).all()):
        raise ValueError(
            f"the calibration region of {width} lines a side must be fully sampled, and only the central "
            f"{sampled_centre(kspace)} are. Ask for fewer lines, or pass None to find them."
        )
    return region


def _centre(x: Tensor, widths: Sequence[int]) -> Tensor:
    """The central box of the last axes of ``x``, a view."""
    for axis, width in zip(range(x.ndim - len(widths), x.ndim), widths, strict=True):
        x = x.narrow(axis, x.shape[axis] // 2 - width // 2, width)
    return x
