"""ResShift files: every wrapping, drifted masks, the deblurring file's autoencoder, the licence, and what is refused."""

import warnings
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from prior.networks import VQAutoencoder, VQAutoencoderConfig
from restore.resshift import (
    SwinUNet,
    SwinUNetConfig,
    checkpoints,
    load_autoencoder,
    load_unet,
    read_unet,
    released,
)

CONFIG = SwinUNetConfig(
    image_size=16,
    model_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(16,),
    num_head_channels=16,
    swin_embed_dim=32,
    window_size=4,
    mlp_ratio=1,
    lq_size=16,
)
VQ = VQAutoencoderConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, n_embed=12)
MASK = "input_blocks.1.1.blocks.1.attn_mask"
INDEX = "input_blocks.1.1.blocks.1.attn.relative_position_index"


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights_of(network, seed=0):
    """Weights of which none is zero, with buffers as they are."""
    drawn = {name: 0.15 * noise(*p.shape, seed=seed + i) for i, (name, p) in enumerate(network.named_parameters())}
    return {**network.state_dict(), **drawn}


UNET, AUTOENCODER = weights_of(SwinUNet(CONFIG)), weights_of(VQAutoencoder(VQ), seed=1000)


def saved(content, path):
    torch.save(content, path)
    return path


def prefixed(weights, prefix):
    return OrderedDict((prefix + key, value) for key, value in weights.items())


def hollow(network):
    """A full-size state dict that takes no room: every tensor is one number, seen many times."""
    return {key: torch.zeros((), dtype=t.dtype).expand(t.shape) for key, t in network.state_dict().items()}


def on_meta(kind, config):
    with torch.device("meta"):
        return kind(config)


@pytest.mark.parametrize(
    "form", ["bare", "module", "module._orig_mod", "_orig_mod.module", "training", "extra", "half", "deblur", "safetensors"]
)
def test_every_form_of_a_file_loads(form, tmp_path):
    path = tmp_path / "model.pth"
    training = {
        "iters_start": 7,
        "log_step": {"train": 3},
        "state_dict": prefixed(UNET, "module."),
        "amp_scaler": {"scale": 2.0},
    }
    half = {key: t.half() if t.is_floating_point() else t for key, t in UNET.items()}
    content = {
        "bare": OrderedDict(UNET),
        "module": prefixed(UNET, "module."),
        "module._orig_mod": prefixed(UNET, "module._orig_mod."),
        "_orig_mod.module": prefixed(UNET, "_orig_mod.module."),
        "training": training,
        "extra": {**UNET, "something.else": torch.zeros(3)},
        "half": half,
        "deblur": {**UNET, "vae": {"decoder.conv_out.bias": torch.zeros(3)}},
        "safetensors": {key: t.contiguous() for key, t in UNET.items()},
    }[form]
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(content, path)
    else:
        torch.save(content, path)
    network = load_unet(CONFIG, path)
    expected = half if form == "half" else UNET
    assert network.state_dict().keys() == UNET.keys()
    for key, t in network.state_dict().items():
        assert t.dtype == UNET[key].dtype, key
        assert torch.equal(t, expected[key].to(t.dtype)), key
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@torch.no_grad()
def test_a_loaded_network_gives_the_same_numbers(tmp_path):
    reference = SwinUNet(CONFIG).eval()
    reference.load_state_dict(UNET)
    inputs = noise(1, 3, 16, 16), torch.tensor([3]), noise(1, 3, 16, 16, seed=1)
    assert torch.equal(load_unet(CONFIG, saved(UNET, tmp_path / "a.pth"))(*inputs), reference(*inputs))


def test_masks_that_drifted_are_not_taken_over(tmp_path):
    drifted = {**UNET, MASK: UNET[MASK] * 0.999, INDEX: UNET[INDEX].float()}
    read = read_unet(CONFIG, saved(drifted, tmp_path / "a.pth"))
    assert torch.equal(read[MASK], UNET[MASK])
    assert torch.equal(read[INDEX], UNET[INDEX])
    assert UNET[MASK].unique().tolist() == [-100, 0]
    textbook = replace(CONFIG, mask="textbook")
    assert torch.equal(read_unet(textbook, tmp_path / "a.pth")[MASK], SwinUNet(textbook).state_dict()[MASK])
    del drifted[MASK]
    with pytest.raises(ValueError, match=rf"{MASK} is missing; they fit no released model: give the SwinUNetConfig"):
        read_unet(CONFIG, saved(drifted, tmp_path / "b.pth"))


