"""Noise whitening: coils whose noise is independent and of unit variance, so that least squares weighs them rightly."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["noise_covariance", "whitening_matrix"]

SMALLEST_EIGENVALUE = 1e-10  # of the correlation matrix; below it the covariance counts as singular


def noise_covariance(noise: Tensor) -> Tensor:
    """``Psi = n n^H / N``, (C, C) complex128, of N noise samples of C coils, ``noise`` (C, N) complex of mean zero.

    Psi[c, c] is the variance E|n_c|^2: real and imaginary part together.
    """
    if not noise.is_complex() or noise.ndim != 2:
        raise TypeError(f"noise must be complex of shape (C, N), coils first, got {noise.dtype} of shape {tuple(noise.shape)}")
    if noise.shape[1] < noise.shape[0]:
        raise ValueError(
            f"noise must have at least as many samples as coils, got shape {tuple(noise.shape)}, read as {noise.shape[0]} "
            "coils. Transpose it, or measure longer; hundreds of samples a coil are usual."
        )
    if not bool(torch.isfinite(torch.view_as_real(noise)).all()):
        raise ValueError("noise must be finite, got NaN or infinity; leave such samples out")
    samples = noise.to(torch.complex128)
    return samples @ samples.mH / samples.shape[1]


def whitening_matrix(covariance: Tensor) -> Tensor:
    """W with ``W Psi W^H = I``, (C, C) complex128: the inverse of the Cholesky factor L of Psi = L L^H.

    ``mix_coils(W, x)`` applies it to k-space and to maps alike; the noise then has variance 1, E|n|^2, in every coil.
    ``covariance`` (C, C) comes from ``noise_covariance``. ``ValueError`` where it is singular: a coil that is silent, or a
    combination of others. Pruessmann et al., Magnetic Resonance in Medicine 46 (2001), 638-651, equation 9.
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"covariance must have shape (C, C), got {tuple(covariance.shape)}; noise_covariance makes it")
    Psi = covariance.to(torch.complex128)
    variances = Psi.diagonal().real
    if not torch.allclose(Psi, Psi.mH, atol=1e-6 * float(Psi.abs().max())):
        raise ValueError("covariance must be finite and Hermitian, Psi = Psi^H, and is not; noise_covariance makes it")
    silent = [c for c, variance in enumerate(variances.tolist()) if not variance > 0]
    if silent:
        raise ValueError(f"the noise covariance is singular: no noise in coils {silent}. Leave these coils out.")
    gains = variances.sqrt()
    smallest = float(torch.linalg.eigvalsh(Psi / torch.outer(gains, gains))[0])
    if smallest < SMALLEST_EIGENVALUE:
        raise ValueError(
            f"the noise covariance is singular: some coil is a combination of others (smallest eigenvalue of the "
            f"correlations {smallest:.1e}). Compress the coils first, or use more noise samples."
        )
    L = torch.linalg.cholesky(Psi)
    return torch.linalg.solve_triangular(L, torch.eye(len(L), dtype=L.dtype, device=L.device), upper=False)
