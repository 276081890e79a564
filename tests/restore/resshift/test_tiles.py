"""Pictures of any size: padding, tiles without seams, a noise field of windows, whole pictures."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prior.schedules import Shifted
from restore.resshift.chain import ResShift, ShiftedSampler
from restore.resshift.noise_field import NoiseField
from restore.resshift.picture import composite, restore_picture, restore_strips
from restore.resshift.prediction import ShiftedDenoiser
from restore.resshift.tiles import BLENDS, Tile, Tiling, pad_to_multiple, tile_starts

TILINGS = [
    Tiling(tile=16, stride=12),
    Tiling(tile=16, stride=12, blend="average"),
    Tiling(tile=16, stride=16, batch=2),
    Tiling(tile=8, stride=3, batch=4),
    Tiling(tile=64, stride=64),
]
SIZES = [(1, 1), (16, 16), (17, 40), (33, 5), (50, 47)]


def normal(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=2e-6):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- padding


@pytest.mark.parametrize("size", [(9, 14), (8, 16), (12, 11)])
def test_padding_mirrors(size):
    image = normal((2, 3, *size))
    got = pad_to_multiple(image, 8)
    height, width = got.shape[-2:]
    assert (height % 8, width % 8) == (0, 0)
    assert height - size[0] < 8 > width - size[1]
    close(got, F.pad(image, (0, width - size[1], 0, height - size[0]), mode="reflect"), 0)


def test_padding_of_the_smallest_pictures():
    row = torch.tensor([[1.0, 2.0, 3.0]])
    assert pad_to_multiple(row, 8).tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]] * 8
    assert pad_to_multiple(torch.tensor([[4.0, 5.0]]), 5)[0].tolist() == [4, 5, 4, 5, 4]
    assert torch.equal(pad_to_multiple(torch.full((1, 1, 1, 1), 7.0), 4), torch.full((1, 1, 4, 4), 7.0))
    for size in ((1, 1), (3, 70), (130, 2)):
        image = normal((1, 3, *size))
        assert torch.equal(pad_to_multiple(image, 64)[..., : size[0], : size[1]], image)
    image = normal((1, 3, 4, 8))
    assert pad_to_multiple(image, 4) is image


# --- tiles


@pytest.mark.parametrize(("tile", "stride"), [(16, 12), (16, 16), (7, 2), (5, 5)])
def test_starts_cover_the_side(tile, stride):
    for length in range(1, 60):
        starts = tile_starts(length, tile, stride)
        assert starts == sorted(set(starts))
        assert {p for s in starts for p in range(s, min(s + tile, length))} == set(range(length))
        assert max(starts) <= max(length - tile, 0)


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("factor", [1, 3])
def test_the_identity_returns_the_picture(tiling, size, factor):
    image = normal((2, 3, *size))
    large = F.interpolate(image, scale_factor=factor, mode="nearest")
    asked = []

    def restore(tiles):
        asked.extend(tiles)
        assert 1 <= len(tiles) <= tiling.batch
        return F.interpolate(torch.cat([tile.crop(image) for tile in tiles]), scale_factor=factor, mode="nearest")

    strips = list(tiling.strips(restore, size, factor=factor))
    close(torch.cat(strips, -2), large)
    assert asked == [tile for row in tiling.grid(size) for tile in row]
    assert max(strip.shape[-2] for strip in strips) <= tiling.tile * factor


@pytest.mark.parametrize("blend", BLENDS)
def test_weights_sum_to_one(blend):
    for length, factor in ((5, 1), (16, 2), (57, 1), (100, 4)):
        tiling = Tiling(tile=16, stride=11, blend=blend)
        total = torch.zeros(length * factor, dtype=torch.float64)
        weights = tiling.weights(length, factor=factor)
        for start, row in zip(tile_starts(length, 16, 11), weights, strict=True):
            total[start * factor : start * factor + len(row)] += row
            assert float(row.min()) >= 0
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def steps(tiling, length, factor=1):
    """Jumps between neighbouring pixels where a tile begins or ends, when tiles are 0 and 1 in turn."""
    size, starts = min(tiling.tile, length), tile_starts(length, tiling.tile, tiling.stride)

    def restore(tiles):
        values = [float(starts.index(tile.left) % 2) for tile in tiles]
        return torch.cat([torch.full((1, 1, factor, size * factor), value) for value in values])

    (strip,) = tiling.strips(restore, (1, length), factor=factor)
    jumps = strip[0, 0, 0].diff().abs()
    edges = [e * factor - 1 for s in starts for e in (s, s + size) if 0 < e < length]
    return jumps[edges]


@pytest.mark.parametrize("factor", [1, 4])
def test_no_seams(factor):
    """Where tiles differ by the whole range, the step at their edges is below 1/255; averages leave a half."""
    for tile, stride, length in ((64, 48, 160), (64, 48, 203), (256, 224, 1000), (512, 448, 960)):
        assert float(steps(Tiling(tile=tile, stride=stride), length, factor).max()) < 1 / 255
        assert float(steps(Tiling(tile=tile, stride=stride, blend="average"), length, factor).max()) > 0.3


# --- the noise field


def test_windows_of_a_field_agree():
    field, whole = NoiseField(3), torch.empty(2, 3, 150, 170)
    noise = field.crop(whole, 1, 0, 0)
    for top, left, height, width in ((0, 0, 1, 1), (60, 63, 10, 100), (64, 128, 64, 42), (149, 0, 1, 170)):
        window = field.crop(torch.empty(2, 3, height, width), 1, top, left)
        assert torch.equal(window, noise[..., top : top + height, left : left + width])
    assert noise.shape == whole.shape
    assert float(noise.mean()) == pytest.approx(0, abs=0.015)
    assert float(noise.std()) == pytest.approx(1, abs=0.015)


def test_what_a_field_depends_on():
    like = torch.empty(2, 3, 8, 8)
    base = NoiseField(3).crop(like, 0, 0, 0)
    assert torch.equal(NoiseField(3).crop(like, 0, 0, 0), base)
    assert torch.equal(NoiseField(4).crop(like[:1], 0, 0, 0)[0], base[1])  # member i is seed + i
    for other in (NoiseField(9).crop(like, 0, 0, 0), NoiseField(3).crop(like, 1, 0, 0), NoiseField(3).crop(like, 0, 64, 0)):
        assert float((other - base).abs().min()) > 0
    assert NoiseField(3).crop(like.half(), 0, 0, 0).dtype == torch.float16


def test_noise_under_tiles():
    field, tiles = NoiseField(1), [Tile(0, 0, 16, 16), Tile(0, 8, 16, 16)]
    noise = field.under(tiles)
    for draw in range(2):
        got = noise(torch.empty(4, 3, 4, 4))  # latents of a quarter of the size, two members a tile
        assert torch.equal(got[:2], field.crop(torch.empty(2, 3, 4, 4), draw, 0, 0))
        assert torch.equal(got[2:], field.crop(torch.empty(2, 3, 4, 4), draw, 0, 2))
        assert torch.equal(got[0, :, :, 2:], got[2, :, :, :2])
    with pytest.raises(ValueError, match=r"stride must be a multiple of 4, .*Tile\(top=0, left=6"):
        field.under([Tile(0, 6, 16, 16)])(torch.empty(1, 3, 4, 4))


# --- whole pictures


class Pointwise(nn.Module):
    """A network that sees each pixel alone: tiles cannot matter but for the noise."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, lq, mask=None):
        self.seen.append((lq, mask))
        return 0.5 * torch.tanh(x) + 0.3 * F.interpolate(lq, x.shape[-2:], mode="nearest")


