"""The network of TSDiff: sizes, names, the step embedding, features, the skip, dropout, kept kernels, and what is refused."""

import copy
from dataclasses import asdict

import pytest
import torch

from prior.networks.s4 import Spectrum
from timeseries.backbone import RELEASED_SIZES, Backbone, step_embedding


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tiny(in_channels=3, hidden=6, blocks=2, embedding=8, *, state=4, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone(in_channels, hidden, blocks, embedding, state=state, **settings)


X, T = noise(2, 10, 3), torch.tensor([0, 7])


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"in_channels": 11, "features": 8}, 193_355),  # hourly; the released models have one more in a static embedding
        ({"in_channels": 13, "features": 7}, 193_421),
        ({"in_channels": 1, "features": 7}, 191_873),
        ({"in_channels": 1, "features": 12}, 192_833),
    ],
)
def test_the_published_size_has_as_many_parameters(sizes, parameters):
    network = Backbone(**sizes, **asdict(RELEASED_SIZES["diffusion_small_config"]))
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_released_sizes():
    sizes = {name: (s.hidden, s.blocks, s.embedding) for name, s in RELEASED_SIZES.items() if not s.dropout}
    assert sizes == {
        "diffusion_small_config": (64, 3, 128),
        "diffusion_config": (128, 6, 128),
        "diffusion_small_configv2": (512, 3, 128),
        "diffusion_large_config": (128, 18, 128),
    }
    with pytest.raises(TypeError):
        RELEASED_SIZES["diffusion_small_config"] = None


def test_names_and_their_order():
    def linear(*names):
        return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]

    kernel = [f"kernel.kernel.{name}" for name in ("C", "log_dt", "B", "P", "inv_w_real", "w_imag", "L")]
    block = [f"s4block.layer.{name}" for name in ("D", *kernel, *linear("output_linear"))]
    block += linear("s4block.norm", "time_linear", "out_linear1", "out_linear2", "feature_encoder")
    expected = linear("input_init.0", "time_init.0", "time_init.2", "out_linear.0", "out_linear.2")
    expected += [f"residual_blocks.{i}.{name}" for i in range(2) for name in block]
    assert list(tiny(features=5).state_dict()) == expected
    assert list(tiny().state_dict()) == [name for name in expected if "feature_encoder" not in name]


def test_step_embedding_has_sines_first_and_ends_at_the_longest_period():
    found = step_embedding(torch.tensor([0.0, 3.0], dtype=torch.float64), 6)
    f = torch.tensor([1, 0.01, 0.0001], dtype=torch.float64)
    torch.testing.assert_close(found[0], torch.tensor([0, 0, 0, 1, 1, 1]).double())
    torch.testing.assert_close(found[1], torch.cat([(3 * f).sin(), (3 * f).cos()]), rtol=1e-14, atol=0)
    torch.testing.assert_close(step_embedding(torch.tensor([0, 3]), 6), found.float())


