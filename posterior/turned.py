"""An operator whose images are turned about: what a scanner measures of a volume in the axes of the prior."""

from __future__ import annotations

from torch import Tensor

from inverse.operators.base import LinearOperator, Shape
from medical.files.orientation import Undo

__all__ = ["TurnedVolume", "in_plane", "turned"]


class TurnedVolume(LinearOperator):
    """``y = A T x``: T exchanges and flips the last axes of images, A takes what comes of it.

    Priors know slices as radiologists see them, files have axes of their own; the turn between the two becomes a part of the
    operator, and nothing is resampled. T is orthogonal, so the norm is that of A.

    Parameters
    ----------
    A: of images (C, H, W) or volumes (C, D, H, W).
    order: for each of the last axes of the images A takes, which of the axes of x it is: a permutation of 0, 1, ...
    flips: whether it runs backwards.
    """

    def __init__(self, A: LinearOperator, order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
        if A.domain is None:
            raise ValueError(f"A must have a domain to turn, got {A!r}")
        dims = len(A.domain) - 1
        if sorted(order) != list(range(dims)) or len(flips) != dims:
            raise ValueError(f"order must be a permutation of {dims} axes with as many flips, got {order} and {flips}")
        sides = [0] * dims
        for axis, source in enumerate(order):
            sides[source] = A.domain[1 + axis]
        super().__init__((A.domain[0], *sides), A.noise)
        self.A, self.order, self.flips = A, order, flips
        self.isometry = A.isometry

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.codomain or shape

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.A._apply_operator(self.turn(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.back(self.A._adjoint(y))

    def turn(self, x: Tensor) -> Tensor:
        """``T x``."""
        lead = x.ndim - len(self.order)
        x = x.permute(*range(lead), *(lead + axis for axis in self.order))
        return x.flip(self._flipped(lead)).contiguous()

    def back(self, x: Tensor) -> Tensor:
        """``T^-1 x``."""
        lead = x.ndim - len(self.order)
        x = x.flip(self._flipped(lead))
        return x.permute(*range(lead), *(lead + self.order.index(axis) for axis in range(len(self.order)))).contiguous()

    def _flipped(self, lead: int) -> list[int]:
        return [lead + axis for axis, flip in enumerate(self.flips) if flip]


def in_plane(undo: Undo) -> bool:
    """Whether the turn leaves the slices what they are, axial ones, whatever it does within them and to their order."""
    return undo.order[0] == 0


def turned(A: LinearOperator, undo: Undo) -> LinearOperator:
    """A on images in canonical axes, where ``undo`` takes them to the axes of A; of slices, the turn within them alone."""
    dims = len(A.domain or ()) - 1
    back = tuple(undo.order.index(axis) for axis in range(3))
    order, flips = back[3 - dims :], tuple(undo.flips[axis] for axis in back)[3 - dims :]
    if dims == 2:
        order = tuple(axis - 1 for axis in order)
    if order == tuple(range(dims)) and not any(flips):
        return A
    return TurnedVolume(A, order, flips)
