"""Geometries as YAML that people read and write: plain numbers, the unit of angles always said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medical.geometry.beam import Beam
from medical.geometry.cone import ConeBeam
from medical.geometry.detector import Detector
from medical.geometry.fan import FanBeam
from medical.geometry.parallel import ParallelBeam
from medical.geometry.values import uniform
from medical.geometry.vectors import VectorBeam
from medical.geometry.volume import Volume

__all__ = ["from_dict", "read", "to_dict", "write"]

Geometry = tuple[Volume | None, Beam | VectorBeam]

KINDS: dict[str, type[Beam] | type[VectorBeam]] = {
    "parallel": ParallelBeam,
    "fan": FanBeam,
    "cone": ConeBeam,
    "vectors": VectorBeam,
}
DISTANCES = ("source_distance", "detector_distance")
NEEDED = {
    "parallel": ("angles", "detector"),
    "fan": ("angles", "detector", *DISTANCES),
    "cone": ("angles", "detector", *DISTANCES),
    "vectors": ("sources", "centres", "columns", "rows", "detector"),
}
OPTIONAL = {"parallel": (), "fan": (), "cone": ("pitch", "z0"), "vectors": ("parallel",)}
UNITS = {"degrees": math.radians, "radians": float}


def to_dict(volume: Volume | None, beam: Beam | VectorBeam) -> dict[str, Any]:
    """``volume`` and ``beam`` as plain numbers, strings and lists, what is at its default left out; exact."""
    kind = next((name for name, cls in KINDS.items() if type(beam) is cls), None)
    if kind is None:
        raise TypeError(f"beam must be one of {', '.join(c.__name__ for c in KINDS.values())}, got {type(beam).__name__}")
    described: dict[str, Any] = {"kind": kind}
    for name in NEEDED[kind]:
        value = getattr(beam, name)
        if name == "angles":
            value = _angles_to_dict(value)
        elif name == "detector":
            value = _detector_to_dict(value)
        described[name] = [list(row) for row in value] if isinstance(value, tuple) else value
    described |= {name: getattr(beam, name) for name in OPTIONAL[kind] if getattr(beam, name)}
    return {"beam": described} if volume is None else {"volume": _volume_to_dict(volume), "beam": described}


def from_dict(described: Mapping[str, Any]) -> Geometry:
    """``(volume, beam)`` from what :func:`to_dict` gives or a person writes; the volume is None where it is left out.

    ``ValueError`` for keys that are unknown or missing and values of a wrong type: it names the key and what is allowed.
    """
    top = _table("the geometry", described, ("beam",), ("volume",))
    volume = None if top.get("volume") is None else _volume(top["volume"])
    kind = top["beam"].get("kind") if isinstance(top["beam"], Mapping) else None
    if isinstance(top["beam"], Mapping) and (not isinstance(kind, str) or kind not in KINDS):
        raise ValueError(f"beam.kind must be one of {', '.join(KINDS)}, got {kind!r}")
    beam = _table("beam", top["beam"], ("kind", *NEEDED.get(str(kind), ())), OPTIONAL.get(str(kind), ()))
    parts: dict[str, Any] = {"detector": _detector(beam["detector"])}
    for name in beam.keys() - {"kind", "detector"}:
        if name == "angles":
            parts[name] = _angles(beam[name])
        elif name == "parallel":
            parts[name] = _flag("beam.parallel", beam[name])
        elif kind == "vectors":
            parts[name] = [_numbers(f"beam.{name}", row) for row in _rows(f"beam.{name}", beam[name])]
        else:
            parts[name] = _number(f"beam.{name}", beam[name])
    return volume, KINDS[str(kind)](**parts)


def write(path: str | Path, geometry: Geometry) -> None:
    """``geometry`` = (volume or None, beam) as a YAML file."""
    text = yaml.safe_dump(to_dict(*geometry), sort_keys=False, default_flow_style=None, width=120)
    Path(path).write_text(text, encoding="utf-8")


def read(path: str | Path) -> Geometry:
    """``(volume or None, beam)`` from a YAML file; ``ValueError`` names the file and the key at fault."""
    try:
        return from_dict(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is no geometry: {error}") from error


def _angles_to_dict(angles: tuple[float, ...]) -> dict[str, Any]:
    """The shortest description that gives exactly these numbers back, in degrees where they can."""
    n = len(angles)
    step = (angles[-1] - angles[0]) / (n - 1) if n > 1 else 0.0
    start, stop = angles[0], angles[0] + n * step
    if n > 2:
        a, b = (round(math.degrees(v), 9) for v in (start, stop))
        if uniform(n, math.radians(a), math.radians(b)) == angles:
            return {"unit": "degrees", "views": n, "start": a, "stop": b}
        for end in (stop, angles[0] + n * (angles[1] - angles[0])):
            if uniform(n, start, end) == angles:
                return {"unit": "radians", "views": n, "start": start, "stop": end}
    return {"unit": "radians", "values": list(angles)}


def _angles(described: Any) -> tuple[float, ...]:
    spaced = isinstance(described, Mapping) and "values" not in described
    table = _table("beam.angles", described, ("unit", *(("views", "start", "stop") if spaced else ("values",))), ())
    if table["unit"] not in list(UNITS):
        raise ValueError(f"beam.angles.unit must be degrees or radians, got {table['unit']!r}")
    convert = UNITS[table["unit"]]
    if not spaced:
        return tuple(convert(v) for v in _numbers("beam.angles.values", _rows("beam.angles.values", table["values"])))
    views = table["views"]
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise ValueError(f"beam.angles.views must be a whole number, at least 1, got {views!r}")
    start, stop = (convert(_number(f"beam.angles.{name}", table[name])) for name in ("start", "stop"))
    return uniform(views, start, stop)


def _volume_to_dict(volume: Volume) -> dict[str, Any]:
    described: dict[str, Any] = {"shape": list(volume.shape), "voxel": _short(volume.spacing)}
    if any(volume.centre):  # type: ignore[arg-type]
        described["centre"] = list(volume.centre)  # type: ignore[arg-type]
    if volume.flip_y != (volume.ndim == 2):
        described["flip_y"] = volume.flip_y
    return described


def _volume(described: Any) -> Volume:
    table = _table("volume", described, ("shape",), ("voxel", "centre", "flip_y"))
    parts = {name: _numbers(f"volume.{name}", table[name]) for name in table if name != "flip_y"}
    if "flip_y" in table:
        parts["flip_y"] = _flag("volume.flip_y", table["flip_y"])
    return Volume(**parts)


def _detector_to_dict(detector: Detector) -> dict[str, Any]:
    shape, offset = list(detector.size), tuple(detector.offset)  # type: ignore[arg-type]
    described: dict[str, Any] = {"shape": shape if len(shape) > 1 else shape[0]}
    described["spacing"] = _short(detector.pitch[-len(shape) :])
    if any(offset):
        described["offset"] = offset[0] if len(offset) == 1 else list(offset)
    return described | ({"curved": True} if detector.curved else {})


def _detector(described: Any) -> Detector:
    table = _table("beam.detector", described, ("shape",), ("spacing", "offset", "curved"))
    parts = {name: _numbers(f"beam.detector.{name}", table[name]) for name in table if name != "curved"}
    if "curved" in table:
        parts["curved"] = _flag("beam.detector.curved", table["curved"])
    return Detector(**parts)


def _short(values: tuple[float, ...]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else list(values)


def _table(name: str, described: Any, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    """``described`` as a table with all the ``needed`` keys and none but the ``optional`` ones beside them."""
    allowed = ", ".join((*needed, *(f"{key} (optional)" for key in optional)))
    if not isinstance(described, Mapping):
        raise ValueError(f"{name} must be a table with {allowed}, got {described!r}")
    unknown = [key for key in described if key not in (*needed, *optional)]
    missing = [key for key in needed if key not in described]
    if unknown:
        raise ValueError(f"{name} has no key {unknown[0]!r}; it takes {allowed}")
    if missing:
        raise ValueError(
            f"{name} needs the key {missing[0]!r}, got {', '.join(map(str, described)) or 'none'}; it takes {allowed}"
        )
    return dict(described)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = "; YAML reads 1.0e+3 as a number, 1e3 as text" if isinstance(value, str) else ""
        raise ValueError(f"{name} must be a number, got {value!r}{hint}")
    return value


def _numbers(name: str, value: Any) -> Any:
    """A number, or a list of them."""
    return [_number(name, v) for v in value] if isinstance(value, (list, tuple)) else _number(name, value)


def _rows(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be a list, got {value!r}")
    return list(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value
