"""The norm by Lanczos, held against singular values."""

from __future__ import annotations

import gc

import pytest
import torch

from inverse.operators import Identity
from inverse.operators.noise import Gaussian
from medical.classical import noise_in_gradient, spectral_norm
from medical.operators.sense import Sense
from tests.medical.classical.problems import Dense, ct, mri, randn


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_is_the_largest_singular_value_from_above(dtype):
    matrix = randn(60, 48, dtype=dtype)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    norm = spectral_norm(Dense(matrix, (1, 6, 8)), torch.zeros(3, 1, 6, 8, dtype=dtype))
    assert norm.shape == (1, 1, 1, 1)
    assert norm.dtype == torch.float64
    assert exact * (1 - 1e-9) <= float(norm) <= exact * 1.02


def test_of_rays_and_of_an_isometry():
    A, _, x = ct(views=10)
    dense = A(torch.eye(256).view(256, 1, 16, 16)).flatten(1)
    assert float(spectral_norm(A, x)) == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=1e-4)
    assert float(spectral_norm(3.0 * Identity(), x)) == pytest.approx(3)


def test_every_mask_of_a_batch_has_its_norm():
    A, _, x = mri()
    masks = torch.stack([A.mask[0], torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(5)) < 0.1])
    both = Sense(A.maps[0], masks)
    norms = spectral_norm(both, x.expand(2, -1, -1, -1))
    assert norms.shape == (2, 1, 1, 1)
    for mask, norm in zip(masks, norms.flatten().tolist(), strict=True):
        single = Sense(A.maps[0], mask[0])
        n = 256
        dense = single(torch.eye(n, dtype=torch.complex64).view(n, 1, 16, 16)).flatten(1)
        assert norm == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=2e-2)


def test_is_worked_out_once_for_each_operator_and_again_when_it_changes():
    class Counted(Dense):
        calls = 0

        def _apply_operator(self, x):
            type(self).calls += 1
            return super()._apply_operator(x)

    A, x = Counted(randn(30, 20), (1, 4, 5)), torch.zeros(1, 1, 4, 5, dtype=torch.float64)
    first = spectral_norm(A, x)
    calls = Counted.calls
    assert 0 < calls <= 20
    torch.testing.assert_close(spectral_norm(A, x), first)
    assert Counted.calls == calls
    A.matrix.mul_(2)
    torch.testing.assert_close(spectral_norm(A, x), 2 * first)
    del A
    gc.collect()
    from medical.classical.spectral_norm import _KNOWN

    assert not any(isinstance(op, Counted) for op in _KNOWN)


def test_the_noise_in_the_gradient_is_that_of_the_adjoint():
    matrix = randn(300, 400, dtype=torch.complex128)
    A = Dense(matrix, (1, 20, 20), Gaussian(0.3))
    expected = 0.3 * float((2 * matrix.abs().square().sum() / 400).sqrt())  # two parts
    assert float(noise_in_gradient(A, torch.zeros(1, 300, dtype=torch.complex128))) == pytest.approx(expected, rel=0.1)
    assert float(noise_in_gradient(Dense(matrix, (1, 20, 20)), torch.zeros(1, 300, dtype=torch.complex128))) == 0


def test_other_tensors_in_the_place_of_the_old_ones_are_noticed():
    """Each in the memory of the one before, as like as not."""
    A, x = Dense(randn(30, 20), (1, 4, 5)), torch.zeros(1, 1, 4, 5, dtype=torch.float64)
    first = float(spectral_norm(A, x))
    for factor in (2.0, 3.0, 4.0, 5.0):
        A.matrix = None
        A.matrix = factor * randn(30, 20)
        assert float(spectral_norm(A, x)) == pytest.approx(factor * first)


def test_an_operator_made_in_inference_mode():
    with torch.inference_mode():
        A = Dense(randn(30, 20), (1, 4, 5))
    x = torch.zeros(1, 1, 4, 5, dtype=torch.float64)
    assert float(spectral_norm(A, x)) == pytest.approx(float(spectral_norm(Dense(randn(30, 20), (1, 4, 5)), x)))
