"""geometry show, draw and new: facts held against closed forms, and bad YAML in one line."""

import json
import math
import xml.etree.ElementTree as ElementTree

import nibabel as nib
import numpy as np
import pytest

from medical.geometry import serialise
from tests.posterior.stub import assert_one_error_line, run

FAN = """
volume: {shape: [64, 64], voxel: 2.0}
beam:
  kind: fan
  angles: {unit: degrees, views: 90, start: 0, stop: 360}
  detector: {shape: 160, spacing: 3.0}
  source_distance: 500.0
  detector_distance: 250.0
"""
PARALLEL = """
beam:
  kind: parallel
  angles: {unit: degrees, views: 180, start: 0, stop: 180}
  detector: {shape: 100, spacing: 1.0}
"""
HELIX = """
beam:
  kind: cone
  angles: {unit: degrees, views: 720, start: -360, stop: 360}
  detector: {shape: [16, 100], spacing: 2.0}
  source_distance: 400.0
  detector_distance: 400.0
  pitch: 32.0
"""


def facts(tmp_path, text):
    path = tmp_path / "g.yaml"
    path.write_text(text)
    result = run("geometry", "show", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_facts_of_a_fan(tmp_path):
    f = facts(tmp_path, FAN)
    assert (f["kind"], f["views"], f["scan"], f["data"]) == ("FanBeam", 90, "full", 90 * 160)
    assert f["magnification"] == 1.5
    assert f["voxel"] == 2.0  # 3 mm at a magnification of 1.5
    half = math.atan(240 / 750)
    assert f["fan"] == pytest.approx([math.degrees(half)] * 2)
    assert f["field_of_view"] == pytest.approx([500 * math.sin(half)])
    assert f["views_needed"] == math.ceil(2 * math.pi * 500 * math.sin(half) / 2)
    assert f["angles"] == pytest.approx([0, 356, 4])
    assert f["warnings"] == []


def test_facts_of_a_helix(tmp_path):
    f = facts(tmp_path, HELIX)
    assert f["scan"] == "helix"
    assert f["normalised_pitch"] == 2.0  # 32 mm a turn over 16 rows of 1 mm at the axis
    assert f["warnings"] == ["the normalised pitch 2 is above 1.5: the helix leaves gaps"]


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("shape: 160", "shape: 40", "truncated: the detector sees 39.873 from the axis, the grid reaches 64"),
        ("stop: 360", "stop: 90", "a short scan needs half a turn and the fan angle"),
        ("voxel: 2.0", "voxel: 0.5", "voxels of 0.5 for pixels of 2 at the axis"),
        ("voxel: 2.0", "voxel: 3.9\n  centre: [0, 440]", "passes through the grid"),
        ("views: 90, start: 0, stop: 360", "values: [0, 120, 240, 360]", "some views measure the same"),
    ],
)
def test_warnings(tmp_path, old, new, warning):
    text = FAN.replace("{shape: [64, 64], voxel: 2.0}", "\n  shape: [64, 64]\n  voxel: 2.0")
    found = facts(tmp_path, text.replace(old, new))["warnings"]
    assert any(warning in words for words in found), found


def test_limited_angle_of_a_parallel_beam(tmp_path):
    assert facts(tmp_path, PARALLEL)["scan"] == "short"
    f = facts(tmp_path, PARALLEL.replace("stop: 180", "stop: 120"))
    assert f["scan"] == "limited"
    assert "limited angle" in f["warnings"][0]


def test_show_in_words(tmp_path):
    (tmp_path / "g.yaml").write_text(FAN.replace("shape: 160", "shape: 40"))
    result = run("geometry", "show", tmp_path / "g.yaml")
    assert result.exit_code == 0
    assert "FanBeam: 90 views" in result.stdout
    assert "magnification: 1.5" in result.stdout
    assert result.stderr.startswith("warning: truncated")