class Itself(nn.Module):
    def forward(self, x, t, lq, mask=None):
        return F.interpolate(lq, x.shape[-2:], mode="nearest")


class Pooling:
    def encode(self, x):
        return F.avg_pool2d(x, 2)

    def decode(self, z):
        return F.interpolate(z, scale_factor=2, mode="nearest")


def restorer(network, *, factor=1, latent=False):
    model = ShiftedDenoiser(network, Shifted(), scaling="latent" if latent else "pixel")
    return ResShift(model, Pooling() if latent else None, factor=factor, multiple=4)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 16), (21, 45)])
@pytest.mark.parametrize("tiling", [None, Tiling(tile=16, stride=12, batch=2)], ids=["whole", "tiles"])
def test_a_restorer_that_changes_nothing(size, tiling):
    image = uniform((2, 3, *size))
    close(restore_picture(restorer(Itself()), image, noise=NoiseField(0), tiling=tiling), image)


@pytest.mark.parametrize("latent", [False, True], ids=["pixel", "latent"])
@pytest.mark.parametrize("factor", [1, 2])
def test_tiles_are_cut_from_one_noise_field(latent, factor):
    image = uniform((2, 3, 21, 45))
    model = restorer(Pointwise(), factor=factor, latent=latent)
    tiled, whole = (
        restore_picture(model, image, noise=NoiseField(5), tiling=tiling)
        for tiling in (Tiling(tile=16, stride=12, batch=2), None)
    )
    assert tiled.shape == (2, 3, 21 * factor, 45 * factor)
    # the enlarging before the chain mixes pixels across the edges of tiles
    near = (tiled - whole).abs()
    assert float(near.max()) < (2e-6 if factor == 1 else 0.1)
    other = restore_picture(model, image, noise=NoiseField(6))
    assert float((other - whole).abs().mean()) > 0.02
    still = restore_picture(model, image, noise=NoiseField(6), sampler=ShiftedSampler(ddim_eta=0.0))
    assert float((still - other).abs().mean()) > 1e-3


