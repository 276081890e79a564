"""LPIPS, the distance of two images in the features of a classifier (Zhang et al. 2018, version 0.1), from files of one's own.

The weights are not shipped. Two files make the distance: the classifier that torchvision offers, ``vgg16`` or ``alexnet``
with its ImageNet weights, and the heads of the package ``lpips``, its ``weights/v0.1/vgg.pth`` or ``alex.pth``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from prior.checkpoints import read_file

__all__ = ["LPIPS"]

MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FILES = {"vgg": ("vgg16-397923af.pth", "vgg.pth"), "alex": ("alexnet-owt-7be5be79.pth", "alex.pth")}


class LPIPS(nn.Module):
    """``sum_l mean_p w_l . (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|)^2`` over five layers l and their positions p.

    The features of each position are divided by their length over the channels, w_l >= 0 weighs the channels. Called with
    two batches (B, 3, H, W) in [-1, 1], at least 16 pixels high and wide for ``vgg`` and 32 for ``alex``; returns (B,).
    Differentiable in the images; its weights are not to be trained.

    Parameters
    ----------
    net: ``vgg``, which training uses, or ``alex``.
    backbone: the file of the classifier, keys ``features.<layer>.weight`` and ``.bias``.
    heads: the file of the w_l, keys ``lin<l>.model.1.weight``.

    Raises ``FileNotFoundError`` or ``ValueError`` where a file is missing, damaged or holds something else.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: str, backbone: str | Path, heads: str | Path) -> None:
        super().__init__()
        if net not in FILES:
            raise ValueError(f"net must be one of {', '.join(FILES)}, got {net!r}")
        self.features, self.taps, widths = _trunk(net)
        self.features.load_state_dict(_taken(self.features.state_dict(), "features.", ("backbone", backbone, FILES[net][0])))
        self.heads = nn.ParameterList([torch.zeros(1, width, 1, 1) for width in widths])
        names = {f"{i}.model.1.weight": head for i, head in enumerate(self.heads)}
        for i, weight in enumerate(_taken(names, "lin", ("heads", heads, FILES[net][1])).values()):
            self.heads[i] = weight
        for name, value in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
            raise ValueError(f"a and b must have one shape (B, 3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")
        both = self._features(torch.cat([a, b]))
        distances = []
        for head, f in zip(self.heads, both, strict=True):
            of_a, of_b = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
            distances.append((head * (of_a - of_b).square()).sum(1).mean((1, 2)))
        return torch.stack(distances).sum(0)

    def _features(self, x: Tensor) -> Iterator[Tensor]:
        x = (x - self.mean) / self.std
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                yield x


def _trunk(net: str) -> tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    """Layers numbered as in torchvision's classifier, up to the last tap; the taps, rectified; and their widths."""
    layers: list[nn.Module] = []
    taps: list[int] = []
    if net == "vgg":
        channels = 3
        for group in VGG:
            layers += [nn.MaxPool2d(2)] if layers else []
            for width in group:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            taps.append(len(layers) - 1)
        return nn.Sequential(*layers), tuple(taps), tuple(group[-1] for group in VGG)
    convolutions = (
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    )
    for number, convolution in enumerate(convolutions):
        layers += [nn.MaxPool2d(3, 2)] if number in (1, 2) else []
        layers += [convolution, nn.ReLU()]
        taps.append(len(layers) - 1)
    return nn.Sequential(*layers), tuple(taps), tuple(c.out_channels for c in convolutions)


def _taken(wanted: dict[str, Tensor], prefix: str, source: tuple[str, str | Path, str]) -> dict[str, Tensor]:
    """The tensors of the file called ``prefix + name`` for every name wanted, in its shape."""
    argument, path, usual = source
    path = Path(path)
    if not path.exists():
        package = "torchvision" if argument == "backbone" else "lpips"
        raise FileNotFoundError(f"{argument}: there is no file {path}; LPIPS needs {usual}, which comes with {package}")
    content = read_file(path)
    found = {name: content.get(prefix + name) for name in wanted} if isinstance(content, dict) else dict.fromkeys(wanted)
    for name, tensor in wanted.items():
        value = found[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else "nothing"
            raise ValueError(
                f"{argument}: {path} must hold {prefix}{name} of shape {tuple(tensor.shape)}, got {got}; give {usual}"
            )
    return {name: value.float() for name, value in found.items() if value is not None}
