"""Data for restorers: what corruptions do, which crops there are, and that batch n is batch n wherever a run was resumed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from prior.numbered import BatchNumbers
from restore.degradations import LAMA, SecondOrder, area_resize, eightfold, matlab_bicubic, to_8_bits
from restore.degradations.draws import choose
from restore.resshift import Bicubic, Crop, DegradedDataModule, Faces, Holes, Mixture, PairedDataModule, Realistic
from restore.resshift.batches import generator_of, seed_of
from restore.resshift.data import image_of, sources_of, turned


def picture(seed, height=24, width=20):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        save(picture(i), tmp_path / "photos" / f"src_{i}_0.png")
    return tmp_path / "photos"


def module(folder, **options):
    options = {"corruption": Bicubic(4), "crop": Crop(size=16), "batch_size": 3, "batches": 5, "holdout": 3, **options}
    data = DegradedDataModule(str(folder), **options)
    data.setup("fit")
    return data


def equal(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


# --- corruptions


def test_bicubic_is_the_reduction_of_the_test_sets():
    truth = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    kept, degraded, mask = Bicubic(4)(truth, generator_of(0))
    assert mask is None
    assert kept is truth
    assert degraded.shape == (2, 3, 6, 4)
    assert torch.equal(degraded, to_8_bits(matlab_bicubic(truth, 0.25)))


def test_holes_are_black_and_the_mask_says_where():
    truth = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(min=0.01)
    _, degraded, mask = Holes()(truth, generator_of(1))
    assert mask.shape == (3, 1, 64, 64)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(degraded == 0, (mask == 1).expand_as(degraded))
    assert torch.equal(torch.where(mask == 1, truth, degraded), truth)
    assert not torch.equal(mask[0], mask[1])


def test_outpainting_alone_leaves_the_middle():
    _, _, mask = Holes(("outpainting",))(torch.ones(8, 3, 64, 64), generator_of(0))
    assert mask[..., 16:48, 16:48].sum() == 0
    assert bool((mask.flatten(1).sum(1) > 0).all())


@pytest.mark.parametrize("shared", [False, True])
def test_realistic_images_are_whole_255ths_of_the_size_asked_for(shared):
    truth = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    corruption = Realistic(factor=4, preset="imagenet_test", shared=shared)
    degraded = corruption(truth, generator_of(3)).degraded
    assert degraded.shape == (2, 3, 16, 16)
    assert torch.equal(degraded, to_8_bits(degraded))
    assert torch.equal(degraded, corruption(truth, generator_of(3)).degraded)
    assert not torch.equal(degraded, corruption(truth, generator_of(4)).degraded)


def test_degradations_that_lose_an_image_are_drawn_anew(monkeypatch):
    answers = iter([torch.nan, 0.25])
    monkeypatch.setattr(SecondOrder, "__call__", lambda law, x, generator: torch.full_like(x[..., ::4, ::4], next(answers)))
    assert Realistic()(torch.zeros(1, 3, 8, 8), generator_of(0)).degraded.unique().tolist() == [0.25]
    monkeypatch.setattr(SecondOrder, "__call__", lambda law, x, generator: torch.full_like(x, torch.nan))
    with pytest.raises(ValueError, match=r"truth must hold numbers.*got \(1, 3, 8, 8\) that became NaN"):
        Realistic()(torch.zeros(1, 3, 8, 8), generator_of(0))


def test_faces_keep_their_size():
    truth = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kept, degraded, mask = Faces("test")(truth, generator_of(0))
    assert kept.shape == degraded.shape == truth.shape
    assert mask is None
    assert degraded.std() < 0.5 * truth.std()  # blurred by at least four pixels


def test_a_mixture_draws_by_its_shares():
    class Flat(Bicubic):
        def __call__(self, truth, generator):
            corrupted = super().__call__(truth, generator)
            return corrupted._replace(degraded=torch.full_like(corrupted.degraded, 0.5))

    truth = torch.rand(400, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mixture = Mixture((Bicubic(4), Flat(4)), (3.0, 1.0))
    degraded = mixture(truth, generator_of(0)).degraded
    flat = (degraded == 0.5).flatten(1).all(1)
    assert mixture.factor == 4
    assert 70 <= int(flat.sum()) <= 130  # 100 expected, deviation 8.7
    assert torch.equal(degraded[~flat], Bicubic(4)(truth, generator_of(0)).degraded[~flat])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Realistic(preset="harsh"), "preset must be of training, imagenet_test, got 'harsh'"),
        (lambda: Faces("real"), "preset must be of training, test, got 'real'"),
        (lambda: Holes(("spots",)), "kinds must be of strokes, boxes, outpainting, got 'spots'"),
        (lambda: Holes(()), "kinds must be of strokes, boxes, outpainting, got 'none'"),
        (lambda: Mixture((Bicubic(4), Bicubic(2)), (1.0, 1.0)), r"corruptions must have one factor.*got \[4, 2\]"),
        (lambda: Mixture((Holes(),), (1.0,)), "corruptions must be without masks"),
        (lambda: Mixture((Bicubic(),), (1.0, 2.0)), "shares must be 1 weights"),
    ],
)
def test_corruptions_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- crops


def test_native_crops_are_parts_of_the_image():
    image, generator = picture(0), generator_of(0)
    windows = (image.float() / 255).unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    crops = [Crop(size=8, turns=1)(image, generator) for _ in range(60)]
    places = [int((windows == crop).flatten(1).all(1).nonzero()) for crop in crops]
    assert len(set(places)) > 35  # of 221
    crop = Crop(size=8)(image, generator)
    assert any(bool((windows == eightfold(crop, mode)).flatten(1).all(1).any()) for mode in range(8))


def test_mirrored_crops_are_mirrored_half_of_the_time():
    image = picture(0, 8, 8)
    generator = generator_of(0)
    mirrored = [torch.equal(Crop(size=8, turns=2)(image, generator), image.flip(-1).float() / 255) for _ in range(100)]
    assert 35 <= sum(mirrored) <= 65


def test_shorter_resizes_before_it_cuts():
    image = picture(1, 16, 24).repeat_interleave(3, -1).repeat_interleave(3, -2)  # 48 x 72; a third of it is known
    small = (picture(1, 16, 24).float() / 255).unfold(2, 16, 1)
    crop = Crop(size=16, fit="shorter", turns=1)(image, generator_of(0))
    assert min(float((crop - small[:, :, k]).abs().max()) for k in range(small.shape[2])) < 1e-6
    torch.testing.assert_close(Crop(size=16, fit="shorter").centre(image), small[:, :, 4], atol=1e-6, rtol=0)


@pytest.mark.parametrize("fit", ["native", "shorter"])
def test_augmented_crops_are_warped_cut_and_recoloured_by_one_seed(fit):
    image, crop = picture(1, 20, 30), Crop(size=16, fit=fit, turns=2, augmentation="lama")
    drawn = torch.stack([crop(image, generator_of(seed)) for seed in range(24)])
    again = torch.stack([crop(image, generator_of(seed)) for seed in range(24)])
    assert torch.equal(drawn, again)
    assert drawn.shape == (24, 3, 16, 16)
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    generator = generator_of(7)
    start = image.float() / 255 if fit == "native" else area_resize(image.float() / 255, (16, 24))
    warped = LAMA.warp.draw(generator).apply(start)
    top, left = (choose(generator, [1.0] * (n - 15)) for n in warped.shape[-2:])
    cut = turned(warped[:, top : top + 16, left : left + 16], 2, generator)
    torch.testing.assert_close(drawn[7], LAMA.recolouring.draw(generator).apply(cut), atol=1e-6, rtol=0)
    assert torch.equal(crop.centre(image), Crop(size=16, fit=fit).centre(image))


@pytest.mark.parametrize("size", [16, 32])
def test_square_crops_take_the_whole_shorter_side(size):
    crop = Crop(size=size, fit="square", turns=2)(torch.full((3, 40, 24), 51, dtype=torch.uint8), generator_of(0))
    torch.testing.assert_close(crop, torch.full((3, size, size), 0.2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"fit": "longer"}, "fit must be one of native, shorter, square, got 'longer'"),
        ({"turns": 4}, "turns must be one of 1, 2, 8.*got 4"),
        ({"fit": "square", "turns": 8}, "and 2 with fit 'square', got 8"),
        ({"augmentation": "all"}, "augmentation must be one of none, lama, and none with fit 'square', got 'all'"),
        ({"fit": "square", "turns": 2, "augmentation": "lama"}, "none with fit 'square', got 'lama'"),
    ],
)
def test_crops_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        Crop(**options)


def test_images_smaller_than_a_native_crop():
    with pytest.raises(
        ValueError, match=r"size must be at most the smallest image side, got 21 .*\(3, 24, 20\); fit='shorter'"
    ):
        Crop(size=21)(picture(0), generator_of(0))


# --- photographs


def test_files_of_a_folder_are_read_when_needed(folder):
    sources = sources_of(folder)
    assert list(sources) == [f"src_{i}_0.png" for i in range(6)]
    assert all(path.parent == folder for path in sources.values())
    assert torch.equal(image_of(sources["src_2_0.png"]), picture(2))


def test_files_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by a half
    Image.fromarray(picture(0).permute(1, 2, 0).numpy()).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(image_of(tmp_path / "a.png"), picture(0).flip(-1, -2))


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="path: no images in"):
        sources_of(tmp_path)


def test_batches_follow_from_their_number(folder):
    one, two = module(folder).training(0), module(folder).training(0)
    later = one[7]
    one[3]
    assert later.truth.shape == (3, 3, 16, 16)
    assert later.degraded.shape == (3, 3, 4, 4)
    assert equal(later, two[7])
    others = [one[8], module(folder).training(1)[7], module(folder, seed=1).training(0)[7]]
    assert all(not torch.equal(later.truth, other.truth) and later.seed != other.seed for other in others)


def test_loaders_go_on_where_training_was(folder):
    data = module(folder, batches=4)
    data.trainer = SimpleNamespace(global_step=3, accumulate_grad_batches=2, global_rank=1)
    expected = [data.training(1)[n] for n in range(6, 10)]
    got = list(data.train_dataloader())
    assert len(data.train_dataloader()) == len(got) == 4
    assert all(equal(a, b) for a, b in zip(got, expected, strict=True))


def test_workers_make_the_same_batches(folder):
    alone, helped = (list(module(folder, batches=2, workers=n).train_dataloader()) for n in (0, 1))
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_numbers_are_asked_for_at_every_epoch():
    done = iter([0, 4])
    numbers = BatchNumbers(4, lambda: next(done))
    assert [list(numbers), list(numbers)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_held_out_photos_are_others_and_always_the_same(folder):
    data = module(folder, batch_size=2)
    assert {p.name for p in data.val_sources} == {"src_0_0.png", "src_3_0.png"}
    assert {p.name for p in data.train_sources} == {f"src_{i}_0.png" for i in (1, 2, 4, 5)}
    (batch,), (again,) = data.val_dataloader(), data.val_dataloader()
    assert equal(batch, again)
    middle = torch.stack([picture(i)[:, 4:20, 2:18].float() / 255 for i in (0, 3)])
    assert torch.equal(batch.truth, middle)


def test_the_pool_mixes_training_batches_and_keeps_pairs_together(folder):
    data = module(folder, pool=2, batches=12)
    data.trainer = SimpleNamespace(training=True, global_step=0, accumulate_grad_batches=1, global_rank=0)
    batches = list(data.train_dataloader())
    mixed = [data.on_after_batch_transfer(batch, 0) for batch in batches]
    assert equal(mixed[0], batches[0])
    assert any(not torch.equal(a.truth, b.truth) for a, b in zip(mixed, batches, strict=True))
    assert all(torch.equal(b.degraded, to_8_bits(matlab_bicubic(b.truth, 0.25))) for b in mixed)
    data.trainer.training = False
    assert data.on_after_batch_transfer(batches[5], 0) is batches[5]


def test_the_pool_refuses_masks(folder):
    data = module(folder, pool=1)
    data.trainer = SimpleNamespace(training=True, global_rank=0)
    batch = data.training(0)[0]
    with pytest.raises(ValueError, match="pool must be 0 for corruptions with a mask"):
        data.on_after_batch_transfer(batch._replace(mask=batch.truth), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": Crop(size=18)}, "crop.size must be a multiple of corruption.factor, 4, got 18"),
        ({"pool": -1}, "pool must be a number of batches"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batches": 0}, "batches must be at least 1, got 0"),
    ],
)
def test_the_module_refuses(folder, options, message):
    with pytest.raises(ValueError, match=message):
        module(folder, **options)


def test_seeds_are_of_their_keys():
    assert seed_of(1, "a") == seed_of(1, "a")
    assert len({seed_of(n, word) for n in range(100) for word in ("a", "b")}) == 200
    assert 0 <= min(seed_of(n) for n in range(100)) < max(seed_of(n) for n in range(100)) < 2**62


# --- pairs


def pairs(tmp_path, names, factor=1, suffix="png"):
    for i, name in enumerate(names):
        save(picture(i).repeat_interleave(factor, -1).repeat_interleave(factor, -2), tmp_path / "truth" / f"{name}.png")
        save(picture(i), tmp_path / "spoilt" / f"{name}.{suffix}")
    return str(tmp_path / "truth"), str(tmp_path / "spoilt")


@pytest.mark.parametrize("factor", [1, 2])
def test_pairs_are_cut_and_turned_alike(tmp_path, factor):
    folders = pairs(tmp_path, [f"im_{i}" for i in range(4)], factor, suffix="bmp")
    data = PairedDataModule(*folders, size=8, batch_size=4, batches=2, holdout=4)
    data.setup("fit")
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        enlarged = batch.degraded.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        assert batch.degraded.shape[1:] == (3, 8, 8)
        assert torch.equal(batch.truth, enlarged)
    one, other = (data.training(0)[n].degraded for n in (0, 1))
    assert not torch.equal(one, other)
    assert equal(data.training(0)[1], data.training(0)[1])
    (held,) = data.val_dataloader()
    assert torch.equal(held.degraded, picture(0)[None, :, 8:16, 6:14].float() / 255)


def test_frames_of_a_sequence_stay_on_one_side(tmp_path):
    data = PairedDataModule(*pairs(tmp_path, ["a/1", "a/2", "b/1", "c/1"]), size=8, holdout=3)
    data.setup("fit")
    assert [truth.parent.name for truth, _ in data.val_pairs] == ["a", "a"]
    assert [truth.parent.name for truth, _ in data.train_pairs] == ["b", "c"]


def test_pairs_need_both(tmp_path):
    folders = pairs(tmp_path, ["a", "b"])
    (tmp_path / "spoilt" / "b.png").unlink()
    with pytest.raises(ValueError, match="truth and degraded must have the same names, but 'b' is in truth alone"):
        PairedDataModule(*folders).setup("fit")


def test_pairs_of_other_sizes(tmp_path):
    save(picture(0, 30, 20), tmp_path / "truth" / "a.png")
    save(picture(0), tmp_path / "spoilt" / "a.png")
    data = PairedDataModule(str(tmp_path / "truth"), str(tmp_path / "spoilt"), size=8, batch_size=1)
    data.setup("fit")
    with pytest.raises(ValueError, match="truth must be larger than degraded by a whole factor"):
        data.training(0)[0]
    with pytest.raises(ValueError, match="turns must be one of 1, 2, 8, got 3"):
        PairedDataModule("a", "b", turns=3)
