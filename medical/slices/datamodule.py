"""Slices of CT and MR subjects as a LightningDataModule: augmented for training, whole for validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from medical.slices.augment import Augment
from medical.slices.packs import read_slices

__all__ = ["SliceDataModule"]


class RandomSlices(Dataset[Tensor]):
    """``length`` augmented slices, of a subject as often as its number of slices to the power ``crowding`` is great."""

    def __init__(self, subjects: Sequence[Tensor], augment: Augment, length: int, crowding: float) -> None:
        self.subjects, self.augment, self.length = subjects, augment, length
        self.weights = torch.tensor([len(s) ** crowding for s in subjects])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        slices = self.subjects[int(torch.multinomial(self.weights, 1))]
        return self.augment(slices[int(torch.randint(len(slices), ()))])


class WholeSlices(Dataset[Tensor]):
    """At most ``most`` slices of each subject, equally spaced, padded or cropped about the centre to (1, size, size)."""

    def __init__(self, subjects: Sequence[Tensor], size: int, most: int = 6) -> None:
        picked = [s[torch.linspace(0, len(s) - 1, min(most, len(s))).round().long()] for s in subjects]
        self.slices = [_centred(image, size) for stack in picked for image in stack]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> Tensor:
        return self.slices[index][None]


class SliceDataModule(LightningDataModule):
    """Slices of a pack or folder of NIfTI files (see :func:`~medical.slices.read_slices`), split by subject.

    Parameters
    ----------
    path: the pack or folder; modality: ``"ct"`` or ``"mr"``; exclude: files not to be used.
    augment: what makes a training example of a slice; its size is that of all examples.
    batch_size: slices a batch; batches: batches an epoch.
    holdout: one subject in this many validates, in the order of names.
    crowding: 0 where every subject is seen equally often, 1 where every slice is.
    workers: loader processes; the slices themselves are held in memory.
    """

    def __init__(
        self,
        path: str,
        modality: str,
        augment: Augment,
        exclude: Sequence[str] = (),
        batch_size: int = 4,
        batches: int = 250,
        holdout: int = 10,
        crowding: float = 0.5,
        workers: int = 0,
    ) -> None:
        super().__init__()
        if holdout < 2:
            raise ValueError(f"holdout must be at least 2, one subject in how many validates, got {holdout}")
        self.path, self.modality, self.augment, self.exclude = path, modality, augment, tuple(exclude)
        self.batch_size, self.batches, self.workers = batch_size, batches, workers
        self.holdout, self.crowding = holdout, crowding
        self.train_subjects: list[Tensor] = []
        self.val_subjects: list[Tensor] = []

    def setup(self, stage: str) -> None:
        if self.train_subjects:
            return
        subjects = read_slices(self.path, self.modality, exclude=self.exclude)
        names = sorted(subjects)
        held = set(names[:: self.holdout]) if len(names) > 1 else set()
        self.train_subjects = [subjects[name] for name in names if name not in held]
        self.val_subjects = [subjects[name] for name in names if name in held] or self.train_subjects

    def train_dataloader(self) -> DataLoader[Tensor]:
        data = RandomSlices(self.train_subjects, self.augment, self.batch_size * self.batches, self.crowding)
        return DataLoader(data, self.batch_size, num_workers=self.workers, persistent_workers=self.workers > 0, drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(WholeSlices(self.val_subjects, self.augment.size), self.batch_size)

    def test_dataloader(self) -> DataLoader[Tensor]:
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Tensor]:
        return self.val_dataloader()


def _centred(image: Tensor, size: int) -> Tensor:
    height, width = image.shape
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(image, (left, size - width - left, top, size - height - top))
