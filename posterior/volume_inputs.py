"""What a volume is reconstructed from, whether simulated or measured: operator, measurement, and the way back to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.files import Scan
from medical.files.orientation import canonical

__all__ = ["Measured", "magnitude", "slices_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """A measured volume, in the variables of the prior: images around [0, 1].

    Attributes
    ----------
    A: operator of slices or of the volume, on images, with the noise of y.
    y: the measurement.
    modality: "CT" or "MR".
    black, white: ``value = black + image (white - black)`` are the numbers of the file: HU, or those of MR.
    place: a volume (D, H, W) on the grid of A to the array order and the patient space of the source.
    truth: what was measured, as a scan of the file's numbers; None where it is not known.
    baseline: name of a classical method, and what gives its images in the shape of A's; None where there is none.
    like: the DICOM series that the patient is copied from.
    facts: what there is to say of the measurement, for the record.
    """

    A: LinearOperator
    y: Tensor
    modality: str
    black: float
    white: float
    place: Callable[[Tensor], Scan]
    truth: Scan | None = None
    baseline: tuple[str, Callable[[], Tensor]] | None = None
    like: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> Measured:
        """The same with operator and measurement on ``device``."""
        return self if device.type == "cpu" else replace(self, A=self.A.to(device), y=self.y.to(device))

    def scan(self, image: Tensor, *, difference: bool = False) -> Scan:
        """The scan of a real volume (D, H, W) in the units of images; a ``difference`` of images is no more than scaled."""
        values = image.detach().cpu().float() * (self.white - self.black) + (0.0 if difference else self.black)
        placed = self.place(values)
        return replace(placed, unit="HU" if self.modality == "CT" else placed.unit)

    def images(self, scan: Scan) -> Tensor:
        """A scan as images (D, H, W) in canonical axes: axial slices from the feet to the head."""
        turned, _ = canonical(scan)
        return (turned.data - self.black) / (self.white - self.black)


def slices_of(x: Tensor) -> Tensor:
    """Slices (D, C, H, W) of images in the shape of an operator of slices, or of one of volumes."""
    return x[0].transpose(0, 1) if x.ndim == 5 else x


def magnitude(x: Tensor, *, along: Tensor | None = None) -> Tensor:
    """A real volume (D, H, W) of images: they themselves, or of complex ones the root of the sum of squares over C.

    ``along`` is an image by whose phase to go: the magnitudes of the parts of an image would not add up to that of the whole,
    ``Re sum_c conj(along_c) x_c / |along|`` does.
    """
    x = slices_of(x)
    if not x.is_complex():
        return x[:, 0]
    if along is None:
        return torch.linalg.vector_norm(x, dim=1)
    whole = slices_of(along)
    size = torch.linalg.vector_norm(whole, dim=1)
    return (whole.conj() * x).real.sum(1) / size.clamp(min=torch.finfo(size.dtype).tiny)
