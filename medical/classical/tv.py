"""Total variation, isotropic, of pictures and volumes, real and complex, and its proximal map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medical.classical.data_term import size
from medical.classical.differences import Spacing, divergence, gradient, gradient_bound, magnitude, scales
from medical.classical.inputs import Bounds, check_bounds

__all__ = ["TotalVariation", "channels_of", "image_of", "total_variation", "tv_denoise"]


def channels_of(x: Tensor) -> Tensor:
    """``x`` as real numbers: real and imaginary part of complex images become channels, (B, C, ...) to (B, 2 C, ...)."""
    return torch.view_as_real(x).movedim(-1, 2).flatten(1, 2).contiguous() if x.is_complex() else x


def image_of(channels: Tensor, like: Tensor) -> Tensor:
    """Back from ``channels_of`` to what ``like`` is."""
    if not like.is_complex():
        return channels
    return torch.view_as_complex(channels.unflatten(1, (-1, 2)).movedim(2, -1).contiguous())


@torch.no_grad()
def total_variation(x: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """``TV(x) = sum_pixels sqrt(sum_d |D_d x|^2)``, (B, C, H, W) or (B, C, D, H, W) to (B,).

    Isotropic (Rudin, Osher & Fatemi 1992), with forward differences, zero at the far edges; channels (maps, real and
    imaginary part) are coupled. With voxels of unequal sides ``spacing`` (last axis last) differences are taken per length,
    in units of the shortest side.
    """
    c = channels_of(x)
    return magnitude(gradient(c, scales(spacing, x.ndim - 2))).flatten(1).sum(1)


@torch.no_grad()
def tv_denoise(
    x: Tensor,
    weight: float,
    *,
    spacing: Sequence[float] | None = None,
    bounds: Bounds | None = None,
    iterations: int = 200,
    tolerance: float = 1e-5,
) -> Tensor:
    """``argmin_u |u - x|^2 / 2 + weight TV(u)`` with ``bounds[0] <= u <= bounds[1]``: the proximal map of the constrained TV.

    Stops where an iteration changes the image by less than ``tolerance`` of its norm, for all of the batch.
    """
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight must be finite and not negative, got {weight}")
    check_bounds(bounds)
    if bounds is not None and x.is_complex():
        raise ValueError(f"bounds {bounds} order real numbers, but x is complex; leave bounds out")
    tv = TotalVariation(scales(spacing, x.ndim - 2), bounds)
    return tv.prox(x, weight, None, iterations, tolerance)[0]


@dataclass(frozen=True)
class TotalVariation:
    """TV with its constraint: ``scale`` of the differences along every axis, as :func:`scales` gives, and ``bounds``."""

    scale: Spacing
    bounds: Bounds | None = None

    def value(self, x: Tensor) -> Tensor:
        """``TV(x)``, (B,)."""
        return magnitude(gradient(channels_of(x), self.scale)).flatten(1).sum(1)

    def project(self, x: Tensor) -> Tensor:
        """The nearest image within the bounds; ``x`` itself is changed."""
        return x if self.bounds is None else x.clamp_(*self.bounds)

    def prox(
        self, x: Tensor, weight: float | Tensor, dual: Tensor | None, iterations: int, tolerance: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """``argmin_u |u - x|^2 / 2 + weight TV(u)`` within the bounds, and the dual variable to start the next one from.

        Fast gradient projection, Beck & Teboulle 2009 (IEEE Trans. Image Processing 18, 2419), on the dual problem::

            u(q) = P_C(x - D^H q),    |q| <= weight,    q <- P(r + D u(r) / |D|^2)

        from points r that run ahead as Nesterov's do. ``weight`` is a number or (B, 1, ..., 1); ``dual`` is changed in place.
        """
        c = channels_of(x)
        q = c.new_zeros(len(self.scale), *c.shape) if dual is None else dual
        limit = torch.as_tensor(weight, dtype=c.dtype, device=c.device)
        step, r, t = 1 / gradient_bound(self.scale), q.clone(), 1.0
        u, g = torch.empty_like(c), torch.zeros_like(q)
        before: Tensor | None = None
        for _ in range(iterations):
            self._image(c, r, u)
            if before is not None and bool((size(u - before) <= tolerance * size(u)).all()):
                break
            before = u.clone() if tolerance > 0 else None
            gradient(u, self.scale, out=g)
            r.add_(g, alpha=step)  # now the point before its projection
            m = magnitude(r).clamp_(min=torch.finfo(c.dtype).tiny)
            r.mul_(torch.div(limit, m, out=m).clamp_(max=1))
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            q.sub_(r).mul_(-(t - 1) / t_next).add_(r)  # r + (t - 1) / t_next (r - q)
            q, r, t = r, q, t_next
        return image_of(self._image(c, q, u), x), q

    def _image(self, c: Tensor, q: Tensor, out: Tensor) -> Tensor:
        divergence(q, self.scale, out=out)
        return self.project(torch.sub(c, out, out=out))
