"""The diffusion of ADM against stored numbers of the official implementation; spec adm_unet, section 2.

Tolerances: 1e-6 relative for float64 tables, 2e-6 absolute for float32 results, 1e-5 relative for losses.
"""

import pytest
import torch
from torch import nn

from prior.denoiser import Denoiser, ImageHead, NoiseHead
from prior.losses import HybridLoss, VariationalLoss, denoising_loss, prior_bpd, variational_bound
from prior.networks.embedding import sinusoidal_embedding
from prior.samplers import DDIM, DDPM
from prior.schedules import Cosine, Linear
from tests.parity.cases import needs_parity, parity_cases

pytestmark = needs_parity("adm_unet")

SCHEDULES = {"linear": Linear, "cosine": Cosine}
HEADS = {"epsilon": NoiseHead, "start_x": ImageHead}
cases = pytest.mark.parametrize("case", parity_cases("adm_unet", "diffusion_math"), ids=str)


class Recorded(nn.Module):
    """Answers the stored output and remembers the time it was asked for."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, t):
        self.seen = t
        return self.output


def spaced(case):
    base = SCHEDULES[case.meta.get("noise_schedule", "linear")](T=case.meta["num_train_timesteps"])
    return base.respace(case.meta["respacing"])


def model_of(case):
    learned = case.meta["var_type"] == "learned_range"
    return Denoiser(Recorded(case["model_output"]), spaced(case), HEADS[case.meta["mean_type"]](), learned_variance=learned)


def assert_image(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


def assert_loss(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)


@cases
def test_betas(case):
    for name, expected in case.under("betas_").items():
        torch.testing.assert_close(SCHEDULES[name](T=len(expected)).betas, expected, rtol=1e-6, atol=0)


@cases
def test_kept_steps(case):
    base = Linear(T=case.meta["num_train_timesteps"])
    for steps, expected in case.meta["space_timesteps"].items():
        assert list(base.respace(steps).kept) == sorted(expected)


@cases
def test_respaced_tables(case):
    schedule = spaced(case)
    c1, c2 = schedule.posterior_mean_coefficients
    tables = {
        "betas": schedule.betas,
        "alphas_cumprod": schedule.abar,
        "posterior_variance": schedule.posterior_variance,
        "posterior_log_variance_clipped": schedule.posterior_log_variance,
        "posterior_mean_coef1": c1,
        "posterior_mean_coef2": c2,
    }
    stored = case.under("spaced/")
    assert stored.keys() <= tables.keys()
    for name, expected in stored.items():
        torch.testing.assert_close(tables[name], expected, rtol=1e-6, atol=0, msg=lambda m, name=name: f"{name}: {m}")


@cases
@pytest.mark.parametrize(("name", "clip"), [("pmv_clip", True), ("pmv_noclip", False)])
def test_mean_and_variance(case, name, clip):
    model, t = model_of(case), case["t"].double()
    x0 = model(case["x_t"], t).x0
    assert_image(x0.clamp(-1, 1) if clip else x0, case[f"{name}/pred_xstart"])
    mean, log_variance = DDPM(clip=clip).mean_and_log_variance(model, case["x_t"], t, t - 1)
    assert_image(mean, case[f"{name}/mean"])
    assert_image(log_variance, case[f"{name}/log_variance"])
    assert_image(log_variance.exp(), case[f"{name}/variance"])
    assert model.network.seen.tolist() == case["t_seen_by_model"].tolist()


@cases
@pytest.mark.parametrize(("name", "guided"), [("ddpm_step", False), ("ddpm_step_guided", True)])
def test_ancestral_step(case, name, guided):
    guidance = (lambda x, t: case["cond_grad"]) if guided else None
    t = case["t"].double()
    assert_image(DDPM().step(model_of(case), case["x_t"], t, t - 1, case[f"{name}/noise"], guidance), case[name])


def rounded(case, s, eta, eps):
    """What the official rounding adds to a step that arrives at ``s``: abar_s goes to float32 before ``1 - abar_s``.

    That moves the weight of eps, by up to 4e-5 of it near the clean end; the library keeps the coefficient exact.
    """
    t, schedule = case["t"].double(), spaced(case)
    abar, abar_t = schedule.alpha(s) ** 2, schedule.alpha(t) ** 2
    variance = eta**2 * (1 - abar) / (1 - abar_t) * (1 - abar_t / abar) if eta else torch.zeros_like(abar)
    weight, official = ((1 - a - variance).clamp(min=0).sqrt() for a in (abar, abar.float().double()))
    return ((official - weight).view(-1, 1, 1, 1) * eps).float()


def clipped(case):
    return model_of(case)(case["x_t"], case["t"]).clip()


@cases
def test_ddim_steps(case):
    t, p = case["t"].double(), clipped(case)
    steps = {name: expected for name, expected in case.under("ddim_step_eta").items() if "/" not in name}
    assert steps
    for eta, expected in steps.items():
        got = DDIM(eta=float(eta)).step(model_of(case), case["x_t"], t, t - 1, case[f"ddim_step_eta{eta}/noise"])
        assert_image(got + rounded(case, t - 1, float(eta), p.eps), expected)


@cases
def test_guided_ddim_step(case):
    t, p = case["t"].double(), clipped(case)
    got = DDIM().step(model_of(case), case["x_t"], t, t - 1, None, lambda x, t: case["cond_grad"])
    assert_image(got + rounded(case, t - 1, 0.0, p.eps - p.sigma * case["cond_grad"]), case["ddim_step_guided"])


@cases
def test_reverse_ddim_step(case):
    t, p = case["t"].double(), clipped(case)
    got = DDIM().step(model_of(case), case["x_t"], t, t + 1, None)
    assert_image(got + rounded(case, t + 1, 0.0, p.eps), case["ddim_reverse_step"])


@cases
def test_noised_image(case):
    assert_image(model_of(case).noised(case["x_start"], case["noise"], case["t"]), case["q_sample"])


@cases
def test_losses(case):
    model, x0, noise, t = model_of(case), case["x_start"], case["noise"], case["t"].double()
    assert_loss(denoising_loss(model, x0, noise, t), case["loss_rescaled_mse/mse"])
    p = model(model.noised(x0, noise, t), t)
    scale = model.schedule.T / 1000
    assert_loss(scale * variational_bound(model, p, p.x0, x0, t), case["loss_rescaled_mse/vb"])
    assert_loss(HybridLoss()(model, x0, noise, t), case["loss_rescaled_mse/loss"])
    assert_loss(VariationalLoss()(model, x0, noise, t), case["loss_rescaled_kl/loss"])


@cases
def test_prior_bpd(case):
    assert_loss(prior_bpd(spaced(case), case["x_start"]), case["prior_bpd"])


@cases
def test_time_embeddings(case):
    for width, expected in case.under("temb_").items():
        times = torch.tensor(case.meta["temb_t"], dtype=torch.float32)
        if len(times) != len(expected):  # times not stored: read them off the slowest sinusoid, to the nearest half
            half = int(width) // 2
            slowest = 10000.0 ** (-(half - 1) / half)
            phase = torch.atan2(expected[:, 2 * half - 1].double(), expected[:, half - 1].double())
            times = (2 * phase / slowest).round().float() / 2
        assert_image(sinusoidal_embedding(times, int(width)), expected)
