"""The weights registry: what ships, how it was made, what it reaches, and that the file is the one that was measured.

``registry.yaml`` beside the weights holds one card a model. Loading builds the denoiser from the card, checks the file's
hash and reads it with safetensors; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from torch import nn

    from prior.denoiser import Denoiser

__all__ = ["Card", "build", "card", "cards", "embedded", "export", "load", "verify"]

OPENED_BY = {"restore": "restore.ResShift.load", "timeseries": "timeseries.TSDiffPredictor.shipped"}
WEIGHTS = Path(__file__).parent / "weights"
BUILDABLE = ("prior.", "restore.", "medical.", "timeseries.")  # the packages a card may name classes of


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that is known of one set of weights."""

    name: str
    summary: str
    file: str
    sha256: str
    parameters: int
    denoiser: dict[str, Any]
    made_by: str
    data: str
    licence: str
    compute: str
    figures: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file of the weights."""
        return WEIGHTS / self.file

    @property
    def mebibytes(self) -> float:
        """Size of the file."""
        return self.path.stat().st_size / 2**20


def cards() -> dict[str, Card]:
    """All embedded weights, by name."""
    entries = yaml.safe_load((WEIGHTS / "registry.yaml").read_text(encoding="utf-8"))
    required = {f.name for f in fields(Card)} - {"name"}
    for name, entry in entries.items():
        if set(entry) != required:
            difference = ", ".join(sorted(set(entry) ^ required))
            raise ValueError(f"registry entry {name}: these fields are missing or unknown: {difference}")
    return {name: Card(name=name, **entry) for name, entry in entries.items()}


def card(name: str) -> Card:
    """The card called ``name``; ``ValueError`` lists the known names."""
    known = cards()
    if name not in known:
        raise ValueError(f"unknown model {name!r}: known are {', '.join(known)}")
    return known[name]


def verify(name: str) -> None:
    """Raise ``ValueError`` unless the file of ``name`` is there and has the hash that its card states."""
    entry = card(name)
    if not entry.path.is_file():
        raise ValueError(f"weights of {name}: {entry.path} is missing; install the package again")
    found = hashlib.sha256(entry.path.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise ValueError(
            f"weights of {name}: {entry.path} is corrupt: sha256 is {found[:12]}..., must be {entry.sha256[:12]}..."
        )


def build(spec: Any) -> Any:
    """An object from its ``{class_path, init_args}`` description, nested ones included; only this project's classes."""
    if isinstance(spec, list):
        return [build(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    if "class_path" not in spec:
        return {key: build(value) for key, value in spec.items()}
    path = str(spec["class_path"])
    module, _, cls = path.rpartition(".")
    if not path.startswith(BUILDABLE):
        raise ValueError(f"class_path must be within {', '.join(BUILDABLE)}; got {path}")
    return getattr(importlib.import_module(module), cls)(**build(spec.get("init_args", {})))


def load(name: str, *, weights: str | Path | None = None) -> Denoiser:
    """The denoiser called ``name``, in evaluation mode, float32, on the CPU.

    Embedded models (``prior.registry.cards()``) come with their weights; ``weights`` replaces them with a file of the
    same network: an exported ``.safetensors`` or a training checkpoint ``.ckpt``. The released models of guided diffusion
    (``prior.checkpoints.released()``) and NCSN++ (``prior.ncsnpp_checkpoints.released()``) load from the file given as
    ``weights``.

    Raises ``ValueError`` for an unknown name and for a file that is corrupt or of another network, and
    ``FileNotFoundError`` where ``weights`` is not there.
    """
    from prior import checkpoints, ncsnpp_checkpoints
    from prior.denoiser import Denoiser

    adm, ncsnpp = checkpoints.released(), ncsnpp_checkpoints.released()
    if name in adm or name in ncsnpp:
        official = adm[name] if name in adm else ncsnpp[name]
        if weights is None:
            files = " or ".join(official.files) or "its released file"
            raise ValueError(f"{name} does not ship: give weights=, the path of {files}")
        if name in adm:
            return checkpoints.load_adm(weights, config=adm[name].model.config)
        return ncsnpp_checkpoints.load_ncsnpp(weights, config=ncsnpp[name].config)
    if name not in cards():
        raise ValueError(f"unknown model {name!r}: known are {', '.join([*cards(), *adm, *ncsnpp])}")
    model = embedded(name, weights=weights)
    if not isinstance(model, Denoiser):
        package = type(model).__module__.partition(".")[0]
        raise ValueError(f"{name} is a {card(name).summary}, and no prior: {OPENED_BY[package]} opens it")
    return model


def embedded(name: str, *, weights: str | Path | None = None) -> nn.Module:
    """What the card called ``name`` describes, a prior or not; as :func:`load`, of embedded models alone."""
    entry = card(name)
    if weights is None:
        verify(name)
    model = build(entry.denoiser)
    state = read_state(entry.path if weights is None else Path(weights), model.state_dict().keys())
    _check_fit(f"weights: {weights or entry.path} does not fit {name}", model.state_dict(), state)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _check_fit(what: str, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    for key in sorted(wanted.keys() ^ found.keys()):
        raise ValueError(f"{what}: {key} is {'missing' if key in wanted else 'not expected'}")
    for key, value in wanted.items():
        if found[key].shape != value.shape:
            raise ValueError(f"{what}: {key} has shape {tuple(found[key].shape)}, must be {tuple(value.shape)}")


HALVED = 1_000_000  # parameters from which on files are float16: small ones need not be, and kernels of S4 suffer
PARTS = ("denoiser.", "model.")  # of training modules that hold more than what ships


def read_state(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The tensors of the model with parameters and buffers ``names``, in an exported ``.safetensors`` or a training ``.ckpt``.

    Of a checkpoint, which holds averaged weights, the part of the training module that has these names, or the whole.
    """
    from prior.checkpoints import read_file

    content = read_file(path)
    if path.suffix == ".safetensors":
        return content
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"weights: {path} must be a training checkpoint with a state_dict")
    state, wanted = dict(content["state_dict"]), set(names)
    parts = [{k.removeprefix(part): v for k, v in state.items() if k.startswith(part)} for part in PARTS]
    return next((part for part in parts if wanted <= part.keys()), state)


def export(name: str, checkpoint: str | Path, *, to: str | Path | None = None) -> str:
    """Write the averaged weights of a training checkpoint as safetensors, atomically; returns the sha256.

    Those of a model of a million parameters or more are float16, others stay as they are.

    ``to`` defaults to the file of the card ``name``, whose hash must then be entered in ``registry.yaml``.
    """
    from safetensors.torch import save

    entry = card(name)
    path = Path(to) if to is not None else entry.path
    found = sorted(read_state(Path(checkpoint), build(entry.denoiser).state_dict()).items())
    halved = entry.parameters >= HALVED
    state = {key: (value.half() if halved and value.is_floating_point() else value).contiguous() for key, value in found}
    data = save(state)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return hashlib.sha256(data).hexdigest()
