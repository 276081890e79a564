"""Damaged files of every kind: readers give finite values, or one error that names the file; never a crash or a giant."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from dataclasses import fields, is_dataclass

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from medical.files import (
    Header,
    KSpace,
    Limits,
    Scan,
    Sinogram,
    SinogramHeader,
    Space,
    read_dicom,
    read_fastmri,
    read_ismrmrd,
    read_nifti,
    read_sinogram,
    write_fastmri,
    write_sinogram,
)
from tests.medical.files.test_dicom import write_slice
from tests.medical.files.test_ismrmrd import header, lines, random, readout, write

SCAN = Scan(
    data=torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0)),
    affine=torch.diag(torch.tensor([-0.8, -0.8, 2.5, 1.0], dtype=torch.float64)),
    unit="HU",
)
SPACE = Space(matrix=(8, 6, 1), fov=(220.0, 220.0, 5.0))
MUTATIONS = 200


def nifti(path):
    image = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(6, 5, 4), np.diag([-0.8, -0.8, 2.5, 1.0]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
    nib.save(image, path)


def sinogram(path):
    own = SinogramHeader(
        shape=(3, 4, 5), axes=("slices", "views", "columns"), geometry={"kind": "parallel"}, affine=SCAN.affine
    )
    write_sinogram(path, Sinogram(header=own, data=torch.full((3, 4, 5), 0.5), counts=torch.ones(3, 4, 5)))


def fastmri(path):
    head = Header(encoded=SPACE, recon=SPACE, coils=2, step_1=Limits(minimum=0, maximum=5, centre=3))
    kspace = torch.randn(2, 2, 8, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    write_fastmri(path, KSpace(kspace=kspace, mask=torch.ones(6, dtype=torch.bool), reference=torch.ones(2, 4, 4), header=head))


def cartesian(path):
    write(path, [readout(random(3, 20), flags=[19]), *lines(random(3, 8, 12)), *lines(random(3, 8, 12), slice=1)])


def radial(path):
    rows = [readout(random(3, 12), traj=np.ones((12, 2))) for _ in range(8)]
    write(path, rows, header(trajectory="radial").to_xml())


def dicom(path):
    for number in range(2):
        write_slice(path.with_name(f"{number}.dcm"), number)


KINDS = {  # name of the file, how it is made, how it is read
    "nii": ("a.nii", nifti, read_nifti),
    "nii.gz": ("a.nii.gz", nifti, read_nifti),
    "nii in gz": ("b.nii.gz", nifti, read_nifti),  # mutated before it is compressed
    "dicom": ("1.dcm", dicom, lambda path: read_dicom(path.parent)),
    "sinogram": ("a.h5", sinogram, read_sinogram),
    "fastmri": ("a.h5", fastmri, read_fastmri),
    "ismrmrd": ("a.mrd", cartesian, read_ismrmrd),
    "ismrmrd radial": ("a.mrd", radial, read_ismrmrd),
}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bits, changed bytes, blocks of 0 or 255, exchanged fields, a lost or repeated part, or an early end."""
    data, head = bytearray(data), min(len(data), int(rng.choice([400, len(data)])))
    at, size = int(rng.integers(head)), int(rng.choice([1, 2, 4, 8, 64]))
    match rng.integers(8):
        case 0:
            del data[at:]
        case 1 | 2:
            for place in rng.integers(head, size=size):
                data[place] ^= 1 << int(rng.integers(8))
        case 3:
            data[at : at + size] = rng.bytes(size)
        case 4 | 5:
            data[at : at + size] = bytes([int(rng.choice([0, 255]))]) * size
        case 6:
            other = int(rng.integers(head))
            data[at : at + 4], data[other : other + 4] = data[other : other + 4], data[at : at + 4]
        case 7:
            part = bytes(data[at : at + size])
            data[at : at + size] = part * int(rng.choice([0, 2]))
    return bytes(data)


def finite(found) -> bool:
    if isinstance(found, torch.Tensor):
        return bool(torch.isfinite(found).all())
    if is_dataclass(found):
        return all(finite(getattr(found, field.name)) for field in fields(found))
    return True


