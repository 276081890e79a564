"""Compiled loops shared out over as many threads as torch would take."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

__all__ = ["share_out"]

SMALL = 4  # parts a thread gets: those that finish early take another


def share_out(work: Callable[[int, int], None], count: int, *, grain: int = 1) -> None:
    """Calls ``work(begin, end)`` on parts of ``range(count)``, whose bounds are multiples of ``grain``.

    Threads run side by side where ``work`` lets go of Python's lock; the number is ``torch.get_num_threads()``.
    """
    threads = min(torch.get_num_threads(), max(1, count // grain))
    if threads == 1:
        work(0, count)
        return
    size = max(1, -(-count // (SMALL * threads * grain))) * grain
    bounds = [(begin, min(begin + size, count)) for begin in range(0, count, size)]
    list(_pool(threads, os.getpid()).map(lambda bound: work(*bound), bounds))


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # a forked process has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="projector")
