"""Projectors against ASTRA and independent references in float64: parallel, fan and cone beams, every stored tensor."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from medical.geometry import Beam, ConeBeam, Detector, FanBeam, ParallelBeam, Volume
from medical.operators import Projector
from tests.parity.cases import Case, needs_parity, parity_cases

pytestmark = needs_parity("ct")

ASTRA = 2e-4  # absolute: ASTRA computes in float32
REFERENCE = 1e-9
SINGLE = 1e-4  # of the largest value, our projectors in float32

INPUTS = {"image", "volume", "angles", "cotangent"}
MODELS = {"line": "siddon", "linear": "joseph", "strip": "strip", "siddon": "siddon", "joseph": "joseph"}

PICTURE = re.compile(
    r"(?P<side>sino|adj)_(?P<curved>curved_)?(?P<model>line|linear|strip|siddon|joseph)(_(fanflat|(?P<kind>ref|offset)))?"
)
CONE = re.compile(r"(?P<orbit>circular|helical)_(?P<detector>flat|curved)_(?P<model>siddon|joseph)")


class Stored(NamedTuple):
    """A stored tensor: the operator that gives it, whether by its adjoint, and how far it may be off."""

    A: Projector
    adjoint: bool
    tolerance: float


def number(settings: Mapping[str, Any], name: str) -> float | tuple[float, ...]:
    value = settings[name]
    return tuple(value) if isinstance(value, Sequence) else float(value)


def parallel(case: Case, key: str, found: re.Match[str]) -> Beam:
    s = case.settings
    offset = s["offset_case"] if found["kind"] == "offset" else s.get("offset", 0.0)
    assert not found["curved"], f"{case}: a parallel beam is flat, got {key}"
    return ParallelBeam(case["angles"].tolist(), Detector(s["n_det"], s["det_spacing"], offset))


def fan(case: Case, key: str, found: re.Match[str]) -> Beam:
    s = case.settings
    if found["curved"]:
        step = s["curved_dgamma_rad"] * (s["dso"] + s["dod"])
        shift = s.get("curved_offset_rad", 0.0) * (s["dso"] + s["dod"])
        detector = Detector(s["curved_n_det"], step, shift, curved=True)
    else:
        detector = Detector(
            s["n_det"], s["det_spacing"], s["offset_case"] if found["kind"] == "offset" else s.get("offset", 0.0)
        )
    return FanBeam(case["angles"].tolist(), detector, s["dso"], s["dod"])


def picture(case: Case, key: str, beam: Callable[[Case, str, re.Match[str]], Beam]) -> Stored:
    """What the name of a tensor of a picture says; names that say nothing are an error."""
    found = PICTURE.fullmatch(key)
    assert found, f"{case}: no pattern knows the tensor {key!r}"
    volume = Volume((case.settings["ny"], case.settings["nx"]), number(case.settings, "pixel"))
    A = Projector(volume, beam(case, key, found), model=MODELS[found["model"]], truncated=True)
    return Stored(A, found["side"] == "adj", ASTRA if found["model"] in ("line", "linear", "strip") else REFERENCE)


def cone(case: Case, key: str) -> Stored:
    found = CONE.fullmatch(key)
    assert found, f"{case}: no pattern knows the tensor {key!r}"
    s = case.settings
    spacing = (s["row_spacing"], s["col_spacing"])
    offset = (s.get("row_offset", 0.0), s.get("col_offset", 0.0))
    detector = Detector((s["n_rows"], s["n_cols"]), spacing, offset, found["detector"] == "curved")
    helix = s["helical"] if found["orbit"] == "helical" else {}
    beam = ConeBeam(case["angles"].tolist(), detector, s["dso"], s["dod"], helix.get("pitch", 0.0), helix.get("z0", 0.0))
    volume = Volume(tuple(s["shape_zyx"]), number(s, "voxel"))
    return Stored(Projector(volume, beam, model=MODELS[found["model"]], truncated=True), False, REFERENCE)


def of_parallel(case: Case, key: str) -> Stored:
    return picture(case, key, parallel)


def of_fan(case: Case, key: str) -> Stored:
    return picture(case, key, fan)


READERS = {"parallel": of_parallel, "fan": of_fan, "cone_voxel": cone}


def outputs(cases: Sequence[Case]) -> list:
    """``(case, name)`` of every tensor that is no input."""
    return [pytest.param(case, key, id=f"{case}-{key}") for case in cases for key in sorted(case.tensors.keys() - INPUTS)]


def check(case: Case, key: str, dtype: torch.dtype) -> None:
    """Holds one stored tensor against the operator that its name stands for."""
    A, adjoint, tolerance = READERS[str(case.kind)](case, key)
    source = case["cotangent" if adjoint else "image" if "image" in case else "volume"].to(dtype)[None, None]
    got: Tensor = A.adjoint(source) if adjoint else A(source)
    wanted = case[key].double()
    assert got.dtype == dtype
    assert got.shape == (1, 1, *wanted.shape)
    if dtype == torch.float32:
        tolerance = max(tolerance, SINGLE * float(wanted.abs().max()))
    torch.testing.assert_close(got[0, 0].double(), wanted, atol=tolerance, rtol=0)


CASES = [case for kind in READERS for case in parity_cases("ct", kind)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize(("case", "key"), outputs(CASES))
def test_stored_numbers(case, key, dtype):
    check(case, key, dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_holds_what_it_is_made_from(case):
    assert {"angles", "volume" if case.kind == "cone_voxel" else "image"} <= case.tensors.keys()
    assert len(case.tensors.keys() - INPUTS) >= 4
    for key in case.tensors.keys() - INPUTS:
        if key.startswith("adj"):
            assert "cotangent" in case
    with pytest.raises(AssertionError, match="no pattern knows the tensor 'sino_distance_driven'"):
        READERS[case.kind](case, "sino_distance_driven")


@pytest.mark.parametrize("case", parity_cases("ct", "parallel"), ids=str)
def test_the_bright_pixel_is_at_the_top_right(case):
    """Row 0 is at the top: seen at angle 0 it lies at large u, at 90 degrees at large y."""
    row, column = divmod(int(case["image"].argmax()), case["image"].shape[1])
    volume = Volume((case.settings["ny"], case.settings["nx"]), number(case.settings, "pixel"))
    assert row < volume.shape[0] / 2
    assert column > volume.shape[1] / 2
    assert float(volume.axis(-2)[row]) > 0
    assert float(volume.axis(-1)[column]) > 0
