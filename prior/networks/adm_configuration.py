"""Which ADM network do these weights belong to?

A state dict of the ADM family tells its own configuration, but for the attention heads, the order of their channels and
the schedule. Those are looked up in the table of released files, ``configs/adm_released.yaml``, by the number of
parameters, or given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
import yaml
from torch import Tensor

from prior.networks.adm import ADMConfig, ADMEncoder, ADMUNet, SuperResUNet
from prior.networks.adm_classifier import ADMClassifier

__all__ = ["ADMModel", "ReleasedADM", "infer_adm", "released_adm", "released_as"]

Shapes = Mapping[str, tuple[int, ...]]

# settings that leave no trace in the keys
SILENT = frozenset({"num_heads", "head_channels", "num_heads_upsample", "new_attention_order", "dropout"})

ORDER = ("time_embed", "label_emb", "input_blocks", "middle_block", "output_blocks", "out")

# which setting decides whether a key is there and what shape it has: the first pattern that matches
SETTINGS = (
    (r"^time_embed", "model_channels"),
    (r"^label_emb", "num_classes"),
    (r"^input_blocks\.0\.", "in_channels"),
    (r"^out\.", "out_channels or pool"),
    (r"\.emb_layers\.", "scale_shift"),
    (r"\.(op|conv)\.", "updown or conv_resample"),
    (r"\.(norm|qkv|proj_out)\.", "attention_ds"),
    (r"", "channel_mult, num_res_blocks or updown"),
)


@dataclass(frozen=True, kw_only=True)
class ADMModel:
    """An ADM network as a value: ``kind`` is unet, superres or classifier; ``pool`` and ``image_size`` are a classifier's."""

    kind: str
    config: ADMConfig
    pool: str | None = None
    image_size: int | None = None

    def build(self) -> ADMEncoder:
        """The network, newly initialised."""
        if self.kind == "classifier":
            return ADMClassifier(self.config, self.pool or "attention", self.image_size)
        networks: dict[str, type[ADMUNet]] = {"unet": ADMUNet, "superres": SuperResUNet}
        return networks[self.kind](self.config)

    def shapes(self) -> Shapes:
        """Names and shapes of the weights."""
        with torch.device("meta"):
            return {key: tuple(t.shape) for key, t in self.build().state_dict().items()}


@dataclass(frozen=True, kw_only=True)
class ReleasedADM:
    """A released model: the files it goes by, what they hold and the schedule of its noise (None for a classifier)."""

    name: str
    files: tuple[str, ...]
    parameters: int
    model: ADMModel
    schedule: str | None = None

    @property
    def file(self) -> str:
        """The name under which it was released."""
        return self.files[0]


@lru_cache
def released_adm() -> tuple[ReleasedADM, ...]:
    """The released files of the ADM family."""
    table = Path(__file__).parents[1] / "configs" / "adm_released.yaml"
    return tuple(
        ReleasedADM(
            name=entry["name"],
            files=tuple(entry["files"]),
            parameters=entry["parameters"],
            schedule=entry.get("schedule"),
            model=ADMModel(
                kind=entry["kind"],
                config=ADMConfig(**entry["config"]),
                pool=entry.get("pool"),
                image_size=entry["image_size"] if entry["kind"] == "classifier" else None,
            ),
        )
        for entry in yaml.safe_load(table.read_text())
    )


def released_as(weights: Mapping[str, Tensor], kind: str) -> ReleasedADM | None:
    """The released file with as many parameters as ``weights``, or None."""
    count = sum(value.numel() for value in weights.values())
    return next((r for r in released_adm() if r.parameters == count and r.model.kind == kind), None)


def infer_adm(
    weights: Mapping[str, Tensor],
    *,
    config: ADMConfig | None = None,
    num_heads: int | None = None,
    head_channels: int | None = None,
    new_attention_order: bool | None = None,
) -> ADMModel:
    """The network that fits ``weights``, a state dict with official names.

    With ``config`` it is that one, if it fits. Otherwise the heads of a file that is not in the table of released files
    must be given, by number or by width, and its attention order is the legacy one unless given. Raises ``ValueError``
    where heads are missing, and where no network of the family fits, naming a key that does not and its setting.
    """
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    model = _structure(shapes) if config is None else _chosen(shapes, config)
    known = released_as(weights, model.kind)
    heads = model.config if config is not None else known.model.config if known else None
    if num_heads or head_channels:
        config = replace(model.config, num_heads=num_heads or 1, head_channels=head_channels)
    elif heads:
        config = replace(model.config, num_heads=heads.num_heads, head_channels=heads.head_channels)
    else:
        raise ValueError(
            "num_heads or head_channels must be given: a file does not tell them, and no released file has "
            f"{sum(value.numel() for value in weights.values())} parameters (most models have head_channels=64)"
        )
    if new_attention_order is None:
        new_attention_order = heads.new_attention_order if heads else False
    return replace(model, config=replace(config, new_attention_order=new_attention_order))


def _structure(shapes: Shapes) -> ADMModel:
    """Everything about a network that its keys tell; its heads are of 32 channels, which fits any width."""
    fitting, misfits = [], []
    for levels, blocks in _layouts(shapes):
        try:
            model = _candidate(shapes, levels, blocks)
        except ValueError as error:  # a key is missing, or the shapes contradict this layout
            misfits.append((len(shapes), str(error)))
            continue
        wrong = list(_mismatches(model.shapes(), shapes))
        if wrong:
            misfits.append((len(wrong), wrong[0]))
        else:
            fitting.append(model)
    if len(fitting) > 1:
        options = " or ".join(f"{len(m.config.channel_mult)} x {m.config.num_res_blocks}" for m in fitting)
        raise ValueError(f"the keys fit {options} (levels x num_res_blocks) alike; give the config")
    if not fitting:
        reason = f"in the nearest one, {min(misfits)[1]}" if misfits else "their input_blocks have no regular layout"
        raise ValueError(f"no ADM network has these weights; {reason}")
    return fitting[0]


