"""NCSN++, the score network of Song et al. 2021 ("Score-based generative modeling through SDEs", appendix H).

Names of parameters, their shapes and their order are the official ones, so that the released files load unchanged;
:mod:`prior.ncsnpp_checkpoints` opens those.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prior.networks.ncsnpp_blocks import (
    Downsample,
    ResBlock,
    Upsample,
    activation,
    positional_embedding,
    residual_sum,
)
from prior.networks.ncsnpp_configuration import NCSNppConfig
from prior.networks.ncsnpp_layers import Level, ncsnpp_layers

__all__ = ["NCSNpp"]


class NCSNpp(nn.Module):
    """The U-Net that estimates the score of noisy images: ``network(x, t)``, of the shape and dtype of x.

    x (B, C, H, W), with H and W multiples of ``2^(levels - 1)`` and otherwise any; t (B,) is sigma with the Fourier
    embedding and a label with the positional one. For a variance exploding process, ``scale_by_sigma``, the output is the
    score; otherwise it is the noise, ``-std(t) score``. Labels of a variance exploding process count the noise levels
    from the largest, 0, to the smallest, ``num_scales - 1``. A new network outputs nearly zero.

    Raises ``ValueError`` for other shapes, and for labels out of range.

    Attributes
    ----------
    config: what the network is made of.
    in_channels: C.
    all_modules: the layers, in the order of their official numbers.
    sigmas: the noise levels (num_scales,), float64, descending; state dicts may leave them out.
    """

    sigmas: Tensor

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config, self.in_channels = config, config.num_channels
        self.register_buffer("sigmas", torch.tensor(config.sigmas(), dtype=torch.float64))
        self.act = activation(config)
        layers, self.places = ncsnpp_layers(config)
        self.all_modules = nn.ModuleList(layers)
        self.pyramid_down, self.pyramid_up = Downsample(config), Upsample(config)
        self.register_load_state_dict_pre_hook(_own_sigmas)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self._check(x, t)
        temb = self.embed(t) if self.config.conditional else None
        h = x.to(self._layer(self.places.first).weight.dtype)
        h = h if self.config.centered else 2 * h - 1
        skips, h = self._encode(h, temb)
        h = self._run(self.places.middle, h, temb)
        h = self._decode(h, skips, temb)
        if self.config.scale_by_sigma:
            h = h / self._sigma(t)[:, None, None, None]
        return h.to(x.dtype)

    def embed(self, t: Tensor) -> Tensor:
        """Embedding (B, 4 nf) of the noise levels or labels t (B,)."""
        first, second = (self._layer(i) for i in self.places.dense)
        if self.config.embedding_type == "fourier":
            (projection,) = (self._layer(i) for i in self.places.projection)
            embedding = projection(t.to(torch.promote_types(first.weight.dtype, torch.float32)).log())
        else:
            embedding = positional_embedding(t, self.config.nf)
        return second(self.act(first(embedding.to(first.weight.dtype))))

    def _encode(self, x: Tensor, temb: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """``(skips, features)`` of the way down."""
        pyramid, h = x, self._layer(self.places.first)(x)
        skips = [h]
        for level in self.places.down:
            for block in level.blocks:
                h = self._run(block, h, temb)
                skips.append(h)
            if level.resize:
                h = self._run(level.resize, h, temb)
                h, pyramid = self._enter(level, h, pyramid)
                skips.append(h)
        return skips, h

    def _enter(self, level: Level, h: Tensor, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        """Features and pyramid of inputs, one level down."""
        if self.config.progressive_input == "none":
            return h, pyramid
        (layer,) = (self._layer(i) for i in level.pyramid)
        if self.config.progressive_input == "input_skip":
            pyramid = self.pyramid_down(pyramid)
            return layer(pyramid, h), pyramid
        h = residual_sum(layer(pyramid), h, self.config)
        return h, h

    def _decode(self, h: Tensor, skips: list[Tensor], temb: Tensor | None) -> Tensor:
        """The output before its division by sigma."""
        pyramid = None
        for level in self.places.up:
            for block in level.blocks:
                h = self._run(block, torch.cat([h, skips.pop()], dim=1), temb)
            h, pyramid = self._leave(level, h, pyramid)
            h = self._run(level.resize, h, temb)
        return self._head(self.places.last, h) if pyramid is None or self.places.last else pyramid

    def _leave(self, level: Level, h: Tensor, pyramid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features and pyramid of outputs at one level of the way up; no pyramid yet at the deepest."""
        if self.config.progressive == "none":
            return h, None
        if self.config.progressive == "output_skip":
            out = self._head(level.pyramid, h)
            return h, out if pyramid is None else self.pyramid_up(pyramid) + out
        if pyramid is None:
            return h, self._head(level.pyramid, h)
        (layer,) = (self._layer(i) for i in level.pyramid)
        h = residual_sum(layer(pyramid), h, self.config)
        return h, h

    def _head(self, places: tuple[int, ...], h: Tensor) -> Tensor:
        norm, conv = (self._layer(i) for i in places)
        return conv(self.act(norm(h)))

    def _run(self, places: tuple[int, ...], h: Tensor, temb: Tensor | None) -> Tensor:
        for i in places:
            layer = self._layer(i)
            h = layer(h, temb) if isinstance(layer, ResBlock) else layer(h)
        return h

    def _layer(self, place: int) -> Any:
        return self.all_modules[place]

    def _sigma(self, t: Tensor) -> Tensor:
        return t if self.config.embedding_type == "fourier" else self.sigmas[t.long()]

    def _check(self, x: Tensor, t: Tensor) -> None:
        config, channels, multiple = self.config, self.in_channels, self.config.multiple
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % multiple or x.shape[3] % multiple or not x.numel():
            raise ValueError(
                f"x must be (B, {channels}, H, W) with H and W multiples of {multiple}, got {tuple(x.shape)}; "
                "pad or crop the images"
            )
        if t.shape != (x.shape[0],):
            raise ValueError(f"t must have shape ({x.shape[0]},), one noise level a batch member, got {tuple(t.shape)}")
        if config.scale_by_sigma and config.embedding_type == "positional" and not 0 <= t.min() <= t.max() < config.num_scales:
            raise ValueError(f"t must be labels in 0..{config.num_scales - 1}, got {t.tolist()}")


def _own_sigmas(network: NCSNpp, state: dict[str, Any], prefix: str, *unused: Any) -> None:
    state.setdefault(f"{prefix}sigmas", network.sigmas)
