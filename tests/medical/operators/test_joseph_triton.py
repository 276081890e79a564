"""The Triton projectors against plain torch: interpreted on the CPU, compiled for a GPU that is not there, and run on one.

Triton decides at its import whether it interprets; so both checks without a GPU run this file in processes of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, Rays, VectorBeam, Volume

CPU = torch.device("cpu")
PICTURE, BLOCK = Volume((9, 7), (0.8, 1.1), (0.5, -1.0)), Volume((4, 6, 5), (1.2, 0.8, 1.0), (0.3, 0.5, -0.2))
SOURCES, CENTRES = ((2.0, -6.0, 1.0), (1.0, 2.0, -7.0)), ((-1.0, 3.0, 0.2), (0.0, -1.0, 4.0))  # rays along y, and along z
CASES = {
    "parallel, few": (PICTURE, ParallelBeam.uniform(3, Detector(11, 0.9, 0.3)), 2, torch.float32),
    "parallel, many": (PICTURE, ParallelBeam.uniform(2, Detector(25, 0.4, 0.3)), 9, torch.float32),
    "fan, few": (PICTURE, FanBeam.uniform(4, Detector(10, 1.7), 30.0, 10.0), 1, torch.float64),
    "fan, many": (PICTURE, FanBeam.uniform(3, Detector(10, 1.7, curved=True), 12.0, 10.0), 9, torch.float32),
    "crooked": (PICTURE, FanBeam.uniform(3, Detector(10, 1.7), 30.0, 10.0), 9, torch.float32),
    "cone": (BLOCK, ConeBeam.circular(1, Detector((4, 4), (1.5, 1.4)), 40.0, 20.0), 2, torch.float32),
    "helix": (BLOCK, ConeBeam.helical(2, Detector((4, 4), (3.5, 2.1), curved=True), 14.0, 20.0, 5.0, 2.0), 1, torch.float32),
    "tilted": (
        BLOCK,
        VectorBeam(SOURCES, CENTRES, ((1.0, 0.2, 0.0),) * 2, ((0.0, 0.5, 0.8), (0.1, 1.0, 0.0)), (4, 5)),
        1,
        torch.float64,
    ),
}  # fmt: skip


def rays_of(name, beam):
    """Those of the beam; ``crooked`` ones share neither a direction nor a point."""
    rays = beam.rays()
    turn = 0.1 * torch.arange(rays.shape[2], dtype=torch.float64)[:, None] ** 2 * (name == "crooked")
    return Rays(rays.origin + turn, rays.direction, rays.origin_step, rays.direction_step, rays.v)


def compare(kernel, reference, x, y):
    """How far the two are apart, relative, and by how much ``<A x, y>`` and ``<x, A^T y>`` differ."""
    forward, adjoint = kernel.forward(x), kernel.adjoint(y)
    right, back = reference.forward(x.to(CPU)).to(x.device), reference.adjoint(y.to(CPU)).to(y.device)
    gap = (forward.double() * y.double()).sum() - (x.double() * adjoint.double()).sum()
    return {
        "forward": float((forward - right).norm() / right.norm()),
        "adjoint": float((adjoint - back).norm() / back.norm()),
        "transpose": float(gap.abs() / (forward.double().norm() * y.double().norm())),
        "largest": float(right.abs().max()),
    }


def draw(count, volume, beam, dtype):
    g = torch.Generator().manual_seed(0)
    return (torch.rand(count, *shape, generator=g, dtype=torch.float64).to(dtype) for shape in (volume.shape, beam.shape))


def interpret():
    """Every case by the interpreter, as JSON."""
    from medical.operators.joseph_torch import TorchJoseph
    from medical.operators.joseph_triton import TritonJoseph

    found = {}
    for name, (volume, beam, count, dtype) in CASES.items():
        rays = rays_of(name, beam)
        kernel = TritonJoseph(volume, rays, CPU)
        found[name] = compare(kernel, TorchJoseph(volume, rays, CPU), *draw(count, volume, beam, dtype))
        none = [kernel.forward(torch.zeros(0, *volume.shape)), kernel.adjoint(torch.zeros(0, *beam.shape))]
        found[name]["none"] = [[*t.shape] for t in none]
        if volume.ndim == 2:
            found[name]["gathers"] = all(part.finder is not None for part in kernel._halves.parts)
    print(json.dumps(found))


def compile_all():
    """Compiles the kernels for compute capability 9.0, which needs no GPU; prints size of code and double-precision work."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from medical.operators import triton_kernels, triton_volume_kernels

    pointers = dict.fromkeys(("image", "weight", "out", "data", "volume"), "*fp32")
    pointers |= dict.fromkeys(("intercept", "slope", "ends"), "*i64") | dict.fromkeys(
        ("first", "last", "index", "bins"), "*i32"
    )
    pointers |= dict.fromkeys(("origin", "direction", "origin_step", "direction_step", "heights", "unit"), "*fp64")
    sizes = {"RAYS": 32, "LANES": 32, "PLANES": 2, "PIXELS": 16, "COLUMNS": 4, "ROWS": 32, "AXIS": 0, "M0": 1, "M1": 2}
    found = {}
    for module, name in [(triton_kernels, f"{n}_slices") for n in ("forward", "scatter", "gather")] + [
        (triton_volume_kernels, f"{n}_volume") for n in ("forward", "scatter")
    ]:
        kernel = getattr(module, name)
        signature = {n: pointers.get(n, "constexpr" if n in sizes else "i32") for n in kernel.arg_names}
        constants = {(kernel.arg_names.index(n),): sizes[n] for n in kernel.arg_names if n in sizes}
        made = triton.compile(
            ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}
        )
        found[name] = {"bytes": len(made.asm["cubin"]), "doubles": made.asm["ptx"].count("fma.rn.f64")}
    print(json.dumps(found))


