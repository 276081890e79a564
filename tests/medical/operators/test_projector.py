"""Projectors of every model and geometry: exact adjoints, symmetries, closed forms, convergence, and bad input."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inverse.operators import Gaussian
from medical.analytic import fbp, fdk
from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.operators import Projector
from medical.operators.joseph_volume_cpu import VolumeJoseph
from medical.phantoms import Ellipses, Ellipsoids
from tests.medical.operators.examples import Geometry, random_geometry

FLAT = ("parallel", "fan-flat", "fan-curved", "vectors")
SOLID = ("slab", "cone", "helix", "vectors-volume")
KINDS = [(m, k) for m in ("joseph", "siddon", "strip") for k in (FLAT if m == "strip" else FLAT + SOLID)]
PRECISIONS = {torch.float32: 1e-6, torch.float64: 1e-12}

every_kind = pytest.mark.parametrize(("model", "kind"), KINDS, ids="-".join)
every_model = pytest.mark.parametrize("model", ["joseph", "siddon", "strip"])


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def projector(geometry: Geometry, model: str) -> Projector:
    return Projector(*geometry, model=model, truncated=True)


def assert_same(got: Tensor, wanted: Tensor, tolerance: float = 1e-12) -> None:
    assert got.shape == wanted.shape
    assert float(wanted.norm()) > 0
    assert float((got - wanted).norm()) <= tolerance * float(wanted.norm())


def gap(A: Projector, batch: int, dtype: torch.dtype) -> float:
    """``|<A x, y> - <x, A^T y>| / |<A x, y>|``, the sums in float64; y lies near A x so that the product is not zero."""
    x = randn(batch, *A.domain, dtype=dtype)
    ax = A(x)
    y = (ax.double() + 0.5 * float(ax.std()) * randn(batch, *A.codomain, seed=1)).to(dtype)
    aty = A.adjoint(y)
    assert ax.dtype == aty.dtype == dtype
    product = (ax.double() * y.double()).sum()
    assert product > 0
    return float((product - (x.double() * aty.double()).sum()).abs() / product)


@every_kind
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
def test_adjoint_for_random_geometries(model, kind, dtype, tolerance):
    for seed in range(0, 60, 10):
        assert gap(projector(random_geometry(kind, seed), model), 2, dtype) <= tolerance


@every_model
@pytest.mark.parametrize("grid", [(8, 8), (9, 9), (8, 9), (33, 32), (1, 7), (7, 1)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
def test_adjoint_for_even_and_odd_sizes(model, grid, dtype, tolerance):
    for columns in (12, 13):
        assert (
            gap(Projector(Volume(grid), ParallelBeam.uniform(7, columns), model=model, truncated=True), 1, dtype) <= tolerance
        )


@every_kind
def test_a_batch_equals_its_members(model, kind):
    A = projector(random_geometry(kind, 20), model)
    x, y = randn(40, *A.domain), randn(40, *A.codomain, seed=1)
    ax, aty = torch.cat([A(one) for one in x.split(1)]), torch.cat([A.adjoint(one) for one in y.split(1)])
    for batch in (1, 3, 8, 40):
        assert_same(A(x[:batch]), ax[:batch], 1e-14)
        assert_same(A.adjoint(y[:batch]), aty[:batch], 1e-14)
        assert_same(A(x[:batch].float()).double(), ax[:batch], 2e-6)
        assert_same(A.adjoint(y[:batch].float()).double(), aty[:batch], 2e-6)
    assert A(x[:0]).shape == (0, *A.codomain)


@every_kind
def test_strides_do_not_matter(model, kind):
    A = projector(random_geometry(kind, 20), model)
    x, y = randn(2, *A.domain), randn(2, *A.codomain, seed=1)
    assert torch.equal(A(x.mT.contiguous().mT), A(x))
    assert torch.equal(A.adjoint(y.mT.contiguous().mT), A.adjoint(y))
    one = x[:1].expand(3, *A.domain)
    assert torch.equal(A(one), A(one.clone()))


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("model", ["joseph", "siddon", "strip", "cone"])
def test_threads_share_the_work(model, batch):
    if model == "cone":
        A = Projector(Volume((65, 20, 20)), ConeBeam.circular(5, Detector((12, 20), (6.0, 2.0)), 60, 30), truncated=True)
    else:
        A = Projector(Volume((70, 67)), FanBeam.uniform(7, Detector(50, 3.0), 150, 60), model=model)
    x, y = randn(batch, *A.domain, dtype=torch.float32), randn(batch, *A.codomain, seed=1, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((A(x), A.adjoint(y)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for got, wanted in zip(result, results[0], strict=True):
            assert_same(got, wanted, 1e-6)


@pytest.mark.parametrize("kind", ["parallel", "fan-flat", "fan-curved", "slab", "cone", "helix"])
@every_model
def test_a_mirror_turns_the_other_way_round(model, kind):
    if (model, kind) not in KINDS:
        assert model == "strip"
        return
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
@pytest.mark.parametrize("kind", ["parallel", "fan-flat", "fan-curved", "slab", "cone", "helix"])
@every_model
def test_turning_the_object_turns_the_views(model, kind, n):
    if (model, kind) not in KINDS:
        assert model == "strip"
        return
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
    if kind == "fan-curved" or beam.detector.curved:
        beam = replace(beam, detector=replace(beam.detector, curved=False))
    vectors = beam if isinstance(beam, VectorBeam) else VectorBeam.of(beam)
    shift = torch.tensor([1.3, -0.7, 0.0 if volume.ndim == 2 else 0.4], dtype=torch.float64)
    moved = {"centres": torch.tensor(vectors.centres) + shift}
    if not vectors.parallel:
        moved["sources"] = torch.tensor(vectors.sources, dtype=torch.float64) + shift
    moved["centres"] = torch.tensor(vectors.centres, dtype=torch.float64) + shift
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


@pytest.mark.parametrize(("model", "bounds"), [("joseph", 0.02), ("siddon", 0.025), ("strip", 0.025)])
@pytest.mark.parametrize("kind", ["parallel", "fan-flat", "fan-curved"])
def test_ellipses_ever_more_exactly(model, bounds, kind):
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
    assert errors[0] > 1.5 * errors[1] > 2.2 * errors[2]
    assert errors[0] < bounds


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
    assert errors[0] > 1.6 * errors[1]
    assert errors[0] < 0.06


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


@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
def test_slice_by_slice_and_ray_by_ray_agree(batch, flip_y):
    volume = Volume((4, 7, 6), (1.5, 0.9, 1.1), (0.5, 0.1, -0.2), flip_y)
    beam = ParallelBeam.uniform(9, Detector((4, 11), (1.5, 0.8), (0.5, 0.3)))
    A, general = Projector(volume, beam, truncated=True), VolumeJoseph(volume, beam.rays())
    x, y = randn(batch, *A.domain), randn(batch, *A.codomain, seed=1)
    assert type(A._kernel(torch.device("cpu"))).__name__ == "_Slicewise"
    assert_same(A(x), general.forward(x[:, 0])[:, None])
    assert_same(A.adjoint(y), general.adjoint(y[:, 0])[:, None])
    flat = Projector(volume.slice(), replace(beam, detector=Detector(11, 0.8, 0.3)), truncated=True)
    assert_same(A(x)[:, :, :, 2], flat(x[:, :, 2]))


@every_kind
def test_single_precision_is_near_double(model, kind):
    for seed in (0, 10, 20):
        A = projector(random_geometry(kind, seed), model)
        x, y = randn(2, *A.domain), randn(2, *A.codomain, seed=1)
        assert_same(A(x.float()).double(), A(x), 2e-6)
        assert_same(A.adjoint(y.float()).double(), A.adjoint(y), 2e-6)


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


@pytest.mark.parametrize("kind", ["parallel", "fan-flat", "slab", "cone"])
@every_model
def test_view_by_view_is_the_same_beam(model, kind):
    if (model, kind) not in KINDS:
        assert model == "strip"
        return
    volume, beam = random_geometry(kind, 10)
    x = randn(2, 1, *volume.shape)
    assert_same(projector((volume, VectorBeam.of(beam)), model)(x), projector((volume, beam), model)(x))


@every_kind
def test_a_subset_is_its_views(model, kind):
    A = projector(random_geometry(kind, 20), model).with_noise(Gaussian(0.1))
    x = randn(2, *A.domain)
    for views in (slice(0, None, 2), slice(1, 2), torch.tensor([4, 0]), torch.arange(5) > 2):
        part = A.subset(views)
        assert (part.model, part.noise, part.volume) == (A.model, A.noise, A.volume)
        assert_same(part(x), A(x)[:, :, views], 1e-14)


def test_reconstruction_is_attached():
    disc, volume = Ellipses.disc(9.0, (2.0, 1.0)), Volume((24, 24), 1.2)
    for beam in (ParallelBeam.uniform(40, 40), FanBeam.uniform(80, Detector(40, 1.5), 60, 20)):
        A = Projector(volume, beam)
        y = disc.project(beam)[None, None]
        assert torch.equal(A.fbp(y, window="hann"), fbp(y, volume, beam, window="hann"))
        assert float(A.fbp(y)[0, 0, 9:14, 11:16].mean()) == pytest.approx(1, abs=0.01)
    A = Projector(Volume((4, 8, 8)), ConeBeam.circular(8, Detector((5, 12), 1.5), 40, 20))
    y = randn(1, *A.codomain)
    assert torch.equal(A.fbp(y), fdk(y, A.volume, A.beam))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 1, 8, 5, 12\)"):
        A.fbp(y[:, :, :3])


@every_kind
def test_tables_grow_with_the_rays_and_hold_no_matrix(model, kind):
    volume, beam = random_geometry(kind, 0)
    views = {"angles": uniform(400)} if hasattr(beam, "angles") else {}
    beam = replace(beam, **views) if views else beam[torch.arange(400) % len(beam)]
    A = projector((replace(volume, shape=[4 * n for n in volume.shape]), beam), model)
    A.adjoint(A(torch.ones(1, *A.domain)))
    stored = len(pickle.dumps(A._kernel(torch.device("cpu"))))
    assert stored <= 64 * math.prod(beam.shape) + 120 * len(beam) + 8000  # bytes


def test_a_detector_must_see_the_object():
    with pytest.raises(
        ValueError, match=r"detector is smaller than the object: it sees 5 from the axis .* reaches 8;.*truncated"
    ):
        Projector(Volume((16, 16)), ParallelBeam.uniform(4, 10))
    inner = Projector(Volume((16, 16)), ParallelBeam((0.0,), 10), truncated=True)
    x = randn(1, 1, 16, 16)
    torch.testing.assert_close(inner(x)[0, 0, 0], x[0, 0, :, 3:13].sum(0), atol=1e-13, rtol=0)
    Projector(Volume((16, 16)), FanBeam.uniform(4, Detector(10, 1.5, 5.0), 40, 10))  # it turns about: one side is enough


@pytest.mark.parametrize(
    ("volume", "beam", "options", "message"),
    [
        (Volume((4, 8, 8)), ParallelBeam.uniform(3, 12), {}, r"must have rows and columns for a volume of shape \(4, 8, 8\)"),
        (Volume((8, 8)), ParallelBeam.uniform(3, (4, 12)), {}, r"must have a line of columns .*got a detector \(4, 12\)"),
        (Volume((8, 8)), ParallelBeam.uniform(3, 12), {"model": "linear"}, r"model must be one of \['joseph', .*got 'linear'"),
        (
            Volume((4, 8, 8)),
            ParallelBeam.uniform(3, (4, 12)),
            {"model": "strip"},
            "'strip' takes pictures.*'joseph' or 'siddon'",
        ),
    ],
)
def test_what_does_not_go_together(volume, beam, options, message):
    with pytest.raises(ValueError, match=message):
        Projector(volume, beam, **options)


@every_model
def test_bad_input(model):
    A = Projector(Volume((8, 9)), ParallelBeam.uniform(3, 12), model=model)
    for x in (torch.zeros(1, 1, 9, 8), torch.zeros(1, 8, 9), torch.zeros(1, 2, 8, 9), torch.zeros(8, 9)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 9\), got"):
            A(x)
    with pytest.raises(ValueError, match=r"y must have shape \(B, 1, 3, 12\), got \(1, 1, 12, 3\)"):
        A.adjoint(torch.zeros(1, 1, 12, 3))
    with pytest.raises(ValueError, match=r"x must be floating point or complex, got torch.int64"):
        A(torch.zeros(1, 1, 8, 9, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"takes float32 and float64, got torch.int64"):
        A.adjoint(torch.zeros(1, 1, 3, 12, dtype=torch.int64))
    half = torch.ones(1, 1, 8, 9, dtype=torch.bfloat16)
    assert A(half).dtype == torch.bfloat16
    assert torch.equal(A(half), A(half.float()).bfloat16())


def test_repr():
    A = Projector(Volume((8, 9), (1.5, 1.0)), ParallelBeam.uniform(3, 14), model="siddon")
    assert repr(A) == "Projector(8x9 voxels of 1.5x1, ParallelBeam, 3 views of 14, 'siddon')"
