"""What a Swin U-Net of ResShift is made of, and the released configurations by task (Yue et al. 2023 and 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prior.networks.vq_autoencoder import VQAutoencoderConfig

__all__ = ["MASKS", "ReleasedResShift", "SwinUNetConfig", "released"]

GROUPS = 32
MASKS = ("official", "textbook")


@dataclass(frozen=True, kw_only=True)
class SwinUNetConfig:
    """Fields and values of a Swin U-Net, by their official names; the defaults are those of the x4 super-resolution models.

    Parameters
    ----------
    image_size: side of the latents it was trained on; it tells which levels attend, and where windows are shifted.
    in_channels, out_channels: of the latents x and of the output.
    model_channels, channel_mult: the base width C; level k has ``channel_mult[k] * C`` features at 1 / 2^k of the size.
    num_res_blocks: residual blocks a level on the way down, one number or one for each; one more on the way up.
    attention_resolutions: sides, at ``image_size``, of the levels with a Swin layer; the middle always has one.
    dropout: rate in the residual blocks, in training.
    conv_resample: the resampling between levels has a 3x3 convolution.
    resblock_updown: levels are joined by residual blocks that resize.
    use_scale_shift_norm: the time embedding scales and shifts; otherwise it is added.
    num_head_channels: width of an attention head.
    swin_depth: blocks of a Swin layer; every second one is shifted.
    swin_embed_dim: features within a Swin layer.
    window_size: side of the windows; that of the level, without shift, where the level is not larger.
    mlp_ratio: hidden features of a block, as a multiple of ``swin_embed_dim``.
    patch_norm: a group norm after the 1x1 convolutions that enter and leave a Swin layer.
    lq_size: side of the low-quality image at ``image_size``, 2^n times as large; n stages of features reduce it.
    lq_channels: channels of the low-quality image.
    cond_mask: a mask, of one channel, joins the low-quality image.
    mask: which pairs the shifted windows separate, ``official`` or ``textbook``, see
        :func:`~restore.resshift.swin_layers.shift_mask`; all released weights were trained with ``official``.

    Raises ``ValueError`` for values that name no network.
    """

    image_size: int = 64
    in_channels: int = 3
    out_channels: int = 3
    model_channels: int = 160
    channel_mult: tuple[float, ...] = (1, 2, 2, 4)
    num_res_blocks: int | tuple[int, ...] = 2
    attention_resolutions: tuple[int, ...] = (64, 32, 16, 8)
    dropout: float = 0.0
    conv_resample: bool = True
    resblock_updown: bool = False
    use_scale_shift_norm: bool = True
    num_head_channels: int = 32
    swin_depth: int = 2
    swin_embed_dim: int = 192
    window_size: int = 8
    mlp_ratio: float = 4
    patch_norm: bool = False
    lq_size: int = 64
    lq_channels: int = 3
    cond_mask: bool = False
    mask: str = "official"

    def __post_init__(self) -> None:
        blocks = self.num_res_blocks
        blocks = (blocks,) * len(self.channel_mult) if isinstance(blocks, int) else tuple(blocks)
        object.__setattr__(self, "num_res_blocks", blocks)
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        object.__setattr__(self, "attention_resolutions", tuple(self.attention_resolutions))
        if self.mask not in MASKS:
            raise ValueError(f"mask must be one of {', '.join(MASKS)}, got {self.mask!r}")
        self._check_widths()
        self._check_sizes()

    def _check_widths(self) -> None:
        if not self.channels or any(c < 1 or c % GROUPS for c in self.channels):
            raise ValueError(f"model_channels * channel_mult must be multiples of {GROUPS}, got {self.channels}")
        if len(self.blocks) != len(self.channels) or min(self.blocks) < 1:
            raise ValueError(f"num_res_blocks must be at least 1 for each of {len(self.channels)} levels, got {self.blocks}")
        width, head = self.swin_embed_dim, self.num_head_channels
        if width < 1 or width % GROUPS or head < 1 or width % head:
            raise ValueError(
                f"swin_embed_dim must be a multiple of {GROUPS} and of num_head_channels, got {width} and {head} for a head"
            )
        for name in ("in_channels", "out_channels", "lq_channels", "swin_depth", "window_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def _check_sizes(self) -> None:
        levels, size = len(self.channels), self.image_size
        if size < 1 or size % 2 ** (levels - 1):
            raise ValueError(f"image_size must be a multiple of {2 ** (levels - 1)} for {levels} levels, got {size}")
        if not set(self.attention_resolutions) <= set(self.sizes):
            raise ValueError(f"attention_resolutions must be sides of levels, {self.sizes}, got {self.attention_resolutions}")
        if any(self.sizes[k] % self.window(k) for k in self.swin_levels):
            raise ValueError(f"window_size must divide the sides of the levels that attend, got {self.window_size} for {size}")
        if self.lq_size < size or self.lq_size != size * 2**self.stages:
            raise ValueError(f"lq_size must be image_size, {size}, times a power of two from 1 on, got {self.lq_size}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(int(m * self.model_channels) for m in self.channel_mult)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks of each level on the way down."""
        return self.num_res_blocks  # type: ignore[return-value]

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.model_channels

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of each level at ``image_size``."""
        return tuple(self.image_size // 2**level for level in range(len(self.channels)))

    @property
    def swin_levels(self) -> tuple[int, ...]:
        """The levels with a Swin layer, the last one always among them, for the middle."""
        last = len(self.channels) - 1
        return tuple(k for k, size in enumerate(self.sizes) if k == last or size in self.attention_resolutions)

    @property
    def stages(self) -> int:
        """Stages of the feature extractor, each of half the size."""
        return max(0, int(math.log2(self.lq_size / self.image_size)))

    @property
    def factor(self) -> int:
        """How many times the low-quality image is as large as x."""
        return 2**self.stages

    @property
    def multiple(self) -> int:
        """What height and width of x must be divisible by, so that windows fill every level."""
        levels = len(self.channels)
        return math.lcm(2 ** (levels - 1), *(2**k * self.window(k) for k in self.swin_levels))

    def window(self, level: int) -> int:
        """Side of the windows of a level, whatever the size of the images that come in later."""
        return min(self.window_size, self.sizes[level])

    def shift(self, level: int) -> int:
        """Shift of every second block of a level: half a window, 0 where one window is the whole level at ``image_size``."""
        return self.window_size // 2 if self.sizes[level] > self.window_size else 0


SR, INPAINT = SwinUNetConfig(), SwinUNetConfig(lq_size=256, cond_mask=True)
VQ_F4 = VQAutoencoderConfig()
FACE_VQ_F8 = VQAutoencoderConfig(
    z_channels=8, embed_dim=8, n_embed=4096, ch=64, ch_mult=(1, 2, 4, 8), num_res_blocks=(1, 2, 3, 4)
)


@dataclass(frozen=True, kw_only=True)
class ReleasedResShift:
    """A released model: its files, its networks, and the chain it was trained for.

    Attributes
    ----------
    name: what :func:`~restore.resshift.load_unet` calls it, the task and, where there are several, the version.
    files: the file of the U-Net, under each name that it is known by.
    autoencoder_file, unet, autoencoder: its first stage, and what both networks are made of.
    scale: the output has this many times the sides of the input.
    steps, kappa, min_noise_level: T, kappa and m of the schedule; its power is 0.3 and its end, sqrt(eta_T), 0.99.
    capped_start: sqrt(eta_1) is at most sqrt(0.001).
    """

    name: str
    files: tuple[str, ...]
    autoencoder_file: str = "autoencoder_vq_f4.pth"
    unet: SwinUNetConfig = SR
    autoencoder: VQAutoencoderConfig = VQ_F4
    scale: int = 1
    steps: int = 4
    kappa: float = 2.0
    min_noise_level: float = 0.2
    capped_start: bool = False

    @property
    def task(self) -> str:
        """The name without its version."""
        return self.name.split("_v")[0]


def released() -> dict[str, ReleasedResShift]:
    """The released models by name."""
    return {entry.name: entry for entry in RELEASED}


def _slow(name: str, *files: str, kappa: float = 2.0, capped_start: bool = False) -> ReleasedResShift:
    """A model of 15 steps."""
    return ReleasedResShift(
        name=name, files=files, scale=4, steps=15, kappa=kappa, min_noise_level=0.04, capped_start=capped_start
    )


RELEASED = (
    _slow("realsr_v1", "resshift_realsrx4_s15_v1.pth"),
    _slow("realsr_v2", "resshift_realsrx4_s15_v2.pth"),
    ReleasedResShift(name="realsr_v3", files=("resshift_realsrx4_s4_v3.pth",), scale=4),
    ReleasedResShift(name="bicsr", files=("resshift_bicsrx4_s4.pth",), scale=4),
    ReleasedResShift(
        name="inpaint_imagenet",
        files=("resshift_inpainting_imagenet_s4.pth", "resshift_inpaint_imagenet_s4.pth"),
        unet=INPAINT,
    ),
    ReleasedResShift(
        name="inpaint_face",
        files=("resshift_inpainting_face_s4.pth",),
        autoencoder_file="celeba256_vq_f4_dim3_face.pth",
        unet=INPAINT,
    ),
    ReleasedResShift(
        name="faceir",
        files=("resshift_faceir_s4.pth",),
        autoencoder_file="ffhq512_vq_f8_dim8_face.pth",
        unet=SwinUNetConfig(in_channels=8, out_channels=8, lq_size=512),
        autoencoder=FACE_VQ_F8,
    ),
    ReleasedResShift(name="deblur", files=("resshift_deblur_s4.pth",), unet=SwinUNetConfig(lq_size=256)),
    _slow("realsrx4", "resshift_realsrx4_s15.pth"),
    _slow("bicsrx4_matlab", "resshift_bicsrx4_matlab_s15.pth"),
    _slow("bicsrx4_opencv", "resshift_bicsrx4_opencv_s15.pth", kappa=1.0, capped_start=True),
)
