"""Coil maps against the numbers of sigpy 0.1.27 and against the true maps of the phantom."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medical.coils import espirit, low_resolution_maps, root_sum_of_squares
from medical.operators.centred import centred_ifft
from tests.parity.cases import Case, needs_parity, parity_cases

pytestmark = needs_parity("mri_ops")
cases = pytest.mark.parametrize("case", parity_cases("mri_ops", "espirit"), ids=str)

OBJECT = 0.05
"""A pixel belongs to the object where the root sum of squares is above this fraction of its maximum."""

UNCONVERGED = 0.02
"""The official maps come from a power iteration, which leaves (second / first eigenvalue)^iterations of its start."""


def read(case: Case, key: str) -> Tensor:
    return torch.view_as_complex(case[key].contiguous())


def object_of(kspace: Tensor) -> Tensor:
    total = root_sum_of_squares(centred_ifft(kspace, kspace.ndim - 1), 0)
    return total > OBJECT * total.max()


def alignment(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).sum(0).abs()


@cases
def test_espirit(case: Case) -> None:
    kspace, s = read(case, "kspace"), case.settings
    found = espirit(
        kspace, calibration=s["calib_width"], kernel=s["kernel_width"], threshold=s["thresh"], crop=s["crop"], maps=2
    )
    official, inside = read(case, "espirit_maps"), object_of(kspace)
    remainder = (found.eigenvalues[1] / found.eigenvalues[0]) ** s["max_iter"]
    converged = inside & (remainder < UNCONVERGED)
    assert int(converged.sum()) > 0.98 * int(inside.sum())
    assert float(alignment(found.maps[0], official)[converged].min()) > 0.999
    assert torch.equal(found.eigenvalues[0] > s["crop"], official.abs().sum(0) > 0)


@cases
def test_espirit_against_the_truth(case: Case) -> None:
    """No worse than the official maps, which the published number rounds."""
    kspace, s = read(case, "kspace"), case.settings
    found = espirit(kspace, calibration=s["calib_width"], kernel=s["kernel_width"], threshold=s["thresh"], crop=s["crop"])
    truth, inside = read(case, "true_sens"), object_of(kspace)
    ours, official = (alignment(maps, truth)[inside] for maps in (found.maps[0], read(case, "espirit_maps")))
    assert float(ours.mean()) > max(float(official.mean()), s["alignment_espirit"]) - 1e-6
    assert float(ours.min()) > float(official.min()) - 1e-3


@cases
def test_low_resolution_maps(case: Case) -> None:
    """``lines`` is the width of the official window; in the air k-space in float32 leaves only rounding to divide."""
    kspace, inside = read(case, "kspace"), object_of(read(case, "kspace"))
    found = low_resolution_maps(kspace, lines=case.settings["calib_width"])[0]
    assert float((found - read(case, "lowres_maps")).abs()[:, inside].max()) < 1e-5
    aligned = alignment(found, read(case, "true_sens"))[inside]
    assert float(aligned.mean()) == pytest.approx(case.settings["alignment_lowres"], abs=1e-4)
