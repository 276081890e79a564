"""Operators made of operators: adjoint, composition, sum, scaling and stack."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Operator, Shape
from inverse.operators.noise import Noise

__all__ = ["Adjoint", "Chain", "Composed", "Scaled", "Stack", "Sum", "compose", "stack"]


class Adjoint(LinearOperator):
    """``A^H`` as an operator; its adjoint is ``A`` itself."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A.codomain)
        self.A = A

    @property
    def isometry(self) -> float | None:  # type: ignore[override]
        return self.A.isometry

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.A._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.A._apply_operator(y)

    @property
    def H(self) -> LinearOperator:
        return self.A

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.input_shape(shape)

    def input_shape(self, shape: Shape) -> Shape:
        return self.A.output_shape(shape)

    def svd(self, shape: Shape | None = None) -> SVD | None:
        return None


def compose(outer: Operator, inner: Operator) -> Operator:
    """``outer @ inner``: first ``inner``, then ``outer``; linear if both are. The noise is that of ``outer``."""
    if outer.domain is not None and inner.codomain is not None and outer.domain != inner.codomain:
        raise ValueError(f"cannot compose: {outer!r} takes {outer.domain}, but {inner!r} gives {inner.codomain}")
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return Composed(outer, inner)
    return Chain(outer, inner)


class Chain(Operator):
    """``outer(inner(x))`` where at least one of the two is not linear."""

    def __init__(self, outer: Operator, inner: Operator) -> None:
        super().__init__(inner.domain, outer.noise)
        self.outer, self.inner = outer, inner

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def pinv(self, y: Tensor) -> Tensor:
        """The start that ``outer`` offers, and of it that of ``inner``; ``TypeError`` where one has none."""
        return self.inner.pinv(self.outer.pinv(y))

    def output_shape(self, shape: Shape) -> Shape:
        return self.outer.output_shape(self.inner.output_shape(shape))


class Composed(LinearOperator):
    """``A B`` for linear A and B."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        domain = B.domain if B.domain is not None or A.domain is None else B.input_shape(A.domain)
        super().__init__(domain, A.noise)
        self.A, self.B = A, B

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.B.check_input(x)

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self.A.check_output(y)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.A._apply_operator(self.B._apply_operator(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.B._adjoint(self.A._adjoint(y))

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.output_shape(self.B.output_shape(shape))

    def input_shape(self, shape: Shape) -> Shape:
        return self.B.input_shape(self.A.input_shape(shape))


class Sum(LinearOperator):
    """``A + B``: two operators between the same spaces."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        if A.domain is not None and B.domain is not None and (A.domain, A.codomain) != (B.domain, B.codomain):
            raise ValueError(f"cannot add: {A!r} maps {A.domain} to {A.codomain}, but {B!r} maps {B.domain} to {B.codomain}")
        super().__init__(A.domain or B.domain, A.noise)
        self.A, self.B = A, B

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.A._apply_operator(x) + self.B._apply_operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.A._adjoint(y) + self.B._adjoint(y)

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.output_shape(shape)

    def input_shape(self, shape: Shape) -> Shape:
        return self.A.input_shape(shape)


class Scaled(LinearOperator):
    """``c A`` for a number c."""

    def __init__(self, A: LinearOperator, factor: complex) -> None:
        super().__init__(A.domain, A.noise)
        self.A, self.factor = A, factor

    @property
    def isometry(self) -> float | None:  # type: ignore[override]
        return None if self.A.isometry is None or self.factor == 0 else abs(self.factor) ** 2 * self.A.isometry

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.factor * self.A._apply_operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.A._adjoint(self.factor.conjugate() * y)

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.output_shape(shape)

    def input_shape(self, shape: Shape) -> Shape:
        return self.A.input_shape(shape)

    def svd(self, shape: Shape | None = None) -> SVD | None:
        svd = self.A.svd(shape)
        return None if svd is None or self.factor == 0 else self._scaled(svd)

    def _scaled(self, svd: SVD) -> SVD:
        size, phase = abs(self.factor), self.factor / abs(self.factor)
        thin = None if svd.thin is None else self._scaled(svd.thin)
        return SVD(size * svd.s, lambda c: phase * svd.U(c), lambda y: svd.Uh(phase.conjugate() * y), svd.V, svd.Vh, thin)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


def stack(*operators: LinearOperator, noise: Noise | None = None) -> Stack:
    """Several measurements of one image, flattened and joined: ``y = [A_1 x, ..., A_k x]`` of shape (B, m)."""
    return Stack(operators, noise)


class Stack(LinearOperator):
    """``[A_1; ...; A_k]``: measurements (B, m), each operator's flattened; needs at least one operator with a domain."""

    def __init__(self, operators: tuple[LinearOperator, ...], noise: Noise | None = None) -> None:
        domains = {op.domain for op in operators if op.domain is not None}
        if len(domains) != 1:
            found = ", ".join(map(str, sorted(domains))) or "none"
            raise ValueError(
                f"stack needs operators that agree on one known domain, got {found}; pass shape=(C, H, W) to one of them"
            )
        super().__init__(domains.pop(), noise or operators[0].noise)
        self.operators = torch.nn.ModuleList(operators)

    @property
    def _members(self) -> list[LinearOperator]:
        return [cast(LinearOperator, op) for op in self.operators]

    def _shapes(self) -> list[Shape]:
        if self.domain is None:
            raise ValueError(f"{self!r}: the domain is not known")
        return [op.output_shape(self.domain) for op in self._members]

    def output_shape(self, shape: Shape) -> Shape:
        return (sum(torch.Size(s).numel() for s in self._shapes()),)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return torch.cat([op._apply_operator(x).flatten(1) for op in self._members], dim=1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.stack([op._adjoint(part) for op, part in zip(self._members, self.split(y), strict=True)]).sum(0)

    def split(self, y: Tensor) -> list[Tensor]:
        """The measurement of each operator, in its own shape."""
        shapes = self._shapes()
        parts = y.split([torch.Size(s).numel() for s in shapes], dim=1)
        return [part.unflatten(1, s) for part, s in zip(parts, shapes, strict=True)]
