"""The calibration of volumes from end to end, on small volumes with an exact prior; and the benchmark of memory."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from rich.console import Console

import prior
from benchmarks import volume_calibration as benchmark
from benchmarks import volume_memory
from benchmarks.volume_calibration import MODALITIES, Setup, padded, places, rows
from benchmarks.volumes.data import Subject
from benchmarks.volumes.problems import Lines, Views
from inverse.calibration import half_width, load
from medical.samplers import DDS
from prior.mixture import GaussianMixture
from prior.schedules import EDM

SIDE = 32
FIELD = GaussianMixture(torch.ones(1), torch.full((1, 1, SIDE, SIDE), 0.5), torch.full((1, 1, SIDE, SIDE), 0.03))


def subject(folder, name):
    """Draws of the prior, one volume a name."""
    image = FIELD.sample(6, seed=sum(map(ord, name))).float()
    return Subject(name, image[..., : SIDE - 3], (2.0, 1.5, 1.5))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command and gives its JSON."""
    monkeypatch.setattr(prior, "load", lambda name, weights=None: FIELD.denoiser(EDM(sigma_max=5.0)), raising=False)
    few = {"ct": (Views("CT, 6 views", 6, photons=1e4),), "mr": (Lines("MR, 2x", 2.0, 4),)}
    small = {
        name: replace(m, training=subject, held_out=subject, tasks=few[name], testing=m.testing[:2])
        for name, m in MODALITIES.items()
    }
    monkeypatch.setattr(benchmark, "MODALITIES", small)

    def call(modality, *arguments):
        fixed = ("--modality", modality, "--json", tmp_path / "r.json", "--steps", 6, "--samples", 3, "--slices", 2)
        benchmark.main([str(a) for a in (*fixed, *arguments)])
        return json.loads((tmp_path / "r.json").read_text())

    return call


def test_from_volumes_to_the_file(run, tmp_path, capsys):
    run("ct", "--blocks", 1)
    record = run("mr", "--blocks", 2, "--weights", "mine.safetensors")
    record = run("mr", "--blocks", 1)
    assert [entry.task for entry in load(tmp_path / "r.json")] == ["CT, 6 views", "MR, 2x"]  # each modality once
    assert set(record["runs"]) == {"ct", "mr"}
    for name, known in zip(("ct", "mr"), load(tmp_path / "r.json"), strict=True):
        modality = MODALITIES[name]
        assert known.images == len(modality.calibrating)
        assert known.prior == modality.prior
        assert known.check is not None
        assert known.check.images == 2
        found = record["runs"][name]["rows"]
        assert [(r["subject"], r["level"]) for r in found] == [(s, p) for s in modality.testing[:2] for p in (0.68, 0.95)]
        for level, held in zip(known.levels, known.check.calibrated, strict=True):
            mine = [r["calibrated"] for r in found if r["level"] == level]
            assert sum(mine) / len(mine) == pytest.approx(held, abs=2e-3)
            assert held == pytest.approx(level, abs=0.1)  # subjects alike: the largest of their factors is little too large
        for r in found:
            assert r["calibrated_width"] / r["raw_width"] == pytest.approx(
                known.factor(r["level"]) / half_width(r["level"], 3), rel=1e-6
            )
        for block in record["runs"][name]["blocks_measured"]:
            assert 0.5 < block["chi_square"] < 2
            assert 0.01 < block["error"] < 0.2
    assert "MR, 2x" in capsys.readouterr().out


def test_bad_arguments(run, capsys):
    with pytest.raises(SystemExit):
        run("ct", "--samples", 1)
    assert "--samples must be at least 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("depth", "slices", "blocks", "expected"),
    [(20, 4, 2, [(3, 7), (13, 17)]), (3, 4, 1, [(0, 3)]), (8, 8, 2, [(0, 8), (0, 8)]), (133, 4, 1, [(64, 68)])],
)
def test_places(depth, slices, blocks, expected):
    assert [(p.start, p.stop) for p in places(depth, slices, blocks)] == expected


def test_padding():
    image = torch.rand(2, 1, 33, 64)
    found = padded(Subject("a", image, (1.0, 1.0, 1.0))).image
    assert found.shape == (2, 1, 64, 64)
    assert torch.equal(found[..., :33, :], image)
    assert not found[..., 33:, :].any()


def test_noiseless_blocks_have_no_chi_square():
    setup = Setup(sampler=DDS(steps=3, samples=2), slices=2, blocks=1, prior="p")
    task = Views("noiseless", 3)
    piece = subject(None, "a")
    piece = padded(replace(piece, image=piece.image[:2]))
    held_out = benchmark.measured({"a": piece}, task, FIELD.denoiser(EDM(sigma_max=5.0)), setup, console=Console(quiet=True))
    (block,) = held_out["a"]
    assert block.chi_square is None
    assert math.isfinite(block.error)
    known = benchmark.fitted(held_out, held_out, setup)
    for row in rows(held_out, known, 100.0):
        assert row.calibrated == pytest.approx(row.level, abs=2e-3)  # on the very subject that it comes from


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_memory(modality, tmp_path, capsys):
    arguments = ["--modality", modality, "--slices", "3", "--side", "32", "--steps", "1", "--chunk", "2", "--channels", "8"]
    volume_memory.main([*arguments, "--json", str(tmp_path / "m.json")])
    record = json.loads((tmp_path / "m.json").read_text())
    assert 0 < record["before"] <= record["reconstruction"] <= record["trust"] < 24
    assert record["size"]["modality"] == modality
    assert f"{modality}, 32 x 32 x 3" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"above the ceiling of 0\.01 GiB"):
        volume_memory.main([*arguments, "--ceiling", "0.01"])
