"""Coil compression: the few virtual coils that hold nearly all of what many coils measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medical.coils.mixing import mix_coils

__all__ = ["Compression", "compress"]


@dataclass(frozen=True, eq=False)
class Compression:
    """``virtual = matrix @ coils``, the leading principal components.

    Parameters
    ----------
    matrix: (n, C) complex, orthonormal rows, the component of largest energy first.
    energy: fraction of the energy of the data it was made from that the n virtual coils hold, at most 1.
    """

    matrix: Tensor
    energy: float

    def __call__(self, x: Tensor, dim: int = -3) -> Tensor:
        """The virtual coils of k-space, coil images or maps; ``dim`` is the coil axis as in ``mix_coils``.

        Maps compress like the data, as ``matrix @ (S x) = (matrix @ S) x``: the compressed maps fit the compressed k-space
        exactly, and their sum of squares falls below 1 by what was dropped.
        """
        return mix_coils(self.matrix, x, dim)

    def expand(self, x: Tensor, dim: int = -3) -> Tensor:
        """The coils that the virtual coils stand for, ``matrix^H @ x``: exact where the energy is 1."""
        return mix_coils(self.matrix.mH, x, dim)


@torch.no_grad()
def compress(kspace: Tensor, coils: int) -> Compression:
    """Principal components of ``kspace`` (C, ...), coils first and any further axes, for ``coils`` virtual coils.

    The rows of the matrix are the leading left singular vectors of k-space as a matrix of C rows, conjugated; their phase
    makes the largest weight of each real and positive. Samples that are zero add nothing, so that undersampled k-space or
    its ``calibration_region`` will do; 8 to 12 virtual coils suffice as a rule. Buehrer et al., Magnetic Resonance in
    Medicine 57 (2007), 1131-1139.
    """
    if not kspace.is_complex() or kspace.ndim < 2:
        raise TypeError(f"kspace must be complex of shape (C, ...), got {kspace.dtype} of shape {tuple(kspace.shape)}")
    if not 1 <= coils <= len(kspace):
        raise ValueError(f"coils must lie in 1 ... {len(kspace)}, the number of coils of kspace, got {coils}")
    samples = kspace.flatten(1).to(torch.complex128)
    gram = samples @ samples.mH
    if not bool(torch.isfinite(torch.view_as_real(gram)).all()):
        raise ValueError("kspace must be finite, got NaN or infinity; set samples that were not measured to zero")
    if not bool(gram.any()):
        raise ValueError("kspace must have samples that are not zero, got zeros alone")
    squares, U = torch.linalg.eigh(gram)
    kept = U[:, -coils:].flip(1)
    largest = kept.gather(0, kept.abs().argmax(0, keepdim=True))
    squares = squares.clamp(min=0)
    energy = float(squares[-coils:].sum() / squares.sum())
    return Compression((kept * largest.sgn().conj()).mH.contiguous(), min(energy, 1.0))
