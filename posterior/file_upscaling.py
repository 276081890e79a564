"""One picture file through a trained restorer and out again, strip by strip, so that its size does not set the memory."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from posterior import holes, tasks
from posterior.commands.options import Options
from posterior.images import Picture, atomically, check_format, read, write_atomically
from posterior.jobs import STD_WHITE, Item, Result, check_free, check_result
from posterior.strip_files import Layout, PngRows, write_strips
from restore.resshift import NoiseField, ResShift, Tiling, enlarge_strips, restore_strips

if TYPE_CHECKING:
    from posterior.upscaling import Upscaling

__all__ = ["FileUpscaling"]

WHOLE = 1.0  # megapixels of the restorer's result above which it is cut: the first stage takes a few GB for each
SMALLEST = 4  # pixels a side
LATENT = 8  # tiles begin at multiples of that, on whole latents of every released model

Strips = Iterator[tuple[Tensor, Tensor | None]]
"""From the top, strips (1, C, h, W) of the restored picture, and of their standard deviation (1, 1, h, W) or None."""


@dataclass(frozen=True)
class FileUpscaling:
    """One file on its way through a restorer.

    Attributes
    ----------
    asked: what the command was asked for.
    name, model: the restorer.
    options: the shared ones.
    item: where the file is, and where the result goes.
    """

    asked: Upscaling
    name: str
    model: ResShift
    options: Options
    item: Item

    def result(self, step: Callable[[int, int], None]) -> Result:
        """Restore and write; ``step(done, total)`` counts network evaluations. Raises before anything is written."""
        began, item = time.perf_counter(), self.item
        check_free(item, self.options)
        picture = read(item.source, max_megapixels=self.options.max_megapixels)
        check_format(item.target, picture)
        if min(picture.size) < SMALLEST:
            given = f"{picture.size[1]} x {picture.size[0]}"
            raise ValueError(f"{item.source}: {given} pixels are too few to restore; a side must have {SMALLEST} or more")
        size = self._size(picture)
        check_result(item, size, self.options)
        layout = _layout(picture, size, item.target)
        layout.check(item.target)
        calls = _Calls(self._tiles(picture) * self.model.model.schedule.T * max(self.options.samples, 1), step)
        counting = self.model.model.register_forward_hook(calls)
        try:
            return self._saved(picture, layout, calls, began)
        finally:
            counting.remove()

    @property
    def _enlarged(self) -> int:
        """How much the picture is enlarged before the restorer sees it."""
        return (self.asked.factor or 1) if self.model.factor == 1 else 1

    def _size(self, picture: Picture) -> tuple[int, int]:
        factor = self.asked.factor or self.model.factor
        return picture.size[0] * factor, picture.size[1] * factor

    def _tiling(self, picture: Picture) -> Tiling | None:
        """The tiles as the options have them, in pixels of the restorer's result, for what it gets."""
        height, width = (side * self._enlarged * self.model.factor for side in picture.size)
        above = WHOLE if self.options.tile_above is None else self.options.tile_above
        if not self.options.tile or height * width <= above * 1e6:
            return None
        multiple, factor = self.model.multiple, self.model.factor
        tile = max(self.options.tile // factor // multiple, 1) * multiple
        overlap = min(-(-self.options.overlap // (factor * LATENT)) * LATENT, tile // 2)
        return Tiling(tile=tile, stride=tile - overlap)

    def _tiles(self, picture: Picture) -> int:
        tiling, multiple = self._tiling(picture), self.model.multiple
        height, width = (-(-side * self._enlarged // multiple) * multiple for side in picture.size)
        return 1 if tiling is None else sum(len(row) for row in tiling.grid((height, width)))

    def _strips(self, picture: Picture) -> Strips:
        image, mask = picture.colour.expand(3, -1, -1)[None], None
        if self.asked.mask is not None:
            missing = holes.of_file(self.asked.mask)(picture, self.item.name)
            if bool(missing.all()):
                raise ValueError(f"--mask {self.asked.mask} leaves no pixel of {self.item.name} to start from")
            mask = missing[None, None].to(image.dtype)
        factor, tiling = self.asked.factor or self.model.factor, self._tiling(picture)

        def drawn(seed: int) -> Iterator[Tensor]:
            noise = NoiseField(seed)
            if mask is not None:
                return restore_strips(self.model, image, noise=noise, mask=mask, tiling=tiling)
            return enlarge_strips(self.model, image, factor=factor, noise=noise, tiling=tiling)

        count = max(self.options.samples, 1)
        for group in zip(*(drawn(self.options.seed + i) for i in range(count)), strict=True):
            if not all(bool(torch.isfinite(strip).all()) for strip in group):
                raise ValueError("the restored image has values that are NaN or infinite; take --precision bf16 or fp32")
            spread = torch.stack(group).var(0).mean(1, keepdim=True).sqrt() if count > 1 else None
            yield group[0], spread

    def _saved(self, picture: Picture, layout: Layout, calls: _Calls, began: float) -> Result:
        """The result, once its files are there; nothing is made before the first strip."""
        item, strips = self.item, _peeked(self._strips(picture))
        item.target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            target = files.enter_context(atomically(item.target))  # renamed last: where it is, its evidence is
            spread = None
            if self.options.samples > 1:
                grey = Layout(height=layout.height, width=layout.width, channels=1, depth=16)
                spread = PngRows(files.enter_context(atomically(item.std)), grey)
            write_strips(target, item.target.suffix, layout, _rows(strips, picture, layout, spread))
            if spread is not None:
                spread.close()
            result = self._result(picture, layout, calls, round(time.perf_counter() - began, 3))
            if self.options.report:
                record = json.dumps(dataclasses.asdict(result), indent=2, default=str) + "\n"
                write_atomically(item.report, record.encode())
        return result

    def _result(self, picture: Picture, layout: Layout, calls: _Calls, seconds: float) -> Result:
        options, schedule = self.options, self.model.model.schedule
        settings: dict[str, object] = {
            "method": "resshift",
            "factor": layout.width // picture.size[1],
            "steps": schedule.T,
            "samples": options.samples,
            "precision": str(self.asked.precision),
            "seed": options.seed,
        }
        return Result(
            input=str(self.item.source),
            output=str(self.item.target),
            std=str(self.item.std) if options.samples > 1 else None,
            measured=None,
            height=layout.height,
            width=layout.width,
            channels=layout.channels,
            bits=layout.depth,
            model=self.name if options.weights is None else f"{self.name} ({options.weights})",
            operator=None,
            residual_ratio=None,
            measured_share=None,
            filled_share=None,
            calibration=None,
            network_calls=calls.done,
            seconds=seconds,
            tiles=self._tiles(picture),
            settings=settings,
        )


class _Calls:
    """Counts the network's evaluations, as a hook of the denoiser, and tells of them."""

    def __init__(self, expected: int, step: Callable[[int, int], None]) -> None:
        self.expected, self.step, self.done = expected, step, 0

    def __call__(self, *_: object) -> None:
        self.done += 1
        self.step(self.done, self.expected)


def _layout(picture: Picture, size: tuple[int, int], target: Path) -> Layout:
    channels = len(picture.colour) + (picture.alpha is not None)
    depth = Layout.within(target.suffix, picture.depth)
    return Layout(height=size[0], width=size[1], channels=channels, depth=depth, icc=picture.icc)


def _peeked(strips: Strips) -> Strips:
    """The same, its first strip made at once: whatever is wrong with the input shows before a file is."""
    first = next(strips)

    def every() -> Strips:
        yield first
        yield from strips

    return every()


def _rows(strips: Strips, picture: Picture, layout: Layout, spread: PngRows | None) -> Iterator[NDArray[Any]]:
    """The values of the file, strip by strip; grey stays grey, opacity is enlarged. ``spread`` gets its own rows meanwhile."""
    alpha, top = tasks.resized(picture.alpha, (layout.height, layout.width)), 0
    for strip, std in strips:
        colour = strip[0] if len(picture.colour) == 3 else strip[0].mean(0, keepdim=True)
        rows = slice(top, top + colour.shape[-2])
        part = picture.with_colour(colour, None if alpha is None else alpha[:, rows])
        if spread is not None and std is not None:
            spread.write(Picture(colour=std[0] / STD_WHITE, depth=16).samples(16))
        yield part.samples(layout.depth)
        top = rows.stop
