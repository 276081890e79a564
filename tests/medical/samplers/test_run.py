"""Chunks, and what several processes make of them."""

import pytest
import torch

from medical.samplers import Run


@pytest.mark.parametrize(("count", "sizes"), [(12, [6, 6]), (14, [7, 7]), (25, [9, 9, 7]), (448, [12] * 37 + [4])])
def test_official_chunks(count, sizes):
    parts = Run(chunk=12, official_chunks=True).parts(count)
    assert [part.stop - part.start for part in parts] == sizes
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))


@pytest.mark.parametrize(("count", "chunk", "sizes"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 5, [2])])
def test_chunks(count, chunk, sizes):
    parts = Run(chunk=chunk).parts(count)
    assert [part.stop - part.start for part in parts] == sizes
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_map_over_processes(processes, dtype, together):
    x = torch.randn(7, 2, dtype=dtype)
    threads = together(processes)
    done = []
    results = threads.run(lambda fabric: Run(chunk=2, fabric=fabric).map(lambda p: 3 * x[p], 7, done=lambda: done.append(1)))
    assert all(torch.equal(result, 3 * x) and result.dtype == dtype for result in results)
    assert len(done) == 4 * processes


def test_each_process_does_its_share(together):
    threads, seen = together(2), {0: [], 1: []}

    def work(fabric):
        def function(part):
            seen[fabric.global_rank].append(part.start)
            return torch.zeros(1, 1)

        Run(chunk=1, fabric=fabric).map(function, 5)

    threads.run(work)
    assert seen == {0: [0, 2, 4], 1: [1, 3]}


@pytest.mark.parametrize(("wrong", "match"), [({"chunk": 0}, "chunk must be at least 1"), ({"every": -1.0}, "every must not")])
def test_wrong_settings(wrong, match):
    with pytest.raises(ValueError, match=match):
        Run(**wrong)
