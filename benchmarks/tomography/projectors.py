"""How long forward and adjoint take a slice, ours and the peers', and how far each is from the exact line integrals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import side_by_side
from medical.geometry import Beam, ConeBeam, Detector, FanBeam, ParallelBeam, Volume, uniform
from medical.operators import Projector
from medical.phantoms import Ellipses

__all__ = ["CASES", "Case", "Measured", "adjoint_errors", "compare", "cone"]

STACK = 32  # slices of a batch


@dataclass(frozen=True)
class Case:
    """A picture, a beam, and whether deepinv has the same."""

    name: str
    volume: Volume
    beam: Beam
    parallel: bool = True


CASES = (
    Case("parallel, 256 x 256 x 180", Volume((256, 256)), ParallelBeam.uniform(180, 363)),
    Case("parallel, 512 x 512 x 720", Volume((512, 512)), ParallelBeam.uniform(720, 725)),
    Case("fan, 256 x 256 x 180", Volume((256, 256)), FanBeam.uniform(180, Detector(363, 2.0), 512.0, 512.0), parallel=False),
    Case(
        "curved fan, 256 x 256 x 180",
        Volume((256, 256)),
        FanBeam.uniform(180, Detector(363, 2.0, curved=True), 512.0, 512.0),
        parallel=False,
    ),
)


@dataclass(frozen=True)
class Measured:
    """Seconds a slice of one method of one library; ``error``: relative distance from the exact sinogram, forward only."""

    case: str
    method: str
    library: str
    seconds: float
    error: float | None = None


def compare(case: Case, budget: float) -> list[Measured]:
    """Ours one by one and in a stack, ASTRA's linear kernel, and deepinv where it has the geometry; they take turns."""
    head = Ellipses.shepp_logan(0.95 * case.volume.shape[0])
    exact = head.project(case.beam)
    x = head.rasterise(case.volume).float()[None, None]
    A = Projector(case.volume, case.beam)
    stack = x.expand(STACK, -1, -1, -1).contiguous()
    y = A(x)
    data = y.expand(STACK, -1, -1, -1).contiguous()
    forward: dict[str, Callable[[], Any]] = {"posterior": lambda: A(x), f"posterior, stack of {STACK}": lambda: A(stack)}
    adjoint: dict[str, Callable[[], Any]] = {
        "posterior": lambda: A.adjoint(y),
        f"posterior, stack of {STACK}": lambda: A.adjoint(data),
    }
    for make in (_astra, _deepinv):
        made = make(case, x)
        if made is not None:
            name, f, a = made
            forward[name], adjoint[name] = f, a
    rows = []
    for method, calls in (("forward", forward), ("adjoint", adjoint)):
        for library, seconds in zip(calls, side_by_side(list(calls.values()), budget=budget, most=15), strict=True):
            out = calls[library]() if method == "forward" and library in ("posterior", "astra") else None
            error = None if out is None else _relative(torch.as_tensor(out).reshape(exact.shape).double(), exact)
            rows.append(Measured(case.name, method, library, seconds / (STACK if "stack" in library else 1), error))
    return rows


def _relative(y: Tensor, exact: Tensor) -> float:
    return float((y - exact).norm() / exact.norm())


def _astra(case: Case, x: Tensor) -> tuple[str, Callable[[], Any], Callable[[], Any]] | None:
    """ASTRA's linear kernel on the CPU; for a fan its line kernel, the only one it has."""
    try:
        import astra
    except ImportError:
        return None
    ny, nx = case.volume.shape
    grid = astra.create_vol_geom(ny, nx)
    angles, columns, spacing = np.array(case.beam.angles), case.beam.detector.columns, case.beam.detector.pitch[1]
    if isinstance(case.beam, FanBeam):
        if case.beam.detector.curved:
            return None
        distances = (case.beam.source_distance, case.beam.detector_distance)
        beam = astra.create_proj_geom("fanflat", spacing, columns, angles, *distances)
        kernel = "line_fanflat"
    else:
        beam, kernel = astra.create_proj_geom("parallel", spacing, columns, angles), "linear"
    W = astra.OpTomo(astra.create_projector(kernel, beam, grid))
    image = x[0, 0].numpy()
    y = W.FP(image)
    return ("astra" if kernel == "linear" else "astra (line)"), lambda: W.FP(image), lambda: W.BP(y)


