"""FISTA, ADMM and PDHG minimise the same objective: they reach its dual bound and each other."""

from __future__ import annotations

import math

import pytest
import torch

from medical.classical import ADMMTV, FISTATV, PDHGTV, total_variation
from medical.operators.sense import Sense
from tests.medical.classical.problems import Dense, ct, differences, least_tv_objective, mri, randn, tv

EXACT = {
    "fista": FISTATV(weight=0.5, iterations=200, tolerance=1e-6),
    "admm": ADMMTV(weight=0.5, iterations=300, tolerance=1e-5),
    "pdhg": PDHGTV(weight=0.5, iterations=1500, tolerance=1e-5),
}

every_method = pytest.mark.parametrize("method", EXACT.values(), ids=EXACT.keys())


def objective(A, y, x, weight):
    return float((A(x) - y).abs().square().sum() / 2 + weight * total_variation(x).sum())


@every_method
def test_reaches_the_dual_bound(method):
    sides = (6, 7)
    matrix, y = randn(60, 42) / 6, randn(60, seed=1)
    r = method.reconstruct(Dense(matrix, (1, *sides)), y[None])
    x = r.estimate.flatten()
    value = float((matrix @ x - y).square().sum() / 2) + 0.5 * tv(x, differences(sides))
    bound = least_tv_objective(matrix, y, 0.5, differences(sides))
    assert bound <= value * (1 + 1e-10)
    assert value <= bound * (1 + 1e-5)
    assert r.trace.objective[-1] == pytest.approx(value, rel=1e-5)
    assert r.converged


@pytest.mark.parametrize("bounds", [None, (0.0, math.inf)], ids=["free", "positive"])
def test_the_three_agree_on_rays(bounds):
    A, y, x = ct(views=8)
    values = []
    for method, iterations in ((FISTATV, 150), (ADMMTV, 150), (PDHGTV, 500)):
        r = method(weight=0.2, iterations=iterations, tolerance=1e-5, bounds=bounds).reconstruct(A, y)
        values.append(objective(A, y, r.estimate, 0.2))
        assert bounds is None or float(r.estimate.min()) >= 0
        assert r.estimate.dtype == torch.float32
    assert max(values) / min(values) - 1 < 1e-4
    assert float((r.estimate - x).square().mean()) < 0.5 * float((A.fbp(y) - x).square().mean())


def test_the_three_agree_on_complex_images():
    A, y, _ = mri()
    values = [
        objective(A, y, method(weight=0.2, iterations=iterations, tolerance=1e-5).reconstruct(A, y).estimate, 0.2)
        for method, iterations in ((FISTATV, 150), (ADMMTV, 150), (PDHGTV, 500))
    ]
    assert max(values) / min(values) - 1 < 1e-4


@every_method
def test_volumes_with_unequal_voxels(method):
    class Slices(Dense):
        volume = type("Grid", (), {"spacing": (2.0, 1.0, 1.0)})()

    sides = (3, 4, 4)
    matrix, y = randn(60, 48) / 6, randn(60, seed=1)
    x = method.reconstruct(Slices(matrix, (1, *sides)), y[None]).estimate.flatten()
    D = differences(sides, (2.0, 1.0, 1.0))
    value = float((matrix @ x - y).square().sum() / 2) + 0.5 * tv(x, D)
    assert value <= least_tv_objective(matrix, y, 0.5, D) * (1 + 1e-5)


@pytest.mark.parametrize("method", [FISTATV(), ADMMTV(), PDHGTV()], ids=["fista", "admm", "pdhg"])
def test_a_batch_gives_what_its_members_give(method):
    A, y, x = ct()
    y = torch.cat([y, A.measure(3 * x.mT, seed=2)])
    together = method.reconstruct(A, y)
    apart = [method.reconstruct(A, part[None]) for part in y]
    torch.testing.assert_close(together.estimate, torch.cat([r.estimate for r in apart]), rtol=0, atol=2e-4)
    assert together.iterations == max(r.iterations for r in apart)
    assert together.converged


@pytest.mark.parametrize("method", [FISTATV, ADMMTV, PDHGTV])
def test_the_answer_scales_with_the_measurement_and_the_operator(method):
    A, y, _ = ct(sigma=0.0)
    x = method(iterations=60, tolerance=1e-9).reconstruct(A, y).estimate
    other = method(iterations=60, tolerance=1e-9).reconstruct(100.0 * A, 5.0 * y).estimate
    torch.testing.assert_close(20 * other, x, rtol=0, atol=5e-3)


def test_a_mask_for_every_member_gives_what_each_gives_alone():
    A, y, x = mri()
    masks = torch.stack([A.mask[0], A.mask[0].roll(3, -1)])
    both = Sense(A.maps[0], masks, noise=A.noise)
    y = masks * both.measure(torch.cat([x, 2 * x]))
    method = FISTATV(iterations=40)
    apart = [method.reconstruct(Sense(A.maps[0], m[0], noise=A.noise), part[None]) for m, part in zip(masks, y, strict=True)]
    together = method.reconstruct(both, y)
    torch.testing.assert_close(together.estimate, torch.cat([r.estimate for r in apart]), rtol=0, atol=1e-4)


def test_a_zero_measurement_gives_a_zero_image():
    A, y, _ = ct()
    for method in (FISTATV(), ADMMTV(), PDHGTV()):
        r = method.reconstruct(A, torch.zeros_like(y))
        assert not r.estimate.any()
        assert r.converged


def test_settings_out_of_range_are_refused():
    for wrong in ({"weight": -1.0}, {"iterations": 0}, {"tolerance": 0.0}, {"bounds": (1.0, 0.0)}):
        for method in (FISTATV, ADMMTV, PDHGTV):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                method(**wrong)
    with pytest.raises(ValueError, match="inner"):
        FISTATV(inner=0)
    A, y, _ = mri()
    with pytest.raises(ValueError, match=r"images of .* are complex"):
        FISTATV(bounds=(0.0, 1.0)).reconstruct(A, y)
