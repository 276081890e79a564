"""Small problems with known answers."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.noise import Gaussian, Noise
from medical.geometry import Detector, ParallelBeam, Volume
from medical.operators.projector import Projector
from medical.operators.sense import Sense


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Dense(LinearOperator):
    """A matrix (m, n) on images of ``domain``."""

    matrix: Tensor

    def __init__(self, matrix: Tensor, domain: Shape, noise: Noise | None = None) -> None:
        super().__init__(domain, noise)
        self.register_buffer("matrix", matrix)

    def output_shape(self, shape: Shape) -> Shape:
        return (len(self.matrix),)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x.dtype).mT

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y.dtype).conj()).view(-1, *self.domain)  # type: ignore[misc]


def differences(sides: Shape, spacing: tuple[float, ...] | None = None) -> Tensor:
    """The forward differences as a matrix, (d n, n), entry by entry."""
    spacing = spacing or (1.0,) * len(sides)
    index = torch.arange(int(torch.tensor(sides).prod())).view(sides)
    D = torch.zeros(len(sides), index.numel(), index.numel(), dtype=torch.float64)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in sides]).tolist():
        for d in range(len(sides)):
            if place[d] + 1 < sides[d]:
                here = int(index[tuple(place)])
                there = int(index[tuple(p + (k == d) for k, p in enumerate(place))])
                D[d, here, there], D[d, here, here] = min(spacing) / spacing[d], -min(spacing) / spacing[d]
    return D


def tv(x: Tensor, D: Tensor) -> float:
    return float((D.to(x.dtype) @ x).abs().square().sum(0).sqrt().sum())


def least_tv_objective(A: Tensor, y: Tensor, weight: float, D: Tensor, *, iterations: int = 3000) -> float:
    """A lower bound of ``min |A x - y|^2 / 2 + weight TV(x)``, tight: the largest value found of the dual problem.

    For every q with ``|q| <= weight`` at all pixels, ``min_x |A x - y|^2 / 2 + <q, D x>`` is below the minimum.
    """
    inverse = torch.linalg.inv(A.mT @ A)
    flat = D.flatten(0, 1)
    L = float(torch.linalg.matrix_norm(flat @ inverse @ flat.mT, 2))
    q = r = torch.zeros(D.shape[:2], dtype=torch.float64)
    for k in range(iterations):
        x = inverse @ (A.mT @ y - flat.mT @ r.flatten())
        p = r + (D @ x) / L
        p = p * (weight / p.square().sum(0).sqrt().clamp(min=1e-300)).clamp(max=1)
        q, r = p, p + k / (k + 3) * (p - q)
    c = A.mT @ y - flat.mT @ q.flatten()
    return float(y @ y / 2 - c @ inverse @ c / 2)


def blocks(*sides: int) -> Tensor:
    """A picture of two boxes, (1, 1, *sides), in [0, 1]."""
    x = torch.zeros(1, 1, *sides)
    x[(..., *(slice(n // 4, 3 * n // 4) for n in sides))] = 0.5
    x[(..., *(slice(n // 2, 3 * n // 4) for n in sides))] = 1.0
    return x


def ct(views: int = 12, sides: int = 16, sigma: float = 0.05) -> tuple[Projector, Tensor, Tensor]:
    """A projector, its noisy measurement of ``blocks``, and those."""
    beam = ParallelBeam.uniform(views, Detector(sides + 9))
    A = Projector(Volume((sides, sides)), beam, noise=Gaussian(sigma) if sigma else None)
    x = blocks(sides, sides)
    return A, A.measure(x, seed=1), x


def mri(sides: tuple[int, int] = (16, 16), sigma: float = 0.02, kept: float = 0.5) -> tuple[Sense, Tensor, Tensor]:
    """Two coils, a random mask, a measurement of complex ``blocks``, and those."""
    maps = randn(2, *sides, dtype=torch.complex64)
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = torch.rand(sides, generator=torch.Generator().manual_seed(1)) < kept
    A = Sense(maps, mask, noise=Gaussian(sigma) if sigma else None)
    x = blocks(*sides) * torch.exp(1j * torch.linspace(0, 1, sides[1]))
    return A, A.mask * A.measure(x, seed=1), x
