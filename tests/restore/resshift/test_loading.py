"""Restorers by name: released files, cards, precision, what is refused; and factors below that of the restorer."""

import hashlib
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save

import restore
from prior import registry
from prior.randomness import MemberNoise
from prior.schedules import Shifted
from restore.resshift import (
    Condition,
    NoiseField,
    ResShift,
    ShiftedDenoiser,
    SwinUNet,
    Tiling,
    configuration,
    enlarge_strips,
    load,
    load_autoencoder,
    load_unet,
    loading,
    reduce_strips,
    released,
    restore_picture,
    shipped,
    task_of_file,
)
from tests.restore.resshift import tiny

OFFICIAL = released()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def _small(monkeypatch):
    """The released models are tiny ones."""
    monkeypatch.setattr(configuration, "RELEASED", tiny.RELEASED)


@pytest.fixture
def files(_small, folder):
    return folder


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pixels(factor):
    return ResShift(ShiftedDenoiser(tiny.Enlarges(), Shifted()), factor=factor, multiple=8)


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_released_model_is_put_together_as_published(name, tmp_path, monkeypatch):
    entry, tuned = OFFICIAL[name], []
    for file in (entry.files[0], entry.autoencoder_file):
        (tmp_path / file).touch()
    monkeypatch.setattr(loading, "load_unet", lambda task, path: torch.nn.Identity())

    def first_stage(task, path, *, tuned=None):
        stage = torch.nn.Identity()
        stage.factor, seen["tuned"] = entry.autoencoder.factor, tuned
        return stage

    seen = {"tuned": tuned}
    monkeypatch.setattr(loading, "load_autoencoder", first_stage)
    model = load(name, tmp_path)
    schedule = model.model.schedule
    assert model.factor == (4 if "sr" in name else 1)
    assert model.multiple == {"faceir": 512}.get(name, 64 if model.factor == 4 else 256)
    assert (4 if name in ("realsr_v3", "bicsr") or model.factor == 1 else 15) == schedule.T
    assert schedule.kappa == (1 if name == "bicsrx4_opencv" else 2)
    first = {4: 0.1, 15: 0.02}[schedule.T] if schedule.kappa == 2 else math.sqrt(0.001)
    assert schedule.sqrt_eta[0] == pytest.approx(first)
    assert seen["tuned"] == (tmp_path / entry.files[0] if name == "deblur" else None)
    assert task_of_file(tmp_path / entry.files[0]) == name


@torch.no_grad()
def test_released_files_load_from_a_folder_or_by_name(files, tmp_path):
    y = image(2, 3, 8, 16)
    network, first_stage = (
        load_unet("realsr_v3", files / "v3.pth"),
        load_autoencoder("realsr_v3", files / "autoencoder_vq_f4.pth"),
    )
    by_hand = ResShift(ShiftedDenoiser(network, Shifted()), first_stage, factor=4, multiple=8)
    expected = restore_picture(by_hand, y, noise=NoiseField(3))
    assert expected.std() > 0.01
    (tmp_path / "mine.pth").write_bytes((files / "v3.pth").read_bytes())
    for weights, autoencoder in ((files, None), (files / "v3.pth", None), (tmp_path / "mine.pth", files)):
        model = restore.ResShift.load("realsr_v3", weights, autoencoder=autoencoder)
        assert torch.equal(model.upscale(y, seed=3), expected)
    assert not torch.equal(model.upscale(y, seed=4), expected)
    assert not any(p.requires_grad for p in model.model.parameters())


@torch.no_grad()
def test_known_pixels_are_kept_by_inpainting(files):
    model = restore.ResShift.load("inpaint_imagenet", files)
    y, mask = image(1, 3, 20, 33), torch.zeros(1, 1, 20, 33)
    mask[..., 4:9, 5:30] = 1
    out = model.restore(y, mask=mask)
    assert torch.equal(out[mask.expand_as(y) == 0], y[mask.expand_as(y) == 0])
    assert (out - y)[mask.expand_as(y) == 1].abs().mean() > 0.05


@torch.no_grad()
def test_precision_layout_and_compilation(files, monkeypatch):
    y = image(1, 3, 8, 8)
    exact = restore.ResShift.load("realsr_v3", files)
    half = restore.ResShift.load("realsr_v3", files, dtype=torch.bfloat16, channels_last=True)
    codes = half.model.first_stage.quantize.embedding.weight
    assert torch.equal(codes, exact.model.first_stage.quantize.embedding.weight)  # not rounded
    assert {p.dtype for p in half.model.parameters() if p is not codes} == {torch.bfloat16}
    kernel = half.model.model.network.input_blocks[0][0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    a, b = (m.model.model(y, 3, Condition(y, y)) for m in (exact, half))
    assert b.dtype == y.dtype
    assert 0 < (a - b).norm() / a.norm() < 0.03
    assert half.upscale(y).shape == (1, 3, 32, 32)
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))  # in place, when first called
    model = load("realsr_v3", files, compile=True)
    assert compiled == [model.model.network, model.first_stage.encoder, model.first_stage.decoder]


