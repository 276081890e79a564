r"""The operator algebra: ``y = A(x) + n`` as objects that compose, stack, scale and add.

A linear operator writes ``_apply_operator`` and ``_adjoint``; the rest is inherited: an autograd rule whose backward *is* the
adjoint (and saves nothing), the pseudo-inverse and the proximal map (from the SVD where there is one, else by conjugate
gradients), the norm, and the algebra ``A @ B``, ``A + B``, ``2 * A``, ``stack(A, B)``, ``A.H``.

Shapes leave out the batch: an image of shape (C, H, W) is the tensor (B, C, H, W). An operator either knows its
``domain`` or, with ``domain=None``, takes any; ``output_shape`` and ``input_shape`` translate between the two sides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from inverse.operators.noise import Noise, Noiseless
from inverse.operators.precision import full_precision
from inverse.operators.solve import conjugate_gradient, inner

__all__ = ["SVD", "LinearOperator", "Operator", "Shape"]

Shape = tuple[int, ...]


class Operator(nn.Module):
    """A forward model, linear or not: subclasses write ``_apply_operator``; autograd does the rest.

    Parameters
    ----------
    domain: shape (C, H, W) of the images taken, or None for any.
    noise: the noise of the measurement.
    """

    linear = False
    rank: int | None = None
    """Axes of an image without the batch, 3 for (C, H, W); None takes any."""

    def __init__(self, domain: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__()
        self.domain = None if domain is None else tuple(int(n) for n in domain)
        self.noise = noise or Noiseless()
        self.register_load_state_dict_post_hook(_refresh)

    def _refresh(self) -> None:
        """Work out again what follows from the buffers; called when a state has been loaded."""

    def _apply_operator(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define _apply_operator(x)")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the measurement of an image of this ``shape``; the same unless the operator says otherwise."""
        return shape

    @property
    def codomain(self) -> Shape | None:
        """Shape of the measurement, where the domain is known."""
        return None if self.domain is None else self.output_shape(self.domain)

    @full_precision
    def forward(self, x: Tensor) -> Tensor:
        """``A(x)``, without noise."""
        self.check_input(x)
        return self._apply_operator(x)

    def pinv(self, y: Tensor) -> Tensor:
        """An image that explains ``y``, to start from; ``TypeError`` where the operator offers none."""
        raise TypeError(f"{self!r} has no pinv(y); define one, or give the sampler a start of your own")

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The image nearest to ``x`` that would be measured as ``y`` without noise; ``TypeError`` where none is offered."""
        raise TypeError(f"{self!r} has no project(x, y); linear operators and those that round or clip values have one")

    def measure(self, x: Tensor, *, seed: int = 0) -> Tensor:
        """``A(x) + n``: a measurement with its noise, the same bytes for the same seed."""
        return self.noise.sample(self(x), torch.Generator().manual_seed(seed))

    def with_noise(self, noise: Noise) -> Self:
        """The same operator (buffers shared, until one of the two is moved or cast) with another noise model."""
        shared: dict[int, Any] = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        other = copy.deepcopy(self, shared)
        other.noise = noise
        return other

    def check_input(self, x: Tensor) -> None:
        """Raise ``ValueError`` unless ``x`` is a batch of floating-point images in the domain."""
        if x.shape[1:] == self.domain and x.is_floating_point():
            return  # what nearly always holds, tested first
        if self.domain is not None and tuple(x.shape[1:]) != self.domain:
            wanted = ", ".join(map(str, self.domain))
            raise ValueError(f"{self!r}: x must have shape (B, {wanted}), got {tuple(x.shape)}")
        if x.ndim < 2 or (self.rank is not None and x.ndim != self.rank + 1):
            raise ValueError(f"{self!r}: x must be a batch, (B, C, H, W), got shape {tuple(x.shape)}")
        if not (x.is_floating_point() or x.is_complex()):
            raise ValueError(
                f"{self!r}: x must be floating point or complex, got {x.dtype}; convert it, 8-bit images to [0, 1]"
            )

    def divided(self, shape: Shape, factor: int) -> Shape:
        """The image ``shape`` (C, H, W) with sides ``factor`` times as short; ``ValueError`` where they are no multiples."""
        C, H, W = shape
        if H % factor or W % factor:
            raise ValueError(
                f"{self!r} takes images whose height and width are multiples of {factor}, got {H} x {W}; crop or pad them"
            )
        return (C, H // factor, W // factor)

    def known_shape(self, shape: Shape | None, purpose: str) -> Shape:
        """``shape``, or the domain where it is None; ``ValueError`` where neither is known."""
        shape = shape or self.domain
        if shape is None:
            raise ValueError(f"{self!r} takes images of any shape; {purpose} needs shape=(C, H, W)")
        return tuple(shape)

    def extra_repr(self) -> str:
        return "" if self.domain is None else f"domain={self.domain}"

    def __repr__(self) -> str:
        """In one line: the operators it is made of and ``extra_repr``; networks inside are left out."""
        inside = [m for child in self.children() for m in (child if isinstance(child, nn.ModuleList) else [child])]
        parts = [repr(m) for m in inside if isinstance(m, Operator)]
        return f"{type(self).__name__}({', '.join(filter(None, [*parts, self.extra_repr()]))})"

    def __matmul__(self, other: Operator) -> Operator:
        from inverse.operators.algebra import compose

        return compose(self, other)


def _refresh(operator: Any, _: object) -> None:
    operator._refresh()


@dataclass(frozen=True, eq=False)
class SVD:
    """``A = U diag(s) V^H`` with a full V: coefficients are flat, (B, n), aligned with ``s`` (n,), n the size of the domain.

    ``s`` is float64, zero on the null space, in no particular order; cast it to the coefficients it meets. ``Vh`` takes
    images to coefficients and ``V`` back; ``Uh`` takes measurements to coefficients (zero where ``s`` has no partner)
    and ``U`` back. ``thin``, where there is one, is the same without (part of) the null space, and faster: its V has
    fewer columns.
    """

    s: Tensor
    U: Callable[[Tensor], Tensor]
    Uh: Callable[[Tensor], Tensor]
    V: Callable[[Tensor], Tensor]
    Vh: Callable[[Tensor], Tensor]
    thin: SVD | None = None


class _Apply(torch.autograd.Function):
    """``op._apply_operator`` whose derivative is linear algebra: backward is the adjoint, forward mode is the operator."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, op: LinearOperator) -> Tensor:
        return op._apply_operator(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, LinearOperator], output: Tensor) -> None:
        x, ctx.op = inputs
        ctx.real = not x.is_complex()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        grad = ctx.op.adjoint(grad)
        return (grad.real if ctx.real and grad.is_complex() else grad), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return ctx.op(tangent)


