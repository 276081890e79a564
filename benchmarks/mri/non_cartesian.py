"""Non-Cartesian encoding of eight coils: errors against exact sums in float64, and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.mri.measured import OURS, Measured, installed, relative, take_turns
from benchmarks.mri.scene import birdcage, head
from medical.operators import NUFFT
from medical.sampling import pipe_menon_density, radial

__all__ = ["Setting", "density", "encoding", "exact_adjoint", "exact_forward", "normal_operator"]

SUBSET = 400  # points, or pixels, summed exactly
SECONDS, TOEPLITZ_SECONDS, ERROR, TOEPLITZ_ERROR = 1.0, 0.2, 1e-5, 1e-4  # aims

Method = Callable[[], Tensor]


class Setting:
    """Coils, a radial trajectory (K, 2) in rad/pixel, an image and data, random, in complex64; seed 0."""

    def __init__(self, size: int = 256, coils: int = 8, spokes: int = 200, samples: int = 512) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shape, self.spokes = (size, size), spokes
        self.k = radial(spokes, samples)
        self.S = birdcage(coils, self.shape).to(torch.complex64)
        self.x = torch.randn(1, 1, *self.shape, dtype=torch.complex64, generator=generator)
        self.y = torch.randn(1, coils, len(self.k), dtype=torch.complex64, generator=generator)
        self.points = torch.randperm(len(self.k), generator=generator)[:SUBSET]
        self.pixels = torch.randperm(size * size, generator=generator)[: SUBSET // 2]
        self.name = f"{coils} x {size} x {size}, {len(self.k)} points"
        self.scale = math.sqrt(size * size)

    def encoder(self) -> NUFFT:
        """Ours."""
        return NUFFT(self.k, self.shape, maps=self.S)


def exact_forward(x: Tensor, k: Tensor) -> Tensor:
    """``(N_1 N_2)^(-1/2) sum_r x[r] exp(-i k_j . r)``, complex128: images (C, H, W) at points (K, 2) to (C, K)."""
    rows, columns = (_phases(k[:, d], n, -1) for d, n in enumerate(x.shape[-2:]))
    sums = torch.einsum("jr,crs,js->cj", rows, x.to(torch.complex128), columns)
    return sums / math.sqrt(x.shape[-2] * x.shape[-1])


def exact_adjoint(y: Tensor, k: Tensor, shape: tuple[int, int], pixels: Tensor) -> Tensor:
    """``(N_1 N_2)^(-1/2) sum_j y_j exp(i k_j . r)``, complex128: data (C, K) to (C, P), at ``pixels`` of the flat image."""
    out = []
    for block in pixels.split(32):
        r = torch.stack([block // shape[1] - shape[0] // 2, block % shape[1] - shape[1] // 2]).double()
        phase = k @ r
        out.append(y.to(torch.complex128) @ torch.polar(torch.ones_like(phase), phase))
    return torch.cat(out, 1) / math.sqrt(math.prod(shape))


def encoding(s: Setting, budget: float) -> list[Measured]:
    """Forward and adjoint; the error is that against exact sums at a random subset of points or pixels."""
    forward = exact_forward(s.S * s.x[0], s.k[s.points])
    flat = s.S.flatten(1)[:, s.pixels].to(torch.complex128)
    backward = (flat.conj() * exact_adjoint(s.y[0], s.k, s.shape, s.pixels)).sum(0)
    A = s.encoder()
    there: dict[str, Method] = {f"{OURS}, finufft": lambda: A(s.x)[0]}
    back: dict[str, Method] = {f"{OURS}, finufft": lambda: A.adjoint(s.y)[0, 0]}
    B = NUFFT(s.k, s.shape, maps=s.S, backend="torch")
    there[f"{OURS}, torch"], back[f"{OURS}, torch"] = lambda: B(s.x)[0], lambda: B.adjoint(s.y)[0, 0]
    for add in (_sigpy, _torchkbnufft):
        for name, methods in add(s).items():
            there[name], back[name] = methods
    rows = []
    for method, calls in (("forward", there), ("adjoint", back)):
        seconds = take_turns(calls, budget)
        for name, call in calls.items():
            out = call()
            error = relative(out[:, s.points], forward) if method == "forward" else relative(out.flatten()[s.pixels], backward)
            rows.append(Measured(s.name, method, name, seconds[name], error))
    return [_judged(row, rows) for row in rows]


def _judged(row: Measured, rows: list[Measured]) -> Measured:
    """With the aims of our default that it missed."""
    if row.library != f"{OURS}, finufft" or row.error is None:
        return row
    peers = [r for r in rows if r.method == row.method and not r.library.startswith(OURS)]
    missed = [
        *([f"error below {ERROR:g}"] if row.error > ERROR else []),
        *([f"{SECONDS:g} s"] if row.seconds > SECONDS else []),
        *([f"faster than {r.library}" for r in peers if r.seconds <= row.seconds]),
    ]
    return replace(row, missed="; ".join(missed))


def _sigpy(s: Setting) -> dict[str, tuple[Method, Method]]:
    """Its default, oversampling 1.25 and width 4, and the settings for our accuracy; coordinates in grid units."""
    if "sigpy" not in installed():
        return {}
    import sigpy

    coordinates = (s.k * torch.tensor(s.shape) / (2 * math.pi)).numpy()
    S, x, y = s.S.numpy(), s.x[0, 0].numpy(), s.y[0].numpy()

    def methods(**settings: Any) -> tuple[Method, Method]:
        def there() -> Tensor:
            return torch.from_numpy(sigpy.nufft(S * x, coordinates, **settings))

        def back() -> Tensor:
            images = sigpy.nufft_adjoint(y, coordinates, oshape=S.shape, **settings)
            return torch.from_numpy((S.conj() * images).sum(0))

        return there, back

    return {"sigpy": methods(), "sigpy, 2 and 6": methods(oversamp=2, width=6)}


def _torchkbnufft(s: Setting) -> dict[str, tuple[Method, Method]]:
    """Its default, not normalised: sqrt(N1 N2) times ours."""
    if "torchkbnufft" not in installed():
        return {}
    import torchkbnufft

    forward, adjoint = torchkbnufft.KbNufft(im_size=s.shape), torchkbnufft.KbNufftAdjoint(im_size=s.shape)
    omega, S = s.k.T.float().contiguous(), s.S[None]
    return {
        "torchkbnufft": (
            lambda: forward(s.x, omega, smaps=S)[0] / s.scale,
            lambda: adjoint(s.y, omega, smaps=S)[0, 0] / s.scale,
        )
    }


def normal_operator(s: Setting, budget: float) -> list[Measured]:
    """``A^H A`` by Toeplitz embedding; the error is that against adjoint after forward in float64."""
    precise = NUFFT(s.k, s.shape, maps=s.S.to(torch.complex128))
    x = s.x.to(torch.complex128)
    truth = precise.adjoint(precise(x))
    A = s.encoder()
    calls: dict[str, Method] = {f"{OURS}, Toeplitz": lambda: A.normal(s.x), f"{OURS}, both": lambda: A.adjoint(A(s.x))}
    if "torchkbnufft" in installed():
        import torchkbnufft

        omega, S, operator = s.k.T.float().contiguous(), s.S[None], torchkbnufft.ToepNufft()
        kernel = torchkbnufft.calc_toeplitz_kernel(omega, im_size=s.shape)
        calls["torchkbnufft, Toeplitz"] = lambda: operator(s.x, kernel, smaps=S) / s.scale**2
    seconds = take_turns(calls, budget)
    rows = []
    for name, call in calls.items():
        error, missed = relative(call(), truth), []
        if name == f"{OURS}, Toeplitz":
            missed = [f"{TOEPLITZ_SECONDS:g} s"] if seconds[name] > TOEPLITZ_SECONDS else []
            missed += [f"error below {TOEPLITZ_ERROR:g}"] if error > TOEPLITZ_ERROR else []
        rows.append(Measured(s.name, "normal", name, seconds[name], error, "; ".join(missed)))
    return rows


def density(s: Setting, budget: float, *, iterations: int = 15) -> list[Measured]:
    """Pipe-Menon weights; the error is that of the weighted adjoint image of a head, at its best scale, to 0.9 of pi."""
    calls: dict[str, Method] = {OURS: lambda: pipe_menon_density(s.k, s.shape, iterations=iterations)}
    if "torchkbnufft" in installed():
        import torchkbnufft

        omega = s.k.T.float().contiguous()
        calls["torchkbnufft"] = lambda: torchkbnufft.calc_density_compensation_function(
            omega, s.shape, num_iterations=iterations
        )[0, 0].real.double()
    seconds = take_turns(calls, budget)
    A, x = NUFFT(s.k, s.shape), head(s.shape)[None, None]
    y = A(x)
    method, rows = f"Pipe-Menon, {iterations} iterations", []
    for name, call in calls.items():
        image = A.adjoint(call() * y)
        best = (image.conj() * x).sum() / image.abs().square().sum()
        missed = "faster than torchkbnufft" if name == OURS and seconds[name] > min(seconds.values()) else ""
        rows.append(Measured(s.name, method, name, seconds[name], relative(best * image, x), missed))
    return rows


def _phases(k: Tensor, n: int, sign: int) -> Tensor:
    """``exp(sign i k r)`` at the n pixels of a side, (K, n)."""
    angle = sign * k[:, None] * (torch.arange(n, dtype=torch.float64) - n // 2)
    return torch.polar(torch.ones_like(angle), angle)
