"""Filtered backprojection of parallel and fan beams."""

from __future__ import annotations

from torch import Tensor

from medical.analytic.feldkamp import fdk
from medical.analytic.filters import check_window
from medical.analytic.pixels import Pixels, at_axis
from medical.analytic.reconstruction import Filter, check_measurement, reconstruct
from medical.analytic.scans import ray_weights, settle
from medical.geometry.beam import Beam
from medical.geometry.cone import ConeBeam
from medical.geometry.fan import FanBeam
from medical.geometry.parallel import ParallelBeam
from medical.geometry.volume import Volume

__all__ = ["fbp"]


def fbp(y: Tensor, volume: Volume, beam: Beam, *, window: str = "ram-lak", cutoff: float = 1.0, scan: str = "auto") -> Tensor:
    """The picture whose line integrals are ``y``, in attenuation per unit of length; linear in y and differentiable.

    Parallel, over half a turn, with the ramp h (:mod:`medical.analytic.filters`)::

        f(x, y) = sum over views of dtheta q(x cos theta + y sin theta),    q = du (h * p)

    Fan: Kak and Slaney 1988, section 3.4. Every view counts for half the gaps to its neighbours. A full turn measures all
    rays twice, also with a detector off the middle; a short scan measures some of them twice (Parker). Interpolation in
    the filtered data is linear. Outside the detector y counts as zero, so that an object wider than it comes out too
    bright towards the edge.

    Parameters
    ----------
    y: (B, 1, views, columns) or (B, 1, views, rows, columns), float32 or float64, in attenuation times length.
    volume: where to reconstruct; the result has shape (B, 1, *volume.shape). Rows of a parallel beam lie along z and give
        a volume, or its slice z = 0.
    beam: parallel or fan; a cone goes to :func:`fdk`.
    window: "ram-lak", "shepp-logan", "cosine", "hamming" or "hann", from sharp to smooth.
    cutoff: where the window ends, a fraction of the Nyquist frequency in (0, 1].
    scan: "full" (a turn), "short" (half a turn, and for a fan its angle more), "limited" (less: nothing makes up for what
        is missing), or "auto", by the angles: what is named is taken at its word, and a limited fan has to be named.

    Raises ``ValueError`` for shapes that do not fit, values that are not finite, and too few angles; ``TypeError`` for other
    beams.
    """
    if isinstance(beam, ConeBeam):
        return fdk(y, volume, beam, window=window, cutoff=cutoff, scan=scan)
    if not isinstance(beam, (ParallelBeam, FanBeam)):
        raise TypeError(
            f"beam must be a ParallelBeam, FanBeam or ConeBeam, got {type(beam).__name__}: its views follow no circle, so "
            f"there is no formula; reconstruct by SIRT or CGLS"
        )
    if volume.ndim == 3 and len(beam.detector.size) == 1:
        raise ValueError(
            f"volume must be a picture (ny, nx) for a detector of one line, got {volume.shape}; reconstruct slice by slice "
            f"with volume.slice()"
        )
    check_measurement(y, beam)
    check_window(window, cutoff)
    weights = ray_weights(beam, settle(beam, scan, volume), at_axis(beam)[0])
    return reconstruct(y, volume, beam, weights=weights, pixels=Pixels.of(volume, beam), ramp_filter=Filter(window, cutoff))
