"""Pictures of any size through a restorer: padded, cut into tiles, restored, joined and cropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from restore.resshift.chain import ResShift, ShiftedSampler
from restore.resshift.noise_field import NoiseField
from restore.resshift.tiles import Tile, Tiling, pad_to_multiple

__all__ = ["composite", "restore_picture", "restore_strips"]


def composite(restored: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """``restored mask + image (1 - mask)``: known pixels, mask 0, are those of ``image`` bit by bit.  All (B, C, H, W)."""
    return restored * mask + image * (1 - mask)


def restore_picture(
    model: ResShift,
    image: Tensor,
    *,
    noise: NoiseField,
    mask: Tensor | None = None,
    sampler: ShiftedSampler | None = None,
    tiling: Tiling | None = None,
) -> Tensor:
    """The strips of :func:`restore_strips` put together, (B, C, factor H, factor W)."""
    return torch.cat(list(restore_strips(model, image, noise=noise, mask=mask, sampler=sampler, tiling=tiling)), -2)


def restore_strips(
    model: ResShift,
    image: Tensor,
    *,
    noise: NoiseField,
    mask: Tensor | None = None,
    sampler: ShiftedSampler | None = None,
    tiling: Tiling | None = None,
) -> Iterator[Tensor]:
    """A picture of any size restored, from the top: strips (B, C, h, factor W) in [0, 1], of the dtype and device of ``image``.

    The picture is padded to what the network takes, cut, restored tile by tile on the model's device, joined and cropped.
    What is held besides the picture is one row of tiles, so that large results can be written as they come.

    Parameters
    ----------
    model: the restorer.
    image: (B, C, H, W) in [0, 1].
    noise: the field of noise from which every tile draws its part.
    mask: (B, 1, H, W) in [0, 1], 1 where the image is unknown; the rest is returned as it came.
    sampler: the chain as published where None.
    tiling: never cut where None; its tile must be a multiple of ``model.multiple``.
    """
    _check(model, image, mask, tiling)
    lq, known = 2 * image - 1, mask
    if mask is not None:
        lq, known = lq * (1 - mask) - mask, pad_to_multiple(2 * mask - 1, model.multiple)
    lq = pad_to_multiple(lq, model.multiple)
    device = next((p.device for p in model.parameters()), image.device)

    def restore(tiles: Sequence[Tile]) -> Tensor:
        part, holes = (None if x is None else torch.cat([t.crop(x) for t in tiles]).to(device) for x in (lq, known))
        return (model(part, holes, noise=noise.under(tiles), sampler=sampler) * 0.5 + 0.5).to(image)

    size, top = (lq.shape[-2], lq.shape[-1]), 0
    height, width = (length * model.factor for length in image.shape[-2:])
    tiling = Tiling(tile=max(size), stride=max(size)) if tiling is None else tiling
    for strip in tiling.strips(restore, size, factor=model.factor):
        rows = slice(top, min(top + strip.shape[-2], height))
        top, strip = top + strip.shape[-2], strip[..., : rows.stop - rows.start, :width]
        if strip.numel():
            yield strip if mask is None else composite(strip, image[..., rows, :], mask[..., rows, :])


def _check(model: ResShift, image: Tensor, mask: Tensor | None, tiling: Tiling | None) -> None:
    if image.ndim != 4 or not image.is_floating_point():
        raise ValueError(f"image must be (B, C, H, W) in [0, 1], of a floating dtype, got {image.dtype} {tuple(image.shape)}")
    if mask is not None:
        wanted = (len(image), 1, *image.shape[2:])
        if tuple(mask.shape) != wanted:
            raise ValueError(f"mask must have shape {wanted}, one channel of the image's size, got {tuple(mask.shape)}")
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            low, high = mask.min().item(), mask.max().item()
            raise ValueError(f"mask must lie in [0, 1], 1 where the image is unknown, got {low:g}..{high:g}")
    if tiling is not None and tiling.tile % model.multiple:
        raise ValueError(f"tiling.tile must be a multiple of {model.multiple}, as the network takes them, got {tiling.tile}")
