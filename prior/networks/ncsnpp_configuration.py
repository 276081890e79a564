"""What an NCSN++ network is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["NCSNppConfig"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "resblock_type": ("biggan", "ddpm"),
    "progressive": ("none", "output_skip", "residual"),
    "progressive_input": ("none", "input_skip", "residual"),
    "progressive_combine": ("sum", "cat"),
    "embedding_type": ("fourier", "positional"),
    "nonlinearity": ("swish", "elu", "relu", "lrelu"),
}


@dataclass(frozen=True, kw_only=True)
class NCSNppConfig:
    """Fields and values of an NCSN++ network, by their official names; the defaults are the released CT model of 256 pixels.

    Parameters
    ----------
    image_size: side of the training images; it only tells which levels ``attn_resolutions`` means.
    num_channels: C of the images.
    centered: images are in [-1, 1]; otherwise they are in [0, 1] and the network maps them, noise and all, by 2x - 1.
    nf, ch_mult: the base width; level i has ``ch_mult[i] * nf`` features at 1 / 2^i of the size.
    num_res_blocks: residual blocks a level on the way down; one more on the way up.
    attn_resolutions: sides, at ``image_size``, of the levels with attention; the middle always has it.
    dropout: rate in the residual blocks, in training.
    resamp_with_conv: the resampling between levels has a 3x3 convolution; for ``resblock_type="ddpm"``.
    conditional: the network is told the noise level.
    fir, fir_kernel: resampling filters with these taps; otherwise it repeats pixels and averages 2x2 of them.
    skip_rescale: residual sums are divided by sqrt(2).
    resblock_type: ``biggan``, whose blocks resample, or ``ddpm``, with resampling between the blocks.
    progressive: how the output is gathered over the levels: ``none``, ``output_skip`` or ``residual``.
    progressive_input: how the resampled input enters the levels: ``none``, ``input_skip`` or ``residual``.
    progressive_combine: the input enters by ``sum`` or ``cat``; for ``input_skip``.
    init_scale: variance of new weights in the last layer of every branch; 0 stands for 1e-10.
    fourier_scale: deviation of the random frequencies.
    embedding_type: ``fourier`` reads sigma, ``positional`` reads a label.
    scale_by_sigma: the output is divided by sigma, and so is the score of a variance exploding process.
    nonlinearity: ``swish``, ``elu``, ``relu`` or ``lrelu`` (slope 0.2).
    sigma_min, sigma_max, num_scales: the noise levels, geometrically spaced.
    continuous: trained for all noise levels between, not for ``num_scales`` of them.

    Raises ``ValueError`` for values that name no network.
    """

    image_size: int = 256
    num_channels: int = 1
    centered: bool = False
    nf: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.0
    resamp_with_conv: bool = True
    conditional: bool = True
    fir: bool = True
    fir_kernel: tuple[float, ...] = (1, 3, 3, 1)
    skip_rescale: bool = True
    resblock_type: str = "biggan"
    progressive: str = "none"
    progressive_input: str = "residual"
    progressive_combine: str = "sum"
    init_scale: float = 0.0
    fourier_scale: float = 16.0
    embedding_type: str = "fourier"
    scale_by_sigma: bool = True
    nonlinearity: str = "swish"
    sigma_min: float = 0.01
    sigma_max: float = 378.0
    num_scales: int = 2000
    continuous: bool = True

    def __post_init__(self) -> None:
        for name in ("ch_mult", "attn_resolutions", "fir_kernel"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("image_size", "num_channels", "num_res_blocks", "num_scales"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.nf < 4 or not self.ch_mult or min(self.ch_mult) < 1:
            raise ValueError(
                f"nf must be at least 4 and ch_mult be multiples of 1 and more, got nf={self.nf}, ch_mult={self.ch_mult}"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(self.nf * multiple for multiple in self.ch_mult)

    @property
    def multiple(self) -> int:
        """What height and width must be divisible by."""
        return 2 ** (len(self.ch_mult) - 1)

    def sigmas(self) -> list[float]:
        """The noise levels, from ``sigma_max`` to ``sigma_min``, geometrically spaced."""
        ratio, last = math.log(self.sigma_min / self.sigma_max), max(self.num_scales - 1, 1)
        return [self.sigma_max * math.exp(ratio * i / last) for i in range(self.num_scales)]

    def attends(self, level: int) -> bool:
        """Whether the blocks of ``level`` have attention, whatever the size of the images that come in later."""
        return self.image_size // 2**level in self.attn_resolutions
