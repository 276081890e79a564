"""The shifted chain: its tables, its algebra, its steps and whole walks, padding and tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from itertools import count
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prior.networks.vq_autoencoder import VQAutoencoder, VQAutoencoderConfig
from prior.schedules import Shifted, ShiftedChain
from restore.resshift.chain import ResShift, ShiftedSampler
from restore.resshift.configuration import SwinUNetConfig
from restore.resshift.losses import ShiftedLoss
from restore.resshift.noise_field import NoiseField
from restore.resshift.picture import composite, restore_picture
from restore.resshift.prediction import PREDICTIONS, SCALINGS, Condition, Shares, ShiftedDenoiser
from restore.resshift.swin_unet import SwinUNet
from restore.resshift.tiles import Tiling, tile_starts
from tests.parity.cases import Case, needs_parity, parity_cases

pytestmark = needs_parity("resshift")

ALGEBRA, PIXEL, LATENT, DECODED, TILES = 1e-5, 2e-4, 3e-4, 2e-5, 1e-5
ULPS = 2.4e-7  # two float32 roundings of values beyond 40, whose spacing comes near 1e-5


def close(got: Tensor, wanted: Tensor, tolerance: float, relative: float = 0.0) -> None:
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=relative)


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", parity_cases("resshift", kind), ids=str)


def chain(config: Mapping[str, Any]) -> ShiftedChain:
    """The chain of a stored configuration; the start is capped where its note says so."""
    made = Shifted(
        T=config["steps"],
        kappa=config["kappa"],
        min_noise=config["min_noise_level"],
        power=config.get("schedule_kwargs", config)["power"],
        end=config["etas_end"],
        cap=math.sqrt(0.001) if "sqrt(0.001)" in config.get("note", "") else None,
    )
    steps = config.get("timestep_respacing")
    return made if steps is None else made.respace(steps, keep_last=False)


def denoiser(network: nn.Module, config: Mapping[str, Any]) -> ShiftedDenoiser:
    scaling = "none" if not config["normalize_input"] else "latent" if config["latent_flag"] else "pixel"
    return ShiftedDenoiser(network, chain(config), prediction=config["predict_type"], scaling=scaling)


class Stub(nn.Module):
    """The affine network of the cases; lq is enlarged to the size of x."""

    def forward(self, x: Tensor, t: Tensor, lq: Tensor) -> Tensor:
        lq = F.interpolate(lq, x.shape[-2:], mode="nearest")
        return 0.4 * x - 0.05 * (t + 1).view(-1, 1, 1, 1) + 0.3 * torch.tanh(lq)


class Identity:
    """A first stage that changes nothing."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


# --- the schedule


@cases("schedules")
def test_schedules(case: Case) -> None:
    for name, config in case.meta["configs"].items():
        made = chain(config)
        c1, c2 = made.posterior_mean_coefficients
        prediction = PREDICTIONS[config.get("predict_type", "xstart")]
        tables = {
            "sqrt_etas": made.sqrt_eta,
            "etas": made.eta,
            "etas_prev": made.eta_prev,
            "alpha": made.increments,
            "posterior_variance": made.posterior_variance,
            "posterior_variance_clipped": made.posterior_variance_clipped,
            "posterior_log_variance_clipped": made.posterior_variance_clipped.log(),
            "posterior_mean_coef1": c1,
            "posterior_mean_coef2": c2,
            "weight_loss_mse": prediction.weights(made),
            "input_std_latent": SCALINGS["latent"](Shares.of(made), made.kappa),
            "input_max_pixel": SCALINGS["pixel"](Shares.of(made), made.kappa),
            "timestep_map": made.network_time(torch.arange(made.T)),
        }
        stored = case.under(f"{name}/")
        assert stored
        for key, wanted in stored.items():
            place = f"{name}/{key}"
            torch.testing.assert_close(tables[key], wanted.double(), rtol=1e-12, atol=0, msg=lambda m, p=place: f"{p}: {m}")


# --- the algebra


