"""The shifted chain as a schedule: its tables, Bayes' rule along the chain, respacing, the forward SDE, core samplers."""

import math

import pytest
import torch

from prior.mixture import GaussianMixture
from prior.samplers import DDIM
from prior.schedules import RespacedShifted, Shifted
from tests.prior.shifted import shifted_denoiser

CHAINS = {
    "four": Shifted(),
    "fifteen": Shifted(T=15, min_noise=0.04),
    "weak": Shifted(T=6, kappa=0.5, min_noise=0.1, power=1.0),
    "capped": Shifted(T=15, kappa=1.0, min_noise=0.04, cap=math.sqrt(0.001)),
    "respaced": Shifted(T=15, min_noise=0.04).respace(5),
}
every = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())


def close(a, b, tol=1e-12):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def test_the_released_tables():
    four, fifteen = CHAINS["four"], CHAINS["fifteen"]
    close(four.sqrt_eta, [0.1, 0.520096, 0.761382, 0.99], 1e-6)
    close(four.posterior_variance, [0, 0.0385213, 0.577119, 0.947297], 1e-6)
    close(four.posterior_mean_coefficients[0], [0, 0.0369685, 0.466619, 0.591473], 1e-6)
    close(four.posterior_mean_coefficients[1], [1, 0.963031, 0.533381, 0.408527], 1e-6)
    close(fifteen.sqrt_eta[[0, 1, 7, 13]], [0.02, 0.117165, 0.475858, 0.908606], 1e-6)


def test_the_first_step():
    assert float(Shifted(kappa=0.5).sqrt_eta[0]) == pytest.approx(0.2, abs=1e-15)
    assert float(Shifted(kappa=4.0).sqrt_eta[0]) == pytest.approx(0.05, abs=1e-15)
    assert float(CHAINS["capped"].sqrt_eta[0]) == pytest.approx(math.sqrt(0.001), abs=1e-15)
    assert float(Shifted(cap=math.sqrt(0.001)).sqrt_eta[0]) < float(Shifted(cap=1.0).sqrt_eta[0])


def test_power_one_is_geometric():
    s = CHAINS["weak"].sqrt_eta
    close(s[1:] / s[:-1], [(0.99 / 0.1) ** (1 / 5)] * 5)


@every
def test_tables(chain):
    eta, a, variance = chain.eta, chain.increments, chain.posterior_variance
    c1, c2 = chain.posterior_mean_coefficients
    assert eta.dtype == torch.float64
    assert bool((chain.sqrt_eta.diff() > 0).all())
    assert float(chain.sqrt_eta[-1]) == pytest.approx(0.99, abs=1e-15)
    close(a.sum(), eta[-1])
    close(c1 + c2, torch.ones(chain.T))
    assert bool((variance <= chain.kappa**2 * a).all())
    assert (float(variance[0]), float(c1[0]), float(c2[0])) == (0, 0, 1)
    clipped = chain.posterior_variance_clipped
    close(clipped, torch.cat([variance[1:2], variance[1:]]))
    close(chain.bound_weights[1:], (a / (2 * chain.kappa**2 * eta * chain.eta_prev))[1:], 1e-9)


@every
def test_steps_compose_to_the_marginal(chain):
    """T steps of mean a_t (y - x0) and variance kappa^2 a_t, one after the other."""
    x0, y, mean, variance = 0.3, -0.8, 0.3, 0.0
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    for t in range(chain.T):
        mean, variance = mean + float(chain.increments[t]) * (y - x0), variance + chain.kappa**2 * float(chain.increments[t])
        at = chain.noised(x0 * one, y * one, zero, t)
        close(at, [[mean]])
        close((chain.noised(x0 * one, y * one, one, t) - at) ** 2, [[variance]])
    close(chain.start(y * one, one), [[y + math.sqrt(variance)]])


