"""Images to train on: folders, tar packs and tensor files, cropped and flipped, as LightningDataModules."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

__all__ = ["ImageDataModule", "read_images"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})


def read_images(path: str | Path) -> dict[str, Tensor]:
    """All images of a folder, a tar pack or a tensor file, by name: uint8 (C, H, W), RGB.

    A tensor file (``.safetensors`` or ``.pt``) holds tensors (C, H, W) or stacks (N, C, H, W), uint8 or float in [0, 1].
    Raises ``FileNotFoundError`` where nothing is there and ``ValueError`` where there is no image in it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file or folder {path}")
    if path.is_dir():
        images = {
            str(p.relative_to(path)): _decode(p.read_bytes())
            for p in sorted(path.rglob("*"))
            if p.suffix.lower() in IMAGE_SUFFIXES
        }
    elif path.suffix == ".tar":
        images = dict(_read_tar(path))
    elif path.suffix in {".safetensors", ".pt"}:
        images = _read_tensors(path)
    else:
        raise ValueError(f"path must be a folder, a .tar, .safetensors or .pt file, got {path}")
    if not images:
        raise ValueError(f"path: no images in {path}")
    return images


def _decode(data: bytes) -> Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _read_tar(path: Path) -> list[tuple[str, Tensor]]:
    with tarfile.open(path) as tar:
        members = [m for m in tar.getmembers() if Path(m.name).suffix.lower() in IMAGE_SUFFIXES]
        return [(m.name, _decode(tar.extractfile(m).read())) for m in members]  # type: ignore[union-attr]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors = load_file(path)
    else:
        tensors = torch.load(path, weights_only=True)
    images: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor = (tensor.clamp(0, 1) * 255).round().to(torch.uint8)
        stack = tensor if tensor.ndim == 4 else tensor[None]
        images |= {f"{name}/{i}": image for i, image in enumerate(stack)}
    return images


class Crops(Dataset[Tensor]):
    """Random square crops with random flips and transposition, float32 (C, size, size) in [0, 1]; ``length`` of them."""

    def __init__(self, images: Sequence[Tensor], size: int, length: int) -> None:
        small = [tuple(i.shape) for i in images if min(i.shape[-2:]) < size]
        if small:
            raise ValueError(f"crop must be at most the smallest image side, got {size} with an image of shape {small[0]}")
        self.images, self.size, self.length = images, size, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        pick, top, left, flips = torch.rand(4).tolist()
        image = self.images[int(pick * len(self.images))]
        top = int(top * (image.shape[-2] - self.size + 1))
        left = int(left * (image.shape[-1] - self.size + 1))
        crop = image[:, top : top + self.size, left : left + self.size]
        flip = int(flips * 8)
        if flip & 1:
            crop = crop.flip(-1)
        if flip & 2:
            crop = crop.flip(-2)
        if flip & 4:
            crop = crop.transpose(-1, -2)
        return crop.contiguous().float() / 255


class CentreCrops(Dataset[Tensor]):
    """The central square of every image, float32 (C, size, size) in [0, 1]."""

    def __init__(self, images: Sequence[Tensor], size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        top, left = ((s - self.size) // 2 for s in image.shape[-2:])
        return image[:, top : top + self.size, left : left + self.size].float() / 255


def photo_of(name: str) -> str:
    """The photo an image belongs to: its name up to the second underscore, so that tiles of one photo stay together."""
    return "_".join(Path(name).stem.split("_")[:2])


class ImageDataModule(LightningDataModule):
    """Random crops of a folder, tar pack or tensor file; every ``holdout``-th photo is kept for validation.

    Parameters
    ----------
    path: folder of images, ``.tar`` pack, or ``.safetensors`` / ``.pt`` file of uint8 tensors.
    crop: side of the training crops; batch_size: crops a batch; batches: batches an epoch.
    holdout: one photo in this many validates; tiles of one photo (``source_number_tile``) stay on one side.
    workers: loader processes; the images themselves are held decoded in memory.
    """

    def __init__(
        self,
        path: str,
        crop: int = 128,
        batch_size: int = 16,
        batches: int = 1000,
        holdout: int = 20,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.path, self.crop, self.batch_size, self.batches = path, crop, batch_size, batches
        self.holdout, self.workers = holdout, workers
        self.train_images: list[Tensor] = []
        self.val_images: list[Tensor] = []

    def setup(self, stage: str) -> None:
        if self.train_images:
            return
        images = read_images(self.path)
        self.train_images, self.val_images = split_by_photo(images, self.holdout)

    def train_dataloader(self) -> DataLoader[Tensor]:
        data = Crops(self.train_images, self.crop, self.batch_size * self.batches)
        return DataLoader(data, self.batch_size, num_workers=self.workers, persistent_workers=self.workers > 0, drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        side = min(256, *(min(i.shape[-2:]) for i in self.val_images))
        return DataLoader(CentreCrops(self.val_images, side), min(self.batch_size, 8))

    def test_dataloader(self) -> DataLoader[Tensor]:
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Tensor]:
        return self.val_dataloader()


def split_by_photo(
    images: dict[str, Tensor], holdout: int, key: Callable[[str], str] = photo_of
) -> tuple[list[Tensor], list[Tensor]]:
    """``(training, validation)``: every ``holdout``-th photo, in the order of names, validates."""
    if holdout < 1:
        raise ValueError(f"holdout must be at least 1, one photo in how many validates, got {holdout}")
    photos = sorted({key(name) for name in images})
    held = set(photos[::holdout]) if len(photos) > 1 else set(photos)
    validation = [image for name, image in images.items() if key(name) in held]
    training = [image for name, image in images.items() if key(name) not in held] or validation
    return training, validation
