"""EVODiff against its formulas: a step, the last steps, images without contrast."""

import pytest
import torch

from prior.grids import log_snr
from prior.mixture import GaussianMixture
from prior.samplers import EVODiff
from prior.schedules import EDM
from tests.prior.flow import trajectory
from tests.prior.gaussian import gaussian_model


def problem(steps):
    """The denoiser of a mixture, a start, and times that end before the clean image."""
    times = log_snr(EDM(), steps + 1)[:-1]
    z = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return GaussianMixture.random((2, 3, 3), seed=5).denoiser(EDM()), times[0] * z, times


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def share(a, b):
    return ((a * b).flatten(2).sum(2) / (b * b).flatten(2).sum(2)).clamp(-2, 2)[..., None, None]


@pytest.mark.parametrize("steps", [6, 24])
def test_a_step_of_evodiff(steps):
    model, x, times = problem(steps)
    states = trajectory(EVODiff(), model, x, times)
    u, s, t = times[:3]
    m1, m0, y = model(states[0], u).x0, model(states[1], s).x0, states[1]
    h, r = 1 / t - 1 / s, torch.log(u / s) / torch.log(s / t)
    ddim = t / s * y + t * h * m0
    w = (1 - ((t + times[-1]) / (u + times[-1])) ** 2) / 2
    b = torch.sqrt((t / s) / (s / u))
    b1 = (1 - w) * b + w * share(m0, m1)
    D1 = m0 - b1 * m1
    r_i = torch.maximum(torch.minimum(torch.sigmoid(b1.abs() / 4) * r, 1.5 * r), 0.25 * r)
    predicted = ddim + t * h * D1 / (2 * r_i)
    m = model(predicted, t).x0
    D2 = m - ((1 - w) * b + w * share(m, m0)) * m0
    back, forth = D1 / (r * h), r * D2 / h
    eta = torch.sigmoid((share(forth + back, forth - back) / 2).abs()) / 2
    B = -eta / r * D1 + r * (1 - eta) * D2
    zeta = (share(predicted - ddim - t * h * B / (2 * r_i), D1) / (h * t)).abs() - 0.5
    if steps > 20:
        zeta = -zeta * torch.sigmoid(share(m0, (m0 - m1) / h) * (2 - (t / s) ** 2))
    close(states[2], ddim + t * h * B / (2 * torch.sigmoid(zeta)))


def test_the_last_steps_of_evodiff():
    seen = []
    model, x, times = problem(7)
    model.register_forward_hook(lambda module, args, p: seen.append(p.x0))
    s, t = times[-2:]
    full = trajectory(EVODiff(final="full"), model, x, times)
    seen.clear()
    ddim = trajectory(EVODiff(), model, x, times)
    m1, m0 = seen[-2:]  # the second found at the state that was predicted for s
    h = 1 / t - 1 / s
    close(ddim[-1], t / s * ddim[-2] + t * h * m0)
    official = trajectory(EVODiff(final="official"), model, x, times)
    q = 1 - torch.sqrt(t / s if t / s < 0.5 else t / s - 0.5) / 2
    close(official[-1], (1 - torch.sqrt(s * t)) * ddim[-1] + t * h * (m0 - q * m1) / 2)
    assert torch.equal(ddim[:-1], full[:-1])
    assert torch.equal(ddim[:-1], official[:-1])
    assert float((full[-1] - ddim[-1]).abs().max()) > 1e-6


def test_evodiff_of_black_images():
    model = gaussian_model(EDM(), mean=0.0, std=1e-200)
    got = EVODiff().walk(model, torch.zeros(1, 2, 2, 2, dtype=torch.float64), log_snr(EDM(), 5))
    assert torch.equal(got, torch.zeros_like(got))
