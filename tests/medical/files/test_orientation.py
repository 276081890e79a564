"""Canonical axes: every voxel stays at its place in the body, and the way back is exact."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch

from medical.files import Scan, canonical

AXES = ["".join(ends) for order in permutations(("RL", "AP", "SI")) for ends in product(*order)]
SHAPE = (2, 3, 4)
TILT = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.2, -0.1], [-0.2, 0.0, 0.15], [0.1, -0.15, 0.0]], dtype=torch.float64))


def scan_in(axes, turn=None, header=None):
    """x, y and z grow to the letters of ``axes``; steps of 0.7, 0.9 and 2.3 mm."""
    affine = torch.eye(4, dtype=torch.float64)
    for n, letter in enumerate(axes):
        affine[:3, n] = torch.tensor([(letter == high) - (letter == low) for low, high in ("LR", "PA", "IS")])
    affine[:3, :3] = (torch.eye(3, dtype=torch.float64) if turn is None else turn) @ affine[:3, :3]
    affine[:3, :3] *= torch.tensor([0.7, 0.9, 2.3], dtype=torch.float64)
    affine[:3, 3] = torch.tensor([-12.3, 45.6, 789.1])
    data = torch.arange(float(np.prod(SHAPE))).reshape(SHAPE)
    return Scan(data=data, affine=affine, unit="HU", header=header)


def places(scan):
    """RAS coordinates of every voxel, by its value."""
    z, y, x = np.indices(scan.data.shape).reshape(3, -1)
    coordinates = scan.affine.numpy() @ np.stack([x, y, z, np.ones_like(x)])
    return coordinates[:3, np.argsort(scan.data.numpy().ravel())]


@pytest.mark.parametrize("axes", AXES)
def test_all_48_axis_orders(axes):
    assert len(set(AXES)) == 48
    for turn in (None, TILT):
        scan = scan_in(axes, turn)
        found, undo = canonical(scan)
        assert nib.aff2axcodes(found.affine.numpy()) == ("L", "P", "S")
        np.testing.assert_allclose(places(found), places(scan), rtol=0, atol=1e-12)
        result = replace(found, data=found.data + 0.5, unit="")
        back = undo(result)
        assert torch.equal(back.affine, scan.affine)  # bit for bit
        assert torch.equal(back.data, scan.data + 0.5)
        assert back.unit == ""
        samples = torch.stack([found.data, -found.data])[:, None]
        assert torch.equal(undo.volume(samples), torch.stack([scan.data, -scan.data])[:, None])
        other, _ = canonical(found, axes)  # the other way about
        assert torch.equal(other.data, scan.data)
        np.testing.assert_allclose(other.affine, scan.affine, rtol=0, atol=1e-12)


def test_the_radiological_view():
    scan, _ = canonical(scan_in("RAS"))
    assert torch.equal(scan.data, scan_in("RAS").data.flip(1, 2))
    assert scan.affine[:3, :3].diagonal().tolist() == [-0.7, -0.9, 2.3]
    same, undo = canonical(scan)
    assert torch.equal(same.data, scan.data)
    assert torch.equal(same.affine, scan.affine)
    assert torch.equal(undo(same).data, scan.data)


def test_nibabel_agrees_on_the_nearest_axes():
    scan = scan_in("SRP", TILT)
    found, _ = canonical(scan, "RAS")
    image = nib.as_closest_canonical(nib.Nifti1Image(scan.data.numpy().transpose(2, 1, 0), scan.affine.numpy()))
    assert np.array_equal(image.get_fdata().transpose(2, 1, 0), found.data.numpy())
    np.testing.assert_allclose(image.affine, found.affine, rtol=0, atol=1e-12)


def test_a_strongly_oblique_scan_takes_three_different_axes():
    half = np.sqrt(0.5)  # x and y both lie between right and anterior
    affine = torch.tensor([[half, half * 1.01, 0, 0], [half, -half, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    scan = Scan(data=torch.arange(24.0).reshape(SHAPE), affine=affine)
    found, undo = canonical(scan)
    np.testing.assert_allclose(places(found), places(scan), rtol=0, atol=1e-12)
    assert torch.equal(undo(found).affine, affine)


def test_a_part_of_the_slices_goes_to_its_own_place():
    scan = scan_in("PSR", TILT, header=b"kept")
    found, undo = canonical(scan)
    assert found.header is None  # it describes other axes
    assert undo(found).header == b"kept"
    affine = found.affine.clone()
    affine[:3, 3] += affine[:3, 2]
    part = replace(found, data=found.data[1:, :-1], affine=affine)
    back = undo(part)
    assert back.header is None
    np.testing.assert_allclose(places(back), places(part), rtol=0, atol=1e-12)
    assert nib.aff2axcodes(back.affine.numpy()) == ("P", "S", "R")


@pytest.mark.parametrize("axes", ["LP", "LPP", "LRS", "lps", "XYZ", "LPSA", ""])
def test_bad_axes(axes):
    with pytest.raises(ValueError, match="axes must be one letter of each of R/L, A/P and S/I"):
        canonical(scan_in("RAS"), axes)


def test_bad_values():
    _, undo = canonical(scan_in("RAS"))
    with pytest.raises(ValueError, match=r"values must be volumes \(\.\.\., D, H, W\)"):
        undo.volume(torch.zeros(3, 4))
