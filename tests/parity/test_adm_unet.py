"""ADM networks against the official ones: numbers of small networks, keys and counts of all released files."""

from dataclasses import replace

import pytest
import torch

from prior.networks.adm_configuration import infer_adm, released_adm
from tests.parity.adm import check_network, model_of_factory, model_of_module
from tests.parity.cases import needs_parity, parity_cases

pytestmark = needs_parity("adm_unet")

NETWORKS = parity_cases("adm_unet", "network")
RELEASED = [
    pytest.param(entry, id=f"{case.name}-{name.split(' ')[0]}")
    for case in parity_cases("adm_unet", "released_keys")
    for name, entry in case.meta.items()
]


def told(model):
    """The model without what a file cannot tell or a network does not read, so that equal networks are equal values."""
    config = replace(model.config, dropout=0.0, num_heads_upsample=None)
    if config.head_channels:
        config = replace(config, num_heads=1)
    if config.updown or len(config.channel_mult) == 1:
        config = replace(config, updown=True, conv_resample=True)
    return replace(model, config=config, image_size=model.image_size if model.pool == "attention" else None)


def heads(model):
    """The settings that no key tells, as arguments of ``infer_adm``."""
    return {name: getattr(model.config, name) for name in ("num_heads", "head_channels", "new_attention_order")}


def meta_weights(entry):
    """The weights of a released file, without memory: from its own list of keys, else from the network of its flags."""
    if "keys" in entry:
        return {key: torch.empty(shape, device="meta") for key, shape in entry["keys"]}
    shapes = model_of_factory(entry["factory"], entry["config"]).shapes()
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_same_numbers_as_the_official_network(case):
    check_network(case)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_configuration_is_told_by_the_keys(case):
    official = model_of_module(case.meta["config"])
    assert told(infer_adm(case.state_dict(), **heads(official))) == told(official)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_the_right_configuration_is_accepted(case):
    official = model_of_module(case.meta["config"])
    assert infer_adm(case.state_dict(), config=official.config).config == official.config


@pytest.mark.parametrize("entry", RELEASED)
def test_released_network_has_the_official_keys_and_size(entry):
    with torch.device("meta"):
        network = model_of_factory(entry["factory"], entry["config"]).build()
    assert sum(p.numel() for p in network.parameters()) == entry["params"]
    state = network.state_dict()
    assert len(state) == entry.get("n_tensors", len(entry.get("keys", ())))
    if "keys" in entry:
        assert [(key, list(t.shape)) for key, t in state.items()] == [(key, shape) for key, shape in entry["keys"]]


@pytest.mark.parametrize("entry", RELEASED)
def test_released_configuration_is_inferred_from_the_keys(entry):
    official = model_of_factory(entry["factory"], entry["config"])
    in_table = any(r.parameters == entry["params"] for r in released_adm())
    found = infer_adm(meta_weights(entry), **({} if in_table else heads(official)))
    assert told(found) == told(official)


@pytest.mark.parametrize("entry", RELEASED)
def test_table_of_released_files_agrees(entry):
    official = model_of_factory(entry["factory"], entry["config"])
    table = [r.model for r in released_adm() if r.parameters == entry["params"]]
    assert all(told(model) == told(official) for model in table)
    assert len(table) <= 1
