"""Checkpoints of the ADM family: the configuration is read off the keys; damaged and foreign files are named."""

import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from prior.checkpoints import load_adm, load_classifier, read_state_dict, released
from prior.networks.adm import ADMConfig, SuperResUNet
from prior.networks.adm_configuration import ADMModel, infer_adm, released_adm
from prior.schedules import Cosine, Linear
from tests.prior.test_adm import LAYOUTS, TINY, noise, trained

CLASSIFIER = replace(TINY, out_channels=7)
MODELS = {
    **{name: ADMModel(kind="unet", config=config) for name, config in LAYOUTS.items()},
    "fixed variance": ADMModel(kind="unet", config=replace(TINY, out_channels=3)),
    "grey, three levels": ADMModel(
        kind="unet", config=replace(TINY, in_channels=1, out_channels=2, channel_mult=(1, 1, 2), attention_ds=())
    ),
    "two blocks": ADMModel(kind="unet", config=replace(TINY, num_res_blocks=2, attention_ds=(1, 2), updown=False)),
    "upsampler": ADMModel(kind="superres", config=TINY),
    "upsampler, fixed variance": ADMModel(kind="superres", config=replace(TINY, out_channels=3)),
    "classifier": ADMModel(kind="classifier", config=CLASSIFIER, pool="attention", image_size=8),
    "classifier, adaptive": ADMModel(kind="classifier", config=CLASSIFIER, pool="adaptive"),
    "classifier, spatial": ADMModel(kind="classifier", config=replace(CLASSIFIER, updown=False), pool="spatial"),
    "classifier, pooled": ADMModel(
        kind="classifier", config=replace(CLASSIFIER, updown=False, conv_resample=False), pool="spatial_v2"
    ),
}


@pytest.fixture(scope="module")
def network():
    return trained(ADMModel(kind="unet", config=TINY).build())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_keys_tell_the_network(model):
    order = model.config.new_attention_order
    found = infer_adm(model.build().state_dict(), head_channels=16, new_attention_order=order)
    assert replace(found, config=replace(found.config, num_heads=TINY.num_heads)) == model


@pytest.mark.parametrize("entry", released_adm(), ids=lambda entry: entry.name)
def test_released_files_need_no_flags(entry):
    with torch.device("meta"):
        weights = entry.model.build().state_dict()
    assert sum(p.numel() for p in weights.values()) == entry.parameters
    found = infer_adm(weights)
    expected = replace(entry.model.config, dropout=0.0)
    assert replace(found, config=replace(found.config, num_heads=expected.num_heads)) == replace(entry.model, config=expected)
    assert found.config.head_channels or found.config.num_heads == 4


def test_released_denoisers_by_name():
    assert released()["adm-imagenet-256"].file == "256x256_diffusion_uncond.pt"
    assert len(released()) == 8
    assert {r.model.kind for r in released().values()} == {"unet", "superres"}


def test_file_names_of_the_table_are_distinct():
    names = [name for released in released_adm() for name in released.files]
    assert len(names) == len(set(names)) == 18
    assert {r.schedule for r in released_adm() if r.model.kind == "classifier"} == {None}


def written(path, weights, form):
    if form == "safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    content = {
        "plain": weights,
        "half": {key: value.half() for key, value in weights.items()},
        "wrapped": {"state_dict": weights, "epoch": 3},
        "module": {f"module.{key}": value for key, value in weights.items()},
        "lightning": {"state_dict": {f"denoiser.network.{key}": value for key, value in weights.items()}},
        "legacy": weights,
    }[form]
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    return path


@pytest.mark.parametrize("form", ["plain", "half", "wrapped", "module", "lightning", "legacy", "safetensors"])
def test_every_form_of_a_file_loads(form, network, tmp_path):
    path = written(tmp_path / "model.pt", network.state_dict(), form)
    model = load_adm(path, head_channels=16)
    x, t = noise(2, 3, 8, 8), torch.tensor([10.0, 600.0])
    same = deepcopy(network).half().float() if form == "half" else network
    prediction = model(x, t)
    assert torch.equal(torch.cat([prediction.eps, prediction.variance], dim=1), same(x, t))
    assert model.schedule == Linear()
    assert model.learned_variance
    assert model.data_range == (-1.0, 1.0)
    assert not model.network.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())