def refusal(read, path) -> str:
    """What the reader says of the file, empty where it reads it to finite values."""
    try:
        assert finite(read(path))
    except (ValueError, OSError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(tmp_path, kind):
    name, make, read = KINDS[kind]
    path = tmp_path / "files" / name
    path.parent.mkdir()
    make(path)
    whole = path.read_bytes()
    if kind == "nii in gz":
        whole = gzip.decompress(whole)
    assert not refusal(read, path)
    rng, refused = np.random.default_rng(5), 0
    for number in range(MUTATIONS):
        data = mutated(whole, rng)
        path.write_bytes(gzip.compress(data, 1) if kind == "nii in gz" else data)
        if message := refusal(read, path):
            assert str(path.parent) in message, (number, message)
            assert "\n" not in message, number
            refused += 1
    assert refused > MUTATIONS / 20


def claim(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


GIANTS = {  # field of the file, and what it claims instead: thousands of millions of values
    "nii": (struct.pack("<4h", 3, 6, 5, 4), struct.pack("<4h", 3, 1000, 1000, 1000)),
    "nii in gz": (struct.pack("<4h", 3, 6, 5, 4), struct.pack("<4h", 3, 1000, 1000, 1000)),
    "sinogram": (struct.pack("<3Q", 3, 4, 5), struct.pack("<3Q", 30000, 40000, 5)),
    "fastmri": (struct.pack("<4Q", 2, 2, 8, 6), struct.pack("<4Q", 20000, 2000, 8, 6)),
    "ismrmrd": (),
    "dicom": (b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 60), b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 2**32 - 16)),
}


@pytest.mark.parametrize("kind", GIANTS)
def test_claims_that_a_small_file_cannot_hold_take_no_memory(tmp_path, kind):
    name, make, read = KINDS[kind]
    path = tmp_path / "files" / name
    path.parent.mkdir()
    if kind == "ismrmrd":
        space = Space(matrix=(12, 40000, 40000), fov=(440.0, 220.0, 5.0))
        write(path, lines(random(3, 8, 12)), Header(encoded=space, recon=space).to_xml())
    else:
        make(path)
        packed = kind == "nii in gz"
        data = claim(gzip.decompress(path.read_bytes()) if packed else path.read_bytes(), *GIANTS[kind])
        path.write_bytes(gzip.compress(data) if packed else data)
    refusal(read, path)  # imports take memory too
    tracemalloc.start()
    message = refusal(read, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in message or (kind == "dicom" and not message)  # the pixels are all there
    assert peak < 2e6


def test_variable_lengths_beyond_the_file(tmp_path):
    """The length of each text and list of an ISMRMRD and of a fastMRI file, one after the other, is damaged."""
    for make, read in ((cartesian, read_ismrmrd), (fastmri, read_fastmri), (sinogram, read_sinogram)):
        path = tmp_path / "a.h5"
        path.unlink(missing_ok=True)
        make(path)
        whole = path.read_bytes()
        heaps = {struct.pack("<Q", at) for at in range(len(whole) - 4) if whole[at : at + 4] == b"GCOL"}
        places = [at for at in range(len(whole) - 16) if whole[at + 4 : at + 12] in heaps]
        refusals = []
        for at in places:
            for length in (0x7FFFFFFF, 0xFFFFFFFF, len(whole) + 1):
                path.write_bytes(whole[:at] + struct.pack("<I", length) + whole[at + 4 :])
                refusals.append(refusal(read, path))
        refusals = [message for message in refusals if message]  # some places are not in use any more
        assert len(refusals) >= 6
        assert all("claims a text or list of" in message for message in refusals)


def test_heaps_that_have_no_end(tmp_path):
    cartesian(tmp_path / "a.mrd")
    whole = (tmp_path / "a.mrd").read_bytes()
    start = whole.index(b"GCOL")
    (tmp_path / "a.mrd").write_bytes(whole[: start + 16] + bytes(64) + whole[start + 80 :])
    assert "damaged heap" in refusal(read_ismrmrd, tmp_path / "a.mrd")


def test_numbers_of_unusual_types(tmp_path):
    path = tmp_path / "a.h5"
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_ebias(100)
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = "posterior sinogram", 1
        space = h5py.h5s.create_simple((2, 3))
        h5py.h5d.create(file.id, b"sinogram", odd, space)
    assert "the dataset of '/sinogram' has an unusual type" in refusal(read_sinogram, path)
