"""Non-Cartesian sums, their adjoint and Pipe's density compensation, against stored exact sums and torchkbnufft."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medical.operators.nufft import NUFFT
from medical.sampling.density import pipe_menon_density
from tests.parity.cases import Case, needs_parity, parity_cases

pytestmark = needs_parity("mri_ops")

SUFFIX = "_traj"
TOLERANCE = {torch.complex64: 1e-5, torch.complex128: 1e-9}


def trajectories(ending: str) -> list:
    """Every trajectory of every case that has a tensor with this ``ending``."""
    cases = parity_cases("mri_ops", "nufft")
    names = [(case, key.removesuffix(SUFFIX)) for case in cases for key in case.tensors if key.endswith(SUFFIX)]
    return [pytest.param(case, name, id=f"{case}-{name}") for case, name in names if f"{name}{ending}" in case]


def complex_image(case: Case, key: str) -> Tensor:
    return torch.view_as_complex(case[key].double().contiguous())


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got.to(wanted.dtype) - wanted).norm() / wanted.norm())


def operator(case: Case, name: str, backend: str) -> NUFFT:
    return NUFFT(case[f"{name}{SUFFIX}"], tuple(case["image"].shape[:-1]), backend=backend)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["single", "double"])
@pytest.mark.parametrize("backend", ["finufft", "torch"])
@pytest.mark.parametrize(("case", "name"), trajectories("_y"))
def test_sums(case, name, backend, dtype):
    x, y = complex_image(case, "image"), complex_image(case, f"{name}_y")
    assert relative(operator(case, name, backend)(x.to(dtype)[None, None])[0, 0], y) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["single", "double"])
@pytest.mark.parametrize("backend", ["finufft", "torch"])
@pytest.mark.parametrize(("case", "name"), trajectories("_adj_cotangent"))
def test_adjoint(case, name, backend, dtype):
    y, expected = complex_image(case, f"{name}_cotangent"), complex_image(case, f"{name}_adj_cotangent")
    assert relative(operator(case, name, backend).adjoint(y.to(dtype)[None, None])[0, 0], expected) < TOLERANCE[dtype]


@pytest.mark.parametrize(("case", "name"), trajectories("_pipe_dcf_torchkbnufft"))
def test_pipe_density_up_to_its_scale(case, name):
    expected = case[f"{name}_pipe_dcf_torchkbnufft"].double()
    w = pipe_menon_density(case[f"{name}{SUFFIX}"], tuple(case["image"].shape[:-1]), iterations=15)
    w = w * (w @ expected) / (w @ w)
    torch.testing.assert_close(w, expected, rtol=0.02, atol=0)