def test_schedule_of_the_table_and_of_the_argument(monkeypatch, network, tmp_path):
    path = written(tmp_path / "model.pt", network.state_dict(), "plain")
    assert load_adm(path, head_channels=16, schedule=Cosine()).schedule == Cosine()
    cosine = next(r for r in released_adm() if r.schedule == "cosine")
    same_size = replace(cosine, parameters=sum(p.numel() for p in network.parameters()))
    monkeypatch.setattr("prior.networks.adm_configuration.released_adm", lambda: (same_size,))
    model = load_adm(path)
    assert model.schedule == Cosine()
    assert model.network.config.new_attention_order
    assert model.network.config.head_channels == 64


def test_upsampler_takes_its_image_as_condition(tmp_path):
    network = trained(SuperResUNet(TINY))
    model = load_adm(written(tmp_path / "up.pt", network.state_dict(), "plain"), head_channels=16)
    x, low, t = noise(1, 3, 8, 8), noise(1, 3, 4, 4, seed=3), torch.tensor([7.0])
    torch.testing.assert_close(model(x, t, low).eps, network(x, t, low)[:, :3], rtol=0, atol=0)


def test_classifier_loads_and_kinds_are_not_mixed_up(network, tmp_path):
    classifier = trained(MODELS["classifier"].build())
    path = written(tmp_path / "classifier.pt", classifier.state_dict(), "plain")
    x, t = noise(1, 3, 8, 8), torch.tensor([7.0])
    assert torch.equal(load_classifier(path, head_channels=16)(x, t), classifier(x, t))
    with pytest.raises(ValueError, match="is a classifier; load it with load_classifier"):
        load_adm(path, head_channels=16)
    with pytest.raises(ValueError, match="is a unet; load it with load_adm"):
        load_classifier(written(tmp_path / "unet.pt", network.state_dict(), "plain"), head_channels=16)


def test_unknown_heads_are_asked_for(network):
    with pytest.raises(ValueError, match=r"num_heads or head_channels must be given: .* no released file has \d+ parameters"):
        infer_adm(network.state_dict())
    assert infer_adm(network.state_dict(), num_heads=2).config.attention(64).heads == 2


@pytest.mark.parametrize(
    ("setting", "wrong", "key"),
    [
        ("scale_shift", False, "emb_layers.1.weight"),
        ("updown", False, "input_blocks.2.0.op.weight"),
        ("attention_ds", (), "input_blocks.3.1.norm.weight"),
        ("attention_ds", (1, 2), "input_blocks.1.1.norm.weight"),
        ("num_classes", 5, "label_emb.weight"),
        ("out_channels", 3, "out.2.weight"),
        ("in_channels", 1, "input_blocks.0.0.weight"),
        ("model_channels", 64, "time_embed.0.weight"),
        ("channel_mult", (1, 3), "input_blocks.3.0.in_layers.2.weight"),
        ("num_res_blocks", 2, "input_blocks.3.0.in_layers.2.weight"),
    ],
)
def test_a_wrong_setting_is_named_with_its_key(setting, wrong, key, network):
    message = (
        rf"config must fit the file: .*{re.escape(key)}.*; the file has .*{setting}={re.escape(repr(getattr(TINY, setting)))}"
    )
    with pytest.raises(ValueError, match=message):
        infer_adm(network.state_dict(), config=replace(TINY, **{setting: wrong}))


