"""Batches by number: batch n follows from n and the seed, so that a resumed run goes on exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler

__all__ = ["BatchNumbers", "NumberedLoader"]


class BatchNumbers(DistributedSampler[int]):
    """The numbers of ``length`` batches, from the first that has not been trained on.

    A distributed sampler by name alone, so that Lightning leaves it in place: every process has all numbers, and what it
    draws for a number depends on its rank.

    Parameters
    ----------
    length: batches an epoch.
    done: how many batches have been trained on; asked whenever an epoch begins.
    """

    def __init__(self, length: int, done: Callable[[], int]) -> None:
        super().__init__(range(length), num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]
        self.length, self.done = length, done

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        start = self.done()
        return iter(range(start, start + self.length))


class NumberedLoader(DataLoader[Any]):
    """A loader of numbered batches, which needs no state to go on amid an epoch; Lightning asks for one."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
