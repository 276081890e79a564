"""Blur that no kernel describes: the network of Tran et al. 2021, trained on the blur of real cameras (GoPro).

"Explore image deblurring via encoded blur kernel space", CVPR 2021. The network adds to a sharp image the blur that a code
stands for; DPS, RED-Diff and DAPS measure with it, under the name of nonlinear deblurring, with a random code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from inverse.operators.base import Operator, Shape
from inverse.operators.noise import Noise
from prior.checkpoints import read_file

__all__ = ["KernelWizard", "NonlinearBlur"]

MULTIPLE = 128  # two strided convolutions, then five levels of the adapter: 2^7 pixels become one of the code
SPREAD = 1.2  # standard deviation of a code, as DPS and DAPS draw it


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x)))``."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


class Level(nn.Module):
    """One level of the adapter, half as large as what it is given: what it makes of x, as large as x.

    Parameters
    ----------
    outer, inner: features of x and of this level.
    submodule: the level below, or None at the bottom, where the ``code`` channels join instead.
    outermost: x comes without activation, and the result is a tanh.
    """

    def __init__(self, outer: int, inner: int, submodule: Level | None, code: int, *, outermost: bool = False) -> None:
        super().__init__()
        down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
        joined = inner + (code if submodule is None else inner)
        up = nn.ConvTranspose2d(joined, outer, 4, stride=2, padding=1, bias=outermost)
        self.down = nn.Sequential(down) if outermost else nn.Sequential(nn.LeakyReLU(0.2), down)
        self.submodule = submodule
        self.up = nn.Sequential(nn.ReLU(), up, nn.Tanh()) if outermost else nn.Sequential(nn.ReLU(), up)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        h = self.down(x)
        return self.up(torch.cat([h, code] if self.submodule is None else [self.submodule(h, code), h], 1))


class Adapter(nn.Module):
    """A U-Net of five levels that joins the features of an image to the code of a blur at the bottom."""

    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        level = None
        for outer, inner in ((8, 8), (4, 8), (2, 4), (1, 2)):
            level = Level(outer * features, inner * features, level, code)
        self.model = Level(features, features, level, code, outermost=True)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.model(x, code)


class KernelWizard(nn.Module):
    """A sharp image and the code of a blur to the blurred image, by the official names of the weights.

    x (B, channels, H, W) in [0, 1], H and W multiples of 128; code (B, code_channels, H / 128, W / 128).

    Parameters
    ----------
    features: channels of the inner images.
    front_blocks, back_blocks: residual blocks before and after the code joins.
    """

    def __init__(
        self, *, features: int = 64, front_blocks: int = 10, back_blocks: int = 20, code_channels: int = 512, channels: int = 3
    ) -> None:
        super().__init__()
        self.channels, self.code_channels = channels, code_channels
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(channels, features, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(features, features, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(features, features, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            *(ResidualBlock(features) for _ in range(front_blocks)),
        )
        self.adapter = Adapter(features, code_channels)
        self.recon_trunk = nn.Sequential(
            *(ResidualBlock(features) for _ in range(back_blocks)),
            *(nn.Conv2d(features, 4 * features, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.1)),
            *(nn.Conv2d(features, 4 * features, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.1)),
            *(nn.Conv2d(features, features, 3, padding=1), nn.LeakyReLU(0.1)),
            nn.Conv2d(features, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return x + self.recon_trunk(self.adapter(self.feature_extractor(x), code))


class NonlinearBlur(Operator):
    """``y = clip(network(x, k), 0, 1)`` with one blur code k for all images; x and y (B, 3, H, W) in [0, 1].

    H and W must be multiples of 128. The code is ``1.2 N(0, I)``, a NumPy legacy draw for each size of image as in DAPS
    (Zhang et al. 2024), so the seed, not the call, chooses the blur.

    Parameters
    ----------
    network: the blur, whose weights are not trained here.
    seed: chooses the code.
    code: the code itself instead, (1, K, H / 128, W / 128); it fixes the size of the images.
    """

    rank = 3
    code: Tensor | None

    def __init__(
        self,
        network: KernelWizard,
        *,
        seed: int = 0,
        code: Tensor | None = None,
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> None:
        if code is not None:
            if code.ndim != 4 or code.shape[:2] != (1, network.code_channels):
                wanted = f"(1, {network.code_channels}, H / {MULTIPLE}, W / {MULTIPLE})"
                raise ValueError(f"code must have shape {wanted}, got {tuple(code.shape)}")
            of_code = (network.channels, *(MULTIPLE * n for n in code.shape[-2:]))
            if shape not in (None, of_code):
                raise ValueError(f"shape must be {of_code}, as the code {tuple(code.shape)} says, got {tuple(shape)}")
            shape = of_code
        super().__init__(shape, noise)
        self.network = network.eval().requires_grad_(False)
        self.seed = seed
        self.register_buffer("code", code)
        if self.domain is not None:
            self.output_shape(self.domain)

    @classmethod
    def load(cls, path: str | Path, seed: int = 0, *, shape: Shape | None = None, noise: Noise | None = None) -> Self:
        """The blur in an official file, as ``GOPRO_wVAE.pth``; sizes are read off it, ``kernel_extractor`` is left out.

        Raises ``FileNotFoundError``, or ``ValueError`` where the file is damaged or holds something else.
        """
        content = read_file(Path(path))
        wrong = [] if isinstance(content, Mapping) else [("the top", content)]
        wrong = wrong or [(repr(key), value) for key, value in content.items() if not isinstance(value, Tensor)]
        if wrong:
            where, value = wrong[0]
            raise ValueError(f"path: {path} must hold a flat dict of tensors, got {type(value).__name__} at {where}")
        weights = {key: value.float() for key, value in content.items() if not key.startswith("kernel_extractor.")}
        with torch.device("meta"):
            network = KernelWizard(**_sizes(weights, path))
        try:
            network.load_state_dict(weights, strict=True, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"path: {path} does not fit the network that its sizes describe: {reason}") from error
        return cls(network, seed=seed, shape=shape, noise=noise)

    @classmethod
    def random(cls, network: KernelWizard, seed: int = 0, *, shape: Shape | None = None, noise: Noise | None = None) -> Self:
        """``network`` with random weights of variance 1 / fan-in: no camera's blur, but one to try things with."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 64
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        return cls(network, seed=seed, shape=shape, noise=noise)

    def output_shape(self, shape: Shape) -> Shape:
        C, H, W = shape
        if self.network.channels != C or H % MULTIPLE or W % MULTIPLE or not H * W:
            raise ValueError(
                f"{self!r} takes images of {self.network.channels} channels whose height and width are multiples of "
                f"{MULTIPLE}, got {tuple(shape)}; pad or crop them"
            )
        return shape

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def code_of(self, shape: Shape) -> Tensor:
        """The code (1, K, H / 128, W / 128) of images of ``shape`` (C, H, W), float64 where it is drawn."""
        if self.code is not None:
            return self.code
        size = (1, self.network.code_channels, shape[-2] // MULTIPLE, shape[-1] // MULTIPLE)
        return torch.from_numpy(SPREAD * np.random.RandomState(self.seed).randn(*size))

    def _apply_operator(self, x: Tensor) -> Tensor:
        like = next(self.network.parameters())
        code = self.code_of(tuple(x.shape[1:])).to(like).expand(len(x), -1, -1, -1)
        return self.network(x.to(like.dtype), code).to(x.dtype).clamp(0, 1)

    def pinv(self, y: Tensor) -> Tensor:
        """The measurement itself: a start, not an inverse."""
        return y

    def extra_repr(self) -> str:
        return f"seed={self.seed}" if self.code is None else f"code={tuple(self.code.shape)}"


def _sizes(weights: Mapping[str, Tensor], path: str | Path) -> dict[str, int]:
    """The arguments of :class:`KernelWizard` that the shapes of its weights tell."""
    bottom = "adapter.model." + 4 * "submodule." + "up.1.weight"
    for key in ("feature_extractor.0.weight", bottom):
        if key not in weights:
            raise ValueError(f"path: {path} must hold {key}, as GOPRO_wVAE.pth does, got {sorted(weights)[:3]} ...")
    features, channels = weights["feature_extractor.0.weight"].shape[:2]

    def blocks(part: str) -> int:
        return sum(re.fullmatch(rf"{part}\.\d+\.conv1\.weight", key) is not None for key in weights)

    return {
        "features": features,
        "front_blocks": blocks("feature_extractor"),
        "back_blocks": blocks("recon_trunk"),
        "code_channels": weights[bottom].shape[0] - 8 * features,
        "channels": channels,
    }
