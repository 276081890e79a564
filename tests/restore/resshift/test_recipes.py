"""The recipes of restorers: each runs, has the settings of the released model, fine-tunes, and shares work with others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from posterior.training import run
from prior.schedules import Shifted
from restore.resshift import CompactUNet, SwinUNet, SwinUNetConfig, released
from tests.restore.resshift.test_training import TINY_SWIN, compact, data, pictures

CONFIGS = {p.stem: p for p in sorted((Path(__file__).parents[3] / "restore" / "configs").glob("*.yaml"))}
OFFICIAL = {
    "resshift_realsr": "realsr_v3",
    "resshift_bicsr": "bicsr",
    "resshift_inpaint_imagenet": "inpaint_imagenet",
    "resshift_inpaint_face": "inpaint_face",
    "resshift_faceir": "faceir",
    "resshift_deblur": "deblur",
}


def overrides(name, folder):
    """Options that make the recipe small: the network, the autoencoder and the pictures."""
    f, side = (8, 64) if name == "resshift_faceir" else (4, 64 if "inpaint" in name else 32)
    quick = {"batch_size": 1, "batches": 1, "workers": 0, "holdout": 2}
    options = {f"data.init_args.{key}": value for key, value in quick.items()}
    if name == "resshift_deblur":
        options |= {"data.init_args.truth": folder, "data.init_args.degraded": folder, "data.init_args.size": side}
    else:
        options |= {"data.init_args.path": folder, "data.init_args.crop.size": side}
    if name in OFFICIAL:
        recipe = yaml.safe_load(CONFIGS[name].read_text())["model"]["init_args"]
        config = {**recipe["model"]["init_args"]["network"]["init_args"]["config"], **TINY_SWIN}
        config["lq_size"] = 16 * config_of(name).factor
        stage = {"ch": 32, "ch_mult": [1] * (f.bit_length()), "num_res_blocks": 1, "n_embed": 16}
        stage |= {key: config["in_channels"] for key in ("z_channels", "embed_dim") if "in_channels" in config}
        options |= {
            "model.init_args.model.init_args.network.init_args.config": config,
            "model.init_args.first_stage": {
                "class_path": "prior.networks.vq_autoencoder.VQAutoencoder",
                "init_args": {"config": stage},
            },
            "model.init_args.multiple": 8 * config_of(name).factor,
        }
    return [f"--{key}={value if isinstance(value, Path) else json.dumps(value)}" for key, value in options.items()]


def config_of(name):
    return released()[OFFICIAL[name]].unet


SIMILAR = ("resshift_bicsr", "resshift_faceir", "resshift_inpaint_imagenet", "resshift_realsr")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SIMILAR else n for n in CONFIGS])
@pytest.mark.filterwarnings("ignore")
def test_every_recipe_runs(name, tmp_path, monkeypatch):
    folder = pictures(tmp_path / "images", count=2, side=72)
    monkeypatch.chdir(tmp_path)
    fast = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    run(["fit", "--config", str(CONFIGS[name]), *fast, *overrides(name, folder)])


def test_the_shipped_network_fits_into_16_mebibytes():
    settings = yaml.safe_load(CONFIGS["resshift_photos_x4"].read_text())["model"]["init_args"]["model"]["init_args"]
    with torch.device("meta"):
        network = CompactUNet(**settings["network"]["init_args"])
    assert 2 * sum(p.numel() for p in network.parameters()) < 16 * 2**20


def test_there_is_a_recipe_for_every_task():
    assert set(CONFIGS) == {*OFFICIAL, "resshift_photos_x4", "resshift_photos_x4_cpu"}


@pytest.mark.parametrize("name", OFFICIAL)
def test_recipes_have_the_settings_of_the_released_models(name):
    entry, recipe = released()[OFFICIAL[name]], yaml.safe_load(CONFIGS[name].read_text())
    model, trained, batches = recipe["model"]["init_args"], recipe["trainer"], recipe["data"]["init_args"]
    denoiser = model["model"]["init_args"]
    assert SwinUNetConfig(**denoiser["network"]["init_args"]["config"]) == entry.unet
    chain = Shifted(T=entry.steps, kappa=entry.kappa, min_noise=entry.min_noise_level, power=0.3, end=0.99)
    assert Shifted(**denoiser["schedule"]["init_args"]) == chain
    assert (denoiser["prediction"], denoiser["scaling"]) == ("xstart", "latent")
    stage = model["first_stage"]["init_args"]
    assert released()[stage["task"]].autoencoder == entry.autoencoder
    assert Path(stage["path"]).name == entry.autoencoder_file
    assert (model["factor"], model["multiple"]) == (entry.scale, entry.unet.lq_size)
    weight = {"resshift_realsr": 1, "resshift_bicsr": 1, "resshift_deblur": 4}.get(name, 10)
    assert (model["perceptual_weight"], model["lr"], model["final_lr"], model["warmup_steps"]) == (weight, 5e-5, 2e-5, 5000)
    if "inpaint" in name:  # faces are aligned
        assert batches["crop"].get("augmentation", "none") == ("lama" if name == "resshift_inpaint_imagenet" else "none")
    size = {"resshift_faceir": 56, "resshift_deblur": 64}.get(name, 96)
    assert (batches["batch_size"] * trained["accumulate_grad_batches"], trained["max_steps"]) == (size, 400000)
    (average,) = [c["init_args"] for c in trained["callbacks"] if c["class_path"].endswith("EMAWeightAveraging")]
    assert average == {"decay": 0.999, "use_buffers": False}


def test_fine_tuning_by_the_command_line(tmp_path, monkeypatch):
    folder = pictures(tmp_path / "images", count=2, side=40)
    torch.manual_seed(5)
    network = SwinUNet(SwinUNetConfig(**TINY_SWIN))
    torch.save(network.state_dict(), tmp_path / "start.pth")
    monkeypatch.chdir(tmp_path)
    settings = {
        "model.init_args": {"weights": "start.pth", "lr": 1e-9, "final_lr": "null", "perceptual_weight": 0},
        "trainer": {"max_steps": 1, "accelerator": "cpu", "precision": "32-true", "accumulate_grad_batches": 1},
    }
    options = [f"--{group}.{key}={value}" for group, values in settings.items() for key, value in values.items()]
    options += [*overrides("resshift_bicsr", folder), "--trainer.enable_progress_bar=false"]
    run(["fit", "--config", str(CONFIGS["resshift_bicsr"]), *options])
    kept = tmp_path / "runs" / "resshift_bicsr" / "checkpoints" / "last.ckpt"
    weights = torch.load(kept, weights_only=True)["state_dict"]
    assert len(weights) == len(network.state_dict())
    assert all(torch.allclose(weights[f"model.network.{k}"], v, atol=1e-8, rtol=0) for k, v in network.state_dict().items())


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path):
    """Two steps on two processes are two steps with the mean of the gradients of both processes' batches."""
    script = tmp_path / "main.py"
    script.write_text(
        "from pathlib import Path\nimport sys\nsys.path.insert(0, sys.argv[1])\n"
        "from tests.restore.resshift.test_training import compact, data\n"
        "here = Path(sys.argv[2])\n"
        "module = compact()\n"
        "from lightning.pytorch import Trainer\n"
        "fitter = Trainer(default_root_dir=here, accelerator='cpu', devices=2, strategy='ddp', max_steps=2, logger=False,\n"
        "                 enable_progress_bar=False, enable_checkpointing=False, limit_val_batches=1)\n"
        "fitter.fit(module, data(here / 'images'))\n"
        "fitter.save_checkpoint(here / 'two.ckpt')\n"
    )
    pictures(tmp_path / "images")
    root = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, str(script), root, str(tmp_path)], check=True, timeout=300, capture_output=True)
    module, images = compact(), data(tmp_path / "images")
    images.setup("fit")
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.0)
    module.log_dict = lambda *args, **options: None
    for number in range(2):
        optimizer.zero_grad()
        for rank in range(2):
            (module.training_step(images.training(rank)[number], 0) / 2).backward()
        optimizer.step()
    together = torch.load(tmp_path / "two.ckpt", weights_only=True)["state_dict"]
    for key, value in module.state_dict().items():
        torch.testing.assert_close(together[key], value, atol=1e-5, rtol=1e-4)
