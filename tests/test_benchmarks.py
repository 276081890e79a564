"""The benchmarks' own machinery: timing, errors against a known posterior, resuming."""

from __future__ import annotations

import json
import time

import pytest
import torch

from benchmarks import exact, quality
from benchmarks.timing import machine, side_by_side
from inverse.samplers import DDRM, PiGDM


def test_side_by_side_takes_medians_in_turn():
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            time.sleep(seconds)

        return run

    fast, slow = side_by_side([call("fast", 0.001), call("slow", 0.01)], budget=0.02, most=5)
    assert 0.001 <= fast < 0.01 <= slow < 0.05
    assert order[2:8] == ["fast", "slow"] * 3  # after one warm-up each


def test_machine_is_one_line():
    assert "torch" in machine(1)
    assert "\n" not in machine()


def test_errors_are_those_of_a_known_shift_and_scale():
    generator = torch.Generator().manual_seed(0)
    covariance = torch.diag(torch.tensor([0.04, 0.25], dtype=torch.float64))
    draws = torch.randn(20000, 2, generator=generator, dtype=torch.float64) @ covariance.sqrt() * 2 + torch.tensor([0.2, 0.5])
    mean, spread = exact.errors(draws, torch.zeros(2, dtype=torch.float64), covariance)
    assert mean == pytest.approx(1, abs=0.03)  # one standard deviation in each
    assert spread == pytest.approx(3, abs=0.1)  # four times the covariance


def test_exact_table(monkeypatch):
    monkeypatch.setattr(exact, "SAMPLERS", {"PiGDM": PiGDM(steps=20, prior_std=0.35), "DDRM": DDRM(steps=5)})
    monkeypatch.setattr(exact, "PRIORS", {"Gaussian": exact.PRIORS["Gaussian"]})
    rows = {(r.operator, r.sampler): r for r in exact.run(300)}
    assert len(rows) == 3 * len(exact.OPERATORS)
    assert all(rows[o, "PiGDM"].network_calls == 20 and rows[o, "DDRM"].network_calls == 5 for o in exact.OPERATORS)
    assert all(rows[o, "exact draws"].mean_error < 0.15 for o in exact.OPERATORS)
    assert all(rows[o, "PiGDM"].mean_error < 0.2 for o in exact.OPERATORS)
    assert exact.table(list(rows.values())).row_count == 3


def test_quality_resumes_only_what_it_measured(tmp_path):
    path, settings = tmp_path / "quality.json", {"count": 1, "size": 64, "samples": 2}
    ddrm, ddnm = (repr(quality.with_samples(quality.TASKS[0].samplers[name], 2)) for name in ("DDRM", "DDNM"))
    row = quality.Row("denoising 0.1", "DDRM", ddrm, 1, 20, 30.0, 0.9, 1.0, 0.6, 0.9)
    quality._write(path, [row], {}, settings)
    assert quality._kept(path, settings) == {("denoising 0.1", "DDRM", ddrm): row}
    other = quality.Row("denoising 0.1", "DDNM", ddnm, 1, 100, 31.0, 0.9, 1.0)
    quality._write(path, [other], {}, settings)  # what another process wrote meanwhile stays
    assert len(json.loads(path.read_text())["rows"]) == 2
    stale = quality.Row("denoising 0.1", "DDNM", "DDNM(of=another time)", 1, 100, 31.0, 0.9, 1.0)
    quality._write(path, [stale], {}, settings)
    assert len(json.loads(path.read_text())["rows"]) == 2
    with pytest.raises(SystemExit, match="was measured with other settings"):
        quality._kept(path, settings | {"size": 128})
    assert quality.table([row, other]).row_count == 2
