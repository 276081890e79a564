"""Adapters: the schedules and heads they recognise, and one network evaluation against what its own library computes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prior.adapters import from_callable, from_diffusers, from_edm, from_latent_diffusion, from_monai, schedule_of
from prior.denoiser import EDMHead, ImageHead, NoiseHead, VelocityHead, VHead
from prior.mixture import GaussianMixture
from prior.schedules import EDM, VE, Cosine, Linear, RectifiedFlow, ScaledLinear, Tabulated

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("schedule", [Linear(), Linear(T=200, beta_max=0.01), ScaledLinear(), Cosine(), Cosine(T=50)], ids=repr)
def test_tables_are_recognised(schedule):
    assert schedule_of(schedule.betas.float()) == schedule


def test_other_tables_stay_tables():
    betas = torch.sigmoid(torch.linspace(-6, 6, 100)) * 0.02 + 1e-4
    schedule = schedule_of(betas)
    assert isinstance(schedule, Tabulated)
    assert schedule.T == 100
    torch.testing.assert_close(schedule.abar, torch.cumprod(1 - betas.double(), 0), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="betas must lie strictly between 0 and 1"):
        schedule_of(torch.tensor([0.1, 1.0]))
    with pytest.raises(ValueError, match="betas must lie strictly between 0 and 1, got none"):
        schedule_of(torch.tensor([]))


def test_a_plain_denoiser_is_a_prior():
    mixture = GaussianMixture.random((3, 4, 4), seed=2)
    exact = mixture.denoiser(EDM())
    model = from_callable(lambda x, sigma: mixture.x0(x, torch.ones_like(sigma), sigma))
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(model(x, 0.7).x0, exact(x, 0.7).x0)
    assert model.data_range == (0.0, 1.0)
    noise = from_callable(lambda x, sigma: exact(x, sigma).eps, returns="noise")
    torch.testing.assert_close(noise(x, 0.7).x0, exact(x, 0.7).x0)
    score = from_callable(lambda x, sigma: exact(x, sigma).score, returns="score")
    torch.testing.assert_close(score(x, 0.7).eps, exact(x, 0.7).eps)
    with pytest.raises(ValueError, match="returns must be one of image, noise, score, got 'v'"):
        from_callable(lambda x, t: x, returns="v")
    with pytest.raises(TypeError, match="function must be callable"):
        from_callable(3)


class Preconditioned(nn.Module):
    """``D = x / (1 + w sigma^2)``, in EDM's calling convention."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, sigma, class_labels=None):
        shift = 0 if class_labels is None else class_labels.sum(1).view(-1, 1, 1, 1)
        return x / (1 + self.w * sigma.view(-1, 1, 1, 1) ** 2) + shift


