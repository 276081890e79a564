"""Frequencies of a real image, some of them: MRI with one coil, interferometry."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from inverse.operators import frequencies
from inverse.operators.base import Shape
from inverse.operators.convolution import by_parts
from inverse.operators.noise import Noise
from inverse.operators.subsampled import Subsampled

__all__ = ["Fourier"]


class Fourier(Subsampled):
    """Frequencies of a real image, as an MRI scanner or an interferometer sees them, in real numbers.

    Entry (p, q) of the mask stands for the frequency f of ``torch.fft.fft2``, zero at [0, 0]. A real image has
    ``X(-f) = conj X(f)``: of such a pair the coefficient of one is ``sqrt(2) Re X(f)`` and that of the other
    ``sqrt(2) Im X(f)``, and X itself where f and -f are one; so the rows are orthonormal.

    Parameters
    ----------
    mask: (H, W), 1 where a frequency is measured, which says as much of -f; see ``frequencies``.
    shape: (C, H, W).
    """

    def __init__(self, mask: Tensor, shape: Shape, *, noise: Noise | None = None) -> None:
        if tuple(mask.shape) != tuple(shape[1:]) or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"mask must hold 0 and 1 in the shape {tuple(shape[1:])} of the image, got {tuple(mask.shape)}")
        both = mask.bool() | frequencies.mirrored(mask.bool())
        super().__init__(both.flatten().nonzero().flatten(), shape, noise=noise)

    @classmethod
    def random(
        cls,
        shape: Shape,
        ratio: float = 0.25,
        *,
        decay: float = 0.0,
        radius: float = 0.0,
        seed: int = 0,
        noise: Noise | None = None,
    ) -> Self:
        """Random frequencies and all within ``radius`` of zero; ``decay`` as in ``frequencies.random_frequencies``."""
        mask = frequencies.random_frequencies(shape[1:], ratio, decay=decay, radius=radius, seed=seed)
        return cls(mask, shape, noise=noise)

    @classmethod
    def cartesian(
        cls,
        shape: Shape,
        ratio: float = 0.25,
        *,
        decay: float = 0.0,
        radius: float = 0.0,
        seed: int = 0,
        noise: Noise | None = None,
    ) -> Self:
        """Random rows of frequencies and all rows within ``radius`` of zero, as ``frequencies.cartesian_lines``."""
        mask = frequencies.cartesian_lines(shape[1:], ratio, decay=decay, radius=radius, seed=seed)
        return cls(mask, shape, noise=noise)

    @classmethod
    def radial(cls, shape: Shape, lines: int, *, noise: Noise | None = None) -> Self:
        """``lines`` lines through frequency zero, at equal angles."""
        return cls(frequencies.radial_lines(shape[1:], lines), shape, noise=noise)

    @property
    def mask(self) -> Tensor:
        """The frequencies measured, (H, W), True at f and at -f."""
        mask = torch.zeros(self.size, dtype=torch.bool, device=self.kept.device)
        return mask.index_fill(0, self.kept, True).view(self.domain[1:])

    def transform(self, x: Tensor) -> Tensor:
        return by_parts(self._real_transform, x)

    def inverse(self, c: Tensor) -> Tensor:
        return by_parts(self._real_inverse, c)

    def _real_transform(self, x: Tensor) -> Tensor:
        analysis, _, single = _half_plane(*self.domain[1:], x.device)
        parts = torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).flatten(2)[..., analysis]
        return torch.where(single, parts, math.sqrt(2) * parts)

    def _real_inverse(self, c: Tensor) -> Tensor:
        _, synthesis, single = _half_plane(*self.domain[1:], c.device)
        c = torch.where(single, c, math.sqrt(0.5) * c)
        H, W = self.domain[1:]
        parts = torch.cat([c, -c, torch.zeros_like(c[..., :1])], -1)[..., synthesis]
        half = torch.view_as_complex(parts.view(-1, self.domain[0], H, W // 2 + 1, 2))
        return torch.fft.irfft2(half, s=(H, W), norm="ortho")


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it outlives the mode it was made in
def _half_plane(H: int, W: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where the real coefficients of an H x W image lie in its ``rfft2``, seen as (H, W // 2 + 1, 2) real numbers.

    Returns ``analysis`` (H W,): the real number that each coefficient is; ``synthesis``: the coefficient that each real
    number is, plus H W where it is to be negated, 2 H W where it is zero; and ``single`` (H W,): where f = -f.
    """
    n, width = H * W, W // 2 + 1
    p, q = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    index, mirror = p * W + q, (-p % H) * W + -q % W
    single = index == mirror
    # of a pair, the one with the smaller column, then the smaller row, is called f; it has the real part
    first = (q < -q % W) | ((q == -q % W) & (p <= -p % H))
    home = torch.where(first, p * width + q, (-p % H) * width + -q % W)
    analysis = (2 * home + (~first).long()).flatten()
    p, q = p[:, :width], q[:, :width]
    here, there, own = (a[:, :width] for a in (index, mirror, first))
    real = torch.where(own, here, there)
    imaginary = torch.where(single[:, :width], 2 * n, torch.where(own, there, n + here))
    synthesis = torch.stack([real, imaginary], -1).flatten()
    return analysis.to(device), synthesis.to(device), single.flatten().to(device)
