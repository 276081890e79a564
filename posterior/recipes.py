"""A forward operator described in YAML, for ``posterior solve``.

    operator:                          # one, or a list applied from first to last
      - class_path: Blur.gaussian      # a class of inverse.operators, or one of its named constructors
        init_args: {sigma: 1.5}
      - class_path: Downsample.area
        init_args: {factor: 2}
    noise:                             # optional
      class_path: Gaussian
      init_args: {sigma: 0.02}

Arguments are numbers, texts and lists, ``{image: file.png}`` for the brightness of an image (a kernel, a mask) with the
path relative to the YAML file, and ``{tensor: [[...]]}`` for numbers as a tensor. An argument ``shape`` that is required
is the picture's own, (3, H, W), unless given. Nothing but these classes can be named, and nothing is executed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import inverse.operators as library
from inverse.operators import noise as noises
from inverse.operators.base import LinearOperator, Operator, Shape
from inverse.operators.noise import Noise
from posterior.images import read as read_image

__all__ = ["Recipe", "read"]

TOP = {"operator", "noise"}
ENTRY = {"class_path", "init_args"}


@dataclass(frozen=True)
class Recipe:
    """Operators in the order of their application, and the noise at the end; as described in the file ``path``."""

    path: Path
    operators: tuple[dict[str, Any], ...]
    noise: dict[str, Any] | None

    def build(self, shape: Shape) -> Operator:
        """The operator for pictures of ``shape`` (C, H, W)."""
        parts = [self._make(entry, _constructor(entry["class_path"]), shape) for entry in self.operators]
        whole = parts[0]
        for part in parts[1:]:
            whole = part @ whole
        return (
            whole if self.noise is None else whole.with_noise(self._make(self.noise, _noise(self.noise["class_path"]), shape))
        )

    def _make(self, entry: dict[str, Any], constructor: Callable[..., Any], shape: Shape) -> Any:
        parameters = inspect.signature(constructor).parameters
        given = entry.get("init_args") or {}
        allowed = [name for name in parameters if name not in ("noise", "domain")]
        unknown = [name for name in given if name not in allowed]
        if unknown:
            raise ValueError(
                f"{self.path}: {entry['class_path']} has no {unknown[0]!r}; allowed are {', '.join(allowed) or 'none'}"
            )
        values = {name: self._value(value) for name, value in given.items()}
        if "shape" in parameters and parameters["shape"].default is inspect.Parameter.empty:
            values.setdefault("shape", shape)
        missing = [n for n in allowed if parameters[n].default is inspect.Parameter.empty and n not in values]
        if missing:
            raise ValueError(f"{self.path}: {entry['class_path']} needs {', '.join(missing)}")
        try:
            return constructor(**values)
        except (TypeError, AttributeError) as error:  # a text where a number or a tensor belongs
            raise ValueError(f"{self.path}: {entry['class_path']} cannot take {given}: {error}") from error

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._value(v) for v in value)
        if not isinstance(value, dict):
            return value
        if set(value) == {"image"}:
            return read_image(self.path.parent / str(value["image"])).colour.mean(0)
        if set(value) == {"tensor"}:
            return torch.tensor(value["tensor"], dtype=torch.float32)
        raise ValueError(
            f"{self.path}: an argument must be a number, a text, a list, {{image: FILE}} or {{tensor: ...}}, got {value}"
        )


def read(path: Path) -> Recipe:
    """The recipe in the file ``path``; ``ValueError`` for what is no such description."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file ({error})") from error
    if not isinstance(described, dict) or "operator" not in described or not set(described) <= TOP:
        found = ", ".join(map(str, described)) if isinstance(described, dict) else type(described).__name__
        raise ValueError(f"{path}: must have the key operator, may have noise, and no other; got {found}")
    entries = described["operator"] if isinstance(described["operator"], list) else [described["operator"]]
    if not entries:
        raise ValueError(f"{path}: operator must not be an empty list")
    for entry in entries:
        _check_entry(path, entry)
        _constructor(entry["class_path"])
    if described.get("noise") is not None:
        _check_entry(path, described["noise"])
        _noise(described["noise"]["class_path"])
    return Recipe(path, tuple(entries), described.get("noise"))


def _check_entry(path: Path, entry: Any) -> None:
    if not isinstance(entry, dict) or "class_path" not in entry or not set(entry) <= ENTRY:
        raise ValueError(f"{path}: an entry must have class_path, may have init_args, and no other key; got {entry}")
    if not isinstance(entry.get("init_args") or {}, dict):
        raise ValueError(f"{path}: init_args must be a mapping of names to values, got {entry['init_args']}")


def _constructor(class_path: object) -> Callable[..., Operator]:
    """The operator class of that name, or the named constructor after a dot."""
    name, _, method = str(class_path).removeprefix("inverse.operators.").partition(".")
    abstract = (Operator, LinearOperator)
    known = {n: c for n in dir(library) if _is(c := getattr(library, n), Operator) and c not in abstract}
    if name not in known:
        raise ValueError(f"class_path must be an operator, one of {', '.join(sorted(known))}; got {class_path}")
    named = {n for c in known[name].__mro__ for n, m in vars(c).items() if isinstance(m, classmethod) and not n.startswith("_")}
    if method and method not in named:
        raise ValueError(
            f"class_path: {name} has the named constructors {', '.join(sorted(named)) or 'none'}; got {class_path}"
        )
    return getattr(known[name], method) if method else known[name]


def _noise(class_path: object) -> Callable[..., Noise]:
    name = str(class_path).removeprefix("inverse.operators.")
    known = {n: c for n in noises.__all__ if _is(c := getattr(noises, n), Noise) and c is not Noise}
    if name not in known:
        raise ValueError(f"class_path must be a noise, one of {', '.join(sorted(known))}; got {class_path}")
    return known[name]


def _is(candidate: Any, kind: type) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, kind)
