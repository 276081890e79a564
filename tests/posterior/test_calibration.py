"""Which calibration is claimed: that of just this task, sampler and prior, and otherwise none."""

import dataclasses

import pytest
import torch

from inverse import RedDiff
from inverse.calibration import FLOOR, LEVELS, Calibration, save
from inverse.operators import JPEG, Blur, Downsample, Gaussian, Identity, Inpaint
from posterior import calibration
from posterior.calibration import TASKS, Calibrated, find, identity, shipped, task_of
from prior import registry

SHAPE = (3, 40, 48)
SAMPLER = RedDiff(samples=4)


def known(**given) -> Calibration:
    defaults = {
        "task": TASKS[0].name, "sampler": repr(SAMPLER), "prior": identity("photos"), "images": 24, "samples": 4,
        "levels": LEVELS, "factors": (1.1, 3.5),
    }  # fmt: skip
    return Calibration(**(defaults | given))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("shape", [SHAPE, (3, 128, 128)])
def test_a_task_knows_its_operators(task, shape):
    assert task_of(task.operator(shape, 7), shape) == task.name


def test_a_mask_of_one_channel_is_the_same_task():
    mask = Inpaint.random(SHAPE, 0.8, seed=3).mask[:1]
    assert task_of(Inpaint(mask, shape=SHAPE), SHAPE) == TASKS[1].name


@pytest.mark.parametrize(
    "operator",
    [
        Blur.gaussian(3.0),
        Blur.gaussian(2.98, noise=Gaussian(0.02)),
        Blur.gaussian(3.0, noise=Gaussian(0.025)),
        Blur.gaussian(3.0, "circular", noise=Gaussian(0.02)),
        Blur(torch.ones(25, 25) / 625, noise=Gaussian(0.02)),
        Inpaint.random(SHAPE, 0.75),
        Inpaint.random(SHAPE, 0.8, noise=Gaussian(0.02)),
        Inpaint.box(SHAPE, (0, 0, 40, 38)),
        Inpaint((torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) > 0.8).float()),
        Downsample.area(4),
        Downsample.bicubic(2),
        Downsample.bicubic(4, noise=Gaussian(0.02)),
        Identity(noise=Gaussian(0.02)),
        JPEG(50),
    ],
    ids=repr,
)
def test_other_operators_are_no_task(operator):
    assert task_of(operator, SHAPE) is None


def test_missing_lines_are_not_missing_pixels():
    mask = torch.zeros(1, *SHAPE[1:])
    mask[:, ::5] = 1
    assert float((1 - mask).mean()) == pytest.approx(0.8)
    assert task_of(Inpaint(mask, shape=SHAPE), SHAPE) is None


def test_only_what_matches_is_found():
    A = TASKS[0].operator(SHAPE, 0)

    def found(**given):
        return find(A, SHAPE, **({"sampler": SAMPLER, "prior": identity("photos"), "among": [known()]} | given))

    assert found() == known()
    assert found(among=[known(task=TASKS[1].name), known(prior="another"), known()]) == known()
    for other in (
        {"sampler": RedDiff(samples=5)},
        {"sampler": RedDiff(samples=4, steps=59)},
        {"prior": None},
        {"prior": "photos, sha256 0"},
        {"among": []},
        {"among": [known(task=TASKS[1].name)]},
        {"among": [known(samples=5)]},
        {"among": [known(prior="")]},
    ):
        assert found(**other) is None
    assert find(Blur.gaussian(2.0), SHAPE, sampler=SAMPLER, prior=identity("photos"), among=[known()]) is None


def test_a_prior_is_its_weights(tmp_path):
    assert identity("photos") == f"photos, sha256 {registry.cards()['photos'].sha256}"
    assert identity("photos", tmp_path / "mine.safetensors") is None
    assert identity("adm-ffhq-256") is None


def test_without_a_file_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "SHIPPED", tmp_path / "calibration.json")
    assert shipped() == ()
    assert find(TASKS[0].operator(SHAPE, 0), SHAPE, sampler=SAMPLER, prior=identity("photos")) is None
    save(tmp_path / "calibration.json", [known()])
    assert find(TASKS[0].operator(SHAPE, 0), SHAPE, sampler=SAMPLER, prior=identity("photos")) == known()


def test_what_ships_is_of_the_shipped_weights():
    for entry in shipped():
        assert (entry.prior, entry.sampler, entry.levels) == (identity("photos"), repr(SAMPLER), LEVELS)
        assert entry.check is not None
    assert {entry.task for entry in shipped()} in (set(), {task.name for task in TASKS})


def test_the_record_of_a_calibration():
    told = Calibrated.of(known())
    assert dataclasses.asdict(told) == {
        "task": TASKS[0].name, "images": 24, "levels": LEVELS, "factors": (1.1, 3.5), "floor": FLOOR, "held": None
    }  # fmt: skip
    assert Calibrated.of(known().checked([torch.tensor([1.0, 2.0, 3.0, 4.0])])).held == (0.25, 0.75)
