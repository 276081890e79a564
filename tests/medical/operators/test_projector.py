"""Projectors of every model: exact adjoints, batches, threads, precision, subsets, memory, and bad input."""

from __future__ import annotations

import builtins
import math
import pickle
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse.operators import Gaussian
from medical.analytic import fbp, fdk
from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.operators import Projector
from medical.operators.joseph_cpu import SliceJoseph
from medical.operators.joseph_volume_cpu import VolumeJoseph
from medical.operators.projector import _triton_loads
from medical.phantoms import Ellipses
from tests.medical.operators.examples import KINDS, Geometry, random_geometry, random_vectors

SINGLE = 1e-5  # Joseph in float32 knows positions to 4e-6 pixels, and these images are noise
PRECISIONS = {torch.float32: 1e-6, torch.float64: 1e-12}

every_kind = pytest.mark.parametrize(("model", "kind"), KINDS, ids=[f"{model}-{kind}" for model, kind in KINDS])
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
        assert_same(A(x[:batch]), ax[:batch], 1e-13)
        assert_same(A.adjoint(y[:batch]), aty[:batch], 1e-13)
        assert_same(A(x[:batch].float()).double(), ax[:batch], SINGLE)
        assert_same(A.adjoint(y[:batch].float()).double(), aty[:batch], SINGLE)
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
    x, y = randn(batch, *A.domain), randn(batch, *A.codomain, seed=1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((A(x), A.adjoint(y)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        for got, wanted in zip(result, results[0], strict=True):
            assert_same(got, wanted, 1e-13)


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("kind", ["slices", "cone"])
def test_threads_do_not_change_a_byte(kind, batch):
    """In float32, whose rounded positions must not depend on which planes a thread takes."""
    if kind == "cone":
        volume, beam = Volume((20, 130, 128)), ConeBeam.circular(3, Detector((8, 40), (5.0, 7.0)), 150, 60)
        kernel = VolumeJoseph(volume, beam.rays())
    else:
        volume, beam = Volume((170, 167)), FanBeam.uniform(7, Detector(50, 7.0), 350, 60)
        kernel = SliceJoseph(volume, beam.rays())
    x, y = (randn(batch, *shape, dtype=torch.float32) for shape in (volume.shape, beam.shape))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((kernel.forward(x), kernel.adjoint(y)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(got, wanted) for result in results[1:] for got, wanted in zip(result, results[0], strict=True))


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
        assert_same(A(x.float()).double(), A(x), SINGLE)
        assert_same(A.adjoint(y.float()).double(), A.adjoint(y), SINGLE)


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
    with pytest.raises(ValueError, match=r"y must be floating point or complex, got torch.int64"):
        A.adjoint(torch.ones(1, *A.codomain, dtype=torch.int64))
    half = torch.ones(1, 1, 8, 9, dtype=torch.bfloat16)
    assert A(half).dtype == torch.bfloat16
    assert torch.equal(A(half), A(half.float()).bfloat16())


def test_repr():
    A = Projector(Volume((8, 9), (1.5, 1.0)), ParallelBeam.uniform(3, 14), model="siddon")
    assert repr(A) == "Projector(8x9 voxels of 1.5x1, ParallelBeam, 3 views of 14, 'siddon')"


def test_a_source_within_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"source_distance must be larger than 11\.3137.*got 11; the source would pass"):
        Projector(Volume((16, 16)), FanBeam.uniform(8, Detector(40, 1.0), 11.0, 20.0))
    Projector(Volume((16, 16)), FanBeam.uniform(8, Detector(40, 2.0), 11.4, 20.0))
    beam = VectorBeam.of(FanBeam.uniform(8, Detector(40, 2.0), 11.0, 20.0))  # passes between the corners
    with pytest.raises(ValueError, match=r"sources must lie outside the grid, got .* in view 1"):
        Projector(Volume((16, 16)), beam)
    Projector(Volume((16, 16), centre=(30.0, 0.0)), beam)


def test_copies_share_their_tables():
    A = Projector(Volume((8, 9)), ParallelBeam.uniform(3, 14))
    y = A(torch.ones(1, 1, 8, 9))
    B = A.with_noise(Gaussian(0.1))
    assert B._kernels is A._kernels
    assert (A.noise, B.noise) != (B.noise, B.noise)
    assert torch.equal(B(torch.ones(1, 1, 8, 9)), y)


@pytest.mark.parametrize("installed", [False, True])
def test_without_triton_a_gpu_takes_plain_torch(monkeypatch, installed):
    """Silently where it is not installed, with a warning where it is and does not load."""
    absent = ModuleNotFoundError("No module named 'triton'", name="triton")
    real = builtins.__import__

    def load(name: str, *rest: Any) -> Any:
        if name == "triton":
            raise ImportError("libcuda is missing") if installed else absent
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", load)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert not _triton_loads.__wrapped__()
    assert [str(w.message) for w in said] == [
        "Triton does not load (libcuda is missing); projecting by plain torch, which is slower"
    ] * installed


def test_a_picture_needs_a_beam_in_its_plane():
    beam = random_vectors(Detector((3, 12)), seed=2)
    tilted = VectorBeam(beam.sources, beam.centres, beam.columns, beam.rows, Detector(12))
    with pytest.raises(ValueError, match="plane z = 0 for a picture"):
        Projector(Volume((4, 4)), tilted, truncated=True)
