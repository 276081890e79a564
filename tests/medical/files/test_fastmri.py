"""fastMRI files: read as published, written in the same layout, damaged ones refused by name."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from medical.files import Header, KSpace, Limits, Space, fastmri_shape, read_fastmri, write_fastmri

HEADER = Header(
    encoded=Space(matrix=(12, 10, 1), fov=(440.0, 220.0, 5.0)),
    recon=Space(matrix=(6, 6, 1), fov=(220.0, 220.0, 5.0)),
    coils=3,
    step_1=Limits(minimum=0, maximum=9, centre=5),
)


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def published(path, kspace, **datasets):
    """A file as the data set has them."""
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["ismrmrd_header"] = HEADER.to_xml().encode()
        for name, values in datasets.items():
            file[name] = values
        file.attrs.update({"acquisition": "AXT2", "max": 1.5, "norm": 20.25, "patient_id": "abc", "acceleration": 4})
    return path


def test_multi_coil_file(tmp_path):
    kspace, rss = noise(4, 3, 12, 10), np.random.default_rng(1).random((4, 6, 6), np.float32)
    mask = np.arange(10) % 2 == 0
    path = published(tmp_path / "a.h5", kspace, reconstruction_rss=rss, mask=mask.astype(np.float32))
    assert fastmri_shape(path) == (4, 3, 12, 10)
    found = read_fastmri(path)
    assert np.array_equal(found.kspace, kspace)
    assert np.array_equal(found.reference, rss)
    assert found.mask.dtype == torch.bool
    assert np.array_equal(found.mask, mask)
    assert (found.acquisition, found.patient_id, found.maximum, found.norm) == ("AXT2", "abc", 1.5, 20.25)
    assert found.attributes == {"acceleration": 4}
    assert found.header == HEADER
    assert found.header.readout_oversampling == 2.0


@pytest.mark.parametrize(("slices", "numbers"), [(2, [2]), (-1, [3]), ([3, 0], [3, 0]), (slice(1, 3), [1, 2])])
def test_slices_one_by_one(tmp_path, slices, numbers):
    kspace, rss = noise(4, 3, 12, 10), np.random.default_rng(1).random((4, 6, 6), np.float32)
    path = published(tmp_path / "a.h5", kspace, reconstruction_rss=rss)
    found = read_fastmri(path, slices=slices)
    assert np.array_equal(found.kspace, kspace[numbers])
    assert np.array_equal(found.reference, rss[numbers])


@pytest.mark.parametrize("slices", [4, -5, [0, 9], slice(4, None), []])
def test_slices_that_are_not_there(tmp_path, slices):
    path = published(tmp_path / "a.h5", noise(4, 3, 12, 10))
    with pytest.raises(IndexError, match="some of the 4 slices"):
        read_fastmri(path, slices=slices)


def test_single_coil_file_prefers_its_own_reference(tmp_path):
    kspace, esc = noise(2, 12, 10), np.ones((2, 6, 6), np.float32)
    path = published(tmp_path / "a.h5", kspace, reconstruction_esc=esc, reconstruction_rss=2 * esc)
    found = read_fastmri(path)
    assert fastmri_shape(path) == found.kspace.shape == (2, 1, 12, 10)
    assert np.array_equal(found.kspace[:, 0], kspace)
    assert np.array_equal(found.reference, esc)


@pytest.mark.parametrize("coils", [1, 3])
def test_round_trip_and_layout(tmp_path, coils):
    data = KSpace(
        kspace=torch.from_numpy(noise(2, coils, 12, 10)),
        mask=torch.rand(12, 10, generator=torch.Generator().manual_seed(0)) < 0.4,
        reference=torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(1)),
        header=HEADER,
        acquisition="simulated",
        maximum=0.75,
        attributes={"seed": 3, "centre": [1.5, 2.5], "sampling": "poisson disc"},
    )
    path = write_fastmri(tmp_path / "a.h5", data)
    found = read_fastmri(path)
    for name in ("kspace", "mask", "reference"):
        assert torch.equal(getattr(found, name), getattr(data, name))
    for name in ("header", "acquisition", "patient_id", "maximum", "norm", "attributes"):
        assert getattr(found, name) == getattr(data, name)
    with h5py.File(path) as file:
        assert file["kspace"].shape == ((2, 12, 10) if coils == 1 else (2, 3, 12, 10))
        assert ("reconstruction_esc" in file) is (coils == 1)
        assert file.attrs["software"].startswith("posterior")
        assert b"encodedSpace" in file["ismrmrd_header"][()]
    with pytest.raises(FileExistsError):
        write_fastmri(path, data)


def test_bad_files(tmp_path):
    path = published(tmp_path / "a.h5", noise(4, 3, 12, 10))
    whole = path.read_bytes()
    broken = tmp_path / "b.h5"
    for size, message in ((len(whole) // 2, "truncated"), (6, "not an HDF5 file")):
        broken.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"b\.h5: .*{message}") as caught:
            read_fastmri(broken)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_fastmri(tmp_path / "none.h5")
    with h5py.File(broken, "w") as file:
        file["image"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"b\.h5: has no dataset 'kspace', only \['image'\]"):
        read_fastmri(broken)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"kspace": noise(12, 10)}, "'kspace' must have 3 or 4 axes"),
        ({"kspace": np.zeros((2, 3, 12, 10))}, "must be complex"),
        ({"kspace": np.full((2, 3, 12, 10), np.nan, np.complex64)}, "720 values that are NaN"),
        ({"kspace": noise(0, 3, 12, 10)}, "is empty"),
        ({"kspace": noise(2, 3, 12, 10), "mask": np.ones(12)}, r"mask must be bool \(10,\)"),
        ({"kspace": noise(2, 3, 12, 10), "reconstruction_rss": np.ones((3, 6, 6))}, "has 3 slices, 'kspace' has 2"),
    ],
)
def test_bad_contents(tmp_path, datasets, message):
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        read_fastmri(published(tmp_path / "a.h5", **datasets))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("</encodedSpace>", "</wrong>"), "header is damaged"),
        (("<x>12</x>", "<x>twelve</x>"), "incomplete or wrong"),
        (("<x>12</x>", ""), "encodedSpace/matrixSize"),
        (("<x>12</x>", "<x>0</x>"), "0 x 10 x 1"),
        (("<ismrmrdHeader", "<!DOCTYPE a [<!ENTITY b 'c'>]><ismrmrdHeader"), "document type"),
    ],
)
def test_bad_headers(change, message):
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        Header.parse(HEADER.to_xml().replace(*change), source="a.h5")
    with pytest.raises(ValueError, match="has 1 encodings, encoding 1"):
        Header.parse(HEADER.to_xml(), source="a.h5", encoding=1)


def test_bad_values(tmp_path):
    good = torch.from_numpy(noise(2, 3, 12, 10))
    with pytest.raises(ValueError, match="complex64"):
        KSpace(kspace=good[0])
    with pytest.raises(ValueError, match="reference must be"):
        KSpace(kspace=good, reference=torch.zeros(3, 6, 6))
    with pytest.raises(ValueError, match=r"\['max'\]"):
        KSpace(kspace=good, attributes={"max": 1})
    with pytest.raises(ValueError, match="NaN"):
        write_fastmri(tmp_path / "a.h5", KSpace(kspace=good * float("nan")))
    assert not list(tmp_path.iterdir())
