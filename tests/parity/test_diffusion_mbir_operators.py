"""The official operators, differences, shrinkage, masks and noise levels of DiffusionMBIR, against stored numbers."""

from __future__ import annotations

import re

import pytest
import torch

from medical.classical.differences import magnitude
from medical.operators import RotateRadon
from medical.samplers import DiffusionMBIR
from medical.samplers.coupling import difference, difference_adjoint, shrink
from medical.samplers.levels import END, geometric_levels, times
from medical.sampling import legacy_mask
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.diffusion_mbir import close, measurement_of

pytestmark = needs_parity("diffusion_mbir")

RELATIVE = 1e-5  # float32 sums over a turned picture, against other float32 sums
PIXEL = {"x": 2, "y": 3, "z": 0}  # axes of slices (D, 1, H, W), as the official code calls them


def over(kind: str, pattern: str) -> pytest.MarkDecorator:
    """The keys of the cases of ``kind`` that match ``pattern``."""
    cases = parity_cases("diffusion_mbir", kind)
    pairs = [(case, match) for case in cases for key in sorted(case.tensors) if (match := re.fullmatch(pattern, key))]
    return pytest.mark.parametrize(("case", "match"), pairs, ids=[f"{case}-{match[0]}" for case, match in pairs])


def radon(case: Case, match: re.Match[str], *, matched: bool = False) -> RotateRadon:
    views, W = int(match["views"]), case["x"].shape[-1]
    if match["limited"]:
        return RotateRadon.limited(W, views, matched=matched)
    A = RotateRadon.sparse(W, views, matched=matched)
    close(torch.tensor(A.angles, dtype=torch.float64).rad2deg(), case[f"angles_{views}"].double(), 1e-7)
    return A


@over("operators", r"(?P<limited>LA_)?A_(?P<views>\d+)")
def test_projection(case, match):
    close(radon(case, match)(case["x"]), case[match[0]], RELATIVE)


@over("operators", r"(?P<limited>LA_)?AT_(?P<views>\d+)")
def test_unfiltered_back_projection(case, match):
    y = case[match[0].replace("AT_", "A_")]
    close(radon(case, match).adjoint(y), case[match[0]], RELATIVE)


@over("operators", r"(?P<limited>LA_)?FBP_(?P<views>\d+)")
def test_filtered_back_projection(case, match):
    y = case[match[0].replace("FBP_", "A_")]
    close(radon(case, match).fbp(y), case[match[0]], RELATIVE)
    close(radon(case, match, matched=True).fbp(y), case[match[0]], RELATIVE)


@over("operators", r"D(?P<axis>[xyz])(?P<adjoint>T?)")
def test_periodic_differences(case, match):
    operation = difference_adjoint if match["adjoint"] else difference
    close(operation(case["x"], PIXEL[match["axis"]], periodic=True), case[match[0]], 1e-6)


@over("operators", r"shrink_(?P<threshold>[\d.]+)")
def test_shrinkage(case, match):
    close(shrink(case["x"], float(match["threshold"])), case[match[0]], 1e-6)


@over("operators", r"l21_(?P<threshold>[\d.]+)")
def test_isotropic_shrinkage(case, match):
    """The differences along x, y and z are stored as three channels."""
    g = case["l21_src"]
    size = magnitude(g.movedim(1, 0).unsqueeze(2))[:, 0]
    close(g * (1 - float(match["threshold"]) / size[:, None]).clamp(min=0), case[match[0]], 1e-6)


@over("masks", r"(?P<kind>[a-z]+[12]d)_(?P<size>\d+)_x(?P<rate>[\d.]+)_cf(?P<centre>[\d.]+).*")
def test_masks(case, match):
    meta = case.settings[match[0]]
    W, rate, centre, seed = int(match["size"]), float(match["rate"]), float(match["centre"]), meta["numpy_seed"]
    mask = legacy_mask(match["kind"], W, rate, centre_fraction=centre, seed=seed)
    wanted = case[match[0]].bool()
    assert torch.equal(mask.expand(W, W).expand_as(wanted), wanted)
    assert float(mask.expand(W, W).double().mean()) == pytest.approx(meta["sampled_fraction"])


@over("sigma_tables", r"idx_(?P<name>N(?P<steps>\d+)_eps(?P<end>.+))")
def test_noise_levels(case, match):
    """Times to one unit in the last place; rounded indices and levels exactly."""
    steps, end, name = int(match["steps"]), float(match["end"]), match["name"]
    t, k = times(steps, end=end)
    torch.testing.assert_close(t, case[f"t_{name}"], rtol=2e-7, atol=0)
    assert torch.equal(k, case[match[0]].long())
    if end != END:
        return
    ends = DiffusionMBIR.paper()
    table = case[f"sig_{name}"]
    levels = geometric_levels(steps, ends.sigma_min, ends.sigma_max, truncated=True)
    assert torch.equal(torch.tensor([level.sigma for level in levels]), table[k])
    assert torch.equal(torch.tensor([level.previous for level in levels]), torch.where(k > 0, table[k - 1], 0))


@pytest.mark.parametrize("case", [c for c in parity_cases("diffusion_mbir", "recon") if "bp" in c or "under_img" in c], ids=str)
def test_operators_of_the_reconstructions(case):
    """The volume is measured as stored, and the measurement back-projected."""
    A, y = measurement_of(case)
    close(torch.view_as_real(A(case["volume"])) if y.is_complex() else A(case["volume"]),
          torch.view_as_real(y) if y.is_complex() else y, RELATIVE)  # fmt: skip
    close(A.adjoint(y), case["bp"] if "bp" in case else case["under_img"], RELATIVE)
