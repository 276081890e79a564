"""Classical reconstructions of undersampled real k-space, their weights tuned on another item than they are scored on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.mri.kspace import PATTERNS, Item, Pattern, brain, scores, single_coil, stand_in, undersampled
from inverse.operators import LinearOperator
from medical.classical import FISTATV, CGSense, L1Wavelet
from medical.classical.spectral_norm import spectral_norm
from medical.coils import espirit, root_sum_of_squares
from medical.operators import Sense, centred_ifft
from medical.sampling import masks

__all__ = ["METHODS", "Reconstructed", "Setup", "brain_rows", "one_or_two_maps", "single_coil_rows"]

METHODS = ("zero-filled", "CG-SENSE", "L1-wavelet", "TV")
SHARES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


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

    def reconstruct(
        self, method: str, A: LinearOperator, y: Tensor, share: float | None, density: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """The image (1, M, H, W), and the iterations done."""
        b = A.adjoint(y)
        if share is None:
            return (b if density is None else A.adjoint(density.to(y.real.dtype) * y)), 0
        largest = share * float(b.abs().max())
        if method == "CG-SENSE":
            out = CGSense(weight=share * float(spectral_norm(A, b).square())).reconstruct(A, y)
        elif method == "L1-wavelet":
            out = L1Wavelet(weight=largest, iterations=self.iterations).reconstruct(A, y)
        else:
            out = FISTATV(weight=largest, iterations=self.iterations).reconstruct(A, y)
        return out.estimate, out.iterations

    def best_share(self, method: str, item: Item, pattern: Pattern) -> float | None:
        """The share of the highest PSNR."""
        if method == "zero-filled":
            return None
        A, y, _, _ = undersampled(item, pattern)
        return max(self.shares, key=lambda share: scores(self.reconstruct(method, A, y, share)[0][0, 0].abs(), item)[0])


def brain_rows(folder: Path, setup: Setup, patterns: Sequence[Pattern] = PATTERNS) -> tuple[list[Reconstructed], dict, Item]:
    """All patterns and methods; the images by (pattern, method); the item."""
    item = brain(folder)
    other = stand_in(single_coil(folder), item)
    rows, images = [], {}
    for pattern in patterns:
        for method in METHODS:
            row, images[pattern.name, method] = _scored(item, pattern, method, setup.best_share(method, other, pattern), setup)
            rows.append(row)
    return rows, images, item


def single_coil_rows(folder: Path, setup: Setup) -> tuple[list[Reconstructed], dict, Item]:
    """A third of the samples of one coil; the weight is tuned on the combined image of the eight, seen by one."""
    item, eight = single_coil(folder), brain(folder)
    one = torch.ones_like(eight.maps[:1])
    other = Item(eight.name, Sense(one)(eight.image[None, None])[0], one, eight.image, eight.inside, eight.noise)
    pattern = Pattern("Poisson disc, x 3", disc=3.0)
    rows, images = [], {}
    for method in ("zero-filled", "L1-wavelet"):
        row, images[pattern.name, method] = _scored(item, pattern, method, setup.best_share(method, other, pattern), setup)
        rows.append(row)
    return rows, images, item


def _scored(item: Item, pattern: Pattern, method: str, share: float | None, setup: Setup) -> tuple[Reconstructed, Tensor]:
    A, y, acceleration, density = undersampled(item, pattern)
    began = time.perf_counter()
    estimate, iterations = setup.reconstruct(method, A, y, share, density)
    seconds = time.perf_counter() - began
    image = estimate[0, 0].abs()
    return Reconstructed(item.name, pattern.name, acceleration, method, share, iterations, seconds, *scores(image, item)), image


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