@pytest.mark.slow
def test_compiled_networks_answer_the_same(files):
    y = image(1, 3, 8, 8)
    exact, compiled = load("realsr_v3", files), load("realsr_v3", files, compile=True)
    assert any(getattr(m, "shift", 0) for m in compiled.model.network.modules())  # their mask is compiled as well
    a, b = (m(2 * y - 1, noise=MemberNoise(0, 1)) for m in (exact, compiled))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A card of a restorer, beside one of a prior; its weights are half precision."""
    spec = {
        "class_path": "restore.resshift.ResShift",
        "init_args": {
            "model": {
                "class_path": "restore.resshift.ShiftedDenoiser",
                "init_args": {
                    "network": {
                        "class_path": "restore.resshift.SwinUNet",
                        "init_args": {
                            "config": {
                                "class_path": "restore.resshift.SwinUNetConfig",
                                "init_args": {**tiny.SMALL, "lq_size": 16},
                            }
                        },
                    },
                    "schedule": {"class_path": "prior.schedules.Shifted", "init_args": {"T": 4}},
                    "scaling": "pixel",
                },
            },
            "factor": 2,
            "multiple": 8,
        },
    }
    state = {f"model.network.{k}": t.half() for k, t in tiny.weights_of(SwinUNet(tiny.SR)).items()}
    data = save(state)
    (tmp_path / "small.safetensors").write_bytes(data)
    common = dict.fromkeys(("summary", "made_by", "data", "licence", "compute"), "") | {"parameters": 1, "figures": {}}
    entries = {
        "small-x2": {"file": "small.safetensors", "sha256": hashlib.sha256(data).hexdigest(), "denoiser": spec, **common},
        "plain": {"file": "no", "sha256": "", "denoiser": {"class_path": "prior.denoiser.Denoiser"}, **common},
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(yaml.safe_load(yaml.dump(entries, Dumper=_Plain))))
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    return SimpleNamespace(spec=spec, state=state)


class _Plain(yaml.SafeDumper):
    """Tuples as lists."""


_Plain.add_representer(tuple, lambda dumper, data: dumper.represent_list(list(data)))


@torch.no_grad()
def test_a_model_that_ships_loads_by_its_card(card):
    assert shipped() == ("small-x2",)
    model = load("small-x2")
    assert (model.factor, model.multiple, model.first_stage) == (2, 8, None)
    state = model.state_dict()
    assert all(torch.equal(state[key], t.to(state[key].dtype)) for key, t in card.state.items())
    assert restore.ResShift(model).upscale(image(1, 3, 5, 9)).shape == (1, 3, 10, 18)
    with pytest.raises(ValueError, match="autoencoder must be None for small-x2"):
        load("small-x2", autoencoder="a.pth")
    with pytest.raises(ValueError, match="'plain' is a prior, no restorer: models that ship are small-x2; released tasks"):
        load("plain")


def test_what_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match=r"'photos-x9' is unknown: .* released tasks, with files of your own, are realsr_v2,"):
        load("photos-x9")
    with pytest.raises(
        ValueError, match=r"realsr_v3 does not ship: give weights, the path of v3.pth, with autoencoder_vq_f4.pth"
    ):
        load("realsr_v3")
    with pytest.raises(ValueError, match=r"v2.pth is the released file of realsr_v2, not of realsr_v3: name that task"):
        load("realsr_v3", files / "v2.pth")
    (tmp_path / "mine.pth").write_bytes((files / "hole.pth").read_bytes())
    with pytest.raises(
        ValueError, match=r"mine.pth must hold the network of realsr_v3: .* those of inpaint_imagenet: name that task"
    ):
        load("realsr_v3", tmp_path / "mine.pth", autoencoder=files)
    with pytest.raises(FileNotFoundError, match=r"autoencoder: there is no autoencoder_vq_f4.pth in .*; name the file itself"):
        load("realsr_v3", tmp_path / "mine.pth")
    with pytest.raises(FileNotFoundError, match=r"weights: there is no hole.pth or holes.pth in"):
        load("inpaint_imagenet", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"weights: there is no file or folder no.pth"):
        load("realsr_v3", "no.pth")
    with pytest.raises(
        ValueError, match=r"dtype must be one of torch.float32, torch.bfloat16, torch.float16, got torch.float64"
    ):
        load("realsr_v3", files, dtype=torch.float64)


@pytest.mark.parametrize("new", [1, 2, 3])
@pytest.mark.parametrize("heights", [(48,), (12, 4, 32), (16, 12, 20), (4,) * 12])
def test_reduced_strips_are_the_whole(new, heights):
    x = image(2, 3, 48, 20)
    whole = F.interpolate(x, size=(12 * new, 5 * new), mode="bicubic", antialias=True).clamp(0, 1)
    strips = list(reduce_strips(x.split(heights, -2), height=48, ratio=(new, 4)))
    torch.testing.assert_close(torch.cat(strips, -2), whole, atol=5e-6, rtol=0)
    assert len(strips) > 1 or len(heights) == 1


def test_factors():
    y = image(1, 3, 32, 40)
    large = F.interpolate(y, scale_factor=4, mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(restore.ResShift(pixels(4)).upscale(y), large)
    for factor in (1, 2, 3):
        smaller = F.interpolate(large, size=(32 * factor, 40 * factor), mode="bicubic", antialias=True).clamp(0, 1)
        out = restore.ResShift(pixels(4)).upscale(y, factor, tiling=Tiling(tile=16, stride=8))
        assert out.shape == smaller.shape
        assert (out - smaller).abs().max() < 1 / 255  # of tiles, the edges
    same = restore.ResShift(pixels(1)).upscale(y, 4)
    torch.testing.assert_close(same, large)  # one that keeps the size gets the picture enlarged
    assert restore.ResShift(pixels(1)).upscale(y).shape == y.shape
    with pytest.raises(ValueError, match=r"factor must lie in 1..4, which this restorer was trained for, got 8"):
        enlarge_strips(pixels(4), y, factor=8, noise=NoiseField(0))
