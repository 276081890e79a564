"""The Swin U-Net: its masks in closed form, windows, shifts by the configured size, counts, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from restore.resshift import SwinUNet, SwinUNetConfig, released
from restore.resshift.swin_blocks import SwinBlock, SwinLayer
from restore.resshift.swin_layers import WindowAttention, relative_position_index, shift_mask

TINY = SwinUNetConfig(
    image_size=16,
    model_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(16, 8),
    num_head_channels=16,
    swin_embed_dim=32,
    window_size=4,
    mlp_ratio=2,
    lq_size=16,
)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network_of(config, seed=0):
    """A network of which no weight is zero."""
    network = SwinUNet(config).eval()
    for i, parameter in enumerate(network.parameters()):
        parameter.data = 0.15 * noise(*parameter.shape, seed=seed + i)
    return network


SIZES = [(1, 1, 4, 2), (1, 3, 4, 2), (3, 1, 4, 2), (2, 2, 8, 4), (3, 2, 3, 1), (2, 4, 5, 2)]


@pytest.mark.parametrize(("rows", "cols", "window", "shift"), SIZES)
def test_official_mask_splits_the_last_row_of_windows_by_columns(rows, cols, window, shift):
    mask = shift_mask(rows, cols, window, shift=shift, mask="official").tolist()
    for number in range(rows * cols):
        last_row = number // cols == rows - 1
        for i in range(window**2):
            for j in range(window**2):
                split = (i % window >= window - shift) != (j % window >= window - shift)
                assert mask[number][i][j] == (-100 if last_row and split else 0)


@pytest.mark.parametrize(("rows", "cols", "window", "shift"), SIZES)
def test_textbook_mask_lets_only_neighbours_attend(rows, cols, window, shift):
    """Pixels of an image that are rolled together from two of its ends are not neighbours."""
    height, width = rows * window, cols * window
    ends = [torch.roll((torch.arange(n) < shift).long(), -shift) for n in (height, width)]
    label = (2 * ends[0][:, None] + ends[1]).view(rows, window, cols, window).transpose(1, 2).reshape(rows * cols, -1)
    expected = -100.0 * (label[:, :, None] != label[:, None, :])
    assert torch.equal(shift_mask(rows, cols, window, shift=shift, mask="textbook"), expected)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_relative_position_index(window):
    index, span = relative_position_index(window), 2 * window - 1
    for i in range(window**2):
        for j in range(window**2):
            down, right = i // window - j // window, i % window - j % window
            assert index[i, j] == (down + window - 1) * span + right + window - 1
    assert index.dtype == torch.int64


@torch.no_grad()
@pytest.mark.parametrize("mask", ["official", "textbook"])
@pytest.mark.parametrize(("rows", "cols", "window", "shift"), [*SIZES[1:], (2, 3, 4, 0)])
def test_window_attention_is_the_softmax_of_its_scores(rows, cols, window, shift, mask):
    heads, channels = 2, 6
    layer = WindowAttention(channels, heads, window=window, shift=shift, mask=mask).double()
    layer.relative_position_bias_table.copy_(noise((2 * window - 1) ** 2, heads))
    x = noise(2, rows * window, cols * window, channels, seed=1).double()
    tokens = x.view(2, rows, window, cols, window, channels).transpose(2, 3).reshape(2, rows * cols, -1, channels)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(2, 3) for part in layer.qkv(tokens).chunk(3, dim=-1))
    bias = layer.relative_position_bias_table[relative_position_index(window)].permute(2, 0, 1)
    scores = q @ k.mT * (channels / heads) ** -0.5 + bias
    if shift:
        scores = scores + shift_mask(rows, cols, window, shift=shift, mask=mask)[None, :, None]
    expected = layer.proj((scores.softmax(-1) @ v).transpose(2, 3).flatten(-2))
    expected = expected.view(2, rows, cols, window, window, channels).transpose(2, 3).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_shift_follows_from_the_configured_size():
    config = replace(TINY, window_size=8)
    large, small = SwinBlock(config, 0, shifted=True), SwinBlock(config, 1, shifted=True)
    assert (large.window, large.shift) == (8, 4)
    assert (small.window, small.shift) == (8, 0)
    assert large.attn_mask.shape == (4, 64, 64)
    assert "attn_mask" not in small.state_dict()
    assert SwinBlock(replace(TINY, window_size=16), 1, shifted=True).window == 8
    first, second = SwinLayer(TINY, 0, 32).blocks
    assert (first.shift, second.shift) == (0, 2)


@torch.no_grad()
def test_an_unshifted_block_does_not_mix_windows_and_a_shifted_one_does():
    """The windows of an 8 x 8 level are 8 x 8; a larger map is cut into such windows, and none of them sees another."""
    for size, mixes in ((8, False), (16, True)):
        config = replace(TINY, image_size=2 * size, lq_size=2 * size, window_size=8, attention_resolutions=())
        block = SwinBlock(config, 1, shifted=True)
        block.norm1, block.norm2 = nn.Identity(), nn.Identity()
        x = noise(1, 32, 16, 16)
        changed = x.clone()
        changed[:, :, :8, :8] = 0
        same = (block(x) - block(changed))[:, :, 8:, 8:].abs().max() < 1e-6
        assert bool(same) is not mixes


@torch.no_grad()
def test_the_swin_layer_replaces_its_input():
    layer = SwinLayer(TINY, 0, 64)
    for parameter in layer.patch_unembed.parameters():
        parameter.zero_()
    assert layer(noise(1, 64, 8, 8)).abs().max() == 0


@torch.no_grad()
def test_masks_in_files_are_not_read_and_the_two_kinds_differ():
    network = network_of(TINY)
    textbook = SwinUNet(replace(TINY, mask="textbook")).eval()
    textbook.load_state_dict(network.state_dict())
    x, lq, t = noise(1, 3, 16, 24), noise(1, 3, 16, 24, seed=1), torch.tensor([2])
    before = network(x, t, lq)
    for name, buffer in network.named_buffers():
        if name.endswith("attn_mask"):
            buffer.fill_(float("nan"))
    assert torch.equal(network(x, t, lq), before)
    assert (textbook(x, t, lq) - before).abs().max() > 1e-2 * before.std()


COUNTS = {
    "realsr_v1": (118_593_583, 564, (160, 6, 3, 3), (3, 160, 3, 3)),
    "realsr_v3": (118_593_583, 564, (160, 6, 3, 3), (3, 160, 3, 3)),
    "inpaint_face": (118_714_399, 572, (160, 67, 3, 3), (3, 160, 3, 3)),
    "deblur": (118_714_255, 572, (160, 67, 3, 3), (3, 160, 3, 3)),
    "faceir": (118_931_604, 576, (160, 136, 3, 3), (8, 160, 3, 3)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_official_counts(name):
    with torch.device("meta"):
        network = SwinUNet(released()[name].unet)
    parameters, entries, first, last = COUNTS[name]
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(state) == entries
    assert tuple(state["input_blocks.0.0.weight"].shape) == first
    assert tuple(state["out.2.weight"].shape) == last
    assert network.config.multiple == 64


def test_layout_of_the_released_network():
    with torch.device("meta"):
        network = SwinUNet(SwinUNetConfig())
    swin = [name for name, module in network.named_modules() if isinstance(module, SwinLayer)]
    assert swin == [
        *(f"input_blocks.{i}.1" for i in (1, 4, 7, 10)),
        "middle_block.1",
        *(f"output_blocks.{i}.1" for i in (0, 3, 6, 9)),
    ]
    assert [i for i, stage in enumerate(network.output_blocks) if hasattr(stage[-1], "conv")] == [2, 5, 8]


def test_features_end_without_activation():
    network = SwinUNet(replace(TINY, lq_size=64, cond_mask=True))
    kinds = [type(module).__name__ for module in network.feature_extractor]
    assert kinds == ["Conv2d", "SiLU", "FeatureDownsample"] * 2
    assert network.feature_extractor[0].in_channels == 4
    assert network.feature_extractor(noise(1, 4, 32, 64)).shape == (1, 64, 8, 16)
    assert network.config.factor == 4


@torch.no_grad()
def test_steps_conditions_and_batches():
    config = replace(TINY, lq_size=32, cond_mask=True)
    network = network_of(config)
    x, lq, mask = noise(2, 3, 8, 16), noise(2, 3, 16, 32, seed=1), noise(2, 1, 16, 32, seed=2).sign()
    t = torch.tensor([0, 3])
    out = network(x, t, lq, mask)
    assert out.shape == x.shape
    for i in range(2):
        alone = network(x[i : i + 1], t[i : i + 1], lq[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(alone, out[i : i + 1], rtol=0, atol=2e-5)
    for other in (network(x, t.flip(0), lq, mask), network(x, t, -lq, mask), network(x, t, lq, -mask)):
        assert (other - out).abs().max() > 1e-3


@torch.no_grad()
def test_other_types_give_the_same_image():
    network = network_of(TINY)
    x, lq, t = noise(1, 3, 16, 16), noise(1, 3, 16, 16, seed=1), torch.tensor([1])
    out = network(x, t, lq)
    wide = network.double()(x.double(), t, lq.double())
    assert wide.dtype == torch.float64
    torch.testing.assert_close(out, wide.float(), rtol=0, atol=2e-5)
    half = network.bfloat16()(x, t, lq)
    assert half.dtype == torch.float32
    assert (half - out).std() < 0.05 * out.std()


def test_gradients_do_not_depend_on_checkpointing():
    network = network_of(TINY)
    x, lq, t = noise(1, 3, 8, 8), noise(1, 3, 8, 8, seed=1), torch.tensor([1])
    gradients = []
    for network.checkpointing in (False, True):
        network.zero_grad()
        network(x, t, lq).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    assert all(g.abs().max() > 0 for g in gradients[0])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_other_resampling_and_norms_are_built():
    config = replace(TINY, resblock_updown=True, use_scale_shift_norm=False, patch_norm=True)
    network = network_of(config)
    state = network.state_dict()
    assert "input_blocks.2.0.in_layers.2.weight" in state
    assert "input_blocks.1.1.patch_embed.norm.weight" in state
    assert state["middle_block.0.emb_layers.1.weight"].shape == (32, 128)
    assert network(noise(1, 3, 8, 8), torch.tensor([0]), noise(1, 3, 8, 8)).isfinite().all()
    assert not any(".op." in key for key in SwinUNet(replace(TINY, conv_resample=False)).state_dict())


def test_wrong_inputs_are_named():
    x, lq, t = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)
    network = SwinUNet(TINY)
    assert network.config.multiple == 8
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\) with H and W multiples of 8, got \(2, 3, 8, 12\); pad"):
        network(torch.zeros(2, 3, 8, 12), t, lq)
    with pytest.raises(ValueError, match=r"x must be .* got \(2, 1, 8, 8\)"):
        network(x[:, :1], t, lq)
    with pytest.raises(ValueError, match=r"t must have shape \(2,\), one step a batch member, got \(1,\)"):
        network(x, t[:1], lq)
    with pytest.raises(ValueError, match=r"lq must have shape \(2, 3, 8, 8\) for this x, got \(2, 3, 16, 16\)"):
        network(x, t, torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match="takes no mask; one was given"):
        network(x, t, lq, lq[:, :1])
    masked = SwinUNet(replace(TINY, cond_mask=True))
    with pytest.raises(ValueError, match=r"needs a mask of shape \(2, 1, 8, 8\); none was given"):
        masked(x, t, lq)
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 1, 8, 8\), that of lq, got \(2, 3, 8, 8\)"):
        masked(x, t, lq, lq)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mask": "swin"}, r"mask must be one of official, textbook, got 'swin'"),
        ({"model_channels": 40}, r"model_channels \* channel_mult must be multiples of 32, got \(40, 40\)"),
        ({"num_res_blocks": (1, 2, 3)}, r"num_res_blocks must be at least 1 for each of 2 levels, got \(1, 2, 3\)"),
        ({"swin_embed_dim": 48}, r"swin_embed_dim must be a multiple of 32 and of num_head_channels, got 48 and 16"),
        ({"attention_resolutions": (16, 4)}, r"attention_resolutions must be sides of levels, \(16, 8\), got \(16, 4\)"),
        ({"window_size": 3}, r"window_size must divide the sides of the levels that attend, got 3 for 16"),
        ({"lq_size": 24}, r"lq_size must be image_size, 16, times a power of two from 1 on, got 24"),
        ({"lq_size": 8}, r"lq_size must be image_size, 16, times a power of two from 1 on, got 8"),
        ({"image_size": 15}, r"image_size must be a multiple of 2 for 2 levels, got 15"),
        ({"swin_depth": 0}, r"swin_depth must be at least 1, got 0"),
    ],
)
def test_wrong_configurations_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **setting)
