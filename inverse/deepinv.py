"""Operators of deepinv as ours, and ours as deepinv's physics; images in [0, 1] on both sides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator, Shape
from inverse.operators.noise import Gaussian, Noise, Noiseless, Poisson

__all__ = ["from_deepinv", "to_deepinv"]


def from_deepinv(physics: Any, shape: Shape) -> Operator:
    """deepinv's ``physics`` as an operator on images of ``shape`` (C, H, W), with its Gaussian or Poisson noise.

    A ``LinearPhysics`` becomes a :class:`LinearOperator` (``A`` and ``A_adjoint`` are used, pinv and prox are conjugate
    gradients), any other an :class:`Operator`. Raises ``TypeError`` for what has no ``A``, or measures lists of tensors.
    """
    if not callable(getattr(physics, "A", None)):
        raise TypeError(f"physics must be a deepinv physics, with a method A, got {type(physics).__name__}")
    with torch.no_grad():
        measured = physics.A(torch.zeros(1, *shape))
    if not isinstance(measured, Tensor):
        raise TypeError(f"physics must measure one tensor, got {type(measured).__name__}; convert its parts and stack them")
    made = _Linear if callable(getattr(physics, "A_adjoint", None)) else _Nonlinear
    return made(physics, tuple(shape), tuple(measured.shape[1:]))


def to_deepinv(A: Operator, shape: Shape | None = None) -> Any:
    """Our operator as deepinv's ``Physics``, or ``LinearPhysics`` with our closed forms for ``A_dagger`` and ``prox_l2``.

    ``shape`` (C, H, W) is that of the images, by default the domain. Needs the package deepinv.
    """
    from deepinv.physics import GaussianNoise, LinearPhysics, Physics, PoissonNoise

    shape = A.known_shape(shape, "to_deepinv")
    noise: Any = None
    if isinstance(A.noise, Gaussian):
        noise = GaussianNoise(sigma=A.noise.sigma)
    elif isinstance(A.noise, Poisson):
        noise = PoissonNoise(gain=1 / A.noise.peak)
    elif not isinstance(A.noise, Noiseless):
        raise TypeError(f"the noise must be Gaussian, Poisson or none for deepinv, got {A.noise!r}")
    given = {} if noise is None else {"noise_model": noise}
    if not isinstance(A, LinearOperator):
        return Physics(A=lambda x, **_: A(x), **given)

    class Ours(LinearPhysics):  # type: ignore[misc]
        def A_dagger(self, y: Tensor, **_: Any) -> Tensor:
            return A.pinv(y)

        def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
            return A.prox(z, y, 1 / torch.as_tensor(gamma).flatten())

    return Ours(A=lambda x, **_: A(x), A_adjoint=lambda y, **_: A.adjoint(y), img_size=shape, **given)


class _Nonlinear(Operator):
    def __init__(self, physics: Any, shape: Shape, codomain: Shape) -> None:
        super().__init__(shape, _noise_of(physics))
        self.physics, self._codomain = physics, codomain

    def output_shape(self, shape: Shape) -> Shape:
        return self._codomain

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.physics.A(x)

    def pinv(self, y: Tensor) -> Tensor:
        if not callable(getattr(self.physics, "A_dagger", None)):
            return super().pinv(y)
        return self.physics.A_dagger(y)


class _Linear(LinearOperator):
    def __init__(self, physics: Any, shape: Shape, codomain: Shape) -> None:
        super().__init__(shape, _noise_of(physics))
        self.physics, self._codomain = physics, codomain

    def output_shape(self, shape: Shape) -> Shape:
        return self._codomain

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.physics.A(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y)


def _noise_of(physics: Any) -> Noise:
    model = getattr(physics, "noise_model", None)
    sigma, gain = getattr(model, "sigma", None), getattr(model, "gain", None)
    if sigma is not None and gain is None:
        return Gaussian(float(torch.as_tensor(sigma).flatten()[0]))
    if gain is not None and sigma is None:
        return Poisson(1 / float(torch.as_tensor(gain).flatten()[0]))
    if model is None or type(model).__name__ in ("NoiseModel", "ZeroNoise"):
        return Noiseless()
    raise TypeError(f"noise_model of the physics must be Gaussian, Poisson or none, got {type(model).__name__}")
