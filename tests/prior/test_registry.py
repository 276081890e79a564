"""The weights registry: what ships is what the card says, and everything else is refused in words."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage import data

import prior
from prior import registry
from prior.denoiser import Denoiser, EDMHead


@pytest.mark.parametrize("name", registry.cards())
def test_a_card_tells_the_truth(name):
    card = registry.cards()[name]
    registry.verify(name)
    model = registry.embedded(name)
    assert sum(p.numel() for p in model.parameters()) == card.parameters <= 8_000_000
    assert card.mebibytes <= 16
    dtype = torch.float16 if card.parameters >= registry.HALVED else torch.float32
    assert all(t.dtype == dtype for t in load_file(card.path).values() if t.is_floating_point())
    for text in (card.summary, card.made_by, card.data, card.licence, card.compute):
        assert len(text) > 10
    assert card.figures


def test_photos_removes_noise():
    """Chelsea the cat is in no training pack; the noisy image has 20 log10(2 / level) dB."""
    model = prior.load("photos")
    image = torch.from_numpy(data.chelsea()[40:168, 100:228]).permute(2, 0, 1)[None] / 255
    gains = {}
    for level in (0.1, 0.2, 0.4):
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        estimate = model.to_image(model(model.to_network(image) + level * noise, level).x0)
        error = (estimate - image).square().mean()
        gains[level] = float(-10 * torch.log10(error) - 20 * torch.log10(torch.tensor(2 / level)))
    assert gains[0.1] > 5
    assert gains[0.2] > 8
    assert gains[0.4] > 11


def test_any_size_runs():
    model = prior.load("photos")
    for height, width in ((7, 5), (33, 50)):
        x = torch.zeros(1, 3, height, width)
        assert model(x, 0.3).x0.shape == x.shape


def test_a_restorer_is_no_prior():
    with pytest.raises(ValueError, match=r"photos-x4 is a restorer .* and no prior: restore.ResShift.load opens it"):
        prior.load("photos-x4")
    with pytest.raises(
        ValueError, match=r"hourly is a forecaster .* and no prior: timeseries.TSDiffPredictor.shipped opens it"
    ):
        prior.load("hourly")


def test_unknown_name():
    with pytest.raises(ValueError, match=r"unknown model 'fotos': known are photos, .*adm-imagenet-256"):
        prior.load("fotos")


def test_a_released_model_needs_its_file(tmp_path):
    with pytest.raises(ValueError, match=r"adm-ffhq-256 does not ship: give weights=, the path of ffhq_10m\.pt"):
        prior.load("adm-ffhq-256")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        prior.load("adm-ffhq-256", weights=tmp_path / "ffhq_10m.pt")


def test_corrupt_weights(tmp_path, monkeypatch):
    card = registry.cards()["photos"]
    shutil.copytree(registry.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "weights")
    file = tmp_path / "weights" / card.file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is corrupt: sha256 is"):
        prior.load("photos")
    file.unlink()
    with pytest.raises(ValueError, match="is missing"):
        registry.verify("photos")


def test_files_that_are_not_these_weights(tmp_path):
    truncated = tmp_path / "half.safetensors"
    truncated.write_bytes(registry.cards()["photos"].path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated or damaged"):
        prior.load("photos", weights=truncated)
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match=r"other\.safetensors does not fit photos: .* is missing"):
        prior.load("photos", weights=other)
    state = load_file(registry.cards()["photos"].path)
    state["network.head.weight"] = torch.zeros(1, 2)
    save_file(state, other)
    with pytest.raises(ValueError, match=r"network\.head\.weight has shape \(1, 2\), must be \(64, 12, 3, 3\)"):
        prior.load("photos", weights=other)
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"epoch": 3}, checkpoint)
    with pytest.raises(ValueError, match="must be a training checkpoint with a state_dict"):
        prior.load("photos", weights=checkpoint)


def test_checkpoints_of_a_part_and_of_a_whole_model(tmp_path):
    """The part is the one with the names of the model, so one whose own names begin with ``model.`` stays whole."""
    one, file = torch.ones(1), tmp_path / "last.ckpt"
    for state, names, found in [
        ({"denoiser.network.a": one, "loss.b": one}, ["network.a"], ["network.a"]),
        ({"model.backbone.a": one, "model.b": one}, ["backbone.a", "b"], ["b", "backbone.a"]),
        ({"model.network.a": one}, ["model.network.a"], ["model.network.a"]),
    ]:
        torch.save({"state_dict": state}, file)
        assert sorted(registry.read_state(file, names)) == found


def test_export_is_read_back(tmp_path):
    model = prior.load("photos")
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"denoiser.{k}": v for k, v in model.state_dict().items()}}, checkpoint)
    file = tmp_path / "mine.safetensors"
    digest = registry.export("photos", checkpoint, to=file)
    assert digest == registry.cards()["photos"].sha256  # the same weights are the same bytes
    again = prior.load("photos", weights=file)
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_build_makes_only_our_classes():
    model = registry.build(registry.cards()["photos"].denoiser)
    assert isinstance(model, Denoiser)
    assert isinstance(model.head, EDMHead)
    with pytest.raises(ValueError, match="class_path must be within prior"):
        registry.build({"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}})