@torch.no_grad()
def test_autoencoders_load(tmp_path):
    path = saved({"state_dict": {**AUTOENCODER, "loss.logvar": torch.zeros(1)}}, tmp_path / "vq.pth")
    network = load_autoencoder(VQ, path)
    assert all(torch.equal(t, AUTOENCODER[key]) for key, t in network.state_dict().items())
    assert not any(p.requires_grad for p in network.parameters())
    x = noise(1, 3, 4, 8)
    assert network(x).shape == x.shape
    save_file(AUTOENCODER, tmp_path / "vq.safetensors")
    assert torch.equal(load_autoencoder(VQ, tmp_path / "vq.safetensors")(x), network(x))


def tuned_file(tmp_path, **parts):
    """``(autoencoder file, deblurring file)``."""
    return saved(AUTOENCODER, tmp_path / "vq.pth"), saved({"state_dict": UNET, **parts}, tmp_path / "deblur.pth")


def test_a_tuned_decoder_replaces_its_part(tmp_path):
    new = {key: t + 1 for key, t in AUTOENCODER.items() if key.startswith(("decoder.", "post_quant_conv."))}
    path, tuned = tuned_file(tmp_path, vae={**prefixed(new, "module."), "loss.logvar": torch.zeros(1)})
    state = load_autoencoder(VQ, path, tuned=tuned).state_dict()
    assert all(torch.equal(t, new.get(key, AUTOENCODER[key])) for key, t in state.items())
    assert torch.equal(load_unet(CONFIG, tuned).state_dict()["out.2.bias"], UNET["out.2.bias"])


def test_low_rank_changes_are_added_to_kernels(tmp_path):
    """W + B A alpha / r, with alpha = 1 and r = 8, for a 3 x 3 and a 1 x 1 kernel, one of them with a kernel of its own."""
    rank, own = 8, AUTOENCODER["decoder.conv_in.weight"] + 2
    three, upsample, one = "decoder.conv_in", "decoder.up.1.upsample.conv", "decoder.mid.attn_1.q"
    lora = {f"{three}.conv.weight": own, f"{upsample}.conv.bias": AUTOENCODER[f"{upsample}.bias"] - 3}
    expected = {f"{three}.weight": own, f"{upsample}.bias": AUTOENCODER[f"{upsample}.bias"] - 3}
    for seed, layer in enumerate((three, upsample, one)):
        out, inside, k, _ = AUTOENCODER[f"{layer}.weight"].shape
        a, b = noise(rank * k, inside * k, seed=seed), noise(out * k, rank * k, seed=seed + 10)
        lora |= {f"{layer}.lora_A": a, f"{layer}.lora_B": b}
        weight = expected.get(f"{layer}.weight", AUTOENCODER[f"{layer}.weight"])
        expected[f"{layer}.weight"] = weight + (b @ a).reshape(out, inside, k, k) / rank
    path, tuned = tuned_file(tmp_path, lora_vae=lora)
    for key, t in load_autoencoder(VQ, path, tuned=tuned).state_dict().items():
        torch.testing.assert_close(t, expected.get(key, AUTOENCODER[key]), rtol=0, atol=1e-5)


def test_a_deblurring_file_without_autoencoder_falls_back_with_a_warning(tmp_path):
    path, tuned = tuned_file(tmp_path)
    with pytest.warns(UserWarning, match=r"deblur\.pth has no autoencoder of its own, neither vae nor lora_vae; the plain"):
        network = load_autoencoder(VQ, path, tuned=tuned)
    assert all(torch.equal(t, AUTOENCODER[key]) for key, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"vae": {"decoder.conv_in.bias": torch.zeros(3)}}, r"decoder\.conv_in\.bias must have shape \(64,\), got \(3,\)"),
        ({"vae": {"elsewhere": torch.zeros(3)}}, "must fit the autoencoder in path: it has no name in common"),
        ({"lora_vae": {"decoder.conv_in.lora_A": torch.zeros(24, 9)}}, "must belong to a layer .*with lora_B beside it"),
        (
            {"lora_vae": {"decoder.conv_in.lora_A": torch.zeros(24, 9), "decoder.conv_in.lora_B": torch.zeros(192, 8)}},
            r"must fit a kernel \(64, 3, 3, 3\), got \(24, 9\) and \(192, 8\)",
        ),
    ],
)
def test_tuned_autoencoders_that_do_not_fit(parts, message, tmp_path):
    path, tuned = tuned_file(tmp_path, **parts)
    with pytest.raises(ValueError, match=rf"tuned: .*{message}"):
        load_autoencoder(VQ, path, tuned=tuned)


