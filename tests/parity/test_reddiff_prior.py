"""The priors of the RED-Diff cases give the stored outputs."""

import re

import pytest
import torch

from tests.parity.cases import needs_parity, parity_cases
from tests.parity.priors import reddiff_prior

pytestmark = needs_parity("reddiff")

CHECKS = [
    pytest.param(case, key, id=f"{case.name}-{key}")
    for case in parity_cases("reddiff", "prior")
    for key in case.tensors
    if re.fullmatch(r"check/(mixed_)?out_t\d+", key)
]


@pytest.mark.parametrize(("case", "key"), CHECKS)
def test_prior_gives_the_stored_output(case, key):
    model = reddiff_prior(case, "mixed" if "mixed" in key else "net")
    x = case["check/x"]
    t = torch.full((len(x),), int(key.rpartition("_t")[2]))
    torch.testing.assert_close(model.network(x, t), case[key], rtol=0, atol=2e-5)
    prediction = model(x, t.double())
    torch.testing.assert_close(prediction.eps, case[key][:, : x.shape[1]], rtol=0, atol=2e-5)


def test_both_priors_are_checked():
    assert {"mixed" in check.values[1] for check in CHECKS} == {True, False}
