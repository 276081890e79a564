"""The prior of a benchmark: the shipped one, or weights of the same network from a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

import prior
from prior import registry
from prior.denoiser import Denoiser

__all__ = ["load_prior"]

RECIPES = {"ct-slices": "ct_slices.yaml", "mr-slices": "mr_slices.yaml"}


def load_prior(name: str, weights: Path | None = None) -> Denoiser:
    """The denoiser ``name`` with its own weights or those in the file ``weights``, ``.safetensors`` or a ``.ckpt`` of training.

    A prior that does not ship yet is built from its recipe. Raises ``ValueError`` for one that neither ships nor has weights.
    """
    if name in registry.cards():
        return prior.load(name, weights=weights)
    if weights is None or name not in RECIPES:
        raise ValueError(f"{name} does not ship with this version: give --weights, a file of its recipe's training")
    recipe = yaml.safe_load(resources.files("medical").joinpath("configs", RECIPES[name]).read_text(encoding="utf-8"))
    model = registry.build(recipe["model"]["init_args"]["denoiser"])
    state = registry.read_state(weights, model.state_dict())
    model.load_state_dict({key: value.float() for key, value in state.items()})
    return model.eval().requires_grad_(False)
