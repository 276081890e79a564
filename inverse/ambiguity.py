"""What a Fourier magnitude cannot tell: sign, orientation and place. Evaluation takes them out before it compares."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["align"]


def align(
    estimate: Tensor, truth: Tensor, *, padding: int | tuple[int, int] = 0, shifts: bool = True, phase: bool = False
) -> Tensor:
    """The image closest to ``truth`` in mean square among those with the Fourier magnitude of ``estimate``.

    Such images are all circular shifts of ``estimate`` within its frame, those of its conjugate turned by 180 degrees, and
    multiples by a complex number of modulus one; every image and every channel is measured, and aligned, on its own. The
    shift that fits best is the peak of the cross-correlation, which the Fourier transform gives for all shifts at once.

    Parameters
    ----------
    estimate, truth: (B, C, H, W), real or complex.
    padding: border of zeros of the measurement, as of :class:`~inverse.operators.PhaseRetrieval`; the frame is compared
        with its border, and the border is cut off again.
    shifts: False where the place is known, as of a photograph that fills its frame.
    phase: take out the global phase as well, for real images the sign; images in [0, 1] have none.
    """
    if estimate.shape != truth.shape or truth.ndim != 4:
        raise ValueError(
            "estimate and truth must be batches of one shape (B, C, H, W), "
            f"got {tuple(estimate.shape)} and {tuple(truth.shape)}"
        )
    if estimate.is_complex() != truth.is_complex():
        raise ValueError(f"estimate and truth must both be real or both complex, got {estimate.dtype} and {truth.dtype}")
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    if min(rows, columns) < 0:
        raise ValueError(f"padding must not be negative, got {padding}")
    border = (columns, columns, rows, rows)
    candidates = torch.stack([estimate, estimate.conj().flip(-2, -1)])  # (2, B, C, H, W): as it is, and turned
    framed, target = torch.nn.functional.pad(candidates, border), torch.nn.functional.pad(truth, border)
    match = torch.fft.ifft2(torch.fft.fft2(framed).conj() * torch.fft.fft2(target))  # <shifted candidate, truth>
    match = match if truth.is_complex() else match.real
    match = match if shifts else match[..., :1, :1]
    found, where = (match.abs() if phase else match.real).flatten(-2).max(-1)  # (2, B, C)
    aligned = torch.empty_like(framed[0])
    for b, c in torch.cartesian_prod(*map(torch.arange, truth.shape[:2])).tolist():
        turned = int(found[:, b, c].argmax())
        down, right = divmod(int(where[turned, b, c]), match.shape[-1])
        factor = torch.sgn(match[turned, b, c, down, right]) if phase else 1
        aligned[b, c] = factor * framed[turned, b, c].roll((down, right), (-2, -1))
    return aligned[..., rows : rows + truth.shape[-2], columns : columns + truth.shape[-1]]
