"""Real k-space as items: what was measured, maps from its centre, and the image of all of it to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from benchmarks.mri.scene import birdcage
from inverse.operators import LinearOperator
from medical.coils import combine, espirit, root_sum_of_squares
from medical.operators import NUFFT, Sense, centred_fft, centred_ifft
from medical.sampling import masks, radial, radial_density

__all__ = ["PATTERNS", "Item", "Pattern", "Undersampled", "brain", "scores", "single_coil", "stand_in", "undersampled"]

ACS = 24
HEAD = 0.05  # the head is where the root sum of squares is above this part of its maximum
SPOKES = 64


@dataclass(frozen=True, eq=False)
class Item:
    """k-space (C, H, W), maps (C, H, W), the image (H, W) that they combine to, the head in it, the noise of one coil.

    ``noise`` is the root mean square of the modulus, in k-space as in the image.
    """

    name: str
    kspace: Tensor
    maps: Tensor
    image: Tensor
    inside: Tensor
    noise: float

    @classmethod
    def of(cls, name: str, kspace: Tensor, maps: Tensor, noise: float) -> Item:
        """With the image that the maps combine fully sampled k-space to."""
        coils = centred_ifft(kspace)
        total = root_sum_of_squares(coils, 0)
        return cls(name, kspace, maps, combine(coils[None], maps[None])[0, 0], total > HEAD * total.max(), noise)


@dataclass(frozen=True)
class Pattern:
    """Which part of k-space is kept: every ``columns``-th column and the centre, a Poisson disc, or spokes."""

    name: str
    columns: int = 0
    disc: float = 0.0


PATTERNS = (
    Pattern("every 2nd column", columns=2),
    Pattern("every 4th column", columns=4),
    Pattern("Poisson disc, x 6", disc=6.0),
    Pattern(f"{SPOKES} spokes"),
)


@dataclass(frozen=True, eq=False)
class Undersampled:
    """The operator and the data (1, C, ...) of a pattern; ``density`` weights samples off the grid, (K,)."""

    item: Item
    pattern: Pattern
    A: LinearOperator
    y: Tensor
    acceleration: float
    density: Tensor | None = None


def brain(folder: Path) -> Item:
    """Eight coils, T1, 230 x 180, fully sampled; maps by ESPIRiT of the 24 x 24 samples in the middle."""
    kspace = torch.from_numpy(np.load(folder / "brain8_full.npz")["kspace"])
    corner = kspace[:, : ACS // 2, : ACS // 2]
    return Item.of("brain8_full", kspace, espirit(kspace, calibration=ACS).maps[0], float(corner.abs().square().mean().sqrt()))


def single_coil(folder: Path) -> Item:
    """One coil, T2, 512 x 512; the image, shifted by half the field of view, moved to the middle."""
    kspace = torch.from_numpy(np.load(folder / "single_coil_512.npz")["kspace"])
    i, j = (torch.arange(n) for n in kspace.shape)
    kspace = (kspace * (1 - 2 * ((i[:, None] + j) % 2))).to(torch.complex64)
    return Item.of("single_coil_512", kspace[None], torch.ones(1, *kspace.shape, dtype=kspace.dtype), 0.0)


def stand_in(item: Item, like: Item, side: int = 192) -> Item:
    """A multi-coil item to tune on: the image of ``item``, its k-space cut to ``side``, seen by synthetic coils.

    As many coils as ``like`` has, and noise that is as large a part of the largest value.
    """
    side = min(side, *item.image.shape)
    first = [n // 2 - side // 2 for n in item.kspace.shape[1:]]
    cut = item.kspace[0, first[0] : first[0] + side, first[1] : first[1] + side]
    maps = birdcage(len(like.kspace), (side, side)).to(torch.complex64)
    seen = maps * centred_ifft(cut)
    largest = float(root_sum_of_squares(seen, 0).max())
    noise = like.noise / float(like.image.abs().max())
    z = torch.randn(seen.shape, dtype=seen.dtype, generator=torch.Generator().manual_seed(1))
    return Item.of(f"{item.name}, synthetic coils", centred_fft(seen) / largest + noise * z, maps, noise)


def undersampled(item: Item, pattern: Pattern) -> Undersampled:
    """What the pattern keeps of the item.

    Samples on the grid are those of the item; spokes are sums over its image, seen by its maps, plus noise of its level.
    """
    shape = (item.image.shape[0], item.image.shape[1])
    if pattern.columns or pattern.disc:
        if pattern.columns:
            mask = masks.equispaced(shape, pattern.columns, acs=ACS, whole=True).expand(shape)
        else:
            mask = masks.poisson_disc(shape, pattern.disc, acs=ACS, seed=0)
        return Undersampled(item, pattern, Sense(item.maps, mask), (mask * item.kspace)[None], float(1 / mask.double().mean()))
    samples = 2 * max(shape)
    k = radial(SPOKES, samples)
    A = NUFFT(k, shape, maps=item.maps)
    y = A(item.image[None, None])
    z = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    acceleration = max(shape) * torch.pi / 2 / SPOKES  # against as many spokes as reach the distance of the grid at their ends
    return Undersampled(item, pattern, A, y + item.noise * z, acceleration, radial_density(k, shape, spokes=SPOKES))


def scores(estimate: Tensor, item: Item) -> tuple[float, float]:
    """PSNR in dB and SSIM of the magnitude (H, W), within the head; the peak is the largest value of the reference."""
    a, b = item.image.abs().double(), estimate.double()
    peak = float(a[item.inside].max())
    psnr = -10 * torch.log10((a - b)[item.inside].square().mean() / peak**2)
    _, ssim = structural_similarity(
        a.numpy(), b.numpy(), data_range=peak, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return float(psnr), float(torch.from_numpy(ssim)[item.inside].mean())
