"""Projectors of every model against symmetries, closed forms and ellipses: where everything lies, and how much it is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.operators import Projector
from medical.phantoms import Ellipses, Ellipsoids
from tests.medical.operators.examples import FLAT, KINDS, SOLID, random_geometry
from tests.medical.operators.test_projector import assert_same, every_kind, every_model, projector, randn


def some_kinds(*kinds: str) -> pytest.MarkDecorator:
    """Every model with those of the geometries that it takes."""
    pairs = [(model, kind) for model, kind in KINDS if kind in kinds]
    return pytest.mark.parametrize(("model", "kind"), pairs, ids=[f"{model}-{kind}" for model, kind in pairs])


@some_kinds(*FLAT[:3], *SOLID[:3])
def test_a_mirror_turns_the_other_way_round(model, kind):
    for seed in (0, 10, 30):
        volume, beam = random_geometry(kind, seed)
        *others, u = beam.detector.offset
        changes = {"angles": [-a for a in beam.angles], "detector": replace(beam.detector, offset=(*others, -u))}
        if kind == "helix":
            changes["pitch"] = -beam.pitch
        *rest, cx = volume.centre
        mirrored = replace(volume, centre=(*rest, -cx)), replace(beam, **changes)
        x = randn(2, 1, *volume.shape)
        assert_same(projector(mirrored, model)(x.flip(-1)).flip(-1), projector((volume, beam), model)(x))


@pytest.mark.parametrize("kind", SOLID[:3])
@pytest.mark.parametrize("model", ["joseph", "siddon"])
def test_a_volume_upside_down(model, kind):
    volume, beam = random_geometry(kind, 10)
    v, u = beam.detector.offset
    changes = {"detector": replace(beam.detector, offset=(-v, u))}
    if kind != "slab":
        changes |= {"pitch": -beam.pitch, "z0": -beam.z0}
    cz, cy, cx = volume.centre
    turned = replace(volume, centre=(-cz, cy, cx)), replace(beam, **changes)
    x = randn(2, 1, *volume.shape)
    assert_same(projector(turned, model)(x.flip(-3)).flip(-2), projector((volume, beam), model)(x))


@every_kind
def test_rows_from_below(model, kind):
    volume, beam = random_geometry(kind, 20)
    x = randn(2, 1, *volume.shape)
    other = replace(volume, flip_y=not volume.flip_y)
    assert_same(projector((other, beam), model)(x.flip(-2)), projector((volume, beam), model)(x))


@pytest.mark.parametrize("n", [8, 9])
@some_kinds(*FLAT[:3], *SOLID[:3])
def test_turning_the_object_turns_the_views(model, kind, n):
    volume, beam = random_geometry(kind, 30)
    volume = Volume((*volume.shape[:-2], n, n), 0.9, flip_y=False)
    quarter = {"angles": [a + math.pi / 2 for a in beam.angles]}
    if kind == "helix":
        quarter["z0"] = beam.z0 - beam.pitch / 4
    x = randn(2, 1, *volume.shape)
    turned = torch.rot90(x, -1, (-2, -1))  # from x towards y, row 0 at the bottom
    assert_same(projector((volume, replace(beam, **quarter)), model)(turned), projector((volume, beam), model)(x))


@every_kind
def test_moving_both_moves_nothing(model, kind):
    volume, beam = random_geometry(kind, 40)
    if beam.detector.curved:
        beam = replace(beam, detector=replace(beam.detector, curved=False))
    vectors = beam if isinstance(beam, VectorBeam) else VectorBeam.of(beam)
    shift = torch.tensor([1.3, -0.7, 0.0 if volume.ndim == 2 else 0.4], dtype=torch.float64)
    moved = {"centres": torch.tensor(vectors.centres, dtype=torch.float64) + shift}
    if not vectors.parallel:
        moved["sources"] = torch.tensor(vectors.sources, dtype=torch.float64) + shift
    centre = torch.tensor(volume.centre, dtype=torch.float64) + shift.flip(0)[-volume.ndim :]
    x = randn(2, 1, *volume.shape)
    there = replace(volume, centre=centre), replace(vectors, **moved)
    assert_same(projector(there, model)(x), projector((volume, vectors), model)(x), 1e-11)


@every_model
def test_the_centre_of_the_grid_moves_the_shadow(model):
    angles, c = (0.3, 1.9), (0.7, -1.2)  # cy, cx
    x = randn(1, 1, 6, 7)
    moved = Projector(Volume((6, 7), 0.8, c), ParallelBeam(angles, Detector(15, 0.7, 0.1)), model=model, truncated=True)(x)
    for k, theta in enumerate(angles):
        shadow = c[1] * math.cos(theta) + c[0] * math.sin(theta)
        beam = ParallelBeam((theta,), Detector(15, 0.7, 0.1 - shadow))
        assert_same(moved[:, :, k : k + 1], Projector(Volume((6, 7), 0.8), beam, model=model, truncated=True)(x))


@every_kind
def test_values_grow_with_all_lengths(model, kind):
    for seed in (0, 10):
        volume, beam = random_geometry(kind, seed)
        by, detector = 3.7, beam.detector

        def times(values, by=by):
            return tuple(by * v for v in values)

        scaled = {"detector": replace(detector, spacing=times(detector.spacing), offset=times(detector.offset))}
        for name in ("source_distance", "detector_distance", "pitch", "z0"):
            if hasattr(beam, name):
                scaled[name] = by * getattr(beam, name)
        if isinstance(beam, VectorBeam):
            scaled["centres"] = tuple(map(times, beam.centres))
            scaled["sources"] = beam.sources if beam.parallel else tuple(map(times, beam.sources))
        large = replace(volume, voxel=times(volume.voxel), centre=times(volume.centre)), replace(beam, **scaled)
        x = randn(2, 1, *volume.shape)
        assert_same(projector(large, model)(x), by * projector((volume, beam), model)(x), 1e-11)


@pytest.mark.parametrize("kind", FLAT[:3] + SOLID[:3])
@pytest.mark.parametrize("model", ["joseph", "siddon"])
def test_a_ray_through_the_middle_of_a_voxel(model, kind):
    """It gives ``1 / max_k(|d_k| / h_k)``, by both models, where the detector holds the one pixel that is hit."""
    for seed in range(0, 80, 10):
        volume, beam = random_geometry(kind, seed)
        index = tuple(seed // 10 * 3 % n for n in volume.shape)
        position = [float(volume.axis(k - volume.ndim)[i]) for k, i in enumerate(index)]
        y, x = position[-2:]
        z = position[0] if volume.ndim == 3 else 0.0
        theta = beam.angles[seed // 10 % 5]
        t, s = x * math.cos(theta) + y * math.sin(theta), x * math.sin(theta) - y * math.cos(theta)
        if isinstance(beam, ParallelBeam):
            u, v, d = t, z, (math.sin(theta), -math.cos(theta), 0.0)
        else:
            z0 = beam.z0 + beam.pitch * theta / (2 * math.pi) if isinstance(beam, ConeBeam) else 0.0
            depth, L = beam.source_distance - s, beam.distance
            g = math.atan2(t, depth)
            u = L * g if beam.detector.curved else L * t / depth
            v = (z - z0) * (L / math.hypot(t, depth) if beam.detector.curved else L / depth)
            d = (x - beam.source_distance * math.sin(theta), y + beam.source_distance * math.cos(theta), z - z0)
        pixel = (
            Detector(1, 1.0, u, beam.detector.curved)
            if volume.ndim == 2
            else Detector((1, 1), 1.0, (v, u), beam.detector.curved)
        )
        image = torch.zeros(1, 1, *volume.shape, dtype=torch.float64)
        image[(0, 0, *index)] = 1
        steps = [abs(way) / h for way, h in zip(d, volume.spacing[::-1], strict=False)]
        wanted = math.hypot(*d) / max(steps)
        got = float(projector((volume, replace(beam, angles=(theta,), detector=pixel)), model)(image))
        assert got == pytest.approx(wanted, rel=1e-11)


@every_model
@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("columns", [40, 41])
def test_centre_and_mass_of_a_point(model, n, columns):
    """At ``tan theta = 1 / 2`` columns of ``h sin theta`` sample the shadow of a pixel so that sums over them are integrals."""
    h, angle, offset = 1.3, math.atan(0.5), 0.217
    angles = [a + k * math.pi / 2 for k in range(4) for a in (angle, -angle)]
    du = h * math.sin(angle)
    A = Projector(Volume((n, n), h), ParallelBeam(angles, Detector(columns, du, offset)), model=model)
    for row, column in ((0, n - 1), (n // 2, 1), (n - 1, n // 2 + 1)):
        x = torch.zeros(1, 1, n, n, dtype=torch.float64)
        x[0, 0, row, column] = 2
        y = A(x)[0, 0]
        assert_same(du * y.sum(1), torch.full((8,), 2 * h**2, dtype=torch.float64))
        px, py = (column - (n - 1) / 2) * h, ((n - 1) / 2 - row) * h
        theta = torch.tensor(angles, dtype=torch.float64)
        middle = (y * A.beam.detector.u).sum(1) / y.sum(1)
        torch.testing.assert_close(middle, px * theta.cos() + py * theta.sin(), atol=1e-9, rtol=0)


@every_model
@pytest.mark.parametrize("kind", ["parallel", "fan-flat", "fan-curved"])
def test_ellipses_ever_more_exactly(model, kind):
    phantom = Ellipses(((-2.0, 3.0, 9.0, 6.0, 0.4, 1.0), (3.0, -1.0, 3.0, 4.0, -0.8, 0.5), (0.0, 5.0, 2.0, 1.5, 0.0, -0.3)))
    errors = []
    for n in (32, 64, 128):
        detector = Detector(
            2 * n, {"parallel": 32, "fan-flat": 48, "fan-curved": 48}[kind] / (2 * n), 0.1, kind == "fan-curved"
        )
        beam = ParallelBeam.uniform(11, detector) if kind == "parallel" else FanBeam.uniform(11, detector, 60, 25)
        volume = Volume((n, n), 26 / n)
        image = phantom.rasterise(volume)[None, None]
        got, wanted = Projector(volume, beam, model=model)(image)[0, 0], phantom.project(beam)
        errors.append(float((got - wanted).norm() / wanted.norm()))
    assert errors[0] > 1.4 * errors[1] > 2 * errors[2]
    assert all(error < 1.2 / n for error, n in zip(errors, (32, 64, 128), strict=True))


@pytest.mark.parametrize("model", ["joseph", "siddon"])
@pytest.mark.parametrize("curved", [False, True])
def test_ellipsoids_ever_more_exactly(model, curved):
    phantom = Ellipsoids(((1.0, -2.0, 0.5, 8.0, 6.0, 5.0, 0.4, 1.0), (-2.0, 1.0, 1.0, 2.0, 3.0, 2.5, 0.0, 0.5)))
    beam = ConeBeam(uniform(6, 0.05, 2 * math.pi), Detector((20, 30), 1.3, (0.2, 0.1), curved), 60, 25, pitch=3.0, z0=-1.0)
    errors = []
    for n in (20, 40):
        volume = Volume((n // 2, n, n), 22 / n)
        got = Projector(volume, beam, model=model)(phantom.rasterise(volume, oversampling=4)[None, None])[0, 0]
        wanted = phantom.project(beam)
        errors.append(float((got - wanted).norm() / wanted.norm()))
    assert errors[0] > 1.8 * errors[1]
    assert all(error < 2 / n for error, n in zip(errors, (20, 40), strict=True))


def test_along_the_axes_joseph_sums_rows_and_columns():
    volume = Volume((5, 6), (0.7, 1.5))
    x = randn(1, 1, 5, 6)
    down = Projector(volume, ParallelBeam((0.0,), Detector(6, 1.5)))(x)
    torch.testing.assert_close(down[0, 0, 0], 0.7 * x[0, 0].sum(0), atol=1e-13, rtol=0)
    across = Projector(volume, ParallelBeam((math.pi / 2,), Detector(5, 0.7)))(x)
    torch.testing.assert_close(across[0, 0, 0], 1.5 * x[0, 0].flip(0).sum(1), atol=1e-13, rtol=0)
    edge = Projector(volume, ParallelBeam((0.0,), Detector(7, 1.5)))(x)  # half a pixel beside every column
    padded = torch.nn.functional.pad(x[0, 0], (1, 1)).sum(0)
    torch.testing.assert_close(edge[0, 0, 0], 0.7 * (padded[:-1] + padded[1:]) / 2, atol=1e-13, rtol=0)


def test_a_diagonal_is_walked_along_x():
    x = randn(1, 1, 6, 6)
    y = Projector(Volume((6, 6)), ParallelBeam((math.pi / 4,), 9))(x)
    assert float(y[0, 0, 0, 4]) == pytest.approx(
        math.sqrt(2) * float(x[0, 0].trace()), abs=1e-12
    )  # from the top left downwards


@every_model
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_source_far_away_is_parallel(model, curved, dtype):
    volume, angles = Volume((12, 11), 0.9), (0.2, 1.3, 2.9, 4.0)
    detector = Detector(19, 0.8, 0.13)
    x = randn(2, 1, 12, 11, dtype=dtype)
    for distance in (1e6, 1e8):
        far = Projector(volume, FanBeam(angles, replace(detector, curved=curved), distance, 0.0), model=model)(x)
        assert_same(far, Projector(volume, ParallelBeam(angles, detector), model=model)(x), 1e-4)


@pytest.mark.parametrize("model", ["joseph", "siddon"])
def test_a_cone_from_far_away_is_parallel(model):
    volume, angles, detector = Volume((5, 8, 7)), (0.2, 1.3, 4.0), Detector((5, 12), (0.9, 1.1), (0.05, 0.13))
    x = randn(1, 1, 5, 8, 7)
    far = Projector(volume, ConeBeam(angles, detector, 1e6, 0.0), model=model)(x)
    assert_same(far, Projector(volume, ParallelBeam(angles, detector), model=model)(x), 1e-4)


@some_kinds("parallel", "fan-flat", "slab", "cone")
def test_view_by_view_is_the_same_beam(model, kind):
    volume, beam = random_geometry(kind, 10)
    x = randn(2, 1, *volume.shape)
    assert_same(projector((volume, VectorBeam.of(beam)), model)(x), projector((volume, beam), model)(x))
