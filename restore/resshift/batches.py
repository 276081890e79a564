"""What restorers are trained on, batch by batch: every batch follows from its number, so that a resumed run goes on exactly."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from prior.numbered import BatchNumbers, NumberedLoader

__all__ = ["RestorationBatch", "RestorationDataModule", "generator_of", "seed_of"]


class RestorationBatch(NamedTuple):
    """Images and what became of them.

    Attributes
    ----------
    truth: (B, 3, H, W) in [0, 1].
    degraded: (B, 3, h, w) in [0, 1], H / h the factor; black where ``mask`` says that it is unknown.
    mask: (B, 1, h, w), 1 where the image is unknown and 0 elsewhere; None for tasks without.
    seed: of whatever else is drawn for this batch, such as the noise of a training step.
    """

    truth: Tensor
    degraded: Tensor
    mask: Tensor | None = None
    seed: int = 0


def seed_of(*key: int | str) -> int:
    """A seed in 0..2^62 - 1 for a key of numbers and words; other keys have unrelated seeds."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def generator_of(*key: int | str) -> torch.Generator:
    """A generator on the CPU with the seed of ``key``."""
    return torch.Generator().manual_seed(seed_of(*key))


class RestorationDataModule(LightningDataModule):
    """Loaders of whole :class:`RestorationBatch` es; subclasses give the data sets.

    Subclasses define ``setup``, ``training(rank)``, a data set without end whose item n is batch n, and ``validation()``,
    a data set of as many batches as there are.

    Parameters
    ----------
    batch_size: images a batch, on each device.
    batches: batches an epoch.
    workers: loader processes.
    seed: of all crops and degradations.
    """

    def __init__(self, batch_size: int, batches: int, workers: int, seed: int) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("batches", batches)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.batch_size, self.batches, self.workers, self.seed = batch_size, batches, workers, seed

    def training(self, rank: int) -> Dataset[RestorationBatch]:
        """Batch n of the process ``rank``, for any n."""
        raise NotImplementedError(f"{type(self).__name__} must define training")

    def validation(self) -> Dataset[RestorationBatch]:
        """The held-out images, degraded always alike."""
        raise NotImplementedError(f"{type(self).__name__} must define validation")

    @property
    def rank(self) -> int:
        """Of this process; 0 without a trainer."""
        return self.trainer.global_rank if self.trainer is not None else 0

    def done(self) -> int:
        """Batches that this process has trained on, also before a run was resumed; 0 without a trainer."""
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches

    def train_dataloader(self) -> DataLoader[Any]:
        numbers, workers = BatchNumbers(self.batches, self.done), self.workers
        data = self.training(self.rank)
        return NumberedLoader(data, None, sampler=numbers, num_workers=workers, persistent_workers=workers > 0)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.validation(), None, num_workers=self.workers)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.val_dataloader()
