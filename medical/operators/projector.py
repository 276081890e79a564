"""The projector: a grid and a beam together are the operator of computed tomography."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.noise import Noise
from medical.geometry import Beam, ParallelBeam, Rays, VectorBeam, Volume
from medical.geometry.divergent import Divergent
from medical.operators.batched import batched

__all__ = ["Projector"]


class Kernel(Protocol):
    """One way to compute the line integrals of a stack of grids, (N, *grid) to (N, *data), and the transpose."""

    def forward(self, x: Tensor) -> Tensor: ...

    def adjoint(self, y: Tensor) -> Tensor: ...


class Projector(LinearOperator):
    """Line integrals of attenuation along the rays of a beam: ``y[view, row, column] = int x(ray(s)) ds``.

    Values are attenuation times length, in the units of the image and the voxels. The adjoint is the exact transpose.
    Pictures (B, 1, ny, nx) give sinograms (B, 1, views, columns); volumes (B, 1, nz, ny, nx) give data
    (B, 1, views, rows, columns). Real, float32 or float64; on CUDA by a Triton kernel, on the CPU compiled.

    Parameters
    ----------
    volume: the grid, 2D for a beam with a line of columns, 3D for one with rows.
    beam: parallel, fan, cone or vector by vector.
    model: how a ray meets the voxels. "joseph": linear interpolation on every plane (Joseph 1982), the default; "siddon":
        exact lengths within voxels (Siddon 1985); "strip": the mean over the width of a detector pixel, pictures only.
    noise: of the measurement, in units of the line integrals; ``medical.transmission.LogPoisson`` counts photons.
    truncated: allow a detector that does not see the whole object, as in region-of-interest scans.

    Raises ``ValueError`` where grid and beam do not go together, the detector is smaller than the object, or the source passes
    through it.
    """

    def __init__(
        self,
        volume: Volume,
        beam: Beam | VectorBeam,
        *,
        model: str = "joseph",
        noise: Noise | None = None,
        truncated: bool = False,
    ) -> None:
        super().__init__((1, *volume.shape), noise)
        if volume.ndim != len(beam.shape):
            raise ValueError(
                f"beam must have {'a line of columns' if volume.ndim == 2 else 'rows and columns'} for a volume of shape "
                f"{volume.shape}, got a detector {beam.detector.size}"
            )
        if model not in MODELS:
            raise ValueError(f"model must be one of {sorted(MODELS)}, got {model!r}")
        if model == "strip" and volume.ndim != 2:
            raise ValueError("model 'strip' takes pictures, got a volume; use 'joseph' or 'siddon'")
        _check_source(volume, beam)
        if not truncated:
            _check_coverage(volume, beam)
        self.volume, self.beam, self.model = volume, beam, model
        self._kernels: dict[torch.device, Kernel] = {}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *self.beam.shape)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self._run("forward", x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._run("adjoint", y)

    def _run(self, method: str, t: Tensor) -> Tensor:
        if t.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{self!r} takes float32 and float64, got {t.dtype}; convert it, or project real and imaginary part apart"
            )

        def project(plain: Tensor) -> Tensor:  # the kernel is made in here, where torch's transforms do not wrap its tables
            return getattr(self._kernel(plain.device), method)(plain)

        return batched(project, t.squeeze(1)).unsqueeze(1)

    def _kernel(self, device: torch.device) -> Kernel:
        if device not in self._kernels:
            self._kernels[device] = MODELS[self.model](self.volume, self.beam, device)
        return self._kernels[device]

    def subset(self, views: slice | Tensor) -> Projector:
        """The same projector with some of its views, for ordered subsets."""
        return Projector(self.volume, self.beam[views], model=self.model, noise=self.noise, truncated=True)  # type: ignore[arg-type]

    def fbp(self, y: Tensor, *, window: str = "ram-lak", cutoff: float = 1.0, scan: str = "auto") -> Tensor:
        """Filtered back-projection of ``y``, for cones that of Feldkamp: attenuation; see :func:`medical.analytic.fbp`."""
        from medical.analytic import fbp

        self.check_output(y)
        return fbp(y, self.volume, self.beam, window=window, cutoff=cutoff, scan=scan)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_kernels": {}}  # tables are quickly made and large

    def __deepcopy__(self, memo: dict[int, object]) -> Projector:
        other = Projector(self.volume, self.beam, model=self.model, noise=self.noise, truncated=True)
        other._kernels = self._kernels  # never changed once made
        return other

    def extra_repr(self) -> str:
        voxel = "x".join(f"{h:g}" for h in self.volume.spacing)
        beam = f"{type(self.beam).__name__}, {len(self.beam)} views of {'x'.join(map(str, self.beam.detector.size))}"
        return f"{'x'.join(map(str, self.volume.shape))} voxels of {voxel}, {beam}, {self.model!r}"


def _check_source(volume: Volume, beam: Beam | VectorBeam) -> None:
    """Lines have no beginning, so that what lies behind a source would count; and nothing lies beside a picture."""
    if isinstance(beam, Divergent) and beam.source_distance <= volume.outer_radius:
        raise ValueError(
            f"source_distance must be larger than {volume.outer_radius:.6g}, how far the grid's corners are from the axis, "
            f"got {beam.source_distance:.6g}; the source would pass through the object"
        )
    if (
        isinstance(beam, VectorBeam)
        and volume.ndim == 2
        and any(z for _, _, z in (*beam.sources, *beam.centres, *beam.columns))
    ):
        raise ValueError("beam must lie in the plane z = 0 for a picture, got vectors that leave it; use a volume")
    if isinstance(beam, VectorBeam) and beam.divergent:
        inside = [k for k, source in enumerate(beam.sources) if volume.holds(source)]
        if inside:
            raise ValueError(
                f"sources must lie outside the grid, got {beam.sources[inside[0]]} in view {inside[0]}; the source would pass "
                f"through the object"
            )


def _check_coverage(volume: Volume, beam: Beam | VectorBeam) -> None:
    """The largest disc within the grid must lie within the beam, on one side at least (a shifted detector turns about)."""
    low, high = beam.coverage()
    reach = max(low, high)
    if reach < volume.radius * (1 - 1e-9):
        raise ValueError(
            f"detector is smaller than the object: it sees {reach:.6g} from the axis of rotation, the grid reaches "
            f"{volume.radius:.6g}; use more or larger pixels, or pass truncated=True"
        )


def _joseph(volume: Volume, beam: Beam | VectorBeam, device: torch.device) -> Kernel:
    rays = beam.rays()
    if _slicewise(volume, beam):
        row = replace(rays, v=torch.zeros(1, dtype=torch.float64))
        return _Slicewise(_joseph_kernel(volume.slice(), row, device))
    return _joseph_kernel(volume, rays, device)


def _joseph_kernel(volume: Volume, rays: Rays, device: torch.device) -> Kernel:
    """Joseph's method as it is computed on ``device``."""
    if device.type == "cuda" and _triton_loads():
        from medical.operators.joseph_triton import TritonJoseph

        return TritonJoseph(volume, rays, device)
    if device.type != "cpu":
        from medical.operators.joseph_torch import TorchJoseph

        return TorchJoseph(volume, rays, device)
    if volume.ndim == 2:
        from medical.operators.joseph_cpu import SliceJoseph
        from medical.operators.joseph_matrix import MOST_ENTRIES, MatrixJoseph, entries

        return (MatrixJoseph if entries(volume, rays) <= MOST_ENTRIES else SliceJoseph)(volume, rays)
    from medical.operators.joseph_volume_cpu import VolumeJoseph

    return VolumeJoseph(volume, rays)


