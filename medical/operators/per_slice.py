"""One operator for each slice of a stack, such as coil maps that change from slice to slice, as an operator of slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.noise import Noise

__all__ = ["SliceOperators"]


class SliceOperators(LinearOperator):
    """``y[n] = A_n x[n]``: slices x (D, C, H, W) are the batch, and each of them is measured by an operator of its own.

    It takes all D slices at once; ``part(slices)`` gives the operator of some of them, which is how samplers of volumes take
    them in chunks.

    Parameters
    ----------
    operators: A_0 to A_(D-1), linear, with one domain (C, H, W) and one shape of measurements.
    noise: of all measurements; default: that of the first operator.

    Raises ``ValueError`` for no operators and for domains or measurements that differ, ``TypeError`` for operators that are
    not linear.
    """

    def __init__(self, operators: Sequence[LinearOperator], *, noise: Noise | None = None) -> None:
        found = list(operators)
        if not found:
            raise ValueError("operators must hold at least one operator, got none")
        for number, A in enumerate(found):
            if not isinstance(A, LinearOperator):
                raise TypeError(f"operators must be linear, got {A!r} for slice {number}")
            if A.domain is None or (A.domain, A.codomain) != (found[0].domain, found[0].codomain):
                raise ValueError(
                    f"operators must all take {found[0].domain} to {found[0].codomain}, got {A.domain} to {A.codomain} "
                    f"for slice {number}"
                )
        super().__init__(found[0].domain, found[0].noise if noise is None else noise)
        self.operators = nn.ModuleList(found)
        isometries = {A.isometry for A in found}
        self.isometry = isometries.pop() if len(isometries) == 1 else None

    def __len__(self) -> int:
        """D, the number of slices."""
        return len(self.operators)

    def part(self, slices: slice) -> SliceOperators:
        """The operator of these slices."""
        return SliceOperators(self.members[slices], noise=self.noise)

    @property
    def members(self) -> list[LinearOperator]:
        """The operators, slice by slice."""
        return cast(list[LinearOperator], list(self.operators))

    def output_shape(self, shape: Shape) -> Shape:
        return self.members[0].output_shape(shape)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return torch.cat([A._apply_operator(x[n : n + 1]) for n, A in enumerate(self.members)])

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([A._adjoint(y[n : n + 1]) for n, A in enumerate(self.members)])

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self._check_count(x, "x")

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self._check_count(y, "y")

    def _check_count(self, batch: Tensor, name: str) -> None:
        if len(batch) != len(self):
            raise ValueError(
                f"{self!r}: {name} must have {len(self)} slices, one for each operator, got {len(batch)}; "
                f"part(slices) is the operator of some of them"
            )

    def norm(self, shape: Shape | None = None, *, iterations: int = 100, seed: int = 0) -> float:
        """The largest singular value, of all slices."""
        return max(A.norm(shape, iterations=iterations, seed=seed) for A in self.members)

    def adjointness(self, shape: Shape | None = None, *, seed: int = 0) -> float:
        """The largest error of the adjoint, of all slices."""
        return max(A.adjointness(shape, seed=seed) for A in self.members)

    def extra_repr(self) -> str:
        return f"{len(self.members)} slices"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()}, the first by {self.members[0]!r})"
