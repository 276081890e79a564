"""Images from folders, tar packs and tensor files; crops; the split of photos."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from prior.data import CentreCrops, Crops, ImageDataModule, photo_of, read_images, split_by_photo


def picture(seed, height=20, width=24):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def png(image):
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "inner").mkdir(parents=True)
    for i in range(4):
        (root / ("inner" if i % 2 else "") / f"src_{i}_0.png").write_bytes(png(picture(i)))
    (root / "notes.txt").write_text("not an image")
    return root


def test_folder(folder):
    images = read_images(folder)
    assert sorted(images) == ["inner/src_1_0.png", "inner/src_3_0.png", "src_0_0.png", "src_2_0.png"]
    assert torch.equal(images["src_2_0.png"], picture(2))


def test_grey_images_become_rgb(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "grey.png")
    (image,) = read_images(tmp_path).values()
    assert torch.equal(image, torch.arange(12, dtype=torch.uint8).view(1, 3, 4).expand(3, 3, 4))


def test_tar(tmp_path):
    path = tmp_path / "pack.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in {"a/src_0.png": png(picture(0)), "a/readme.md": b"text", "src_1.PNG": png(picture(1))}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    images = read_images(path)
    assert list(images) == ["a/src_0.png", "src_1.PNG"]
    assert torch.equal(images["src_1.PNG"], picture(1))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_tensor_files(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    tensors = {
        "stack": torch.stack([picture(0), picture(1)]),
        "single": picture(2),
        "float": torch.tensor([-0.5, 0.0, 0.5, 1.0, 2.0]).expand(3, 2, 5).contiguous(),
    }
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    images = read_images(path)
    assert sorted(images) == ["float/0", "single/0", "stack/0", "stack/1"]
    assert torch.equal(images["stack/1"], picture(1))
    assert torch.equal(images["single/0"], picture(2))
    assert images["float/0"][0, 0].tolist() == [0, 0, 128, 255, 255]


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: there is no file or folder .*missing"):
        read_images(tmp_path / "missing")
    with pytest.raises(ValueError, match="path: no images in"):
        read_images(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"path must be a folder, a \.tar, \.safetensors or \.pt file, got .*x\.zip"):
        read_images(tmp_path / "x.zip")


def test_crops_are_flipped_parts_of_the_image():
    image = picture(0, 9, 11)
    windows = image.unfold(1, 4, 1).unfold(2, 4, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 4, 4)
    turned = torch.cat([torch.rot90(w, k, (-2, -1)) for k in range(4) for w in (windows, windows.flip(-1))])
    possible = {tuple(w.flatten().tolist()) for w in turned}
    torch.manual_seed(0)
    crops = Crops([image], 4, 300)
    drawn = {tuple((255 * crops[i]).round().byte().flatten().tolist()) for i in range(len(crops))}
    assert len(crops) == 300
    assert drawn <= possible
    assert len(drawn) > 150  # of 384 places and orientations


def test_crops_reach_every_border():
    image = torch.zeros(3, 6, 7, dtype=torch.uint8)
    image[:, 0, 0] = image[:, 0, -1] = image[:, -1, 0] = image[:, -1, -1] = 255
    torch.manual_seed(0)
    hits = sum(bool(Crops([image], 5, 1)[0].max() == 1) for _ in range(60))
    assert 25 <= hits <= 55  # four of the six places touch a corner: 40 expected, deviation 3.7


def test_crops_do_not_change_the_image():
    image = picture(0)
    before = image.clone()
    Crops([image], 8, 4)[0].mul_(0)
    assert torch.equal(image, before)


def test_crop_larger_than_an_image():
    with pytest.raises(
        ValueError, match=r"crop must be at most the smallest image side, got 21 with an image of shape \(3, 20, 24\)"
    ):
        Crops([picture(0, 30, 30), picture(1)], 21, 4)


def test_centre_crops():
    image = picture(0, 20, 25)
    assert torch.equal(CentreCrops([image], 10)[0], image[:, 5:15, 7:17].float() / 255)


@pytest.mark.parametrize(
    ("name", "photo"), [("inner/coco_0012_3.png", "coco_0012"), ("coco_0012.png", "coco_0012"), ("one.jpg", "one")]
)
def test_photo_of_a_tile(name, photo):
    assert photo_of(name) == photo


def test_tiles_of_one_photo_stay_together():
    images = {f"src_{photo:02d}_{tile}.png": torch.tensor([photo]) for photo in range(10) for tile in range(3)}
    training, validation = split_by_photo(images, holdout=4)
    assert sorted({int(i) for i in validation}) == [0, 4, 8]
    assert sorted({int(i) for i in training}) == [1, 2, 3, 5, 6, 7, 9]
    assert (len(training), len(validation)) == (21, 9)


def test_holdout_of_none():
    with pytest.raises(ValueError, match="holdout must be at least 1, one photo in how many validates, got 0"):
        split_by_photo({"src_0_0.png": picture(0)}, holdout=0)


def test_a_single_photo_serves_both_sides():
    training, validation = split_by_photo({"src_0_0.png": picture(0), "src_0_1.png": picture(1)}, holdout=4)
    assert len(training) == len(validation) == 2


def test_data_module(folder):
    data = ImageDataModule(str(folder), crop=8, batch_size=3, batches=5, holdout=2)
    data.setup("fit")
    assert (len(data.train_images), len(data.val_images)) == (2, 2)
    batches = list(data.train_dataloader())
    assert len(batches) == 5
    assert {tuple(b.shape) for b in batches} == {(3, 3, 8, 8)}
    assert all(b.dtype == torch.float32 and float(b.min()) >= 0 and float(b.max()) <= 1 for b in batches)
    (validation,) = data.val_dataloader()
    assert torch.equal(validation, torch.stack([picture(i)[:, :, 2:22] for i in (0, 2)]).float() / 255)
    assert torch.equal(next(iter(data.test_dataloader())), validation)
    assert torch.equal(next(iter(data.predict_dataloader())), validation)


def test_data_module_reads_once(folder):
    data = ImageDataModule(str(folder), crop=8)
    data.setup("fit")
    held = data.train_images
    data.setup("validate")
    assert data.train_images is held
