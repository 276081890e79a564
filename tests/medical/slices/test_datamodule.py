"""Slices as a LightningDataModule, and the recipes of the shipped priors on a tiny pack."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from medical.slices import Augment, SliceDataModule

CONFIGS = Path(__file__).parents[3] / "medical/configs"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(5):
        array = rng.integers(0, 1000, (40, 40, index + 1)).astype(np.int16)
        (tmp_path / f"s{index}.nii").write_bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())
    return tmp_path


def module(folder, **settings):
    data = SliceDataModule(str(folder), "mr", Augment(size=32), batch_size=3, batches=2, **settings)
    data.setup("fit")
    return data


def test_subjects_are_split(folder):
    data = module(folder, holdout=3)
    assert [len(s) for s in data.val_subjects] == [1, 4]
    assert [len(s) for s in data.train_subjects] == [2, 3, 5]


def test_batches(folder):
    data = module(folder)
    batches = list(data.train_dataloader())
    assert [tuple(b.shape) for b in batches] == [(3, 1, 32, 32)] * 2
    assert {tuple(b.shape[1:]) for b in data.val_dataloader()} == {(1, 32, 32)}


def test_validation_slices_are_whole_and_few(folder):
    data = module(folder, holdout=2)
    shown = torch.cat(list(data.val_dataloader()))
    assert len(shown) == 1 + 3 + 5
    torch.testing.assert_close(shown[0, 0], data.val_subjects[0][0, 4:36, 4:36])


def test_validation_has_no_phase(folder):
    data = SliceDataModule(str(folder), "mr", Augment(size=32, phase=0.5), batch_size=2, batches=1)
    data.setup("fit")
    assert all(float(batch.min()) >= 0 for batch in data.val_dataloader())


@pytest.mark.parametrize(("crowding", "share"), [(0.0, 0.5), (1.0, 0.9)])
def test_crowding(folder, crowding, share):
    data = module(folder, crowding=crowding)
    data.train_subjects = [torch.zeros(9, 32, 32), torch.ones(1, 32, 32)]
    torch.manual_seed(0)
    dataset = data.train_dataloader().dataset
    zeros = sum(float(dataset[0].mean()) < 0.5 for _ in range(400)) / 400
    assert zeros == pytest.approx(share, abs=0.07)


def test_a_holdout_of_one_is_refused(folder):
    with pytest.raises(ValueError, match="holdout must be at least 2"):
        SliceDataModule(str(folder), "mr", Augment(size=32), holdout=1)


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIGS.glob("*.yaml")))
def test_recipes_run(folder, tmp_path, monkeypatch, name):
    from posterior.training import run

    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    data = recipe["data"]["init_args"]
    data.update(path=str(folder), exclude=[])
    data["augment"]["init_args"]["size"] = 32
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)  # whatever a recipe writes lands here
    run(["fit", "--config", "recipe.yaml", "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"])
