"""NCSN++ against the official networks: outputs, input gradients, every layer, and the resampling it is made of."""

import pytest
import torch

from prior.ncsnpp_checkpoints import ncsnpp_denoiser
from prior.networks.fir import FIR, FIRDownConv, FIRUpConv, Nearest
from prior.networks.ncsnpp_blocks import positional_embedding
from tests.parity.cases import needs_parity, parity_cases
from tests.parity.ncsnpp import config_of, network_of

pytestmark = needs_parity("ncsnpp")

NETWORKS = parity_cases("ncsnpp", "network")
PRIMITIVES = parity_cases("ncsnpp", "primitives")
FILTERED = {"up": FIR.upsample, "down": FIR.downsample}
CONVOLUTIONS = {"convdown": FIRDownConv, "upconv_corrected": FIRUpConv}
NAIVE = {"up": Nearest.upsample, "down": Nearest.downsample}


def close(found, expected, tolerance):
    """Within ``tolerance`` times the largest expected value."""
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_same_output_and_gradient_as_the_official_network(case):
    network, x = network_of(case), case["x"].clone().requires_grad_()
    y = network(x, case["time_cond"])
    (y * case["vjp_cotangent"]).sum().backward()
    assert y.dtype == x.dtype
    close(y, case["y"], 1e-5)
    close(x.grad, case["vjp"], 1e-4)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_every_layer_gives_the_official_numbers_in_the_official_order(case):
    network, found = network_of(case), {}
    for i, layer in enumerate(network.all_modules):
        layer.register_forward_hook(lambda layer, inputs, out, i=i: found.update({i: out.detach().double()}))
    network(case["x"], case["time_cond"])
    order = list(found)
    if not network.config.conditional and network.places.projection:  # evaluated officially, but read by nothing
        network.all_modules[0](case["time_cond"].log())
        order.insert(0, 0)
    modules = case.settings["modules"]
    assert order == [digest["i"] for digest in modules] == list(range(len(network.all_modules)))
    for digest in modules:
        out = found[digest["i"]]
        assert list(out.shape) == digest["shape"]
        numbers = {"mean": out.mean(), "std": out.std(), "absmax": out.abs().max()}
        for name, value in numbers.items():
            assert float(value) == pytest.approx(digest[name], abs=1e-5 * digest["absmax"]), (digest, name)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_keys_and_counts(case):
    network, official = network_of(case), case.under("sd.")
    assert sum(p.numel() for p in network.parameters()) == case.settings["params"]
    assert {key: t.dtype for key, t in network.state_dict().items()} == {key: t.dtype for key, t in official.items()}
    fresh = type(network)(network.config).sigmas
    torch.testing.assert_close(fresh, official["sigmas"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_denoiser_reads_the_official_score(case):
    """At the times whose noise level or label is the stored one: score = y for VE, -y / std for VP."""
    config = config_of(case.settings["config"])
    model = ncsnpp_denoiser(config, case.under("sd."))
    label = case["time_cond"].double()
    if not config.scale_by_sigma:
        t = label / 999
    elif config.embedding_type == "fourier":
        t = model.schedule.time(label)
    else:
        t = 1 - label / (config.num_scales - 1)
    prediction = model(case["x"], t)
    expected = case["y"] if config.scale_by_sigma else -case["y"] / prediction.sigma
    # sigma(t) makes a round trip through its logarithm, and the frequencies multiply what that loses
    close(prediction.score, expected, 1e-3)


@pytest.mark.parametrize("case", PRIMITIVES, ids=str)
def test_resampling_and_embeddings(case):
    x, read = case["x"], {"x", "w", "posemb_t"}
    for key, expected in case.tensors.items():
        name, _, last = key.rpartition("_")
        if name in FILTERED:
            found, tolerance = FILTERED[name](FIR([int(tap) for tap in last]), x), 1e-6
        elif name in CONVOLUTIONS:
            found, tolerance = convolution(CONVOLUTIONS[name], case["w"], [int(tap) for tap in last])(x), 1e-6
        elif name == "naive":
            found, tolerance = NAIVE[last](Nearest(), x), 1e-6
        elif name == "posemb" and last != "t":
            found, tolerance = positional_embedding(case["posemb_t"], int(last)), 1e-5
            small = case["posemb_t"] < 10
            close(found[small], expected[small], 1e-6)
        else:
            assert key in read, f"{key} of {case} is not compared"
            continue
        close(found, expected, tolerance)


def convolution(kind, weight, taps):
    layer = kind(weight.shape[1], weight.shape[0], taps)
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(weight.shape[0])})
    return layer
