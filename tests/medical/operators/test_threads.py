"""Work shared out over threads: every part once, and in a forked process too."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from medical.operators.threads import share_out


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "grain"), [(0, 1), (1, 1), (2, 1), (7, 32), (65, 32), (1000, 1)])
def test_parts_cover_the_range_once(two_threads, count, grain):
    parts: list[tuple[int, int]] = []
    share_out(lambda a, b: parts.append((a, b)), count, grain=grain)
    assert [i for a, b in sorted(parts) for i in range(a, b)] == list(range(count))
    assert all(a % grain == 0 for a, _ in parts)


def test_what_goes_wrong_in_a_thread_comes_out(two_threads):
    with pytest.raises(ZeroDivisionError):
        share_out(lambda a, b: 1 // a, 100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_makes_threads_of_its_own(two_threads):
    share_out(lambda a, b: None, 100)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends the process where it waits for threads that it does not have
        share_out(lambda a, b: None, 100)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
