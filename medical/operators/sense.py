r"""Cartesian MRI with several receiver coils: every coil sees the image through its sensitivity, in k-space, in part.

Pruessmann et al. 1999 (SENSE); several sets of maps as in Uecker et al. 2014 (ESPIRiT).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.noise import Noise
from medical.operators.centred import centring_phases
from medical.operators.complex_buffers import kept_complex
from medical.operators.maps import checked_maps

__all__ = ["Sense"]


CONJUGATES = ("_maps_conj", "_before_conj", "_after_conj")


class Sense(LinearOperator):
    """``y_c = M F sum_m S_mc x_m``: x (B, M, H, W), mostly M = 1; y (B, C, H, W), zero where nothing was measured.

    F is the centred unitary transform of ``centred_fft``: frequency zero at index n // 2 of the mask and of y. Images may
    be real or complex, y is complex, both in the precision of x; fastest where the maps have that precision. The adjoint
    is ``x_m = sum_c conj(S_mc) F^H M y_c``. Volumes (B, M, D, H, W) work alike, with ``dims=3``.

    The shifts of F are phases, worked out once: those of the image multiply x, those of k-space are part of the mask, so
    the data of the coils are multiplied by maps and mask, transformed, and never moved.

    Parameters
    ----------
    maps: S, the coil sensitivities, (C, H, W) or, for M sets, (M, C, H, W); with ``dims=3`` (..., D, H, W).
    mask: 1 where k-space is measured, else 0: (H, W), or what spreads to it such as (1, W); (B, 1, H, W) gives every
        batch member (slice, frame) its own; None measures everything.
    dims: the axes transformed, 2 or 3.
    legacy_fft: take ``legacy_fft``, unscaled and not centred in the image, in the place of F.
    """

    maps: Tensor
    mask: Tensor
    domain: Shape
    _before: Tensor
    _after: Tensor
    _maps_conj: Tensor
    _before_conj: Tensor
    _after_conj: Tensor

    def __init__(
        self,
        maps: Tensor,
        mask: Tensor | None = None,
        *,
        dims: int = 2,
        legacy_fft: bool = False,
        noise: Noise | None = None,
    ) -> None:
        if dims not in (2, 3):
            raise ValueError(f"dims must be 2, for maps (C, H, W), or 3, for maps (C, D, H, W), got {dims!r}")
        maps = checked_maps(maps, dims)
        super().__init__((maps.shape[0], *maps.shape[2:]), noise)
        self.dims, self.legacy_fft = dims, legacy_fft
        self.register_buffer("maps", maps)
        self.register_buffer("mask", _checked_mask(mask, tuple(maps.shape[2:])).to(maps.device))
        self._refresh()

    @classmethod
    def single(cls, shape: Shape, mask: Tensor | None = None, *, legacy_fft: bool = False, noise: Noise | None = None) -> Self:
        """One coil that sees everything alike, images of ``shape`` (H, W) or (D, H, W): ``y = M F x``."""
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"shape must be (H, W) or (D, H, W), got {tuple(shape)}")
        maps = torch.ones(1, *shape, dtype=torch.complex64)
        return cls(maps, mask, dims=len(shape), legacy_fft=legacy_fft, noise=noise)

    def _refresh(self) -> None:
        before, after = self._phases(self.maps.dtype)
        self.register_buffer("_before", before, persistent=False)
        self.register_buffer("_after", after, persistent=False)
        for name, table in zip(CONJUGATES, _conjugate(self.maps, before, after), strict=True):
            self.register_buffer(name, table, persistent=False)
        self.isometry = self._isometry()

    def _phases(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What multiplies the image, and what multiplies k-space: the phases of the transform, and the mask."""
        before, after = centring_phases(self.domain[1:], legacy=self.legacy_fft)
        device = self.maps.device
        return before.to(device, dtype), self.mask * after.to(device, dtype)

    def _isometry(self) -> float | None:
        """``A A^H A = c A`` where all is measured, or by one coil of modulus one, and ``S^H S`` is a projection."""
        S = self.maps
        scale = float(math.prod(self.domain[1:])) if self.legacy_fft else 1.0
        close = 64 * torch.finfo(S.dtype).eps
        if not bool(self.mask.all()):
            unit = S.shape[:2] == (1, 1) and bool(((S.abs() - 1).abs() <= close).all())
            return scale if unit else None
        gram = torch.stack([torch.stack([(a.conj() * b).sum(0) for b in S]) for a in S])
        square = torch.einsum("mk...,kn...->mn...", gram, gram)
        return scale if bool(((square - gram).abs() <= close).all()) else None

    def _tables(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps and phases in the precision of ``x``."""
        dtype = x.dtype.to_complex()
        if dtype == self.maps.dtype:
            return self.maps, self._before, self._after
        return self.maps.to(dtype), *self._phases(dtype)

    def _conjugates(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Their complex conjugates, kept in the precision of the maps: a fifth of the adjoint's time."""
        if y.dtype.to_complex() == self.maps.dtype:
            return self._maps_conj, self._before_conj, self._after_conj
        return _conjugate(*self._tables(y))

    def _apply_operator(self, x: Tensor) -> Tensor:
        S, before, after = self._tables(x)
        x = before * x
        z = S[0] * x[:, :1]
        for m in range(1, len(S)):
            z = torch.addcmul(z, S[m], x[:, m : m + 1])
        return (torch.fft.fftn(z, dim=self._axes) if len(z) else z).mul_(after)  # torch transforms no empty batch

    def _adjoint(self, y: Tensor) -> Tensor:
        S, before, after = self._conjugates(y)
        x = torch.zeros((), dtype=S.dtype, device=S.device)
        for c in range(S.shape[1]):  # one coil at a time stays in the cache
            z = after * y[:, c : c + 1]
            z = torch.fft.ifftn(z, dim=self._axes, norm="forward") if len(z) else z
            x = torch.addcmul(x, S[:, c], z)
        return before * x

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.dims, 0))

    def output_shape(self, shape: Shape) -> Shape:
        return (self.maps.shape[1], *shape[1:])

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self._check_batch(x, "x")

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self._check_batch(y, "y")

    def _check_batch(self, batch: Tensor, name: str) -> None:
        members = len(self.mask)
        if members > 1 and len(batch) != members:
            raise ValueError(
                f"{self!r}: {name} must have a batch of {members}, one member for each mask, got {len(batch)}; "
                f"give one mask (H, W) for batches of any size"
            )

    def members(self) -> list[Self]:
        """The operator of each batch member, with its own mask; itself alone where there is one mask for all."""
        if len(self.mask) == 1:
            return [self]
        maps, dims, legacy, noise = self.maps, self.dims, self.legacy_fft, self.noise
        return [type(self)(maps, mask[None], dims=dims, legacy_fft=legacy, noise=noise) for mask in self.mask]

    def norm(self, shape: Shape | None = None, *, iterations: int = 100, seed: int = 0) -> float:
        """The largest singular value, of all masks; as for every operator, in the precision of the maps."""
        if len(self.mask) == 1:
            return super().norm(shape, iterations=iterations, seed=seed)
        return max(A.norm(shape, iterations=iterations, seed=seed) for A in self.members())

    def adjointness(self, shape: Shape | None = None, *, seed: int = 0) -> float:
        """The largest error of the adjoint, of all masks."""
        if len(self.mask) == 1:
            return super().adjointness(shape, seed=seed)
        return max(A.adjointness(shape, seed=seed) for A in self.members())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts: a cast to real numbers changes the precision of complex buffers and keeps them complex."""
        super()._apply(kept_complex(fn), recurse)
        self._refresh()
        return self

    def extra_repr(self) -> str:
        text = f"maps={tuple(self.maps.shape)}, mask={tuple(self.mask.shape)}, seen={self.mask.double().mean().item():.3g}"
        return text + (", legacy_fft=True" if self.legacy_fft else "")


def _checked_mask(mask: Tensor | None, shape: Shape) -> Tensor:
    """The mask as (1, 1, ...) or (B, 1, ...), bool; an axis of one spreads."""
    dims = len(shape)
    if mask is None:
        return torch.ones(1, 1, *[1] * dims, dtype=torch.bool)
    sides = tuple(mask.shape[-dims:])
    fits = 1 <= mask.ndim <= dims + 2 and all(m in (1, n) for m, n in zip(sides[::-1], shape[::-1], strict=False))
    if not fits or len(mask) == 0 or (mask.ndim > dims and mask.shape[-dims - 1] != 1):
        pixels = ", ".join(map(str, shape))
        raise ValueError(
            f"mask must have shape ({pixels}) or, for each batch member its own, (B, 1, {pixels}), a side of one "
            f"standing for all, got {tuple(mask.shape)}"
        )
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"mask must hold 0 (not measured) and 1 (measured) only, got values in {mask.min()}..{mask.max()}")
    mask = mask.bool().reshape(*[1] * (dims + 2 - mask.ndim), *mask.shape)
    empty = (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"mask must measure at least one point of k-space, got zeros only in batch members {empty}")
    return mask


def _conjugate(S: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each written out: torch would conjugate anew at every use."""
    return S.conj().resolve_conj(), before.conj().resolve_conj(), after.conj().resolve_conj()
