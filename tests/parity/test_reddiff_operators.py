"""The image-space operators against the numbers of the RED-Diff, DPS and DDNM repositories."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from inverse.operators import (
    JPEG,
    BlockGaussian,
    Blur,
    Downsample,
    Gaussian,
    Grayscale,
    Hadamard,
    Identity,
    Inpaint,
    LinearOperator,
    Operator,
    Overexpose,
    PhaseRetrieval,
    Poisson,
    Quantize,
    Sample,
    ddrm,
    kernels,
    masks,
    resize,
)
from inverse.operators.jpeg import quantization_tables
from inverse.operators.resize import resize_matrix
from inverse.samplers.ddrm import spectral_step
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser, Prediction
from prior.schedules import Schedule
from tests.parity.cases import Case, needs_parity, parity_cases
from tests.parity.operators import ddnm_inpaint
from tests.parity.pending import is_pending_operator

pytestmark = needs_parity("reddiff")

TOLERANCE = 1e-5
TOLERANCE_PINV = 2e-4  # of the operators with small singular values, inverted in float32 by the official code


def close(got: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(got.reshape(wanted.shape).to(wanted), wanted, atol=tolerance, rtol=0)


def linear(case: Case, name: str, A: LinearOperator, tolerance_pinv: float = TOLERANCE, members: slice = slice(None)) -> None:
    """Forward, adjoint and pseudo-inverse, as far as they are stored, of some members of the batch."""
    x, y = case["x"][members], case[f"{name}/y"][members]
    measured = A(x)
    close(measured, y)
    if f"{name}/Ht_v" in case:
        close(A.adjoint(case[f"{name}/v"][members].view_as(measured)), case[f"{name}/Ht_v"][members])
    close(A.pinv(y.view_as(measured)), case[f"{name}/pinv_y"][members], tolerance_pinv)


def shape_of(case: Case) -> tuple[int, ...]:
    return tuple(case["x"].shape[1:])


def deno(case: Case, name: str, _: re.Match[str]) -> None:
    linear(case, name, Identity())


def sr(case: Case, name: str, match: re.Match[str]) -> None:
    linear(case, name, Downsample.area(int(match[1])))


def bicubic(case: Case, name: str, match: re.Match[str]) -> None:
    linear(case, name, ddrm.bicubic(int(match[1]), shape_of(case)), TOLERANCE_PINV)


def color(case: Case, name: str, _: re.Match[str]) -> None:
    linear(case, name, Grayscale())


TAPS = {"uni": ddrm.uniform_taps, "gauss": ddrm.gaussian_taps}


def deblur_matrix(case: Case, name: str, match: re.Match[str]) -> None:
    close(ddrm.deblur(TAPS[match[1]](), shape_of(case)).rows, case[f"{name}/kernel_matrix"])


def deblur_corrected(case: Case, name: str, match: re.Match[str]) -> None:
    linear(case, name, ddrm.deblur(TAPS[match[1]](), shape_of(case)), TOLERANCE_PINV)


def member_masks(case: Case, name: str, shape: tuple[int, ...]) -> list[Tensor]:
    """The mask of each image; they are taken in turn, from the image's index in its data set."""
    dense = case[f"{name}/dense_masks"].view(-1, *shape)
    indices = case.meta["cases"][name].get("indices", range(len(case["x"])))
    return [dense[index % len(dense)] for index in indices]


def sample(case: Case, name: str, _: re.Match[str]) -> None:
    for member, mask in enumerate(member_masks(case, name, shape_of(case))):
        linear(case, name, Sample(mask), members=slice(member, member + 1))


def masked(case: Case, name: str, _: re.Match[str]) -> None:
    for member, mask in enumerate(member_masks(case, name, shape_of(case))):
        linear(case, name, Inpaint(mask), members=slice(member, member + 1))


def compose(case: Case, name: str, _: re.Match[str]) -> None:
    """The pseudo-inverses in reverse order are that of the whole, since the blocks of the reduction do not overlap."""
    B = Downsample.area(int(re.search(r"sr(\d+) then in2", case.meta["cases"][name]["rule"])[1]))
    for member, mask in enumerate(member_masks(case, name, B.output_shape(shape_of(case)))):
        linear(case, name, Inpaint(mask) @ B, members=slice(member, member + 1))


