"""One small example of every medical operator, by name: projectors on real images, encodings on complex ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from inverse.operators import LinearOperator
from medical.geometry import Beam, ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume
from medical.operators import NUFFT, Projector, RotateRadon, Sense
from medical.transmission import Weighted

__all__ = [
    "COMPLEX",
    "FLAT",
    "KINDS",
    "PICTURES",
    "PROJECTORS",
    "REAL",
    "SOLID",
    "VOLUMES",
    "random_geometry",
    "random_vectors",
]

Geometry = tuple[Volume, Beam | VectorBeam]

FLAT = ("parallel", "fan-flat", "fan-curved", "vectors")
SOLID = ("slab", "cone", "helix", "vectors-volume")
KINDS = [(m, k) for m in ("joseph", "siddon", "strip") for k in (FLAT if m == "strip" else FLAT + SOLID)]
"""Models and the geometries that each of them takes, as ``random_geometry`` names them."""

ANGLES = (0.2, 1.1, 2.3)  # none along an axis of the grid
TURNS = (0.3, 2.1, 4.4)
DSO, DOD = 11.0, 6.0


def uniform_numbers(low: float, high: float, *shape: int, seed: int) -> Tensor:
    """Numbers between ``low`` and ``high``, float64."""
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_vectors(detector: Detector, *, views: int = 3, parallel: bool = False, seed: int = 0) -> VectorBeam:
    """Sources and tilted detectors anywhere about the grid: no two vectors are orthogonal, and none has length one."""
    flat = torch.tensor([1.0, 1.0, 0.0 if len(detector.size) == 1 else 1.0], dtype=torch.float64)
    turn = uniform_numbers(0, 2 * math.pi, views, seed=seed)
    tilt = uniform_numbers(-0.15, 0.15, 4, views, 3, seed=seed + 1) * flat
    way = torch.stack([turn.sin(), -turn.cos(), 0 * turn], -1) + tilt[0]
    across = torch.stack([turn.cos(), turn.sin(), 0 * turn], -1) + tilt[1]
    upwards = torch.stack([0 * turn, 0 * turn, 0 * turn + 1], -1) + tilt[2]
    source = way if parallel else DSO * way
    parts = (source, -DOD * way + tilt[3], across, upwards)
    return VectorBeam(*(tuple(map(tuple, part.tolist())) for part in parts), detector, parallel)  # type: ignore[arg-type]


def random_geometry(kind: str, seed: int) -> Geometry:
    """A grid and a beam of this kind with everything drawn: sides, voxels, centre, spacings, offsets, angles, distances."""
    dims = 3 if kind in SOLID else 2
    g = torch.Generator().manual_seed(seed)
    shape = torch.randint(3, 12, (dims,), generator=g).tolist()
    voxel, centre = uniform_numbers(0.5, 1.6, dims, seed=seed + 1), uniform_numbers(-1, 1, dims, seed=seed + 2)
    volume = Volume(tuple(shape), tuple(voxel.tolist()), tuple(centre.tolist()), flip_y=bool(seed % 2))
    size = torch.randint(4, 15, (dims - 1,), generator=g).tolist()
    spacing, offset = uniform_numbers(0.4, 2.0, dims - 1, seed=seed + 3), uniform_numbers(-1.5, 1.5, dims - 1, seed=seed + 4)
    detector = Detector(
        size, spacing.tolist(), offset.tolist(), curved=kind == "fan-curved" or (kind == "helix" and seed % 3 > 0)
    )
    angles = tuple(uniform_numbers(-1, 2 * math.pi, 5, seed=seed + 5).tolist())
    dso, dod, pitch, z0 = uniform_numbers(0, 1, 4, seed=seed + 6).tolist()
    distances = (16 + 30 * dso, 20 * dod)
    beams: dict[str, Callable[[], Beam | VectorBeam]] = {
        "parallel": lambda: ParallelBeam(angles, detector),
        "slab": lambda: ParallelBeam(angles, detector),
        "fan-flat": lambda: FanBeam(angles, detector, *distances),
        "fan-curved": lambda: FanBeam(angles, detector, *distances),
        "cone": lambda: ConeBeam(angles, detector, *distances),
        "helix": lambda: ConeBeam(angles, detector, *distances, pitch=8 * pitch - 4, z0=2 * z0 - 1),
        "vectors": lambda: random_vectors(detector, views=5, parallel=seed % 4 < 2, seed=seed),
        "vectors-volume": lambda: random_vectors(detector, views=5, parallel=seed % 4 < 2, seed=seed),
    }
    return volume, beams[kind]()


PICTURES: dict[str, Callable[[], Geometry]] = {
    "parallel": lambda: (Volume((5, 4)), ParallelBeam(ANGLES, 7)),
    "parallel-offset": lambda: (Volume((4, 5), 0.9), ParallelBeam(ANGLES, Detector(6, 0.8, 0.37))),
    "fan-flat": lambda: (Volume((5, 4)), FanBeam(TURNS, Detector(6, 1.6), DSO, DOD)),
    "fan-curved": lambda: (Volume((4, 4)), FanBeam(TURNS, Detector(6, 1.4, -0.3, True), DSO, DOD)),
    "vectors": lambda: (Volume((4, 5)), random_vectors(Detector(6, 1.3, 0.2))),
    "vectors-parallel": lambda: (Volume((4, 4)), random_vectors(Detector(5, 1.1), parallel=True, seed=3)),
    "anisotropic": lambda: (Volume((3, 6), (1.3, 0.7), (0.4, -0.3), False), ParallelBeam(ANGLES, Detector(6, 0.9))),
    "upside-down": lambda: (Volume((5, 4), 1.1, (0.0, 0.2), flip_y=False), FanBeam(TURNS, Detector(7, 1.5), DSO, DOD)),
    "one-row": lambda: (Volume((1, 5)), ParallelBeam(ANGLES, 6)),
}

VOLUMES: dict[str, Callable[[], Geometry]] = {
    "slices": lambda: (Volume((3, 4, 3), (1.2, 1.0, 0.9)), ParallelBeam(ANGLES, Detector((3, 5), (1.2, 0.9), (0.0, 0.1)))),
    "slab": lambda: (Volume((3, 3, 4)), ParallelBeam(ANGLES, Detector((2, 5), (1.3, 1.0), (0.2, 0.0)))),
    "cone-flat": lambda: (Volume((3, 3, 4)), ConeBeam(TURNS, Detector((3, 5), (1.5, 1.4), (0.1, 0.2)), DSO, DOD)),
    "cone-curved": lambda: (Volume((2, 4, 3)), ConeBeam(TURNS, Detector((3, 5), 1.4, curved=True), DSO, DOD)),
    "helix": lambda: (Volume((4, 3, 3)), ConeBeam(TURNS, Detector((3, 4), 1.6), DSO, DOD, pitch=2.0, z0=-1.0)),
    "helix-curved": lambda: (Volume((3, 3, 3)), ConeBeam(TURNS, Detector((3, 4), 1.6, 0.2, True), DSO, DOD, 3.0, -1.0)),
    "vectors-volume": lambda: (Volume((3, 4, 3)), random_vectors(Detector((3, 4), (1.4, 1.3), (-0.1, 0.2)), seed=5)),
    "anisotropic-volume": lambda: (
        Volume((2, 3, 4), (1.7, 1.1, 0.8), (0.3, -0.2, 0.1), flip_y=True),
        ConeBeam(TURNS, Detector((3, 5), 1.4), DSO, DOD),
    ),
}

PROJECTORS: dict[str, Callable[[], Projector]] = {
    f"{model}-{name}": lambda make=make, model=model: Projector(*make(), model=model, truncated=True)  # type: ignore[misc]
    for model in ("joseph", "siddon", "strip")
    for name, make in (PICTURES | VOLUMES if model != "strip" else PICTURES).items()
}

CONTRACT = (
    *(f"joseph-{name}" for name in PICTURES if name not in ("vectors", "upside-down")),
    *(f"joseph-{name}" for name in VOLUMES if name not in ("cone-flat", "helix-curved")),
    *("siddon-fan-flat", "siddon-vectors", "siddon-helix", "strip-parallel-offset", "strip-fan-curved", "strip-anisotropic"),
)

REAL: dict[str, Callable[[], LinearOperator]] = {
    **{name: PROJECTORS[name] for name in CONTRACT},
    "weighted": lambda: Weighted(PROJECTORS["joseph-parallel"](), 0.5 + uniform_numbers(0, 1, 1, 3, 7, seed=0).float()),
    "weighted-views": lambda: Weighted(PROJECTORS["strip-fan-flat"](), 0.5 + uniform_numbers(0, 1, 3, 1, seed=0).float()),
    "rotate": lambda: RotateRadon(5, ANGLES),
    "rotate-even": lambda: RotateRadon(4, (0.0, math.pi / 2, 4.0)),
    "half-the-views": lambda: PROJECTORS["joseph-parallel"]().subset(slice(0, None, 2)),
}
"""Operators on real images; they face the contract of ``tests/inverse/operators``."""


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Complex normal numbers, complex128."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def _mask(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def _points(count: int, dims: int) -> Tensor:
    return uniform_numbers(-math.pi, math.pi, count, dims, seed=7)


COMPLEX: dict[str, Callable[[], LinearOperator]] = {
    "sense": lambda: Sense(randn(3, 4, 5), _mask(4, 5)),
    "sense-single": lambda: Sense.single((5, 4), _mask(5, 4)),
    "sense-full": lambda: Sense(randn(2, 4, 4)),
    "sense-sets": lambda: Sense(randn(2, 3, 4, 3), _mask(4, 3)),
    "sense-volume": lambda: Sense(randn(2, 3, 4, 2), _mask(4, 2), dims=3),
    "sense-legacy": lambda: Sense(randn(2, 4, 3), _mask(4, 3), legacy_fft=True),
    "sense-mask-each": lambda: Sense(randn(2, 4, 5), _mask(2, 1, 4, 5)),
    **{f"nufft-{b}": lambda b=b: NUFFT(_points(30, 2), (4, 5), backend=b) for b in ("finufft", "torch")},  # type: ignore[misc]
    **{
        f"nufft-maps-{b}": lambda b=b: NUFFT(_points(15, 2), (5, 4), maps=randn(3, 5, 4), backend=b)  # type: ignore[misc]
        for b in ("finufft", "torch")
    },
    "nufft-sets": lambda: NUFFT(_points(15, 2), (4, 3), maps=randn(2, 3, 4, 3)),
    **{
        f"nufft-volume-{b}": lambda b=b: NUFFT(_points(30, 3), (3, 2, 4), maps=randn(2, 3, 2, 4), backend=b)  # type: ignore[misc]
        for b in ("finufft", "torch")
    },
    "toeplitz": lambda: NUFFT(_points(30, 2), (4, 5)).toeplitz(),
    "toeplitz-weights": lambda: NUFFT(_points(15, 2), (4, 4), maps=randn(3, 4, 4)).toeplitz(
        uniform_numbers(0.5, 1.5, 15, seed=1)
    ),
    "toeplitz-volume": lambda: NUFFT(_points(30, 3), (3, 2, 3), maps=randn(1, 2, 3, 2, 3)).toeplitz(),
}
"""Operators on complex images, maps in double precision."""
