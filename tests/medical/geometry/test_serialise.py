"""Geometries go to YAML and come back the same, and mistakes in a file are named."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import yaml

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.geometry.serialise import from_dict, read, to_dict, write

GEOMETRIES = [
    (Volume((256, 256)), ParallelBeam.uniform(180, 363)),
    (Volume((5, 6, 7), (3.0, 0.1, 0.2), (1.0, 0.0, 1e-7)), ParallelBeam((0.1, 0.7, 1 / 3), Detector((3, 5), (2.0, 1.0), 0.3))),
    (Volume((5, 6), flip_y=False), FanBeam.uniform(360, Detector(512, 1.4, 0.1, True), 595.0, 490.6)),
    (Volume((5, 6, 7), flip_y=True), FanBeam(torch.rand(9), 5, 1e4, 0.0)),
    (Volume((5, 6, 7)), ConeBeam.helical(100, Detector((4, 6), curved=True), 100.0, 50.0, pitch=12.0, turns=2.5)),
    (None, ConeBeam(uniform(7, 0.3, 2.1), (4, 6), 100.0, 50.0, z0=-3.0)),
    (None, VectorBeam.of(ConeBeam.circular(5, (4, 6), 100.0, 50.0))),
    (None, VectorBeam.of(ParallelBeam.uniform(3, 5))),
    (None, ParallelBeam((0.5,), 5)),
]
FAN = {
    "volume": {"shape": [64, 64], "voxel": 1.0},
    "beam": {
        "kind": "fan",
        "angles": {"unit": "degrees", "views": 4, "start": 0, "stop": 360},
        "detector": {"shape": 96, "spacing": 1.5, "offset": 0.25, "curved": True},
        "source_distance": 595,
        "detector_distance": 490.6,
    },
}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{type(g[1]).__name__}-{len(g[1])}")
def test_round_trip_is_exact(geometry, tmp_path):
    described = to_dict(*geometry)
    assert from_dict(described) == geometry
    write(tmp_path / "g.yaml", geometry)
    assert read(tmp_path / "g.yaml") == geometry
    assert yaml.safe_load((tmp_path / "g.yaml").read_text()) == described


def test_what_a_person_writes():
    volume, beam = from_dict(FAN)
    assert volume == Volume((64, 64))
    assert beam == FanBeam.uniform(4, Detector(96, 1.5, 0.25, True), 595.0, 490.6)


def test_units_of_angles():
    listed = copy.deepcopy(FAN)
    listed["beam"]["angles"] = {"unit": "degrees", "values": [0, 90, 45]}
    assert from_dict(listed)[1].angles == (0.0, math.pi / 2, math.pi / 4)
    listed["beam"]["angles"]["unit"] = "radians"
    listed["beam"]["angles"]["values"] = [0, 1.5, 0.5]
    assert from_dict(listed)[1].angles == (0.0, 1.5, 0.5)


def test_equal_steps_are_written_short_and_in_degrees():
    assert to_dict(None, ParallelBeam.uniform(180, 5))["beam"]["angles"] == {
        "unit": "degrees",
        "views": 180,
        "start": 0.0,
        "stop": 180.0,
    }
    assert to_dict(None, ParallelBeam((0.0, 0.1, 0.9), 5))["beam"]["angles"] == {"unit": "radians", "values": [0.0, 0.1, 0.9]}


def test_the_volume_may_be_left_out():
    assert from_dict({"beam": FAN["beam"]})[0] is None
    assert "volume" not in to_dict(None, ParallelBeam.uniform(3, 5))


def changed(path, value):
    """``FAN`` with one entry changed, or removed where ``value`` is the ellipsis."""
    described = copy.deepcopy(FAN)
    *way, last = path.split(".")
    table = described
    for key in way:
        table = table[key]
    if value is ...:
        del table[last]
    else:
        table[last] = value
    return described


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("beam", ..., "needs the key 'beam'"),
        ("beam", 3, "beam must be a table with kind"),
        ("scanner", 3, "no key 'scanner'"),
        ("beam.kind", "spiral", "beam.kind must be one of parallel, fan, cone, vectors, got 'spiral'"),
        ("beam.kind", ..., "beam.kind must be one of"),
        ("beam.kind", ["fan"], "beam.kind must be one of"),
        ("beam.pitch", 1.0, "beam has no key 'pitch'"),
        ("beam.source_distance", ..., "beam needs the key 'source_distance'"),
        ("beam.source_distance", "595 mm", "beam.source_distance must be a number, got '595 mm'"),
        ("beam.source_distance", "1e3", "1.0e"),
        ("beam.source_distance", True, "must be a number, got True"),
        ("beam.source_distance", -1, "source_distance must be positive"),
        ("beam.angles", [0, 90], "beam.angles must be a table with unit"),
        ("beam.angles.unit", ..., "beam.angles needs the key 'unit'"),
        ("beam.angles.unit", "deg", "degrees or radians, got 'deg'"),
        ("beam.angles.unit", ["degrees"], "degrees or radians"),
        ("beam.angles.unit", "radians", "more than two turns"),
        ("beam.angles.views", 4.5, "views must be a whole number"),
        ("beam.angles.stop", "full", "beam.angles.stop must be a number"),
        ("beam.angles.values", [0], "no key 'views'"),
        ("beam.detector", 96, "beam.detector must be a table with shape"),
        ("beam.detector.pixels", 96, "no key 'pixels'"),
        ("beam.detector.shape", 9.5, "whole numbers"),
        ("beam.detector.curved", "yes please", "true or false"),
        ("volume.voxel", "1 mm", "volume.voxel must be a number"),
        ("volume.shape", ..., "volume needs the key 'shape'"),
        ("volume.flip_y", 1, "volume.flip_y must be true or false"),
    ],
)
def test_mistakes_are_named(path, value, words):
    with pytest.raises(ValueError, match=words):
        from_dict(changed(path, value))


def test_a_file_at_fault_is_named(tmp_path):
    (tmp_path / "g.yaml").write_text("beam: {kind: [}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"g\.yaml is no geometry"):
        read(tmp_path / "g.yaml")
    (tmp_path / "g.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="must be a table with beam"):
        read(tmp_path / "g.yaml")


def test_vectors_at_fault():
    described = to_dict(None, VectorBeam.of(ParallelBeam.uniform(3, 5)))
    described["beam"]["centres"] = 3
    with pytest.raises(ValueError, match=r"beam\.centres must be a list"):
        from_dict(described)


def test_other_values_are_no_beams():
    with pytest.raises(TypeError, match="ParallelBeam, FanBeam, ConeBeam, VectorBeam"):
        to_dict(None, Volume((3, 3)))
