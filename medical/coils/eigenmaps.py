"""ESPIRiT: coil sensitivities as the eigenvectors, pixel by pixel, of the operator that projects on what k-space can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from medical.coils.calibration import calibration_region, check_kspace
from medical.coils.signal_space import signal_space

__all__ = ["CoilMaps", "espirit"]

SLAB_BYTES = 2**27  # matrices held at one time


@dataclass(frozen=True, eq=False)
class CoilMaps:
    """Sensitivity maps and how well each explains the calibration data.

    Parameters
    ----------
    maps: complex, (M, C, H, W) or (M, C, D, H, W), sum over coils of |S|^2 = 1 in the object and 0 outside.
    eigenvalues: real, (M, H, W) or (M, D, H, W), in [0, 1] but for rounding; near 1 where a map holds.
    """

    maps: Tensor
    eigenvalues: Tensor

    def relative_to(self, weights: Tensor) -> Self:
        """The same maps with the phase at which ``sum_c w_c S_c`` is real and not negative; ``weights`` (C,).

        A unit vector names a coil; ``compress(kspace, 1).matrix[0]`` is the dominant virtual coil, which sees the whole
        object and leaves no pixel without a phase.
        """
        if weights.shape != self.maps.shape[1:2]:
            raise ValueError(f"weights must have shape {tuple(self.maps.shape[1:2])}, one a coil, got {tuple(weights.shape)}")
        return replace(self, maps=_rephased(self.maps, weights.to(self.maps)))


@torch.no_grad()
def espirit(
    kspace: Tensor,
    *,
    calibration: int | None = 24,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.8,
    maps: int = 1,
) -> CoilMaps:
    """Sensitivity maps from the centre of ``kspace``, (C, H, W) or (C, D, H, W), in its dtype and on its device.

    With R_n the patch of ``kernel`` lines a side at position n and V an orthonormal basis of the patches that occur,

        W = k^-d sum_n R_n^H V V^H R_n,    W y = y

    for the k-space y of the object. W is a convolution, hence a matrix G(x) of C x C at every pixel, and the maps
    solve ``G(x) s(x) = s(x)``. Several ``maps`` describe an object larger than the field of view, where more than one
    eigenvalue is near 1 (soft SENSE). The phase is relative to coil 0; ``CoilMaps.relative_to`` takes another.
    Uecker et al., Magnetic Resonance in Medicine 71 (2014), 990-1001, equations 12-17.

    Parameters
    ----------
    kspace: centred, zero where it was not sampled.
    calibration: lines a side of the centre that is read, fully sampled; None finds them.
    kernel: lines a side of a patch.
    threshold: singular values of the calibration matrix below this fraction of the largest count as noise.
    crop: maps are zero where their eigenvalue is not above this.
    maps: how many, M.

    ``ValueError`` where the centre holds too few lines, or no pixel has an eigenvalue above ``crop``.
    """
    check_kspace(kspace)
    _check_settings(kspace, kernel, threshold, crop, maps)
    region = calibration_region(kspace, calibration)
    if min(region.shape[1:]) < kernel:
        raise ValueError(
            f"the calibration region must be at least kernel={kernel} lines wide, and better twice that, "
            f"got {tuple(region.shape[1:])}. Choose a smaller kernel, or use low_resolution_maps."
        )
    coefficients = _correlation(signal_space(region, kernel, threshold)).to(kspace.dtype)
    values, vectors = [], []
    for G in _operators(coefficients, tuple(kspace.shape[1:])):
        eigenvalues, eigenvectors = _eigh(G)
        values.append(eigenvalues[:, -maps:].flip(-1))
        vectors.append(eigenvectors[:, :, -maps:].flip(-1))
    eigenvalues = torch.cat(values).mT.reshape(maps, *kspace.shape[1:])
    S = torch.cat(vectors).permute(2, 1, 0).reshape(maps, *kspace.shape)
    if not bool((eigenvalues > crop).any()):
        raise ValueError(
            f"no pixel has an eigenvalue above crop={crop}, the largest is {float(eigenvalues.max()):.3f}. "
            "Use more calibration lines, a smaller kernel or a lower crop."
        )
    first = torch.eye(len(kspace), dtype=kspace.dtype, device=kspace.device)[0]
    return CoilMaps(_rephased(S * (eigenvalues > crop)[:, None], first), eigenvalues)


def _check_settings(kspace: Tensor, kernel: int, threshold: float, crop: float, maps: int) -> None:
    if kernel < 2:
        raise ValueError(f"kernel must be at least 2 lines, got {kernel}; 5 or 6 is usual")
    if not 1e-6 <= threshold < 1:
        raise ValueError(f"threshold must lie in [1e-6, 1), got {threshold}; 0.02 is usual")
    if not 0 <= crop < 1:
        raise ValueError(f"crop must lie in [0, 1), got {crop}; 0.8 to 0.95 is usual")
    if not 1 <= maps <= len(kspace):
        raise ValueError(f"maps must lie in 1 ... {len(kspace)}, the number of coils, got {maps}; 1 or 2 is usual")


def _correlation(basis: Tensor) -> Tensor:
    """The convolution kernels of W, (L, L, C, C) with L = 2 k - 1 and shifts 0 ... k-1, -k+1 ... -1 along each axis.

    ``k^-d sum_r sum_{i - j = shift} v_r[c, i] conj(v_r[d, j])``, by the Fourier transform.
    """
    k, axes = basis.shape[-1], tuple(range(-(basis.ndim - 2), 0))
    L = 2 * k - 1
    spectra = torch.fft.fftn(basis, s=(L,) * len(axes), dim=axes).flatten(2).permute(2, 1, 0)
    cross = (spectra @ spectra.mH).reshape(*(L,) * len(axes), *spectra.shape[1:2] * 2)
    return torch.fft.ifftn(cross, dim=tuple(range(len(axes)))) / k ** len(axes)


def _operators(coefficients: Tensor, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """G(x) = sum over shifts of coefficient exp(2 pi i shift x / N), (pixels, C, C), slab by slab along the first axis."""
    L, coils = coefficients.shape[0], coefficients.shape[-1]
    shifts = torch.fft.fftfreq(L, 1 / L, dtype=torch.float64)
    waves = [
        torch.exp(2j * torch.pi / n * torch.outer(torch.arange(n, dtype=torch.float64) - n // 2, shifts)).to(coefficients)
        for n in shape
    ]
    pixels = torch.Size(shape[1:]).numel()
    rows = max(1, SLAB_BYTES // (pixels * coils**2 * coefficients.element_size()))
    for first in waves[0].split(rows):
        G = first @ coefficients.reshape(L, -1)
        for wave in waves[1:]:
            G = (wave @ G.reshape(len(G), L, -1)).flatten(0, 1)
        yield G.view(-1, coils, coils)


def _eigh(G: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.linalg.eigh`` of many small matrices; threads would only wait for each other in every one of them."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        return torch.linalg.eigh(G)
    finally:
        torch.set_num_threads(threads)


def _rephased(maps: Tensor, weights: Tensor) -> Tensor:
    """Maps (M, C, ...) times the phase that makes ``sum_c w_c S_c`` real and not negative; untouched where it is zero."""
    reference = torch.tensordot(weights, maps, dims=([0], [1]))[:, None]
    return maps * torch.where(reference == 0, 1, reference.sgn().conj())