def test_the_licence_is_told_once(tmp_path):
    unet = saved(hollow(on_meta(SwinUNet, released()["realsr_v3"].unet)), tmp_path / "unet.pth")
    vq = saved(hollow(on_meta(VQAutoencoder, released()["realsr_v3"].autoencoder)), tmp_path / "vq.pth")
    checkpoints._tell_licence.cache_clear()
    with pytest.warns(UserWarning, match=r"NTU S-Lab License 1\.0: for non-commercial use only") as told:
        network = load_unet("realsr_v3", unet)
    assert told[0].filename == __file__
    assert sum(p.numel() for p in network.parameters()) == 118_593_583
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_autoencoder("realsr_v3", vq)
        checkpoints._tell_licence.cache_clear()
        load_unet(CONFIG, saved(UNET, tmp_path / "own.pth"))  # a network of one's own
    with pytest.warns(UserWarning, match="NTU S-Lab"):
        load_autoencoder("deblur", vq)


def test_a_checkpoint_of_another_task_is_named(tmp_path):
    face = saved(hollow(on_meta(SwinUNet, released()["faceir"].unet)), tmp_path / "face.pth")
    first = r"input_blocks\.0\.0\.weight must have shape \(160, 6, 3, 3\), got \(160, 136, 3, 3\)"
    with pytest.raises(
        ValueError, match=rf"hold the network of realsr_v3: {first}; its weights are those of faceir: name that task"
    ):
        load_unet("realsr_v3", face)
    sharp = saved(hollow(on_meta(SwinUNet, released()["realsr_v1"].unet)), tmp_path / "sr.pth")
    with pytest.raises(ValueError, match=r"of inpaint_face: .* those of realsr_v1, realsr_v2, realsr_v3, bicsr, realsrx4"):
        load_unet("inpaint_face", sharp)
    with pytest.raises(ValueError, match=r"must hold the network of the given configuration: time_embed\.0\.weight must have"):
        load_unet(CONFIG, sharp)
    vq = saved(hollow(on_meta(VQAutoencoder, released()["faceir"].autoencoder)), tmp_path / "vq.pth")
    with pytest.raises(ValueError, match=r"must hold the autoencoder of bicsr: .*; its weights are those of faceir"):
        load_autoencoder("bicsr", vq)


def test_other_files_and_tasks_are_refused(tmp_path):
    unet, vq = saved(UNET, tmp_path / "unet.pth"), saved(AUTOENCODER, tmp_path / "vq.pth")
    with pytest.raises(ValueError, match=r"must hold time_embed\.0\.weight, as all files of the ResShift family do"):
        load_unet(CONFIG, vq)
    with pytest.raises(ValueError, match=r"must hold quantize\.embedding\.weight, as all files of the VQ autoencoder family"):
        load_autoencoder(VQ, unet)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_unet("bicsr", tmp_path / "nowhere.pth")
    (tmp_path / "cut.pth").write_bytes(unet.read_bytes()[:2000])
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_unet(CONFIG, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="must hold a state dict, got list"):
        load_unet(CONFIG, saved([1], tmp_path / "list.pth"))
    with pytest.raises(ValueError, match=r"task must be one of realsr_v1, .*, or a SwinUNetConfig, got 'realsr'"):
        load_unet("realsr", unet)
    with pytest.raises(TypeError, match="name of a released model or a VQAutoencoderConfig, got SwinUNetConfig"):
        load_autoencoder(CONFIG, vq)


def test_released_models():
    table = released()
    assert len({file for entry in table.values() for file in entry.files}) == 12
    assert {entry.autoencoder_file for entry in table.values()} == {
        "autoencoder_vq_f4.pth",
        "celeba256_vq_f4_dim3_face.pth",
        "ffhq512_vq_f8_dim8_face.pth",
    }
    chain = {name: (e.steps, e.min_noise_level, e.kappa, e.scale, e.capped_start) for name, e in table.items()}
    fast, slow = (4, 0.2, 2.0), (15, 0.04, 2.0)
    assert chain["realsr_v3"] == chain["bicsr"] == (*fast, 4, False)
    assert chain["realsr_v1"] == chain["realsr_v2"] == chain["realsrx4"] == chain["bicsrx4_matlab"] == (*slow, 4, False)
    assert chain["faceir"] == chain["deblur"] == chain["inpaint_face"] == chain["inpaint_imagenet"] == (*fast, 1, False)
    assert chain["bicsrx4_opencv"] == (15, 0.04, 1.0, 4, True)
    assert table["realsr_v2"].task == "realsr"
    for entry in table.values():  # the image, its latents and the condition agree
        assert entry.unet.in_channels == entry.autoencoder.embed_dim
        assert entry.scale * entry.unet.factor == entry.autoencoder.factor
