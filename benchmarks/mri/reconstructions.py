"""Classical reconstructions of undersampled real k-space, their weights tuned on another item than they are scored on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.mri.kspace import PATTERNS, Item, Pattern, Undersampled, brain, scores, single_coil, stand_in, undersampled
from medical.classical import FISTATV, CGSense, L1Wavelet, ZeroFilled
from medical.classical.spectral_norm import spectral_norm
from medical.coils import espirit, root_sum_of_squares
from medical.operators import Sense, centred_ifft
from medical.sampling import masks

__all__ = ["METHODS", "Reconstructed", "Setup", "brain_rows", "one_or_two_maps", "single_coil_rows"]

Images = dict[tuple[str, str], Tensor]

METHODS = ("zero-filled", "CG-SENSE", "L1-wavelet", "TV")
SHARES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


@dataclass(frozen=True)
class Reconstructed:
    """One reconstruction; ``share`` is the weight over ``|A|^2`` (CG-SENSE) or over ``max |A^H y|`` (the others)."""

    item: str
    pattern: str
    acceleration: float
    method: str
    share: float | None
    iterations: int
    seconds: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Setup:
    """The iterations of the sparse methods, and the shares that are tried."""

    iterations: int = 100
    shares: Sequence[float] = SHARES

    def reconstruct(self, method: str, data: Undersampled, share: float | None) -> tuple[Tensor, int]:
        """The magnitude (H, W), and the iterations done."""
        A, y = data.A, data.y
        if share is None:
            return ZeroFilled(weights=data.density).reconstruct(A, y).estimate[0, 0].abs(), 0
        b = A.adjoint(y)
        largest = share * float(b.abs().max())
        if method == "CG-SENSE":
            out = CGSense(weight=share * float(spectral_norm(A, b).square())).reconstruct(A, y)
        elif method == "L1-wavelet":
            out = L1Wavelet(weight=largest, iterations=self.iterations).reconstruct(A, y)
        else:
            out = FISTATV(weight=largest, iterations=self.iterations).reconstruct(A, y)
        return out.estimate[0, 0].abs(), out.iterations

    def best_share(self, method: str, data: Undersampled) -> float | None:
        """The share of the highest PSNR."""
        if method == METHODS[0]:
            return None
        return max(self.shares, key=lambda share: scores(self.reconstruct(method, data, share)[0], data.item)[0])

    def compare(
        self, data: Undersampled, other: Undersampled, methods: Sequence[str] = METHODS
    ) -> tuple[list[Reconstructed], Images]:
        """Each method on ``data``, with the share that is best on ``other``."""
        rows, images = [], {}
        for method in methods:
            share = self.best_share(method, other)
            began = time.perf_counter()
            image, iterations = self.reconstruct(method, data, share)
            seconds = time.perf_counter() - began
            images[data.pattern.name, method] = image
            score = scores(image, data.item)
            names = (data.item.name, data.pattern.name, data.acceleration, method)
            rows.append(Reconstructed(*names, share, iterations, seconds, *score))
        return rows, images


def brain_rows(folder: Path, setup: Setup, patterns: Sequence[Pattern] = PATTERNS) -> tuple[list[Reconstructed], Images, Item]:
    """All patterns and methods; the images by (pattern, method); the item."""
    item = brain(folder)
    other = stand_in(single_coil(folder), item)
    rows: list[Reconstructed] = []
    images: Images = {}
    for pattern in patterns:
        more, pictures = setup.compare(undersampled(item, pattern), undersampled(other, pattern))
        rows += more
        images |= pictures
    return rows, images, item


def single_coil_rows(folder: Path, setup: Setup) -> tuple[list[Reconstructed], Images, Item]:
    """A third of the samples of one coil; the weight is tuned on the combined image of the eight, seen by one."""
    item, eight = single_coil(folder), brain(folder)
    one = torch.ones_like(eight.maps[:1])
    other = Item(eight.name, Sense(one)(eight.image[None, None])[0], one, eight.image, eight.inside, eight.noise)
    pattern = Pattern("Poisson disc, x 3", disc=3.0)
    rows, images = setup.compare(undersampled(item, pattern), undersampled(other, pattern), (METHODS[0], "L1-wavelet"))
    return rows, images, item


def one_or_two_maps(folder: Path, *, share: float = 1e-3) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """CG-SENSE of a head larger than the field of view with one set of maps and with two.

    There is no truth. Every second column is reconstructed from, and the calibration samples between them are predicted:
    ``held_out`` is the relative error there, ``misfit`` that on the samples that were used.
    """
    data = np.load(folder / "brain8_smallfov.npz")
    kspace, mask = torch.from_numpy(data["kspace"]), torch.from_numpy(data["mask"])
    used = mask & masks.equispaced((mask.shape[0], mask.shape[1]), 2, acs=0, whole=True)
    held = mask & ~used
    images = {"zero-filled": root_sum_of_squares(centred_ifft(used * kspace), 0)}
    rows = []
    for sets in (1, 2):
        maps = espirit(kspace, calibration=None, maps=sets).maps
        A, all_of_it = Sense(maps, used), Sense(maps)
        weight = share * float(spectral_norm(A, A.adjoint((used * kspace)[None])).square())
        out = CGSense(weight=weight, iterations=100).reconstruct(A, (used * kspace)[None])
        error = all_of_it(out.estimate)[0] - kspace

        def part(where: Tensor, error: Tensor = error) -> float:
            return float((where * error).norm() / (where * kspace).norm())

        rows.append(
            {"sets": sets, "misfit": part(used), "held_out": part(held), "iterations": out.iterations, "seconds": out.seconds}
        )
        images[f"{sets} set{'s' * (sets > 1)} of maps"] = root_sum_of_squares(out.estimate[0], 0)
        if sets == 2:
            images |= {"its first image": out.estimate[0, 0].abs(), "its second image": out.estimate[0, 1].abs()}
    return rows, images
