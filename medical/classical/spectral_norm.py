"""The norm of an operator, from which step lengths follow: by a few Lanczos steps, worked out once for each operator."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.solve import inner

__all__ = ["spectral_norm"]


@dataclass(frozen=True, eq=False)
class _Known:
    """A norm, and the tensors of the operator that it was worked out for, as they were then."""

    norm: Tensor
    tensors: tuple[tuple[ref[Tensor], int], ...]

    def holds(self, A: LinearOperator) -> bool:
        now = _tensors(A)
        return len(now) == len(self.tensors) and all(
            old() is t and version == _version(t) for (old, version), t in zip(self.tensors, now, strict=True)
        )


_KNOWN: WeakKeyDictionary[LinearOperator, dict[tuple[object, ...], _Known]] = WeakKeyDictionary()


@torch.no_grad()
def spectral_norm(A: LinearOperator, like: Tensor, *, iterations: int = 20, seed: int = 0) -> Tensor:
    """An upper estimate of ``|A|``, the largest singular value, within about a percent, in the precision of ``like``.

    Lanczos 1950 on ``A^H A`` from a random image: the largest Ritz value plus the norm of its residual,
    ``theta + beta |s_k|`` (Parlett 1998, section 13.2), which gradient steps ``1 / |A|^2`` can trust. Exact where the operator
    is a scaled partial isometry.

    Parameters
    ----------
    like: a batch of images of the domain, (B, ...), whose type and device are used.
    iterations: k, applications of ``A^H A``; what was found is kept as long as the operator lives unchanged.

    Returns a tensor that multiplies images: of one member, or of B where the operator has a mask for every batch member.
    """
    if A.isometry is not None:
        return torch.full((1,) * like.ndim, A.isometry**0.5, dtype=like.real.dtype, device=like.device)
    x = like[:1]
    try:
        A.check_input(x)
    except ValueError:  # it has a mask for every member, and takes them all or none
        x = like
    key = (tuple(x.shape), x.dtype, x.device, iterations, seed)
    known = _KNOWN.setdefault(A, {})
    if key not in known or not known[key].holds(A):
        known[key] = _Known(_lanczos(A, x, iterations, seed), tuple((ref(t), _version(t)) for t in _tensors(A)))
    return known[key].norm


def _tensors(A: LinearOperator) -> tuple[Tensor, ...]:
    return (*A.parameters(), *A.buffers())


def _version(t: Tensor) -> int:
    """How often ``t`` was written to; tensors of inference mode do not count, and cannot be written to outside of it."""
    return 0 if t.is_inference() else t._version


def _lanczos(A: LinearOperator, like: Tensor, iterations: int, seed: int) -> Tensor:
    one = torch.randn(like.shape[1:], dtype=like.dtype, generator=torch.Generator().manual_seed(seed))
    v = one.to(like.device).expand_as(like)
    v = v / inner(v, v).real.sqrt()
    before, b = torch.zeros_like(v), torch.zeros_like(inner(v, v).real)
    alphas, betas = [], []
    floor = torch.finfo(b.dtype).eps
    for _ in range(iterations):
        w = A.normal(v) - b * before
        a = inner(v, w).real
        w = w - a * v
        b = inner(w, w).real.sqrt()
        alphas.append(a.flatten(1).double())
        betas.append(b.flatten(1).double())
        if not bool((b > floor * a.abs()).any()):  # an invariant subspace: nothing is left to find
            break
        before, v = v, w / b.clamp(min=torch.finfo(b.dtype).tiny)
    diagonal, off = torch.cat(alphas, 1), torch.cat(betas, 1)
    T = torch.diag_embed(diagonal) + torch.diag_embed(off[:, :-1], 1) + torch.diag_embed(off[:, :-1], -1)
    values, vectors = torch.linalg.eigh(T)
    upper = values[:, -1] + off[:, -1] * vectors[:, -1, -1].abs()
    return upper.clamp(min=0).sqrt().view(-1, *[1] * (like.ndim - 1)).to(like.real.dtype)
