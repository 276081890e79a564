"""NCSN++ files: training states with their lists of averaged weights, plain files, released names, and what is refused."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import prior
from prior.denoiser import NoiseHead, ScoreHead
from prior.ncsnpp_checkpoints import LabelledScoreHead, load_ncsnpp, ncsnpp_denoiser, read_ncsnpp, released
from prior.networks import NCSNpp, NCSNppConfig
from prior.networks.ncsnpp_released import ReleasedNCSNpp, recognised, released_ncsnpp
from prior.schedules import VE, VP

CONFIG = NCSNppConfig(image_size=16, nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,))
LABELS = replace(CONFIG, embedding_type="positional", continuous=False, num_scales=11, sigma_max=50.0)


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights_of(config, seed=0):
    """Weights of which none is zero, by their official names and in their official order."""
    state = NCSNpp(config).state_dict()
    drawn = {key: 0.1 * noise(*t.shape, seed=seed + i) for i, (key, t) in enumerate(state.items())}
    return {**drawn, "sigmas": state["sigmas"]}


def training_state(config=CONFIG, lr=2e-4):
    """A file of the official trainer: ``model`` and a different running average, optimizer and step."""
    model, averaged = weights_of(config), weights_of(config, seed=1000)
    shadow = [t for key, t in averaged.items() if key not in ("sigmas", "all_modules.0.W")]
    moments = {i: {"step": 7, "exp_avg": torch.zeros_like(t)} for i, t in enumerate(shadow)}
    return {
        "optimizer": {"state": moments, "param_groups": [{"lr": lr, "betas": (0.9, 0.999), "params": list(moments)}]},
        "model": {f"module.{key}": t for key, t in model.items()},
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": shadow},
        "step": 7,
    }, {**averaged, **{key: model[key] for key in ("sigmas", "all_modules.0.W") if key in model}}


def saved(content, path, **settings):
    torch.save(content, path, **settings)
    return path


@pytest.fixture
def tiny_release(monkeypatch):
    """A table of released networks with one small one."""
    count = sum(p.numel() for p in NCSNpp(CONFIG).parameters())
    table = (ReleasedNCSNpp(name="tiny", files=("checkpoint_3.pth",), parameters=count, config=CONFIG),)
    for module in ("prior.networks.ncsnpp_released", "prior.ncsnpp_checkpoints"):
        monkeypatch.setattr(f"{module}.released_ncsnpp", lambda: table)


@pytest.mark.parametrize("lr", [2e-4, np.float64(2e-4), np.float32(2e-4)], ids=["float", "float64", "float32"])
def test_a_training_state_gives_its_averaged_weights(lr, tmp_path, tiny_release):
    state, expected = training_state(lr=lr)
    path = saved(state, tmp_path / "checkpoint_3.pth")
    found = read_ncsnpp(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    before = torch.random.get_rng_state()
    model = load_ncsnpp(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    path.unlink()  # nothing is mapped from it
    reference = NCSNpp(CONFIG).eval()
    reference.load_state_dict(expected)
    x, t = noise(2, 1, 8, 8), torch.tensor([0.25, 0.75])
    sigma = 0.01 * 37800.0**t
    torch.testing.assert_close(model(x, t).score, reference(x, sigma), rtol=1e-3, atol=1e-4)
    assert model.schedule == VE(sigma_min=0.01, sigma_max=378.0, reads_sigma=True)
    assert model.data_range == (0.0, 1.0)
    assert not model.network.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("old", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_learning_rates_of_either_numpy_are_read(old, tmp_path):
    state, expected = training_state(lr=np.float64(2e-4))
    path = saved(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"cnumpy._core.multiarray\n") + data.count(b"cnumpy.core.multiarray\n") == 1
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        data = data.replace(b"c" + name + b"\n", b"c" + old + b"\n")
    path.write_bytes(data)
    assert torch.equal(read_ncsnpp(path)["all_modules.3.weight"], expected["all_modules.3.weight"])


@pytest.mark.parametrize("form", ["plain", "module", "model only", "state_dict", "lightning", "safetensors", "no sigmas"])
def test_every_form_of_a_file_loads(form, tmp_path, tiny_release):
    weights, path = weights_of(CONFIG), tmp_path / "model.pth"
    content = {
        "plain": weights,
        "module": {f"module.{key}": t for key, t in weights.items()},
        "model only": {"model": weights, "step": 3},
        "state_dict": {"state_dict": weights},
        "lightning": {"state_dict": {f"denoiser.network.{key}": t for key, t in weights.items()}},
        "safetensors": weights,
        "no sigmas": {key: t for key, t in weights.items() if key != "sigmas"},
    }[form]
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(content, path)
    else:
        torch.save(content, path)
    network = load_ncsnpp(path).network
    assert network.config == CONFIG
    for key, t in network.state_dict().items():
        torch.testing.assert_close(t, weights[key], rtol=1e-12, atol=0)
    assert network.sigmas.dtype == torch.float64


def test_a_list_of_another_length_names_both_counts(tmp_path):
    state, expected = training_state()
    shadow, count = state["ema"]["shadow_params"], len(expected) - 2
    with_frequencies = [expected["all_modules.0.W"], *shadow]
    for wrong in (shadow[:-1], with_frequencies):
        state["ema"]["shadow_params"] = wrong
        path = saved(state, tmp_path / "wrong.pth")
        with pytest.raises(ValueError, match=rf"as many averaged tensors as trained ones, got {len(wrong)} for {count}$"):
            read_ncsnpp(path)


def test_a_list_in_another_order_is_refused(tmp_path):
    state, _ = training_state()
    state["ema"]["shadow_params"].reverse()
    path = saved(state, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match=r"averaged tensor of all_modules\.1\.weight must have shape \(32, 16\), got \(1,\)"):
        read_ncsnpp(path)
    state["ema"]["shadow_params"] = {"a": torch.zeros(1)}
    with pytest.raises(ValueError, match="must hold its averaged weights as a list of tensors, got dict"):
        read_ncsnpp(saved(state, path))


def test_files_that_are_missing_or_hold_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_ncsnpp(tmp_path / "checkpoint_185.pth")
    path = tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps({"model": Foreign()}, protocol=2))
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint: .* or it holds pickled objects other than tensors"):
        load_ncsnpp(path)
    with pytest.raises(ValueError, match=r"must hold all_modules\.0\.\(W\|weight\), as all files of the NCSN\+\+ family do"):
        load_ncsnpp(saved({"time_embed.0.weight": torch.zeros(1)}, path))
    with pytest.raises(ValueError, match="holds the state of an optimizer"):
        load_ncsnpp(saved(training_state()[0]["optimizer"], path))
    with pytest.raises(ValueError, match="must hold a state dict, got list"):
        load_ncsnpp(saved([1, 2], path))


class Foreign:
    """A pickled object that is not read."""


def test_other_networks_need_their_configuration(tmp_path):
    path = saved(weights_of(CONFIG), tmp_path / "mine.pth")
    count = sum(p.numel() for p in NCSNpp(CONFIG).parameters())
    with pytest.raises(
        ValueError, match=rf"{count} parameters in \d+ tensors; give the config\. Released are aapm-256 61433601"
    ):
        load_ncsnpp(path)
    assert load_ncsnpp(path, config=CONFIG).network.config == CONFIG
    fewer = replace(CONFIG, num_scales=7)
    assert load_ncsnpp(path, config=fewer).network.config == CONFIG  # continuous: the number of levels means nothing
    with pytest.raises(ValueError, match=r"all_modules\.3\.weight must have shape \(8, 2, 3, 3\), got \(8, 1, 3, 3\)"):
        load_ncsnpp(path, config=replace(CONFIG, num_channels=2))
    with pytest.raises(ValueError, match=r"config must have the noise levels of the weights, .*sigma_max=378 .* got 0.01, 348"):
        load_ncsnpp(path, config=replace(CONFIG, sigma_max=348.0))
    discrete = saved(weights_of(LABELS), tmp_path / "labels.pth")
    with pytest.raises(ValueError, match=r"num_scales=11, got 0.01, 50 and 12"):
        load_ncsnpp(discrete, config=replace(LABELS, num_scales=12))


def test_released_names_load_through_prior_load(tmp_path, tiny_release):
    state, expected = training_state()
    model = prior.load("tiny", weights=saved(state, tmp_path / "checkpoint_3.pth"))
    assert all(torch.equal(t, expected[key]) for key, t in model.network.state_dict().items())


def test_released_names_need_their_file(tmp_path):
    with pytest.raises(ValueError, match=r"aapm-256 does not ship: give weights=, the path of checkpoint_185\.pth"):
        prior.load("aapm-256")
    with pytest.raises(ValueError, match="church-256 does not ship: give weights=, the path of its released file"):
        prior.load("church-256")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        prior.load("fastmri-knee-320", weights=tmp_path / "checkpoint_95.pth")
    with pytest.raises(ValueError, match=r"unknown model 'aapm': known are photos, .*adm-imagenet-256, .*aapm-256"):
        prior.load("aapm")


def meta_network(config):
    with torch.device("meta"):
        return NCSNpp(config)


@pytest.mark.parametrize("entry", released_ncsnpp(), ids=lambda entry: entry.name)
def test_released_networks_are_recognised_by_their_weights(entry):
    network = meta_network(entry.config)
    assert sum(p.numel() for p in network.parameters()) == entry.parameters
    weights = {**network.state_dict(), "sigmas": torch.tensor(entry.config.sigmas())}  # float32, as a smaller file has it
    found = recognised(weights)
    same_numbers = {"image_size": entry.config.image_size}  # tells the attention, and that is equal
    assert replace(found, **same_numbers) == entry.config


FACTS = {  # trained tensors, entries of the state dict, layers, those with attention
    "aapm-256": (61_433_601, 520, 522, 54, [27]),
    "fastmri-knee-320": (61_433_601, 520, 522, 54, [27]),
    "fastmri-knee-320-complex": (61_437_058, 520, 522, 54, [27]),
    "ffhq-256": (65_574_549, 644, 646, 77, [21, 23, 33, 50]),
}


@pytest.mark.parametrize("name", FACTS)
def test_official_counts(name):
    network = meta_network(released()[name].config)
    parameters, trained, entries, layers, attention = FACTS[name]
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(p.requires_grad for p in network.parameters()) == trained
    assert len(network.state_dict()) == entries
    assert len(network.all_modules) == layers
    assert [i for i, layer in enumerate(network.all_modules) if type(layer).__name__ == "AttnBlock"] == attention


def test_official_keys_of_the_ct_network():
    shapes = {key.removeprefix("all_modules."): tuple(t.shape) for key, t in meta_network(NCSNppConfig()).state_dict().items()}
    assert shapes["sigmas"] == (2000,)
    assert shapes["0.W"] == (128,)
    assert [shapes[f"{i}.weight"] for i in (1, 2, 3)] == [(512, 256), (512, 512), (128, 1, 3, 3)]
    pyramid = {9: (128, 1, 3, 3), 15: (256, 128, 3, 3), 21: (256, 256, 3, 3)}
    assert {i: shapes[f"{i}.Conv2d_0.weight"] for i in pyramid} == pyramid
    blocks = dict.fromkeys([4, 5, 6, 7, 8], (128, 128)) | {10: (256, 128), 11: (256, 256)}
    blocks |= dict.fromkeys([20, 26, 28, 34, 40, 46], (256, 256)) | {45: (256, 384), 47: (128, 384)}
    blocks |= dict.fromkeys([*range(29, 34), *range(35, 40), *range(41, 45)], (256, 512))
    blocks |= dict.fromkeys(range(48, 52), (128, 256))
    assert {i: shapes[f"{i}.Conv_0.weight"][:2] for i in blocks} == blocks
    assert shapes["27.NIN_3.W"] == (256, 256)
    assert shapes["52.weight"] == (128,)
    assert shapes["53.weight"] == (1, 128, 3, 3)


def test_weights_of_several_networks_are_told_apart_by_their_noise_levels():
    weights = dict(meta_network(released()["ffhq-256"].config).state_dict())
    sigmas = weights.pop("sigmas")
    assert sigmas.shape == (2000,)
    with pytest.raises(ValueError, match=r"the weights have no sigmas, and fit ffhq-256 \(sigma_max 348\), .*church-256"):
        recognised(weights)
    mine = replace(released()["ffhq-256"].config, sigma_max=90.0, num_scales=500)
    assert recognised({**weights, "sigmas": torch.tensor(mine.sigmas())}) == mine


def test_labels_count_noise_levels_from_the_largest():
    model = ncsnpp_denoiser(LABELS, weights_of(LABELS))
    assert model.schedule == VE(sigma_min=0.01, sigma_max=50.0)
    assert model.head == LabelledScoreHead(11)
    x, labels = noise(3, 1, 8, 8), torch.tensor([0, 4, 10])
    t = 1 - labels.double() / 10
    torch.testing.assert_close(model(x, t).sigma.flatten().double(), model.network.sigmas[labels], rtol=1e-6, atol=0)
    for times in (t, t.clamp(0.04, 0.96)):  # between the levels the nearest answers
        torch.testing.assert_close(model(x, times).score, model.network(x, labels))


def test_a_variance_preserving_network_gives_the_noise():
    config = replace(CONFIG, embedding_type="positional", scale_by_sigma=False, centered=True)
    model = ncsnpp_denoiser(config, weights_of(config))
    assert model.schedule == VP(time_scale=999.0)
    assert model.head == NoiseHead()
    assert model.data_range == (-1.0, 1.0)
    x, t = noise(2, 1, 8, 8), torch.tensor([0.3, 0.9], dtype=torch.float64)
    h = model.network(x, (999 * t).float())
    std = torch.sqrt(1 - torch.exp(-(t**2) * 19.9 / 2 - t * 0.1))
    torch.testing.assert_close(model(x, t).score, (-h / std[:, None, None, None]).float())


def test_a_centred_network_of_scores_keeps_its_range():
    config = replace(CONFIG, centered=True)
    model = ncsnpp_denoiser(config, weights_of(config))
    assert model.data_range == (-1.0, 1.0)
    assert model.head == ScoreHead()


@pytest.mark.parametrize(
    "setting",
    [
        {"embedding_type": "positional"},
        {"continuous": False},
        {"continuous": False, "scale_by_sigma": False},
        {"continuous": False, "scale_by_sigma": False, "embedding_type": "positional"},
    ],
    ids=str,
)
def test_configurations_that_tell_no_process(setting):
    config = replace(CONFIG, **setting)
    with pytest.raises(ValueError, match="put the network into a Denoiser with its own schedule and head"):
        ncsnpp_denoiser(config, weights_of(config))