def _layouts(shapes: Shapes) -> list[tuple[int, int]]:
    """Possible ``(levels, num_res_blocks)``: each level has one input block more than residual blocks, its way down."""
    present = {int(m[1]) for key in shapes if (m := re.match(r"input_blocks\.(\d+)\.", key))}
    count = 1 + max(present, default=0)
    downs = [i for i in range(1, count) if i not in present or f"input_blocks.{i}.0.op.weight" in shapes]
    ups = [int(m[1]) for key in shapes if (m := re.match(r"output_blocks\.(\d+)\.[12]\.(in_layers|conv)\.", key))]
    if downs or ups:
        choices = [min(ups) if ups else min(downs) - 1]
    elif any(key.startswith("output_blocks.") for key in shapes):
        choices = [count - 1]  # nothing joins levels: there is one
    else:
        choices = list(range(1, count))
    return [(count // (blocks + 1), blocks) for blocks in choices if blocks > 0 and count % (blocks + 1) == 0]


def _candidate(shapes: Shapes, levels: int, blocks: int) -> ADMModel:
    starts = [f"input_blocks.{level * (blocks + 1) + 1}" for level in range(levels)]
    down = f"input_blocks.{blocks + 1}.0"
    kind, out_channels, pool, side = _ending(shapes)
    width, channels = _size(shapes, "time_embed.0.weight", 1), _size(shapes, "input_blocks.0.0.weight", 1)
    if kind == "unet" and (channels == 2 * out_channels or channels == out_channels == 6):
        kind, channels = "superres", channels // 2
    mult = [_size(shapes, f"{start}.0.out_layers.3.weight") / width for start in starts]
    modulation = _size(shapes, f"{starts[0]}.0.emb_layers.1.weight")
    updown = levels == 1 or f"{down}.in_layers.0.weight" in shapes
    config = ADMConfig(
        in_channels=channels,
        out_channels=out_channels,
        model_channels=width,
        channel_mult=tuple(int(m) if m.is_integer() else m for m in mult),
        num_res_blocks=blocks,
        attention_ds=tuple(
            2**level for level, start in enumerate(starts) if any(key.startswith(f"{start}.1.") for key in shapes)
        ),
        head_channels=32,
        scale_shift=modulation == 2 * _size(shapes, f"{starts[0]}.0.out_layers.3.weight"),
        updown=updown,
        conv_resample=updown or f"{down}.op.weight" in shapes,
        num_classes=_size(shapes, "label_emb.weight") if "label_emb.weight" in shapes else None,
    )
    return ADMModel(kind=kind, config=config, pool=pool, image_size=side and side * 2 ** (levels - 1))


def _ending(shapes: Shapes) -> tuple[str, int, str | None, int | None]:
    """Kind and output channels, and of a classifier the pool and the side of its positions, from the last layers."""
    if any(key.startswith("output_blocks.") for key in shapes):
        return "unet", _size(shapes, "out.2.weight"), None, None
    if "out.2.positional_embedding" in shapes:
        side = math.isqrt(_size(shapes, "out.2.positional_embedding", 1) - 1)
        return "classifier", _size(shapes, "out.2.c_proj.weight"), "attention", side
    if "out.2.weight" in shapes:
        return "classifier", _size(shapes, "out.2.weight"), "spatial", None
    classes = _size(shapes, "out.3.weight")
    return "classifier", classes, "adaptive" if len(shapes["out.3.weight"]) == 4 else "spatial_v2", None


def _size(shapes: Shapes, key: str, axis: int = 0) -> int:
    if len(shapes.get(key, ())) <= axis:
        raise ValueError(f"{key} is missing" if key not in shapes else f"{key} has shape {shapes[key]}")
    return shapes[key][axis]


def _mismatches(expected: Shapes, found: Shapes) -> Iterator[str]:
    for key in sorted({**expected, **found}, key=_position):
        want, got = expected.get(key), found.get(key)
        if want == got:
            continue
        setting = next(setting for pattern, setting in SETTINGS if re.search(pattern, key))
        state = (
            "is unexpected"
            if want is None
            else f"must have shape {want}, " + (f"got {got}" if got is not None else "is missing")
        )
        yield f"{key} {state} (setting: {setting})"


def _position(key: str) -> tuple[int, list[int]]:
    """Where in the forward pass: the part of the network, then the indices of the stage and the layer."""
    part, *rest = key.split(".")
    return ORDER.index(part) if part in ORDER else len(ORDER), [int(i) for i in rest[:2] if i.isdigit()]


def _chosen(shapes: Shapes, config: ADMConfig) -> ADMModel:
    """The network of a given configuration, which must fit; the error names the settings that differ."""
    kind, _, pool, side = _ending(shapes)
    if kind == "unet" and _size(shapes, "input_blocks.0.0.weight", 1) == 2 * config.in_channels:
        kind = "superres"
    model = ADMModel(kind=kind, config=config, pool=pool, image_size=side and side * 2 ** (len(config.channel_mult) - 1))
    wrong = next(_mismatches(model.shapes(), shapes), None)
    if wrong is None:
        return model
    told = _structure(shapes).config
    names = [f.name for f in fields(ADMConfig) if f.name not in SILENT and getattr(told, f.name) != getattr(config, f.name)]
    settings = ", ".join(f"{name}={getattr(told, name)!r}, not {getattr(config, name)!r}" for name in names)
    raise ValueError(f"config must fit the file: {wrong}; the file has {settings}")
