"""Forward, adjoint, pseudo-inverse and proximal map of each operator, ours and deepinv's, on the same image."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import side_by_side
from inverse.operators import Blur, Downsample, Fourier, Grayscale, Hadamard, Identity, Inpaint, LinearOperator, VaryingBlur
from inverse.operators.kernels import gaussian_kernel

__all__ = ["PAIRS", "Measured", "Pair", "compare"]

SHAPE = (3, 256, 256)
RHO = 0.1  # of the proximal map
AIMS = {"blur 61 taps": 15.0, "bicubic x4": 15.0}
"""How much faster than deepinv's default we mean to be; 1 where nothing else is said."""


@dataclass(frozen=True)
class Pair:
    """One measurement in both libraries; ``same`` where both define exactly the same map."""

    name: str
    ours: Callable[[], LinearOperator]
    theirs: Callable[[], Any]
    same: bool = True
    complex_pairs: bool = False


@dataclass(frozen=True)
class Measured:
    """Seconds of one method on one image, ours and theirs; ``error`` is each one's own defect, relative.

    For forward and adjoint the defect is of the adjoint, for pinv of the normal equations, for prox of its equation.
    """

    operator: str
    method: str
    ours: float
    theirs: float
    our_error: float
    their_error: float
    difference: float | None
    aim: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs / self.ours


def _physics() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepinv import physics
    return physics


def _kernel(sigma: float, taps: int) -> Tensor:
    kernel = gaussian_kernel(sigma).float()
    margin = (taps - kernel.shape[0]) // 2
    return torch.nn.functional.pad(kernel, (margin,) * 4)


def _mask() -> Tensor:
    return (torch.rand(1, *SHAPE[1:], generator=torch.Generator().manual_seed(0)) > 0.5).float()


def _motion() -> Tensor:
    return Blur.motion(61, 0.5, seed=3).kernel


def _box(n: int) -> Tensor:
    return torch.full((1, 1, n, n), 1 / n**2)


def _varying() -> VaryingBlur:
    """Sixteen Gaussians of 25 x 25 taps on a grid, 0.8 to 2.9 pixels wide."""
    kernels = torch.stack([_kernel(0.8 + 0.2 * k, 25) if k < 11 else _kernel(2.9, 25) for k in range(16)])
    return VaryingBlur.grid(kernels.view(4, 4, 25, 25), SHAPE, "circular")


def _their_varying() -> Any:
    ours = _varying()
    filters, weights = ours.kernels[None, None], ours.weights[None, None]
    return _physics().SpaceVaryingBlur(filters, weights, padding="circular", use_fft=True, mask_first=False)


def _pairs() -> tuple[Pair, ...]:
    def p(name: str, *args: Any, **kwargs: Any) -> Callable[[], Any]:
        return lambda: getattr(_physics(), name)(*args, **kwargs)

    gauss, motion = _kernel(3.0, 61), _motion()
    return (
        Pair("denoising", Identity, p("Denoising")),
        Pair("inpainting 50 %", lambda: Inpaint(_mask()), p("Inpainting", SHAPE, mask=_mask().expand(SHAPE))),
        Pair("blur 61 taps", lambda: Blur(gauss, "reflect"), p("Blur", gauss[None, None], padding="reflect")),
        Pair(
            "blur 61 taps, against use_fft=True",
            lambda: Blur(gauss, "reflect"),
            p("Blur", gauss[None, None], padding="reflect", use_fft=True),
        ),
        Pair("motion blur 61 taps", lambda: Blur(motion, "reflect"), p("Blur", motion[None, None], padding="reflect")),
        Pair("FFT blur", lambda: Blur(gauss, "circular"), p("BlurFFT", SHAPE, gauss[None, None])),
        Pair("varying blur, 16 x 25 taps", _varying, _their_varying),
        Pair("bicubic x4", lambda: Downsample.bicubic(4), p("DownsamplingMatlab", factor=4)),
        Pair("block mean x4", lambda: Downsample.area(4), p("Downsampling", SHAPE, filter=_box(4), factor=4), same=False),
        Pair("grey", Grayscale, p("Decolorize", channels=3), same=False),
        Pair(
            "Hadamard 25 %",
            lambda: Hadamard.random(SHAPE, 0.25, seed=0),
            p("SinglePixelCamera", SHAPE[1] * SHAPE[2] // 4, SHAPE, fast=True),
            same=False,
        ),
        Pair(
            "Fourier 25 %",
            lambda: Fourier.random(SHAPE, 0.25, seed=0),
            p("MRI", mask=_fourier_mask(), img_size=(2, *SHAPE[1:])),
            same=False,
            complex_pairs=True,
        ),
    )


def _fourier_mask() -> Tensor:
    return (torch.rand(1, *SHAPE[1:], generator=torch.Generator().manual_seed(0)) < 0.25).float()


PAIRS = _pairs()


def compare(pair: Pair, budget: float) -> list[Measured]:
    """The four methods of one pair."""
    A, physics = pair.ours(), pair.theirs()
    generator = torch.Generator().manual_seed(1)
    truth, x = torch.rand(1, *SHAPE, generator=generator), torch.rand(1, *SHAPE, generator=generator)
    # deepinv's MRI takes one complex image as two channels: three of them are one colour image of ours
    pairs = [torch.stack([t[0], torch.zeros_like(t[0])], 1) if pair.complex_pairs else t for t in (truth, x)]
    z = pairs[1]
    y, w = A(truth), physics.A(pairs[0])
    rows = []
    for name, ours, theirs in _methods(A, physics, x, z, y, w):
        with torch.no_grad():
            a, b = ours(), theirs()
            seconds = side_by_side((ours, theirs), budget=budget)
        difference = float((a - b).norm() / b.norm()) if pair.same else None
        errors = _defect(name, A, A.adjoint, x, y, a), _defect(name, physics.A, physics.A_adjoint, z, w, b)
        rows.append(Measured(pair.name, name, *seconds, *errors, difference, AIMS.get(pair.name, 1.0)))
    return rows


def _methods(
    A: LinearOperator, physics: Any, x: Tensor, z: Tensor, y: Tensor, w: Tensor
) -> list[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    return [
        ("forward", lambda: A(x), lambda: physics.A(z)),
        ("adjoint", lambda: A.adjoint(y), lambda: physics.A_adjoint(w)),
        ("pinv", lambda: A.pinv(y), lambda: physics.A_dagger(w)),
        ("prox", lambda: A.prox(x, y, RHO), lambda: physics.prox_l2(z, w, 1 / RHO)),
    ]


def _defect(method: str, A: Callable, adjoint: Callable, x: Tensor, y: Tensor, out: Tensor) -> float:
    with torch.no_grad():
        if method in ("forward", "adjoint"):
            generator = torch.Generator().manual_seed(2)
            u, v = torch.randn(x.shape, generator=generator), torch.randn(y.shape, generator=generator)
            Au, Atv = A(u), adjoint(v)
            return float(((Au * v).sum() - (u * Atv).sum()).abs() / (Au.norm() * v.norm()))
        if method == "pinv":
            return float(adjoint(A(out) - y).norm() / adjoint(y).norm())
        b = adjoint(y) + RHO * x
        return float((adjoint(A(out)) + RHO * out - b).norm() / b.norm())