@every
def test_the_posterior_leads_from_a_marginal_to_the_one_before(chain):
    c1, _ = chain.posterior_mean_coefficients
    close(c1**2 * chain.std**2 + chain.posterior_variance, chain.kappa**2 * chain.eta_prev)
    close(c1 * chain.eta, chain.eta_prev)
    t = torch.arange(chain.T)
    x0, y, eps = torch.randn(3, chain.T, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = chain.posterior_mean(chain.noised(x0, y, 0 * eps, t), x0, t)
    prev = chain.eta_prev.view(-1, 1, 1)
    close(mean, x0 + prev * (y - x0))


def test_times_of_a_batch_are_those_of_its_members():
    chain, t = CHAINS["fifteen"], torch.tensor([0, 14, 7])
    x0, y, eps = torch.randn(3, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    got = chain.noised(x0, y, eps, t)
    assert got.dtype == torch.float32
    for i in range(3):
        close(got[i], chain.noised(x0[i], y[i], eps[i], int(t[i])), 1e-6)


def test_respacing():
    base = CHAINS["fifteen"]
    assert base.respace(5, keep_last=False).kept == (0, 3, 6, 9, 12)
    assert base.respace(4, keep_last=False).kept == (0, 3, 7, 11)
    assert base.respace(5).kept == (0, 4, 7, 11, 14)
    assert base.respace(1).kept == (14,)
    assert base.respace(15).kept == base.respace(15, keep_last=False).kept == tuple(range(15))
    few = base.respace(5)
    close(few.sqrt_eta, base.sqrt_eta[[0, 4, 7, 11, 14]])
    close(few.network_time(torch.arange(5)), [0, 4, 7, 11, 14])
    close(few.respace(3).network_time(torch.tensor([0, 1, 2])), [0, 7, 14])
    one = base.respace(1)
    close(one.posterior_variance_clipped, [4 * 0.99**2])
    assert eval(repr(few), {"RespacedShifted": RespacedShifted, "Shifted": Shifted}) == few


@every
def test_as_a_schedule_of_the_core(chain):
    """y - x0 is noised with alpha = 1 - eta, sigma = kappa sqrt(eta); the SDE holds between the whole times."""
    whole = torch.arange(chain.T)
    close(chain.alpha(whole), 1 - chain.eta)
    close(chain.sigma(whole), chain.std)
    assert (float(chain.alpha(-1.0)), float(chain.sigma(chain.clean))) == (1, 0)
    t = torch.linspace(-1, chain.T - 1, 47, dtype=torch.float64)
    close(chain.time(chain.level(t)), t, 1e-9)
    inside = torch.arange(chain.T, dtype=torch.float64) - 0.3
    h = 1e-5
    close((chain.alpha(inside + h).log() - chain.alpha(inside - h).log()) / (2 * h), chain.drift(inside), 1e-6)
    slope = (chain.sigma(inside + h) ** 2 - chain.sigma(inside - h) ** 2) / (2 * h)
    close(slope - 2 * chain.drift(inside) * chain.sigma(inside) ** 2, chain.diffusion(inside) ** 2, 1e-5)


def test_a_sampler_of_the_core_walks_the_chain():
    """DDIM over the chain's own times: for one Gaussian the probability flow keeps the standard score of every point."""
    mixture = GaussianMixture(torch.ones(1).double(), torch.full((1, 1), 0.6).double(), torch.full((1, 1), 0.04).double())
    chain, mu = Shifted(T=200, min_noise=0.01), torch.full((1, 1), -0.4).double()
    model = shifted_denoiser(mixture, chain, mu)
    times = torch.arange(chain.T - 1, -2, -1, dtype=torch.float64)
    alpha, sigma = float(chain.alpha(chain.T - 1)), float(chain.sigma(chain.T - 1))
    u = alpha * (0.6 + 0.4) + 0.7 * math.sqrt(alpha**2 * 0.04 + sigma**2)
    end = -0.4 + DDIM(clip=False).walk(model, torch.tensor([[u]], dtype=torch.float64), times)
    assert float(end) == pytest.approx(0.6 + 0.7 * 0.2, abs=0.01)


def test_bad_input():
    for arguments, message in (
        ({"T": 1}, r"T must be at least 2, got 1; respace\(1\)"),
        ({"kappa": 0.0}, "kappa must be positive and finite, got 0"),
        ({"min_noise": -1.0}, "min_noise must be positive"),
        ({"power": math.nan}, "power must be positive and finite, got nan"),
        ({"end": 1.0}, r"end must lie strictly between the first sqrt\(eta\), 0.1, and 1, got 1.0"),
        ({"end": 0.05}, "got 0.05"),
        ({"cap": 0.0}, "cap must be positive or None, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Shifted(**arguments)
    chain, x = Shifted(), torch.zeros(2, 3)
    for t in (4, -1, torch.tensor([0, 4]), torch.tensor([0.0, 1.0])):
        with pytest.raises(ValueError, match=r"t must be whole, in 0..3, got"):
            chain.noised(x, x, x, t)
    with pytest.raises(ValueError, match=r"t must lie in \[-1, 3\], got 3.5..3.5"):
        chain.alpha(3.5)
    for count in (0, 5):
        with pytest.raises(ValueError, match=rf"count must lie in 1..4, got {count}"):
            chain.respace(count)
    with pytest.raises(ValueError, match=r"kept must be increasing steps within 0..3, got \(2, 1\)"):
        RespacedShifted(base=chain, kept=(2, 1))
