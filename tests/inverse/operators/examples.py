"""One small example of every linear operator, by name; the contract tests run over all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from inverse.operators import Blur, Downsample, Grayscale, Identity, Inpaint, LinearOperator, Sample, Separable, ddrm, stack
from inverse.operators.boundary import BOUNDARIES

__all__ = ["OPERATORS", "crooked"]


def crooked(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """A kernel without any symmetry and of full rank."""
    return torch.rand(h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / (h * w)


def _mask(C: int, H: int, W: int) -> torch.Tensor:
    return (torch.rand(C, H, W, generator=torch.Generator().manual_seed(1)) > 0.4).float()


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "identity": lambda: Identity((2, 3, 4)),
    "inpaint": lambda: Inpaint(_mask(2, 4, 3)),
    "inpaint-random": lambda: Inpaint.random((2, 4, 5), 0.3, seed=2),
    "inpaint-box": lambda: Inpaint.box((2, 5, 4), (1, 1, 2, 3)),
    "sample": lambda: Sample(_mask(2, 4, 3)),
    "area": lambda: Downsample.area(2, shape=(2, 6, 4)),
    "area-odd": lambda: Downsample.area(3, shape=(1, 6, 3)),
    "bicubic": lambda: Downsample.bicubic(2, shape=(2, 6, 4)),
    "bicubic-odd": lambda: Downsample.bicubic(3, shape=(1, 9, 6)),
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
    "composed": lambda: Inpaint(_mask(1, 3, 3)) @ Downsample.area(2, shape=(2, 6, 6)),
    "composed-blur": lambda: Downsample.bicubic(2) @ Blur(crooked(2, 3), shape=(1, 4, 6)),
    "sum": lambda: Identity() + Blur(crooked(3, 2), shape=(1, 4, 4)),
    "difference": lambda: Blur(crooked(3, 2), shape=(1, 4, 4)) - 0.1 * Identity(),
    "scaled": lambda: -2.5 * Blur.gaussian(0.6, shape=(1, 4, 5)),
    "scaled-isometry": lambda: 3 * Downsample.area(2, shape=(1, 4, 4)),
    "stack": lambda: stack(Downsample.area(2, shape=(3, 4, 4)), Grayscale(), Identity()),
    "adjoint": lambda: Blur(crooked(3, 4), "replicate", shape=(1, 5, 6)).H,
    "adjoint-area": lambda: Downsample.area(2, shape=(2, 4, 4)).H,
}
