"""Training: the loss is the loss, kernels and averages agree, a resumed run is the uninterrupted one, recipes run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import save_file
from torch import nn

from posterior.training import run
from prior.networks.s4_kernel import S4Kernel
from tests.timeseries.waves import config, entries, wave
from timeseries.backbone import RELEASED_SIZES
from timeseries.batches import WindowBatch, generator_of
from timeseries.configuration import TSDiffConfig, default_context
from timeseries.data import RandomWindows, SeriesDataModule, WindowDataModule
from timeseries.frequencies import Frequency
from timeseries.missing import MissingScenario
from timeseries.predictor import TSDiffPredictor
from timeseries.series import series_of
from timeseries.training import TSDiffModule

CONFIGS = {p.stem: p for p in sorted((Path(__file__).parents[2] / "timeseries" / "configs").glob("*.yaml"))}
SHARED = Path(__file__).parents[3] / "shared" / "data" / "timeseries"


def module(**options):
    torch.manual_seed(0)
    return TSDiffModule(config(**options), lr=3e-3)


def data(**options):
    return WindowDataModule(entries(), **{"batch_size": 4, "batches": 3, **options})


def trainer(path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(
        default_root_dir=path, accelerator="cpu", devices=1, num_sanity_val_steps=0, gradient_clip_val=0.5,
        **{**quiet, **options},
    )  # fmt: skip


def one_batch(**options):
    return RandomWindows(series_of(entries(), config(**options)), config(**options), batch_size=4)[0]


def silent(net):
    """The module without a trainer to log to."""
    net.logged = {}
    net.log = lambda name, value, **_: net.logged.update({name: value})
    return net


class Nothing(nn.Module):
    """Sees no noise at all, so that the loss is the mean square of the noise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, features=None):
        return 0 * x + self.weight


# --- the loss


@pytest.mark.parametrize("conditional", [False, True])
def test_the_loss_is_the_mean_square_over_what_is_known(conditional):
    batch = one_batch()
    for part in (batch.past, batch.truth):
        part[1, -3:] = torch.nan
    batch.future[2, :2] = torch.nan
    net = silent(module(conditional=conditional))
    net.model.backbone = Nothing()
    window, known = net.windows(batch)
    generator = generator_of("noise", batch.seed)
    torch.randint(5, (4,), generator=generator)
    eps = torch.randn(window.x.shape, generator=generator)
    assert known.shape == window.x.shape == (4, 16, 1 if conditional else 3)
    assert known[..., 0].sum(1).tolist() == [16, 13, 14, 16]
    expected = eps[known > 0].square().mean()
    torch.testing.assert_close(net.training_step(batch, 0), expected)
    assert net.logged["train/loss"] == expected


def test_the_loss_of_whole_windows_is_the_plain_mean():
    net, batch = silent(module()), one_batch()
    window, known = net.windows(batch)
    assert bool((known == 1).all())
    generator = generator_of("noise", batch.seed)
    t = torch.randint(5, (4,), generator=generator)
    eps = torch.randn(window.x.shape, generator=generator)
    torch.testing.assert_close(net.training_step(batch, 0), net.model.errors(window.x, t, eps).mean())


def test_validation_is_the_mean_over_all_times_with_the_same_noise():
    net, batch = silent(module()).eval(), one_batch()
    net.validation_step(batch, 0)
    first = net.logged["val/loss"].clone()
    net.training_step(one_batch()._replace(seed=5), 0)
    torch.manual_seed(9)
    net.validation_step(batch, 0)
    assert torch.equal(net.logged["val/loss"], first)
    net.model.backbone = Nothing()
    net.validation_step(batch, 0)
    assert float(net.logged["val/loss"]) == pytest.approx(1, abs=0.1)  # 5 x 4 x 16 x 3 squares