def run_here(what, tmp_path, *, interpreted):
    """What this file prints when it is run with Triton interpreting, or not."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    root = Path(__file__).parents[3]
    settings = {"TRITON_INTERPRET": str(int(interpreted)), "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, __file__, what], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    return run_here("interpret", tmp_path_factory.mktemp("triton"), interpreted=True)


@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_give_the_numbers_of_plain_torch(name, interpreted):
    found, bound = interpreted[name], 1e-11 if CASES[name][3] == torch.float64 else 1e-6
    assert found["largest"] > 1
    assert found["forward"] < bound
    assert found["adjoint"] < bound
    assert found["transpose"] < (1e-14 if CASES[name][3] == torch.float64 else 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_no_grids_give_none(name, interpreted):
    volume, beam, *_ = CASES[name]
    assert interpreted[name]["none"] == [[0, *beam.shape], [0, *volume.shape]]


@pytest.mark.parametrize("entries", [1, 2**24, 2**25, 2**25 + 1, 50_000_000, 2**27, 2**27 + 1, 2**28, 2**31, 2**32])
def test_offsets_fit_32_bits(entries):
    """Also when lanes are filled up to whole accesses, as they are for eight slices and more."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from medical.operators.joseph_triton import FEWEST, LANES, WHOLE, _most_lanes

    most = _most_lanes(entries)
    assert 1 <= most <= LANES
    filled = -(-most // WHOLE) * WHOLE if most >= FEWEST else most
    assert filled * entries <= 2**31 or most == 1


def test_only_crooked_rays_are_scattered(interpreted):
    gathers = {name: found["gathers"] for name, found in interpreted.items() if "gathers" in found}
    assert gathers == {name: name != "crooked" for name in CASES if CASES[name][0].ndim == 2}


def test_kernels_compile_without_a_gpu(tmp_path):
    """Triton's compiler takes what its interpreter took; slices need no double precision, volumes only to set up rays."""
    found = run_here("compile", tmp_path, interpreted=False)
    assert len(found) == 5
    assert all(kernel["bytes"] > 1000 for kernel in found.values())
    assert {name: kernel["doubles"] > 0 for name, kernel in found.items()} == {name: name.endswith("volume") for name in found}


GPU_CASES = {
    "parallel, 64": (Volume((128, 120), 0.9), ParallelBeam.uniform(90, Detector(180, 0.8, 0.3)), 64),
    "parallel, 1": (Volume((128, 120), 0.9), ParallelBeam.uniform(90, Detector(180, 0.8, 0.3)), 1),
    "parallel, 70": (Volume((64, 48), 0.9), ParallelBeam.uniform(30, Detector(80)), 70),
    "fan": (Volume((128, 120), 0.9), FanBeam.uniform(90, Detector(180, 1.6), 200.0, 200.0), 9),
    "curved fan": (Volume((128, 120), 0.9), FanBeam.uniform(90, Detector(180, 1.6, curved=True), 100.0, 200.0), 3),
    "cone": (Volume((48, 64, 56)), ConeBeam.circular(40, Detector((60, 80), 1.5), 120.0, 80.0), 2),
    "helix": (Volume((48, 64, 56)), ConeBeam.helical(80, Detector((20, 80), 1.5, curved=True), 120.0, 80.0, 15.0, 3.0), 1),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_CASES)
def test_gpu_gives_the_numbers_of_the_cpu(name):
    """Within 1e-5 in float32; the transpose is one to 1e-6."""
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    pytest.importorskip("triton", reason="Triton is not installed")
    from medical.operators.joseph_cpu import SliceJoseph
    from medical.operators.joseph_triton import TritonJoseph
    from medical.operators.joseph_volume_cpu import VolumeJoseph

    volume, beam, count = GPU_CASES[name]
    reference = (SliceJoseph if volume.ndim == 2 else VolumeJoseph)(volume, beam.rays())
    kernel = TritonJoseph(volume, beam.rays(), torch.device("cuda"))
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        x, y = (t.cuda() for t in draw(count, volume, beam, dtype))
        found = compare(kernel, reference, x, y)
        assert found["forward"] < bound
        assert found["adjoint"] < bound
        assert found["transpose"] < 0.1 * bound


if __name__ == "__main__":
    {"interpret": interpret, "compile": compile_all}[sys.argv[1]]()
