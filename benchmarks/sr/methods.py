"""What enlarges by four: interpolations, samplers with the shipped prior of photographs, and restorers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.sr.sets import FACTOR
from inverse.choice import Sampler
from inverse.operators import Downsample, Gaussian
from prior.denoiser import Denoiser
from restore import ResShift
from restore.degradations import matlab_bicubic
from restore.resshift import Tiling

__all__ = ["BICUBIC", "LANCZOS", "ROUNDING", "Method", "restored", "sampled"]

ROUNDING = 1 / (255 * math.sqrt(12))
"""Standard deviation of what rounding to 8 bits changes."""


@dataclass(frozen=True)
class Method:
    """``enlarge(y, seed)`` makes (S, 3, 4 h, 4 w) of y (1, 3, h, w), S samples, or one answer; images in [0, 1].

    Attributes
    ----------
    name: in the tables.
    enlarge: the method.
    settings: what else there is to know, for the record.
    """

    name: str
    enlarge: Callable[[Tensor, int], Tensor]
    settings: str = ""


def bicubic(y: Tensor, seed: int) -> Tensor:
    """Cubic convolution, MATLAB's ``imresize``."""
    return matlab_bicubic(y.double(), FACTOR).float().clamp(0, 1)


def lanczos(y: Tensor, seed: int) -> Tensor:
    """The sinc windowed by its own first three lobes, Pillow's."""
    size = (FACTOR * y.shape[-1], FACTOR * y.shape[-2])
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS) for plane in y[0].float().cpu().numpy()]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))[None].to(y).clamp(0, 1)


BICUBIC, LANCZOS = Method("bicubic", bicubic), Method("Lanczos", lanczos)


def sampled(name: str, sampler: Sampler, model: Denoiser, *, noise: float) -> Method:
    """A posterior sampler that takes y for the bicubic reduction with Gaussian noise of this standard deviation.

    With no more than one sample its estimate is the answer.
    """

    def enlarge(y: Tensor, seed: int) -> Tensor:
        A = Downsample.bicubic(FACTOR, noise=Gaussian(noise)).to(y.device)
        out = sampler.reconstruct(model, A, y, seed=seed)
        found = out.samples[:, 0] if len(out.samples) > 1 else out.estimate
        return found.clamp(0, 1)

    return Method(name, enlarge, f"{sampler!r}, noise {noise:.4g}")


def restored(name: str, restorer: ResShift, *, samples: int, tile: int) -> Method:
    """A restorer; photographs with sides above ``tile`` pixels are cut. Raises ``ValueError`` for one of another factor."""
    if restorer.model.factor != FACTOR:
        raise ValueError(f"--model must enlarge by {FACTOR}, {name} does by {restorer.model.factor}")
    multiple = restorer.model.multiple
    side = max(1, round(tile / multiple)) * multiple
    tiling = Tiling(tile=side, stride=max(multiple, side * 7 // 8 // multiple * multiple))

    def enlarge(y: Tensor, seed: int) -> Tensor:
        return torch.cat([restorer.upscale(y, seed=seed + i, tiling=tiling) for i in range(samples)]).clamp(0, 1)

    return Method(name, enlarge, f"{tiling!r}")
