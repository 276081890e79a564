"""Simulated coils: normalised, smooth, different, and estimated back from the k-space they give."""

import math

import pytest
import torch

from medical.coils import espirit
from medical.coils.simulation import simulated_maps
from tests.medical.coils.phantom import alignment, kspace_of


@pytest.mark.parametrize("shape", [(24, 31), (6, 16, 18)])
def test_normalised(shape):
    S = simulated_maps(shape, 8)
    assert S.shape == (1, 8, *shape)
    assert S.dtype == torch.complex64
    torch.testing.assert_close(S.abs().square().sum(1), torch.ones(1, *shape))


def test_by_hand():
    """Two coils at x = 2 and x = -2; a pixel in the middle sees both alike, their phases 0 and pi."""
    S = simulated_maps((1, 1), 2)[0, :, 0, 0]
    torch.testing.assert_close(S, torch.tensor([1, -1], dtype=torch.complex64) / math.sqrt(2), atol=1e-6, rtol=0)
    right = simulated_maps((1, 2), 2)[0, :, 0, 1]  # x = 0.5, at distances 1.5 and 2.5
    strength = torch.tensor([(1 + 2.25) ** -1.5, (1 + 6.25) ** -1.5])
    torch.testing.assert_close(right.abs(), strength / strength.norm(), atol=1e-6, rtol=0)


def test_each_coil_sees_its_own_side():
    S = simulated_maps((40, 40), 4)[0].abs()
    brightest = [divmod(int(s.argmax()), 40) for s in S]
    assert brightest[0][1] == 39
    assert brightest[1][0] == 39
    assert brightest[2][1] == 0
    assert brightest[3][0] == 0


def test_smooth():
    """Neighbouring pixels differ by little, in modulus and in phase: no singularity lies within the image."""
    S = simulated_maps((64, 64), 8)[0]
    assert float((S[:, 1:] - S[:, :-1]).abs().max()) < 0.05
    assert float((S[:, :, 1:] - S[:, :, :-1]).abs().max()) < 0.05
    assert float(S.abs().min()) > 0


def test_espirit_finds_them():
    S = simulated_maps((48, 48), 6)[0].to(torch.complex128)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    image = ((x**2 + y**2) < 0.7) * (1.0 + 0.3 * torch.sin(9 * x)).double()
    found = espirit(kspace_of(S, image)).maps[0]
    inside = (image > 0) & (found.abs().sum(0) > 0)
    assert float(inside.sum() / (image > 0).sum()) > 0.99
    assert float(alignment(found, S)[inside].min()) > 0.99


@pytest.mark.parametrize(("shape", "coils", "message"), [((4,), 2, "shape must be"), ((4, 4), 0, "coils must be")])
def test_bad_input(shape, coils, message):
    with pytest.raises(ValueError, match=message):
        simulated_maps(shape, coils)
