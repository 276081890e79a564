"""The ADM networks: official numbers on copied cases, identities, input checks, precision and checkpointing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prior.denoiser import Denoiser
from prior.networks.adm import ADMConfig, ADMUNet, SuperResUNet
from prior.networks.adm_blocks import GroupNorm32, attend
from prior.networks.adm_classifier import POOLS, ADMClassifier
from prior.schedules import Linear
from tests.parity.adm import check_network
from tests.parity.cases import Case

DATA = Path(__file__).parent / "data" / "adm_unet"
COPIES = [Case(p.stem, "adm_unet", "network", DATA) for p in sorted(DATA.glob("?_*.json"))]

TINY = ADMConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_ds=(2,), head_channels=16)
LAYOUTS = {
    "updown": TINY,
    "plain, added embedding": replace(TINY, updown=False, scale_shift=False),
    "pooled, classes": replace(TINY, updown=False, conv_resample=False, num_classes=5),
    "new order, half width": replace(TINY, new_attention_order=True, model_channels=64, channel_mult=(0.5, 1)),
    "one level": replace(TINY, channel_mult=(1,), attention_ds=(1,)),
}


def trained(network, seed=0):
    """The same network with every weight drawn, so that nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise / p[0].numel() ** 0.5 if p.ndim > 1 else 0.1 * noise + (p == 1))
    return network.eval()


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def classes_of(network, batch):
    return () if network.config.num_classes is None else (torch.arange(batch),)


@pytest.mark.parametrize("case", COPIES, ids=str)
def test_same_numbers_as_the_official_network(case):
    check_network(case)


def test_copies_are_there():
    assert len(COPIES) >= 2


@pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_new_network_outputs_exactly_zero(config):
    network = ADMUNet(config)
    out = network(noise(2, 3, 8, 12), torch.tensor([0.0, 999.0]), *classes_of(network, 2))
    assert out.shape == (2, 6, 8, 12)
    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_batch_equals_its_members_and_integer_times_equal_floats(config):
    network = trained(ADMUNet(config))
    x, t, y = noise(2, 3, 8, 8), torch.tensor([3, 700]), classes_of(network, 2)
    out = network(x, t, *y)
    assert out.std() > 0.1
    assert torch.equal(out, network(x, t.float(), *y))
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], *(c[i : i + 1] for c in y)) for i in range(2)])
    torch.testing.assert_close(alone, out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_checkpointing_gives_equal_gradients_twice(config):
    network = trained(ADMUNet(config))
    x, t, y = noise(1, 3, 8, 8).requires_grad_(), torch.tensor([10]), classes_of(network, 1)
    expected = torch.autograd.grad(network(x, t, *y).square().sum(), [x, *network.parameters()])
    network.checkpointing = True
    loss = network(x, t, *y).square().sum()
    for _ in range(2):  # the backward pass frees nothing that a second one needs
        got = torch.autograd.grad(loss, [x, *network.parameters()], retain_graph=True)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b)
    network.requires_grad_(False)  # the usual state of a prior
    (frozen,) = torch.autograd.grad(network(x, t, *y).square().sum(), x)
    assert torch.equal(frozen, expected[0])


