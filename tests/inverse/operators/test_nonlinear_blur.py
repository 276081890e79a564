"""The nonlinear blur: its network by hand, its code, its file, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

from inverse.operators import Gaussian, KernelWizard, NonlinearBlur

SIZES = {"features": 4, "front_blocks": 1, "back_blocks": 2, "code_channels": 8}


def small(**sizes):
    return KernelWizard(**(SIZES | sizes))


def blur(seed=0, **options):
    return NonlinearBlur.random(small(), seed, **options)


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_size_of_the_official_network():
    with torch.device("meta"):
        network = KernelWizard()
    assert sum(p.numel() for p in network.parameters()) == 115_265_475 - 91_602_944  # all but the kernel extractor
    assert {name.split(".")[0] for name in network.state_dict()} == {"feature_extractor", "adapter", "recon_trunk"}


def test_the_adapter_by_hand():
    """At a size of 128 the bottom is one pixel; what lies above it is written out once more, skips last."""
    network = blur().network.double()
    f, code = images(1, 4, 32, 32).double() - 0.5, images(1, 8, 1, 1, seed=1).double() - 0.5
    with torch.no_grad():
        level, x, activated, skips = network.adapter.model, f, nn.Identity(), []
        while level is not None:
            x = nn.functional.conv2d(activated(x), level.down[-1].weight, stride=2, padding=1)
            skips.append((level, x))
            level, activated = level.submodule, nn.LeakyReLU(0.2)
        x = torch.cat([x, code], 1)
        for level, _ in reversed(skips):
            up = level.up[1]
            x = nn.functional.conv_transpose2d(x.relu(), up.weight, up.bias, stride=2, padding=1)
            above = next((skip for outer, skip in skips if outer.submodule is level), None)
            x = torch.tanh(x) if above is None else torch.cat([x, above], 1)
        torch.testing.assert_close(network.adapter(f, code), x, atol=1e-12, rtol=0)


def test_without_the_trunk_nothing_is_blurred():
    A = blur()
    last = A.network.recon_trunk[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    x = 1.2 * images(2, 3, 128, 128) - 0.1
    assert torch.equal(A(x), x.clamp(0, 1))


def test_the_code_is_drawn_once_for_a_seed():
    x, A = images(2, 3, 128, 256), blur(seed=7)
    wanted = 1.2 * np.random.RandomState(7).randn(1, 8, 1, 2)
    assert np.array_equal(A.code_of((3, 128, 256)).numpy(), wanted)
    assert torch.equal(A(x), A(x))
    given = NonlinearBlur(A.network, code=torch.from_numpy(wanted).float())
    assert given.domain == given.codomain == (3, 128, 256)
    torch.testing.assert_close(given(x), A(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(A(x)[1:], A(x[1:]), atol=1e-6, rtol=0)
    other = NonlinearBlur(A.network, seed=8)(x)
    assert float((other - A(x)).abs().max()) > 1e-4


def test_only_the_image_has_a_slope():
    A = blur(noise=Gaussian(0.1))
    x = (0.4 + 0.2 * images(1, 3, 128, 128)).double().requires_grad_()
    A, v = A.double(), images(1, 3, 128, 128, seed=1).double()
    direction = images(1, 3, 128, 128, seed=2).double() - 0.5
    (grad,) = torch.autograd.grad(A(x), x, v)
    with torch.no_grad():
        step = 1e-6 * direction
        slope = float((v * (A(x + step) - A(x - step))).sum()) / 2e-6
    assert float((grad * direction).sum()) == pytest.approx(slope, rel=1e-4)
    assert all(not p.requires_grad for p in A.parameters())
    y = A.measure(x.detach(), seed=1)
    assert torch.equal(A.pinv(y), y)
    with torch.no_grad():
        assert float((y - A(x)).std()) == pytest.approx(0.1, rel=0.02)


def test_file_round_trip(tmp_path):
    wanted = blur(seed=2)
    extra = {"kernel_extractor.model.1.weight": torch.zeros(3)}
    torch.save({**wanted.network.state_dict(), **extra}, tmp_path / "blur.pth")
    A = NonlinearBlur.load(tmp_path / "blur.pth", seed=2, shape=(3, 128, 128))
    x = images(1, 3, 128, 128)
    assert torch.equal(A(x), wanted(x))
    assert A.domain == (3, 128, 128)


def test_other_files_are_refused(tmp_path):
    path, weights = tmp_path / "blur.pth", small().state_dict()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*blur\.pth"):
        NonlinearBlur.load(path)
    torch.save({"a.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"must hold feature_extractor\.0\.weight, .* got \['a\.weight'\]"):
        NonlinearBlur.load(path)
    torch.save({"params": weights}, path)
    with pytest.raises(ValueError, match="must hold a flat dict of tensors, got OrderedDict at 'params'"):
        NonlinearBlur.load(path)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(ValueError, match="must hold a flat dict of tensors, got list at the top"):
        NonlinearBlur.load(path)
    torch.save({key: value for key, value in weights.items() if key != "recon_trunk.0.conv2.bias"}, path)
    with pytest.raises(ValueError, match=r'does not fit .*Missing key\(s\) in state_dict: "recon_trunk\.0\.conv2\.bias"'):
        NonlinearBlur.load(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blur()(images(1, 3, 128, 192)), r"multiples of 128, got \(3, 128, 192\); pad or crop them"),
        (lambda: blur()(images(1, 1, 128, 128)), r"images of 3 channels .* got \(1, 128, 128\)"),
        (lambda: blur(shape=(3, 100, 128)), r"multiples of 128, got \(3, 100, 128\)"),
        (lambda: NonlinearBlur(small(), code=torch.zeros(1, 4, 1, 1)), r"code must have shape \(1, 8, .*got \(1, 4, 1, 1\)"),
        (
            lambda: NonlinearBlur(small(), code=torch.zeros(1, 8, 1, 1), shape=(3, 128, 256)),
            r"shape must be \(3, 128, 128\), as the code \(1, 8, 1, 1\) says, got \(3, 128, 256\)",
        ),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_it_is_named_in_one_line_and_computes_in_the_precision_of_its_weights():
    A, x = blur(), images(1, 3, 128, 128)
    assert repr(A) == "NonlinearBlur(seed=0)"
    wanted = A(x)
    assert torch.equal(A(x.double()), wanted.double())
    torch.testing.assert_close(A.bfloat16()(x), wanted, atol=0.05, rtol=0)
