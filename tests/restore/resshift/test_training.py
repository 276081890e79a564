"""Training restorers: it learns, its loss is the loss, a resumed run is the uninterrupted one, every recipe runs."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from PIL import Image
from torch import nn

from prior.networks import VQAutoencoder, VQAutoencoderConfig
from prior.randomness import MemberNoise
from prior.schedules import Shifted
from restore.degradations import psnr_y, ssim_y
from restore.resshift import (
    Bicubic,
    CompactUNet,
    Crop,
    DegradedDataModule,
    Holes,
    ResShift,
    ResShiftModule,
    RestorationBatch,
    ShiftedDenoiser,
    ShiftedLoss,
    SwinUNet,
    SwinUNetConfig,
)
from restore.resshift.batches import generator_of

TINY_SWIN = {
    "image_size": 16, "model_channels": 32, "channel_mult": [1], "num_res_blocks": [1], "attention_resolutions": [16],
    "swin_embed_dim": 32, "swin_depth": 2, "lq_size": 16,
}  # fmt: skip


def compact(**options):
    torch.manual_seed(0)
    network = CompactUNet((8, 12), (1, 1), embedding=8)
    model = ShiftedDenoiser(network, Shifted(), scaling="pixel")
    return ResShiftModule(model, factor=4, multiple=4, **{"lr": 3e-3, "final_lr": None, "warmup_steps": 0, **options})


def autoencoder(**options):
    torch.manual_seed(1)
    return VQAutoencoder(VQAutoencoderConfig(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, n_embed=16, **options))


def latent(**options):
    torch.manual_seed(0)
    model = ShiftedDenoiser(SwinUNet(SwinUNetConfig(**TINY_SWIN)), Shifted())
    return ResShiftModule(model, autoencoder(), factor=4, multiple=8, **options)


def pictures(folder, count=2, side=40):
    """Soft ramps with an edge, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(0)
    for i in range(count):
        ends = torch.rand(2, 3, 1, 1, generator=g)
        ramp = torch.linspace(0, 1, side).view(1, side, 1)
        image = ends[0] * ramp + ends[1] * (1 - ramp) + 0.3 * (torch.arange(side) > side // 3 + 5 * i)
        pixels = (image.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"ramp_{i}_0.png")
    return folder


def data(folder, **options):
    options = {"crop": Crop(size=16), "batch_size": 4, "batches": 4, "holdout": 2, **options}
    return DegradedDataModule(str(pictures(folder)), Bicubic(4), **options)


def trainer(path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(default_root_dir=path, accelerator="cpu", devices=1, **{**quiet, **options})


class Curve(Callback):
    """The training loss of every step, and a kill after ``last`` of them."""

    def __init__(self, last=math.inf):
        self.losses, self.last = [], last

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.losses.append(float(outputs["loss"].detach()))
        if len(self.losses) == self.last:
            raise RuntimeError("killed")


# --- it learns


class Dark(Bicubic):
    """The picture is also darker by 0.2, which is quickly learnt."""

    def __call__(self, truth, generator):
        corrupted = super().__call__(truth, generator)
        return corrupted._replace(degraded=corrupted.degraded - 0.2)


def test_loss_falls_and_restorations_improve(tmp_path):
    module, images = compact(lr=5e-3), data(tmp_path / "images", batches=50)
    images.corruption = Dark(4)
    (before,) = trainer(tmp_path).validate(module, images, verbose=False)
    curve = Curve()
    trainer(tmp_path, max_steps=60, limit_val_batches=0, callbacks=[curve]).fit(module, images)
    (after,) = trainer(tmp_path).validate(module, images, verbose=False)
    assert np.mean(curve.losses[:2]) > 0.8 * 0.4**2  # in [-1, 1]
    assert np.mean(curve.losses[-10:]) < 0.2 * np.mean(curve.losses[:2])
    assert after["val/psnr"] > before["val/psnr"] + 4


# --- what it computes


def test_the_loss_is_that_of_the_chain():
    module = latent(weighted=True)
    g = torch.Generator().manual_seed(0)
    truth, degraded = torch.rand(3, 3, 32, 32, generator=g), torch.rand(3, 3, 8, 8, generator=g)
    got = module.training_step(RestorationBatch(truth, degraded, seed=5), 0)
    draws = generator_of(5, "noise")
    t = torch.randint(4, (3,), generator=draws)
    eps = torch.randn(3, 3, 8, 8, generator=draws)
    restorer = ResShift(module.model, autoencoder(), factor=4)
    with torch.no_grad():
        x0, condition = restorer.encode(2 * truth - 1), restorer.condition(2 * degraded - 1)
    expected = ShiftedLoss(weighted=True)(module.model, x0, eps=eps, t=t, condition=condition)
    torch.testing.assert_close(got, expected.mean())
    assert got.requires_grad


def test_the_perceptual_part_reaches_the_network_through_the_decoder():
    class Distance(nn.Module):
        def forward(self, a, b):
            return (a - b).abs().mean((1, 2, 3))

    g = torch.Generator().manual_seed(0)
    batch = RestorationBatch(torch.rand(2, 3, 32, 32, generator=g), torch.rand(2, 3, 8, 8, generator=g), seed=1)
    plain, both = latent(), latent(perceptual=Distance(), perceptual_weight=2.0)
    difference = both.training_step(batch, 0) - plain.training_step(batch, 0)
    assert 0.01 < float(difference.detach()) < 4  # twice a mean absolute difference of images in [-1, 1]
    difference.backward()
    assert max(float(p.grad.abs().max()) for p in both.model.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in both.restorer.first_stage.parameters())


def test_validation_measures_whole_restorations(tmp_path):
    module, images = compact(), data(tmp_path / "images", batch_size=1)
    nn.init.normal_(module.model.network.restore.tail.weight, std=0.05)
    (metrics,) = trainer(tmp_path).validate(module, images, verbose=False)
    (batch,) = images.val_dataloader()
    restored = ResShift(module.model, factor=4, multiple=4)(2 * batch.degraded - 1, noise=MemberNoise(batch.seed, 1)) / 2 + 0.5
    assert metrics["val/psnr"] == pytest.approx(float(psnr_y(restored, batch.truth)), abs=1e-4)
    assert metrics["val/ssim"] == pytest.approx(float(ssim_y(restored, batch.truth)), abs=1e-5)
    (predicted,) = trainer(tmp_path).predict(module, images)
    assert torch.equal(predicted, restored)


def test_inpainting_leaves_what_is_known():
    class Zero(nn.Module):
        def forward(self, x, t, lq, mask):
            assert torch.equal(mask.unique(), torch.tensor([-1.0, 1.0]))
            assert bool((lq[(mask == 1).expand_as(lq)] == -1).all())
            return torch.zeros_like(x)

    module = ResShiftModule(ShiftedDenoiser(Zero(), Shifted(), scaling="pixel"), multiple=1)
    truth = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    _, degraded, mask = Holes(("boxes",))(truth, generator_of(0))
    restored = module(degraded, mask, 0)
    assert torch.equal(restored, torch.where(mask == 1, torch.tensor(0.5), truth))
    assert float(module.training_step(RestorationBatch(truth, degraded, mask, 3), 0)) == pytest.approx(
        float((2 * truth - 1).square().mean()), rel=1e-5
    )


def test_a_new_compact_network_enlarges():
    lq = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    module = compact()
    enlarged = nn.functional.interpolate(2 * lq - 1, scale_factor=4, mode="bicubic").clamp(-1, 1) / 2 + 0.5
    out = ResShift(module.model, factor=4, multiple=1)(2 * lq - 1, noise=MemberNoise(0, 1)) / 2 + 0.5
    torch.testing.assert_close(out, enlarged)
    with pytest.raises(
        ValueError, match=r"x and lq must both have shape \(B, 3, H, W\), got \(1, 3, 8, 8\) and \(1, 3, 2, 2\)"
    ):
        module.model.network(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 3, 2, 2))


def test_what_the_degraded_image_tells_is_computed_once_a_chain(monkeypatch):
    module, g = compact(), torch.Generator().manual_seed(0)
    network = module.model.network
    for tail in (network.restore.tail, network.refine.tail):
        nn.init.normal_(tail.weight, std=0.05, generator=g)
    lq = 2 * torch.rand(2, 3, 6, 7, generator=g) - 1
    restorer, asked = ResShift(module.model, factor=4, multiple=1), []
    monkeypatch.setattr(network.restore, "forward", lambda *a, f=network.restore.forward: asked.append(1) or f(*a))
    shared = restorer(lq, noise=MemberNoise(0, 2))
    assert len(asked) == 1
    monkeypatch.setattr(module.model, "prepared", lambda condition: condition)
    assert torch.equal(shared, restorer(lq, noise=MemberNoise(0, 2)))
    assert len(asked) == 1 + 4
    assert float((shared - restorer.condition(lq).y.clamp(-1, 1)).abs().max()) > 0.01


def test_learning_rate():
    module = compact(lr=1.0, final_lr=0.2, warmup_steps=4)
    expected = [0.25, 0.5, 0.75, 1.0] + [0.2 + 0.4 * (1 + math.cos(math.pi * k / 6)) for k in range(7)]
    assert [module.learning_rate(step, 10) for step in range(11)] == pytest.approx(expected)
    assert module.learning_rate(100, -1) == 1.0
    assert compact(lr=1.0, final_lr=None, warmup_steps=0).learning_rate(7, 10) == 1.0


def test_first_stage_is_kept_apart():
    module = latent()
    assert all(key.startswith("model.network.") for key in module.state_dict())
    stage = module.restorer.first_stage
    assert not stage.training
    assert not any(p.requires_grad for p in stage.parameters())
    module.double().train()
    assert {p.dtype for p in stage.parameters()} == {torch.float64}
    assert not stage.training


# --- starting weights


def test_starts_from_the_official_layout(tmp_path):
    torch.manual_seed(3)
    network = SwinUNet(SwinUNetConfig(**TINY_SWIN))
    wrapped = {"iters_start": 7, "state_dict": {f"module._orig_mod.{k}": v for k, v in network.state_dict().items()}}
    torch.save(wrapped, tmp_path / "model.pth")
    loaded = latent(weights=str(tmp_path / "model.pth")).model.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())
    other = ShiftedDenoiser(SwinUNet(SwinUNetConfig(**{**TINY_SWIN, "lq_size": 32})), Shifted())
    with pytest.raises(ValueError, match="must hold the network of the given configuration"):
        ResShiftModule(other, weights=str(tmp_path / "model.pth"))


