"""Golden-section search: how many trials, how close, and what it does with what is no number."""

from __future__ import annotations

import math

import pytest

from inverse.golden_section import golden_section


@pytest.mark.parametrize("peak", [0.3, 1.7, 2.9])
@pytest.mark.parametrize("evaluations", [2, 5, 20])
def test_every_trial_shortens_the_interval(peak, evaluations):
    tried = []

    def quality(x):
        tried.append(x)
        return -abs(x - peak)

    best = golden_section(quality, 0.0, 3.0, evaluations=evaluations)
    assert len(tried) == evaluations
    assert best == max(tried, key=lambda x: -abs(x - peak))
    assert abs(best - peak) <= 3.0 * 0.6181 ** (evaluations - 1)


def test_what_is_no_number_is_bad():
    best = golden_section(lambda x: math.nan if x > 2 else x, 0.0, 3.0, evaluations=25)
    assert best == pytest.approx(2.0, abs=1e-3)
