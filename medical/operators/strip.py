"""The strip projector: what falls on a detector pixel of finite width, for pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medical.geometry import Beam, Detector, VectorBeam, Volume
from medical.operators.strip_kernels import Pixels, adjoint_strips, forward_strips
from medical.operators.threads import share_out

__all__ = ["Strip"]


class Strip:
    """Overlap of each pixel with the strip that a detector pixel sees, divided by the strip's width there; on the CPU.

    Parallel: area / du, the exact mean of the line integrals over the detector pixel, which keeps all mass:
    ``du sum y = h^2 sum x``. Diverging: the width at distance rho from the source is ``2 rho tan(gamma / 2)``, gamma the
    angle that the detector pixel subtends.
    """

    def __init__(self, volume: Volume, beam: Beam | VectorBeam) -> None:
        detector = beam.detector
        edges = Detector(detector.columns + 1, detector.pitch[1], detector.offset[-1], detector.curved)  # type: ignore[index]
        rays = replace(beam, detector=edges).rays()
        points, directions = (t[:, 0, :, :2].numpy() for t in rays.lines())
        normals = np.stack([directions[..., 1], -directions[..., 0]], -1)
        apart = np.diff(points, axis=1) + np.diff(directions, axis=1)  # to the next edge; one of the two is zero
        facing = np.sign((normals[:, :-1] * apart).sum(-1))
        normals *= np.concatenate([facing, facing[:, -1:]], 1)[..., None]
        offsets = (normals * points).sum(-1)  # the edge is where normal . position = offset
        self.edges = (np.ascontiguousarray(normals), offsets, points[:, 0].copy(), _widths(beam, directions, offsets))
        dy, dx = volume.spacing
        self.pixels: Pixels = (volume.axis(-1).numpy(), volume.axis(-2).numpy(), dx, dy, bool(beam.divergent))
        self.grid, self.data = volume.shape, (len(beam), detector.columns)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N pictures."""
        image = np.ascontiguousarray(x.cpu().permute(1, 2, 0).numpy())
        out = np.zeros((*self.data, len(x)), image.dtype)
        share_out(lambda a, b: forward_strips(image, self.pixels, self.edges, a, b, out), self.data[0])
        return torch.from_numpy(out).permute(2, 0, 1).contiguous().to(x.device)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sinograms."""
        data = np.ascontiguousarray(y.cpu().permute(1, 2, 0).numpy())
        out = np.zeros((*self.grid, len(y)), data.dtype)
        share_out(lambda a, b: adjoint_strips(data, self.pixels, self.edges, a, b, out), self.grid[0])
        return torch.from_numpy(out).permute(2, 0, 1).contiguous().to(y.device)


def _widths(beam: Beam | VectorBeam, directions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(views, columns): of a strip, per unit of distance from the source where rays diverge."""
    if not beam.divergent:
        return np.diff(offsets, axis=1)
    a, b = directions[:, :-1], directions[:, 1:]
    sine = np.abs(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
    return 2 * sine / (1 + (a * b).sum(-1))  # tan(gamma / 2) = sin gamma / (1 + cos gamma)