def _deepinv(case: Case, x: Tensor) -> tuple[str, Callable[[], Any], Callable[[], Any]] | None:
    """deepinv's projector, which turns the picture view by view."""
    if not case.parallel:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from deepinv.physics import Tomography
    except ImportError:
        return None
    views = torch.rad2deg(torch.tensor(case.beam.angles))
    physics = Tomography(views, case.volume.shape[0], normalize=False)
    with torch.no_grad():
        y = physics.A(x)
    return "deepinv", lambda: physics.A(x), lambda: physics.A_adjoint(y)


def cone(budget: float) -> list[Measured]:
    """A cone through 64^3 voxels, 64 views, on the CPU, where no peer has one."""
    volume, beam = Volume((64, 64, 64)), ConeBeam.circular(64, Detector((96, 96), 1.5), 128.0, 64.0)
    A = Projector(volume, beam)
    x = torch.rand(1, 1, *volume.shape, generator=torch.Generator().manual_seed(0))
    y = A(x)
    calls = {"forward": lambda: A(x), "adjoint": lambda: A.adjoint(y), "FDK": lambda: A.fbp(y)}
    times = side_by_side(list(calls.values()), budget=budget, most=5)
    return [Measured("cone, 64^3 x 64", method, "posterior", t) for method, t in zip(calls, times, strict=True)]


def adjoint_errors() -> dict[str, tuple[float, float]]:
    """``|<A x, y> - <x, A^T y>| / (|A x| |y|)`` of each geometry, in float32 and float64."""
    square, block = Volume((63, 50), (0.9, 1.1)), Volume((17, 24, 21))
    flat, curved = Detector((20, 41), (1.7, 1.3), (0.4, 0.3)), Detector((20, 41), (1.7, 1.3), (0.4, 0.3), curved=True)
    line, arc = Detector(95, 1.3, 0.4), Detector(95, 1.3, 0.4, curved=True)
    turn = uniform(24, 0.1, 2 * math.pi + 0.1)
    pairs: dict[str, tuple[Volume, Beam]] = {
        "parallel": (square, ParallelBeam(uniform(31), line)),
        "fan, flat": (square, FanBeam(turn, line, 90.0, 40.0)),
        "fan, curved": (square, FanBeam(turn, arc, 90.0, 40.0)),
        "parallel, volume": (block, ParallelBeam(uniform(31), flat)),
        "cone, flat": (block, ConeBeam(turn, flat, 50.0, 30.0)),
        "cone, curved": (block, ConeBeam(turn, curved, 50.0, 30.0)),
        "helix, flat": (block, ConeBeam(uniform(48, -6.0, 6.0), flat, 50.0, 30.0, 6.0)),
        "helix, curved": (block, ConeBeam(uniform(48, -6.0, 6.0), curved, 50.0, 30.0, 6.0)),
    }
    return {name: _adjoint_error(Projector(volume, beam, truncated=True)) for name, (volume, beam) in pairs.items()}


def _adjoint_error(A: Projector) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *A.domain, generator=generator, dtype=torch.float64)  # type: ignore[misc]
    y = torch.randn(1, *A.codomain, generator=generator, dtype=torch.float64)  # type: ignore[misc]

    def gap(x: Tensor, y: Tensor) -> float:
        ax, aty = A(x).double(), A.adjoint(y).double()
        return float(((ax * y).sum() - (x * aty).sum()).abs() / (ax.norm() * y.norm()))

    return gap(x.float(), y.float()), gap(x, y)
