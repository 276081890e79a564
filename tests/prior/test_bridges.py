"""Brownian bridges: their Gaussians against Bayes' rule, the step's algebra, objectives, walks, refusals."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import nn

from prior.bridges import OBJECTIVES, BridgeDenoiser, BridgeSampler, BrownianBridge
from prior.mixture import GaussianMixture
from tests.prior.shifted import exact_bridge

BRIDGES = {"linear": BrownianBridge(), "sin": BrownianBridge(path="sin"), "narrow": BrownianBridge(T=50, max_var=0.1)}
every = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES.keys())


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-10):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


class Known(nn.Module):
    """Knows the image."""

    def __init__(self, x0):
        super().__init__()
        self.x0, self.calls = x0, 0

    def forward(self, x, t, y):
        self.calls += 1
        return x - self.x0


@every
def test_tables(bridge):
    m, delta, given, posterior = bridge.m, bridge.variance, bridge.conditional_variance, bridge.posterior_variance
    assert len(m) == bridge.T
    assert float(m[-1]) == pytest.approx(0.999, abs=1e-15)
    assert bool((m.diff() > 0).all())
    assert float(delta.max()) == pytest.approx(bridge.max_var / 2, rel=1e-3)
    ratio = ((1 - m[1:]) / (1 - m[:-1])) ** 2
    close(given[1:] + ratio * delta[:-1], delta[1:])  # noise adds up
    close(1 / posterior[1:], 1 / delta[:-1] + ratio / given[1:], 1e-8)  # Bayes' rule
    assert float(posterior[0]) == 0


def test_linear_path_is_even():
    close(BrownianBridge(T=999).m.diff(), torch.full((998,), 0.998 / 998))
    close(BrownianBridge(path="sin").m[:2], [1.0075**-1000, 1.0075 ** (1000 / 999 - 1000)])


@every
@pytest.mark.parametrize(("t", "q"), [(40, 39), (45, 3), (1, 0), (49, 20)])
def test_a_step_keeps_the_marginal(bridge, t, q):
    """From x_t = (1 - m) x0 + m y + sqrt(delta_t) e to the bridge at q: the two variances add to delta_q."""
    x0, y, one = torch.full((1, 1), 0.2).double(), torch.full((1, 1), -0.7).double(), torch.ones(1, 1).double()
    model, sampler, zero = BridgeDenoiser(Known(x0), bridge), BridgeSampler(), torch.zeros(1, 1).double()
    mean = sampler.step(model, bridge.noised(x0, y, zero, t), y, t, q, zero)
    kept = sampler.step(model, bridge.noised(x0, y, one, t), y, t, q, zero) - mean
    fresh = sampler.step(model, bridge.noised(x0, y, zero, t), y, t, q, one) - mean
    close(mean, bridge.noised(x0, y, zero, q))
    close(kept**2 + fresh**2, bridge.variance[q].view(1, 1))
    if q == t - 1:
        close(fresh**2, bridge.posterior_variance[t].view(1, 1))
    half = dataclasses.replace(sampler, eta=0.5).step(model, bridge.noised(x0, y, zero, t), y, t, q, one)
    close(half - mean, fresh / 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_agree(objective):
    mixture, bridge, y = GaussianMixture.random((1, 2, 2), seed=2), BrownianBridge(T=100), double((2, 1, 2, 2))
    x, t = bridge.noised(mixture.sample(2), y, double((2, 1, 2, 2), 1), torch.tensor([30, 80])), torch.tensor([30, 80])
    model = exact_bridge(mixture, bridge, objective)
    close(model(x, t, y), exact_bridge(mixture, bridge)(x, t, y))
    x0, eps = mixture.sample(2, seed=3), double((2, 1, 2, 2), 4)
    target = OBJECTIVES[objective].target(x0, y, eps, *bridge.coefficients(t, x0))
    told = BridgeDenoiser(Told(target), bridge, objective)
    close(told.loss(x0, y, eps, t), torch.zeros(2))
    close(told(bridge.noised(x0, y, eps, t), t, y), x0, 1e-9)
    off = BridgeDenoiser(Told(target + 0.25), bridge, objective)
    close(off.loss(x0, y, eps, t), [0.25, 0.25])


class Told(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, x, t, y):
        return self.out


def test_walk_reaches_a_gaussian_prior():
    """x_0 ~ N(0.6, 0.2^2), whatever y: the bridge starts from y without noise and ends with the prior's moments."""
    mixture = GaussianMixture(torch.ones(1).double(), torch.full((1, 1), 0.6).double(), torch.full((1, 1), 0.04).double())
    model = exact_bridge(mixture, BrownianBridge(max_var=0.5))
    y = torch.full((4000, 1), -1.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    draw = lambda like: torch.randn(like.shape, dtype=torch.float64, generator=generator)  # noqa: E731
    got = BridgeSampler(steps=400).walk(model, y, draw)
    assert float(got.mean()) == pytest.approx(0.6, abs=0.015)
    assert float(got.std()) == pytest.approx(0.2, abs=0.015)


def test_steps():
    assert BrownianBridge().steps(12) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 1, 0]
    assert BrownianBridge(T=50).steps(3) == [49, 1, 0]
    assert BrownianBridge().steps(1000) == list(range(999, -1, -1))
    assert len(BrownianBridge().steps(700)) == 699  # 1 would come twice
    for count in (3, 17, 200, 500):
        times = BrownianBridge().steps(count)
        assert (len(times), times[0], times[-2:]) == (count, 999, [1, 0])
        assert all(a > b for a, b in pairwise(times))


def test_seeds_batches_and_cost():
    y = torch.rand(2, 1, 4, 4)
    mixture = GaussianMixture.random((1, 4, 4))
    model, sampler = exact_bridge(mixture, BrownianBridge(T=60)), BridgeSampler(steps=6)
    out = sampler.sample(model, y, seed=3)
    assert torch.equal(out, sampler.sample(model, y, seed=3))
    torch.testing.assert_close(out[1:], sampler.sample(model, y[1:], seed=4), atol=1e-5, rtol=0)
    assert float((out - sampler.sample(model, y, seed=9)).abs().max()) > 0.01
    network = Known(torch.zeros(2, 1, 4, 4))
    sampler.sample(BridgeDenoiser(network, BrownianBridge(T=60)), y)
    assert network.calls == 6


def test_bad_input():
    for arguments, message in (
        ({"T": 2}, "T must be at least 3, got 2"),
        ({"path": "cosine"}, "path must be one of linear, sin, got 'cosine'"),
        ({"max_var": 0}, "max_var must be positive and finite, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            BrownianBridge(**arguments)
    bridge, x = BrownianBridge(T=10), torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"t must be whole, in 0..9, got 10"):
        bridge.coefficients(10, x)
    with pytest.raises(ValueError, match=r"t must be whole, in 0..9, got 2.5"):
        bridge.coefficients(torch.tensor(2.5), x)
    with pytest.raises(ValueError, match=r"count must lie in 3..10, got 11"):
        BridgeSampler(steps=11).sample(BridgeDenoiser(Known(x), bridge), x)
    with pytest.raises(ValueError, match="objective must be one of grad, noise, ysubx, got 'x0'"):
        BridgeDenoiser(Known(x), bridge, "x0")
    with pytest.raises(ValueError, match=r"y must have the shape of x, \(1, 1, 2, 2\), got \(1, 2, 2\)"):
        BridgeDenoiser(Known(x), bridge)(x, 3, x[0])
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\].*got 1.5"):
        BridgeSampler(eta=1.5)
