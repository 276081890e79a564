"""Compressed sensing of the whole image: a few coefficients of an orthonormal transform, Walsh-Hadamard or Fourier."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from inverse.operators import frequencies
from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.compressed import count
from inverse.operators.convolution import by_parts
from inverse.operators.noise import Noise

__all__ = ["Fourier", "Hadamard", "Subsampled"]


class Subsampled(LinearOperator):
    """``y = (T x)[kept]`` for an orthonormal real T of each channel; x (B, C, H, W), y (B, k, C).

    Subclasses write ``transform`` and ``inverse``. Row j of y holds coefficient ``kept[j]`` of every channel, as DDNM orders
    the entries.

    Parameters
    ----------
    kept: distinct numbers (k,) of coefficients of an image, from 0 to H W - 1.
    shape: (C, H, W).
    """

    rank = 3
    isometry = 1.0
    kept: Tensor
    domain: Shape

    def __init__(self, kept: Tensor, shape: Shape, *, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        if len(self.domain) != 3 or min(self.domain) < 1:
            raise ValueError(f"shape must be (C, H, W), got {tuple(shape)}")
        if kept.ndim != 1 or kept.is_floating_point() or len(kept) == 0:
            raise ValueError(f"kept must be a list of at least one whole number, got shape {tuple(kept.shape)} of {kept.dtype}")
        if len(kept.unique()) < len(kept) or int(kept.min()) < 0 or int(kept.max()) >= self.size:
            raise ValueError(f"kept must be distinct numbers from 0 to {self.size - 1}, got {kept.min()} to {kept.max()}")
        self.register_buffer("kept", kept.long())

    @property
    def size(self) -> int:
        """Coefficients, and pixels, of a channel."""
        return self.domain[1] * self.domain[2]

    def transform(self, x: Tensor) -> Tensor:
        """``T x``: the coefficients (B, C, H W) of images (B, C, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define transform(x)")

    def inverse(self, c: Tensor) -> Tensor:
        """``T^T c``: the images (B, C, H, W) of coefficients (B, C, H W)."""
        raise NotImplementedError(f"{type(self).__name__} must define inverse(c)")

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.transform(x)[..., self.kept].mT.contiguous()

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inverse(self._spread(y))

    def _spread(self, y: Tensor) -> Tensor:
        """All coefficients (B, C, H W), those not measured zero."""
        zeros = y.new_zeros(y.shape[0], self.domain[0], self.size)
        return zeros.index_copy(2, self.kept, y.mT)

    def output_shape(self, shape: Shape) -> Shape:
        return (len(self.kept), shape[0])

    def svd(self, shape: Shape | None = None) -> SVD:
        C = self.domain[0]
        s = torch.zeros(C, self.size, dtype=torch.float64)
        s[:, self.kept.cpu()] = 1
        return SVD(
            s.flatten(),
            lambda c: c.view(-1, C, self.size)[..., self.kept].mT,
            lambda y: self._spread(y).flatten(1),
            lambda c: self.inverse(c.view(-1, C, self.size)),
            lambda x: self.transform(x).flatten(1),
        )

    def extra_repr(self) -> str:
        return f"kept={len(self.kept)} of {self.size}, {super().extra_repr()}"


class Hadamard(Subsampled):
    """A single-pixel camera: coefficients of the Walsh-Hadamard transform, in the natural order, of the flattened channels.

    ``H W`` must be a power of two. Row k of the transform holds ``(-1)^popcount(k & i) / sqrt(H W)`` at pixel i.
    """

    def __init__(self, kept: Tensor, shape: Shape, *, noise: Noise | None = None) -> None:
        super().__init__(kept, shape, noise=noise)
        if self.size & (self.size - 1):
            raise ValueError(f"shape must have a power of two of pixels, got {shape[1]} x {shape[2]}; crop or pad the images")

    @classmethod
    def random(cls, shape: Shape, ratio: float = 0.25, *, seed: int = 0, noise: Noise | None = None) -> Self:
        """``int(ratio H W)`` coefficients drawn at random, the same of every channel."""
        order = torch.randperm(math.prod(shape[1:]), generator=torch.Generator().manual_seed(seed))
        return cls(order[: count(ratio, len(order))], shape, noise=noise)

    @classmethod
    def lowest(cls, shape: Shape, ratio: float = 0.25, *, noise: Noise | None = None) -> Self:
        """The ``int(ratio H W)`` coefficients whose patterns change sign least often, across and down together."""
        C, H, W = shape
        changes = sequency(H)[:, None] / H + sequency(W) / W
        order = changes.flatten().argsort(stable=True)
        return cls(order[: count(ratio, len(order))], shape, noise=noise)

    def transform(self, x: Tensor) -> Tensor:
        return walsh_hadamard(x.flatten(2))

    def inverse(self, c: Tensor) -> Tensor:
        return walsh_hadamard(c).view(-1, *self.domain)


def walsh_hadamard(x: Tensor) -> Tensor:
    """The orthonormal transform along the last axis, a power of two long: the Kronecker product of small matrices."""
    n = x.shape[-1]
    y = x
    for power in _factors(n.bit_length() - 1):
        H = _hadamard_matrix(power, x.dtype, x.device)
        y = y.view(*x.shape[:-1], len(H), -1).mT @ H  # the axis transformed becomes the last
        y = y.reshape(x.shape)
    return y / math.sqrt(n)


def _factors(power: int) -> list[int]:
    """``power`` as a sum of numbers up to four, as even as they can be."""
    parts = max(1, math.ceil(power / 4))
    return [power // parts + (i < power % parts) for i in range(parts)]


@lru_cache(maxsize=32)
def _hadamard_matrix(power: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    H = torch.ones(1, 1, dtype=dtype, device=device)
    for _ in range(power):
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H


def sequency(n: int) -> Tensor:
    """How often each row of the Hadamard matrix of ``n``, in its natural order, changes sign: a permutation of 0..n-1."""
    if n & (n - 1):
        raise ValueError(f"shape must have sides that are powers of two, got {n}")
    index, gray = torch.arange(n), torch.zeros(n, dtype=torch.long)
    for bit in range(n.bit_length() - 1):
        gray = 2 * gray + (index >> bit & 1)
    for shift in (1, 2, 4, 8, 16):
        gray = gray ^ gray >> shift
    return gray


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
