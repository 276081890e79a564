"""The demo's scans: a CT slice from a dozen views and MR slices from a quarter of their k-space, by DDS with priors of slices.

The slices are those that pydicom and nibabel install with their tests; nothing is downloaded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from inverse.operators import Gaussian
from inverse.operators.base import LinearOperator
from inverse.reconstruction import Reconstruction
from inverse.samplers.loop import Progress
from medical.classical import ADMMTV, FBP, L1Wavelet, ZeroFilled
from medical.coils import simulated_maps
from medical.geometry import Detector, ParallelBeam, Volume
from medical.intensity import HounsfieldWindow, peak
from medical.operators import Projector, Sense
from medical.operators.real_images import RealImages
from medical.samplers import DDS
from medical.sampling import masks
from medical.transmission import WATER, LogPoisson
from posterior.cases import Baseline, Case
from prior.denoiser import Denoiser

__all__ = ["SCANS", "Scan", "solve"]

VIEWS, PHOTONS = 12, 1e5
COILS, ACCELERATION, CALIBRATION, NOISE = 8, 4.0, 12, 0.01

TV = 7e-4
"""Weight with the best mean PSNR for these views and photons on slices of two other scans."""

WAVELET = 1e-3
"""The same for these lines and this noise, on slices of two other heads."""

Classical = Callable[[LinearOperator, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A case of slices: what it shows, which prior, the slices, how they are measured, and the classical answers.

    Attributes
    ----------
    name, summary, folder, credit: of the case.
    prior: name of the prior of slices; start: noise level at which DDS begins.
    read: the slices (D, 1, H, W) in [0, 1], at most as many as given; the one in the middle is shown.
    operator: the measurement of slices of (H, W); a seed for what is drawn of it.
    classical: by name.
    """

    name: str
    summary: str
    folder: str
    credit: str
    prior: str
    start: float
    read: Callable[[int], Tensor]
    operator: Callable[[tuple[int, int], int], LinearOperator]
    classical: Mapping[str, Classical]


def ct_slice(slices: int) -> Tensor:
    """A vertebra, 128 x 128 pixels: (1, 1, 128, 128) in the window of the prior, bone clipped at white."""
    from pydicom import dcmread

    with resources.as_file(resources.files("pydicom.data").joinpath("test_files", "CT_small.dcm")) as path:
        file = dcmread(path)
        hounsfield = file.pixel_array.astype(np.float32) * float(file.RescaleSlope) + float(file.RescaleIntercept)
    return HounsfieldWindow().to_image(torch.from_numpy(hounsfield)).clamp(max=1)[None, None]


def mr_slices(slices: int) -> Tensor:
    """Slices in the middle of a head, 96 x 128 pixels, front up: (D, 1, 96, 128) over their peak, clipped at white."""
    import nibabel as nib

    with resources.as_file(resources.files("nibabel.tests").joinpath("data", "example4d.nii.gz")) as path:
        series = nib.load(path)
        volume = np.asarray(series.dataobj[..., 0], dtype=np.float32)  # type: ignore[attr-defined]
    image = torch.from_numpy(volume.transpose(2, 1, 0).copy()).flip(1)
    first = (len(image) - slices) // 2
    return (image / peak(image)).clamp(0, 1)[first : first + slices, None].contiguous()


def views(shape: tuple[int, int], seed: int) -> LinearOperator:
    """Parallel beams; pixels of 0.66 mm, lengths such that line integrals of images are those of attenuation."""
    window = HounsfieldWindow()
    pixel = 0.661468 * WATER * (window.high - window.low) / 1000
    columns = math.ceil(math.hypot(*shape))
    return Projector(Volume(shape, pixel), ParallelBeam.uniform(VIEWS, Detector(columns, pixel)), noise=LogPoisson(PHOTONS))


