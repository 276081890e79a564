"""Sinogram files: exact round trips, by blocks and in parts, and one clear line for each kind of damage."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch

from medical.files import Sinogram, SinogramHeader, read_sinogram, sinogram_writer, write_sinogram
from medical.files.sinogram import AXES

SHAPES = {AXES[0]: (7, 5), AXES[1]: (3, 7, 5), AXES[2]: (7, 4, 5)}
GEOMETRY = {"kind": "fan", "angles": [0.1, 1 / 3, 2e-17], "detector": {"columns": 5, "offset": -0.25}, "flat": True}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sinogram(axes=AXES[0], **changes):
    shape = SHAPES[axes]
    options = {
        "geometry": GEOMETRY,
        "affine": random(4, 4, seed=2).double(),
        "flat": random(2, 5, seed=3),
        "dark": random(5, seed=4),
    }
    header = SinogramHeader(shape=shape, axes=axes, **{**options, **changes})
    return Sinogram(header=header, data=random(*shape), counts=random(*shape, seed=1))


@pytest.mark.parametrize("axes", AXES)
def test_round_trip(tmp_path, axes):
    written = sinogram(axes)
    found = read_sinogram(write_sinogram(tmp_path / "a.h5", written))
    assert torch.equal(found.data, written.data)
    assert torch.equal(found.counts, written.counts)
    for name in ("affine", "flat", "dark"):
        assert torch.equal(getattr(found.header, name), getattr(written.header, name))
    assert (found.header.geometry, found.header.axes, found.header.shape) == (GEOMETRY, axes, SHAPES[axes])
    assert found.header.unit == "mm"
    assert found.header.software.startswith("posterior")
    part = read_sinogram(tmp_path / "a.h5", part=slice(1, 3))
    assert torch.equal(part.data, written.data[1:3])
    assert torch.equal(part.counts, written.counts[1:3])
    assert part.header.shape == SHAPES[axes]


def test_layout_as_documented(tmp_path):
    with h5py.File(write_sinogram(tmp_path / "a.h5", sinogram())) as file:
        assert file.attrs["format"] == "posterior sinogram"
        assert (file.attrs["version"], file.attrs["unit"]) == (1, "mm")
        assert dict(file["sinogram"].attrs) == {"quantity": "line integral", "quantity_unit": "1", "axes": "views,columns"}
        assert file["sinogram"].dtype == file["counts"].dtype == np.float32
        assert json.loads(file["geometry"][()]) == GEOMETRY
        assert set(file) == {"sinogram", "counts", "flat", "dark", "geometry", "affine"}


def test_without_anything_optional(tmp_path):
    header = SinogramHeader(shape=(7, 5), axes=AXES[0], geometry={}, unit="cm")
    found = read_sinogram(write_sinogram(tmp_path / "a.h5", Sinogram(header=header, data=random(7, 5))))
    assert found.counts is found.header.affine is found.header.flat is found.header.dark is None
    assert found.header.unit == "cm"


def test_a_geometry_larger_than_an_attribute_may_be(tmp_path):
    geometry = {"sources": np.random.default_rng(0).standard_normal((3000, 3)).tolist()}
    found = read_sinogram(write_sinogram(tmp_path / "a.h5", sinogram(geometry=geometry)))
    assert len(json.dumps(geometry)) > 2**16
    assert found.header.geometry == geometry


def test_blocks_give_the_same_file(tmp_path):
    whole = sinogram()
    with sinogram_writer(tmp_path / "a.h5", whole.header) as writer:
        for start in (0, 3, 6):
            writer.append(whole.data[start : start + 3], whole.counts[start : start + 3])
        assert not (tmp_path / "a.h5").exists()
    found = read_sinogram(tmp_path / "a.h5")
    assert torch.equal(found.data, whole.data)
    assert torch.equal(found.counts, whole.counts)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([random(3, 5)], "3 of 7 views were written"),
        ([], "0 of 7 views were written"),
        ([random(8, 5)], "block goes to 8"),
        ([random(7, 4)], r"block must be \(n, 5\)"),
        ([random(7, 5) / 0], "sinogram has 35 values that are NaN or infinite"),
    ],
)
def test_blocks_that_do_not_fit_leave_nothing_behind(tmp_path, blocks, message):
    def write():
        with sinogram_writer(tmp_path / "a.h5", sinogram().header) as writer:
            for block in blocks:
                writer.append(block)

    with pytest.raises(ValueError, match=message):
        write()
    assert not list(tmp_path.iterdir())


def test_counts_come_with_every_block_or_none(tmp_path):
    def write(first, second):
        with sinogram_writer(tmp_path / "a.h5", sinogram().header) as writer:
            writer.append(random(3, 5), first)
            writer.append(random(4, 5), second)

    for counts in ((random(3, 5), None), (None, random(4, 5))):
        with pytest.raises(ValueError, match="every block or with none"):
            write(*counts)
    with pytest.raises(ValueError, match="counts must have the shape of the block"):
        write(random(2, 5), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("sinogram"), "has no dataset 'sinogram'"),
        (lambda file: file.pop("geometry"), "has no dataset 'geometry'"),
        (lambda file: replace(file, "geometry", "{"), "'geometry' is not JSON"),
        (lambda file: replace(file, "geometry", "[1]"), "geometry must be a dictionary"),
        (lambda file: replace(file, "sinogram", np.zeros(5)), "must have 2 or 3 axes"),
        (lambda file: replace(file, "sinogram", np.zeros((1, 2, 3, 4))), "must have 2 or 3 axes"),
        (lambda file: replace(file, "sinogram", np.zeros((0, 5))), "is empty"),
        (lambda file: replace(file, "sinogram", np.zeros((7, 5), complex)), "must be real numbers"),
        (lambda file: replace(file, "sinogram", np.zeros((7, 4, 5))), "shape must have a positive number"),
        (lambda file: replace(file, "sinogram", np.full((7, 5), np.nan)), "'sinogram' has 35 values that are NaN"),
        (lambda file: replace(file, "counts", np.zeros((6, 5))), r"'counts' must be \(7, 5\)"),
        (lambda file: replace(file, "flat", np.full(5, np.inf)), "'flat' has 5 values"),
        (lambda file: replace(file, "dark", np.zeros(4)), "dark must end in 5 columns"),
        (lambda file: replace(file, "affine", np.eye(3)), r"affine must be finite \(4, 4\)"),
        (lambda file: file.attrs.update({"format": "other"}), "'format' must be"),
        (lambda file: file.attrs.update({"version": 2}), "version must be 1, got 2"),
        (lambda file: file["sinogram"].attrs.update({"quantity": "counts"}), "must hold the quantity 'line integral'"),
        (lambda file: file["sinogram"].attrs.update({"axes": "columns,views"}), "axes must be one of"),
    ],
)
def test_bad_files(tmp_path, change, message):
    path = write_sinogram(tmp_path / "a.h5", sinogram())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        read_sinogram(path)


def replace(file, name, value):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = value
    file[name].attrs.update(attributes)


@pytest.mark.parametrize("share", [0.5, 0.98])
def test_truncated_files(tmp_path, share):
    path = write_sinogram(tmp_path / "a.h5", sinogram(AXES[2]))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"a\.h5: truncated or damaged HDF5 file; copy or write it again \(.*\)$") as caught:
        read_sinogram(path)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_sinogram(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_text("sinogram")
    with pytest.raises(ValueError, match=r"a\.h5: not an HDF5 file"):
        read_sinogram(tmp_path / "a.h5")


def test_bad_arguments(tmp_path):
    for geometry, error in (({"angles": torch.zeros(2)}, TypeError), ({"angle": float("nan")}, ValueError)):
        with pytest.raises(error, match="geometry must be text, finite numbers"):
            write_sinogram(tmp_path / "a.h5", sinogram(geometry=geometry))
    with pytest.raises(TypeError, match="to_dict"):
        sinogram(geometry=[1])
    with pytest.raises(ValueError, match="data must be"):
        Sinogram(header=sinogram().header, data=random(7, 4))
    path = write_sinogram(tmp_path / "a.h5", sinogram())
    for part in (slice(0, 0), slice(7, 9), slice(0, 7, 2)):
        with pytest.raises(ValueError, match="part must be a range within 0 to 7"):
            read_sinogram(path, part=part)
