"""Random inpainting masks: where they may lie, how often they occur, seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.degradations import INPAINTING, Boxes, Outpainting, Strokes
from restore.degradations.masks import MaskMixture, _band

SIZE = (96, 128)


@pytest.mark.parametrize("make", [Strokes(), Boxes(), Outpainting(), INPAINTING], ids=repr)
def test_masks_are_binary_seeded_and_neither_empty_nor_full(make):
    for seed in range(10):
        mask = make(SIZE, seed=seed)
        assert mask.shape == (1, *SIZE)
        assert mask.dtype == torch.float32
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(mask, make(SIZE, seed=seed))
    assert not torch.equal(make(SIZE, seed=0), make(SIZE, seed=1))


def test_boxes_keep_the_margin_and_their_sides():
    for seed in range(30):
        mask = Boxes(times=(1, 1), side=(10, 20), margin=7)(SIZE, seed=seed)[0].bool()
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        assert int(mask.sum()) == len(rows) * len(columns)
        assert 10 <= min(len(rows), len(columns)) <= max(len(rows), len(columns)) < 20
        assert int(rows[0]) >= 7
        assert int(rows[-1]) <= SIZE[0] - 1 - 7
        assert int(columns[-1]) <= SIZE[1] - 1 - 7


def sides(mask: torch.Tensor) -> list[bool]:
    return [bool(edge.all()) for edge in (mask[0, :, 0], mask[0, 0], mask[0, :, -1], mask[0, -1])]


def test_outpainting_takes_every_side_alike_and_one_at_least():
    taken = torch.tensor([sides(Outpainting()(SIZE, seed=seed)) for seed in range(400)])
    assert taken.any(1).all()
    shares = taken.float().mean(0)  # 1/2, and a quarter of the 1/16 in which none was drawn
    torch.testing.assert_close(shares, torch.full((4,), 0.5 + 1 / 64), atol=0.08, rtol=0)
    only = [sides(Outpainting(probability=0.0)(SIZE, seed=seed)) for seed in range(40)]
    assert {sum(s) for s in only} == {1}
    assert {s.index(True) for s in only} == {0, 1, 2, 3}


def test_strips_have_their_share():
    for seed in range(20):
        mask = Outpainting(probability=1.0)(SIZE, seed=seed)[0]
        known = (1 - mask).bool()
        rows, columns = known.any(1).nonzero()[:, 0], known.any(0).nonzero()[:, 0]
        for strip, n in ((rows[0], 96), (95 - rows[-1], 96), (columns[0], 128), (127 - columns[-1], 128)):
            assert int(0.04 * n) <= int(strip) < int(0.25 * n)


def test_band_is_a_stroke_of_its_width_with_round_ends():
    band = _band((60, 80), ((20, 30), (60, 30)), 11)
    assert int(band[:, 40].sum()) == 13  # r = 6, and the middle
    assert band[30].nonzero()[:, 0].tolist() == list(range(14, 67))
    assert not band[36, 15]
    disc = _band((60, 80), ((20, 30), (20, 30)), 20)
    assert float(disc.sum()) == pytest.approx(np.pi * 10**2, rel=0.03)


def test_band_of_any_direction_has_the_same_width():
    areas = [float(_band((200, 200), ((100, 100), end), 21).sum()) for end in ((160, 100), (100, 40), (142, 142), (136, 52))]
    assert max(areas) / min(areas) < 1.02


def test_the_mixture_takes_each_generator_alike():
    mixture = MaskMixture(generators=(Boxes(), Outpainting(probability=1.0)))
    strips = sum(all(sides(mixture(SIZE, seed=seed))) for seed in range(300))
    assert strips / 300 == pytest.approx(0.5, abs=0.1)


def test_one_generator_serves_many_masks():
    rng = np.random.RandomState(0)
    assert not torch.equal(INPAINTING.draw(SIZE, rng), INPAINTING.draw(SIZE, rng))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Strokes(times=(0, 3)), "times must be"),
        (lambda: Strokes(width=0), "width must be at least"),
        (lambda: Boxes(side=(20, 20)), "side must be"),
        (lambda: Boxes()((40, 40), seed=0), "room for boxes"),
        (lambda: Outpainting(share=(0.2, 0.6)), "share be"),
        (lambda: Outpainting()((3, 200), seed=0), "choice of strips"),
        (lambda: Strokes()((0, 4), seed=0), "size must be"),
        (lambda: MaskMixture(generators=()), "generators must hold"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
