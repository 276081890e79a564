"""The operators that cases of ``reddiff`` name, by their RED-Diff names, built for one member of the batch."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from inverse.operators import JPEG, Downsample, Grayscale, Identity, Inpaint, Operator, Overexpose, Quantize, ddrm
from tests.parity.cases import Case

__all__ = ["OPERATORS", "ddnm_inpaint", "mask_of", "operator"]

OPERATORS: dict[str, Callable[[Case, re.Match[str], int], Operator]] = {
    r"in2": lambda case, match, member: Inpaint(mask_of(case, member)),
    r"sr(\d+)": lambda case, match, member: Downsample.area(int(match[1])),
    r"bicubic(\d+)": lambda case, match, member: ddrm.bicubic(int(match[1]), tuple(case["x"].shape[1:])),
    r"deblur_gauss": lambda case, match, member: ddrm.deblur(ddrm.gaussian_taps(), tuple(case["x"].shape[1:])),
    r"deblur_uni": lambda case, match, member: ddrm.deblur(ddrm.uniform_taps(), tuple(case["x"].shape[1:])),
    r"color": lambda case, match, member: Grayscale(),
    r"deno": lambda case, match, member: Identity(),
    r"hdr": lambda case, match, member: Overexpose(2.0),
    r"jpeg(\d+)": lambda case, match, member: JPEG(int(match[1])),
    r"quant(\d+)": lambda case, match, member: Quantize(int(match[1])),
}


def mask_of(case: Case, member: int) -> Tensor:
    """The mask of a member, (C, H, W); the stored ones are taken in turn."""
    masks = case["dense_masks"].view(-1, *case["x"].shape[1:])
    return masks[member % len(masks)]


def operator(case: Case, degradation: str, member: int) -> Operator:
    """The operator that the case calls ``degradation``."""
    for pattern, make in OPERATORS.items():
        if match := re.fullmatch(pattern, degradation):
            return make(case, match, member)
    raise LookupError(f"no operator is known for {degradation!r}")


def ddnm_inpaint(missing: Tensor, y: Tensor, shape: tuple[int, ...]) -> tuple[Inpaint, Tensor]:
    """DDNM's inpainting of images of ``shape``, and ``y`` (B, m) as images: in its vectors the channel runs fastest."""
    C, H, W = shape
    seen = torch.ones(C * H * W, dtype=torch.bool).index_fill(0, missing, False)
    full = y.new_zeros(len(y), C * H * W)
    full[:, seen] = y
    mask, image = (t.view(-1, H, W, C).movedim(-1, 1) for t in (seen, full))
    return Inpaint(mask[0]), image
