"""The parity cases: numbers of the official implementations, discovered in a folder.

The folder is ``$POSTERIOR_PARITY``, by default ``../shared/parity`` beside the repository. It has one folder a system;
a case is a ``.safetensors`` file, a ``.json`` file or a pair of one stem. What a case is (its *kind*) follows from its
JSON, or from its file name; nothing else about it is known here.

A test module reads its kinds so::

    pytestmark = needs_parity("adm_unet")

    @pytest.mark.parametrize("case", parity_cases("adm_unet", "network"), ids=str)
    def test_output(case): ...
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity import pending

__all__ = ["PARITY", "Case", "needs_parity", "parity_cases", "pool_state_dict", "system_pool", "systems", "verify_checksums"]

PARITY = Path(os.environ.get("POSTERIOR_PARITY") or Path(__file__).parents[2] / "../shared/parity").resolve()

Rule = Callable[[str, Mapping[str, Any]], bool]


def _has(key: str) -> Rule:
    return lambda name, meta: key in meta


def _named(pattern: str) -> Rule:
    return lambda name, meta: re.search(pattern, name) is not None


def _network(name: str, meta: Mapping[str, Any]) -> bool:
    return "cls" in meta.get("config", {}) and "state_dict" in meta


def _released(name: str, meta: Mapping[str, Any]) -> bool:
    return bool(meta) and all(isinstance(entry, dict) and {"factory", "params"} <= entry.keys() for entry in meta.values())


# the kinds of each system, tried in this order
RULES: dict[str, dict[str, Rule]] = {
    "ct": {
        "settings": _named("^cases$"),
        "parallel": _named("^parallel"),
        "fan": _named("^fan"),
        "shepp_logan": _named("shepp_logan"),
        "cone_voxel": _named("^cone.*voxel"),
        "cone_analytic": _named("^cone.*analytic"),
    },
    "mri_ops": {
        "settings": _named("^cases$"),
        "sense": _named("^sense"),
        "nufft": _named("^nufft"),
        "espirit": _named("^espirit"),
    },
    "tsdiff": {
        "schedules": _named("^schedules"),
        "init": _named("^nplr_init"),
        "s4": _named("^s4"),
        "backbone": _named("^backbone"),
        "diffusion": _named("^diffusion"),
        "guidance": _named("^guidance"),
        "refine": _named("^refine"),
        "cond": _named("^cond"),
        "masks": _named("^masks"),
        "crps": _named("^crps"),
        "lps": _named("^lps"),
    },
    "diffusion_mbir": {
        "settings": _named("^cases$"),
        "operators": _named("^operators"),
        "masks": _named("^masks"),
        "sigma_tables": _named("^sigma_tables"),
        "steps": _named("steps"),
        "isotropic": _named("^admm.*isotropic"),
        "admm": _named("^admm"),
        "analytic": _named("^recon.*analytic"),
        "recon": _named("^recon"),
    },
    "ncsnpp": {
        "settings": _named("^cases$"),
        "primitives": _named("primitives"),
        "network": _named(""),  # every other file
    },
    "resshift": {
        "schedules": _named("^schedules"),
        "algebra": _named("^diffusion_algebra"),
        "ddim_step": _named("^ddim_step"),
        "state": _named("^state_"),
        "unet": _named("^unet_forward"),
        "vq": _named("^vq_autoencoder"),
        "keys": _named("^official_state_dict_keys"),
        "sample_latent": _named("^sample_latent"),
        "sample_pixel": _named("^sample_pixel"),
        "tiling": _named("^padding_tiling"),
        "degradation": _named("^degradation"),
        "metrics": _named("^metrics_resize_masks"),
    },
    "adm_unet": {
        "network": _network,
        "released_keys": _released,
        "diffusion_math": _has("space_timesteps"),
        "pool": _named("pool"),
    },
    "reddiff": {
        "prior": _has("prior_config"),
        "reddiff_iterates": _named("reddiff_iterates"),
        "baseline_iterates": _named("baseline_iterates"),
        "peers_iterates": _named("peers_iterates"),
        "ops_svd": _named("ops_svd"),
        "ops_misc": _named("ops_misc"),
        "nonlinear_blur": _named("nonlinear_blur"),
    },
    "samplers": {
        "settings": _named("^meta"),
        "prior": _named("^prior"),
        "ode_vp": _named("^ode_vp"),
        "ode_ve": _named("^ode_ve"),
        "sde": _named("^sde"),
        "likelihood": _named("^likelihood"),
        "inversion": _named("^inversion"),
        "mean_reverting_truth": _named("^mean_reverting.*truth"),
        "mean_reverting": _named("^mean_reverting"),
        "flows": _named("^flows"),
    },
}

SUPPORT = frozenset(
    {
        ("adm_unet", "pool"),
        ("ct", "settings"),
        ("diffusion_mbir", "settings"),
        ("mri_ops", "settings"),
        ("ncsnpp", "settings"),
        ("resshift", "state"),
    }
)
"""Kinds that only feed other cases and need no test of their own."""


@dataclass(frozen=True)
class Case:
    """One case: ``meta`` is its JSON, ``tensors`` its tensors with float16 and uint8 promoted to float32."""

    name: str
    system: str
    kind: str | None
    folder: Path

    def __str__(self) -> str:
        return self.name

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The JSON beside the tensors, empty where there is none."""
        return _read_json(self.folder / f"{self.name}.json")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the case, read at the first use."""
        path = self.folder / f"{self.name}.safetensors"
        stored = load_file(path) if path.exists() else {}
        return {key: t.float() if t.dtype in (torch.float16, torch.uint8) else t for key, t in stored.items()}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the folder's ``cases.json`` says of this case: its entry, and everything else there under its own name."""
        every = _read_json(self.folder / "cases.json")
        return {**every, **every.get(self.name, {})}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``, which is cut off."""
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}

    def state_dict(self) -> dict[str, Tensor]:
        """The weights, by the pool rule, with their checksums verified; only a case without one reads ``sd/``.

        The pool rule comes first because ``sd/`` is float16: norms, ``1 + r / 8``, lose up to 5e-4 in it.
        """
        if "pool_start" not in self.meta:
            return self.under("sd/")
        weights = pool_state_dict(system_pool(self.folder), self.meta["state_dict"], self.meta["pool_start"])
        verify_checksums(weights, self.meta.get("checksums_sum_abssum", {}))
        return weights


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def kind_of(system: str, name: str, meta: Mapping[str, Any]) -> str | None:
    """The kind of a case; None where no rule knows it."""
    return next((kind for kind, rule in RULES.get(system, {}).items() if rule(name, meta)), None)


def systems() -> list[str]:
    """The systems' folders that are there."""
    return sorted(p.name for p in PARITY.iterdir() if p.is_dir()) if PARITY.is_dir() else []


