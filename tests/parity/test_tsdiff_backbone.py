"""S4 and the network of TSDiff against the official ones: initialisation, kernels, C and L, layers, outputs, gradients."""

import re

import pytest
import torch

from prior.networks.s4 import S4
from prior.networks.s4_kernel import nplr_legs
from tests.parity.cases import needs_parity, parity_cases
from timeseries.backbone import Backbone, step_embedding

pytestmark = needs_parity("tsdiff")

INIT = [pytest.param(c, N, id=f"{c}-{N}") for c in parity_cases("tsdiff", "init") for N in c.meta["Ns"]]
LAYERS = parity_cases("tsdiff", "s4")
BACKBONES = parity_cases("tsdiff", "backbone")

FIXED = {"bidirectional": True, "activation": "gelu", "postact": None}  # the only values of these settings that are built


def close(found, expected, tolerance):
    """Largest error over max(1, largest value), as the folder states its tolerances."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("case", "N"), INIT)
def test_same_normal_plus_low_rank_form_of_legs(case, N):
    w, P, B = nplr_legs(N)
    found = {"w": torch.view_as_real(w), "absB": B.abs(), "absP": P.abs(), "BconjP": torch.view_as_real(B * P.conj())}
    for name, value in found.items():
        expected = case[f"N{N}.{name}"].double()
        assert float((value - expected).abs().max()) <= 1e-4 * float(expected.abs().max()), name


def layer_of(case, state):
    """A layer in evaluation mode with the weights of one state; those that the state lacks are the fresh ones."""
    assert all(case.meta[name] == value for name, value in FIXED.items())
    layer = S4(case.meta["H"], case.meta["d_state"]).eval()
    layer.load_state_dict(case.under("sd_fresh.") | case.under(f"{state}."), strict=True)
    return layer


def holds(layer, case, state):
    """Whether C, within the official float32 powers, and L are those of a state."""
    kernel, prefix = layer.kernel.kernel, f"{state}.kernel.kernel."
    assert float((kernel.C - case[f"{prefix}C"]).abs().max()) <= 3e-4
    assert int(kernel.L) == int(case[f"{prefix}L"])


@torch.no_grad()
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_a_fresh_kernel_takes_its_length_and_doubles_it(case):
    layer = layer_of(case, "sd_fresh")
    short, first, longer = (case.meta[name] for name in ("L_short", "L1", "L2"))
    for length, name in ((first, "kernel_L1"), (short, "kernel_short"), (longer, "kernel_L2")):
        found = layer.kernel.kernel(length)
        close(found, case[f"out.{name}"], 5e-5)
        if f"out.{name}_float64" in case:
            close(found.double(), case[f"out.{name}_float64"], 5e-6)
        holds(layer, case, "sd_after_L2" if length == longer else "sd_after_L1")


@torch.no_grad()
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_saved_kernels_are_not_rewritten_again(case):
    for state, length, name in (("sd_after_L1", "L1", "kernel_L1"), ("sd_after_L2", "L2", "kernel_L2")):
        layer = layer_of(case, state)
        close(layer.kernel.kernel(case.meta[length]), case[f"out.{name}"], 5e-5)
        assert torch.equal(layer.kernel.kernel.C, case[f"{state}.kernel.kernel.C"])


@torch.no_grad()
@pytest.mark.parametrize("state", ["sd_fresh", "sd_after_L1"])
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_same_output_as_the_official_layer(case, state):
    layer, u = layer_of(case, state), case["in.u"]
    close(layer(u), case["out.layer_L1"], 1e-4)
    short = case["out.layer_short"]
    close(layer(u[..., : short.shape[-1]]), short, 1e-4)


def network_of(case, input_skip=False):
    config = case.meta["cfg"]
    assert config["residual_block"] == "s4"
    weights = case.under("sd.")
    state = 2 * weights["residual_blocks.0.s4block.layer.kernel.kernel.w_imag"].shape[-1]
    network = Backbone(
        config["input_dim"], config["hidden_dim"], config["num_residual_blocks"], config["step_emb"],
        out_channels=config["output_dim"], features=case.meta["num_features"], input_skip=input_skip, state=state,
    )  # fmt: skip
    network.load_state_dict(weights, strict=True)
    return network


OUTPUTS = [
    pytest.param(case, name, id=f"{case}-{name}")
    for case in BACKBONES
    for name in sorted(case.under("out."))
    if re.fullmatch(r"skip[01]_(no)?feat(_float64)?", name)
]


@torch.no_grad()
@pytest.mark.parametrize(("case", "name"), OUTPUTS)
def test_same_output_as_the_official_network(case, name):
    network = network_of(case, input_skip=name.startswith("skip1")).eval()
    x, features, expected = case["in.x"], case["in.features"] if "_feat" in name else None, case[f"out.{name}"]
    if expected.dtype == torch.float64:
        network, x = network.double(), x.double()
    close(network(x, case["in.t"], features), expected, 1e-5)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("case", BACKBONES, ids=str)
def test_same_gradient_of_the_input_as_the_official_network(case, mode):
    found = []
    for input_skip in (True, False):
        network = getattr(network_of(case, input_skip), mode)()
        x = case["in.x"].clone().requires_grad_()
        (network(x, case["in.t"], None) * case["in.g"]).sum().backward()
        found.append(x.grad)
    expected = case["out.grad_x"]
    closest = min(found, key=lambda gradient: float((gradient - expected).abs().max()))  # the case does not name its skip
    close(closest, expected, 1e-5)


@pytest.mark.parametrize("case", BACKBONES, ids=str)
def test_same_step_embedding(case):
    expected = case["out.time_embedding"]
    close(step_embedding(case["in.t"], case.meta["cfg"]["step_emb"]), expected, 1e-5)
