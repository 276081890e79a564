"""Mask files and the masks of the DPS paper."""

import numpy as np
import pytest
import torch

from inverse.operators import masks


def test_file_round_trip(tmp_path):
    wanted = torch.rand(3, 3 * 5 * 5, generator=torch.Generator().manual_seed(0)) > 0.5
    masks.write_masks(tmp_path / "m.npz", wanted)
    assert torch.equal(masks.read_masks(tmp_path / "m.npz"), wanted)


def test_bits_are_big_endian(tmp_path):
    np.savez(tmp_path / "m.npz", m=np.array([0b10110000], dtype=np.uint8), shape=np.array([2, 2]))
    assert masks.read_masks(tmp_path / "m.npz").int().tolist() == [[1, 0], [1, 1]]


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mask=np.zeros(3))
    with pytest.raises(ValueError, match=r"a mask file has the entries m and shape, got \['mask'\]"):
        masks.read_masks(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", m=np.zeros(1, dtype=np.uint8), shape=np.array([2, 8]))
    with pytest.raises(ValueError, match=r"m must hold the 16 bits of shape \(2, 8\), got 8"):
        masks.read_masks(tmp_path / "b.npz")


def test_dps_masks():
    mask = masks.dps_random_mask(40, (0.3, 0.7), seed=1)
    assert mask.shape == (1, 40, 40)
    assert 0.3 * 1600 - 1 <= int((~mask).sum()) <= 0.7 * 1600
    assert torch.equal(mask, masks.dps_random_mask(40, (0.3, 0.7), seed=1))
    box = masks.dps_box_mask(40, (8, 12), margin=(3, 5), seed=2)
    rows, columns = (~box[0]).any(1).nonzero(), (~box[0]).any(0).nonzero()
    assert 8 <= len(rows) < 12
    assert 8 <= len(columns) < 12
    assert int((~box).sum()) == len(rows) * len(columns)
    assert rows.min() >= 3
    assert rows.max() < 37
    assert columns.min() >= 5
    assert columns.max() < 35


def test_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape must be \(C, H, W\), got \(4, 4\)"):
        masks.box_mask((4, 4))
