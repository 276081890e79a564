"""Mask files and the masks of the DPS paper."""

import numpy as np
import pytest
import torch

from inverse.operators import Gaussian, Inpaint, masks


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


@pytest.mark.parametrize("holes", [(0.01, 0.1), (0.2, 0.3), (0.5, 0.6), (0.25, 0.25)])
def test_freeform_holes_cover_the_share_asked_for(holes):
    shares = []
    for seed in range(12):
        mask = masks.freeform_mask((2, 32, 48), holes, seed=seed)
        assert mask.shape == (2, 32, 48)
        assert mask.dtype == torch.bool
        assert torch.equal(mask[0], mask[1])
        shares.append(float((~mask).double().mean()))
    assert holes[0] <= min(shares)
    assert max(shares) <= holes[1]
    spread = (holes[1] - holes[0]) / 12**0.5
    assert np.mean(shares) == pytest.approx(np.mean(holes), abs=4 * spread / 12**0.5 + 1 / (32 * 48))


def test_freeform_holes_are_strokes():
    """Most missing pixels lie among missing ones, where those of a random mask of this share are nearly all alone."""

    def inner(mask):
        hole = (~mask[0]).float()[None, None]
        return float(((torch.nn.functional.avg_pool2d(hole, 3, 1, 1, count_include_pad=False) == 1) * hole).sum() / hole.sum())

    shares = [inner(masks.freeform_mask((1, 128, 128), seed=seed)) for seed in range(4)]
    assert min(shares) > 0.5
    assert inner(masks.random_mask((1, 128, 128), 0.25, seed=0)) < 0.01


def test_a_stroke_covers_what_is_within_its_radius():
    H, W = 40, 60
    generator, replay = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    piece = next(masks._stroke(H, W, generator))
    radius = masks._uniform(replay, *masks.WIDTHS) * 40 / 2
    heading = masks._uniform(replay, 0, 2 * np.pi)
    start = torch.rand(2, generator=replay, dtype=torch.float64).numpy() * [H, W]
    torch.randint(4, 13, (), generator=replay)
    angle = heading + masks._uniform(replay, *masks.TURNS) / 2
    end = start + masks._uniform(replay, *masks.LENGTHS) * 40 * np.array([np.sin(angle), np.cos(angle)])
    line = np.linspace(start, end, 20001)
    pixels = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij"), -1).reshape(-1, 1, 2) + 0.5
    near = np.array([np.sqrt(((line - p) ** 2).sum(-1).min()) for p in pixels])
    clear = np.abs(near - radius) > 1e-3
    assert 0 < (near < radius).sum() < H * W
    assert np.array_equal(piece.isfinite().numpy()[clear], (near < radius)[clear])


def test_freeform_seeds():
    mask = masks.freeform_mask((1, 32, 32), seed=1)
    assert torch.equal(mask, masks.freeform_mask((1, 32, 32), seed=1))
    assert not torch.equal(mask, masks.freeform_mask((1, 32, 32), seed=2))
    A = Inpaint.freeform((3, 32, 32), (0.4, 0.5), seed=1, noise=Gaussian(0.1))
    assert A.domain == (3, 32, 32)
    assert A.noise == Gaussian(0.1)
    assert torch.equal(A.mask, masks.freeform_mask((3, 32, 32), (0.4, 0.5), seed=1))


def test_a_data_set_takes_the_masks_of_a_file_in_turn(tmp_path):
    shape = (2, 4, 5)
    wanted = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) > 0.5
    masks.write_masks(tmp_path / "m.npz", wanted.flatten(1))
    for index in (0, 2, 4):
        A = Inpaint.load(tmp_path / "m.npz", shape, index)
        assert torch.equal(A.mask, wanted[index % 3])
        assert A.domain == shape
    with pytest.raises(ValueError, match=r"must hold masks of 60 entries for \(3, 4, 5\), got \(3, 40\)"):
        Inpaint.load(tmp_path / "m.npz", (3, 4, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masks.freeform_mask((1, 8, 8), (0.3, 0.2)), r"holes must be \(low, high\) .* got \(0\.3, 0\.2\)"),
        (lambda: masks.freeform_mask((1, 8, 8), (0.5, 1.0)), r"holes must be \(low, high\) .* got \(0\.5, 1\.0\)"),
        (lambda: masks.freeform_mask((1, 2, 2), (0.3, 0.4)), r"holes \(0\.3, 0\.4\) must allow a whole number of the 2 x 2"),
        (lambda: masks.freeform_mask((8, 8)), r"shape must be \(C, H, W\), got \(8, 8\)"),
        (lambda: masks.dps_random_mask(8, (0.7, 0.3), seed=0), r"missing must be \(low, high\) .* got \(0\.7, 0\.3\)"),
        (lambda: masks.dps_box_mask(64, seed=0), r"length must be .* margins \(16, 16\) of 64 pixels, got \(128, 129\)"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape must be \(C, H, W\), got \(4, 4\)"):
        masks.box_mask((4, 4))
