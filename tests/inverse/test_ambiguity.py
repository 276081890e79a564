"""Alignment finds an image again among all that have its Fourier magnitude."""

import cmath

import pytest
import torch

from inverse import align
from inverse.operators import PhaseRetrieval


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X = rand(2, 3, 5, 6)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-2, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_shifted_and_turned(shift, turned):
    estimate = (X.flip(-2, -1) if turned else X).roll(shift, (-2, -1))
    torch.testing.assert_close(PhaseRetrieval(0)(estimate), PhaseRetrieval(0)(X), atol=1e-12, rtol=0)
    assert torch.equal(align(estimate, X), X)


def test_every_channel_is_aligned_on_its_own():
    estimate = X.clone()
    estimate[0, 0] = X[0, 0].flip(0, 1)
    estimate[0, 1] = X[0, 1].roll(2, 0)
    estimate[1, 2] = -X[1, 2]
    assert torch.equal(align(estimate, X, phase=True), X)
    assert not torch.equal(align(estimate, X)[1, 2], X[1, 2])


def test_a_complex_image():
    truth = torch.complex(X - 0.5, rand(2, 3, 5, 6, seed=1) - 0.5)
    estimate = cmath.exp(2.1j) * truth.conj().flip(-2, -1).roll((1, 2), (-2, -1))
    torch.testing.assert_close(PhaseRetrieval(0)(estimate), PhaseRetrieval(0)(truth), atol=1e-12, rtol=0)
    torch.testing.assert_close(align(estimate, truth, phase=True), truth, atol=1e-12, rtol=0)


def test_within_a_border_nothing_comes_in_from_the_other_side():
    truth = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    truth[..., :2, 1:] = rand(1, 1, 2, 3) + 0.1
    moved = truth.roll((2, -1), (-2, -1))
    A = PhaseRetrieval((2, 1))
    torch.testing.assert_close(A(moved), A(truth), atol=1e-12, rtol=0)
    assert torch.equal(align(moved, truth, padding=A.padding), truth)
    full = rand(1, 1, 4, 4) + 0.5
    wrapped = full.roll(2, -1)  # as good as the truth without a border, another image with one
    assert torch.equal(align(wrapped, full), full)
    assert float((align(wrapped, full, padding=2) - full).abs().max()) > 0.1


def test_the_place_may_be_known():
    assert torch.equal(align(X.flip(-2, -1), X, shifts=False), X)
    ramp = torch.arange(20, dtype=torch.float64).view(1, 1, 4, 5)
    moved = ramp.roll(1, -1)
    assert torch.equal(align(moved, ramp, shifts=False), moved)
    assert torch.equal(align(moved, ramp), ramp)


def test_no_candidate_is_closer():
    """Against all shifts of both orientations, one by one."""
    estimate, truth = rand(1, 1, 4, 5, seed=3), rand(1, 1, 4, 5, seed=4)
    candidates = [
        oriented.roll((i, j), (-2, -1)) for oriented in (estimate, estimate.flip(-2, -1)) for i in range(4) for j in range(5)
    ]
    errors = [float((c - truth).square().sum()) for c in candidates]
    assert float((align(estimate, truth) - truth).square().sum()) == min(errors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: align(X, X[:1]), r"batches of one shape \(B, C, H, W\), got \(2, 3, 5, 6\) and \(1, 3, 5, 6\)"),
        (lambda: align(X[0], X[0]), r"batches of one shape .* got \(3, 5, 6\) and \(3, 5, 6\)"),
        (lambda: align(X, X.to(torch.complex128)), r"both be real or both complex, got torch\.float64 and torch\.complex128"),
        (lambda: align(X, X, padding=-1), "padding must not be negative, got -1"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
