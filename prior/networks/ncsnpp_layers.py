"""The flat list of layers of an NCSN++ network, in the official order, and which of them does what.

Released weights name a layer by its place in one list. Everything that follows from the configuration, attention above
all, is decided here and once: a network does not ask for the size of an image to find its layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from prior.networks.ncsnpp_blocks import (
    AttnBlock,
    Combine,
    Downsample,
    GaussianFourierProjection,
    ResBlock,
    Upsample,
    conv3x3,
    group_norm,
    initialised,
)
from prior.networks.ncsnpp_configuration import NCSNppConfig

__all__ = ["Level", "Places", "ncsnpp_layers"]


@dataclass(frozen=True)
class Level:
    """One resolution, on the way down or up, as places in the list of layers.

    ``blocks`` are the residual blocks, each with its attention where it has one. ``resize`` leads to the next level, ()
    from the last. ``pyramid`` joins the pyramid of inputs (down) or of outputs (up), () where there is none.
    """

    blocks: tuple[tuple[int, ...], ...]
    resize: tuple[int, ...] = ()
    pyramid: tuple[int, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where in the list of layers each part of the network is; () where the configuration has no such part."""

    projection: tuple[int, ...]
    dense: tuple[int, ...]
    first: int
    down: tuple[Level, ...]
    middle: tuple[int, ...]
    up: tuple[Level, ...]
    last: tuple[int, ...]


def ncsnpp_layers(config: NCSNppConfig) -> tuple[list[nn.Module], Places]:
    """The layers of ``config``, newly initialised, in their official order, and their places."""
    build = _Builder(config)
    nf = config.nf
    fourier = config.embedding_type == "fourier"
    projection = build.add(GaussianFourierProjection(nf, config.fourier_scale)) if fourier else ()
    dense: tuple[int, ...] = ()
    if config.conditional:
        dense = build.add(initialised(nn.Linear(2 * nf if fourier else nf, 4 * nf)), initialised(nn.Linear(4 * nf, 4 * nf)))
    (first,) = build.add(conv3x3(config.num_channels, nf))
    down = build.down()
    width = build.width
    middle = build.add(ResBlock(config, width, width), AttnBlock(config, width), ResBlock(config, width, width))
    up = build.up()
    last = () if config.progressive == "output_skip" else build.head(config.num_channels, config.init_scale)
    return build.layers, Places(projection, dense, first, down, middle, up, last)


class _Builder:
    """Appends layers; ``width`` are the features that the next one gets, ``skips`` those kept for the way up."""

    def __init__(self, config: NCSNppConfig) -> None:
        self.config = config
        self.layers: list[nn.Module] = []
        self.width = config.nf
        self.skips = [config.nf]

    def add(self, *layers: nn.Module) -> tuple[int, ...]:
        """The places that ``layers`` get."""
        start = len(self.layers)
        self.layers.extend(layers)
        return tuple(range(start, len(self.layers)))

    def head(self, out_channels: int, scale: float = 1.0) -> tuple[int, ...]:
        """Norm and convolution of the current features."""
        return self.add(group_norm(self.width), conv3x3(self.width, out_channels, scale))

    def down(self) -> tuple[Level, ...]:
        """The way down."""
        config, levels, entering = self.config, [], self.config.num_channels
        for level, width in enumerate(config.widths):
            blocks = []
            for _ in range(config.num_res_blocks):
                block = self._block(self.width, width)
                blocks.append(block + self._attention() if config.attends(level) else block)
                self.skips.append(width)
            if level == len(config.widths) - 1:
                levels.append(Level(tuple(blocks)))
                break
            resize = self._resize(Downsample)
            pyramid: tuple[int, ...] = ()
            if config.progressive_input == "input_skip":
                pyramid = self.add(Combine(config, entering, width))
                self.width = 2 * width if config.progressive_combine == "cat" else width
            elif config.progressive_input == "residual":
                pyramid, entering = self.add(Downsample(config, (entering, width))), width
            self.skips.append(self.width)
            levels.append(Level(tuple(blocks), resize, pyramid))
        return tuple(levels)

    def up(self) -> tuple[Level, ...]:
        """The way up; the attention of a level follows its last block."""
        config, levels, deepest = self.config, [], len(self.config.widths) - 1
        leaving = self.width
        for level in range(deepest, -1, -1):
            width = config.widths[level]
            blocks = [self._block(self.width + self.skips.pop(), width) for _ in range(config.num_res_blocks + 1)]
            if config.attends(level):
                blocks[-1] += self._attention()
            pyramid: tuple[int, ...] = ()
            if config.progressive == "output_skip":
                pyramid = self.head(config.num_channels, config.init_scale)
            elif config.progressive == "residual":
                pyramid = self.head(width) if level == deepest else self.add(Upsample(config, (leaving, width)))
                leaving = width
            levels.append(Level(tuple(blocks), self._resize(Upsample) if level else (), pyramid))
        return tuple(levels)

    def _block(self, channels: int, out_channels: int) -> tuple[int, ...]:
        self.width = out_channels
        return self.add(ResBlock(self.config, channels, out_channels))

    def _attention(self) -> tuple[int, ...]:
        return self.add(AttnBlock(self.config, self.width))

    def _resize(self, kind: type[Upsample] | type[Downsample]) -> tuple[int, ...]:
        config, both = self.config, (self.width, self.width)
        if config.resblock_type == "biggan":
            return self.add(ResBlock(config, *both, resize=kind(config)))
        return self.add(kind(config, both if config.resamp_with_conv else None))
