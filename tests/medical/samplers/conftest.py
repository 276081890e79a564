"""Several processes, as threads of one."""

from contextlib import nullcontext
from functools import cached_property

import pytest
import torch

from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem
from tests.medical.samplers.problems import Together


@pytest.fixture
def together(monkeypatch):
    """``together(count)`` runs a function as so many processes would."""

    def make(count):
        threads = Together(count)
        monkeypatch.setattr(torch.distributed, "all_reduce", threads.all_reduce)
        return threads

    # up to Python 3.11 threads share a lock here, which processes do not
    for value in (*vars(Stack).values(), *vars(VolumeProblem).values()):
        if isinstance(value, cached_property) and hasattr(value, "lock"):
            monkeypatch.setattr(value, "lock", nullcontext())
    return make
