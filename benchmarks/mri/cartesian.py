"""Multi-coil Cartesian encoding: forward, adjoint and normal operator of the same map in every library."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.mri.measured import OURS, Measured, installed, relative, take_turns
from benchmarks.mri.scene import birdcage
from medical.operators import Sense
from medical.sampling import masks

__all__ = ["AIM", "FLOOR", "SIZES", "cartesian"]

SIZES = (256, 255, 320)
COILS = 8
AIM = 1.8  # times faster than deepinv
FLOOR = "the transforms alone"
METHODS = ("forward", "adjoint", "normal")

Method = Callable[[], Any]


def cartesian(size: int, *, coils: int = COILS, budget: float = 1.5) -> list[Measured]:
    """One size, every fourth column and 24 central ones; the error of a row is its distance from our result, relative."""
    shape, generator = (size, size), torch.Generator().manual_seed(0)
    S = birdcage(coils, shape).to(torch.complex64)
    mask = masks.equispaced(shape, 4, acs=min(24, size // 5)).expand(shape)
    x = torch.randn(1, 1, *shape, dtype=torch.complex64, generator=generator)
    y = mask * torch.randn(1, coils, *shape, dtype=torch.complex64, generator=generator)
    A = Sense(S, mask)
    libraries = {
        OURS: {"forward": lambda: A(x), "adjoint": lambda: A.adjoint(y), "normal": lambda: A.normal(x)},
        FLOOR: {
            "forward": lambda: torch.fft.fft2(y),
            "adjoint": lambda: torch.fft.ifft2(y),
            "normal": lambda: torch.fft.ifft2(torch.fft.fft2(y)),
        },
    }
    outcomes: dict[str, Callable[[Any], Tensor]] = {}
    here = installed()
    if "deepinv" in here:
        libraries["deepinv"], outcomes["deepinv"] = _deepinv(S, mask, x, y), _from_pairs
    if "sigpy" in here:
        libraries["sigpy"], outcomes["sigpy"] = _sigpy(S, mask, x, y), torch.from_numpy
    rows = []
    for method in METHODS:
        calls = {name: methods[method] for name, methods in libraries.items()}
        reference = calls[OURS]().flatten()
        seconds = take_turns(calls, budget)
        for name, call in calls.items():
            error = None if name in (OURS, FLOOR) else relative(outcomes[name](call()).flatten(), reference)
            missed = ""
            if name == OURS and "deepinv" in calls and seconds["deepinv"] < AIM * seconds[OURS]:
                missed = f"{AIM} times faster than deepinv"
            rows.append(Measured(f"{coils} x {size} x {size}", method, name, seconds[name], error, missed))
    return rows


def _deepinv(S: Tensor, mask: Tensor, x: Tensor, y: Tensor) -> dict[str, Method]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepinv.physics import MultiCoilMRI
    physics = MultiCoilMRI(mask=mask.float(), coil_maps=S[None], img_size=(2, *mask.shape))
    u, v = torch.view_as_real(x[:, 0]).movedim(-1, 1).contiguous(), torch.view_as_real(y).movedim(-1, 1).contiguous()
    return {
        "forward": lambda: physics.A(u),
        "adjoint": lambda: physics.A_adjoint(v),
        "normal": lambda: physics.A_adjoint(physics.A(u)),
    }


def _sigpy(S: Tensor, mask: Tensor, x: Tensor, y: Tensor) -> dict[str, Method]:
    from sigpy.mri.linop import Sense as Linop

    linop = Linop(S.numpy(), weights=mask.float().numpy())
    u, v = x[0, 0].numpy(), y[0].numpy()
    return {"forward": lambda: linop * u, "adjoint": lambda: linop.H * v, "normal": lambda: linop.H * (linop * u)}


def _from_pairs(out: Tensor) -> Tensor:
    return torch.view_as_complex(out.movedim(1, -1).contiguous())
