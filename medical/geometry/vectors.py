"""Any source and any flat detector in every view: calibrated machines, tilts, flying focal spots."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from medical.geometry.beam import Beam
from medical.geometry.cone import ConeBeam
from medical.geometry.detector import Detector
from medical.geometry.fan import FanBeam
from medical.geometry.parallel import ParallelBeam
from medical.geometry.rays import Rays
from medical.geometry.values import chosen, vectors

__all__ = ["VectorBeam"]

Vectors = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class VectorBeam:
    """In each view a source S, the detector's middle C, and unit steps U and V along its columns and rows.

    The pixel at (u, v) of the detector lies at ``C + u U + v V``. For parallel rays ``sources`` holds their directions.

    Parameters
    ----------
    sources: (views, 3), x, y and z of the source; of the rays' direction where ``parallel``.
    centres: (views, 3), of the detector's middle.
    columns, rows: (views, 3), U and V; of length one where ``detector`` gives distances in the world's unit.
    detector: (rows, columns), columns, or a :class:`Detector`, flat.
    parallel: whether all rays of a view share one direction.
    """

    sources: Vectors
    centres: Vectors
    columns: Vectors
    rows: Vectors
    detector: Detector
    parallel: bool = False

    def __post_init__(self) -> None:
        sources = vectors("sources", self.sources)
        if not sources:
            raise ValueError("sources must hold at least one view, got none")
        object.__setattr__(self, "sources", sources)
        for name in ("centres", "columns", "rows"):
            object.__setattr__(self, name, vectors(name, getattr(self, name), len(sources)))
        object.__setattr__(self, "detector", Detector.of(self.detector))
        if self.detector.curved:
            raise ValueError("detector of a vector beam must be flat, got curved=True")
        for k, (source, centre) in enumerate(zip(self.sources, self.centres, strict=True)):
            if not any(source) if self.parallel else source == centre:
                wanted = "directions other than zero" if self.parallel else "points off the detector's middle"
                raise ValueError(f"sources must be {wanted}, got {source} in view {k}; it has no rays")

    @classmethod
    def of(cls, beam: Beam) -> VectorBeam:
        """A parallel, fan or cone beam with a flat detector, view by view."""
        if not isinstance(beam, (ParallelBeam, FanBeam, ConeBeam)) or beam.detector.curved:
            raise TypeError(f"beam must be parallel, fan or cone with a flat detector, got {beam!r}")
        theta = torch.tensor(beam.angles, dtype=torch.float64)
        zero, one = torch.zeros_like(theta), torch.ones_like(theta)
        e, r = torch.stack([theta.cos(), theta.sin(), zero], -1), torch.stack([theta.sin(), -theta.cos(), zero], -1)
        upwards = torch.stack([zero, zero, one], -1)
        if isinstance(beam, ParallelBeam):
            return cls(_rows(r), _rows(0 * r), _rows(e), _rows(upwards), beam.detector, parallel=True)
        height = (beam.heights() if isinstance(beam, ConeBeam) else zero)[:, None] * upwards
        source, centre = beam.source_distance * r + height, -beam.detector_distance * r + height
        return cls(_rows(source), _rows(centre), _rows(e), _rows(upwards), beam.detector)

    @property
    def divergent(self) -> bool:
        """Whether the rays of a view start at one point."""
        return not self.parallel

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the measurement: (views, columns) or (views, rows, columns)."""
        return (len(self), *self.detector.size)

    def coverage(self) -> tuple[float, float]:
        """Nothing is known of it: infinite on both sides."""
        return math.inf, math.inf

    def rays(self) -> Rays:
        """All rays, in the world frame."""
        S, C, U, V = (
            torch.tensor(t, dtype=torch.float64)[:, None] for t in (self.sources, self.centres, self.columns, self.rows)
        )
        pixels = C + self.detector.u[:, None] * U
        if self.parallel:
            return Rays(pixels, S.expand_as(pixels), V[:, 0], torch.zeros_like(V[:, 0]), self.detector.v)
        return Rays(S.expand_as(pixels), pixels - S, torch.zeros_like(V[:, 0]), V[:, 0], self.detector.v)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, which: int | slice | Iterable[int] | Tensor) -> Self:
        """The same beam with some of its views: an index, a slice, indices, or a mask."""
        views = chosen(len(self), which)
        parts = {name: tuple(getattr(self, name)[k] for k in views) for name in ("sources", "centres", "columns", "rows")}
        return replace(self, **parts)  # type: ignore[arg-type]

    def draw(self, path: str | Path | None = None) -> str:
        """The beam as a drawing (SVG text), written to ``path`` where one is given."""
        from medical.geometry.drawing import draw

        return draw(self, path=path)

    def _repr_svg_(self) -> str:
        return self.draw()


def _rows(table: Tensor) -> Vectors:
    return tuple(tuple(row) for row in table.tolist())
