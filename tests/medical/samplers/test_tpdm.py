"""TPDM: gradients through the network, planes that take turns, steps by hand."""

import math

import pytest
import torch

from medical.samplers import TPDM
from medical.samplers.guidance import guided
from prior.schedules import VE
from tests.medical.classical.problems import Dense, randn
from tests.medical.samplers.problems import MEAN, PROBLEMS, SCHEDULE, TAU, blurred, prior, problem, slices, volumes


def norms(given, x, *, whole_chunks):
    """What ``guided`` differentiates, written out: the sum of |A x - y| over the slices or chunks, or of the volume."""
    stack = given.stack
    r = (stack.A(stack.volume(x)) - stack.y).abs().square().flatten(1).sum(1)
    if stack.volumetric:
        return (r * (1 if whole_chunks else len(x))).sqrt().sum()
    groups = given.prior.run.parts(len(x)) if whole_chunks else [slice(n, n + 1) for n in range(len(x))]
    return sum(r[group].sum().sqrt() for group in groups)


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("whole_chunks", [False, True])
@pytest.mark.parametrize("model", [prior, blurred])
def test_gradient(kind, whole_chunks, model):
    """Chunk by chunk as of the whole function at once; with a network that is not linear and mixes pixels, too."""
    A, y, _ = PROBLEMS[kind]()
    given = problem(model(), A, y, chunk=3)
    x = randn(*given.stack.shape, seed=5, dtype=given.like.dtype).requires_grad_()
    eps, gradient = guided(given.prior, given.stack, x.detach(), 0.5, whole_chunks=whole_chunks)
    exact = given.prior.eps_of(x, 0.5)
    torch.testing.assert_close(eps, exact.detach())
    norms(given, x - 0.5 * exact, whole_chunks=whole_chunks).backward()
    torch.testing.assert_close(gradient, x.grad)
    assert given.prior.calls == (2 if given.stack.volumetric else 1)


def test_gradient_in_closed_form():
    """x_0 = mu + s (x - mu) with s = tau^2 / (tau^2 + sigma^2), so the gradient is s A^T (A x_0 - y) / |A x_0 - y|."""
    A, y, _ = slices()
    given = problem(prior(), A, y)
    x, s = randn(*given.stack.shape, seed=5), TAU**2 / (TAU**2 + 0.25)
    r = A(MEAN + s * (x - MEAN)) - y
    exact = s * A.adjoint(r / r.norm(dim=1, keepdim=True))
    torch.testing.assert_close(guided(given.prior, given.stack, x, 0.5)[1], exact)


def test_a_perfect_fit_has_no_gradient():
    A, y, x = slices(noise=0)
    given = problem(prior(mean=0.0, std=1e9), A, y)  # x_0 = x
    assert torch.isfinite(guided(given.prior, given.stack, x, 0.5)[1]).all()


def moved(x, z, z_predictor, level, evaluate):
    """Corrector and predictor by the book; ``evaluate`` gives score and pull."""
    score, pull = evaluate(x)
    e = 2 * (0.16 * z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)) ** 2
    e = e.view(-1, 1, 1, 1)
    x = x + e * score - pull + (2 * e).sqrt() * z
    score, pull = evaluate(x)
    G2 = level.sigma**2 - level.previous**2
    mean = x + G2 * score - pull
    return mean, mean + math.sqrt(G2) * z_predictor


@pytest.mark.parametrize("make", [slices, volumes])
@pytest.mark.parametrize("carry_mean", [False, True])
def test_primary_step_by_hand(make, carry_mean):
    A, y, _ = make()
    sampler, given = TPDM(steps=6, weight=0.7, norm=2.0, carry_mean=carry_mean), problem(blurred(), A, y)
    at = sampler.start(given)
    x, level = at.x.clone(), sampler.levels(given.prior)[2]
    z, z_predictor = (given.noise(x, 2, draw, slice(0, len(x))) for draw in (1, 2))

    def evaluate(x):
        eps, gradient = guided(given.prior, given.stack, x, level.sigma)
        return -eps / level.sigma, 0.35 * gradient

    sampler.step(given, at, 2)
    mean, noisy = moved(x, z, z_predictor, level, evaluate)
    torch.testing.assert_close(at.x, mean if carry_mean else noisy, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("plane", "axes"), [("coronal", (2, 0, 3)), ("sagittal", (3, 0, 2))])
