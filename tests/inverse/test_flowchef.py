"""FlowChef: one step by hand, data reached, the network never differentiated, every schedule, refusals."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from inverse.operators import Blur, Downsample, Identity, Inpaint, Operator
from inverse.samplers import FlowChef
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser, VelocityHead
from prior.mixture import GaussianMixture
from prior.schedules import EDM, VP, RectifiedFlow

MIXTURE = GaussianMixture.random((2, 8, 8), seed=6)
OPERATORS = {
    "pool": lambda: Downsample.area(2),
    "inpaint": lambda: Inpaint.random((2, 8, 8), missing=0.4, seed=1),
    "identity": lambda: Identity(),
}


class Velocity(nn.Module):
    """The velocity towards zero of pixels N(0, 1), float32; counts its calls and refuses gradients."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x, t):
        if torch.is_grad_enabled():
            raise RuntimeError("the network must not be differentiated")
        self.calls += 1
        t = t.view(-1, 1, 1, 1)
        return x * (2 * t - 1) / ((1 - t) ** 2 + t**2)


class Squashed(Operator):
    """``tanh(x)``."""

    def _apply_operator(self, x):
        return torch.tanh(x)


def flow():
    return Denoiser(Velocity(), RectifiedFlow(), VelocityHead(), data_range=(0.0, 1.0))


def noise(like):
    return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(4))


def residual(A, x, y):
    return float((A(x) - y).square().mean().sqrt())


@pytest.mark.parametrize("name", OPERATORS)
def test_reaches_the_data(name):
    A, model = OPERATORS[name](), MIXTURE.denoiser(RectifiedFlow())
    y = A(MIXTURE.sample(2, seed=9))
    out = FlowChef(steps=60).reconstruct(model, A, y, seed=1)
    free = FlowChef(steps=60, step_size=1e-9).reconstruct(model, A, y, seed=1)
    assert residual(A, out.estimate, y) < 0.05
    assert residual(A, free.estimate, y) > 0.3


def test_one_step_by_hand():
    """z - s A^T (A x0 - y) + (t' - t) v; in the last step without the correction."""
    A, model = Downsample.area(2), MIXTURE.denoiser(RectifiedFlow())
    y, z = A(MIXTURE.sample(1)), noise(MIXTURE.sample(1))
    problem, t = Problem(model, A, y), torch.tensor(0.6, dtype=torch.float64)
    p = model(z, t)
    for s, scale in ((0.5, 0.3), (0.0, 0.0)):
        wanted = z - scale * A.adjoint(A(z - 0.6 * p.velocity) - y) + (s - 0.6) * p.velocity
        got = FlowChef(step_size=0.3).step(problem, z, t, torch.tensor(s, dtype=torch.float64), noise)
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


def test_a_network_in_its_own_range():
    """Images in [-1, 1] inside, in [0, 1] outside: the measurement is met all the same."""
    A = Blur.gaussian(1.0)
    low = GaussianMixture(MIXTURE.weights, 2 * MIXTURE.means - 1, 4 * MIXTURE.variances)
    model = low.denoiser(RectifiedFlow(), data_range=(-1.0, 1.0))
    y = A(MIXTURE.sample(1))
    out = FlowChef(steps=40).reconstruct(model, A, y)
    assert residual(A, out.estimate, y) < 0.05


@pytest.mark.parametrize("schedule", [EDM(sigma_max=500.0), VP()], ids=["edm", "vp"])
def test_any_schedule_is_a_straight_flow(schedule):
    """From the same z at the same tau, the walk is the same."""
    A = Downsample.area(2)
    y, z, tau = A(MIXTURE.sample(1)), noise(MIXTURE.sample(1)), torch.linspace(0.95, 0.05, 9, dtype=torch.float64)
    ends = []
    for made in (RectifiedFlow(), schedule):
        problem, times = Problem(MIXTURE.denoiser(made), A, y), made.time(tau / (1 - tau))
        x = (made.alpha(times[0]) + made.sigma(times[0])) * z
        for t, s in pairwise(times):
            x = FlowChef().step(problem, x, t, s, noise)
        ends.append(x / (made.alpha(times[-1]) + made.sigma(times[-1])))
    torch.testing.assert_close(ends[1], ends[0], atol=1e-8, rtol=0)


def test_grid():
    times = FlowChef(steps=4).times(RectifiedFlow())
    torch.testing.assert_close(times, torch.tensor([1 - 1e-5, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64), atol=1e-12, rtol=0)
    assert FlowChef(steps=4).times(EDM())[[0, -1]].tolist() == pytest.approx([80, 0])
    assert len(FlowChef(steps=4, spacing="uniform").times(RectifiedFlow())) == 5


def test_no_samples_no_spread_no_gradient():
    model, A = flow(), Identity()
    y, seen = torch.rand(2, 2, 8, 8), []
    out = FlowChef(steps=7).reconstruct(model, A, y, seed=2, progress=lambda done, total: seen.append((done, total)))
    assert (model.network.calls, out.network_calls, seen[-1]) == (7, 7, (7, 7))
    assert tuple(out.samples.shape) == (0, 2, 2, 8, 8)
    assert out.std is None
    assert out.settings["sampler"] == "FlowChef"
    assert torch.equal(out.estimate, FlowChef(steps=7).reconstruct(model, A, y, seed=2).estimate)
    alone = FlowChef(steps=7).reconstruct(model, A, y[1:], seed=2).estimate
    torch.testing.assert_close(out.estimate[1:], alone, atol=1e-6, rtol=0)


def test_a_nonlinear_operator():
    A, model = Squashed((2, 8, 8)), flow()
    y = A(torch.rand(1, 2, 8, 8))
    out = FlowChef(steps=40).reconstruct(model, A, y)
    free = FlowChef(steps=40, step_size=1e-9).reconstruct(model, A, y)
    assert residual(A, out.estimate, y) < 0.3 * residual(A, free.estimate, y)


def test_bad_input():
    with pytest.raises(ValueError, match="samples must be 1, since FlowChef draws from no posterior, got 3"):
        FlowChef(samples=3)
    with pytest.raises(ValueError, match="step_size must be positive and finite, got 0"):
        FlowChef(step_size=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        FlowChef(steps=0)
    with pytest.raises(ValueError, match="y must be finite"):
        FlowChef().reconstruct(flow(), Identity(), torch.full((1, 2, 8, 8), float("nan")))
