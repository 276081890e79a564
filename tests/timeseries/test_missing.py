"""Missing-value scenarios: what they hide, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch

from timeseries.missing import MissingScenario

PAST = torch.arange(1.0, 41.0).repeat(5, 1)


@pytest.mark.parametrize(("kind", "first"), [("BM-B", 16), ("BM-E", 28), ("bm-e", 28)])
def test_blackouts(kind: str, first: int) -> None:
    past, observed = MissingScenario(kind=kind, count=12, context_length=24)(PAST)
    assert observed[0].logical_not().nonzero().flatten().tolist() == list(range(first, first + 12))
    torch.testing.assert_close(past, PAST * observed, rtol=0, atol=0)


def test_random_positions() -> None:
    past, observed = MissingScenario(kind="RM", count=12, context_length=24)(PAST, seed=3)
    assert bool((observed[:, :16] == 1).all())
    assert observed[:, 16:].sum(1).tolist() == [12] * 5
    torch.testing.assert_close(past, PAST * observed, rtol=0, atol=0)
    assert not torch.equal(observed[0], observed[1])


def test_every_position_is_hidden_equally_often() -> None:
    hidden = MissingScenario(kind="RM", count=3, context_length=12).hidden(2000)
    assert (hidden.double().mean(0) - 0.25).abs().max() < 5 * (0.25 * 0.75 / 2000) ** 0.5


def test_a_series_does_not_depend_on_its_batch() -> None:
    scenario = MissingScenario(kind="RM", count=5, context_length=24)
    assert torch.equal(scenario.hidden(4, seed=7)[2:], scenario.hidden(2, seed=9))


def test_what_is_missing_before_stays_missing() -> None:
    past, mask = PAST.clone(), torch.ones_like(PAST)
    past[:, 3], mask[:, 39] = torch.nan, 0
    got, observed = MissingScenario(kind="BM-B", count=2, context_length=24)(past, mask)
    assert observed[0].logical_not().nonzero().flatten().tolist() == [3, 16, 17, 39]
    assert bool(got.isfinite().all())
    assert bool((got[observed == 0] == 0).all())


@pytest.mark.parametrize("kind", ["RM", "BM-B", "BM-E"])
@pytest.mark.parametrize("count", [0, 24])
def test_nothing_and_everything(kind: str, count: int) -> None:
    _, observed = MissingScenario(kind=kind, count=count, context_length=24)(PAST)
    assert observed.sum(1).tolist() == [40 - count] * 5


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="RM, BM-B, BM-E, got 'BM'"):
        MissingScenario(kind="BM", count=1, context_length=3)
    with pytest.raises(ValueError, match=r"0\.\.3, the length of the context, got 4"):
        MissingScenario(kind="RM", count=4, context_length=3)
    with pytest.raises(ValueError, match="context_length must be at least 1"):
        MissingScenario(kind="RM", count=0, context_length=0)
    with pytest.raises(ValueError, match=r"N at least 50, got \(5, 40\)"):
        MissingScenario(kind="RM", count=4, context_length=50)(PAST)