def lines(shape: tuple[int, int], seed: int) -> LinearOperator:
    """Columns of k-space at random, with those in the middle, seen by simulated coils."""
    mask = masks.uniform(shape, ACCELERATION, acs=CALIBRATION, seed=seed)
    return Sense(simulated_maps(shape, COILS)[0], mask, noise=Gaussian(NOISE))


SCANS = (
    Scan(
        name="CT from 12 views",
        summary=f"A vertebra, from {VIEWS} X-ray views in place of hundreds, {PHOTONS:,.0f} photons a ray.",
        folder="ct",
        credit="CT_small.dcm of pydicom's tests, a DICOM sample of NEMA; pydicom believes it to be free of restrictions.",
        prior="ct-slices",
        start=1.0,
        read=ct_slice,
        operator=views,
        classical={
            "Filtered back-projection": lambda A, y: FBP().reconstruct(A, y).estimate,
            "Total variation": lambda A, y: ADMMTV(weight=TV, bounds=(0.0, math.inf)).reconstruct(A, y).estimate,
        },
    ),
    Scan(
        name="MRI, four times faster",
        summary=f"A head seen by {COILS} simulated coils, a quarter of the lines of its k-space, with noise.",
        folder="mri",
        credit="example4d.nii.gz of nibabel's tests, MIT licence.",
        prior="mr-slices",
        start=0.3,
        read=mr_slices,
        operator=lines,
        classical={
            "Zero-filled": lambda A, y: ZeroFilled().reconstruct(A, y).estimate,
            "L1-wavelet": lambda A, y: L1Wavelet(weight=WAVELET).reconstruct(A, y).estimate,
        },
    ),
)


def solve(scan: Scan, model: Denoiser, sampler: DDS, *, slices: int, seed: int, progress: Progress | None = None) -> Case:
    """Measure and reconstruct the slices of a scan; the case is the one in the middle, as a magnitude."""
    truth = scan.read(slices)
    A = scan.operator((truth.shape[-2], truth.shape[-1]), seed)
    y = _measured(A, truth, seed)
    shown = len(truth) // 2
    baselines = tuple(_baseline(name, method, A, y, shown) for name, method in scan.classical.items())
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    out = sampler.reconstruct(model, A.to(device), y.to(device), seed=seed, progress=progress)
    together = f" One of {len(truth)} slices that were reconstructed together." if len(truth) > 1 else ""
    return Case(
        name=scan.name, summary=scan.summary + together, reconstruction=one_slice(out, shown), truth=truth[shown : shown + 1],
        baselines=baselines, shown=baselines[0].image, credit=scan.credit,
    )  # fmt: skip


def one_slice(out: Reconstruction, index: int) -> Reconstruction:
    """Slice ``index`` of a stack. Of complex images the magnitudes, with the operator of images of the phase that was found.

    So the residual stays what it was: ``A (|x| phase) = A x``.
    """
    kept = slice(index, index + 1)
    part = replace(out, estimate=out.estimate[kept], samples=out.samples[:, kept], measurement=out.measurement[kept])
    if not out.estimate.is_complex():
        return part
    sense = out.operator
    if not isinstance(sense, Sense):
        raise TypeError(f"complex images must be measured by Sense, got {sense!r}")
    phase = torch.polar(torch.ones_like(part.estimate.real), part.estimate.angle())
    seen = RealImages(Sense(sense.maps[0] * phase[0], sense.mask, noise=sense.noise))
    return replace(part, estimate=part.estimate.abs(), samples=part.samples.abs(), operator=seen)


def _measured(A: LinearOperator, truth: Tensor, seed: int) -> Tensor:
    y = A.measure(truth, seed=seed)
    return A.mask * y if isinstance(A, Sense) else y  # nothing was measured elsewhere, not even noise


def _baseline(name: str, method: Classical, A: LinearOperator, y: Tensor, shown: int) -> Baseline:
    began = time.perf_counter()
    images = method(A, y)
    image = images.abs() if images.is_complex() else images
    return Baseline(name=name, image=image[shown : shown + 1], seconds=time.perf_counter() - began)