@pytest.mark.parametrize("other", [True, False])
def test_auxiliary_step_by_hand(plane, axes, other):
    """The auxiliary network sees (z, x) planes along y, or (z, y) planes along x, and no measurement."""
    A, y, _ = slices(5)
    auxiliary = blurred()
    sampler = TPDM(steps=6, plane=plane, auxiliary=auxiliary if other else None, weight=0.7)
    given = problem(prior() if other else auxiliary, A, y)
    at = sampler.start(given)
    x, level = at.x[:, 0].permute(*(a - (a > 1) for a in axes))[:, None], sampler.levels(given.prior)[1]
    z, z_predictor = (given.noise(x, 1, draw, slice(0, len(x))) for draw in (1, 2))
    calls = given.prior.calls
    sampler.step(given, at, 1)

    def evaluate(x):
        return -auxiliary(x, given.prior.time(level.sigma)).eps / level.sigma, 0

    _, noisy = moved(x, z, z_predictor, level, evaluate)
    got = at.x[:, 0].permute(*(a - (a > 1) for a in axes))[:, None]
    torch.testing.assert_close(got, noisy, rtol=1e-9, atol=1e-9)
    assert given.prior.calls == calls + 2


def test_the_last_step_adds_no_noise():
    A, y, _ = slices(4)
    sampler, given = TPDM(steps=3, K=5), problem(prior(), A, y)
    one, two = sampler.start(given), sampler.start(given)
    sampler.step(given, one, 2)
    object.__setattr__(sampler, "carry_mean", True)
    sampler.step(given, two, 2)
    assert torch.equal(one.x, two.x)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_turns(K):
    given = problem(prior(), *slices(2)[:2])
    turns = [TPDM(K=K).primary(given, index) for index in range(60)]
    assert turns == [index % K != K - 1 for index in range(60)]


@pytest.mark.parametrize("K", [1.5, 2.7])
def test_random_turns(K):
    given, other = (problem(prior(), *slices(2)[:2], seed=seed) for seed in (0, 1))
    turns = [TPDM(K=K).primary(given, index) for index in range(2000)]
    share = 1 - 1 / K
    assert abs(sum(turns) / 2000 - share) < 4 * math.sqrt(share * (1 - share) / 2000)
    assert turns == [TPDM(K=K).primary(given, index) for index in range(2000)]
    assert turns != [TPDM(K=K).primary(other, index) for index in range(2000)]


@pytest.mark.parametrize("make", [slices, volumes])
def test_the_pull_explains_the_measurement(make):
    A, y, _ = make(noise=0.02)
    free, pulled = (TPDM(steps=100, K=3, weight=w).reconstruct(prior(), A, y) for w in (0.0, 0.1))
    assert float(pulled.residual.norm()) < 0.5 * float(free.residual.norm())


def test_without_a_pull_draws_are_those_of_the_prior():
    """Mean and spread of 3200 voxels, whose standard errors are 1.8 and 1.3 % of TAU."""
    A = Dense(randn(1, 100), (1, 10, 10))
    x = TPDM(steps=100, weight=0.0).reconstruct(prior(), A, randn(32, 1)).estimate
    assert abs(float(x.mean()) - MEAN) < 0.07 * TAU
    assert 0.94 < float(x.std()) / TAU < 1.08


def test_levels_are_those_that_both_priors_know():
    given = problem(prior(), *slices(2)[:2])
    levels = TPDM(steps=4, auxiliary=prior(schedule=VE(sigma_min=0.1, sigma_max=5.0))).levels(given.prior)
    assert levels[0].sigma == pytest.approx(5.0)
    assert levels[-1].sigma == pytest.approx(0.1)
    assert TPDM(steps=4).levels(given.prior)[0].sigma == pytest.approx(SCHEDULE.sigma_max)
    far = prior(schedule=VE(sigma_min=30.0, sigma_max=50.0))
    with pytest.raises(ValueError, match="common noise levels"):
        TPDM(auxiliary=far).reconstruct(prior(), *slices(2)[:2])


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"plane": "axial"}, "plane must be one of coronal, sagittal"),
        ({"K": 1}, "K must be above 1"),
        ({"K": math.inf}, "K must be above 1"),
        ({"weight": -0.1}, "weight must not be negative"),
        ({"norm": 0.0}, "norm must be positive"),
    ],
)
def test_wrong_settings(wrong, match):
    with pytest.raises(ValueError, match=match):
        TPDM(**wrong)