def maskfile(case: Case, name: str, _: re.Match[str]) -> None:
    shape = tuple(case.meta["maskfile"]["shape"])
    got = masks.unpack(case[f"{name}/m"], shape)
    dense = [t.bool() for key, t in case.tensors.items() if key.endswith("/dense_masks") and tuple(t.shape) == shape]
    assert any(torch.equal(got, mask) for mask in dense)
    assert np.packbits(got.numpy()).tolist() == case[f"{name}/m"].int().tolist()


def resizer(case: Case, name: str, _: re.Match[str]) -> None:
    scale = case.meta["cases"][name]["scale"]
    x, y = case["x"], case[f"{name}/y"]
    for axis in (0, 1):
        index, weight = case[f"{name}/fov{axis}"], case[f"{name}/w{axis}"]
        table = torch.zeros(index.shape[1], x.shape[-2 + axis]).scatter_add(1, index.T, weight.T)
        close(resize_matrix(x.shape[-2 + axis], scale), table, 5e-4)  # the table is stored in float16
    close(resize(x, scale), y)
    if scale < 1:
        close(Downsample.bicubic(round(1 / scale))(x), y)


def gaussian_blur(case: Case, name: str, _: re.Match[str]) -> None:
    meta = case.meta["cases"][name]
    kernel = kernels.gaussian_kernel(meta["std"])
    margin = (meta["kernel_size"] - len(kernel)) // 2
    stored = case[f"{name}/kernel"][0, 0]
    close(torch.nn.functional.pad(kernel, (margin,) * 4), stored)
    close(Blur.gaussian(meta["std"])(case["x"]), case[f"{name}/y"])
    close(Blur(stored)(case["x"]), case[f"{name}/y"])


def motion_blur(case: Case, name: str, _: re.Match[str]) -> None:
    kernel = case[f"{name}/kernel"].flip(0, 1)  # stored for a correlation
    close(Blur(kernel)(case["x"]), case[f"{name}/y"])


def mask_random(case: Case, name: str, _: re.Match[str]) -> None:
    meta = case.meta["cases"][name]
    got = masks.dps_random_mask(meta["image_size"], tuple(meta["mask_prob_range"]), seed=meta["numpy_seed"])
    close(got, case[name], 0)


def mask_box(case: Case, name: str, _: re.Match[str]) -> None:
    meta = case.meta["cases"][name]
    got = masks.dps_box_mask(
        meta["image_size"], tuple(meta["mask_len_range"]), margin=tuple(meta["margin"]), seed=meta["numpy_seed"]
    )
    close(got, case[name], 0)


def poisson(case: Case, name: str, _: re.Match[str]) -> None:
    meta = case.meta["cases"][name]
    noise = Poisson(peak=255 * meta["rate"])
    photons = noise.photons(((case["x"] + 1) / 2).clamp(0, 1))
    counts = np.random.RandomState(meta["numpy_seed"]).poisson(photons.numpy())
    y = torch.from_numpy(counts).float() / noise.peak
    close((2 * y - 1).clamp(-1, 1), case[f"{name}/y"])


def nonlinear(case: Case, name: str, A: Operator) -> None:
    """Ours take images in [0, 1], the official ones in [-1, 1]."""
    close(2 * A((case["x"] + 1) / 2) - 1, case[f"{name}/y"])
    close(2 * A.pinv((case[f"{name}/y"] + 1) / 2) - 1, case[f"{name}/pinv_y"])


def hdr(case: Case, name: str, _: re.Match[str]) -> None:
    nonlinear(case, name, Overexpose())


def quant(case: Case, name: str, match: re.Match[str]) -> None:
    nonlinear(case, name, Quantize(int(match[1])))


