"""The denoiser: every head says the same thing, the identities of a prediction, ranges, times, errors."""

import math

import pytest
import torch
from torch import nn

from prior.denoiser import Denoiser, EDMHead, Head, ImageHead, NoiseHead, ScoreHead, VelocityHead, VHead
from prior.schedules import EDM, VE, Cosine, Linear, RectifiedFlow
from tests.prior.gaussian import gaussian_model

HEADS = [NoiseHead(), ImageHead(), ScoreHead(), VHead(), VelocityHead(), EDMHead(), EDMHead(sigma_data=0.7)]
SCHEDULES = [(Linear(), 400.0), (Cosine(), 312.5), (VE(), 0.6), (EDM(), 0.7), (RectifiedFlow(), 0.4)]
heads = pytest.mark.parametrize("head", HEADS, ids=repr)
schedules = pytest.mark.parametrize(
    ("schedule", "t"), SCHEDULES, ids=lambda v: type(v).__name__ if not isinstance(v, float) else ""
)
MEAN, STD = 0.3, 0.5


class Constant(nn.Module):
    """Returns a stored output."""

    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, x, t):
        return self.out


def images(batch=2, seed=0):
    return torch.randn(batch, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-9):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


@heads
@schedules
def test_every_head_gives_the_posterior_mean(head, schedule, t):
    x = images()
    p = gaussian_model(schedule, head, mean=MEAN, std=STD)(x, t)
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    total = alpha**2 * STD**2 + sigma**2
    close(p.x0, MEAN + STD**2 * alpha * (x - alpha * MEAN) / total)
    close(p.eps, sigma * (x - alpha * MEAN) / total)
    close(p.score, -(x - alpha * MEAN) / total)
    close(p.v, alpha * p.eps - sigma * p.x0)
    close(p.velocity, p.eps - p.x0)


@heads
@schedules
def test_x_is_made_of_x0_and_eps(head, schedule, t):
    x = images()
    model = Denoiser(Constant(images(seed=1)), schedule, head)
    p = model(x, t)
    close(p.alpha * p.x0 + p.sigma * p.eps, x)
    close(model.noised(p.x0, p.eps, t), x)


@heads
@schedules
def test_target_is_the_output_that_gives_x0_and_eps(head, schedule, t):
    x0, eps = images(), images(seed=1)
    model = Denoiser(Constant(None), schedule, head)
    alpha, sigma, _ = model.coefficients(x0, t)
    model.network.out = head.target(x0, eps, alpha, sigma)
    p = model(model.noised(x0, eps, t), t)
    close(p.x0, x0)
    close(p.eps, eps)


@heads
def test_one_call_of_the_network(head):
    model = gaussian_model(Linear(), head)
    model(images(), 10.0)
    assert model.network.calls == 1


@heads
def test_one_time_a_member(head):
    model, x, t = gaussian_model(Linear(), head), images(3), torch.tensor([3, 500, 999])
    p = model(x, t)
    for i in range(3):
        close(p.x0[i : i + 1], model(x[i : i + 1], float(t[i])).x0)
    close(model(x, torch.tensor([7])).x0, model(x, 7).x0)


def test_edm_head_is_the_preconditioning_of_karras():
    fed = {}

    class Spy(nn.Module):
        def forward(self, x, t):
            fed.update(x=x, t=t)
            return torch.ones_like(x)

    x, level, data = images(), 2.0, 0.5
    p = Denoiser(Spy(), EDM(), EDMHead(sigma_data=data))(x, level)
    total = level**2 + data**2
    close(fed["x"], x / math.sqrt(total))
    close(fed["t"], torch.full((2,), math.log(level) / 4, dtype=torch.float64))
    close(p.x0, data**2 / total * x + level * data / math.sqrt(total))


def test_respaced_network_reads_the_original_times():
    seen = []

    class Spy(nn.Module):
        def forward(self, x, t):
            seen.append(t.tolist())
            return x

    Denoiser(Spy(), Linear().respace("250"))(images(), torch.tensor([7, 249]))
    assert seen == [[28.0, 999.0]]


def test_condition_reaches_the_network():
    model = gaussian_model(Linear())
    x, condition = images(), torch.full((2, 1, 1, 1), 0.8, dtype=torch.float64)
    close(model(x, 300, condition).x0, gaussian_model(Linear(), mean=0.8)(x, 300).x0)


def test_learned_variance_is_split_off():
    out = torch.cat([images(), images(seed=5)], 1)
    p = Denoiser(Constant(out), Linear(), learned_variance=True)(images(seed=1), 30)
    close(p.eps, out[:, :3])
    close(p.variance, out[:, 3:])
    assert Denoiser(Constant(images()), Linear())(images(), 30).variance is None


def test_clip_moves_eps_along():
    x = 3 * images()
    p = Denoiser(Constant(images(seed=1)), Linear())(x, 100)
    q = p.clip(-0.5, 0.25)
    assert (q.x0.min().item(), q.x0.max().item()) == (-0.5, 0.25)
    close(q.alpha * q.x0 + q.sigma * q.eps, x)
    inside = (p.x0 > -0.5) & (p.x0 < 0.25)
    close(q.eps[inside], p.eps[inside])
    assert float((q.eps - p.eps)[~inside].abs().min()) > 0


def test_ranges():
    model = Denoiser(Constant(None), Linear(), data_range=(-1, 1))
    image = torch.tensor([0.0, 0.25, 1.0, 1.5])
    assert model.to_network(image).tolist() == [-1.0, -0.5, 1.0, 2.0]
    assert model.to_image(model.to_network(image)).tolist() == image.tolist()


def test_coefficients_have_the_dtype_of_x():
    for dtype in (torch.float32, torch.bfloat16):
        alpha, sigma, time = gaussian_model(Linear()).coefficients(torch.zeros(2, 1, 3, 3, dtype=dtype), 17)
        assert {alpha.dtype, sigma.dtype, time.dtype} == {dtype}
        assert (alpha.shape, time.shape) == ((2, 1, 1, 1), (2,))


def test_a_head_that_reads_levels_changes_its_schedule():
    x, level = images(), 0.7
    model = gaussian_model(EDM(), EDMHead())
    vp = model.with_schedule(Linear())
    t = Linear().time(level)
    close(vp(Linear().alpha(t) * x, t).x0, model(x, level).x0, 1e-7)
    with pytest.raises(TypeError, match=r"only a denoiser with an EDMHead reads noise levels .* NoiseHead\(\)"):
        gaussian_model(Linear()).with_schedule(EDM())


@pytest.mark.parametrize("t", [torch.zeros(3), torch.zeros(2, 1)])
def test_times_must_fit_the_batch(t):
    with pytest.raises(ValueError, match=r"t must be a number or have shape \(2,\), .* got \("):
        gaussian_model(Linear())(images(), t)


def test_output_must_have_the_shape_of_x():
    with pytest.raises(
        ValueError, match=r"must return the shape of x, \(2, 3, 4, 5\), got \(2, 6, 4, 5\); .*learned_variance=True"
    ):
        Denoiser(Constant(torch.zeros(2, 6, 4, 5)), Linear())(images(), 3)


@pytest.mark.parametrize("method", ["x0_eps", "target"])
def test_a_head_without_a_method_says_which(method):
    with pytest.raises(NotImplementedError, match=f"Head must define {method}"):
        getattr(Head(), method)(*[torch.zeros(1)] * 4)