class LinearOperator(Operator):
    """A linear forward model: subclasses write ``_apply_operator`` and ``_adjoint``, and override what has a closed form."""

    linear = True
    isometry: float | None = None
    """``c`` where ``A A^H A = c A``: the square root of c times a partial isometry, which gives pinv, prox and norm."""

    def _adjoint(self, y: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define _adjoint(y)")

    def input_shape(self, shape: Shape) -> Shape:
        """Shape of the image that is measured as this ``shape``; the inverse of ``output_shape``."""
        return self.domain or shape

    @full_precision
    def forward(self, x: Tensor) -> Tensor:
        """``A x``, without noise."""
        self.check_input(x)
        return _Apply.apply(x, self) if x.requires_grad else self._apply_operator(x)

    @full_precision
    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``, exact: ``<A x, y> = <x, A^H y>``."""
        self.check_output(y)
        return _Apply.apply(y, self.H) if y.requires_grad else self._adjoint(y)

    @property
    def H(self) -> LinearOperator:
        """The adjoint, as an operator."""
        from inverse.operators.algebra import Adjoint

        return Adjoint(self)

    def check_output(self, y: Tensor) -> None:
        """Raise ``ValueError`` unless ``y`` is a batch of measurements."""
        if self.codomain is not None and tuple(y.shape[1:]) != self.codomain:
            wanted = ", ".join(map(str, self.codomain))
            raise ValueError(f"{self!r}: y must have shape (B, {wanted}), got {tuple(y.shape)}")
        if self.codomain is None and self.rank is not None and y.ndim != self.rank + 1:
            raise ValueError(f"{self!r}: y must be a batch, (B, C, H, W), got shape {tuple(y.shape)}")
        if not (y.is_floating_point() or y.is_complex()):
            raise ValueError(f"{self!r}: y must be floating point or complex, got {y.dtype}; convert it")

    def svd(self, shape: Shape | None = None) -> SVD | None:
        """The singular value decomposition on images of ``shape`` (default: the domain), None without a closed form."""
        return None

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x``."""
        return self.adjoint(self(x))

    @full_precision
    def pinv(self, y: Tensor, *, tolerance: float = 1e-6, iterations: int = 200) -> Tensor:
        """``A^+ y``, the least-squares image of minimum norm.

        In closed form where there is one: from the SVD, singular values below ``tolerance`` times the largest count as
        zero. Else by conjugate gradients on ``A^H A x = A^H y`` from zero, to the relative residual ``tolerance``.
        """
        self.check_output(y)
        return self._pinv(y, tolerance, iterations)

    def _pinv(self, y: Tensor, tolerance: float, iterations: int) -> Tensor:
        if self.isometry is not None:
            x = self.adjoint(y)
            return x if self.isometry == 1 else x / self.isometry
        svd = self.svd(self.input_shape(tuple(y.shape[1:])))
        if svd is None:
            b = self.adjoint(y)
            return conjugate_gradient(self.normal, b, torch.zeros_like(b), iterations=iterations, tolerance=tolerance)
        svd = svd.thin or svd
        kept = svd.s > tolerance * svd.s.max()
        inverse = torch.where(kept, 1 / torch.where(kept, svd.s, 1), 0)
        return svd.V(svd.Uh(y) * inverse.to(y.device, y.real.dtype))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """``x + A^+ (y - A x)``: of all images that are measured as ``y`` the nearest to ``x``."""
        return x + self.pinv(y - self(x))

    @full_precision
    def prox(self, x: Tensor, y: Tensor, rho: float | Tensor, *, tolerance: float = 1e-6, iterations: int = 100) -> Tensor:
        """``argmin_u |A u - y|^2 / 2 + rho |u - x|^2 / 2 = (A^H A + rho)^-1 (A^H y + rho x)``; ``rho`` > 0, a number or (B,).

        In closed form where there is one, else by conjugate gradients from ``x`` to the relative residual ``tolerance``.
        """
        self.check_input(x)
        self.check_output(y)
        rho = torch.as_tensor(rho, dtype=x.real.dtype, device=x.device)
        if not bool((rho > 0).all()):
            raise ValueError(f"rho must be positive, got {rho.tolist()}")
        return self._prox(x, y, rho.view(-1, *[1] * (x.ndim - 1)), tolerance, iterations)

    def _prox(self, x: Tensor, y: Tensor, rho: Tensor, tolerance: float, iterations: int) -> Tensor:
        """The same, with ``rho`` in the shape that multiplies images."""
        if self.isometry is not None:
            return x + self.adjoint(y - self(x)) / (self.isometry + rho)
        svd = self.svd(tuple(x.shape[1:]))
        if svd is None:
            b = self.adjoint(y) + rho * x
            return conjugate_gradient(lambda u: self.normal(u) + rho * u, b, x, iterations=iterations, tolerance=tolerance)
        svd = svd.thin or svd
        s, rho = svd.s.to(x.device, x.real.dtype), rho.view(-1, 1)
        return x + svd.V(s * (svd.Uh(y) - s * svd.Vh(x)) / (s**2 + rho))

    def norm(self, shape: Shape | None = None, *, iterations: int = 100, seed: int = 0) -> float:
        """The largest singular value on images of ``shape`` (default: the domain).

        In closed form where there is one, else by power iteration in float64, which approaches it from below.
        """
        if self.isometry is not None:
            return self.isometry**0.5
        shape = self.known_shape(shape, "norm")
        svd = self.svd(shape)
        if svd is not None:
            return float(svd.s.max())
        reference = next(iter(self.buffers()), torch.zeros(()))
        complex_or_real = reference.dtype if reference.is_complex() else torch.float64
        x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x = x.to(reference.device, complex_or_real)
        op = copy.deepcopy(self).double() if not reference.is_complex() else self
        value = torch.zeros(())
        for _ in range(iterations):
            x = x / inner(x, x).real.sqrt().clamp(min=torch.finfo(torch.float64).tiny)
            x = op.normal(x)
            value = inner(x, x).real.sqrt()
        return float(value.sqrt())

    def adjointness(self, shape: Shape | None = None, *, seed: int = 0) -> float:
        """``|<A x, y> - <x, A^H y>| / (|A x| |y|)`` for random x and y: the error of the adjoint, about 1e-7 in float32."""
        shape = self.known_shape(shape, "adjointness")
        reference = next((b for b in self.buffers() if b.is_floating_point() or b.is_complex()), torch.zeros(()))
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, *shape, generator=generator, dtype=reference.dtype).to(reference.device)
        ax = self(x)
        y = torch.randn(ax.shape, generator=generator, dtype=ax.dtype).to(ax.device)
        gap = inner(ax, y) - inner(x.to(y.dtype), self.adjoint(y).to(y.dtype))
        return float(gap.abs() / (ax.norm() * y.norm()))

    def __add__(self, other: LinearOperator) -> LinearOperator:
        from inverse.operators.algebra import Sum

        return Sum(self, other)

    def __mul__(self, factor: complex) -> LinearOperator:
        from inverse.operators.algebra import Scaled

        return Scaled(self, factor)

    __rmul__ = __mul__

    def __neg__(self) -> LinearOperator:
        return -1.0 * self

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return self + (-other)
