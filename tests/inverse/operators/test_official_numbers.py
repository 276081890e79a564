"""A few numbers of the official RED-Diff operators, copied: they check the maths where the parity folder is absent."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inverse.operators import JPEG, Downsample, Grayscale, ddrm

NUMBERS = load_file(Path(__file__).parents[1] / "data" / "reddiff_operators.safetensors")
X = NUMBERS["x"].float()  # (1, 3, 16, 16) in [-1, 1]

OPERATORS = {
    "sr2": (Downsample.area(2), 1e-5),
    "bicubic2": (ddrm.bicubic(2, (3, 16, 16)), 2e-4),  # small singular values, inverted in float32
    "color": (Grayscale(), 1e-5),
    "deblur_uni_corrected": (ddrm.deblur(ddrm.uniform_taps(), (3, 16, 16)), 2e-4),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_linear(name):
    A, tolerance = OPERATORS[name]
    stored = {key: NUMBERS[f"{name}/{key}"].float() for key in ("y", "v", "Ht_v", "pinv_y")}
    y = A(X)
    torch.testing.assert_close(y.flatten(1), stored["y"], atol=1e-5, rtol=0)
    torch.testing.assert_close(A.adjoint(stored["v"].view_as(y)).flatten(1), stored["Ht_v"], atol=1e-5, rtol=0)
    torch.testing.assert_close(A.pinv(stored["y"].view_as(y)).flatten(1), stored["pinv_y"], atol=tolerance, rtol=0)


def test_jpeg():
    torch.testing.assert_close(2 * JPEG(20)((X + 1) / 2) - 1, NUMBERS["jpeg20/y"], atol=2e-5, rtol=0)
