"""The classical methods, each with a weight that was tuned on other subjects: shares of the squared norm of the operator.

The weights are those that ``python -m benchmarks.volumes tune tv``, ``tune wavelet`` and ``tune cg`` find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from benchmarks.volumes.problems import Problem
from inverse.operators.base import LinearOperator
from medical.classical import ADMMTV, FBP, CGSense, L1Wavelet, ZeroFilled, spectral_norm
from medical.transmission import Weighted

__all__ = ["CG_SHARE", "TV_SHARE", "WAVELET_SHARE", "Answer", "Method", "ct_baselines", "mr_baselines", "total_variation"]

TV_SHARE = {
    "8 views": 1.1e-3,
    "4 views": 1.6e-3,
    "limited angle, 90 degrees": 3.2e-4,
    "8 views, 1e5 photons": 6e-4,  # the best of three tried: the search is not finished
}

WAVELET_SHARE = {"4x": 4e-4, "8x": 4e-4}  # 4x the best of two tried, 8x the same: the searches are not finished

CG_SHARE = {"4x": 2.5e-3, "8x": 1.1e-3}

TV = ADMMTV(iterations=600, tolerance=2e-4, bounds=(0.0, float("inf")))
WAVELET = L1Wavelet(iterations=400, tolerance=2e-4)
CG = CGSense(iterations=100)


@dataclass(frozen=True, eq=False)
class Answer:
    """Slices (D, 1, H, W), network calls a slice, and what the method was set to and did."""

    estimate: Tensor
    calls: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)


Method = Callable[[Problem], Answer]


def filtered(problem: Problem) -> Answer:
    """Filtered back-projection, the plain ramp."""
    return Answer(FBP().reconstruct(problem.A, problem.y).estimate)


def total_variation(problem: Problem, share: float, method: ADMMTV = TV) -> Answer:
    """3D total variation on the whole volume, not negative, weighted least squares where the noise varies, run to convergence.

    The differences are per length: voxels have unequal sides.
    """
    A, y = _weighted(problem)
    settings = {"weight": share * float(spectral_norm(A, A.adjoint(y)).square().max())}
    out = _with(method, **settings).reconstruct(A, y)
    record = {"share": share, **settings, "iterations": out.iterations, "converged": out.converged}
    return Answer(out.estimate[0, 0][:, None], settings=record)


def zero_filled(problem: Problem) -> Answer:
    """The adjoint."""
    return Answer(ZeroFilled().reconstruct(problem.A, problem.y).estimate)


def cg_sense(problem: Problem, share: float, method: CGSense = CG) -> Answer:
    """Least squares with a little of ``|x|^2``."""
    return _iterated(method, problem, share)


def wavelet(problem: Problem, share: float, method: L1Wavelet = WAVELET) -> Answer:
    """Sparse in wavelets, slice by slice."""
    return _iterated(method, problem, share)


def ct_baselines(task: str) -> dict[str, Method]:
    """By name, in the order of the table."""
    return {"FBP": filtered, "3D ADMM-TV": lambda problem: total_variation(problem, TV_SHARE[task])}


def mr_baselines(task: str) -> dict[str, Method]:
    """By name, in the order of the table."""
    return {
        "zero-filled": zero_filled,
        "CG-SENSE": lambda problem: cg_sense(problem, CG_SHARE[task]),
        "L1-wavelet": lambda problem: wavelet(problem, WAVELET_SHARE[task]),
    }


def _iterated(method: CGSense | L1Wavelet, problem: Problem, share: float) -> Answer:
    A, y = problem.A, problem.y
    weight = share * float(spectral_norm(A, A.adjoint(y[:1])).square().max())
    out = _with(method, weight=weight).reconstruct(A, y)
    record = {"share": share, "weight": weight, "iterations": out.iterations, "converged": out.converged}
    return Answer(out.estimate, settings=record)


def _with(method: ADMMTV | CGSense | L1Wavelet, *, weight: float) -> ADMMTV | CGSense | L1Wavelet:
    return replace(method, weight=weight)


def _weighted(problem: Problem) -> tuple[LinearOperator, Tensor]:
    """The operator of the volume and its data, in units of the noise where that differs from ray to ray."""
    A, y = problem.volume, problem.data
    if A is None or y is None:
        raise ValueError(f"problem must have an operator of the volume for 3D total variation; {problem.task!r} has none")
    std = A.noise.std(y)
    if std.numel() == 1:
        return A, y
    B = Weighted(A, std.pow(-2))
    return B, B.measurement(y)