@lru_cache
def _all_cases(system: str) -> tuple[Case, ...]:
    folder = PARITY / system
    stems = sorted({p.stem for p in folder.glob("*") if p.suffix in {".json", ".safetensors"}})
    return tuple(Case(stem, system, kind_of(system, stem, _read_json(folder / f"{stem}.json")), folder) for stem in stems)


REQUESTED: set[tuple[str, str]] = set()
"""``(system, kind)`` pairs that a test module has asked for."""


def parity_cases(system: str, kind: str | None = None) -> list[Case]:
    """The cases of ``system``, all or those of one ``kind``; none where the folder is absent."""
    if kind is not None and kind not in RULES.get(system, {}):
        raise ValueError(f"kind must be one of {list(RULES.get(system, {}))} for {system!r}, got {kind!r}")
    if kind is not None:
        REQUESTED.add((system, kind))
    return [case for case in _all_cases(system) if kind in (None, case.kind)]


def needs_parity(system: str) -> pytest.MarkDecorator:
    """The mark that skips a module where the folder of ``system`` is absent."""
    return pytest.mark.skipif(not (PARITY / system).is_dir(), reason=f"no parity cases: {PARITY / system} is absent")


def is_pending(case: Case) -> bool:
    """Whether the case waits for something that is not built yet."""
    return case.system in pending.SYSTEMS or (case.system, case.kind) in pending.KINDS


@lru_cache
def system_pool(folder: Path) -> Tensor:
    """The pool of values, float32, that the weights of the cases in ``folder`` are cut from."""
    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        if "pool" in tensors:
            return tensors["pool"].float()
    raise FileNotFoundError(f"no file in {folder} holds a tensor named 'pool'")


def pool_state_dict(pool: Tensor, keys: Sequence[tuple[str, Sequence[int]]], start: int = 0) -> dict[str, Tensor]:
    """Weights cut from the pool in the order of ``keys``, pairs of name and shape, from position ``start`` on.

    Values are taken one after the other, around the end, and scaled: ``1 + r / 8`` for the one-dimensional ``.weight``
    (a norm), ``r / 8`` for other vectors and ``r 2^round(log2(1 / sqrt(fan_in)))`` for the rest.
    """
    weights, offset = {}, start
    for key, shape in keys:
        numel = math.prod(shape)
        r = pool[(offset + torch.arange(numel)) % len(pool)].view(*shape)
        offset = (offset + numel) % len(pool)
        if len(shape) == 1:
            weights[key] = 0.125 * r + (1.0 if key.endswith(".weight") else 0.0)
        else:
            weights[key] = r * 2.0 ** round(math.log2(1 / math.sqrt(numel / shape[0])))
    return weights


def verify_checksums(weights: Mapping[str, Tensor], checksums: Mapping[str, Sequence[float]]) -> None:
    """Holds sum and absolute sum of some weights, in float64, against the stored ones."""
    for key, expected in checksums.items():
        value = weights[key].double()
        got = torch.stack([value.sum(), value.abs().sum()])
        wanted = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}")
