"""Nonlinear measurements: closed forms, slopes through the rounding, and what they refuse."""

import math

import pytest
import torch

from inverse.operators import JPEG, Overexpose, PhaseRetrieval, Quantize
from inverse.operators.jpeg import quantization_tables


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slope(A, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(A(x).sum(), x)[0]


def test_overexpose():
    x = torch.tensor([[0.1, 0.3, 0.5, 0.6, 0.9]])
    y = Overexpose(2.0)(x)
    assert y[0].tolist() == pytest.approx([0.0, 0.1, 0.5, 0.7, 1.0], abs=1e-6)
    assert slope(Overexpose(2.0), x)[0].tolist() == [0.0, 2.0, 2.0, 2.0, 0.0]
    assert Overexpose(2.0).pinv(y)[0].tolist() == pytest.approx([0.25, 0.3, 0.5, 0.6, 0.75], abs=1e-6)


def test_overexposure_of_images_from_minus_one_to_one():
    """Of RED-Diff and DAPS: clip(2 x, -1, 1)."""
    x = 2 * rand(1, 3, 4, 4) - 1
    torch.testing.assert_close(2 * Overexpose()((x + 1) / 2) - 1, (2 * x).clamp(-1, 1), atol=1e-14, rtol=0)


def test_quantize():
    x = torch.tensor([[0.0, 0.16, 0.17, 0.5, 1.0]])
    assert Quantize(2)(x)[0].tolist() == pytest.approx([0.0, 0.0, 1 / 3, 2 / 3, 1.0])  # half goes up
    assert slope(Quantize(2), x)[0].tolist() == [1.0] * 5
    assert len(Quantize(3)(rand(1, 5000)).unique()) == 8


def test_jpeg_keeps_a_grey_image():
    grey = torch.full((1, 3, 16, 32), 128 / 255, dtype=torch.float64)
    torch.testing.assert_close(JPEG(10)(grey), grey, atol=1e-12, rtol=0)


def test_jpeg_at_its_best_loses_at_most_the_rounding():
    """At quality 100 a table is all ones: each coefficient is off by at most 1/2, 4 in the pixel, in grey images."""
    x = rand(1, 1, 16, 16).expand(1, 3, 16, 16)
    error = 255 * (JPEG(100)(x) - x)
    assert 0 < float(error.abs().max()) <= 4
    assert float(error.square().mean().sqrt()) == pytest.approx(12**-0.5, rel=0.15)  # uniform rounding errors


def test_jpeg_is_a_projection_up_to_rounding():
    y = JPEG(30)(rand(1, 3, 16, 16))
    torch.testing.assert_close(JPEG(30)(y), y, atol=1e-10, rtol=0)


def test_the_slope_of_jpeg_passes_through_the_rounding():
    grey = rand(1, 1, 16, 16).expand(1, 3, 16, 16)
    torch.testing.assert_close(slope(JPEG(10), grey).sum(1), torch.full((1, 16, 16), 3.0).double(), atol=1e-9, rtol=0)


def test_tables():
    assert quantization_tables(50)[0, 0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert quantization_tables(50)[1, 3].tolist() == [47, 66, 99, 99, 99, 99, 99, 99]
    assert quantization_tables(100).unique().tolist() == [1]
    assert int(quantization_tables(1).max()) == 255


def test_phase_retrieval():
    x = rand(2, 3, 6, 8)
    A = PhaseRetrieval(2)
    y = A(x)
    assert y.shape == (2, *A.output_shape((3, 6, 8))) == (2, 3, 10, 12)
    torch.testing.assert_close(y.square().sum((-2, -1)), x.square().sum((-2, -1)), atol=1e-10, rtol=0)  # Parseval
    torch.testing.assert_close(y[..., 5, 6], x.sum((-2, -1)) / math.sqrt(120), atol=1e-12, rtol=0)  # the middle
    torch.testing.assert_close(A(x.flip(-1, -2)), y, atol=1e-12, rtol=0)  # the twin image
    assert A.pinv(y).shape == x.shape


def test_phase_retrieval_of_images_that_are_not_square():
    x = rand(1, 2, 4, 8)
    A = PhaseRetrieval.oversampled((2, 4, 8), 2)
    assert A.padding == (2, 4)
    assert A.codomain == (2, 8, 16)
    y = A(x)
    assert y.shape[1:] == A.codomain
    row = x[0, 1].sum(0)  # the middle row of the transform is that of the sums over the columns
    wanted = torch.fft.fftshift(torch.fft.fft(row, n=16).abs()) / math.sqrt(8 * 16)
    torch.testing.assert_close(y[0, 1, 4], wanted, atol=1e-12, rtol=0)
    autocorrelation = torch.fft.ifft2(torch.fft.ifftshift(y, dim=(-2, -1)).square()).real * 8 * 16
    assert float(autocorrelation[0, 1, 1, 2]) == pytest.approx(float((x[0, 1, 1:, 2:] * x[0, 1, :-1, :-2]).sum()), abs=1e-12)
    assert torch.equal(A.cropped(A.padded(x)), x)


@pytest.mark.parametrize(("factor", "padding"), [(1, 0), (1.5, 2), (1.25, 1), (3, 8)])
def test_oversampling(factor, padding):
    assert PhaseRetrieval.oversampled((1, 8, 8), factor).padding == (padding, padding)


def test_the_default_border_is_that_of_dps():
    assert PhaseRetrieval.oversampled((3, 256, 256)).padding == (int(2 / 8 * 256), 64)
    assert PhaseRetrieval.oversampled((3, 256, 256)).codomain == (3, 384, 384)


class Half:
    """A solver that answers grey."""

    def solve(self, A, y):
        return torch.full_like(A.cropped(y), 0.5)


def test_a_solver_gives_the_start():
    A = PhaseRetrieval(1, solver=Half())
    assert torch.equal(A.pinv(A(rand(1, 1, 3, 3))), torch.full((1, 1, 3, 3), 0.5).double())
    assert "Half" in repr(A)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Overexpose(0.0), "gain must be positive and finite, got 0.0"),
        (lambda: Quantize(0), r"bits must be a whole number in 1\.\.16, got 0"),
        (lambda: JPEG(101), r"quality must be a whole number in 1\.\.100, got 101"),
        (lambda: JPEG(50)(torch.zeros(1, 3, 16, 24)), r"multiples of 16, got \(3, 16, 24\)"),
        (lambda: JPEG(50)(torch.zeros(1, 1, 16, 16)), r"colour images .* got \(1, 16, 16\)"),
        (lambda: PhaseRetrieval(-1), r"padding must be a whole number or two .*, not negative, got -1"),
        (lambda: PhaseRetrieval((1, 0.5)), r"padding must be a whole number or two .* got \(1, 0\.5\)"),
        (lambda: PhaseRetrieval.oversampled((1, 4, 4), 0.9), r"factor must be at least 1 and finite, got 0\.9"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
