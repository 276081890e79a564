"""NCSN++: what every option does, sizes, initial weights, precision and input checks."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from prior.networks import NCSNpp, NCSNppConfig
from prior.networks.ncsnpp_blocks import NIN, AttnBlock, ResBlock, group_norm, positional_embedding

TINY = NCSNppConfig(image_size=16, nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,), sigma_max=50.0)
DISCRETE = replace(TINY, embedding_type="positional", continuous=False, num_scales=10)
VARIANTS = {
    "residual in": TINY,
    "skip in, skip out": replace(TINY, progressive_input="input_skip", progressive="output_skip", num_channels=3),
    "cat, three levels": replace(
        TINY, progressive_input="input_skip", progressive_combine="cat", ch_mult=(1, 2, 1), num_res_blocks=2
    ),
    "residual out, without filter": replace(TINY, progressive="residual", fir=False),
    "skip out, without filter": replace(TINY, progressive="output_skip", progressive_input="none", fir=False),
    "ddpm": replace(TINY, resblock_type="ddpm", progressive="residual", attn_resolutions=(16, 8)),
    "ddpm, plain resampling": replace(TINY, resblock_type="ddpm", resamp_with_conv=False, skip_rescale=False),
    "ddpm, without filter": replace(TINY, resblock_type="ddpm", fir=False, progressive_input="none"),
    "unconditional": replace(TINY, conditional=False),
    "discrete": DISCRETE,
    "vp": replace(TINY, embedding_type="positional", scale_by_sigma=False, centered=True),
    "odd filter": replace(TINY, fir_kernel=(1, 2, 1), progressive="residual"),
    "one level": replace(TINY, ch_mult=(1,), attn_resolutions=(16,)),
}
every_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


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


def inputs(config, height=8, width=12):
    """Images and their noise levels or labels."""
    x = noise(2, config.num_channels, height, width)
    return x, torch.tensor([3, 7]) if config.embedding_type == "positional" else torch.tensor([0.5, 20.0])


@every_variant
def test_every_layer_matters_and_shapes_stay(config):
    network = trained(NCSNpp(config))
    x, t = inputs(config)
    out = network(x, t)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    out.square().sum().backward()
    silent = {name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    unread = {name for name, _ in network.named_parameters() if ".Dense_0." in name or name.split(".")[1] in ("1", "2")}
    # softmax does not see what is added to all keys alike: the bias of NIN_1
    assert {name for name in silent if ".NIN_1.b" not in name} <= (set() if config.conditional else unread)


@every_variant
def test_batch_equals_its_members(config):
    network = trained(NCSNpp(config))
    x, t = inputs(config)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(alone, network(x, t), rtol=1e-4, atol=1e-5)


@every_variant
def test_a_copy_gives_the_same_and_layers_keep_their_places(config):
    network = trained(NCSNpp(config))
    x, t = inputs(config)
    out, copy = network(x, t), deepcopy(network)
    assert torch.equal(copy(x, t), out)
    with torch.no_grad():
        for p in copy.parameters():
            p.zero_()
    assert torch.equal(network(x, t), out)
    assert not copy(x, t).any()


def test_the_noise_level_is_read():
    network, x = trained(NCSNpp(TINY)), noise(1, 1, 8, 8)
    score = {sigma: network(x, torch.tensor([sigma])) * sigma for sigma in (0.5, 20.0)}
    assert (score[0.5] - score[20.0]).abs().max() > 0.1
    blind = trained(NCSNpp(VARIANTS["unconditional"]))
    raw = {sigma: blind(x, torch.tensor([sigma])) * sigma for sigma in (0.5, 20.0)}
    torch.testing.assert_close(raw[0.5], raw[20.0])


@pytest.mark.parametrize("config", [TINY, DISCRETE], ids=["fourier", "labels"])
def test_output_is_divided_by_sigma(config):
    network, raw = trained(NCSNpp(config)), NCSNpp(replace(config, scale_by_sigma=False)).eval()
    raw.load_state_dict(network.state_dict())
    x, t = inputs(config)
    levels = [config.sigma_max * (config.sigma_min / config.sigma_max) ** (int(i) / 9) for i in t]
    sigma = t if config is TINY else torch.tensor(levels)
    torch.testing.assert_close(network(x, t) * sigma[:, None, None, None], raw(x, t), rtol=1e-5, atol=1e-6)


def test_images_are_mapped_unless_centred():
    network, centred = trained(NCSNpp(TINY)), NCSNpp(replace(TINY, centered=True)).eval()
    centred.load_state_dict(network.state_dict())
    x, t = inputs(TINY)
    torch.testing.assert_close(network(x, t), centred(2 * x - 1, t))


def test_attention_follows_from_the_configuration_whatever_the_size_of_the_image():
    """The official code asks the features for their width, and loses its place at other sizes than it was built for."""
    network, seen = trained(NCSNpp(replace(TINY, image_size=32, attn_resolutions=(8,)))), []
    for i, layer in enumerate(network.all_modules):
        if isinstance(layer, AttnBlock):
            layer.register_forward_hook(lambda layer, x, out, i=i: seen.append((i, tuple(out.shape[2:]))))
    for size in ((16, 16), (8, 8), (2, 6), (34, 10)):
        x, t = inputs(TINY, *size)
        assert network(x, t).shape == x.shape
    (middle,) = {i for i, _ in seen}
    assert [shape for _, shape in seen] == [(8, 8), (4, 4), (1, 3), (17, 5)]
    assert isinstance(network.all_modules[middle - 1], ResBlock)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("config", [TINY, DISCRETE], ids=["fourier", "labels"])
def test_output_has_the_dtype_of_the_image(config, dtype):
    network = trained(NCSNpp(config)).requires_grad_(False)
    x, t = inputs(config)
    expected, out = network(x, t), network(x.to(dtype), t)
    assert out.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(out.float(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def test_a_double_network_agrees_with_its_single_precision():
    network = trained(NCSNpp(TINY))
    x, t = inputs(TINY)
    torch.testing.assert_close(network(x, t).double(), deepcopy(network).double()(x.double(), t), rtol=1e-3, atol=1e-3)


def uniform_bound(weight):
    """The largest value of a uniform law of variance 2 / (fan_in + fan_out)."""
    receptive = weight[0, 0].numel() if weight.ndim > 2 else 1
    return (6 / (receptive * (weight.shape[0] + weight.shape[1]))) ** 0.5


def test_initial_weights():
    """Uniform with the mean of the fans; 1e-10 of the variance in the last layer of each branch; biases zero."""
    torch.manual_seed(0)
    network = NCSNpp(replace(TINY, nf=32, progressive="residual"))
    tiny = {"Conv_1", "NIN_3"}
    *_, last = network.all_modules
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear | NIN):
            continue
        weight, bias = (module.W, module.b) if isinstance(module, NIN) else (module.weight, module.bias)
        scale = 0.1 if isinstance(module, NIN) else 1.0
        scale = 1e-10 if name.split(".")[-1] in tiny or module is last else scale
        bound = uniform_bound(weight) * scale**0.5
        assert 0.9 * bound < weight.abs().max() <= bound, name
        assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.15), name
        assert not bias.any(), name
    assert network(noise(1, 1, 8, 8), torch.tensor([1.0])).abs().max() < 1e-2
    wide = NCSNpp(replace(TINY, nf=32, init_scale=1.0)).all_modules[-1].weight
    assert wide.abs().max() > 0.9 * uniform_bound(wide)


def test_frequencies_are_drawn_and_fixed():
    torch.manual_seed(0)
    W = NCSNpp(replace(TINY, nf=128, fourier_scale=16.0)).all_modules[0].W
    assert not W.requires_grad
    assert float(W.std()) == pytest.approx(16.0, rel=0.2)


def test_positional_embedding():
    found = positional_embedding(torch.tensor([0, 3]), 5)
    assert found.shape == (2, 5)
    assert found[0].tolist() == [0, 0, 1, 1, 0]
    expected = torch.tensor([3.0, 3e-4])
    torch.testing.assert_close(found[1], torch.cat([expected.sin(), expected.cos(), torch.zeros(1)]))


def test_noise_levels_descend_and_a_state_dict_may_leave_them_out():
    network = trained(NCSNpp(TINY))
    assert network.sigmas.dtype == torch.float64
    ratio = network.sigmas[1:] / network.sigmas[:-1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, (0.01 / 50) ** (1 / 1999)))
    assert network.sigmas[[0, -1]].tolist() == pytest.approx([50.0, 0.01])
    state = {key: t for key, t in network.state_dict().items() if key != "sigmas"}
    again = NCSNpp(TINY).eval()
    again.load_state_dict(state, strict=True)
    nn.ModuleDict({"network": again}).load_state_dict({f"network.{key}": t for key, t in state.items()}, strict=True)
    assert "sigmas" not in state
    x, t = inputs(TINY)
    assert torch.equal(again(x, t), network(x, t))
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"all_modules"):
        again.load_state_dict({})


@pytest.mark.parametrize("shape", [(1, 1, 9, 8), (1, 1, 8, 6), (1, 2, 8, 8), (1, 8, 8), (1, 1, 0, 8), (0, 1, 8, 8)])
def test_sizes_that_do_not_fit(shape):
    network = NCSNpp(replace(TINY, ch_mult=(1, 1, 1)))
    with pytest.raises(ValueError, match=r"x must be \(B, 1, H, W\) with H and W multiples of 4, got \("):
        network(torch.zeros(shape), torch.ones(shape[0]))


def test_times_that_do_not_fit():
    with pytest.raises(ValueError, match=r"t must have shape \(2,\), one noise level a batch member, got \(1,\)"):
        NCSNpp(TINY)(torch.zeros(2, 1, 8, 8), torch.ones(1))
    for label in (-1, 10):
        with pytest.raises(ValueError, match=r"t must be labels in 0\.\.9, got \[0, " + str(label)):
            NCSNpp(DISCRETE)(torch.zeros(2, 1, 8, 8), torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"progressive": "skip"}, "progressive must be one of none, output_skip, residual, got 'skip'"),
        ({"nonlinearity": "gelu"}, "nonlinearity must be one of swish, elu, relu, lrelu, got 'gelu'"),
        ({"num_res_blocks": 0}, "num_res_blocks must be at least 1, got 0"),
        ({"nf": 2}, "nf must be at least 4 and ch_mult be multiples of 1 and more, got nf=2"),
        ({"ch_mult": ()}, "nf must be at least 4 and ch_mult be multiples of 1 and more"),
        ({"sigma_min": 60.0}, "sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got 60.0 and 50.0"),
    ],
)
def test_bad_configurations(setting, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **setting)


def test_widths_that_groups_do_not_divide():
    assert [group_norm(c).num_groups for c in (4, 8, 12, 128, 256)] == [1, 2, 3, 32, 32]
    with pytest.raises(ValueError, match="nf and ch_mult must give widths, and sums of two, that 32 groups divide, got 132"):
        NCSNpp(replace(TINY, nf=132))
