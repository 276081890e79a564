"""The nonlinear blur against the official KernelWizard network."""

from __future__ import annotations

import math
import re
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inverse.operators.kernel_wizard import SPREAD, KernelWizard, NonlinearBlur
from tests.parity.cases import Case, needs_parity, parity_cases, pool_state_dict, system_pool

pytestmark = needs_parity("reddiff")

every = pytest.mark.parametrize("case", parity_cases("reddiff", "nonlinear_blur"), ids=str)

TOLERANCE = 1e-3


def weights_of(case: Case) -> dict[str, Tensor]:
    """The weights by the pool rule; the extractor, between features and adapter, is passed over in the pool too."""
    pool, keys = system_pool(case.folder), case.meta["state_dict"]
    before = list(takewhile(lambda entry: not entry[0].startswith("adapter."), keys))
    count = sum(math.prod(shape) for _, shape in before) + case.meta["skipped_prefix"]["numel"]
    start = case.meta["pool_start"]
    return pool_state_dict(pool, before, start) | pool_state_dict(pool, keys[len(before) :], start + count)


def network_of(case: Case) -> KernelWizard:
    options = case.meta["options"]
    assert options["Adapter"]["norm"] == "none"
    network = KernelWizard(
        features=options["nf"],
        front_blocks=options["front_RBs"],
        back_blocks=options["back_RBs"],
        code_channels=options["kernel_dim"],
        channels=options["input_nc"],
    )
    network.load_state_dict(weights_of(case), strict=True)
    return network


def crop_of(case: Case) -> slice:
    first, last = map(int, re.search(r"crop rows/cols (\d+)\.\.(\d+)", case.meta["note"]).groups())
    return slice(first, last + 1)


def code_of(case: Case) -> Tensor:
    spread = float(re.search(r"kernel = ([\d.]+) \* kernel_unit_noise", case.meta["note"])[1])
    assert spread == SPREAD
    return spread * case["kernel_unit_noise"]


@every
def test_output(case: Case) -> None:
    network, x, code, crop = network_of(case), (case["x"] + 1) / 2, code_of(case), crop_of(case)
    with torch.no_grad():
        raw = network(x, code)
    statistics = torch.stack([raw.mean(), raw.std()])
    torch.testing.assert_close(statistics, case["raw_mean_std"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(raw[..., crop, crop], case["raw_out_crop"], atol=TOLERANCE, rtol=0)
    y = NonlinearBlur(network, code=code)(x)
    torch.testing.assert_close(2 * y[..., crop, crop] - 1, case["y_crop"], atol=TOLERANCE, rtol=0)


@every
def test_keys_of_the_file(case: Case, tmp_path: Path) -> None:
    """An official file, with its extractor, loads by itself and gives the same numbers."""
    weights = weights_of(case)
    name = case.meta["skipped_prefix"]["name"]
    torch.save({**weights, f"{name}.model.1.weight": torch.zeros(2, 3)}, tmp_path / "blur.pth")
    A = NonlinearBlur.load(tmp_path / "blur.pth", seed=3)
    assert [(key, list(value.shape)) for key, value in A.network.state_dict().items()] == [
        (key, list(shape)) for key, shape in case.meta["state_dict"]
    ]
    x = (case["x"] + 1) / 2
    torch.testing.assert_close(A(x), NonlinearBlur(network_of(case), seed=3)(x), atol=0, rtol=0)