def test_starts_from_a_checkpoint_of_its_own(tmp_path):
    module = compact()
    nn.init.normal_(module.model.network.restore.tail.weight)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    loaded = compact(weights=str(tmp_path / "last.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters(), strict=True))
    torch.save({"restore.embed.0.weight": torch.zeros(8, 8)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"weights: .*part.pth must hold the weights of this CompactUNet"):
        compact(weights=str(tmp_path / "part.pth"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        compact(weights=str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"final_lr": 1.0}, "final_lr within 0..lr or None, got 0.003 and 1.0"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"perceptual": nn.Identity()}, "perceptual_weight must be positive where a perceptual distance is given, got 0"),
    ],
)
def test_the_module_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        compact(**options)


def test_a_missing_perceptual_part_is_told():
    with pytest.warns(UserWarning, match="perceptual_weight is 10 but there is no perceptual distance"):
        compact(perceptual_weight=10.0)


# --- resuming


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_killed_run_goes_on_with_the_same_losses(tmp_path, accumulate):
    """Killed amid an epoch, from the checkpoint of the step before; weights and their average end up the same to the bit."""

    def fit(folder, last=math.inf, resume_from=None):
        module, curve = compact(warmup_steps=3, final_lr=1e-4), Curve(last)
        keep = ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        callbacks = [EMAWeightAveraging(decay=0.9, use_buffers=False), keep, curve]
        options = {"max_steps": 9 // accumulate, "accumulate_grad_batches": accumulate, "enable_checkpointing": True}
        fitter = trainer(folder, callbacks=callbacks, limit_val_batches=0, **options)
        with pytest.raises(RuntimeError, match="killed") if last < math.inf else nullcontext():
            fitter.fit(module, data(tmp_path / "images"), ckpt_path=resume_from)
        return curve.losses, module.state_dict()

    whole, weights = fit(tmp_path / "whole")
    first, _ = fit(tmp_path / "killed", last=7)
    step = 6 // accumulate
    rest, resumed = fit(tmp_path / "killed", resume_from=tmp_path / "killed" / f"step={step}.ckpt")
    assert first == whole[:7]
    assert rest == pytest.approx(whole[step * accumulate :], abs=1e-6)
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)


def test_the_average_leaves_the_indices_of_windows_alone(tmp_path):
    module, images = latent(lr=1e-3, warmup_steps=0), data(tmp_path / "images", crop=Crop(size=32), batch_size=1)
    expected = {k: v.clone() for k, v in module.state_dict().items() if not v.is_floating_point()}
    average = {"callbacks": [EMAWeightAveraging(decay=0.999, use_buffers=False)]}
    trainer(tmp_path, max_steps=4, limit_val_batches=0, **average).fit(module, images)
    assert expected
    assert all(torch.equal(module.state_dict()[key], value) for key, value in expected.items())
