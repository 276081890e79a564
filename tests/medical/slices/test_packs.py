"""Slices of packs and folders: grouped by subject, in the range of priors, cut to their valid boxes."""

import gzip
import io
import json
import tarfile

import nibabel as nib
import numpy as np
import pytest
import torch

from medical.slices import read_slices


def nifti(array):
    return gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes())


def pack(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def ct(tmp_path):
    """One subject in two files, one file of two subjects, one to be left out; x, y, z."""
    tissue = np.full((6, 4, 2), 250, np.int16)
    loose = np.full((5, 5, 3), -1024, np.int16)
    loose[1:4, 2:4] = 1500
    boxes = [{"subject": "B", "valid": [1, 2, 3, 2]}, {"subject": "C"}, {"subject": "B", "valid": [1, 2, 3, 2]}]
    return pack(
        tmp_path / "ct.tar",
        {
            "index.json": json.dumps({"chest": {"subject": "A"}, "belly": {"subject": "A"}}).encode(),
            "chest.nii.gz": nifti(tissue),
            "belly.nii.gz": nifti(tissue[..., :1] * 0),
            "loose.nii.gz": nifti(loose),
            "loose.json": json.dumps(boxes).encode(),
            "private.nii.gz": nifti(tissue),
        },
    )


def test_subjects_and_values(ct):
    slices = read_slices(ct, "ct", exclude=["private"])
    assert {name: tuple(s.shape) for name, s in slices.items()} == {"A": (3, 4, 6), "B": (2, 2, 3), "C": (1, 5, 5)}
    assert slices["A"].unique().tolist() == pytest.approx([0.4, 0.5])
    assert slices["B"].unique().tolist() == [1.0]
    assert slices["C"].unique().tolist() == [0.0, 1.0]
    assert float(slices["C"][0, 2, 1]) == 1  # [y, x] of the array's [x, y]


def test_a_file_without_an_index_is_a_subject(ct):
    assert "private" in read_slices(ct, "ct")


def test_mr_is_scaled_by_its_peak_and_empty_slices_left_out(tmp_path):
    array = np.zeros((8, 8, 3), np.float32)
    array[2:6, 2:6, 1] = 700
    (tmp_path / "head.nii").write_bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())
    slices = read_slices(tmp_path, "mr")
    assert slices["head"].shape == (1, 8, 8)
    assert float(slices["head"].max()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "pet"}, "modality must be one of ct, mr, got 'pet'"),
        ({"modality": "ct", "exclude": ["chest", "nobody"]}, "not in .*: nobody"),
    ],
)
def test_bad_arguments(ct, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_slices(ct, **arguments)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_slices(tmp_path / "none.tar", "ct")
    with pytest.raises(ValueError, match="no volume"):
        read_slices(tmp_path, "ct")


def test_slices_of_different_size_are_padded_with_air(tmp_path):
    for name, side in (("a", 4), ("b", 6)):
        (tmp_path / f"{name}.nii").write_bytes(nib.Nifti1Image(np.full((side, side, 1), 500, np.int16), np.eye(4)).to_bytes())
    (tmp_path / "index.json").write_text(json.dumps({"a": {"subject": "S"}, "b": {"subject": "S"}}))
    small, large = read_slices(tmp_path, "ct")["S"]
    assert small.shape == large.shape == (6, 6)
    assert torch.equal(small[:4, :4], large[:4, :4])
    assert float(small[4:].sum()) == 0
