"""Files of series: NumPy archives and JSON lines, as GluonTS entries."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from timeseries.frequencies import Frequency
from timeseries.series import period_of

__all__ = ["read_entries"]

Entry = dict[str, Any]
JSON_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def read_entries(path: str | Path) -> list[Entry]:
    """The series of a file, each with ``start``, ``target``, ``item_id`` and, where there are any, ``feat_dynamic_real``.

    An ``.npz`` archive has ``target``, all series one after the other, ``offsets``, series i being
    ``target[offsets[i] : offsets[i + 1]]``, ``start``, ``freq`` and perhaps ``item_id`` and ``feat_dynamic_real``, (k, all);
    NaN is missing. A file of JSON lines (``.json``, ``.jsonl``, also with ``.gz``) has an object a line with these fields,
    ``start`` a date and null or ``"NaN"`` missing.

    Raises ``FileNotFoundError``, or ``ValueError`` for another file, naming what is wrong in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    if path.suffix == ".npz":
        return list(_archived(path))
    if path.name.endswith(JSON_SUFFIXES):
        return list(_lines(path))
    raise ValueError(f"path must be a .npz file or JSON lines ({', '.join(JSON_SUFFIXES)}), got {path}")


def _archived(path: Path) -> Iterator[Entry]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"path: {path} cannot be read as an archive of numbers and texts: {error}") from error
    missing = [name for name in ("target", "offsets", "start", "freq") if name not in content]
    if missing:
        raise ValueError(f"path: {path} must hold {', '.join(missing)}, got {', '.join(content)}")
    target, offsets, start = content["target"], content["offsets"], content["start"]
    if np.any(np.diff(offsets) < 0) or offsets[0] != 0 or offsets[-1] != len(target) or len(start) != len(offsets) - 1:
        raise ValueError(f"path: {path}: offsets must rise from 0 to {len(target)}, one more than the {len(start)} starts")
    frequency, names, known = Frequency.parse(str(content["freq"])), content.get("item_id"), content.get("feat_dynamic_real")
    for i, (begin, end) in enumerate(pairwise(offsets)):
        item_id = str(i) if names is None else str(names[i])
        entry = {"item_id": item_id, "start": period_of(str(start[i]), frequency, item_id), "target": target[begin:end]}
        yield entry if known is None else {**entry, "feat_dynamic_real": known[:, begin:end]}


def _lines(path: Path) -> Iterator[Entry]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"path: {path}, line {number} is not JSON: {error}") from error
            if not isinstance(entry, dict) or not {"start", "target"} <= entry.keys():
                raise ValueError(f"path: {path}, line {number} must be an object with 'start' and 'target'")
            yield {"item_id": str(number - 1), **entry}