def test_missing_misshapen_and_unexpected_keys_are_named(network):
    weights = network.state_dict()
    cases = {
        "output_blocks.0.0.out_layers.3.bias": (None, "must have shape (64,), is missing"),
        "input_blocks.3.1.qkv.weight": (None, "must have shape (192, 64, 1), is missing (setting: attention_ds)"),
        "middle_block.0.in_layers.2.weight": (torch.zeros(64, 32, 3, 3), "got (64, 32, 3, 3)"),
        "output_blocks.0.0.extra": (torch.zeros(1), "is unexpected"),
        "out.2.weight": (None, "is missing"),
        "time_embed.0.weight": (torch.zeros(128), "has shape (128,)"),
    }
    for key, (value, message) in cases.items():
        broken = {k: v for k, v in weights.items() if k != key} | ({} if value is None else {key: value})
        expected = rf"no ADM network has these weights; .*{re.escape(key)} .*{re.escape(message)}"
        with pytest.raises(ValueError, match=expected):
            infer_adm(broken, head_channels=16)


def test_ambiguous_keys_are_not_guessed():
    config = ADMConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1, attention_ds=(), head_channels=32)
    weights = ADMModel(kind="classifier", config=config, pool="adaptive").build().state_dict()
    with pytest.raises(ValueError, match=r"the keys fit 2 x 1 or 1 x 3 .* alike; give the config"):
        infer_adm(weights, num_heads=1)
    assert infer_adm(weights, config=config).config == config


def test_output_channels_must_match_the_image(tmp_path):
    weights = ADMModel(kind="unet", config=replace(TINY, out_channels=4)).build().state_dict()
    with pytest.raises(ValueError, match="must give 3 or 6 channels for 3 of image, got 4"):
        load_adm(written(tmp_path / "odd.pt", weights, "plain"), head_channels=16)


def test_absent_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: there is no file .*absent\.pt"):
        load_adm(tmp_path / "absent.pt")
    contents = {
        r"holds the state of an optimizer; load the model or ema file": {
            "state": {0: {"step": 1}},
            "param_groups": [{"lr": 1.0}],
        },
        r"must hold time_embed.0.weight, .* got 'layer.weight' and 0 others": {"layer.weight": torch.zeros(3)},
        r"must hold a state dict, got Tensor": torch.zeros(3),
        r"must hold a state dict, got nothing": {},
        r"must hold one network, got 2, with the prefixes \['', 'ema.'\]": {
            "time_embed.0.weight": torch.zeros(4, 1),
            "ema.time_embed.0.weight": torch.zeros(4, 1),
        },
        r"must hold tensors only, got int at 'step'": {"time_embed.0.weight": torch.zeros(4, 1), "step": 3},
    }
    for message, content in contents.items():
        torch.save(content, tmp_path / "file.pt")
        with pytest.raises(ValueError, match=message):
            read_state_dict(tmp_path / "file.pt")


class Thing:
    """An object that an unrestricted pickle would bring to life."""


@pytest.mark.parametrize("form", ["plain", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_truncated_files_are_named(form, kept, network, tmp_path):
    path = written(tmp_path / "model.pt", network.state_dict(), form)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"path: .*model\..* bytes\) cannot be read as a checkpoint: it is truncated"):
        load_adm(path, head_channels=16)


def test_pickled_objects_and_noise_are_refused(tmp_path):
    torch.save({"model": Thing()}, tmp_path / "object.pt")
    (tmp_path / "noise.pt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "page.pt").write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    for name in ("object.pt", "noise.pt", "page.pt"):
        with pytest.raises(ValueError, match=rf"{name} .* cannot be read as a checkpoint"):
            load_adm(tmp_path / name)
    torch.save({"time_embed.0.weight": torch.zeros(4, 1), "thing": Thing()}, tmp_path / "mixed.pt")
    with pytest.raises(ValueError, match="must hold tensors only, got Thing at 'thing'"):
        load_adm(tmp_path / "mixed.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_beside_the_weights_are_passed_over(legacy, network, tmp_path):
    content = {"state_dict": network.state_dict(), "hyper_parameters": {"thing": Thing(), "kind": Thing}}
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=not legacy)
    found = load_adm(tmp_path / "last.ckpt", head_channels=16).network.state_dict()
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
