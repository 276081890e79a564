"""Volumes turned to the axes that priors were trained on and that radiologists see, and back, without resampling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor

from medical.files.scan import Scan

__all__ = ["Undo", "canonical"]

LETTERS = ("RL", "AP", "SI")  # ends of the axes of RAS coordinates, the one they grow to first


@dataclass(frozen=True, eq=False, kw_only=True)
class Undo:
    """What takes results in canonical axes back to the array order and the patient space of the scan they came from.

    Parameters
    ----------
    order: ``order[n]`` is the axis of (z, y, x) of the source that is axis n of the canonical volume.
    flips: which axes of the canonical volume run backwards in the source.
    source, turned: affine and size of the source, and of the canonical volume.
    header: header of the source's file, for a result with the source's affine; or None.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    source: tuple[Tensor, torch.Size]
    turned: tuple[Tensor, torch.Size]
    header: bytes | None = None

    def __call__(self, scan: Scan) -> Scan:
        """``scan``, in canonical axes, in the axes of the source; its values and unit stay.

        With the affine and size that the canonical volume had, it gets the affine of the source bit for bit, and its
        header. Another scan in the same axes, such as a part of the slices, gets the affine that belongs to it.
        """
        data = self.volume(scan.data)
        if scan.data.shape == self.turned[1] and torch.equal(scan.affine, self.turned[0]):
            return replace(scan, data=data, affine=self.source[0], header=self.header)
        flips = tuple(self.flips[n] for n in self._back())
        affine = _affine(scan.affine, scan.data.shape, self._back(), flips)
        return replace(scan, data=data, affine=affine, header=None)

    def volume(self, values: Tensor) -> Tensor:
        """The volumes ``values`` (..., D, H, W) in the axes of the source; leading axes, such as samples, stay.

        Raises ``ValueError`` for fewer than three axes.
        """
        if values.ndim < 3:
            raise ValueError(f"values must be volumes (..., D, H, W), got shape {tuple(values.shape)}")
        flipped = values.flip([n - 3 for n in range(3) if self.flips[n]])
        lead = range(values.ndim - 3)
        return flipped.permute(*lead, *(len(lead) + n for n in self._back())).contiguous()

    def _back(self) -> tuple[int, int, int]:
        z, y, x = (self.order.index(n) for n in range(3))
        return z, y, x


def canonical(scan: Scan, axes: str = "LPS") -> tuple[Scan, Undo]:
    """``scan`` with axes flipped and exchanged so that x, y and z grow to the ends of the body in ``axes``, and the way back.

    ``"LPS"``, what radiologists see and priors were trained on: axial slices, whose columns go from the patient's right to
    the left and whose rows from the front to the back, counted from the feet to the head. Each axis of an oblique scan takes
    the direction that it is nearest to, all three together: the permutation with the largest sum of direction cosines.
    Values are moved, never resampled, and the affine says where they lie: data[z, y, x] is at the same place of the body.

    Parameters
    ----------
    axes: three letters for x, y and z: one of R and L, one of A and P, one of S and I, in any order.

    Raises ``ValueError`` for other axes.
    """
    ends = _ends(axes)
    cosines = (scan.affine[:3, :3] / scan.affine[:3, :3].norm(dim=0)).tolist()  # [direction of RAS][axis x, y, z]
    best = max(
        permutations(range(3)), key=lambda p: sum(abs(cosines[way][axis]) for (way, _), axis in zip(ends, p, strict=True))
    )
    backwards = [cosines[way][axis] * sign < 0 for (way, sign), axis in zip(ends, best, strict=True)]
    x, y, z = (2 - axis for axis in best)  # axes of the array (z, y, x)
    order, flips = (z, y, x), (backwards[2], backwards[1], backwards[0])
    data = scan.data.permute(order).flip([n for n in range(3) if flips[n]]).contiguous()
    affine = _affine(scan.affine, scan.data.shape, order, flips)
    turned = replace(scan, data=data, affine=affine, header=None)
    undo = Undo(
        order=order,
        flips=flips,
        source=(scan.affine, scan.data.shape),
        turned=(affine, data.shape),
        header=scan.header,
    )
    return turned, undo


def _ends(axes: str) -> list[tuple[int, int]]:
    """For each letter: direction of RAS, and 1 along it or -1 against it."""
    if len(axes) != 3 or any(sum(letter in ends for letter in axes) != 1 for ends in LETTERS):
        raise ValueError(f"axes must be one letter of each of R/L, A/P and S/I, such as 'LPS', got {axes!r}")
    return [next((way, 1 - 2 * ends.index(letter)) for way, ends in enumerate(LETTERS) if letter in ends) for letter in axes]


def _affine(affine: Tensor, shape: torch.Size, order: tuple[int, ...], flips: tuple[bool, ...]) -> Tensor:
    """Of the volume of ``shape`` once its axes (z, y, x) are put in ``order`` and then flipped."""
    result = affine.clone()
    for n, axis in enumerate(order):
        step = affine[:3, 2 - axis]
        result[:3, 2 - n] = -step if flips[n] else step
        if flips[n]:
            result[:3, 3] += (shape[axis] - 1) * step
    return result