def test_what_is_hidden_is_no_feature_but_still_a_target():
    scenario = MissingScenario(kind="BM-E", count=5, context_length=12)
    settings = config(conditional=True)
    batch = RandomWindows(series_of(entries(), settings), settings, batch_size=4, hidden=scenario)[0]
    window, known = module(conditional=True).windows(batch)
    assert bool((known == 1).all())
    x_past, mask = window.features[..., -2], window.features[..., -1]
    assert bool((x_past[:, 7:] == 0).all())
    assert mask[0].tolist() == [1] * 7 + [0] * 9
    torch.testing.assert_close(window.x[:, :12, 0] * window.scale, batch.truth[:, -12:])


def test_a_loss_that_is_no_number_is_refused():
    net = silent(module())
    nn.init.constant_(net.model.backbone.out_linear[2].bias, torch.nan)
    with pytest.raises(ValueError, match="training loss is nan at step 0; lower lr"):
        net.training_step(one_batch(), 0)
    with pytest.raises(ValueError, match="lr must be positive"):
        TSDiffModule(config(), lr=0.0)


# --- kernels, averages, resumption


def kernels(net):
    return [m for m in net.modules() if isinstance(m, S4Kernel)]


def test_kernels_are_settled_before_the_first_window():
    net = silent(module())
    before = [k.C.detach().clone() for k in kernels(net)]
    assert [int(k.L) for k in kernels(net)] == [16]
    net.training_step(one_batch(), 0)
    net.validation_step(one_batch(), 0)
    for k, C in zip(kernels(net), before, strict=True):
        assert torch.equal(k.C, C)
        assert int(k.L) == 16


def test_averages_are_of_the_parameters_of_all_steps(tmp_path):
    steps = []

    class Recorded(EMAWeightAveraging):
        def on_train_batch_end(self, trainer, pl_module, *args):
            steps.append({n: p.detach().clone() for n, p in pl_module.named_parameters()})
            super().on_train_batch_end(trainer, pl_module, *args)

    net = module()
    trainer(tmp_path, max_steps=3, callbacks=[Recorded(decay=0.5, use_buffers=False)]).fit(net, data())
    for name, value in net.named_parameters():
        torch.testing.assert_close(value, steps[0][name] / 4 + steps[1][name] / 4 + steps[2][name] / 2)
    assert [int(k.L) for k in kernels(net)] == [16]


def test_fitting_takes_over_scale_and_statistics(tmp_path):
    known = np.arange(100.0)[None] * np.ones((3, 1))[:1]
    net = module(covariates=1)
    values = WindowDataModule(entries(feat_dynamic_real=known), batch_size=2, batches=1, validation_windows=1)
    trainer(tmp_path, max_steps=1, callbacks=[EMAWeightAveraging(use_buffers=False)]).fit(net, values)
    assert float(net.model.scaler.default_scale) == pytest.approx(values.scale)
    assert net.config.covariate_statistics == values.statistics != ()