def test_edm_networks(tmp_path):
    save_file({"w": torch.tensor(4.0)}, tmp_path / "net.safetensors")
    model = from_edm(Preconditioned(), tmp_path / "net.safetensors", sigma_max=10.0)
    torch.testing.assert_close(model(X, 0.5).x0, X / 2)
    assert model.schedule == EDM(sigma_max=10.0)
    labelled = from_edm(Preconditioned(), class_labels=torch.tensor([0.0, 0.25]))
    torch.testing.assert_close(labelled(X, 1.0).x0, X / 2 + 0.25)
    torch.save({"ema": {"module.w": torch.tensor(4.0)}}, tmp_path / "wrapped.pt")
    torch.testing.assert_close(from_edm(Preconditioned(), tmp_path / "wrapped.pt")(X, 0.5).x0, X / 2)
    (tmp_path / "net.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="is a pickle, which can run code"):
        from_edm(Preconditioned(), tmp_path / "net.pkl")


def test_raw_edm_networks_are_preconditioned_here():
    seen = []

    class Raw(nn.Module):
        def forward(self, x, t):
            seen.append((x, t))
            return torch.zeros_like(x)

    model = from_edm(Raw(), preconditioned=False, sigma_data=0.5)
    assert isinstance(model.head, EDMHead)
    torch.testing.assert_close(model(X, 0.5).x0, X / 2)  # c_skip = 0.25 / 0.5
    x, t = seen[0]
    torch.testing.assert_close(x, X / 0.5**0.5)
    torch.testing.assert_close(t, torch.full((2,), 0.5).log() / 4)


class FakeUNet(nn.Module):
    """A U-Net in diffusers' calling convention; the output remembers time and prompt."""

    def __init__(self, in_channels: int = 3, out_channels: int = 3) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=in_channels, out_channels=out_channels)

    def forward(self, x, t, encoder_hidden_states=None):
        prompt = 0 if encoder_hidden_states is None else encoder_hidden_states.mean((1, 2)).view(-1, 1, 1, 1)
        out = 0.1 * x + 1e-3 * t.view(-1, 1, 1, 1) + prompt
        return SimpleNamespace(sample=torch.cat([out] * (self.config.out_channels // self.config.in_channels), 1))


def scheduler(prediction: str = "epsilon", **more: object) -> SimpleNamespace:
    betas = {"betas": Linear().betas.float()} if not more else {}
    return SimpleNamespace(config=SimpleNamespace(prediction_type=prediction, **more), **betas)


@pytest.mark.parametrize(("prediction", "head"), [("epsilon", NoiseHead), ("sample", ImageHead), ("v_prediction", VHead)])
def test_diffusers_heads(prediction, head):
    model = from_diffusers(FakeUNet(), scheduler(prediction))
    assert isinstance(model.head, head)
    assert model.schedule == Linear()
    p = model(X, 300)
    torch.testing.assert_close(model.head.target(p.x0, p.eps, p.alpha, p.sigma), 0.1 * X + 0.3, atol=1e-5, rtol=1e-5)


def test_diffusers_guidance_needs_two_prompts():
    for prompts in ({}, {"prompt": torch.zeros(1, 2, 3)}, {"negative": torch.zeros(1, 2, 3)}):
        with pytest.raises(ValueError, match=r"guidance = 3\.0 needs both prompt and negative"):
            from_diffusers(FakeUNet(), scheduler(), guidance=3.0, **prompts)


def test_diffusers_noise_and_guidance():
    torch.testing.assert_close(from_diffusers(FakeUNet(), scheduler())(X, 300).eps, 0.1 * X + 0.3)
    pipeline = SimpleNamespace(unet=FakeUNet(3, 6), scheduler=scheduler())
    assert from_diffusers(pipeline)(X, 300).variance.shape == X.shape
    prompt, negative = torch.full((1, 4, 8), 0.2), torch.full((1, 4, 8), 0.1)
    guided = from_diffusers(FakeUNet(), scheduler(), prompt=prompt, negative=negative, guidance=3.0)
    torch.testing.assert_close(guided(X, 300).eps, 0.1 * X + 0.3 + 0.1 + 3 * 0.1)


def test_diffusers_continuous_schedules():
    flow = from_diffusers(FakeUNet(), scheduler(use_flow_sigmas=True, num_train_timesteps=1000))
    assert flow.schedule == RectifiedFlow(time_scale=1000.0)
    assert isinstance(flow.head, VelocityHead)
    torch.testing.assert_close(flow(X, 0.4).velocity, 0.1 * X + 0.4)
    edm = from_diffusers(FakeUNet(), scheduler(sigma_data=0.5, sigma_min=0.002, sigma_max=80.0))
    assert edm.schedule == EDM()
    ScoreSdeVe = type("ScoreSdeVeScheduler", (SimpleNamespace,), {})
    ve = from_diffusers(FakeUNet(), ScoreSdeVe(config=SimpleNamespace(sigma_min=0.01, sigma_max=50.0)))
    assert ve.schedule == VE(reads_sigma=True)
    sigma = float(ve.schedule.sigma(0.5))
    torch.testing.assert_close(ve(X, 0.5).score, 0.1 * X + 1e-3 * sigma)


def test_diffusers_errors():
    with pytest.raises(ValueError, match="scheduler must be given with a bare U-Net"):
        from_diffusers(FakeUNet())
    with pytest.raises(ValueError, match="prediction_type must be one of epsilon, sample, v_prediction, got 'flow'"):
        from_diffusers(FakeUNet(), scheduler("flow"))
    with pytest.raises(TypeError, match="works on latents"):
        from_diffusers(SimpleNamespace(unet=FakeUNet(), scheduler=scheduler(), vae=object()))
    with pytest.raises(TypeError, match="has no vae or vqvae"):
        from_latent_diffusion(SimpleNamespace(unet=FakeUNet(), scheduler=scheduler()))
    with pytest.raises(TypeError, match="scheduler must be one of MONAI's"):
        from_monai(nn.Identity(), object())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_real_diffusers_steps_as_ours(prediction):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'dev'")
    unet = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    theirs = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False)
    theirs.set_timesteps(50)
    pipeline = diffusers.DDIMPipeline(unet=unet, scheduler=theirs)
    model = from_diffusers(pipeline)
    with torch.no_grad():
        out = unet(X, 500).sample
        expected = theirs.step(out, 500, X)
        p = model(X, 500)
        stepped = model.schedule.alpha(480).float() * p.x0 + model.schedule.sigma(480).float() * p.eps
    torch.testing.assert_close(p.x0, expected.pred_original_sample, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(stepped, expected.prev_sample, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["linear_beta", "scaled_linear_beta", "cosine"])
def test_real_monai_steps_as_ours(schedule):
    pytest.importorskip("monai", reason="needs the extra 'dev'")
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import DDIMScheduler

    unet = DiffusionModelUNet(
        spatial_dims=2, in_channels=3, out_channels=3, channels=(8, 16), attention_levels=(False, False), num_res_blocks=1,
        norm_num_groups=4, num_head_channels=4,
    )  # fmt: skip
    theirs = DDIMScheduler(num_train_timesteps=1000, schedule=schedule, clip_sample=False)
    theirs.set_timesteps(50)
    model = from_monai(unet.eval(), theirs)
    with torch.no_grad():
        expected, x0 = theirs.step(unet(X, torch.full((2,), 500)), 500, X)
        p = model(X, 500)
        stepped = model.schedule.alpha(480).float() * p.x0 + model.schedule.sigma(480).float() * p.eps
    torch.testing.assert_close(p.x0, x0, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(stepped, expected, atol=5e-5, rtol=2e-4)