@cache
def _triton_loads() -> bool:
    """Whether Triton can be imported; a warning where it is installed and cannot."""
    try:
        import triton  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "triton":
            return False
        broken: ImportError = error
    except ImportError as error:
        broken = error
    else:
        return True
    warnings.warn(f"Triton does not load ({broken}); projecting by plain torch, which is slower", stacklevel=2)
    return False


def _slicewise(volume: Volume, beam: Beam | VectorBeam) -> bool:
    """Whether each detector row of a parallel beam sees one slice, in the middle."""
    if not isinstance(beam, ParallelBeam) or volume.ndim == 2 or beam.detector.rows != volume.shape[0]:
        return False
    return bool(torch.allclose(beam.detector.v, volume.axis(-3), rtol=0, atol=1e-9 * volume.spacing[0]))


class _Slicewise:
    """A parallel beam through a volume, slice by slice."""

    def __init__(self, slices: Kernel) -> None:
        self.slices = slices

    def forward(self, x: Tensor) -> Tensor:
        y = self.slices.forward(x.flatten(0, 1))
        return y.unflatten(0, x.shape[:2]).transpose(1, 2)

    def adjoint(self, y: Tensor) -> Tensor:
        x = self.slices.adjoint(y.transpose(1, 2).flatten(0, 1).contiguous())
        return x.unflatten(0, (len(y), y.shape[2]))


def _siddon(volume: Volume, beam: Beam | VectorBeam, device: torch.device) -> Kernel:
    from medical.operators.siddon import Siddon

    return Siddon(volume, beam.rays())


def _strip(volume: Volume, beam: Beam | VectorBeam, device: torch.device) -> Kernel:
    from medical.operators.strip import Strip

    return Strip(volume, beam)


MODELS: dict[str, Callable[[Volume, Beam | VectorBeam, torch.device], Kernel]] = {
    "joseph": _joseph,
    "siddon": _siddon,
    "strip": _strip,
}
