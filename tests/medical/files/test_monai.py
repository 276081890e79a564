"""Scans as MONAI's MetaTensor: the same arrays and affines as its readers give, and its transforms apply."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from medical.files import Scan, canonical, read_volume, write_volume

AFFINE = torch.tensor([[-0.75, 0.1, 0, 12.5], [0.1, -0.875, 0, -80.25], [0, 0.05, 2.5, 100], [0, 0, 0, 1]], dtype=torch.float64)
SCAN = Scan(data=torch.arange(-60.0, 60.0).reshape(4, 5, 6), affine=AFFINE, unit="HU")


def test_monai_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.data", None)
    for call in (SCAN.to_monai, lambda: Scan.from_monai(torch.zeros(1, 2, 3, 4))):
        with pytest.raises(ImportError, match=r"MONAI is needed .* pip install monai"):
            call()


@pytest.mark.slow
def test_monai_sees_what_nibabel_sees(tmp_path):
    pytest.importorskip("monai")
    image = SCAN.to_monai()
    stored = nib.load(write_volume(tmp_path / "a.nii.gz", SCAN))
    assert np.array_equal(image[0].numpy(), stored.get_fdata())
    np.testing.assert_allclose(image.affine, stored.affine, rtol=1e-6)
    back = Scan.from_monai(image)
    assert torch.equal(back.data, SCAN.data)
    assert torch.equal(back.affine, SCAN.affine)
    assert back.unit == "HU"
    metres = Scan(data=SCAN.data, affine=torch.diag(torch.tensor([1e-3, 1e-3, 2e-3, 1.0], dtype=torch.float64)), length="m")
    assert Scan.from_monai(metres.to_monai()).spacing == pytest.approx(metres.spacing)


@pytest.mark.slow
def test_monai_readers_give_the_same(tmp_path):
    transforms = pytest.importorskip("monai.transforms")
    upright = Scan(data=SCAN.data, affine=torch.diag(torch.tensor([-0.75, -0.875, 2.5, 1], dtype=torch.float64)), unit="HU")
    for name, reader in (("a.nii.gz", "NibabelReader"), ("series", "PydicomReader")):
        path = write_volume(tmp_path / name, upright)
        theirs = transforms.LoadImage(reader=reader, image_only=True, ensure_channel_first=True)(path)
        ours = read_volume(path).to_monai()
        assert np.array_equal(theirs.numpy(), ours.numpy())
        np.testing.assert_allclose(theirs.affine, ours.affine, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_monai_transforms_keep_the_place():
    transforms = pytest.importorskip("monai.transforms")
    turned = Scan.from_monai(transforms.Orientation(axcodes="SAR")(SCAN.to_monai()))
    expected, _ = canonical(SCAN, "SAR")
    assert torch.equal(turned.data, expected.data)
    torch.testing.assert_close(turned.affine, expected.affine, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_bad_images():
    data = pytest.importorskip("monai.data")
    with pytest.raises(TypeError, match="image must be a monai MetaTensor, which has an affine, got Tensor"):
        Scan.from_monai(torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"image must be \(1, x, y, z\), got \(2, 2, 3, 4\)"):
        Scan.from_monai(data.MetaTensor(torch.zeros(2, 2, 3, 4)))
