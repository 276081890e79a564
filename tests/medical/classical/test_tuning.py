"""The tuned weight is the best one, found by trying more."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from inverse.operators import Gaussian, Identity
from medical.classical import CGLS, FISTATV, SIRT, tune
from tests.medical.classical.problems import blocks


def test_the_weight_of_a_quadratic_penalty_is_that_of_wiener():
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    best = tune(CGLS(discrepancy=None), Identity(noise=Gaussian(0.5)), [x], (1e-3, 1e2), evaluations=16)
    assert best.weight == pytest.approx(0.25, rel=0.15)  # sigma^2 over the variance of the image
    assert best == replace(CGLS(discrepancy=None), weight=best.weight)


def test_nothing_tried_by_hand_is_better():
    A, x = Identity(noise=Gaussian(0.1)), blocks(24, 24)
    best = tune(FISTATV(), A, [x], (1e-3, 1.0))

    def error(weight):
        estimate = replace(best, weight=weight).reconstruct(A, A.measure(x, seed=0)).estimate
        return float((estimate - x).square().mean())

    tried = [error(math.exp(k)) for k in torch.linspace(math.log(1e-3), 0, 8).tolist()]
    assert error(best.weight) <= 1.02 * min(tried)


def test_what_is_refused():
    A, x = Identity(), blocks(8, 8)
    with pytest.raises(TypeError, match="weight to tune"):
        tune(SIRT(), A, [x], (0.1, 1.0))
    with pytest.raises(ValueError, match="low < high"):
        tune(CGLS(), A, [x], (1.0, 0.1))
    with pytest.raises(ValueError, match="at least one"):
        tune(CGLS(), A, [], (0.1, 1.0))
