"""S4: its initial matrices, kernels against the recursion, C and L, the convolution, what is kept, and what is refused."""

import copy
import math
import pickle
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from benchmarks import s4_speed
from prior.networks import s4_kernel
from prior.networks.s4 import S4
from prior.networks.s4_kernel import S4Kernel, cauchy_sums, nplr_legs
from timeseries.backbone import BackboneSize


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(channels=3, state=8, *, dtype=torch.float32, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return S4(channels, state, **settings).to(dtype)


def kernel(channels=3, state=8, dtype=torch.float32):
    return layer(channels, state, dtype=dtype).kernel.kernel


@pytest.mark.parametrize("N", [2, 4, 16, 128])
def test_legs_keeps_its_sums_over_the_modes(N):
    w, P, B = nplr_legs(N)
    assert w.shape == P.shape == B.shape == (N // 2,)
    found = torch.stack([2 * B.abs().square().sum(), 2 * P.abs().square().sum(), 2 * (B * P.conj()).real.sum()])
    expected = torch.tensor([N**2, N**2 / 2, N**2 / math.sqrt(2)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    assert bool((w.real == -0.5).all())
    assert bool((w.imag.diff() > 0).all())
    assert bool((w.imag < 0).all())


def test_legs_of_four_states_has_the_known_frequencies():
    torch.testing.assert_close(nplr_legs(4)[0].imag, torch.tensor([-4.603293, -0.556501]).double(), rtol=0, atol=5e-7)


def test_fresh_parameters():
    fresh = kernel(400, 16).requires_grad_(False)
    assert int(fresh.L) == 0
    assert bool((fresh.inv_w_real == math.log(0.5)).all())
    assert math.log(0.001) <= float(fresh.log_dt.min()) < -6.5
    assert -2.7 < float(fresh.log_dt.max()) <= math.log(0.1)
    variance = fresh.C.square().mean(dim=(0, 1, 2))
    torch.testing.assert_close(variance, torch.full((2,), 0.5), rtol=0, atol=0.03)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-11)])
@pytest.mark.parametrize(("state", "length"), [(8, 1), (8, 2), (16, 37), (128, 90)])
@torch.no_grad()
def test_the_kernel_is_that_of_the_recursion(state, length, dtype, tolerance):
    k = kernel(4, state, dtype)
    taps = s4_speed.recursion(k, length)
    assert float((k(length).double() - taps).abs().max()) < tolerance * max(1, float(taps.abs().max()))


@torch.no_grad()
def test_the_plain_reading_is_our_kernel_and_layer():
    net, u = layer(4, 16, dtype=torch.float64), noise(2, 4, 21, dtype=torch.float64)
    net.kernel.kernel.prepare(21)
    torch.testing.assert_close(s4_speed.plain_kernel(net.kernel.kernel), net.kernel.kernel(21), rtol=0, atol=1e-11)
    torch.testing.assert_close(s4_speed.plain_layer(net, u), net(u), rtol=0, atol=1e-11)


RECIPE = """
model:
  init_args:
    config: {freq: h, prediction_length: 4, context_length: 8, lags: [2], size: {hidden: 4, blocks: 1}}
    lr: 0.01
data: {init_args: {batch_size: 3}}
trainer: {gradient_clip_val: 0.5}
"""


def test_the_comparison_prints_both_and_their_errors_and_a_training_step(capsys, tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    sizes = ["--batch", "2", "--length", "24", "--channels", "3", "--state", "8"]
    s4_speed.main(["--repeats", "1", *sizes, "--recipe", str(tmp_path / "tiny.yaml")])
    plain, ours, ratio, training = capsys.readouterr().out.splitlines()
    assert plain.startswith("plain: kernel ")
    assert float(ours.split("error ")[1].split(";")[0]) < 5e-6
    assert "times as fast; B 2, L 24, d 3, N 8" in ratio
    assert re.fullmatch(r"training step \d\.\d{3} s: forward, backward, optimizer; tiny, B 3, L 12, 2 channels", training)


def test_the_training_step_is_that_of_the_recipe(monkeypatch):
    published = s4_speed.Recipe.of(s4_speed.EXCHANGE)
    assert (published.batch, published.lr, published.clip) == (64, 1e-3, 0.5)
    assert (published.config.size, published.config.assembly.length) == (BackboneSize(), 390)
    small = replace(published, config=replace(published.config, lags=(), size=BackboneSize(hidden=4, blocks=1)), batch=2)
    steps, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: steps.append(gradient_norm(self)) or step(self))
    assert s4_speed.training_seconds(replace(small, clip=1e-3), repeats=2) > 0
    assert steps == [pytest.approx(1e-3, rel=1e-3)] * 3
    with pytest.raises(ValueError, match="recipe must be that of an unconditional model"):
        s4_speed.training_seconds(replace(small, config=replace(small.config, conditional=True)), repeats=1)


def gradient_norm(optimizer):
    return float(sum(p.grad.square().sum() for p in optimizer.param_groups[0]["params"] if p.grad is not None)) ** 0.5


@pytest.mark.parametrize("cached", [2**16, 1])
def test_cauchy_sums_and_their_derivatives(monkeypatch, cached):
    monkeypatch.setattr(s4_kernel, "CACHED", cached)
    v = torch.complex(noise(3, 4, 2, dtype=torch.float64), noise(3, 4, 2, seed=1, dtype=torch.float64)).requires_grad_()
    lam = torch.complex(-0.2 - noise(4, 2, seed=2).double().abs(), noise(4, 2, seed=3).double()).requires_grad_()
    angle = torch.linspace(0, math.pi / 2, 5, dtype=torch.float64)
    s, c = angle.sin(), angle.cos()
    direct = sum((a[..., None] / (2j * s - b[..., None] * c)).sum(2) for a, b in ((v, lam), (v.conj(), lam.conj())))
    torch.testing.assert_close(cauchy_sums(v, lam, s, c), direct, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda v, lam: cauchy_sums(v, lam, s, c), (v, lam), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda v, lam: cauchy_sums(v, lam, s, c), (v, lam), fast_mode=True)


@torch.no_grad()
def test_lengths_double_and_shorter_kernels_are_prefixes():
    k = kernel(dtype=torch.float64)
    first = k(20)
    assert int(k.L) == 20
    C = k.C.clone()
    assert torch.equal(k(13), first[..., :13])
    assert torch.equal(k.C, C)
    longer = k(41)
    assert int(k.L) == 80
    torch.testing.assert_close(longer[..., :20], first, rtol=0, atol=1e-11)
    torch.testing.assert_close(longer, kernel(dtype=torch.float64)(41), rtol=0, atol=1e-11)


@torch.no_grad()
def test_copies_and_loaded_weights_are_rewritten_once():
    original = kernel()
    early = copy.deepcopy(original)
    expected = original(30)
    late, loaded = copy.deepcopy(original), kernel(3, 8)
    loaded.prepare(7)
    loaded.load_state_dict(original.state_dict(), strict=True)
    for k in (early, late, loaded, pickle.loads(pickle.dumps(original))):
        assert torch.equal(k(30), expected)
        assert torch.equal(k(30), expected)
        assert int(k.L) == 30


@pytest.mark.parametrize("missing", ["C", "L"])
def test_a_file_with_only_one_of_c_and_l_is_refused(missing):
    weights = {name: t for name, t in kernel().state_dict().items() if name != missing}
    with pytest.raises(RuntimeError, match="C and L must come together"):
        kernel().load_state_dict(weights, strict=False)


def test_names_shapes_and_their_order():
    found = {name: tuple(t.shape) for name, t in layer(3, 8).state_dict().items()}
    inner = {"C": (2, 3, 4, 2), "log_dt": (3,), "B": (1, 3, 4, 2), "P": (1, 3, 4, 2), "inv_w_real": (3, 4), "w_imag": (3, 4)}
    expected = {"D": (1, 3), **{f"kernel.kernel.{name}": shape for name, shape in inner.items()}, "kernel.kernel.L": ()}
    expected |= {"output_linear.weight": (3, 3, 1), "output_linear.bias": (3,)}
    assert list(found.items()) == list(expected.items())


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 9])
def test_the_layer_is_the_sum_of_both_directions_and_the_skip(length):
    net, u = layer(dtype=torch.float64), noise(2, 3, length, dtype=torch.float64)
    k0, k1 = net.kernel.kernel(length)
    y = torch.zeros_like(u)
    for j in range(length):
        for i in range(length):
            y[..., j] += u[..., i] * (k0[:, j - i] if i <= j else k1[:, i - j - 1])
    y += net.D.mT * u
    torch.testing.assert_close(net(u), net.output_linear(F.gelu(y)), rtol=0, atol=1e-12)


