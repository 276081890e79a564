"""The pool of pairs: nothing is lost, nothing comes twice, and pairs stay together."""

from __future__ import annotations

import pytest
import torch

from restore.degradations import DiversityPool, without_nan


def batch(first: int, B: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs whose values are their numbers."""
    numbers = torch.arange(first, first + B).float().view(B, 1, 1, 1)
    return numbers.expand(B, 3, 4, 4).clone(), numbers.expand(B, 3, 2, 2).clone()


def pool(seed: int = 0, batches: int = 3) -> DiversityPool:
    return DiversityPool(batches, generator=torch.Generator().manual_seed(seed))


def test_while_it_fills_pairs_come_back():
    p = pool()
    for i in range(3):
        truth, degraded = batch(4 * i)
        out = p.exchange(truth, degraded)
        assert torch.equal(out[0], truth)
        assert torch.equal(out[1], degraded)
    assert len(p) == 12


def test_then_each_pair_leaves_at_most_once_and_stays_together():
    p = pool()
    for i in range(3):
        p.exchange(*batch(4 * i))
    seen: list[float] = []
    for i in range(3, 40):
        truth, degraded = p.exchange(*batch(4 * i))
        assert torch.equal(truth[:, 0, 0, 0], degraded[:, 0, 0, 0])
        numbers = truth[:, 0, 0, 0].tolist()
        assert max(numbers) < 4 * i  # none of the new ones
        seen += numbers
    assert len(set(seen)) == len(seen) == 4 * 37
    assert len(p) == 12
    ages = torch.tensor([n // 4 for n in seen])
    assert len({int(a) for a in ages[-40:]}) > 8  # batches are mixed


def test_what_it_gives_does_not_change_later():
    p = pool(batches=1)
    p.exchange(*batch(0))
    truth, _ = p.exchange(*batch(4))
    before = truth.clone()
    p.exchange(*batch(8))
    assert torch.equal(truth, before)


def test_the_seed_decides():
    outs = []
    for seed in (0, 0, 1):
        p = pool(seed)
        for i in range(4):
            out = p.exchange(*batch(4 * i))
        outs.append(out[0])
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_smaller_and_empty_batches():
    p = pool(batches=1)
    p.exchange(*batch(0))
    assert len(p.exchange(*batch(4, B=2))[0]) == 2
    assert len(p.exchange(*batch(6, B=0))[0]) == 0


def test_pairs_that_are_no_numbers_are_dropped():
    truth, degraded = batch(0)
    truth[1, 0, 0, 0] = float("nan")
    degraded[3, 0, 0, 0] = float("nan")
    whole = without_nan(truth, degraded)
    assert [t[:, 0, 1, 1].tolist() for t in whole] == [[0, 2], [0, 2]]


def test_bad_values():
    with pytest.raises(ValueError, match="batches must be"):
        pool(batches=0)
    p = pool()
    p.exchange(*batch(0))
    truth, degraded = batch(4)
    with pytest.raises(ValueError, match="degraded must be"):
        p.exchange(truth, degraded[:3])
    with pytest.raises(ValueError, match="truth must be"):
        p.exchange(truth[..., :3], degraded)
