"""The VQ autoencoder: codes, their gradient, pieces of queries and pixels, counts, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from prior.networks import VQAutoencoder, VQAutoencoderConfig, vq_quantizer
from prior.networks.vq_blocks import Attention, Downsample, ResnetBlock
from prior.networks.vq_quantizer import VectorQuantizer

TINY = VQAutoencoderConfig(ch=32, ch_mult=(1, 2), num_res_blocks=(1, 2), n_embed=12, embed_dim=4, z_channels=5)
VQ_F8 = VQAutoencoderConfig(z_channels=8, embed_dim=8, n_embed=4096, ch=64, ch_mult=(1, 2, 4, 8), num_res_blocks=(1, 2, 3, 4))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(codes):
    module = VectorQuantizer(*codes.shape)
    module.embedding.weight.data = codes
    return module


@torch.no_grad()
def test_codes_are_their_own_nearest():
    codes = noise(12, 4)
    order = torch.arange(12).view(1, 3, 4).flip(-1)
    module = quantizer(codes)
    z_q, indices = module(codes[order].permute(0, 3, 1, 2))
    assert torch.equal(indices, order)
    assert torch.equal(z_q, codes[order].permute(0, 3, 1, 2))
    assert torch.equal(module.codes(order), z_q)


@torch.no_grad()
def test_nearest_by_the_euclidean_distance(monkeypatch):
    codes, h = noise(40, 3), noise(2, 3, 5, 7, seed=1)
    distances = torch.cdist(h.permute(0, 2, 3, 1).reshape(-1, 3).double(), codes.double())
    expected = distances.argmin(dim=1).view(2, 5, 7)
    module = quantizer(codes)
    assert torch.equal(module(h)[1], expected)
    monkeypatch.setattr(vq_quantizer, "DISTANCES", 3 * 40)  # three pixels at once
    assert torch.equal(module(h)[1], expected)


def test_equally_near_codes_give_the_first():
    codes = torch.tensor([[2.0], [1.0], [-1.0], [1.0]])
    assert quantizer(codes)(torch.tensor([0.0, 1.4]).view(1, 1, 1, 2))[1].tolist() == [[[1, 1]]]


def test_low_precision_is_compared_in_float32():
    codes = torch.tensor([[256.0], [257.0]])  # bfloat16 has no 257
    assert quantizer(codes)(torch.tensor([[[[256.0]]]], dtype=torch.bfloat16))[1].item() == 0
    z_q, indices = quantizer(codes.flip(0))(torch.tensor([[[[256.0]]]], dtype=torch.bfloat16))
    assert indices.item() == 1
    assert z_q.dtype == torch.bfloat16


def test_the_gradient_goes_straight_through():
    module, h = quantizer(noise(12, 4)), noise(1, 4, 3, 3, seed=1).requires_grad_()
    z_q, indices = module(h)
    assert torch.equal(z_q, module.codes(indices))
    cotangent = noise(1, 4, 3, 3, seed=2)
    z_q.backward(cotangent)
    assert torch.equal(h.grad, cotangent)
    assert module.embedding.weight.grad is None


@torch.no_grad()
def test_attention_is_the_same_in_pieces():
    layer, x = Attention(32).double(), noise(2, 32, 5, 6, seed=3).double()
    h = layer.norm(x)
    q, k, v = (part(h).flatten(2) for part in (layer.q, layer.k, layer.v))
    weights = (q.mT @ k / 32**0.5).softmax(dim=-1)
    expected = x + layer.proj_out((v @ weights.mT).view_as(x))
    for layer.scores in (1, 100, 2**28):
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_zeros_come_after_the_image_not_before():
    layer = Downsample(1)
    layer.conv.bias.zero_()
    x = torch.arange(36.0).view(1, 1, 6, 6)
    layer.conv.weight.zero_()[0, 0, 0, 0] = 1
    assert torch.equal(layer(x), x[..., ::2, ::2])
    layer.conv.weight.zero_()[0, 0, 2, 2] = 1
    expected = torch.zeros(1, 1, 3, 3)
    expected[..., :2, :2] = x[..., 2::2, 2::2]
    assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_decoding_quantises_unless_told_not_to():
    network = VQAutoencoder(TINY).eval()
    assert network.factor == 2
    x = noise(2, 3, 8, 12).clamp(-1, 1)
    h = network.encode(x)
    assert h.shape == (2, 4, 4, 6)
    z_q, indices = network.quantize(h)
    assert indices.shape == (2, 4, 6)
    assert (z_q - h).abs().max() > 1e-2
    assert torch.equal(network.decode(h), network.decode(z_q, quantize=False))
    assert torch.equal(network.decode(h), network.decode(z_q))
    assert (network.decode(h) - network.decode(h, quantize=False)).abs().max() > 1e-4
    assert torch.equal(network(x), network.decode(h))
    assert network(x).shape == x.shape


@pytest.mark.parametrize(
    ("config", "parameters", "entries"), [(VQAutoencoderConfig(), 55_322_782, 205), (VQ_F8, 77_009_115, 285)]
)
def test_official_counts(config, parameters, entries):
    with torch.device("meta"):
        network = VQAutoencoder(config)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == entries
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.GroupNorm)} == {1e-6}


def test_wrong_inputs_and_configurations_are_named():
    network = VQAutoencoder(TINY)
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\) with H and W multiples of 2, got \(1, 3, 5, 4\); pad"):
        network.encode(torch.zeros(1, 3, 5, 4))
    with pytest.raises(ValueError, match=r"x must be .* got \(1, 4, 4, 4\)"):
        network.encode(torch.zeros(1, 4, 4, 4))
    with pytest.raises(ValueError, match=r"h must be latents \(B, 4, h, w\), got \(1, 3, 4, 4\)"):
        network.decode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"ch \* ch_mult must be multiples of 32, got \(24, 48\)"):
        replace(TINY, ch=24)
    with pytest.raises(ValueError, match=r"num_res_blocks must be at least 1 for each of 2 levels, got \(1, 2, 3\)"):
        replace(TINY, num_res_blocks=(1, 2, 3))
    with pytest.raises(ValueError, match="n_embed must be at least 1, got 0"):
        replace(TINY, n_embed=0)


def test_the_memory_of_a_block_is_reused_only_where_no_gradient_is_recorded():
    torch.manual_seed(0)
    for widths in ((32, 32), (32, 64)):
        block, x = ResnetBlock(*widths), torch.randn(2, 32, 6, 5)
        kept = x.clone()
        recorded = block(x)
        with torch.no_grad():
            torch.testing.assert_close(block(x), recorded, atol=1e-6, rtol=0)
        assert torch.equal(x, kept)
        assert torch.autograd.gradcheck(block.double(), x[:1].double().requires_grad_(), fast_mode=True)


def test_a_block_keeps_the_precision_of_its_input_in_autocast():
    torch.manual_seed(0)
    block, x = ResnetBlock(32, 32), torch.randn(1, 32, 4, 4)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert block(x).dtype == torch.float32


def test_the_layout_of_the_images_changes_nothing_and_does_not_come_out():
    torch.manual_seed(0)
    model = VQAutoencoder(TINY)
    x = torch.randn(2, 3, 8, 12)
    with torch.no_grad():
        z, again = model.encode(x), model.encode(x.contiguous(memory_format=torch.channels_last))
        image = model.decode(z)
    assert torch.equal(z, again)
    assert z.is_contiguous()
    assert image.is_contiguous()