def counted(net, monkeypatch):
    """How often the kernel is worked out, as a list that grows."""
    calls, k = [], net.kernel.kernel
    monkeypatch.setattr(k, "_kernel", lambda length, evaluate=k._kernel: calls.append(length) or evaluate(length))
    return calls


@pytest.mark.parametrize("training", [True, False])
def test_the_kernel_is_worked_out_once_where_no_gradient_is_taken(monkeypatch, training):
    net, u = layer().train(training), noise(2, 3, 12)
    expected = net(u).detach()
    calls = counted(net, monkeypatch)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(net(u), expected, rtol=0, atol=0)
        net(u[..., :7])
        net(u[..., :7])
    assert calls == ([12, 12] if training else [12])  # the first call kept its kernel in evaluation; 7 taps are cut from 12


def test_training_works_it_out_each_time(monkeypatch):
    net, u = layer().train(), noise(2, 3, 12)
    calls = counted(net, monkeypatch)
    for _ in range(2):
        net(u).sum().backward()
    assert len(calls) == 2


def scaled_in_place(net):
    with torch.no_grad():
        net.kernel.kernel.log_dt.add_(0.5)


def written_to_data(net):
    net.kernel.kernel.C.data.mul_(2)


def replaced(net):
    net.kernel.kernel.w_imag = torch.nn.Parameter(net.kernel.kernel.w_imag.detach() * 1.5)


