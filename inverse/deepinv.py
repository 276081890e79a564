"""Operators of deepinv as ours, and ours as deepinv's physics; images in [0, 1] on both sides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator, Shape
from inverse.operators.noise import Gaussian, Mixed, Noise, Noiseless, Poisson

__all__ = ["from_deepinv", "to_deepinv"]


def from_deepinv(physics: Any, shape: Shape) -> Operator:
    """deepinv's ``physics`` as an operator on images of ``shape`` (C, H, W), with its Gaussian noise, Poisson noise or both.

    A ``LinearPhysics`` becomes a :class:`LinearOperator` (``A`` and ``A_adjoint`` are used, pinv and prox are conjugate
    gradients), any other an :class:`Operator`. Raises ``TypeError`` for what has no ``A``, or measures lists of tensors.
    """
    if not callable(getattr(physics, "A", None)):
        raise TypeError(f"physics must be a deepinv physics, with a method A, got {type(physics).__name__}")
    with torch.no_grad():
        measured = physics.A(torch.zeros(1, *shape, device=_device_of(physics)))
    if not isinstance(measured, Tensor):
        raise TypeError(f"physics must measure one tensor, got {type(measured).__name__}; convert its parts and stack them")
    made = _Linear if callable(getattr(physics, "A_adjoint", None)) else _Nonlinear
    return made(physics, tuple(shape), tuple(measured.shape[1:]))


def to_deepinv(A: Operator, shape: Shape | None = None) -> Any:
    """Our operator as deepinv's ``Physics``, or ``LinearPhysics`` with our closed forms for ``A_dagger`` and ``prox_l2``.

    ``shape`` (C, H, W) is that of the images, by default the domain. Needs the package deepinv.
    """
    from deepinv.physics import LinearPhysics, Physics

    shape = A.known_shape(shape, "to_deepinv")
    noise = _noise_model(A.noise)
    given = {} if noise is None else {"noise_model": noise}
    if not isinstance(A, LinearOperator):
        return Physics(A=lambda x, **_: A(x), **given)
    linear: LinearOperator = A

    class Ours(LinearPhysics):  # type: ignore[misc]
        def A_dagger(self, y: Tensor, **_: Any) -> Tensor:
            return linear.pinv(y)

        def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
            return linear.prox(z, y, torch.as_tensor(gamma).flatten().reciprocal())

    return Ours(A=lambda x, **_: A(x), A_adjoint=lambda y, **_: linear.adjoint(y), img_size=shape, **given)


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


def _device_of(physics: Any) -> torch.device:
    tensors = [t for find in ("parameters", "buffers") for t in getattr(physics, find, list)()]
    return tensors[0].device if tensors else torch.device("cpu")


def _noise_of(physics: Any) -> Noise:
    """The ``noise_model`` of deepinv's physics as ours."""
    model = getattr(physics, "noise_model", None)
    sigma, gain = _level(model, "sigma"), _level(model, "gain")
    if gain is not None and not bool(getattr(model, "normalize", True)):
        raise TypeError("noise_model of the physics counts photons; give it normalize=True, so that y is in units of A(x)")
    if sigma is not None and gain is not None:
        return Poisson(1 / gain) + Gaussian(sigma)
    if sigma is not None:
        return Gaussian(sigma)
    if gain is not None:
        return Poisson(1 / gain)
    if model is None or type(model).__name__ == "ZeroNoise":
        return Noiseless()
    raise TypeError(f"noise_model of the physics must be Gaussian, Poisson, both or none, got {type(model).__name__}")


def _level(model: Any, name: str) -> float | None:
    if not hasattr(model, name):
        return None
    values = torch.as_tensor(getattr(model, name)).unique()
    if len(values) != 1:
        raise TypeError(f"noise_model of the physics must have one {name} for all images, got {values.tolist()}")
    return float(values)


def _noise_model(noise: Noise) -> Any:
    """Our noise as deepinv's model, None for no noise; theirs clips at zero as ours does."""
    from deepinv.physics import GaussianNoise, PoissonGaussianNoise, PoissonNoise

    parts = noise.parts if isinstance(noise, Mixed) else (noise,)
    match [part for part in parts if not isinstance(part, Noiseless)]:
        case []:
            return None
        case [Gaussian(sigma)]:
            return GaussianNoise(sigma=sigma)
        case [Poisson(peak)]:
            return PoissonNoise(gain=1 / peak, clip_positive=True)
        case [Poisson(peak), Gaussian(sigma)] | [Gaussian(sigma), Poisson(peak)]:
            return PoissonGaussianNoise(gain=1 / peak, sigma=sigma, clip_positive=True)
    raise TypeError(f"the noise must be Gaussian, Poisson, both or none for deepinv, got {noise!r}")