def test_training_goes_on_from_weights(tmp_path):
    first = module()
    torch.save({"state_dict": first.state_dict()}, tmp_path / "a.ckpt")
    save_file(first.model.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.ckpt", "a.safetensors"):
        torch.manual_seed(1)
        again = TSDiffModule(config(), weights=str(tmp_path / name))
        for key, value in first.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
    with pytest.raises(ValueError, match=r"a\.ckpt does not hold the weights of the configured TSDiff"):
        TSDiffModule(config(lags=(2,)), weights=str(tmp_path / "a.ckpt"))
    with pytest.raises(FileNotFoundError, match="no file"):
        TSDiffModule(config(), weights=str(tmp_path / "b.ckpt"))


def test_a_checkpoint_brings_its_settings():
    statistics = ((3.0, 2.0),)
    net = module(covariates=1)
    net.on_load_checkpoint({"config": config(covariates=1, covariate_statistics=statistics).as_dict()})
    assert net.config.covariate_statistics == statistics


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    def callbacks():
        return [EMAWeightAveraging(decay=0.5, use_buffers=False)]

    whole, part, rest = module(), module(), module()
    trainer(tmp_path, max_epochs=2, callbacks=callbacks()).fit(whole, data())
    first = trainer(tmp_path, max_epochs=1, callbacks=[*callbacks(), ModelCheckpoint(tmp_path, save_last=True)],
                    enable_checkpointing=True)  # fmt: skip
    first.fit(part, data())
    trainer(tmp_path, max_epochs=2, callbacks=callbacks()).fit(
        rest, data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(rest.state_dict()[name], value), name
    assert not torch.equal(part.model.backbone.out_linear[0].bias, whole.model.backbone.out_linear[0].bias)


def test_the_rate_falls_along_a_cosine(tmp_path):
    net = TSDiffModule(config(), lr=1e-2, final_lr=1e-4)
    rates = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(tmp_path, max_epochs=2, callbacks=[Rates()]).fit(net, data())
    expected = [1e-4 + (1e-2 - 1e-4) * (1 + np.cos(np.pi * i / 6)) / 2 for i in range(6)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"final_lr must lie in 0..lr = 0.01 or be None, got 0.1"):
        TSDiffModule(config(), lr=1e-2, final_lr=0.1)


def test_several_files_are_trained_on_alike(tmp_path):
    for name, start in (("a", "2020-01-01"), ("b", "2021-01-01")):
        target = np.concatenate([wave(60, i) for i in range(2)])
        np.savez(tmp_path / f"{name}.npz", target=target, offsets=[0, 60, 120], start=[start] * 2, freq="h")
    paths = [str(tmp_path / f"{name}.npz") for name in "ab"]
    one, both = SeriesDataModule(paths[0]), SeriesDataModule(paths)
    starts = [str(entry["start"])[:4] for entry in both.entries(config())]
    assert starts == ["2020", "2020", "2021", "2021"]
    assert len(one.entries(config())) == 2


def test_it_learns():
    torch.manual_seed(0)
    net = silent(TSDiffModule(config(T=50), lr=2e-2))
    batches = RandomWindows(series_of(entries(), config()), config(), batch_size=8)
    optimizer = net.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    net.validation_step(batches[0], 0)
    before = float(net.logged["val/loss"])
    for n in range(45):
        optimizer.zero_grad()
        net.training_step(batches[1 + n], n).backward()
        optimizer.step()
    net.validation_step(batches[0], 0)
    assert float(net.logged["val/loss"]) < 0.8 * before


# --- settings and recipes


def test_settings_survive_their_dictionary():
    settings = config(freq="H", covariates=1, covariate_statistics=((1.0, 2.0),), guidance_scale=3.0, conditional=True)
    assert settings.freq == "h"
    assert TSDiffConfig.of_dict(json.loads(json.dumps(settings.as_dict()))) == settings
    with pytest.raises(ValueError, match=r"TSDiffConfig has the settings .*, got \['colour'\]"):
        TSDiffConfig.of_dict({**settings.as_dict(), "colour": 1})
    with pytest.raises(ValueError, match="one pair a covariate"):
        config(covariates=2, covariate_statistics=((1.0, 2.0),))
    with pytest.raises(ValueError, match="prediction_length must be at least 1"):
        TSDiffConfig(freq="h", prediction_length=0)


@pytest.mark.parametrize(("freq", "length", "context"), [("h", 24, 336), ("B", 30, 360), ("D", 7, 360), ("MS", 18, 168)])
def test_default_contexts(freq, length, context):
    assert default_context(Frequency.parse(freq), length) == context
    assert TSDiffConfig(freq=freq, prediction_length=length).context_length == context


def settings_of(name):
    recipe = yaml.safe_load(CONFIGS[name].read_text())
    arguments = dict(recipe["model"]["init_args"]["config"])
    return recipe, TSDiffConfig(**{**arguments, **({"lags": tuple(arguments["lags"])} if "lags" in arguments else {})})


TABLE = {  # freq, H, Lc, channels, input_skip, scale, test and validation windows, epochs
    "exchange": ("B", 30, 360, 13, True, 8, 5, 1000),
    "m4_hourly": ("h", 48, 312, 1, False, 2, 1, 1000),
    "pjm": ("h", 24, 336, 11, False, 4, 7, 1000),
    "etth1": ("h", 24, 336, 11, False, 4, 7, 1000),
    "air_quality": ("h", 48, 312, 11, True, 1, 5, 1000),
    "taxi": ("h", 24, 336, 11, False, 2, 7, 1000),
    "exchange_cond": ("B", 30, 360, 13, True, 1, 5, 100),
    "m4_hourly_cond": ("h", 48, 312, 1, False, 1, 1, 100),
    "pjm_cond": ("h", 24, 336, 11, False, 1, 7, 100),
    "etth1_cond": ("h", 24, 336, 11, False, 1, 7, 100),
    "air_quality_cond": ("h", 48, 312, 11, True, 1, 5, 100),
    "taxi_cond": ("h", 24, 336, 11, False, 1, 7, 100),
}


@pytest.mark.parametrize("name", TABLE)
def test_recipes_have_the_published_settings(name):
    recipe, settings = settings_of(name)
    arguments, fit = recipe["data"]["init_args"], recipe["trainer"]
    got = (
        settings.freq, settings.prediction_length, settings.context_length, settings.assembly.channels, settings.input_skip,
        settings.guidance_scale, arguments["test_windows"], fit["max_epochs"],
    )  # fmt: skip
    assert got == TABLE[name]
    assert arguments["validation_windows"] == arguments["test_windows"]
    assert settings.conditional == name.endswith("_cond")
    assert settings.size == RELEASED_SIZES["diffusion_small_config"]
    assert settings.T == 100
    assert (arguments["batch_size"], arguments["batches"], fit["gradient_clip_val"]) == (64, 128, 0.5)
    assert recipe["model"]["init_args"]["lr"] == 1e-3


def archive(recipe, settings, folder):
    """The data of the recipe where they are, those of the first file, otherwise waves of its frequency."""
    path = recipe["data"]["init_args"]["path"]
    shared = SHARED / Path(path if isinstance(path, str) else path[0]).name
    if shared.is_file():
        return shared
    made = folder / "waves.npz"
    target = np.concatenate([5 + np.sin(np.arange(2000) / 3 + i) for i in range(2)])
    np.savez(made, target=target, offsets=[0, 2000, 4000], start=["2020-01-01"] * 2, freq=settings.freq)
    return made


FAST = ("exchange", "exchange_cond", "hourly")


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS])
@pytest.mark.filterwarnings("ignore")
def test_every_recipe_runs_and_its_checkpoint_forecasts(name, tmp_path, monkeypatch):
    recipe, settings = settings_of(name)
    small = {
        "model.init_args.config.size": {"hidden": 4, "blocks": 1, "embedding": 4},
        "model.init_args.config.T": 2,
        "data.init_args.path": str(archive(recipe, settings, tmp_path)),
        "data.init_args.batch_size": 2,
        "data.init_args.batches": 2,
        "trainer.max_epochs": 1,
        "trainer.check_val_every_n_epoch": 1,
        "trainer.limit_val_batches": 1,
        "trainer.enable_progress_bar": False,
        "trainer.accelerator": "cpu",
    }
    if settings.conditional:
        half = {"kind": "RM", "count": settings.context_length // 2, "context_length": settings.context_length}
        small["data.init_args.hidden"] = half
    options = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in small.items()]
    monkeypatch.chdir(tmp_path)
    run(["fit", "--config", str(CONFIGS[name]), *options])
    (*_, newest) = sorted(Path(f"runs/{name}/checkpoints").glob("*.ckpt"))
    predictor = TSDiffPredictor.from_checkpoint(newest, device="cpu")
    assert predictor.config.prediction_length == settings.prediction_length
    history = {"start": "2020-01-01", "target": 5 + np.sin(np.arange(800.0))}
    (forecast,) = predictor.predict([history], num_samples=2)
    assert forecast.samples.shape == (2, settings.prediction_length)
    assert np.isfinite(forecast.samples).all()


def test_batches_move_between_devices_as_they_are():
    batch = one_batch()
    moved = data().transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert isinstance(moved, WindowBatch)
    assert moved.steps is None
    assert moved.seed == batch.seed
