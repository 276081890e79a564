"""The measurement as the network sees it: the same operator, with images in the network's own range."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Operator
from inverse.operators.precision import lengthened
from inverse.samplers.spectrum import Spectrum
from prior.denoiser import Denoiser

__all__ = ["Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A prior, an operator and a measurement ``y = A(image) + n`` with images in [0, 1], asked about in the network's range.

    With the network's black ``low`` and its ``scale`` from black to white, x = low + scale image, every answer is in
    units of x: for a linear operator ``measured = scale y + low A(1) = A x + scale n``. y in 16 bits is taken in float32.
    """

    model: Denoiser
    A: Operator
    y: Tensor

    def __post_init__(self) -> None:
        if not (self.y.is_floating_point() or self.y.is_complex()):
            raise ValueError(f"y must be floating point or complex, got {self.y.dtype}; convert it, 8-bit images to [0, 1]")
        if isinstance(self.A, LinearOperator):
            self.A.check_output(self.y)
        y = lengthened(self.y.detach())
        object.__setattr__(self, "y", y.clone() if y.is_inference() else y)
        if not bool(torch.isfinite(self.y).all()):
            raise ValueError(f"y must be finite, got {int((~torch.isfinite(self.y)).sum())} value(s) that are NaN or infinite")

    @property
    def linear(self) -> bool:
        """Whether the operator is linear."""
        return isinstance(self.A, LinearOperator)

    def linear_operator(self, sampler: str) -> LinearOperator:
        """The operator, where it is linear; ``TypeError`` in the name of ``sampler`` where it is not."""
        if not isinstance(self.A, LinearOperator):
            raise TypeError(f"{sampler} needs a linear operator, got {self.A!r}; DPS, DAPS and RedDiff.paper() take any")
        return self.A

    @cached_property
    def scale(self) -> float:
        """From black to white in the network's range."""
        low, high = self.model.data_range
        return high - low

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(B, C, H, W) of the images."""
        if isinstance(self.A, LinearOperator):
            return (len(self.y), *self.A.input_shape(tuple(self.y.shape[1:])))
        return (len(self.y), *(self.A.domain or self._explanation.shape[1:]))

    @cached_property
    def _explanation(self) -> Tensor:
        """What a nonlinear operator's own ``pinv`` makes of y, in [0, 1]; it may take a while."""
        return self.A.pinv(self.y)

    @property
    def members_differ(self) -> bool:
        """Whether the noise depends on the signal and there are several members: each has a noise level of its own."""
        return len(self.y) > 1 and self.A.noise.std(self.y).ndim > 0

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the noise in network units; the root mean square where it depends on the signal."""
        return self.scale * float(self.A.noise.std(self.y).square().mean().sqrt())

    @cached_property
    def measured(self) -> Tensor:
        """``y`` in network units, so that ``A x`` explains it; for linear operators."""
        A, low = self.linear_operator("measured"), self.model.data_range[0]
        if low == 0:
            return self.scale * self.y
        black = torch.full(self.shape, low, dtype=self.y.real.dtype, device=self.y.device)
        return self.scale * self.y + A(black)

    @cached_property
    def back_projected(self) -> Tensor:
        """``A^+ y``, in the network's range; for a nonlinear operator what its own ``pinv`` makes of y."""
        if isinstance(self.A, LinearOperator):
            return self.A.pinv(self.measured)
        return self.model.to_network(self._explanation)

    @cached_property
    def svd(self) -> SVD:
        """The operator's singular value decomposition; ``TypeError`` where it has no closed form."""
        svd = self.linear_operator("a spectral sampler").svd(self.shape[1:])
        if svd is None:
            raise TypeError(f"a spectral sampler needs an operator with a singular value decomposition, got {self.A!r}")
        return svd

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """What a linear operator sees, direction by direction, and ``measured`` in it; None without a closed form."""
        return Spectrum.of(self.linear_operator("a spectral sampler"), self.measured, self.shape[1:])

    def residual(self, x: Tensor) -> Tensor:
        """``y - A(x)`` in network units, for x (B, C, H, W) in the network's range; differentiable."""
        if isinstance(self.A, LinearOperator):
            return self.measured - self.A(x)
        return self.scale * (self.y - self.A(self.model.to_image(x)))

    def gradient(self, x: Tensor) -> Tensor:
        """Of ``|y - A(x)|^2 / 2`` at x, in network units."""
        if isinstance(self.A, LinearOperator):
            return -self.A.adjoint(self.residual(x))
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.residual(x).abs().square().sum() / 2, x)
        return grad

    def prox(self, x: Tensor, rho: float | Tensor) -> Tensor:
        """``argmin_u |y - A u|^2 / 2 + rho |u - x|^2 / 2`` in network units; ``rho`` > 0, a number or (B,)."""
        return self.linear_operator("a proximal step").prox(x, self.measured, rho)
