"""The restorers of the benchmark: those that ship, or files given by hand, of a training that has not ended too."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from prior import registry
from restore import ResShift
from restore.resshift import chain, released, shipped

__all__ = ["load_restorer", "restorers"]

RECIPES = {"photos-x4": "resshift_photos_x4.yaml"}


def restorers(name: str | None, weights: Path | None, autoencoder: Path | None = None) -> dict[str, ResShift]:
    """The restorer ``name``, or without one all that ship for x4; none where there is none."""
    if name is not None:
        return {name: load_restorer(name, weights, autoencoder)}
    if weights is not None:
        raise ValueError(f"--model must say what network {weights} holds: {', '.join([*RECIPES, *released()])}")
    every = {known: ResShift.load(known) for known in shipped()}
    return {known: found for known, found in every.items() if found.model.factor == 4}


def load_restorer(name: str, weights: Path | None, autoencoder: Path | None = None) -> ResShift:
    """``name`` as :meth:`restore.ResShift.load` knows it; a model that does not ship yet is built from its recipe.

    Its ``weights`` are then a ``.ckpt`` of the recipe's training, or ``.safetensors``. Raises ``ValueError`` for a name that
    is neither, or has no weights.
    """
    if name in released() or name in shipped() or name not in RECIPES:
        return ResShift.load(name, weights, autoencoder=autoencoder)
    if weights is None:
        raise ValueError(f"{name} does not ship with this version: give --weights, a file of its recipe's training")
    recipe = yaml.safe_load(resources.files("restore").joinpath("configs", RECIPES[name]).read_text(encoding="utf-8"))
    parts = recipe["model"]["init_args"]
    model = chain.ResShift(registry.build(parts["model"]), factor=parts["factor"], multiple=parts["multiple"])
    model.load_state_dict({key: value.float() for key, value in registry.read_state(weights).items()})
    return ResShift(model.eval().requires_grad_(False))
