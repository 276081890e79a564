"""What was done before learned priors: total variation and bicubic interpolation, to hold reconstructions against.

Both are meant to be beaten fairly: total variation couples the colour channels, is solved until it no longer changes, and
its one parameter can be tuned on other photographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from inverse.golden_section import golden_section
from inverse.metrics import psnr
from inverse.operators.base import LinearOperator
from inverse.operators.resize import resize

__all__ = ["bicubic_upscale", "total_variation", "tune_tv_weight", "tv_reconstruct"]

GRADIENT_BOUND = 8.0  # of |grad|^2, the squared norm of the differences in two dimensions
PRIMAL_STEP = 0.035  # about how far a pixel has to travel, 0.1, against its dual variable, 1: 0.1 / sqrt(GRADIENT_BOUND)
CHECK_EVERY = 10  # iterations between two tests of convergence


def total_variation(x: Tensor) -> Tensor:
    """``sum_pixels sqrt(sum_channels |grad x|^2)``, isotropic, the channels coupled; (B, C, H, W) to (B,).

    Forward differences, zero at the far edges. Coupled channels share their edges (Blomgren & Chan 1998); for a grey image
    it is the total variation of Rudin, Osher & Fatemi 1992.
    """
    return _gradient(x).square().sum((1, 2)).sqrt().sum((1, 2))


def tv_reconstruct(
    A: LinearOperator, y: Tensor, weight: float, *, iterations: int = 500, tolerance: float = 5e-5, start: Tensor | None = None
) -> Tensor:
    """``argmin_x |A x - y|^2 / 2 + weight TV(x)``; with ``weight`` 0, the least TV among all x with ``A x = y``.

    The primal-dual method of Chambolle & Pock 2011 (algorithm 1, over-relaxed as Condat 2013), whose data step is ``A.prox``:
    no step shortens for an ill-conditioned operator, and the dual variable goes on from one iteration to the next.

    Parameters
    ----------
    y: the measurement (B, ...) of images (B, C, H, W) in [0, 1].
    iterations: at most so many; tolerance: stops where the root mean square change of an iteration is less.
    start: first image, (B, C, H, W); by default the one that ``A.prox`` makes of a grey image.
    """
    _check(A, y, weight, iterations)
    tau, sigma, relaxation = PRIMAL_STEP, 1 / (GRADIENT_BOUND * PRIMAL_STEP), 1.8
    with torch.no_grad():
        x = A.prox(torch.full_like(A.adjoint(y), 0.5), y, 1e-3) if start is None else start
        u = torch.zeros_like(_gradient(x))
        for iteration in range(iterations):
            x_next = _data_step(A, y, x - tau * _divergence(u), weight / tau)
            v = u + sigma * _gradient(2 * x_next - x)
            v = v / v.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1)
            step = x_next - x
            x, u = x + relaxation * step, u + relaxation * (v - u)
            if iteration % CHECK_EVERY == 0 and float(step.square().mean().sqrt()) < tolerance:
                break
        return x_next


def _data_step(A: LinearOperator, y: Tensor, x: Tensor, rho: float) -> Tensor:
    return A.prox(x, y, rho) if rho > 0 else x + A.pinv(y - A(x))


def _gradient(x: Tensor) -> Tensor:
    """Forward differences (B, C, 2, H, W): down, then right; zero at the far edges."""
    g = x.new_zeros(*x.shape[:2], 2, *x.shape[2:])
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=g[:, :, 0, :-1, :])
    torch.sub(x[..., :, 1:], x[..., :, :-1], out=g[:, :, 1, :, :-1])
    return g


def _divergence(u: Tensor) -> Tensor:
    """The adjoint of ``_gradient``, which is minus the divergence."""
    down, right = u[:, :, 0, :-1, :], u[:, :, 1, :, :-1]
    x = torch.zeros_like(u[:, :, 0])
    x[..., 1:, :] += down
    x[..., :-1, :] -= down
    x[..., :, 1:] += right
    x[..., :, :-1] -= right
    return x


def _check(A: LinearOperator, y: Tensor, weight: float, iterations: int) -> None:
    if not isinstance(A, LinearOperator):
        raise TypeError(f"total variation needs a linear operator, got {A!r}")
    A.check_output(y)
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight must be finite and not negative, got {weight}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")


def tune_tv_weight(
    A: LinearOperator,
    images: Sequence[Tensor],
    *,
    bounds: tuple[float, float] = (1e-4, 1e-1),
    evaluations: int = 10,
    seed: int = 0,
) -> float:
    """The ``weight`` of :func:`tv_reconstruct` with the best mean PSNR over ``images``, each measured by ``A`` with its noise.

    By golden section in the logarithm of the weight, within ``bounds``; images (B, C, H, W) in [0, 1].
    """
    low, high = bounds
    if not 0 < low < high:
        raise ValueError(f"bounds must be 0 < low < high, got {bounds}")
    if not images or evaluations < 2:
        raise ValueError(f"images must hold at least one and evaluations be at least 2, got {len(images)} and {evaluations}")
    measured = [A.measure(image, seed=seed + i) for i, image in enumerate(images)]

    def quality(log_weight: float) -> float:
        restored = [tv_reconstruct(A, y, math.exp(log_weight)) for y in measured]
        return sum(float(psnr(r.clamp(0, 1), x).mean()) for r, x in zip(restored, images, strict=True))

    return math.exp(golden_section(quality, math.log(low), math.log(high), evaluations=evaluations))


def bicubic_upscale(y: Tensor, factor: int) -> Tensor:
    """``y`` (B, C, h, w) enlarged by cubic convolution (Keys 1981), pixel centres aligned: (B, C, factor h, factor w)."""
    if not isinstance(factor, int) or factor < 1:
        raise ValueError(f"factor must be a whole number, at least 1, got {factor!r}")
    if y.ndim != 4:
        raise ValueError(f"y must be a batch of images (B, C, h, w), got shape {tuple(y.shape)}")
    return resize(y, factor)
