"""What all methods share: checked input, progress, the trace, why they stop, and what they return."""

from __future__ import annotations

import math

import pytest
import torch

from inverse.operators import JPEG, Gaussian
from medical.classical import ADMMTV, CGLS, FBP, FISTATV, OSSART, PDHGTV, SIRT, CGSense, L1Wavelet, ZeroFilled
from medical.operators.nufft import NUFFT
from medical.sampling import pipe_menon_density, radial
from tests.medical.classical.problems import Dense, blocks, ct, mri, randn

ITERATIVE = [SIRT(), OSSART(subsets=3), CGLS(), CGSense(), FISTATV(), ADMMTV(), PDHGTV(), L1Wavelet(levels=2)]

iterative = pytest.mark.parametrize("method", ITERATIVE, ids=lambda m: type(m).__name__)
everything = pytest.mark.parametrize("method", [*ITERATIVE, FBP(), ZeroFilled()], ids=lambda m: type(m).__name__)


@everything
def test_input_is_checked_before_any_work(method):
    A, y, _ = ct()
    spoilt = y.clone()
    spoilt[0, 0, 3, 4] = math.nan
    with pytest.raises(ValueError, match="y must be finite, got 1 of"):
        method.reconstruct(A, spoilt)
    with pytest.raises(ValueError, match="y must have shape"):
        method.reconstruct(A, y[..., 1:])
    with pytest.raises(ValueError, match="y must hold at least one measurement"):
        method.reconstruct(A, y[:0])
    with pytest.raises(TypeError, match="floating-point"):
        method.reconstruct(A, y.long())
    if not isinstance(method, (FBP, OSSART)):
        with pytest.raises(TypeError, match="linear operator"):
            method.reconstruct(JPEG(50), y)


@iterative
def test_a_start_has_to_fit(method):
    A, y, x = ct()
    with pytest.raises(ValueError, match="start must have the shape"):
        method.reconstruct(A, y, start=x[..., 1:])
    with pytest.raises(ValueError, match="start must be finite"):
        method.reconstruct(A, y, start=x / 0)
    with pytest.raises(ValueError, match="start must be real"):
        method.reconstruct(A, y, start=x.to(torch.complex64))


@iterative
def test_the_limit_is_kept_and_the_advice_given(method):
    A, y, _ = ct(sigma=0.0)
    few = type(method)(**{**vars(method), "iterations": 2, "tolerance": 1e-9})
    calls = []
    r = few.reconstruct(A, y, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert (r.iterations, r.converged) == (2, False)
    assert "raise iterations" in r.reason
    assert len(r.trace.change) == len(r.trace.seconds) == 2
    assert r.trace.change[-1] > 1e-9
    assert r.settings["method"] == type(method).__name__
    assert r.settings["iterations"] == 2
    assert r.seconds >= r.trace.seconds[-1] > 0


@iterative
def test_a_loose_tolerance_stops_early(method):
    A, y, _ = ct(sigma=0.0)
    r = type(method)(**{**vars(method), "iterations": 500, "tolerance": 0.2}).reconstruct(A, y)
    assert r.converged
    assert r.iterations < 250
    assert "fell to the tolerance" in r.reason
    assert r.trace.change[-1] <= 0.2 < r.trace.change[0]


@iterative
def test_going_on_from_an_estimate_improves_it(method):
    A, y, _ = ct(views=16, sigma=0.0)
    settings = {**vars(method), "iterations": 12, "tolerance": 1e-12}
    method = type(method)(**settings)
    first = method.reconstruct(A, y)
    second = method.reconstruct(A, y, start=first.estimate)
    assert float(second.residual.norm()) < float(first.residual.norm())
    if second.trace.residual and not isinstance(method, OSSART):
        assert second.trace.residual[-1] == pytest.approx(float(second.residual.norm()), rel=1e-2)


def test_the_residual_ratio_counts_measured_points_alone():
    A, y, _ = mri(kept=0.3, sigma=0.1)
    r = ZeroFilled().reconstruct(A, y)
    zero = CGLS(iterations=1).reconstruct(A.with_noise(Gaussian(1.0)), y)
    kept = int((y != 0).sum())
    assert kept == int(A.mask.sum()) * 2
    assert r.residual_ratio == pytest.approx(float((r.residual.abs().square().sum() / (2 * kept * 0.01)).sqrt()), rel=1e-5)
    assert zero.residual_ratio < 1
    A, y, _ = mri(sigma=0.0)
    assert ZeroFilled().reconstruct(A, y).residual_ratio is None


def test_an_adjoint_that_is_none_is_noticed():
    class Wrong(Dense):
        def _adjoint(self, y):
            return -3 * super()._adjoint(y)

    A = Wrong(randn(30, 20), (1, 4, 5))
    with pytest.raises(ArithmeticError, match="adjoint"):
        FISTATV(weight=0.1, iterations=20000, tolerance=1e-12).reconstruct(A, randn(1, 30, seed=1))


def test_half_precision_is_worked_on_in_float32():
    A, y, _ = ct()
    r = CGLS().reconstruct(A, y.bfloat16())
    assert r.estimate.dtype == torch.float32
    assert r.residual.dtype == torch.float32


def test_filtered_back_projection_is_that_of_the_projector():
    A, y, _ = ct(views=40, sigma=0.0)
    r = FBP(window="hann", cutoff=0.8).reconstruct(A, y)
    torch.testing.assert_close(r.estimate, A.fbp(y, window="hann", cutoff=0.8))
    assert r.converged
    assert r.settings == {"method": "FBP", "window": "hann", "cutoff": 0.8, "scan": "auto"}
    with pytest.raises(TypeError, match="fbp"):
        FBP().reconstruct(*mri()[:2])
    with pytest.raises(ValueError, match="start has no meaning"):
        FBP().reconstruct(A, y, start=r.estimate)


def test_a_formula_asks_for_no_more_than_it_needs(monkeypatch):
    """Filtered back-projection has no use for the adjoint, and zero-filling for one."""
    A, y, _ = ct(views=10)
    calls = []
    adjoint = type(A)._adjoint
    monkeypatch.setattr(type(A), "_adjoint", lambda self, y: calls.append(1) or adjoint(self, y))
    FBP().reconstruct(A, y)
    assert len(calls) == 0
    ZeroFilled().reconstruct(A, y)
    ZeroFilled(weights=torch.ones(1)).reconstruct(A, y)
    assert len(calls) == 2


def test_zero_filling_is_the_adjoint_with_weights():
    A, y, _ = mri()
    torch.testing.assert_close(ZeroFilled().reconstruct(A, y).estimate, A.adjoint(y))
    k, x = radial(48, 48), blocks(24, 24).to(torch.complex64)
    A = NUFFT(k, (24, 24))
    w = pipe_menon_density(k, (24, 24))
    gridded = ZeroFilled(weights=w).reconstruct(A, A(x)).estimate
    assert float((gridded - x).norm() / x.norm()) < 0.3
    assert float((ZeroFilled().reconstruct(A, A(x)).estimate - x).norm() / x.norm()) > 1
    with pytest.raises(ValueError, match="weights must spread"):
        ZeroFilled(weights=w[1:]).reconstruct(A, A(x))
