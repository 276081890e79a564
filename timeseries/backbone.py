"""The network of TSDiff: residual blocks of bidirectional S4 layers (Kollovieh et al. 2023, "Predict, refine, synthesize").

Names of parameters and their shapes are the released ones, so that trained files load unchanged with ``strict=True``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from prior.networks.s4 import S4
from prior.networks.s4_kernel import S4Kernel

__all__ = ["RELEASED_SIZES", "Backbone", "BackboneSize", "step_embedding"]


@dataclass(frozen=True, kw_only=True)
class BackboneSize:
    """Arguments of :class:`Backbone` that do not depend on the data, by their names there: ``Backbone(C, **asdict(size))``."""

    hidden: int = 64
    blocks: int = 3
    embedding: int = 128
    dropout: float = 0.0


RELEASED_SIZES: Mapping[str, BackboneSize] = MappingProxyType(
    {
        "diffusion_small_config": BackboneSize(),
        "diffusion_config": BackboneSize(hidden=128, blocks=6),
        "diffusion_small_configv2": BackboneSize(hidden=512),
        "diffusion_large_config": BackboneSize(hidden=128, blocks=18),
        "diffusion_small_config_dropout": BackboneSize(dropout=0.1),
        "diffusion_small_config_dropout02": BackboneSize(dropout=0.2),
        "diffusion_small_config_dropout03": BackboneSize(dropout=0.3),
    }
)
"""Sizes by the names that recipes call them; all published results have ``diffusion_small_config``."""


def step_embedding(t: Tensor, width: int) -> Tensor:
    """``[sin(t f_k), cos(t f_k)]`` with ``f_k = 10000^(-k / (width / 2 - 1))``, k = 0..width / 2 - 1; t is not rescaled.

    t (B,), any real; returns (B, width) float32, or float64 for t of it. Sines come first and the last frequency is
    exactly 1 / 10000, unlike those of :func:`~prior.networks.embedding.sinusoidal_embedding`. Raises ``ValueError`` where
    width is odd or below 4.
    """
    if width < 4 or width % 2:
        raise ValueError(f"width of the step embedding must be even and at least 4, got {width}")
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float64, device="cpu") / (half - 1)
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    angles = t.to(dtype)[:, None] * torch.exp(-math.log(10000.0) * exponents).to(t.device, dtype)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class NormedS4(nn.Module):
    """z + dropout(S4(layer_norm(z))) of z (B, d, l); the norm is over channels, dropout takes whole channels."""

    def __init__(self, hidden: int, state: int, dropout: float) -> None:
        super().__init__()
        self.layer = S4(hidden, state, dropout=dropout)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.dropout(self.layer(self.norm(z.mT).mT))


class ResidualBlock(nn.Module):
    """``(h + W1 o, W2 o)``: what goes on to the next block and to the output, of h (B, d, l), e (B, d), features (B, F, l).

    o = NormedS4(h + W e) + W_f features,        o <- tanh(o) sigmoid(o)  (the same o in both, no split of channels)
    """

    def __init__(self, hidden: int, state: int, features: int, dropout: float) -> None:
        super().__init__()
        self.s4block = NormedS4(hidden, state, dropout)
        self.time_linear = nn.Linear(hidden, hidden)
        self.out_linear1 = nn.Conv1d(hidden, hidden, 1)
        self.out_linear2 = nn.Conv1d(hidden, hidden, 1)
        if features:
            self.feature_encoder = nn.Conv1d(features, hidden, 1)

    def forward(self, h: Tensor, e: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        o = self.s4block(h + self.time_linear(e)[:, :, None])
        if features is not None:
            o = o + self.feature_encoder(features)
        o = o.tanh() * o.sigmoid()
        return h + self.out_linear1(o), self.out_linear2(o)


class Backbone(nn.Module):
    """eps (B, l, C_out) of windows x (B, l, C) at steps t (B,), with features (B, l, F) or None; any length l.

    h = relu(W x),   e = silu(W silu(W step_embedding(t))),   (h, skip_i) = block_i(h, e, features)
    out = W relu(W sum_i skip_i)  (+ x where ``input_skip``)

    A network with a feature encoder runs without features, too: it then leaves the encoder out. Kernels depend on
    parameters and length alone: outside training they are worked out once and kept (:class:`~prior.networks.s4.Spectrum`).
    The first window rewrites C and L of each kernel for its length (:class:`~prior.networks.s4_kernel.S4Kernel`); call
    :meth:`prepare` with that length before copying a fresh network for a moving average.

    Parameters
    ----------
    in_channels: C, the target and its lags.
    hidden: d, features inside.
    blocks: residual blocks.
    embedding: width of the step embedding, even.
    out_channels: C_out; C by default.
    features: F, the width of the feature encoders; 0 for none.
    input_skip: whether x is added to the output; needs C_out = C.
    dropout: rate, in training, after GELU in each S4 layer and of whole channels after the layer.
    state: states of each S4 channel, even.

    Raises ``ValueError`` for sizes that name no network, and for inputs of other shapes.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int = 64,
        blocks: int = 3,
        embedding: int = 128,
        *,
        out_channels: int | None = None,
        features: int = 0,
        input_skip: bool = False,
        dropout: float = 0.0,
        state: int = 128,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        sizes = {"in_channels": in_channels, "hidden": hidden, "blocks": blocks, "out_channels": out_channels}
        if min(sizes.values()) < 1 or features < 0:
            raise ValueError(f"{', '.join(sizes)} must be at least 1 and features 0, got {sizes} and features={features}")
        if input_skip and out_channels != in_channels:
            raise ValueError(f"input_skip adds the input, so out_channels must be {in_channels}, got {out_channels}")
        step_embedding(torch.zeros(1), embedding)  # refuses a bad width at once
        self.in_channels, self.features, self.embedding, self.input_skip = in_channels, features, embedding, input_skip
        self.input_init = nn.Sequential(nn.Linear(in_channels, hidden), nn.ReLU())
        self.time_init = nn.Sequential(nn.Linear(embedding, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.out_linear = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out_channels))
        self.residual_blocks = nn.ModuleList(ResidualBlock(hidden, state, features, dropout) for _ in range(blocks))

    def forward(self, x: Tensor, t: Tensor, features: Tensor | None = None) -> Tensor:
        self._check(x, t, features)
        h = self.input_init(x).mT
        e = self.time_init(step_embedding(t.double() if x.dtype == torch.float64 else t, self.embedding).to(x.dtype))
        encoded = None if features is None else features.mT
        skips = []
        for block in self.residual_blocks:
            h, skip = block(h, e, encoded)
            skips.append(skip)
        out = self.out_linear(sum(skips[1:], skips[0]).mT)
        return out + x if self.input_skip else out

    def prepare(self, length: int) -> None:
        """Makes the kernels ready for windows of ``length`` in place, as the first such window would."""
        for module in self.modules():
            if isinstance(module, S4Kernel):
                module.prepare(length)

    def _check(self, x: Tensor, t: Tensor, features: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.in_channels or x.shape[1] < 1:
            raise ValueError(f"x must have shape (B, l, {self.in_channels}) with l >= 1, got {tuple(x.shape)}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have one step for each window, shape ({len(x)},), got {tuple(t.shape)}")
        if features is None:
            return
        if self.features == 0:
            raise ValueError("features came for a Backbone without a feature encoder; build it with features=their number")
        if features.shape != (*x.shape[:2], self.features):
            raise ValueError(f"features must have shape {(*x.shape[:2], self.features)}, got {tuple(features.shape)}")
