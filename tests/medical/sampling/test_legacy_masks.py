"""The official masks of DiffusionMBIR: rates, centres, seeds, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medical.sampling import LEGACY_KINDS, legacy_mask

LINES = [kind for kind in LEGACY_KINDS if kind.endswith("1d")]
POINTS = [kind for kind in LEGACY_KINDS if kind.endswith("2d")]


@pytest.mark.parametrize("kind", LEGACY_KINDS)
@pytest.mark.parametrize("size", [33, 64])
def test_same_seed_same_mask(kind, size):
    before = np.random.get_state()[1].tolist()
    mask = legacy_mask(kind, size, 4, centre_fraction=0.08, seed=3)
    assert mask.dtype == torch.bool
    assert mask.shape == ((1, size) if kind in LINES else (size, size))
    assert torch.equal(mask, legacy_mask(kind, size, 4, centre_fraction=0.08, seed=3))
    assert not torch.equal(mask, legacy_mask(kind, size, 4, centre_fraction=0.08, seed=4))
    assert np.random.get_state()[1].tolist() == before  # the global generator is left alone


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize(("size", "n"), [(64, 9), (50, 7)])
def test_central_lines(kind, size, n):
    mask = legacy_mask(kind, size, 4, centre_fraction=(n + 0.5) / size, seed=1)[0]
    first = size // 2 - n // 2
    assert mask[first : first + n].all()


def test_rates():
    """Draws with replacement: ``1 - exp(-k / n)`` of the points that k draws could hit, on average; never more than k."""
    for kind, share in (("uniformrandom2d", 1 - np.exp(-0.25)), ("uniform1d", 0.15 + 0.85 * (1 - np.exp(-0.35)))):
        acceleration = 4 if kind in POINTS else 2
        rates = [float(legacy_mask(kind, 240, acceleration, seed=seed).double().mean()) for seed in range(20)]
        assert np.mean(rates) == pytest.approx(share, abs=0.01)
        assert max(rates) <= 1 / acceleration


@pytest.mark.parametrize(("kind", "deviation"), [("gaussian1d", 15 / 128), ("gaussian2d", (1.5 / 128) ** 0.5)])
def test_width_of_the_gaussians(kind, deviation):
    """Few draws of a large k-space seldom coincide: their spread is that of the normal distribution."""
    found = []
    for seed in range(40):
        mask = legacy_mask(kind, 512, 64 if kind == "gaussian1d" else 2000, centre_fraction=0.0, seed=seed)
        found.append(mask.nonzero()[:, -1].double())
    columns = torch.cat(found)
    assert float(columns.mean()) == pytest.approx(256, abs=512 * deviation / 6)
    assert float(columns.std()) == pytest.approx(512 * deviation, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "radial"}, "kind must be one of uniform1d"),
        ({"size": 0}, "size must be"),
        ({"acceleration": 0.5}, "acceleration must be"),
        ({"acceleration": float("nan")}, "acceleration must be"),
        ({"centre_fraction": 1.5}, "centre_fraction must be a share"),
        ({"acceleration": 8, "centre_fraction": 0.5}, "centre_fraction must be at most 0.125"),
    ],
)
def test_bad_settings(options, message):
    settings = {"kind": "uniform1d", "size": 32, "acceleration": 2.0, **options}
    with pytest.raises(ValueError, match=message):
        legacy_mask(settings.pop("kind"), settings.pop("size"), settings.pop("acceleration"), **settings)
