"""LPIPS by its formula, with the classifier written out layer by layer; files that are missing or hold something else."""

import pytest
import torch
from torch.nn import functional as F

from restore.resshift import LPIPS

VGG = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
       17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}  # fmt: skip
ALEX = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
ENDS = {"vgg": (2, 7, 14, 21, 28), "alex": (0, 3, 6, 8, 10)}  # the convolutions whose rectified output is compared


def files(net, path):
    """Random weights in the layout of torchvision and lpips, with the classifier's last layers beside them."""
    g = torch.Generator().manual_seed(0)
    sizes = {i: (*s, 3)[:3] for i, s in (VGG if net == "vgg" else ALEX).items()}
    backbone = {"classifier.0.weight": torch.zeros(1)}
    for i, (fan, width, k) in sizes.items():
        backbone[f"features.{i}.weight"] = torch.randn(width, fan, k, k, generator=g) * (2 / (fan * k * k)) ** 0.5
        backbone[f"features.{i}.bias"] = 0.1 * torch.randn(width, generator=g)
    heads = {f"lin{n}.model.1.weight": torch.rand(1, sizes[i][1], 1, 1, generator=g) for n, i in enumerate(ENDS[net])}
    torch.save(backbone, path / "backbone.pth")
    torch.save(heads, path / "heads.pth")
    return backbone, heads


def features(net, weights, x):
    x = (x - torch.tensor([-0.03, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.45]).view(3, 1, 1)
    for i in VGG if net == "vgg" else ALEX:
        if net == "vgg" and i in (5, 10, 17, 24):
            x = F.max_pool2d(x, 2)
        if net == "alex" and i in (3, 6):
            x = F.max_pool2d(x, 3, 2)
        stride, padding = ((4 if i == 0 else 1), {0: 2, 3: 2}.get(i, 1)) if net == "alex" else (1, 1)
        x = F.conv2d(x, weights[f"features.{i}.weight"], weights[f"features.{i}.bias"], stride, padding).relu()
        if i in ENDS[net]:
            yield x


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_the_distance_is_its_formula(net, tmp_path):
    backbone, heads = files(net, tmp_path)
    lpips = LPIPS(net, tmp_path / "backbone.pth", tmp_path / "heads.pth")
    a, b = (2 * torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(k)) - 1 for k in (1, 2))
    expected = torch.zeros(2)
    for head, of_a, of_b in zip(heads.values(), features(net, backbone, a), features(net, backbone, b), strict=True):
        unit_a, unit_b = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in (of_a, of_b))
        expected += ((unit_a - unit_b) ** 2 * head).sum(1).mean((1, 2))
    torch.testing.assert_close(lpips(a, b), expected, rtol=1e-4, atol=1e-6)
    assert lpips(a, a).tolist() == [0, 0]
    assert not any(p.requires_grad for p in lpips.parameters())


def test_gradients_reach_the_image(tmp_path):
    files("alex", tmp_path)
    lpips = LPIPS("alex", tmp_path / "backbone.pth", tmp_path / "heads.pth")
    a, b = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(k)).requires_grad_() for k in (1, 2))
    lpips(a, b).sum().backward()
    assert 0 < float(a.grad.abs().max()) < float("inf")


def test_what_is_no_file_of_lpips(tmp_path):
    files("alex", tmp_path)
    backbone, heads = tmp_path / "backbone.pth", tmp_path / "heads.pth"
    with pytest.raises(ValueError, match="net must be one of vgg, alex, got 'squeeze'"):
        LPIPS("squeeze", backbone, heads)
    with pytest.raises(FileNotFoundError, match=r"backbone: there is no file .*LPIPS needs alexnet-owt.*with torchvision"):
        LPIPS("alex", tmp_path / "none.pth", heads)
    with pytest.raises(FileNotFoundError, match=r"heads: there is no file .*LPIPS needs alex.pth, which comes with lpips"):
        LPIPS("alex", backbone, tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"heads: .* must hold lin0.model.1.weight of shape \(1, 64, 1, 1\), got nothing"):
        LPIPS("alex", backbone, backbone)
    with pytest.raises(
        ValueError, match=r"backbone: .*features.0.weight of shape \(64, 3, 3, 3\), got \(64, 3, 11, 11\); give vgg"
    ):
        LPIPS("vgg", backbone, heads)
