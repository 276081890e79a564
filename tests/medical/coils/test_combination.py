"""Combining coil images: exact with the maps they were made with."""

from __future__ import annotations

import pytest
import torch

from medical.coils import combine, root_sum_of_squares
from tests.medical.coils.phantom import smooth_maps, textured, unit

SHAPE = (9, 11)


def test_root_sum_of_squares():
    S, x = unit(smooth_maps(4, SHAPE, seed=0)), textured((2, 1, *SHAPE), seed=1)
    torch.testing.assert_close(root_sum_of_squares(S * x), x[:, 0].abs())
    torch.testing.assert_close(root_sum_of_squares(S * x[0], 0), x[0, 0].abs())


@pytest.mark.parametrize("shape", [SHAPE, (4, *SHAPE)])
def test_combination_inverts_the_maps(shape):
    S, x = smooth_maps(4, shape, seed=0), textured((2, 1, *shape), seed=1)
    torch.testing.assert_close(combine(S * x, S[None]), x, atol=1e-10, rtol=1e-10)
    S[:, 3] = 0
    found = combine(S * x, S[None])
    assert float(found[:, :, 3].abs().max()) == 0
    assert bool(found.isfinite().all())


def test_two_maps_that_are_not_orthogonal():
    S, x = torch.stack([smooth_maps(4, SHAPE, seed=s) for s in (0, 1)]), textured((3, 2, *SHAPE), seed=2)
    S[1, :, :, :5] = 0
    x[:, 1, :, :5] = 0
    images = torch.einsum("mchw,bmhw->bchw", S, x)
    torch.testing.assert_close(combine(images, S), x, atol=1e-8, rtol=1e-8)


def test_combination_is_least_squares():
    S, y = smooth_maps(4, SHAPE, seed=0)[None], textured((1, 4, *SHAPE), seed=3)
    residual = y - S * combine(y, S)
    assert float((S.conj() * residual).sum(1).abs().max()) < 1e-12


def test_errors():
    S = smooth_maps(4, SHAPE, seed=0)
    with pytest.raises(ValueError, match="same coils and pixels"):
        combine(S[None, :3], S[None])
    with pytest.raises(ValueError, match="same coils and pixels"):
        combine(S, S[None])
    with pytest.raises(TypeError, match="must be complex"):
        combine(S[None].abs(), S[None])
