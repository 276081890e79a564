"""Pictures through a restorer at other factors than its own, strip by strip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.resshift.chain import ResShift, ShiftedSampler
from restore.resshift.noise_field import NoiseField
from restore.resshift.picture import restore_strips
from restore.resshift.tiles import Tiling

__all__ = ["enlarge_strips", "reduce_strips"]


def enlarge_strips(
    model: ResShift,
    image: Tensor,
    *,
    factor: int,
    noise: NoiseField,
    sampler: ShiftedSampler | None = None,
    tiling: Tiling | None = None,
) -> Iterator[Tensor]:
    """A picture restored and ``factor`` times larger, from the top: strips (B, C, h, factor W) in [0, 1].

    What a restorer makes larger than asked for is made smaller again, see :func:`reduce_strips`; a restorer that keeps the
    size gets the picture enlarged bicubically first. Sides are exactly ``factor`` times those of ``image`` (B, C, H, W) in
    [0, 1]; the other arguments are those of :func:`~restore.resshift.restore_strips`, the tiling cutting what the restorer
    gets. Raises ``ValueError`` for a factor beyond that of a restorer that enlarges.
    """
    if factor < 1 or (factor > model.factor and model.factor > 1):
        raise ValueError(f"factor must lie in 1..{model.factor}, which this restorer was trained for, got {factor}")
    if model.factor == 1 and factor > 1:
        image = F.interpolate(image, scale_factor=factor, mode="bicubic").clamp(0, 1)
    strips = restore_strips(model, image, noise=noise, sampler=sampler, tiling=tiling)
    if model.factor in (1, factor):
        return strips
    return reduce_strips(strips, height=image.shape[-2] * model.factor, ratio=(factor, model.factor))


def reduce_strips(strips: Iterable[Tensor], *, height: int, ratio: tuple[int, int]) -> Iterator[Tensor]:
    """A picture of ``height`` rows made smaller, ``new / old`` times as large, as its strips (B, C, h, W) come in.

    Bicubic and with antialiasing: the kernel spans two pixels of the result to either side, so ``2 old`` rows of context
    make strips what the whole would be. ``ratio`` is (new, old); W and the heights of strips must be multiples of old.
    """
    (new, old), margin = ratio, 2 * ratio[1]
    held: Tensor | None = None
    top, done = 0, 0  # rows of the source: where ``held`` begins, and up to where the result is out
    for strip in strips:
        held = strip if held is None else torch.cat([held, strip], -2)
        end = top + held.shape[-2]
        ready = end if end == height else end - margin
        if ready <= done:
            continue
        size = (held.shape[-2] * new // old, held.shape[-1] * new // old)
        small = F.interpolate(held, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        yield small[..., (done - top) * new // old : (ready - top) * new // old, :]
        done, begin = ready, max(ready - margin, top)
        held, top = held[..., begin - top :, :], begin
