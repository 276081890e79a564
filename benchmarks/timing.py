"""Timing two things against each other: alternating, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

__all__ = ["machine", "side_by_side"]


def side_by_side(calls: Sequence[Callable[[], object]], *, budget: float = 1.5, most: int = 60) -> list[float]:
    """Median seconds of each call; they take turns until each has had ``budget`` seconds or ``most`` repetitions."""
    for call in calls:  # the first run of anything pays for its caches
        call()
    times: list[list[float]] = [[] for _ in calls]
    while any(len(t) < 3 or (sum(t) < budget and len(t) < most) for t in times):
        for t, call in zip(times, calls, strict=True):
            if len(t) >= 3 and (sum(t) >= budget or len(t) >= most):
                continue
            began = time.perf_counter()
            call()
            t.append(time.perf_counter() - began)
    return [sorted(t)[len(t) // 2] for t in times]


def machine(threads: int | None = None) -> str:
    """What the figures were measured on, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, {threads or torch.get_num_threads()} thread(s), torch {torch.__version__}"
