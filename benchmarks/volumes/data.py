"""The subjects: held-out scans to score on, training scans to tune classical methods on, and objects that are no bodies."""

from __future__ import annotations

import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from medical.files import read_nifti
from medical.intensity import HounsfieldWindow, peak

__all__ = ["CT_TEST", "CT_TUNE", "MR_TEST", "MR_TUNE", "Subject", "ct", "ct_training", "engine", "mr", "mr_training"]

CT_TEST = ("lidc_idri_0001", "lungfcp_01_0001")
CT_TUNE = ("rider_pilot_0117", "c4kc_kits_00072")
MR_TEST = ("vs_seg_001_t1gd", "stroke_t1", "stroke_t2", "stroke_flair")
MR_TUNE = ("clinical_t2", "studyforrest_02_t1", "seg3d_t1")


@dataclass(frozen=True, eq=False)
class Subject:
    """A volume as slices (D, 1, H, W) around [0, 1], and the sides (dz, dy, dx) of its voxels in mm."""

    name: str
    image: Tensor
    spacing: tuple[float, float, float]

    def middle(self, count: int | None) -> Subject:
        """The ``count`` contiguous slices in the middle; all of them where there are fewer, or with None."""
        depth = len(self.image)
        kept = min(depth, count or depth)
        first = (depth - kept) // 2
        return replace(self, image=self.image[first : first + kept].contiguous())

    def reduced(self, side: int) -> Subject:
        """Slices of ``side`` x ``side`` pixels, the means over the areas of the new ones."""
        height, width = self.image.shape[-2:]
        dz, dy, dx = self.spacing
        image = F.interpolate(self.image, size=(side, side), mode="area")
        return replace(self, image=image, spacing=(dz, dy * height / side, dx * width / side))


def ct(data: Path, name: str) -> Subject:
    """A held-out CT scan in the window of the prior: -1000 to 1500 HU are 0 to 1, air below is clipped, bone is not."""
    return _ct(data / "ct_test" / f"{name}.nii.gz", name)


def mr(data: Path, name: str) -> Subject:
    """A held-out MR volume over its peak."""
    return _mr(data / "mri_test" / f"{name}.nii.gz", name)


def ct_training(data: Path, name: str) -> Subject:
    """One scan of the training pack, as :func:`ct`."""
    with tempfile.TemporaryDirectory() as folder:
        return _ct(_unpacked(data / "ct_train" / "ct_train.tar", name, folder), name)


def mr_training(data: Path, name: str) -> Subject:
    """One volume of the training pack, as :func:`mr`."""
    with tempfile.TemporaryDirectory() as folder:
        return _mr(_unpacked(data / "mri_train" / "mri_train.tar", name, folder), name)


def engine(data: Path) -> Subject:
    """An engine block, 256 x 256 x 128, from an industrial scanner; its greys over their largest value."""
    scan = read_nifti(data / "science" / "engine_ct_uint8.nii.gz")
    return Subject("engine", (scan.data / scan.data.max())[:, None], scan.spacing)


def _ct(path: Path, name: str) -> Subject:
    scan = read_nifti(path)
    return Subject(name, HounsfieldWindow().to_image(scan.data)[:, None], scan.spacing)


def _mr(path: Path, name: str) -> Subject:
    scan = read_nifti(path)
    volume = scan.data.clamp(min=0)
    return Subject(name, (volume / peak(volume))[:, None], scan.spacing)


def _unpacked(pack: Path, name: str, folder: str) -> Path:
    with tarfile.open(pack) as tar:
        tar.extract(f"{name}.nii.gz", folder, filter="data")
    return Path(folder) / f"{name}.nii.gz"


def occupied(slices: Tensor, least: float = 0.01) -> Tensor:
    """Which slices (B, 1, H, W) show something: those whose mean value is above ``least``."""
    return torch.as_tensor(slices.abs().flatten(1).mean(1) > least)
