"""Training: it learns, its logs are what they say, every configuration runs, a resumed run is the uninterrupted one."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from PIL import Image
from torch.utils.data import DataLoader

from posterior.training import run
from prior.denoiser import Denoiser, EDMHead, NoiseHead
from prior.losses import DenoisingLoss, HybridLoss, UniformTimes, VariationalLoss, denoising_loss
from prior.networks.residual_unet import ResidualUNet
from prior.schedules import EDM, Linear
from prior.training import DiffusionModule
from tests.prior.gaussian import gaussian_model

CONFIGS = [
    p
    for p in sorted((Path(__file__).parents[2] / "prior" / "configs").glob("*.yaml"))
    if "trainer" in yaml.safe_load(p.read_text())
]


class Doubled(torch.nn.Module):
    """A network that learns its variance, made of one that does not."""

    def __init__(self):
        super().__init__()
        self.net = tiny_network()
        self.variance = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return torch.cat([self.net(x, t / 1000), self.variance.expand_as(x)], 1)


def tiny_network():
    return ResidualUNet(3, channels=[8, 12], blocks=[1, 1], embedding=8)


def tiny_module(**options):
    torch.manual_seed(0)
    denoiser = Denoiser(tiny_network(), EDM(sigma_min=0.005, sigma_max=80.0), EDMHead())
    return DiffusionModule(denoiser, **{"lr": 3e-3, "warmup_steps": 2, "val_levels": (0.2, 1.0), **options})


def smooth_images(count=8, side=16):
    """Soft ramps of two colours: easy to denoise."""
    g = torch.Generator().manual_seed(0)
    ends = torch.rand(count, 3, 1, 2, generator=g)
    ramp = torch.linspace(0, 1, side).view(1, 1, side, 1)
    return (ends[..., :1] * ramp + ends[..., 1:] * (1 - ramp)).expand(count, 3, side, side).contiguous()


def loader(batch_size=4):
    return DataLoader(list(smooth_images()), batch_size)


def trainer(path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(default_root_dir=path, accelerator="cpu", devices=1, **{**quiet, **options})


def validate(module, path):
    (metrics,) = trainer(path).validate(module, loader(), verbose=False)
    return metrics


# --- it learns


def test_loss_falls_and_psnr_rises(tmp_path):
    module = tiny_module(lr=1e-2)
    before = validate(module, tmp_path)
    trainer(tmp_path, max_steps=300, limit_val_batches=0).fit(module, loader())
    after = validate(module, tmp_path)
    assert before["val/loss"] == pytest.approx(1.0, abs=0.1)  # a new network says zero; the target's variance is near one
    assert after["val/loss"] < 0.6
    assert after["val/psnr_0.2"] > before["val/psnr_0.2"] + 1.2
    assert after["val/psnr_1"] > before["val/psnr_1"] + 3.5


@pytest.mark.parametrize("loss", [HybridLoss(), VariationalLoss()], ids=repr)
def test_the_variational_losses_train(tmp_path, loss):
    torch.manual_seed(0)
    denoiser = Denoiser(Doubled(), Linear(), NoiseHead(), learned_variance=True)
    module = DiffusionModule(denoiser, UniformTimes(), lr=3e-3, warmup_steps=1, val_levels=(1.0,), loss=loss)
    x0 = denoiser.to_network(smooth_images())
    g = torch.Generator().manual_seed(1)
    t, eps = UniformTimes().sample(Linear(), 8, g), torch.randn(x0.shape, generator=g)

    def value():
        with torch.no_grad():
            return float(loss(denoiser, x0, eps, t).mean())

    before = value()
    trainer(tmp_path, max_steps=30, limit_val_batches=0).fit(module, loader())
    assert value() < 0.9 * before
    assert denoiser.network.variance.item() != 0.0


# --- what it logs and computes


def test_validation_psnr_is_that_of_the_denoiser(tmp_path):
    images, level = smooth_images(), 0.4
    module = DiffusionModule(gaussian_model(EDM(), EDMHead(), mean=0.5, std=0.3), val_levels=(level,))
    metrics = validate(module, tmp_path)
    expected = []
    for index, batch in enumerate(images.split(4)):
        noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(index))
        x = batch + level * noise
        x0 = 0.5 + 0.09 / (0.09 + level**2) * (x - 0.5)
        expected.append(-10 * torch.log10((x0 - batch).square().mean((1, 2, 3))))
    assert metrics["val/psnr_0.4"] == pytest.approx(float(torch.cat(expected).mean()), abs=1e-3)
    assert metrics == validate(module, tmp_path)


def test_training_loss_is_the_denoising_loss_by_default():
    module, batch = tiny_module(), smooth_images(4)
    assert module.loss == DenoisingLoss()
    torch.manual_seed(3)
    got = module.training_step(batch, 0)
    torch.manual_seed(3)
    t = module.times.sample(module.denoiser.schedule, 4)
    x0 = module.denoiser.to_network(batch)
    assert torch.equal(got, denoising_loss(module.denoiser, x0, torch.randn_like(x0), t).mean())


def test_predict_denoises(tmp_path):
    module = tiny_module()
    (out, _) = trainer(tmp_path).predict(module, loader())
    assert out.shape == (4, 3, 16, 16)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_state_dict_holds_the_denoiser_alone():
    assert all(key.startswith("denoiser.network.") for key in tiny_module(loss=HybridLoss()).state_dict())


def test_learning_rate_warms_up_and_falls_along_a_cosine(tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_start(self, trainer, module, batch, index):
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    rates = Rates()
    trainer(tmp_path, max_steps=10, limit_val_batches=0, callbacks=[rates]).fit(tiny_module(lr=1.0, warmup_steps=4), loader())
    expected = [min(1.0, (k + 1) / 4) * 0.5 * (1 + math.cos(math.pi * k / 10)) for k in range(10)]
    assert rates.seen == pytest.approx(expected)


# --- configurations


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_runs(config, tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        Image.new("RGB", (20, 18), (40 * i, 90, 200)).save(images / f"flat_{i}_0.png")
    monkeypatch.chdir(tmp_path)  # whatever a recipe writes lands here
    small = {"path": images, "crop": 16, "batch_size": 2, "batches": 1}
    overrides = [f"--data.init_args.{key}={value}" for key, value in small.items()]
    run(["fit", "--config", str(config), "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", *overrides])


def test_there_is_a_configuration():
    assert "photos" in [config.stem for config in CONFIGS]


def test_a_configuration_chooses_its_loss(tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (20, 18), (40, 90, 200)).save(images / "flat_0_0.png")
    monkeypatch.chdir(tmp_path)
    photos = next(config for config in CONFIGS if config.stem == "photos")
    options = ["--model.init_args.loss=prior.losses.HybridLoss", f"--data.init_args.path={images}", "--data.init_args.crop=16"]
    with pytest.raises(ValueError, match="model must learn its variance for a variational bound"):
        run(["fit", "--config", str(photos), "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", *options])


# --- resuming


class SeedEachStep(Callback):
    """Draws of a step depend on its number alone."""

    def on_train_batch_start(self, trainer, module, batch, index):
        torch.manual_seed(trainer.global_step)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """To the bit: weights, their average, the optimizer and the learning rate.

    A checkpoint holds neither the state of the random generator nor the place in the data loader, so that crops, times
    and noise after a resumption are other draws of the same distribution; here every step has its seed and one batch.
    """

    def fit(resume_from=None):
        module = tiny_module()
        keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_epochs=1, save_top_k=-1)
        callbacks = [SeedEachStep(), EMAWeightAveraging(decay=0.9), keep]
        options = {"max_steps": 6, "callbacks": callbacks, "enable_checkpointing": True, "limit_val_batches": 0}
        trainer(tmp_path, **options).fit(module, loader(batch_size=8), ckpt_path=resume_from)
        return module.state_dict()

    whole = fit()
    halfway = tmp_path / "step=4.ckpt"
    start = torch.load(halfway, weights_only=False)["state_dict"]
    assert any(not torch.equal(start[key], whole[key]) for key in whole)
    resumed = fit(halfway)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
