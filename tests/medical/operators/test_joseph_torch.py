"""The readable Joseph projector: closed forms, the compiled CPU projectors, the transpose, bounded memory."""

from __future__ import annotations

import math

import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, Rays, VectorBeam, Volume
from medical.operators import joseph_torch
from medical.operators.joseph_cpu import SliceJoseph
from medical.operators.joseph_torch import TorchJoseph
from medical.operators.joseph_volume_cpu import VolumeJoseph

CPU = torch.device("cpu")
PICTURE = Volume((19, 14), (0.8, 1.1), (1.5, -2.0))
BLOCK = Volume((6, 9, 8), (1.2, 0.8, 1.0), (0.3, 0.5, -0.2))
PICTURES = {
    "parallel": ParallelBeam.uniform(7, Detector(25, 0.9, 0.3)),
    "fan": FanBeam.uniform(6, Detector(24, 1.7), 60.0, 40.0),
    "source within": FanBeam.uniform(6, Detector(24, 1.7, curved=True), 5.0, 40.0),
}


def tilted() -> VectorBeam:
    """Cones from anywhere onto skew detectors: rays along x, y and z."""
    ways = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ways /= torch.linalg.vector_norm(ways, dim=-1, keepdim=True)
    return VectorBeam(9 * ways[0], -7 * ways[0], ways[1], ways[2], Detector((5, 6), (1.5, 1.2)))


VOLUMES = {
    "cone": ConeBeam.circular(4, Detector((6, 9), (1.5, 1.4)), 40.0, 20.0),
    "helix": ConeBeam.helical(5, Detector((6, 9), (3.5, 1.4), curved=True), 14.0, 20.0, 5.0, 2.0),
    "parallel": ParallelBeam.uniform(3, Detector((7, 12), (1.2, 1.1))),
    "tilted": tilted(),
}
CASES = [(PICTURE, beam) for beam in PICTURES.values()] + [(BLOCK, beam) for beam in VOLUMES.values()]
NAMES = [*PICTURES, *(f"volume, {name}" for name in VOLUMES)]


def draw(volume, beam, dtype):
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, *shape, generator=g, dtype=torch.float64) for shape in (volume.shape, beam.shape))
    return x.to(dtype), y.to(dtype)


def relative(a, b):
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("volume", "beam"), CASES, ids=NAMES)
def test_same_numbers_as_the_compiled_projectors(volume, beam, dtype, tolerance):
    plain = TorchJoseph(volume, beam.rays(), CPU)
    compiled = (SliceJoseph if volume.ndim == 2 else VolumeJoseph)(volume, beam.rays())
    x, y = draw(volume, beam, dtype)
    for here, there in ((plain.forward(x), compiled.forward(x)), (plain.adjoint(y), compiled.adjoint(y))):
        assert here.dtype == dtype
        assert here.shape == there.shape
        assert relative(here, there) < tolerance


@pytest.mark.parametrize(("volume", "beam"), CASES, ids=NAMES)
def test_adjoint_is_the_transpose(volume, beam):
    kernel = TorchJoseph(volume, beam.rays(), CPU)
    x, y = draw(volume, beam, torch.float64)
    forward, adjoint = kernel.forward(x), kernel.adjoint(y)
    assert abs(float((forward * y).sum() - (x * adjoint).sum())) < 1e-13 * float(forward.norm() * y.norm())


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.6, math.pi / 2 + 0.2])
def test_plane_through_a_picture_is_summed_along_the_ray(angle):
    """Linear interpolation is exact on ``1 + 0.3 x - 0.2 y``: a ray adds up its values on the planes."""
    volume = Volume((41, 41), 0.5)
    x, y = volume.axis(-1), volume.axis(-2)
    picture = 1 + 0.3 * x - 0.2 * y[:, None]
    beam = ParallelBeam((angle,), Detector(3, 0.7))
    found = TorchJoseph(volume, beam.rays(), CPU).forward(picture[None])[0, 0]
    e, r = (math.cos(angle), math.sin(angle)), (math.sin(angle), -math.cos(angle))
    major = 0 if abs(r[0]) >= abs(r[1]) else 1
    for u, value in zip((-0.7, 0.0, 0.7), found, strict=True):
        s = ((x if major == 0 else y) - u * e[major]) / r[major]
        on = 1 + 0.3 * (u * e[0] + s * r[0]) - 0.2 * (u * e[1] + s * r[1])
        assert float(value) == pytest.approx(float(on.sum()) * 0.5 / abs(r[major]), rel=1e-12)


def test_single_ray_along_z_through_one_voxel():
    """A quarter of a voxel off its middle in x, half in y: weights 0.75 x 0.5, times the thickness of a slice."""
    volume = Volume((3, 5, 5), (2.0, 1.0, 1.0))
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    down = torch.tensor([[[0.0, 0.0, -3.0]]], dtype=torch.float64)
    nothing = torch.zeros(1, 3, dtype=torch.float64)
    rays = Rays(
        torch.tensor([[[0.25, 0.5, 30.0]]], dtype=torch.float64), down, nothing, nothing, torch.zeros(1, dtype=torch.float64)
    )
    x = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    x[0, 1, 2, 2] = 4.0
    kernel = TorchJoseph(volume, rays, CPU)
    assert float(kernel.forward(x)) == pytest.approx(0.75 * 0.5 * 4.0 * 2.0, rel=1e-14)
    back = kernel.adjoint(one[None])
    assert float(back[0, 1, 2, 2]) == pytest.approx(0.75, rel=1e-14)
    assert float(back.sum()) == pytest.approx(3 * 2.0, rel=1e-14)


@pytest.mark.parametrize(("volume", "beam"), CASES, ids=NAMES)
def test_no_grids(volume, beam):
    kernel = TorchJoseph(volume, beam.rays(), CPU)
    assert kernel.forward(torch.zeros(0, *volume.shape)).shape == (0, *beam.shape)
    assert kernel.adjoint(torch.zeros(0, *beam.shape)).shape == (0, *volume.shape)


@pytest.mark.parametrize(("volume", "beam"), [CASES[1], CASES[4]], ids=[NAMES[1], NAMES[4]])
def test_blocks_of_rays_do_not_change_the_numbers(volume, beam, monkeypatch):
    x, y = draw(volume, beam, torch.float64)
    kernel = TorchJoseph(volume, beam.rays(), CPU)
    whole = kernel.forward(x), kernel.adjoint(y)
    sizes = []
    walk = joseph_torch._taps
    monkeypatch.setattr(joseph_torch, "SAMPLES", 1000)
    monkeypatch.setattr(joseph_torch, "_taps", lambda w, *a: sizes.append(len(w.index)) or walk(w, *a))
    torch.testing.assert_close(kernel.forward(x), whole[0], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(kernel.adjoint(y), whole[1], rtol=1e-13, atol=1e-13)
    assert len(sizes) > 4
    assert max(sizes) * 3 * min(volume.shape) <= 1000