def test_draw(tmp_path):
    (tmp_path / "g.yaml").write_text(FAN)
    for name, extra in (("still", ()), ("moving", ("--animate",))):
        out = tmp_path / f"{name}.svg"
        assert run("geometry", "draw", tmp_path / "g.yaml", "-o", out, *extra).exit_code == 0
        root = ElementTree.fromstring(out.read_text())
        assert root.tag.endswith("svg")
        assert ("<animate" in out.read_text()) is bool(extra)
    before = out.read_bytes()
    assert_one_error_line(run("geometry", "draw", tmp_path / "g.yaml", "-o", out), "is there already; --overwrite replaces it")
    assert out.read_bytes() == before
    assert run("geometry", "draw", tmp_path / "g.yaml", "-o", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize("kind", ["parallel", "fan", "curved", "cone", "helix"])
@pytest.mark.parametrize("with_scan", [False, True])
def test_new_sees_the_whole_grid(tmp_path, kind, with_scan):
    scan = tmp_path / "s.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((20, 30, 6), np.int16), np.diag([2.0, 2.0, 3.0, 1.0])), scan)
    out = tmp_path / "g.yaml"
    result = run("geometry", "new", out, "--kind", kind, "--views", 72, *(("--scan", scan) if with_scan else ()))
    assert result.exit_code == 0, result.output
    volume, beam = serialise.read(out)
    assert volume.shape[-2:] == ((30, 20) if with_scan else (256, 256))
    assert min(beam.coverage()) >= volume.outer_radius * (1 - 1e-6)
    shown = json.loads(run("geometry", "show", out, "--json").stdout)
    assert shown["warnings"] == []
    assert shown["voxel"] == pytest.approx(min(volume.spacing[-2:]), rel=2e-3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit: degrees, ", "", "beam.angles needs the key 'unit', got views, start, stop"),
        ("unit: degrees", "unit: turns", "beam.angles.unit must be degrees or radians, got 'turns'"),
        ("unit: degrees", "unit: radians", "angles must be in radians, got a range of 356"),
        ("spacing: 3.0", "spacing: -3.0", "detector spacing must be positive, got -3.0"),
        ("voxel: 2.0", "voxel: -2.0", "voxel must be positive, got -2.0"),
        ("kind: fan", "kind: spiral", "beam.kind must be one of parallel, fan, cone, vectors, got 'spiral'"),
        ("source_distance", "distance", "beam has no key 'distance'"),
        ("voxel: 2.0}", "voxel: 2.0", "is no geometry"),
        ("source_distance: 500.0", "source_distance: 5e2", "YAML reads 1.0e+3 as a number, 1e3 as text"),
    ],
)
def test_bad_yaml_is_one_line(tmp_path, old, new, message):
    path = tmp_path / "g.yaml"
    path.write_text(FAN.replace(old, new))
    result = run("geometry", "show", path)
    assert_one_error_line(result, message)
    assert result.stderr.startswith(f"error: {path} is no geometry: ")
    assert_one_error_line(run("geometry", "draw", path, "-o", tmp_path / "g.svg"), message)
    assert not (tmp_path / "g.svg").exists()


def test_other_bad_input(tmp_path):
    (tmp_path / "g.yaml").write_text(FAN)
    assert_one_error_line(run("geometry", "show", tmp_path / "no.yaml"), "no.yaml: No such file or directory")
    assert_one_error_line(run("geometry", "draw", tmp_path / "g.yaml", "-o", tmp_path / "g.png"), "the suffix must be .svg")
    assert_one_error_line(run("geometry", "draw", tmp_path / "g.yaml", "-o", tmp_path / "no" / "g.svg"), "there is no folder")
    assert_one_error_line(run("geometry", "new", tmp_path / "g.yaml"), "is there already; --overwrite replaces it")
    assert_one_error_line(run("geometry", "new", tmp_path / "n.yaml", "--kind", "round"), "--kind")
    assert_one_error_line(run("geometry", "new", tmp_path / "n.yaml", "--scan", tmp_path / "s.nii"), "there is no such file")
    assert run("geometry").exit_code == 0
