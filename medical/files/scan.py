"""A volume of a scanner and where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = ["LENGTHS", "Scan"]

LENGTHS = {"m": 1000.0, "mm": 1.0, "um": 1e-3}  # in mm


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan:
    """A volume (D, H, W) = [z, y, x] in float32, and its affine.

    The affine maps (x, y, z, 1), the indices of ``data[z, y, x]``, to RAS coordinates (right, anterior, superior) of the
    patient; it is what NIfTI stores and is never changed here. Nothing is flipped, turned or resampled.

    Attributes
    ----------
    data: (D, H, W), float32, finite.
    affine: (4, 4), float64; its first three columns are the steps of x, y and z.
    unit: of the values, such as ``"HU"``; a hint, empty where the file does not say.
    length: unit of the affine: ``"mm"``, ``"m"`` or ``"um"``.
    header: header of the NIfTI file, with its extensions; written back untouched.
    """

    data: Tensor
    affine: Tensor
    unit: str = ""
    length: str = "mm"
    header: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or 0 in self.data.shape or self.data.dtype != torch.float32:
            raise ValueError(f"data must be float32 (D, H, W), got {self.data.dtype} {tuple(self.data.shape)}")
        if tuple(self.affine.shape) != (4, 4) or self.affine.dtype != torch.float64:
            raise ValueError(f"affine must be float64 (4, 4), got {self.affine.dtype} {tuple(self.affine.shape)}")
        if not self.affine.isfinite().all() or self.affine[3].tolist() != [0.0, 0.0, 0.0, 1.0]:
            raise ValueError(f"affine must be finite with the last row 0, 0, 0, 1, got {self.affine.tolist()}")
        if not abs(torch.linalg.det(self.affine[:3, :3]).item()) > 0:
            raise ValueError(f"affine must have three independent steps of x, y and z, got {self.affine.tolist()}")
        if self.length not in LENGTHS:
            raise ValueError(f"length must be one of {', '.join(LENGTHS)}, got {self.length!r}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(dz, dy, dx) in mm: the lengths of the affine's columns."""
        dx, dy, dz = (self.affine[:3, :3].norm(dim=0) * LENGTHS[self.length]).tolist()
        return dz, dy, dx

    def to_monai(self) -> MetaTensor:
        """As MONAI has it: a ``MetaTensor`` (1, x, y, z) whose affine takes the indices (x, y, z) to RAS in mm.

        It is what ``LoadImage`` and ``EnsureChannelFirst`` give for the NIfTI file, so that spatial transforms apply. Raises
        ``ImportError`` where MONAI is not installed.
        """
        tensor = _meta_tensor()
        affine = self.affine.clone()
        affine[:3] *= LENGTHS[self.length]
        return tensor(self.data.permute(2, 1, 0)[None].contiguous(), affine=affine, meta={"unit": self.unit, "space": "RAS"})

    @classmethod
    def from_monai(cls, image: MetaTensor) -> Scan:
        """From a ``MetaTensor`` (1, x, y, z), before or after transforms that keep its affine up to date; lengths in mm.

        Raises ``TypeError`` for another tensor, ``ValueError`` for several channels, and ``ImportError`` without MONAI.
        """
        if not isinstance(image, _meta_tensor()):
            raise TypeError(f"image must be a monai MetaTensor, which has an affine, got {type(image).__name__}")
        if image.ndim != 4 or image.shape[0] != 1:
            raise ValueError(f"image must be (1, x, y, z), got {tuple(image.shape)}; convert channels one by one")
        data = image.as_tensor()[0].permute(2, 1, 0).to("cpu", torch.float32).contiguous()
        affine = image.affine.to("cpu", torch.float64)
        return cls(data=data, affine=torch.as_tensor(affine).clone(), unit=str(image.meta.get("unit", "")))


def _meta_tensor() -> type[MetaTensor]:
    try:
        from monai.data import MetaTensor
    except ImportError as error:
        raise ImportError("MONAI is needed to convert volumes from and to MetaTensor; install it: pip install monai") from error
    return MetaTensor
