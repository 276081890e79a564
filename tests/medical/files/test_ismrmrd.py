"""ISMRMRD: readouts come to the places that their counters and centres name, noise and calibration apart."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from medical.files import CartesianData, Header, Limits, Space, TrajectoryData, read_ismrmrd

STEPS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
IDX = np.dtype([*((name, "<u2") for name in STEPS), ("user", "<u2", (8,))])
HEAD = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        *((name, "<f4", (3,)) for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")),
        ("idx", IDX),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
VALUES = h5py.vlen_dtype(np.dtype("float32"))
NOISE, CALIBRATION, BOTH, REVERSED, NAVIGATION = 19, 20, 21, 22, 23
C, NX, NY = 3, 12, 8


def header(nz=1, trajectory="cartesian", limits=True):
    steps = {"step_1": Limits(minimum=0, maximum=NY - 1, centre=NY // 2)} if limits else {}
    space = Space(matrix=(NX, NY, nz), fov=(440.0, 220.0, 5.0))
    recon = Space(matrix=(NX // 2, NY, nz), fov=(220.0, 220.0, 5.0))
    return Header(encoded=space, recon=recon, trajectory=trajectory, coils=C, **steps)


def random(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def readout(data, *, flags=(), traj=(), head=None, **counters):
    """A row of the table; ``data`` (C, N)."""
    row = np.zeros((), HEAD)
    row["version"], row["active_channels"], row["number_of_samples"] = 1, *data.shape
    row["center_sample"], row["sample_time_us"] = data.shape[1] // 2, 5.0
    row["flags"] = sum(1 << (flag - 1) for flag in flags)
    row["trajectory_dimensions"] = np.shape(traj)[-1] if len(traj) else 0
    for name, value in (head or {}).items():
        row[name] = value
    for name, value in counters.items():
        row["idx"][name] = value
    return row, np.ravel(traj).astype(np.float32), np.ravel(data).view(np.float32)


def write(path, rows, xml=None, group="dataset"):
    table = np.empty(len(rows), np.dtype([("head", HEAD), ("traj", VALUES), ("data", VALUES)]))
    for place, row in enumerate(rows):
        table[place] = row
    with h5py.File(path, "w") as file:
        stored = file.create_dataset(f"{group}/xml", (1,), h5py.string_dtype())
        stored[0] = xml or header().to_xml()
        file[f"{group}/data"] = table
    return path


def lines(kspace, **counters):
    """One readout for each row of k-space (C, NY, NX)."""
    return [readout(kspace[:, y], kspace_encode_step_1=y, **counters) for y in range(kspace.shape[1])]


def test_slices_contrasts_and_repetitions_in_any_order(tmp_path):
    kspace = random(2, 2, 3, C, NY, NX)  # (R, E, S, ...)
    rows = [
        row
        for r, e, s in np.ndindex(2, 2, 3)
        for row in lines(kspace[r, e, s], repetition=r, contrast=e, slice=s, segment=r, user=7)
    ]
    np.random.default_rng(1).shuffle(order := list(range(len(rows))))
    found = read_ismrmrd(write(tmp_path / "a.mrd", [rows[i] for i in order]))
    assert isinstance(found, CartesianData)
    assert np.array_equal(found.imaging.kspace, kspace)
    assert found.imaging.mask.all()
    assert found.header == header()
    assert found.header.readout_oversampling == 2.0
    assert (found.calibration, found.noise, found.noise_dwell_us) == (None, None, None)
    assert found.dwell_us == 5.0
    one = read_ismrmrd(tmp_path / "a.mrd", only={"slice": 2, "contrast": 1})
    assert np.array_equal(one.imaging.kspace, kspace[:, 1:, 2:])
    assert one.counters == {"repetition": (0, 1), "contrast": (1,), "slice": (2,)}


def test_undersampled_lines_calibration_and_noise(tmp_path):
    kspace, noise, separate = random(C, NY, NX), random(2, C, 20, seed=1), random(C, NX, seed=2)
    rows = [readout(kspace[:, y], kspace_encode_step_1=y) for y in (0, 2, 6)]
    rows += [readout(kspace[:, 4], kspace_encode_step_1=4, flags=[BOTH])]
    rows += [readout(separate, kspace_encode_step_1=5, flags=[CALIBRATION])]
    rows += [readout(scan, flags=[NOISE], head={"sample_time_us": 2.5, "encoding_space_ref": 3}) for scan in noise]
    rows += [readout(1e9 * separate, flags=[NAVIGATION]), readout(separate, head={"encoding_space_ref": 1})]
    found = read_ismrmrd(write(tmp_path / "a.mrd", rows[::-1]))
    expected = np.where((np.arange(NY) % 2 == 0)[:, None], kspace, 0)
    assert np.array_equal(found.imaging.kspace[0, 0, 0], expected)
    assert found.imaging.mask[0, 0, 0].all(dim=-1).tolist() == [True, False] * 4
    assert found.calibration.mask[0, 0, 0].any(dim=-1).nonzero().flatten().tolist() == [4, 5]
    assert np.array_equal(found.calibration.kspace[0, 0, 0, :, 4:6], np.stack([kspace[:, 4], separate], axis=1))
    assert np.array_equal(found.noise, np.concatenate(noise[::-1], axis=1))
    assert found.noise_dwell_us == 2.5


def test_repeats_are_averaged(tmp_path):
    kspace = random(3, C, NY, NX)
    rows = [row for average in range(3) for row in lines(kspace[average], average=average)]
    rows += [readout(kspace[0, :, 4], kspace_encode_step_1=4, average=7)]
    found = read_ismrmrd(write(tmp_path / "a.mrd", rows))
    expected = kspace.mean(axis=0)
    expected[:, 4] = (kspace[:, :, 4].sum(axis=0) + kspace[0, :, 4]) / 4
    np.testing.assert_allclose(found.imaging.kspace[0, 0, 0], expected, rtol=1e-6, atol=1e-6)
    assert found.imaging.repeats[0, 0, 0, :, 0].tolist() == [3, 3, 3, 3, 4, 3, 3, 3]


def test_three_dimensions(tmp_path):
    kspace = random(C, 4, NY, NX)
    rows = [row for z in range(4) for row in lines(kspace[:, z], kspace_encode_step_2=z)]
    found = read_ismrmrd(write(tmp_path / "a.mrd", rows, header(nz=4).to_xml()))
    assert np.array_equal(found.imaging.kspace[0, 0, 0], kspace)
    assert found.imaging.repeats.shape == (1, 1, 1, 4, NY, NX)


def test_partial_echo_discarded_samples_and_reversed_readouts(tmp_path):
    kspace = random(C, NY, NX)
    partial = readout(kspace[:, 0, 4:], kspace_encode_step_1=0, head={"center_sample": 2})
    padded = np.concatenate([random(C, 3, seed=1), kspace[:, 1], random(C, 2, seed=2)], axis=1)
    ringing = {"discard_pre": 3, "discard_post": 2, "center_sample": 3 + NX // 2}
    symmetric = kspace[:, 3, 1:]  # -5 to 5
    rows = [
        partial,
        readout(padded, kspace_encode_step_1=1, head=ringing),
        readout(kspace[:, 2, ::-1], kspace_encode_step_1=2, flags=[REVERSED], head={"center_sample": NX // 2 - 1}),
        readout(symmetric[:, ::-1], kspace_encode_step_1=3, flags=[REVERSED]),
        readout(kspace[:, 4], kspace_encode_step_1=4, flags=[REVERSED]),  # 6 to -5; 6 is the frequency -6
        readout(kspace[:, 5], kspace_encode_step_1=5, head={"center_sample": 0}),
    ]
    found = read_ismrmrd(write(tmp_path / "a.mrd", rows))
    grid, mask = found.imaging.kspace[0, 0, 0], found.imaging.mask[0, 0, 0]
    assert np.array_equal(grid[:, 0, 4:], kspace[:, 0, 4:])
    assert mask[0].tolist() == [False] * 4 + [True] * 8
    assert np.array_equal(grid[:, 1:3], kspace[:, 1:3])
    assert np.array_equal(grid[:, 3, 1:], symmetric)
    assert mask[3].tolist() == [False] + [True] * 11
    assert np.array_equal(grid[:, 4], np.concatenate([kspace[:, 4, :1], kspace[:, 4, :0:-1]], axis=1))
    assert np.array_equal(grid[:, 5], kspace[:, 5])


def test_the_centre_line_goes_to_the_centre(tmp_path):
    kspace = random(C, 5, NX)  # steps 0 to 4, of which 1 is the centre
    early = Limits(minimum=0, maximum=4, centre=1)
    xml = Header(**{**vars(header()), "step_1": early}).to_xml()
    found = read_ismrmrd(write(tmp_path / "a.mrd", lines(kspace), xml))
    assert np.array_equal(found.imaging.kspace[0, 0, 0, :, 3:8], kspace)
    unfilled = Header(**{**vars(header()), "step_1": Limits(minimum=0, maximum=7, centre=0)}).to_xml()
    for xml in (unfilled, header(limits=False).to_xml()):
        full = random(C, NY, NX)
        rows = [*lines(full), readout(full[:, 2], kspace_encode_step_1=2, flags=[CALIBRATION])]
        found = read_ismrmrd(write(tmp_path / "a.mrd", rows, xml))
        assert np.array_equal(found.imaging.kspace[0, 0, 0], full)
        assert np.array_equal(found.calibration.kspace[0, 0, 0, :, 2], full[:, 2])


def test_the_image_comes_back(tmp_path):
    image = np.random.default_rng(0).random((NY, NX))
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))[None].repeat(C, 0).astype(np.complex64)
    found = read_ismrmrd(write(tmp_path / "a.mrd", lines(kspace)[::-1])).imaging.kspace[0, 0, 0]
    shifted = torch.fft.ifft2(torch.fft.ifftshift(found, dim=(-2, -1)), norm="ortho")
    back = torch.fft.fftshift(shifted, dim=(-2, -1))
    np.testing.assert_allclose(back.real, np.broadcast_to(image, (C, NY, NX)), atol=1e-6)


def test_radial(tmp_path):
    spokes, samples = 300, 10  # more than are read at a time
    data, noise = random(spokes, C, samples), random(C, 16, seed=1)
    k = np.random.default_rng(2).uniform(-0.5, 0.5, (spokes, samples, 2)).astype(np.float32)
    rows = [readout(noise, flags=[NOISE])]
    rows += [readout(data[a], traj=k[a], kspace_encode_step_1=a, slice=a % 2) for a in range(spokes)]
    write(tmp_path / "a.mrd", rows, header(trajectory="radial").to_xml())
    found = read_ismrmrd(tmp_path / "a.mrd")
    assert isinstance(found, TrajectoryData)
    assert np.array_equal(found.data, data)
    assert np.array_equal(found.k, k)
    assert np.array_equal(found.noise, noise)
    assert found.counters["kspace_encode_step_1"].tolist() == list(range(spokes))
    one = read_ismrmrd(tmp_path / "a.mrd", only={"slice": 1})
    assert np.array_equal(one.data, data[1::2])
    assert np.array_equal(one.k, k[1::2])


def test_trajectories_cut_like_data_or_absent(tmp_path):
    data, k = random(2, C, 10), np.random.default_rng(2).random((2, 10, 3)).astype(np.float32)
    cut = {"discard_pre": 1, "discard_post": 3}
    xml = header(trajectory="spiral").to_xml()
    found = read_ismrmrd(write(tmp_path / "a.mrd", [readout(data[a], traj=k[a], head=cut) for a in range(2)], xml))
    assert np.array_equal(found.data, data[..., 1:7])
    assert np.array_equal(found.k, k[:, 1:7])
    assert read_ismrmrd(write(tmp_path / "a.mrd", [readout(data[0])], xml)).k is None
    short = (*readout(data[0], traj=k[0])[:1], k[0].ravel()[:-3], readout(data[0])[2])
    with pytest.raises(ValueError, match=r"readout 0 has 27 trajectory numbers for 10 samples"):
        read_ismrmrd(write(tmp_path / "a.mrd", [short], xml))


def test_bad_readouts(tmp_path):
    good = random(C, NX)
    short = (*readout(good)[:2], np.zeros(7, np.float32))
    for rows, message in (
        ([short], r"readout 0 has 7 numbers for 3 coils x 12 complex samples"),
        ([readout(good * np.nan)], "readout 0 has 72 values that are NaN"),
        ([readout(random(C, NX + 1))], "does not fit into the encoded matrix of 12"),
        ([readout(good, head={"center_sample": 2})], "with centre sample 2 does not fit"),
        ([readout(good, kspace_encode_step_1=8)], "goes from 8 to 8 with centre 4"),
        ([readout(good, kspace_encode_step_2=1)], "kspace_encode_step_2 goes from 1 to 1 with centre none"),
        ([readout(good), readout(good[:2])], r"active_channels must be the same for all readouts, got \[2, 3\]"),
        ([readout(good), readout(good[:2], flags=[NOISE])], r"active_channels must be the same"),
        (
            [readout(good, phase=1), readout(good, phase=4)],
            r"phase has the values \[1, 4\]; choose one, as only=\{'phase': 1\}",
        ),
        ([readout(good, flags=[NOISE])], "has no imaging readouts of encoding 0 among its 1"),
    ):
        with pytest.raises(ValueError, match=rf"a\.mrd: .*{message}"):
            read_ismrmrd(write(tmp_path / "a.mrd", rows))


def test_bad_files_and_arguments(tmp_path):
    path = write(tmp_path / "a.mrd", lines(random(C, NY, NX)))
    for arguments, message in (
        ({"only": {"line": 1}}, r"only must name counters .*\['line'\]"),
        ({"only": {"slice": 3}}, r"no imaging readouts of encoding 0 with \{'slice': 3\}"),
        ({"encoding": 1}, "has 1 encodings"),
        ({"group": "scan"}, r"no group 'scan', only \['dataset'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            read_ismrmrd(path, **arguments)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"a\.mrd: truncated or damaged HDF5 file"):
        read_ismrmrd(path)
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = [header().to_xml()]
    with pytest.raises(ValueError, match=r"a\.mrd: has no dataset 'data', only \['xml'\]"):
        read_ismrmrd(path)
    with h5py.File(path, "a") as file:
        file["dataset/data"] = np.zeros(3)
    with pytest.raises(ValueError, match="must have the columns head, traj and data"):
        read_ismrmrd(path)


def test_files_of_the_reference_implementation(tmp_path):
    ismrmrd = pytest.importorskip("ismrmrd")
    ismrmrd.xsd.CreateFromDocument(header().to_xml())  # our header is valid
    kspace = random(C, NY, NX)
    file = ismrmrd.Dataset(str(tmp_path / "a.mrd"))
    file.write_xml_header(header().to_xml())
    for y in range(NY):
        acquisition = ismrmrd.Acquisition.from_array(kspace[:, y])
        acquisition.idx.kspace_encode_step_1, acquisition.center_sample = y, NX // 2
        file.append_acquisition(acquisition)
    noise = ismrmrd.Acquisition.from_array(kspace[:, 0])
    noise.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    file.append_acquisition(noise)
    file.close()
    found = read_ismrmrd(tmp_path / "a.mrd")
    assert np.array_equal(found.imaging.kspace[0, 0, 0], kspace)
    assert np.array_equal(found.noise, kspace[:, 0])