@torch.no_grad()
def test_a_block_is_its_formula():
    block = tiny(features=2).residual_blocks[0].eval()
    h, e, features = noise(2, 6, 10), noise(2, 6, seed=1), noise(2, 2, 10, seed=2)
    z = h + (e @ block.time_linear.weight.mT + block.time_linear.bias)[:, :, None]
    normed = (z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    o = z + block.s4block.layer(normed) + block.feature_encoder(features)
    o = o.tanh() * o.sigmoid()
    following, skip = block(h, e, features)
    torch.testing.assert_close(following, h + block.out_linear1(o), rtol=0, atol=1e-5)
    torch.testing.assert_close(skip, block.out_linear2(o), rtol=0, atol=1e-5)


@torch.no_grad()
def test_skips_are_added_without_a_factor():
    network = tiny().eval()
    h, e, total = network.input_init(X).mT, network.time_init(step_embedding(T, 8)), 0
    for block in network.residual_blocks:
        h, skip = block(h, e, None)
        total = total + skip
    torch.testing.assert_close(network(X, T), network.out_linear(total.mT))


@torch.no_grad()
def test_the_input_skip_adds_the_input():
    plain, skipping = tiny(), tiny(input_skip=True)
    torch.testing.assert_close(skipping(X, T), plain(X, T) + X)


@torch.no_grad()
def test_features_come_in_through_their_encoder_only():
    network, features = tiny(features=5).eval(), noise(2, 10, 5, seed=4)
    assert float((network(X, T, features) - network(X, T)).abs().max()) > 1e-3
    for block in network.residual_blocks:
        block.feature_encoder.weight.zero_()
        block.feature_encoder.bias.zero_()
    assert torch.equal(network(X, T, features), network(X, T))


@torch.no_grad()
def test_a_batch_is_its_windows_and_any_length_runs():
    network = tiny(out_channels=1).eval()
    whole = network(X, T)
    assert whole.shape == (2, 10, 1)
    for i in range(2):
        torch.testing.assert_close(network(X[i : i + 1], T[i : i + 1]), whole[i : i + 1], rtol=0, atol=1e-5)
    for length in (1, 4, 23):
        assert network(noise(1, length, 3), T[:1]).shape == (1, length, 1)


def test_dropout_is_for_training():
    network, without = tiny(dropout=0.5), tiny()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(network.train()(X, T), network(X, T))
        assert torch.equal(network.eval()(X, T), without.eval()(X, T))
        network.train().residual_blocks[0].s4block.layer.dropout.p = 0.0
        z = noise(4, 6, 10)
        added = network.residual_blocks[0].s4block(z) - z
        kept = (added != 0).any(-1)
        assert bool((added[kept] != 0).all())  # whole channels
        assert 0 < int(kept.sum()) < kept.numel()


@pytest.mark.parametrize("training", [True, False])
def test_gradients_in_the_input_and_features(training):
    network = tiny(2, 4, 2, 8, features=2, input_skip=True).double().train(training)
    x, features = (noise(1, 5, 2, seed=s, dtype=torch.float64).requires_grad_() for s in (1, 2))
    assert torch.autograd.gradcheck(lambda x, f: network(x, T[1:], f), (x, features))


def test_kernels_are_worked_out_once_in_a_guided_chain(monkeypatch):
    network, calls = tiny().eval(), []
    evaluate = Spectrum._spectrum
    monkeypatch.setattr(Spectrum, "_spectrum", lambda self, length: calls.append(length) or evaluate(self, length))
    x = X
    for step in reversed(range(4)):
        x = x.detach().requires_grad_()
        out = network(x, torch.full((2,), step))
        (score,) = torch.autograd.grad(out.square().sum(), x)
        with torch.no_grad():
            x = x - 0.1 * score - 0.1 * network(x, torch.full((2,), step))
    assert calls == [10, 10]  # one for each block
    assert bool(x.isfinite().all())


@torch.no_grad()
def test_a_moving_average_of_a_prepared_network_is_exact():
    fast = tiny()
    fast.prepare(10)
    slow = copy.deepcopy(fast)
    for p in fast.parameters():
        p.mul_(1.01)
    for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
        p.lerp_(q, 1.0)
    assert torch.equal(slow(X, T), fast(X, T))


@torch.no_grad()
def test_double_precision_is_near():
    network = tiny().eval()
    torch.testing.assert_close(copy.deepcopy(network).double()(X.double(), T).float(), network(X, T), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 0}, "must be at least 1"),
        ({"blocks": 0}, "must be at least 1"),
        ({"features": -1}, "features 0, got"),
        ({"embedding": 7}, "must be even and at least 4, got 7"),
        ({"embedding": 2}, "must be even and at least 4, got 2"),
        ({"input_skip": True, "out_channels": 1}, "out_channels must be 3, got 1"),
        ({"state": 5}, "state must be even"),
    ],
)
def test_sizes_that_name_no_network_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


@pytest.mark.parametrize(
    ("x", "t", "features", "message"),
    [
        (X[..., :2], T, None, r"x must have shape \(B, l, 3\)"),
        (X[0], T, None, r"x must have shape \(B, l, 3\)"),
        (X[:, :0], T, None, r"with l >= 1, got \(2, 0, 3\)"),
        (X, T[:1], None, r"t must have one step for each window, shape \(2,\), got \(1,\)"),
        (X, T, X[:, :9, :2], r"features must have shape \(2, 10, 2\), got \(2, 9, 2\)"),
    ],
)
def test_inputs_of_other_shapes_are_refused(x, t, features, message):
    with pytest.raises(ValueError, match=message):
        tiny(features=2)(x, t, features)


def test_features_for_a_network_without_an_encoder_are_refused():
    with pytest.raises(ValueError, match="without a feature encoder"):
        tiny()(X, T, X)