@cases("algebra")
def test_algebra(case: Case) -> None:
    made, t, x0 = chain(case.meta["base"]), case["t"], case["x_start"]
    y, noise, x = case["y"], case["noise"], case["x_t"]
    zero = torch.zeros_like(x0)
    variance = made.at(made.std**2, t, x0).expand_as(x0)
    close(made.noised(x0, y, noise, t), case["q_sample"], ALGEBRA)
    close(made.noised(x0, y, zero, t), case["q_mean"], ALGEBRA)
    close(variance, case["q_variance"], ALGEBRA)
    close(variance.log(), case["q_log_variance"], ALGEBRA)
    close(made.posterior_mean(x, x0, t), case["post_mean"], ALGEBRA)
    close(made.at(made.posterior_variance, t, x0).expand_as(x0), case["post_variance"], ALGEBRA)
    clipped = made.at(made.posterior_variance_clipped.log(), t, x0)
    close(clipped.expand_as(x0), case["post_log_variance"], ALGEBRA)
    close(made.start(y, noise), case["prior_sample"], ALGEBRA)
    for name in ("latent", "pixel"):
        close(x / SCALINGS[name](Shares.at(made, t, x), made.kappa), case[f"scale_input_{name}"], ALGEBRA)


@cases("algebra")
def test_predictions_and_losses(case: Case) -> None:
    t, x0, x, noise, lq = (case[key] for key in ("t", "x_start", "x_t", "noise", "lq"))
    condition = Condition(case["y"], lq)
    for name, config in case.meta["cases"].items():
        model = denoiser(Stub(), config)
        terms = ShiftedLoss(weighted=config["weighted_mse"]).terms(model, x0, eps=noise, t=t, condition=condition)
        close(terms.mse, case[f"loss/{name}/mse"], ALGEBRA, ULPS)
        close(terms.x0, case[f"loss/{name}/pred_xstart"], ALGEBRA, ULPS)
        estimate = model(x, t, condition)
        close(estimate, case[f"pmv/{name}/pred_xstart"], ALGEBRA, ULPS)
        close(model.schedule.posterior_mean(x, estimate, t), case[f"pmv/{name}/mean"], ALGEBRA, ULPS)
        zero = torch.zeros_like(x)
        close(ShiftedSampler().step(model, x, t, condition, zero), case[f"pmv/{name}/mean"], ALGEBRA, ULPS)
        close(ShiftedSampler(clip=True).step(model, x, t, condition, noise), case[f"psample_clip/{name}/sample"], ALGEBRA)


@cases("ddim_step")
def test_ddim_step(case: Case) -> None:
    model, condition = denoiser(Stub(), case.meta["diffusion"]), Condition(case["y"], case["lq"])
    stored = case.under("sample_eta")
    assert stored
    for eta, wanted in stored.items():
        sampler = ShiftedSampler(ddim_eta=float(eta))
        close(sampler.step(model, case["x"], case["t"], condition, case["noise"]), wanted, ALGEBRA)


# --- whole walks


def state(name: str) -> Case:
    return next(case for case in parity_cases("resshift", "state") if case.name == name)


def weights(case: Case) -> dict[str, Tensor]:
    """float8 and float16 become float32; the indices stay."""
    return {key: t if t.dtype == torch.int64 else t.float() for key, t in case.tensors.items()}