def test_checkpointing_keeps_fewer_activations():
    network = trained(ADMUNet(replace(TINY, num_res_blocks=2))).requires_grad_(False)
    x, t = noise(1, 3, 16, 16).requires_grad_(), torch.tensor([10])
    kept = {}
    for network.checkpointing in (False, True):
        sizes = []

        def save(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            network(x, t)
        kept[network.checkpointing] = sum(sizes)
    assert kept[True] < 0.35 * kept[False]


def test_half_convolutions_follows_the_official_rule():
    network = ADMUNet(replace(TINY, num_classes=5)).half_convolutions()
    for name, p in network.named_parameters():
        owner = network.get_submodule(name.rpartition(".")[0])
        convolution = isinstance(owner, torch.nn.Conv1d | torch.nn.Conv2d)
        expected = torch.float16 if convolution and not name.startswith("out.") else torch.float32
        assert p.dtype == expected, name
    assert isinstance(network.input_blocks[1][0].in_layers[0], GroupNorm32)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_half_convolutions_stay_near_float32(dtype, tol):
    network = trained(ADMUNet(TINY))
    x, t = noise(1, 3, 16, 16), torch.tensor([400])
    with torch.no_grad():
        expected = network(x, t)
        out = network.half_convolutions(dtype)(x, t)
    assert out.dtype == torch.float32
    assert 0 < (out - expected).norm() < tol * expected.norm()  # three mantissa digits of float16, two of bfloat16


def test_autocast_returns_the_dtype_of_x():
    network = trained(ADMUNet(TINY))
    x, t = noise(1, 3, 16, 16), torch.tensor([400])
    with torch.no_grad():
        expected = network(x, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = network(x, t)
    assert out.dtype == torch.float32
    assert 0 < (out - expected).norm() < 4e-2 * expected.norm()


def test_double_precision_is_double():
    network = trained(ADMUNet(TINY))
    x, t = noise(1, 3, 8, 8), torch.tensor([400])
    single, double = network(x, t), network.double()(x.double(), t)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "t", "y", "message"),
    [
        ((1, 3, 8, 9), 1, None, r"x must be \(B, 3, H, W\) with H and W multiples of 2, got \(1, 3, 8, 9\)"),
        ((1, 1, 8, 8), 1, None, r"x must be \(B, 3, H, W\)"),
        ((3, 8, 8), 1, None, r"x must be \(B, 3, H, W\)"),
        ((2, 3, 8, 8), 1, None, r"t must have shape \(2,\), one time a batch member, got \(1,\)"),
        ((1, 3, 8, 8), 1, 1, "takes no class y; y was given"),
    ],
)
def test_bad_input_is_named(shape, t, y, message):
    y = None if y is None else torch.zeros(y, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        ADMUNet(TINY)(torch.zeros(shape), torch.zeros(t), y)


def test_missing_and_misshapen_class():
    network = ADMUNet(replace(TINY, num_classes=5))
    with pytest.raises(ValueError, match=r"needs a class y \(B,\) in 0..4; none was given"):
        network(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match=r"y must have shape \(1,\), one class a batch member, got \(2,\)"):
        network(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_channels": 40}, r"multiples of 32, got \(40, 80\)"),
        ({"channel_mult": ()}, "multiples of 32"),
        ({"num_res_blocks": 0}, "num_res_blocks must be at least 1, got 0"),
        ({"attention_ds": (3,)}, r"attention_ds must be powers of two below 2\^2, got \(3,\)"),
        ({"attention_ds": (4,)}, "attention_ds must be powers of two"),
    ],
)
def test_bad_configuration_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **settings)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="head_channels must divide the 64 features that attend, got 48"):
        ADMUNet(replace(TINY, head_channels=48))
    with pytest.raises(ValueError, match="heads must divide the 64 channels, got 3"):
        ADMUNet(replace(TINY, head_channels=None, num_heads=3))


def test_attention_of_equal_tokens_returns_them_and_orders_differ():
    qkv = noise(1, 3 * 8, 1).expand(1, 24, 5)
    new, legacy = attend(qkv, 2, new_order=True), attend(qkv, 2, new_order=False)
    torch.testing.assert_close(new, qkv[:, 16:], rtol=0, atol=1e-6)  # [q | k | v][head]
    torch.testing.assert_close(legacy, torch.cat([qkv[:, 8:12], qkv[:, 20:24]], dim=1), rtol=0, atol=1e-6)  # [head][q | k | v]


def test_attention_is_the_softmax_of_scaled_products():
    q, k, v = noise(3, 4, 6)
    expected = v @ torch.softmax(q.T @ k / 2, dim=1).T  # width 4
    got = attend(torch.cat([q, k, v])[None], 1, new_order=True)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_upsampler_sees_the_enlarged_image():
    network = trained(SuperResUNet(replace(TINY, num_classes=5)))
    x, t, y, low = noise(2, 3, 8, 8), torch.tensor([5, 9]), torch.tensor([0, 4]), noise(2, 3, 4, 4, seed=2)
    enlarged = torch.nn.functional.interpolate(low, (8, 8), mode="bilinear")
    out = network(x, t, low, y)
    torch.testing.assert_close(out, network(x, t, enlarged, y), rtol=0, atol=1e-6)
    prediction = Denoiser(network.given(low, y), Linear(), learned_variance=True)(x, t.double())
    torch.testing.assert_close(torch.cat([prediction.eps, prediction.variance], dim=1), out, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"low_res must have shape \(2, 3, h, w\), got \(1, 3, 4, 4\)"):
        network(x, t, low[:1], y)


@pytest.mark.parametrize("pool", POOLS)
def test_classifier_scores_and_differentiates(pool):
    network = trained(ADMClassifier(replace(TINY, out_channels=7), pool, image_size=8))
    x = noise(2, 3, 8, 8).requires_grad_()
    logits = network(x, torch.tensor([5, 900]))
    assert logits.shape == (2, 7)
    assert logits.std() > 1e-3
    (grad,) = torch.autograd.grad(logits[0].log_softmax(0)[3], x)
    assert grad[0].abs().max() > 0
    assert torch.equal(grad[1], torch.zeros_like(grad[1]))


def test_adaptive_pool_starts_at_zero():
    out = ADMClassifier(replace(TINY, out_channels=7), "adaptive")(noise(1, 3, 8, 8), torch.tensor([5]))
    assert torch.equal(out, torch.zeros(1, 7))


def test_classifier_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match=r"pool must be one of .* got 'mean'"):
        ADMClassifier(TINY, "mean")
    with pytest.raises(ValueError, match="pool='attention' needs image_size and head_channels, got None and 16"):
        ADMClassifier(TINY)
    with pytest.raises(ValueError, match=r"has positions for 4 x 4 features, got \(8, 8\)"):
        ADMClassifier(TINY, image_size=8)(torch.zeros(1, 3, 16, 16), torch.zeros(1))
