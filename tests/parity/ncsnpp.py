"""Official NCSN++ configurations, as their JSON has them, in this library's terms; shared by the parity modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from prior.networks.ncsnpp import NCSNpp
from prior.networks.ncsnpp_configuration import NCSNppConfig
from tests.parity.cases import Case

__all__ = ["config_of", "network_of"]

UNREAD = {"attention_type", "conv_size", "normalization"}  # official settings that no official code reads


def config_of(official: Mapping[str, Any]) -> NCSNppConfig:
    """The configuration of an official one; every setting must be known here."""
    assert set(official) <= {f.name for f in fields(NCSNppConfig)} | UNREAD
    return NCSNppConfig(**{name: value for name, value in official.items() if name not in UNREAD})


def network_of(case: Case) -> NCSNpp:
    """The network of a case with its weights, in evaluation mode."""
    network = NCSNpp(config_of(case.settings["config"])).eval()
    network.load_state_dict(case.under("sd."), strict=True)
    return network
