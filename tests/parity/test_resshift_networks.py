"""The networks of ResShift against the official ones: outputs, layers, codes, and every name, shape and type."""

import re
from dataclasses import fields

import pytest
import torch

from prior.networks.vq_autoencoder import VQAutoencoder, VQAutoencoderConfig
from restore.resshift import SwinUNet, SwinUNetConfig, released
from tests.parity.cases import needs_parity, parity_cases

pytestmark = needs_parity("resshift")

UNETS = parity_cases("resshift", "unet")
AUTOENCODERS = parity_cases("resshift", "vq")
KEYS = parity_cases("resshift", "keys")
STATES = {case.name.removeprefix("state_"): case for case in parity_cases("resshift") if case.kind == "state"}

FIXED = {"cond_lq": True, "dims": 2, "use_fp16": False}  # the only values of these official settings that are built
VQ_FIXED = {"double_z": False, "attn_resolutions": [], "padding_mode": "zeros"}


def unet_config(official):
    assert all(official[name] == value for name, value in FIXED.items() if name in official)
    return SwinUNetConfig(**{name: value for name, value in official.items() if name not in FIXED})


def vq_config(official):
    layers = official["ddconfig"]
    assert all(layers[name] == value for name, value in VQ_FIXED.items())
    known = {f.name for f in fields(VQAutoencoderConfig)}
    assert set(layers) <= known | set(VQ_FIXED) | {"resolution"}
    taken = {name: value for name, value in layers.items() if name in known}
    return VQAutoencoderConfig(embed_dim=official["embed_dim"], n_embed=official["n_embed"], **taken)


def state_dict(case):
    return {key: t.float() if t.is_floating_point() else t for key, t in case.tensors.items()}


def network_of(state):
    network = SwinUNet(unet_config(state.meta["config"])).eval()
    network.load_state_dict(state_dict(state), strict=True)
    return network


def groups(case):
    """The groups of tensors of a case, each with the network that its description names."""
    found = {}
    for group in sorted({key.split("/")[0] for key in case.tensors}):
        (name,) = (n for n in STATES if re.search(rf"\b{n}\b", case.meta[group]))
        found[group] = STATES[name]
    return found


UNET_GROUPS = [pytest.param(case, g, s, id=f"{case}-{g}") for case in UNETS for g, s in groups(case).items()]


@torch.no_grad()
@pytest.mark.parametrize(("case", "group", "state"), UNET_GROUPS)
def test_same_output_and_layers_as_the_official_network(case, group, state):
    network, tensors, taps = network_of(state), case.under(f"{group}/"), case.under(f"{group}/tap/")
    found = {}
    for name in taps:
        network.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: found.update({name: out}))
    out = network(tensors["x"], tensors["t"], tensors["lq"], tensors.get("mask"))
    for name, expected in taps.items():
        torch.testing.assert_close(found[name][: len(expected)], expected, rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(out, tensors["out"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", [s for s in STATES.values() if "ddconfig" not in s.meta["config"]], ids=str)
def test_masks_and_indices_are_the_stored_ones(case):
    fresh, stored = SwinUNet(unet_config(case.meta["config"])), state_dict(case)
    buffers = dict(fresh.named_buffers())
    assert {key for key in stored if key.endswith(("attn_mask", "relative_position_index"))} == buffers.keys()
    assert all(torch.equal(t, stored[key]) for key, t in buffers.items())


@torch.no_grad()
@pytest.mark.parametrize("case", AUTOENCODERS, ids=str)
def test_same_latents_codes_and_images_as_the_official_autoencoder(case):
    (state,) = (s for s in STATES.values() if s.meta["config"] == case.meta["config"])
    network = VQAutoencoder(vq_config(case.meta["config"])).eval()
    network.load_state_dict(state_dict(state), strict=True)
    z = network.encode(case["image"])
    z_q, indices = network.quantize(z)
    _, indices2 = network.quantize(case["z2"])
    assert torch.equal(indices.flatten(), case["indices"])
    assert torch.equal(indices2.flatten(), case["indices_z2"])
    found = {
        "z": z,
        "z_q": z_q,
        "emb_loss": 1.25 * (z_q - z).square().mean().view(1),
        "decode": network.decode(case["z"]),
        "decode_no_quant": network.decode(case["z"], quantize=False),
        "decode_z2": network.decode(case["z2"]),
    }
    for name, value in found.items():
        torch.testing.assert_close(value, case[name], rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


OFFICIAL = [pytest.param(case.meta, name, id=name) for case in KEYS for name in case.meta]


@pytest.mark.parametrize(("official", "name"), OFFICIAL)
def test_names_shapes_and_types_are_the_official_ones(official, name):
    entry = official[name]
    assert "unet" in entry or not entry["unet_missing_vs_realsr"]
    reference = next(e["unet"] for e in official.values() if "unet" in e)
    expected = entry["unet"] if "unet" in entry else reference | entry["unet_diff_vs_realsr"]
    with torch.device("meta"):
        unet = SwinUNet(unet_config(entry["unet_config"]))
    found = {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in unet.state_dict().items()}
    assert found == expected
    assert sum(p.numel() for p in unet.parameters()) == entry["unet_params"]


@pytest.mark.parametrize(("official", "name"), [p for p in OFFICIAL if "autoencoder_config" in p.values[0][p.values[1]]])
def test_names_and_shapes_of_autoencoders_are_the_official_ones(official, name):
    entry = official[name]
    expected = entry["autoencoder"]
    if isinstance(expected, str):
        expected = official[expected.removeprefix("same as ")]["autoencoder"]
    with torch.device("meta"):
        network = VQAutoencoder(vq_config(entry["autoencoder_config"]))
    assert {key: list(t.shape) for key, t in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) == entry["autoencoder_params"]


@pytest.mark.parametrize("case", KEYS, ids=str)
def test_released_models_have_the_official_configurations(case):
    tasks = {task: entry for entry in case.meta.values() for task in re.findall(r"\w+", entry["use"])}
    known = [r for r in released().values() if r.task in tasks]
    assert known
    for model in known:
        assert model.unet == unet_config(tasks[model.task]["unet_config"])
        if "autoencoder_config" in tasks[model.task]:
            assert model.autoencoder == vq_config(tasks[model.task]["autoencoder_config"])
