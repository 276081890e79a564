"""The classifier of noisy images that guides ADM sampling (Dhariwal & Nichol 2021, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prior.networks.adm import ADMConfig, ADMEncoder
from prior.networks.adm_blocks import GroupNorm32, attend, zero_init

__all__ = ["POOLS", "ADMClassifier", "AttentionPool"]

POOLS = ("attention", "adaptive", "spatial", "spatial_v2")
HIDDEN = 2048


class AttentionPool(nn.Module):
    """Class scores (B, classes) from features (B, C, side, side): the mean attends to all positions (CLIP's pooling)."""

    def __init__(self, side: int, channels: int, head_channels: int, classes: int) -> None:
        super().__init__()
        self.side, self.heads = side, channels // head_channels
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != (self.side, self.side):
            raise ValueError(f"pool='attention' has positions for {self.side} x {self.side} features, got {tuple(x.shape[2:])}")
        tokens = x.flatten(2)
        tokens = torch.cat([tokens.mean(dim=2, keepdim=True), tokens], dim=2) + self.positional_embedding.to(x.dtype)
        return self.c_proj(attend(self.qkv_proj(tokens), self.heads, new_order=True))[:, :, 0]


class ADMClassifier(ADMEncoder):
    """``classifier(x, t)``: class scores (B, out_channels), before the softmax, of noisy images x at times t (B,).

    Parameters
    ----------
    config: ``out_channels`` is the number of classes; nothing about the way up is read.
    pool: how features become scores: ``attention`` and ``adaptive`` read the middle, ``spatial`` and ``spatial_v2`` the
        means of every block.
    image_size: the one size that ``attention`` accepts; the others need none.
    """

    def __init__(
        self, config: ADMConfig, pool: str = "attention", image_size: int | None = None, *, checkpointing: bool = False
    ) -> None:
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {POOLS}, got {pool!r}")
        super().__init__(config, checkpointing=checkpointing)
        self.pool, self.image_size = pool, image_size
        width, classes = config.channels[-1], config.out_channels
        self.out = self._spatial_head(classes) if pool.startswith("spatial") else self._feature_head(width, classes)

    def _feature_head(self, width: int, classes: int) -> nn.Sequential:
        norm = [GroupNorm32(width), nn.SiLU()]
        if self.pool == "adaptive":
            return nn.Sequential(*norm, nn.AdaptiveAvgPool2d(1), zero_init(nn.Conv2d(width, classes, 1)), nn.Flatten())
        if not self.image_size or not self.config.head_channels:
            raise ValueError(
                f"pool='attention' needs image_size and head_channels, got {self.image_size} and {self.config.head_channels}"
            )
        side = self.image_size // 2 ** (len(self.config.channels) - 1)
        return nn.Sequential(*norm, AttentionPool(side, width, self.config.head_channels, classes))

    def _spatial_head(self, classes: int) -> nn.Sequential:
        features = sum(self.skip_channels) + self.config.channels[-1]
        last = nn.Linear(HIDDEN, classes)
        if self.pool == "spatial":
            return nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), last)
        return nn.Sequential(nn.Linear(features, HIDDEN), GroupNorm32(HIDDEN), nn.SiLU(), last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self._check(x, t)
        middle, skips = self.encode(x, self.embed(t))
        if self.pool.startswith("spatial"):
            means = [h.to(self.dtype).mean(dim=(2, 3)) for h in [*skips, middle]]
            return self.out(torch.cat(means, dim=1)).to(x.dtype)
        return self.out(middle.to(self.dtype)).to(x.dtype)
