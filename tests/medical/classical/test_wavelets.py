"""The wavelet transform, held against PyWavelets, and its adjoint."""

from __future__ import annotations

import pytest
import pywt
import torch

from inverse.operators.solve import inner
from medical.classical import Wavelet
from tests.medical.classical.problems import randn

every_name = pytest.mark.parametrize("name", ["haar", "db2", "db4", "sym5", "coif2"])


@pytest.mark.filterwarnings("ignore:Level value")
@every_name
def test_equals_pywavelets_on_pictures(name):
    x = randn(2, 32, 24, dtype=torch.complex128)
    expected = pywt.coeffs_to_array(pywt.wavedec2(x.numpy(), name, mode="periodization", level=3), axes=(-2, -1))[0]
    torch.testing.assert_close(Wavelet(name, 3).forward(x), torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Level value")
@every_name
def test_equals_pywavelets_on_volumes(name):
    x = randn(8, 16, 12)
    expected = pywt.coeffs_to_array(pywt.wavedecn(x.numpy(), name, mode="periodization", level=2))[0]
    torch.testing.assert_close(Wavelet(name, 2, dims=3).forward(x), torch.from_numpy(expected), rtol=0, atol=1e-12)


@every_name
@pytest.mark.parametrize("shape", [(16, 24), (8, 16, 8)], ids=str)
def test_is_orthogonal_and_the_inverse_its_adjoint(name, shape):
    W = Wavelet(name, 3, dims=len(shape))
    x, c = randn(2, *shape, dtype=torch.complex128), randn(2, *shape, seed=1, dtype=torch.complex128)
    torch.testing.assert_close(W.inverse(W.forward(x)), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(inner(W.forward(x), c), inner(x, W.inverse(c)), rtol=1e-9, atol=1e-9)


def test_a_constant_is_all_in_the_approximation_and_a_line_has_no_details_inside():
    W = Wavelet("db4", 2)
    c = W.forward(torch.ones(16, 24, dtype=torch.float64))
    inside = W.approximation(c.shape)
    torch.testing.assert_close(c[inside], torch.full((4, 6), 4.0, dtype=torch.float64))
    c[inside] = 0
    assert float(c.abs().max()) < 1e-10
    line = Wavelet("db4", 1).forward(torch.arange(32.0, dtype=torch.float64).expand(2, 32))
    assert float(line[0, 16:].abs().sort().values[8]) < 1e-9  # but where the end meets the beginning


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"multiples of 8, got \(30, 24\); pad to \(32, 24\)"):
        Wavelet("db4", 3).forward(torch.zeros(1, 30, 24))
    with pytest.raises(ValueError, match="orthogonal wavelet"):
        Wavelet("bior2.2")
    with pytest.raises(ValueError, match="orthogonal wavelet"):
        Wavelet("nosuch")
    with pytest.raises(ValueError, match="levels"):
        Wavelet("db4", 0)
