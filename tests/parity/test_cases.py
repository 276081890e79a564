"""Every parity case is recognised, and every kind is read by a test or listed as pending."""

import importlib
from pathlib import Path

import pytest
import torch

from tests.parity import pending
from tests.parity.cases import (
    PARITY,
    REQUESTED,
    RULES,
    SUPPORT,
    is_pending,
    kind_of,
    parity_cases,
    pool_state_dict,
    systems,
    verify_checksums,
)

needs_folder = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no parity cases: {PARITY} is absent")


@needs_folder
@pytest.mark.parametrize("system", systems())
def test_every_case_is_recognised(system):
    unknown = [case.name for case in parity_cases(system) if case.kind is None and not is_pending(case)]
    assert not unknown, f"no rule of tests/parity/cases.py knows {unknown} of {system}"


@pytest.mark.parametrize(("system", "kind"), [(s, k) for s, kinds in RULES.items() for k in kinds])
def test_every_kind_is_tested_or_pending(system, kind):
    for module in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"{__package__}.{module.stem}")
    read = (system, kind) in REQUESTED
    waits = (system, kind) in pending.KINDS
    assert read + waits + ((system, kind) in SUPPORT) == 1, f"{system}/{kind}: tested {read}, pending {waits}"


def test_a_system_is_built_or_pending_not_both():
    assert not pending.SYSTEMS & RULES.keys()


def test_an_unknown_case_has_no_kind():
    assert kind_of("adm_unet", "x_something", {"config": {}}) is None
    assert kind_of("nowhere", "a", {}) is None
    assert kind_of("adm_unet", "renamed", {"config": {"cls": "UNetModel"}, "state_dict": []}) == "network"


def test_pool_rule():
    pool = torch.tensor([1.0, -2.0, 4.0])
    got = pool_state_dict(pool, [("norm.weight", [2]), ("norm.bias", [2]), ("conv.weight", [1, 4, 1])], start=2)
    assert got["norm.weight"].tolist() == [1.5, 1.125]
    assert got["norm.bias"].tolist() == [-0.25, 0.5]
    assert got["conv.weight"].flatten().tolist() == [0.5, -1.0, 2.0, 0.5]  # 1 / sqrt(4)
    verify_checksums(got, {"norm.bias": [0.25, 0.75]})
    with pytest.raises(AssertionError, match=r"norm\.bias"):
        verify_checksums(got, {"norm.bias": [0.25, 0.76]})