def jpeg(case: Case, name: str, match: re.Match[str]) -> None:
    A = JPEG(int(match[1]))
    got, wanted = 2 * A((case["x"] + 1) / 2) - 1, case[f"{name}/y"]
    wrong = ((got - wanted).abs() > 2e-5).flatten(1).double().mean()
    assert wrong <= 1e-3, f"{wrong:.2%} of the values differ"  # a coefficient may lie on a rounding tie
    close(A.pinv(wanted), case[f"{name}/pinv_y"], 0)


def quant_tables(case: Case, name: str, _: re.Match[str]) -> None:
    for quality, wanted in zip(case.meta["quant_tables_qf"], case[name], strict=True):
        close(quantization_tables(quality), wanted, 0)


def phase(case: Case, name: str, _: re.Match[str]) -> None:
    A = PhaseRetrieval(case.meta["cases"][name]["pad"])
    close(A(case[f"{name}/x"]), case[f"{name}/y"])
    if f"{name}/pinv_y" in case:
        close(A.pinv(case[f"{name}/y"]), case[f"{name}/pinv_y"])


def walsh(case: Case, name: str, _: re.Match[str]) -> None:
    """Its image is that of the DDNM cases; ``v`` is not stored, but ``A^T v`` is its own projection."""
    x = case["ddnm/x"]
    A = walsh_operator(case, name, tuple(x.shape[1:]))
    y = A(x)
    close(y, case[f"{name}/y"])
    close(A.pinv(y), case[f"{name}/pinv_y"])
    back = case[f"{name}/At_v"].view_as(x)
    close(A.normal(back), back)


def walsh_operator(case: Case, name: str, shape: tuple[int, ...]) -> Hadamard:
    perm = case[f"{name}/perm"].long()
    return Hadamard(perm[: int(len(perm) / case.meta["cases"][name]["ratio"])], shape)


def cs_block(case: Case, name: str, _: re.Match[str]) -> None:
    """Some rows of the matrix are stored; all of it went into ``pinv_y``, which measures the same as ``x``."""
    meta = case.meta["cases"][name]
    rows, x = case[f"{name}/Vt_kept"], case[f"{name}/x"]
    A = BlockGaussian(rows)
    assert A.block == meta["block"]
    assert A.isometry == pytest.approx(1, abs=TOLERANCE)
    stored = next(t for key, t in case.under(f"{name}/y").items() if int(key) == len(rows))
    close(A(x), stored)
    projected = case[f"{name}/pinv_y"].view_as(x)
    close(A(projected), stored)
    assert (projected * x).sum().item() == pytest.approx(projected.square().sum().item(), rel=TOLERANCE)
    assert len(BlockGaussian.random(meta["ratio"], meta["block"]).rows) == meta["ratio"] * meta["block"] ** 2


def ddnm_inp(case: Case, name: str, _: re.Match[str]) -> None:
    x = case["ddnm/x"]
    A, y = ddnm_inpaint(case[f"{name}/missing"], case[f"{name}/y"], tuple(x.shape[1:]))
    close(A(x), y)
    close(A.pinv(y), case[f"{name}/pinv_y"])


def ddnm_sr(case: Case, name: str, match: re.Match[str]) -> None:
    close(Downsample.area(int(match[1]))(case["ddnm/x"]), case[f"{name}/y"])


def lam(case: Case, name: str, _: re.Match[str]) -> None:
    """DDNM+'s correction ``Lambda`` and noise ``Lambda_noise`` (Wang et al. 2023), as they act in one step of ours.

    With y and the noise zero a step is ``a (v - Lambda A^+ A v)``, and ``Lambda`` leaves the null space alone.
    """
    meta, x = case.meta["cases"][name], case["ddnm/x"]
    v, eps = (case[f"{name}/{key}"].view_as(x) for key in ("v", "eps"))
    zero = torch.zeros_like(x)
    for key, wanted in case.under(f"{name}/").items():
        if key.count("/") != 2:
            continue
        degradation, level, what = key.split("/")
        A = lam_operator(case, degradation).with_noise(Gaussian(meta["sigma_y"]))
        point = Point(a=meta[level]["a"], sigma_t=meta[level]["sigma_t"])
        problem = Problem(Denoiser(torch.nn.Identity(), point, data_range=(0.0, 1.0)), A, A(zero))
        x0, noise, z = (v, zero, zero) if what == "Lambda" else (zero, eps, v)
        p = Prediction(x, x0, noise, torch.ones(()), torch.ones(()))
        got = spectral_step(problem, p, torch.tensor(0.0), z, eta=meta["eta"], eta_b=1.0)
        close(v - A.pinv(A(v)) + v - got / point.a if what == "Lambda" else got, wanted)