def exchanged_data(net):
    net.kernel.kernel.B.data = net.kernel.kernel.B.data * 3


def loaded(net):
    net.load_state_dict({name: t if t.ndim == 0 else t + 0.1 for name, t in net.state_dict().items()})


def rounded(net):
    net.half().float()


def another_length(net):
    net.kernel.kernel.prepare(100)


CHANGES = [scaled_in_place, written_to_data, replaced, exchanged_data, loaded, rounded, torch.nn.Module.double]


@pytest.mark.parametrize("change", [*CHANGES, another_length], ids=lambda f: f.__name__)
def test_a_kept_kernel_is_forgotten_when_its_parameters_change(change):
    net, u = layer().eval(), noise(2, 3, 12)
    with torch.no_grad():
        before = net(u)
        change(net)
        u = u.to(net.D)
        expected = pickle.loads(pickle.dumps(net))(u)
        assert torch.equal(net(u), expected)
        assert change is another_length or not torch.equal(net(u).float(), before)


def test_a_kept_kernel_is_in_no_file_and_no_copy():
    net, u = layer().eval(), noise(2, 3, 12)
    names = list(net.state_dict())
    with torch.no_grad():
        net(u)
    assert net.kernel._kept is not None
    assert list(net.state_dict()) == names
    assert copy.deepcopy(net).kernel._kept is None
    assert pickle.loads(pickle.dumps(net)).kernel._kept is None


def test_gradients_in_evaluation_are_those_of_training(monkeypatch):
    net, u = layer(dtype=torch.float64), noise(2, 3, 12, dtype=torch.float64).requires_grad_()
    net.kernel.kernel.prepare(12)
    net.kernel.kernel.P.requires_grad_(False)
    inputs = [u, *(p for p in net.parameters() if p.requires_grad)]
    expected = torch.autograd.grad(net.train()(u).square().sum(), inputs)
    calls = counted(net.eval(), monkeypatch)
    found = torch.autograd.grad(net(u).square().sum(), inputs)
    assert len(calls) == 2  # to be kept, and for the gradient to the parameters
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    (of_u,) = torch.autograd.grad(net(u).square().sum(), [u])
    assert len(calls) == 2
    torch.testing.assert_close(of_u, expected[0], rtol=1e-12, atol=1e-12)


def test_gradients_of_all_parameters():
    net, u = layer(2, 4, dtype=torch.float64).train(), noise(1, 2, 5, dtype=torch.float64).requires_grad_()
    net.kernel.kernel.prepare(5)
    names = [name for name, _ in net.named_parameters()]
    inputs = [u, *(p.detach().clone().requires_grad_() for p in net.parameters())]

    def output(u, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (u,))

    assert torch.autograd.gradcheck(output, inputs)


def test_what_inference_mode_kept_serves_where_gradients_are_taken():
    net, u = layer().eval().requires_grad_(False), noise(2, 3, 12)
    with torch.inference_mode():
        expected = net(u)
    assert int(net.kernel.kernel.L) == 12
    x = u.clone().requires_grad_()
    out = net(x)
    out.sum().backward()
    assert torch.equal(out, expected)
    assert bool(x.grad.any())


def test_autocast_does_not_reach_the_kernel():
    net, u = layer().eval(), noise(2, 3, 12)
    with torch.no_grad():
        spectrum, expected = net.kernel(12), net(u)
        net.kernel._kept = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(net.kernel(12), spectrum)
            out = net(u)
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.02)


@torch.no_grad()
def test_narrow_parameters_have_a_float32_kernel():
    net = layer().bfloat16()
    assert net.kernel.kernel(12).dtype == torch.float32
    assert net(noise(2, 3, 12).bfloat16()).dtype == torch.bfloat16
    assert kernel(dtype=torch.float64)(12).dtype == torch.float64


@pytest.mark.parametrize(("name", "value"), [("w_imag", math.nan), ("log_dt", math.inf)])
def test_a_kernel_that_is_not_finite_is_refused(name, value):
    fresh, prepared, u = layer(), layer(), noise(2, 3, 12)
    prepared(u)
    for net in (fresh, prepared):
        k = net.kernel.kernel
        k.get_parameter(name).data[0] = value
        C = k.C.clone()
        for training in (True, False):
            with pytest.raises(ValueError, match=rf"kernel of length 12 is not finite: {name} hold"):
                net.train(training)(u)
        assert torch.equal(k.C, C)


def test_what_cannot_be_built_or_run_is_refused():
    with pytest.raises(ValueError, match="state must be even and at least 2, got 7"):
        S4(3, 7)
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        S4Kernel(0)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        kernel()(0)
    for shape in ((2, 4, 12), (3, 12), (2, 3, 0)):
        with pytest.raises(ValueError, match=r"u must have shape \(B, 3, l\)"):
            layer()(torch.zeros(shape))
