"""One small example of every linear operator, by name; the contract tests run over all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from inverse.operators import (
    BlockGaussian,
    Blur,
    Downsample,
    Fourier,
    Grayscale,
    Hadamard,
    Identity,
    Inpaint,
    LinearOperator,
    Sample,
    Separable,
    VaryingBlur,
    ddrm,
    stack,
)
from inverse.operators.boundary import BOUNDARIES
from inverse.operators.decimation import Decimate

__all__ = ["OPERATORS", "crooked"]


def crooked(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """A kernel without any symmetry and of full rank."""
    return torch.rand(h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / (h * w)


def _mask(C: int, H: int, W: int) -> torch.Tensor:
    return (torch.rand(C, H, W, generator=torch.Generator().manual_seed(1)) > 0.4).float()


def _varying(boundary: str, weighted: str, grid: tuple[int, int] = (2, 3)) -> LinearOperator:
    kernels = torch.stack([crooked(3, 2, seed) for seed in range(grid[0] * grid[1])]).unflatten(0, grid)
    return VaryingBlur.grid(kernels, (2, 5, 6), boundary, weighted=weighted)


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "identity": lambda: Identity((2, 3, 4)),
    "inpaint": lambda: Inpaint(_mask(2, 4, 3)),
    "inpaint-random": lambda: Inpaint.random((2, 4, 5), 0.3, seed=2),
    "inpaint-freeform": lambda: Inpaint.freeform((2, 5, 4), seed=1),
    "inpaint-box": lambda: Inpaint.box((2, 5, 4), (1, 1, 2, 3)),
    "sample": lambda: Sample(_mask(2, 4, 3)),
    "area": lambda: Downsample.area(2, shape=(2, 6, 4)),
    "area-odd": lambda: Downsample.area(3, shape=(1, 6, 3)),
    "bicubic": lambda: Downsample.bicubic(2, shape=(2, 6, 4)),
    "bicubic-odd": lambda: Downsample.bicubic(3, shape=(1, 9, 6)),
    "decimate": lambda: Decimate(crooked(3, 4), 2, shape=(2, 6, 4)),
    "grayscale": lambda: Grayscale(shape=(3, 3, 4)),
    "grayscale-negative": lambda: Grayscale((-0.5, 0.25), shape=(2, 3, 2)),
    **{f"gaussian-{b}": lambda b=b: Blur.gaussian(0.6, b, shape=(2, 6, 5)) for b in BOUNDARIES},
    **{f"crooked-{b}": lambda b=b: Blur(crooked(3, 4), b, shape=(1, 6, 7)) for b in BOUNDARIES},
    "larger-than-the-image": lambda: Blur(crooked(9, 8), shape=(1, 3, 4)),
    "larger-circular": lambda: Blur(crooked(8, 9), "circular", shape=(1, 3, 4)),
    "off-centre": lambda: Blur(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), shape=(1, 4, 5)),
    "line": lambda: Blur.line(3, 30, shape=(1, 5, 6)),
    "motion": lambda: Blur.motion(7, seed=1, shape=(1, 6, 5)),
    "separable-tall": lambda: Separable(crooked(5, 4), crooked(3, 4), shape=(2, 4, 4)),
    "separable-cut": lambda: Separable(torch.diag(torch.tensor([1.0, 0.5, 0.1])), torch.eye(3), cutoff=0.2, shape=(1, 3, 3)),
    "ddrm-deblur": lambda: ddrm.deblur(ddrm.uniform_taps(), (1, 6, 6)),
    "ddrm-bicubic": lambda: ddrm.bicubic(2, (2, 6, 6)),
    "valid-gaussian": lambda: Blur.gaussian(0.6, "valid", shape=(2, 7, 6)),
    "valid-crooked": lambda: Blur(crooked(3, 4), "valid", shape=(1, 6, 7)),
    "valid-one-pixel": lambda: Blur(crooked(3, 4), "valid", shape=(2, 3, 4)),
    **{f"varying-{b}": lambda b=b: _varying(b, "output") for b in BOUNDARIES},
    **{f"varying-input-{b}": lambda b=b: _varying(b, "input") for b in BOUNDARIES},
    "varying-one-row": lambda: _varying("zero", "input", (1, 2)),
    "varying-gaussian": lambda: VaryingBlur.gaussian(crooked(5, 4) * 20 + 0.3, levels=3, shape=(1, 5, 4)),
    "block": lambda: BlockGaussian.random(0.3, 3, shape=(2, 6, 3)),
    "block-full": lambda: BlockGaussian.random(1.0, 2, seed=1, shape=(1, 4, 6)),
    "block-crooked": lambda: BlockGaussian(crooked(5, 4), shape=(2, 2, 4)),
    "hadamard": lambda: Hadamard.random((2, 4, 8), 0.4, seed=1),
    "hadamard-flat": lambda: Hadamard.lowest((3, 1, 2), 0.5),
    "hadamard-odd-power": lambda: Hadamard.lowest((1, 8, 4)),
    "fourier": lambda: Fourier.random((2, 5, 6), 0.4, seed=1),
    "fourier-even": lambda: Fourier.random((1, 4, 4), 0.5, decay=3, radius=1.1),
    "fourier-full": lambda: Fourier(torch.ones(4, 3), (1, 4, 3)),
    "fourier-cartesian": lambda: Fourier.cartesian((1, 5, 4), 0.6, seed=3),
    "fourier-radial": lambda: Fourier.radial((1, 6, 7), 2),
    "composed": lambda: Inpaint(_mask(1, 3, 3)) @ Downsample.area(2, shape=(2, 6, 6)),
    "composed-blur": lambda: Downsample.bicubic(2) @ Blur(crooked(2, 3), shape=(1, 4, 6)),
    "sum": lambda: Identity() + Blur(crooked(3, 2), shape=(1, 4, 4)),
    "difference": lambda: Blur(crooked(3, 2), shape=(1, 4, 4)) - 0.1 * Identity(),
    "scaled": lambda: -2.5 * Blur.gaussian(0.6, shape=(1, 4, 5)),
    "scaled-isometry": lambda: 3 * Downsample.area(2, shape=(1, 4, 4)),
    "scaled-thin": lambda: -0.5 * Downsample.bicubic(2, shape=(2, 6, 4)),
    "stack": lambda: stack(Downsample.area(2, shape=(3, 4, 4)), Grayscale(), Identity()),
    "adjoint": lambda: Blur(crooked(3, 4), "replicate", shape=(1, 5, 6)).H,
    "adjoint-area": lambda: Downsample.area(2, shape=(2, 4, 4)).H,
}