def known(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that ``kind`` has; the others have one value in every official file."""
    return {field.name: config[field.name] for field in fields(kind) if field.name in config}


def unet(name: str) -> SwinUNet:
    case = state(name)
    network = SwinUNet(SwinUNetConfig(**known(SwinUNetConfig, case.meta["config"]))).eval()
    network.load_state_dict(weights(case), strict=True)
    return network


def autoencoder(name: str) -> VQAutoencoder:
    case = state(name)
    config = {**case.meta["config"], **case.meta["config"]["ddconfig"]}
    network = VQAutoencoder(VQAutoencoderConfig(**known(VQAutoencoderConfig, config))).eval()
    network.load_state_dict(weights(case), strict=True)
    return network


def walked(model: ShiftedDenoiser, condition: Condition, case: Case, sampler: ShiftedSampler, tolerance: float) -> Tensor:
    """The end of a walk with the stored noise, each state and each clean image on the way held against the stored ones."""
    x = model.schedule.start(condition.y, case["noise"][0])
    for i, t in enumerate(reversed(range(model.schedule.T))):
        estimate = model(x, t, condition)
        estimate = estimate.clamp(-1, 1) if sampler.clip else estimate
        close(estimate, case["steps/pred_xstart"][i], tolerance)
        x = sampler.step(model, x, t, condition, case["noise"][1 + i])
        close(x, case["steps/sample"][i], tolerance)
    return x


@cases("sample_pixel")
@torch.no_grad()
def test_pixel_walk(case: Case) -> None:
    config = case.meta["diffusion"]
    model = denoiser(unet(case.meta["unet"]), config)
    restorer = ResShift(model, factor=config["sf"], multiple=1)
    sampler = ShiftedSampler(clip=case.meta["clip_denoised"])
    walked(model, restorer.condition(case["y"]), case, sampler, PIXEL)
    noise = iter(case["noise"])
    out = sampler.walk(model, restorer.condition(case["y"]), lambda like: next(noise))
    close(out, case["out"], PIXEL)
    assert next(noise, None) is None


@cases("sample_latent")
@torch.no_grad()
def test_latent_walk(case: Case) -> None:
    config = case.meta["diffusion"]
    model, first_stage = denoiser(unet(case.meta["unet"]), config), autoencoder(case.meta["autoencoder"])
    restorer = ResShift(model, first_stage, factor=config["sf"], scale=config["scale_factor"], multiple=1)
    y, mask = case["y"], case.tensors.get("kwargs/mask")
    condition = restorer.condition(y, mask)
    close(condition.y, case["z_y"], DECODED)
    sampler = ShiftedSampler(clip=case.meta["clip_denoised"])
    latent = walked(model, condition, case, sampler, LATENT)
    close(latent, case["latent"], LATENT)
    codes, indices = first_stage.quantize(latent / restorer.scale)
    assert torch.equal(indices.flatten(), case["indices"])
    close(first_stage.decode(codes, quantize=False), case["decoded"], DECODED)
    noise = iter(case["noise"])
    out = restorer(y, mask, noise=lambda like: next(noise))
    close(out, case["decoded"].clamp(-1, 1), DECODED)
    if mask is not None:
        close(composite(out * 0.5 + 0.5, y * 0.5 + 0.5, mask * 0.5 + 0.5), case["composited"], DECODED)


# --- padding and tiles


class Stored(NoiseField):
    """The stored draws instead of drawn ones."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__(0)
        self.noise = noise

    def crop(self, like: Tensor, draw: int, top: int, left: int) -> Tensor:
        return self.noise[draw][..., top : top + like.shape[-2], left : left + like.shape[-1]]


@cases("tiling")
def test_tile_starts(case: Case) -> None:
    for key, starts in case.meta["starts (length,patch,stride)"].items():
        assert tile_starts(*map(int, key.split(","))) == starts, key


@cases("tiling")
def test_averaged_tiles(case: Case) -> None:
    for name, config in case.meta.items():
        if not isinstance(config, dict) or "patch" not in config:
            continue
        image, factor, numbers = case[f"{name}/in"], config["sf"], count()
        tiling = Tiling(tile=config["patch"], stride=config["stride"], blend="average", batch=config["extra_bs"])

        def restore(tiles, image=image, factor=factor, numbers=numbers):
            parts = [F.interpolate(tile.crop(image), scale_factor=factor, mode="nearest") for tile in tiles]
            return torch.cat([part + 0.1 * next(numbers) for part in parts])

        strips = list(tiling.strips(restore, tuple(image.shape[-2:]), factor=factor))
        close(torch.cat(strips, -2), case[f"{name}/out"], TILES)


@cases("tiling")
def test_padded_walk(case: Case) -> None:
    config = case.meta["pad"]
    made = config["diffusion"]
    restorer = ResShift(denoiser(Stub(), made), Identity(), factor=made["sf"], multiple=config["offset"])
    got = restore_picture(restorer, case["pad/y"] * 0.5 + 0.5, noise=Stored(case["pad/noise"]))
    close(got * 2 - 1, case["pad/out"].clamp(-1, 1), TILES)
