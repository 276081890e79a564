"""How a volume is worked on, apart from what is computed: chunks of slices, processes, and a state to resume from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["Run"]

INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
"""Of as many bits."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and in what portions the work is done; the result does not depend on the processes, nor on a resume.

    Attributes
    ----------
    chunk: slices that pass the network together, which bounds the memory.
    official_chunks: divide D slices into ``D // chunk + 1`` equal chunks, as the official code of DiffusionMBIR does.
    fabric: a launched ``lightning.fabric.Fabric``; its processes share the chunks, and every one of them gets the result.
    state: a file that keeps the state of the walk; where it is there, the walk goes on from it. Whoever starts the run
        removes it at the end.
    every: seconds between two writes of the state.
    """

    chunk: int = 16
    official_chunks: bool = False
    fabric: Fabric | None = None
    state: Path | None = None
    every: float = 60.0

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1 slice, got {self.chunk}")
        if not self.every >= 0:
            raise ValueError(f"every must not be negative, in seconds, got {self.every}")

    def parts(self, count: int) -> list[slice]:
        """The chunks of ``count`` slices."""
        if self.official_chunks:
            sizes = [len(part) for part in torch.arange(count).chunk(count // self.chunk + 1)]
            ends = torch.tensor(sizes).cumsum(0).tolist()
            return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        return [slice(first, min(first + self.chunk, count)) for first in range(0, count, self.chunk)]

    def map(self, function: Callable[[slice], Tensor], count: int, *, done: Callable[[], None] | None = None) -> Tensor:
        """``function(part)``, (slices, ...), of every chunk, put together in order; each process works on its share.

        ``done()`` is called after every chunk. Chunks do not depend on the number of processes, so neither do the values.
        """
        parts = self.parts(count)
        rank, processes = (0, 1) if self.fabric is None else (self.fabric.global_rank, self.fabric.world_size)
        own = {}
        for index, part in enumerate(parts):
            if index % processes == rank:
                own[index] = function(part)
            if done is not None:
                done()
        if processes == 1:
            return torch.cat([own[index] for index in range(len(parts))])
        return self._gathered(own, parts, count)

    def _gathered(self, own: dict[int, Tensor], parts: list[slice], count: int) -> Tensor:
        """The chunks of all processes: each fills in its own, and the bits are summed as integers, which the zeros of the
        others do not change; as numbers, a negative zero would lose its sign.
        """
        import torch.distributed as distributed

        like = self._described(own)
        total = like.new_zeros((count, *like.shape[1:]))
        for index, values in own.items():
            total[parts[index]] = values
        numbers = torch.view_as_real(total) if total.is_complex() else total
        distributed.all_reduce(numbers.view(INTEGERS.get(numbers.dtype, numbers.dtype)))
        return total

    def _described(self, own: dict[int, Tensor]) -> Tensor:
        """An empty tensor of the shape and type of a chunk's values, from process 0, which always has a chunk."""
        assert self.fabric is not None
        first = next(iter(own.values()), None)
        known = None if first is None else (tuple(first.shape[1:]), first.dtype)
        shape, dtype = self.fabric.broadcast(known, src=0)  # type: ignore[misc]
        return torch.empty((0, *shape), dtype=dtype, device=self.fabric.device)
