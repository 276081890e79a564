r"""Non-Cartesian encoding, ``y_cj = (N_1 N_2)^(-1/2) sum_r S_c[r] x[r] exp(-i k_j . r)``, fast on CPUs and other devices.

On the CPU the sums are computed by FINUFFT (Barnett, Magland & af Klinteberg 2019), elsewhere by gridding in torch.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.noise import Noise
from medical.operators.batched import batched
from medical.operators.complex_buffers import kept_complex
from medical.operators.kaiser_bessel import KaiserBessel
from medical.operators.maps import checked_maps
from medical.operators.toeplitz import Toeplitz
from medical.sampling.trajectories import check_trajectory

__all__ = ["NUFFT", "Backend", "Finufft"]

Backend = Literal["auto", "finufft", "torch"]

_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}


class Transform(Protocol):
    """``y_j = sum_r x[r] exp(-i k_j . r)`` of T images, and its adjoint, both complex."""

    def forward(self, x: Tensor) -> Tensor:
        """(T, ...) to (T, K)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """(T, K) to (T, ...)."""


class Finufft:
    """The sums by FINUFFT on the CPU: one plan, its points sorted once, serves both directions.

    Data in float32 are summed in float64 to a tolerance of 1e-6: that takes no longer, while coordinates in float32 alone
    cost an error of 1e-5 at 256 pixels, and more with more.

    Parameters
    ----------
    trajectory: k, float64 (K, d) on the CPU, rad/pixel.
    shape: the image, d sides.
    dtype: float32 or float64, of the data; it sets the tolerance, 1e-6 or 1e-13.
    """

    def __init__(self, trajectory: Tensor, shape: Shape, dtype: torch.dtype) -> None:
        self.shape, self.tolerance = shape, _TOLERANCE[dtype]
        self.axes = [axis.contiguous().numpy() for axis in trajectory.T]
        self._plans: dict[tuple[int, int], Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The sums y, complex (T, K), of T images (T, ...)."""
        return torch.from_numpy(self._plan(len(x)).execute(_array(x, len(x)))).view(len(x), -1).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """The images ``sum_j y_j exp(i k_j . r)``, complex (T, ...), of T samplings (T, K)."""
        image = torch.from_numpy(self._plan(len(y)).execute_adjoint(_array(y, len(y))))
        return image.view(len(y), *self.shape).to(y.dtype)

    def _plan(self, transforms: int) -> Any:
        key = (transforms, torch.get_num_threads())
        if key not in self._plans:
            import finufft

            plan = finufft.Plan(2, self.shape, key[0], self.tolerance, isign=-1, dtype="complex128", nthreads=key[1])
            plan.setpts(*self.axes)
            self._plans[key] = plan
        return self._plans[key]


def _array(x: Tensor, transforms: int) -> Any:
    x = x.detach().to(torch.complex128).contiguous().resolve_conj().resolve_neg()
    return (x if transforms > 1 else x[0]).numpy()


class NUFFT(LinearOperator):
    r"""Fourier samples off the grid, seen by C coils: x (B, M, H, W) or (B, M, D, H, W) to y (B, C, K), both complex.

    .. math:: y_{cj} = (N_1 N_2)^{-1/2} \sum_m \sum_r S_{mc}[r] x_m[r] \exp(-i k_j \cdot r), \quad r_d = index - N_d // 2

    in two dimensions; with three, the factor takes all three sides. Real images are taken too. The relative error is below
    1e-5 in float32 (about 1e-6) and 1e-11 in float64, and the adjoint is exact: 1e-7 and 1e-14. ``normal``, and with it
    ``pinv`` and ``prox``, convolve with the point spread function, which equals ``adjoint(forward)`` to the same errors and
    is faster.

    Parameters
    ----------
    trajectory: k, (K, 2) or (K, 3), rad/pixel in [-pi, pi), component 0 along the first axis of the image; kept in float64.
    shape: the image, (H, W) or (D, H, W).
    maps: coil sensitivities S, (C, H, W), or (M, C, H, W) for M sets of them; None for one coil that sees all alike.
    backend: "finufft" (CPU only), "torch" (every device) or "auto", the first on CPUs where it is installed.
    noise: the noise of the measurement.
    """

    maps: Tensor | None

    def __init__(
        self,
        trajectory: Tensor,
        shape: Shape,
        *,
        maps: Tensor | None = None,
        backend: Backend = "auto",
        noise: Noise | None = None,
    ) -> None:
        shape = tuple(int(n) for n in shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"shape must be (H, W) or (D, H, W) with sides of at least 1, got {shape}")
        if backend not in ("auto", "finufft", "torch"):
            raise ValueError(f'backend must be "auto", "finufft" or "torch", got {backend!r}')
        maps = None if maps is None else checked_maps(maps, len(shape), shape)
        super().__init__((1 if maps is None else len(maps), *shape), noise)
        self.shape, self.backend = shape, backend
        self.trajectory = check_trajectory(trajectory, len(shape))
        self.register_buffer("maps", maps)
        self._transforms: dict[tuple[torch.device, torch.dtype], Transform] = {}
        self._toeplitz: dict[torch.device, Toeplitz] = {}

    @property
    def scale(self) -> float:
        """The factor of the sums, ``(N_1 N_2)^(-1/2)``."""
        return 1 / math.sqrt(math.prod(self.shape))

    def output_shape(self, shape: Shape) -> Shape:
        return (1 if self.maps is None else self.maps.shape[1], len(self.trajectory))

    def _apply_operator(self, x: Tensor) -> Tensor:
        x = x.to(x.dtype.to_complex())
        coils = x if self.maps is None else (self.maps.to(x.dtype) * x[:, :, None]).sum(1)

        def sums(images: Tensor) -> Tensor:
            transform = self.transform(images.device, images.real.dtype)
            return _each(transform.forward, images, (images.shape[1], len(self.trajectory)))

        return self.scale * batched(sums, coils)

    def _adjoint(self, y: Tensor) -> Tensor:
        y = y.to(y.dtype.to_complex())

        def sums(samplings: Tensor) -> Tensor:
            transform = self.transform(samplings.device, samplings.real.dtype)
            return _each(transform.adjoint, samplings, (samplings.shape[1], *self.shape))

        coils = self.scale * batched(sums, y)
        return coils if self.maps is None else (self.maps.to(y.dtype).conj() * coils[:, None]).sum(2)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H A x`` by one convolution for each coil; the kernel is computed at the first call."""
        if x.device not in self._toeplitz:
            self._toeplitz[x.device] = Toeplitz(self, device=x.device)
        return self._toeplitz[x.device](x)

    def toeplitz(self, weights: Tensor | None = None) -> Toeplitz:
        """``A^H W A`` as an operator, W diagonal with the real ``weights`` (K,) of the samples, 1 by default."""
        return Toeplitz(self, weights)

    def transform(self, device: torch.device, dtype: torch.dtype) -> Transform:
        """The sums without maps and factor on a ``device``, for data in ``dtype``, float32 or float64; kept for next time."""
        key = (device, dtype)
        if key not in self._transforms:
            self._transforms[key] = self._build(device, dtype)
        return self._transforms[key]

    def _build(self, device: torch.device, dtype: torch.dtype) -> Transform:
        installed = importlib.util.find_spec("finufft") is not None
        if self.backend == "torch" or (self.backend == "auto" and not (device.type == "cpu" and installed)):
            return KaiserBessel(self.trajectory, self.shape, dtype=dtype, device=device)
        if device.type != "cpu":
            raise ValueError(f'backend "finufft" runs on the CPU, got data on {device}; move them, or take backend="auto"')
        if not installed:
            raise ModuleNotFoundError('backend "finufft" needs the package finufft (2.5 or later); install it or take "torch"')
        return Finufft(self.trajectory, self.shape, dtype)

    def _refresh(self) -> None:
        self._toeplitz = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._refresh()
        return super()._apply(kept_complex(fn), recurse)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: not the plans, which belong to this process."""
        return {**self.__dict__, "_transforms": {}, "_toeplitz": {}}

    def extra_repr(self) -> str:
        coils = "" if self.maps is None else f", coils={self.maps.shape[1]}"
        return f"{super().extra_repr()}, points={len(self.trajectory)}{coils}"


def _each(f: Callable[[Tensor], Tensor], batch: Tensor, shape: Shape) -> Tensor:
    """``f`` of each member, which has the ``shape``; torch stacks no empty batch."""
    return torch.stack([f(member) for member in batch]) if len(batch) else batch.new_zeros(0, *shape)
