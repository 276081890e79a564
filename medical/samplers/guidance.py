"""How far the denoised volume is from the measurement, and which way the noisy one has to move: through the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack

__all__ = ["guided"]


def guided(prior: SlicePrior, stack: Stack, x: Tensor, sigma: float, *, whole_chunks: bool = False) -> tuple[Tensor, Tensor]:
    """``eps(x)`` and ``grad_x |W (A x_0(x) - y)|`` of slices x (D, C, H, W), with ``x_0(x) = x - sigma eps(x)``.

    The norm is that of each slice, or for an operator of volumes ``sqrt(D) |.|``, whose gradient is as large in a slice as that
    of its own norm would be; with ``whole_chunks`` that of the slices of a chunk, or of the volume. An operator of volumes
    ties all slices together: their residual is worked out first and carried back through the network chunk by chunk, at two
    network calls a slice.
    """
    if stack.volumetric:
        eps = prior.eps(x, sigma)
        misfit, squares = stack.misfit(x - sigma * eps, slice(0, len(x)))
        misfit = _over_norm(misfit, squares if whole_chunks else squares / len(x))
        prior.calls += 1
        return eps, prior.run.map(lambda part: _linear(prior, x[part], sigma)[1](misfit[part]), len(x), done=prior.report)

    def both(part: slice) -> Tensor:
        eps, pull_back = _linear(prior, x[part], sigma)
        misfit, squares = stack.misfit(x[part] - sigma * eps, part)
        return torch.stack([eps, pull_back(_over_norm(misfit, squares.sum(0, keepdim=True) if whole_chunks else squares))], 1)

    prior.calls += 1
    eps, gradient = prior.run.map(both, len(x), done=prior.report).unbind(1)
    return eps, gradient


def _linear(prior: SlicePrior, x: Tensor, sigma: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``eps(x)`` of a chunk, and the map from gradients in ``x_0`` to gradients in x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        eps = prior.eps_of(x, sigma)
        x0 = x - sigma * eps
    return eps.detach(), lambda gradient: torch.autograd.grad(x0, x, gradient)[0]


def _over_norm(misfit: Tensor, squares: Tensor) -> Tensor:
    size = squares.sqrt().clamp(min=torch.finfo(torch.float32).tiny).to(misfit.real.dtype)
    return misfit / size.view(-1, *[1] * (misfit.ndim - 1))