def lam_operator(case: Case, degradation: str) -> LinearOperator:
    shape = tuple(case["ddnm/x"].shape[1:])
    if match := re.fullmatch(r"sr(\d+)", degradation):
        return Downsample.area(int(match[1]))
    makes: dict[str, Callable[[], LinearOperator]] = {
        "deno": Identity,
        "color": Grayscale,
        "inp": lambda: ddnm_inpaint(case["ddnm_inp/missing"], case["ddnm_inp/y"], shape)[0],
        "walsh": lambda: walsh_operator(case, "walsh", shape),
    }
    return makes[degradation]()


@dataclass(frozen=True)
class Point(Schedule):
    """One time only, with these coefficients."""

    a: float
    sigma_t: float

    def alpha(self, t: float | Tensor) -> Tensor:
        return torch.tensor(self.a, dtype=torch.float64)

    def sigma(self, t: float | Tensor) -> Tensor:
        return torch.tensor(self.sigma_t, dtype=torch.float64)


CHECKS: dict[str, Callable[[Case, str, re.Match[str]], None]] = {
    r"deno": deno,
    r"sr(\d+)": sr,
    r"bicubic(\d+)": bicubic,
    r"color": color,
    r"deblur_(uni|gauss)": deblur_matrix,
    r"deblur_(uni|gauss)_corrected": deblur_corrected,
    r"inp": sample,
    r"in2": masked,
    r"compose": compose,
    r"maskfile": maskfile,
    r"resizer_(down|up)\d+": resizer,
    r"gaussian_blur": gaussian_blur,
    r"motion_blur": motion_blur,
    r"mask_random": mask_random,
    r"mask_box": mask_box,
    r"poisson": poisson,
    r"hdr": hdr,
    r"quant(\d+)": quant,
    r"jpeg(\d+)": jpeg,
    r"quant_tables": quant_tables,
    r"phase(_dps)?": phase,
    r"walsh": walsh,
    r"cs_block": cs_block,
    r"ddnm_inp": ddnm_inp,
    r"ddnm_sr(\d+)": ddnm_sr,
    r"lam": lam,
}
"""Operators by the full name of their sub-case."""


def sub_cases(case: Case) -> list[str]:
    """The names in the JSON and the first parts of the tensors' names; those of which only ``x`` is stored feed others."""
    stored = {key.split("/")[0] for key in case.tensors if key.split("/")[-1] != "x"}
    return sorted({*case.meta["cases"], *stored})


ALL = [
    pytest.param(case, name, id=f"{case}-{name}")
    for kind in ("ops_svd", "ops_misc")
    for case in parity_cases("reddiff", kind)
    for name in sub_cases(case)
]


@pytest.mark.parametrize(("case", "name"), ALL)
def test_operator(case: Case, name: str) -> None:
    found = [(check, match) for pattern, check in CHECKS.items() if (match := re.fullmatch(pattern, name))]
    if not found and is_pending_operator(name):
        return
    assert len(found) == 1, f"{case}: no test knows the operator {name!r}, and it is not pending"
    check, match = found[0]
    check(case, name, match)


def test_nothing_built_is_pending() -> None:
    both = [p.values[1] for p in ALL if any(re.fullmatch(q, p.values[1]) for q in CHECKS) and is_pending_operator(p.values[1])]
    assert both == []


def test_an_unknown_operator_fails() -> None:
    case = Case("none", "reddiff", "ops_svd", parity_cases("reddiff")[0].folder)
    with pytest.raises(AssertionError, match="no test knows the operator 'radon'"):
        test_operator(case, "radon")
