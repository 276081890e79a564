"""The VQ autoencoder (Esser et al. 2021, "Taming transformers"; Rombach et al. 2022, appendix G), VQ-f4 and VQ-f8.

Names of parameters and their shapes are the official ones, so that the released files load unchanged with ``strict=True``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from prior.networks.adm_blocks import Upsample
from prior.networks.vq_blocks import GROUPS, Downsample, Middle, ResnetBlock, activated, group_norm, laid_out
from prior.networks.vq_quantizer import VectorQuantizer

__all__ = ["Decoder", "Encoder", "Level", "VQAutoencoder", "VQAutoencoderConfig"]


@dataclass(frozen=True, kw_only=True)
class VQAutoencoderConfig:
    """Fields and values of a VQ autoencoder, by their official names; the defaults are VQ-f4.

    Parameters
    ----------
    in_channels, out_ch: of the images, in [-1, 1], that enter and leave.
    ch, ch_mult: the base width; level k has ``ch_mult[k] * ch`` features at 1 / 2^k of the size.
    num_res_blocks: residual blocks a level of the encoder, one number or one for each; one more in the decoder.
    z_channels, embed_dim: features at the end of the encoder, and of the latents.
    n_embed: codes.
    dropout: rate in the residual blocks, in training.

    Raises ``ValueError`` for values that name no network.
    """

    in_channels: int = 3
    out_ch: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int | tuple[int, ...] = 2
    z_channels: int = 3
    embed_dim: int = 3
    n_embed: int = 8192
    dropout: float = 0.0

    def __post_init__(self) -> None:
        blocks = self.num_res_blocks
        blocks = (blocks,) * len(self.ch_mult) if isinstance(blocks, int) else tuple(blocks)
        object.__setattr__(self, "num_res_blocks", blocks)
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        if not self.ch_mult or any(width < 1 or width % GROUPS for width in self.widths):
            raise ValueError(f"ch * ch_mult must be multiples of {GROUPS}, got {self.widths}")
        if len(self.blocks) != len(self.widths) or min(self.blocks) < 1:
            raise ValueError(f"num_res_blocks must be at least 1 for each of {len(self.widths)} levels, got {self.blocks}")
        for name in ("in_channels", "out_ch", "z_channels", "embed_dim", "n_embed"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(self.ch * multiple for multiple in self.ch_mult)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks of each level of the encoder."""
        return self.num_res_blocks  # type: ignore[return-value]

    @property
    def factor(self) -> int:
        """How many times the sides of an image are those of its latents."""
        return 2 ** (len(self.ch_mult) - 1)


class VQAutoencoder(nn.Module):
    """Between images (B, in_channels, H, W) in [-1, 1] and latents (B, embed_dim, H / f, W / f), f = ``config.factor``.

    :meth:`encode` does not quantise: a chain that runs between the two has the continuous latents, and :meth:`decode`
    quantises what it ends with. All is differentiable, through the codes by the straight-through estimate.

    Attributes
    ----------
    config: what the network is made of.
    factor: f.
    """

    def __init__(self, config: VQAutoencoderConfig) -> None:
        super().__init__()
        self.config, self.factor = config, config.factor
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = VectorQuantizer(config.n_embed, config.embed_dim)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """The latents h of images x, not quantised. Raises ``ValueError`` unless f divides H and W."""
        channels, f = self.config.in_channels, self.factor
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % f or x.shape[3] % f or not x.numel():
            raise ValueError(
                f"x must be (B, {channels}, H, W) with H and W multiples of {f}, got {tuple(x.shape)}; pad the images"
            )
        return self.quant_conv(self.encoder(laid_out(x))).contiguous()

    def decode(self, h: Tensor, quantize: bool = True) -> Tensor:
        """The images of latents h, quantised before or, without ``quantize``, taken as they are; not clamped."""
        channels = self.config.embed_dim
        if h.ndim != 4 or h.shape[1] != channels:
            raise ValueError(f"h must be latents (B, {channels}, h, w), got {tuple(h.shape)}")
        return self.decoder(laid_out(self.post_quant_conv(self.quantize(h)[0] if quantize else h))).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """``decode(encode(x))``."""
        return self.decode(self.encode(x))


class Level(nn.Module):
    """The residual blocks of one size, from ``channels`` to ``width`` features, then what leads to the next size."""

    def __init__(self, channels: int, width: int, blocks: int, *, dropout: float) -> None:
        super().__init__()
        widths = [channels] + [width] * (blocks - 1)
        self.block = nn.ModuleList(ResnetBlock(c, width, dropout=dropout) for c in widths)
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.upsample(self.downsample(x))


class Encoder(nn.Module):
    """Images (B, in_channels, H, W) to features (B, z_channels, H / f, W / f)."""

    def __init__(self, config: VQAutoencoderConfig) -> None:
        super().__init__()
        widths, dropout = config.widths, config.dropout
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        entering = (config.ch, *widths)
        self.down = nn.ModuleList(
            Level(c, width, blocks, dropout=dropout) for c, width, blocks in zip(entering, widths, config.blocks, strict=False)
        )
        for level, width in zip(self.down[:-1], widths, strict=False):
            level.downsample = Downsample(width)
        self.mid = Middle(widths[-1], dropout=dropout)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(activated(self.norm_out, self.mid(h)))


class Decoder(nn.Module):
    """Features (B, z_channels, h, w) to images (B, out_ch, f h, f w), without a bound; ``up`` counts levels by their size."""

    def __init__(self, config: VQAutoencoderConfig) -> None:
        super().__init__()
        widths, dropout = config.widths, config.dropout
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], dropout=dropout)
        entering = (*widths[1:], widths[-1])
        self.up = nn.ModuleList(
            Level(c, width, blocks + 1, dropout=dropout)
            for c, width, blocks in zip(entering, widths, config.blocks, strict=True)
        )
        for level, width in zip(self.up[1:], widths[1:], strict=True):
            level.upsample = Upsample(width, conv=True)
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(activated(self.norm_out, h))