@pytest.mark.parametrize("tiling", [None, Tiling(tile=16, stride=12)], ids=["whole", "tiles"])
def test_a_mask(tiling):
    image, mask = uniform((1, 3, 22, 45)), (uniform((1, 1, 22, 45), 1) > 0.7).float()
    network = Pointwise()
    out = restore_picture(restorer(network, latent=True), image, noise=NoiseField(0), mask=mask, tiling=tiling)
    known = (mask == 0).expand_as(image)
    assert torch.equal(out[known], image[known])
    assert float((out - image)[~known].abs().mean()) > 0.05
    lq, seen = network.seen[0]
    window = Tile(0, 0, 16, 16)
    close(window.crop(seen), window.crop(2 * mask - 1))
    close(window.crop(lq), torch.where(window.crop(mask) == 1, -torch.ones(()), window.crop(2 * image - 1)))
    assert all(m.shape[-2:] == y.shape[-2:] for y, m in network.seen)


def test_strips_are_as_high_as_what_is_done():
    image, mask = uniform((1, 3, 45, 21)), (uniform((1, 1, 45, 21), 1) > 0.7).float()
    model, given = restorer(Pointwise()), {"noise": NoiseField(0), "mask": mask, "tiling": Tiling(tile=16, stride=12)}
    strips = list(restore_strips(model, image, **given))
    assert [strip.shape[-2] for strip in strips] == [12, 12, 8, 13]  # 45 is padded to 48, the last tile begins at 32
    assert torch.equal(torch.cat(strips, -2), restore_picture(model, image, **given))


def test_composite():
    restored, image, mask = uniform((1, 3, 4, 4)), uniform((1, 3, 4, 4), 1), torch.tensor([0.0, 1.0, 0.25, 0.0])
    got = composite(restored, image, mask)
    assert torch.equal(got[..., 0], image[..., 0])
    assert torch.equal(got[..., 1], restored[..., 1])
    close(got[..., 2], 0.25 * restored[..., 2] + 0.75 * image[..., 2])


def test_bad_input():
    for arguments, message in (
        ({"tile": 8, "stride": 9}, "stride must lie in 1..tile, so that tiles leave no gap, got 9 for tile=8"),
        ({"tile": 8, "stride": 0}, "got 0 for tile=8"),
        ({"blend": "linear"}, "blend must be one of gaussian, average, got 'linear'"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Tiling(**arguments)
    with pytest.raises(ValueError, match="multiple must be at least 1, got 0"):
        pad_to_multiple(torch.zeros(1, 1), 0)
    with pytest.raises(ValueError, match=r"image must have at least one pixel a side, got shape \(1, 0, 3\)"):
        pad_to_multiple(torch.zeros(1, 0, 3), 2)
    model, image, noise = restorer(Itself()), uniform((1, 3, 8, 8)), NoiseField(0)
    with pytest.raises(ValueError, match=r"image must be \(B, C, H, W\) in \[0, 1\], of a floating dtype, got torch.uint8"):
        restore_picture(model, torch.zeros(1, 3, 8, 8, dtype=torch.uint8), noise=noise)
    with pytest.raises(ValueError, match=r"image must be .* got torch.float32 \(3, 8, 8\)"):
        restore_picture(model, image[0], noise=noise)
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 1, 8, 8\).*got \(1, 1, 8, 9\)"):
        restore_picture(model, image, noise=noise, mask=torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match=r"mask must lie in \[0, 1\], 1 where the image is unknown, got 0..255"):
        restore_picture(model, image, noise=noise, mask=255 * (image[:, :1] > 0.5).float())
    with pytest.raises(ValueError, match=r"tiling.tile must be a multiple of 4, as the network takes them, got 6"):
        restore_picture(model, image, noise=noise, tiling=Tiling(tile=6, stride=6))
