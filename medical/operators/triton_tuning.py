"""Launching Triton kernels: each picks the best of a few tile shapes the first time it meets a size on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import triton
from torch import Tensor

__all__ = ["Tuned"]


@dataclass(frozen=True)
class Tuned:
    """A kernel and the shapes of its tiles to choose from.

    Parameters
    ----------
    kernel: a function of ``triton.jit``.
    tiles: the compile-time sizes it may be launched with, and ``warps``; the first is taken where there is no GPU.
    key: names of the arguments whose values ask for a choice of their own.
    adds_to: names of the arguments that a launch adds to, restored between trials.
    """

    kernel: Any
    tiles: tuple[dict[str, int], ...]
    key: tuple[str, ...]
    adds_to: tuple[str, ...] = ()

    def __call__(self, grid: Callable[[dict[str, int]], tuple[int, ...]], first: Tensor, *arguments: Any) -> None:
        """Launch on the device of ``first``, with as many programs as ``grid`` says for the sizes chosen.

        A CPU needs Triton's interpreter, the variable TRITON_INTERPRET=1 set before Triton is imported.
        """
        if first.device.type == "cpu":
            sizes = _sizes(self.tiles[0])
            self.kernel[grid(sizes)](first, *arguments, **sizes)
            return
        with torch.cuda.device(first.device):
            self._tuner[grid](first, *arguments)

    @cached_property
    def _tuner(self) -> Any:
        configs = [triton.Config(_sizes(tile), num_warps=tile["warps"], num_stages=2) for tile in self.tiles]
        return triton.autotune(configs, key=list(self.key), restore_value=list(self.adds_to))(self.kernel)


def _sizes(tile: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in tile.items() if name != "warps"}
