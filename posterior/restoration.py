"""Restoring one picture: the sampler, tile by tile where the picture is large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator
from inverse.reconstruction import Reconstruction
from posterior.images import Picture
from posterior.tasks import Problem
from posterior.tiles import Tiling, Window
from prior.denoiser import Denoiser

__all__ = ["Restored", "Sampler", "restore"]

Progress = Callable[[int, int], None]


class Sampler(Protocol):
    """What restores: any posterior sampler."""

    @property
    def samples(self) -> int:
        """Draws that are asked of it."""

    def reconstruct(self, model: Denoiser, A: Operator, y: Tensor, *, seed: int, progress: Progress | None) -> Reconstruction:
        """The reconstruction of ``y`` (1, ...), measured by ``A``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Restored:
    """A restored picture and its evidence.

    Attributes
    ----------
    picture: the estimate, ready to save.
    std: standard deviation of the samples over channels and samples, (1, H, W), or None.
    measured: what the measurement fixes of it, ready to save; None for a nonlinear operator.
    measured_share: how much of the picture that is, from 0 to 1; None for a nonlinear operator.
    operator: the forward model (of the first tile).
    residual_ratio: RMS of ``y - A(estimate)`` over the noise, over all tiles; None without noise.
    network_calls, seconds: of all tiles.
    tiles: how many there were.
    settings: of the sampler.
    sampler: which it was.
    """

    picture: Picture
    std: Tensor | None
    measured: Picture | None
    measured_share: float | None
    operator: Operator
    residual_ratio: float | None
    network_calls: int
    seconds: float
    tiles: int
    settings: dict[str, object]
    sampler: Sampler


def restore(
    problem: Problem,
    model: Denoiser,
    choose: Callable[[Operator], Sampler],
    tiling: Tiling,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Restored:
    """Solve ``problem`` with ``model`` on the device of its weights; tile number k is drawn with ``seed + k``.

    ``choose`` gives the sampler for the operator of the first tile; it serves them all.

    Raises ``ValueError`` where the answer is not finite.
    """
    size = problem.measurement.shape[-2], problem.measurement.shape[-1]
    tiling = tiling.reaching(problem.reach) if problem.tiled else Tiling(tile=0)
    operators = [problem.operator(window) for window in tiling.windows(size, scale=problem.scale)]  # all, to fail early
    sampler = choose(operators[0])
    done: list[_Tile] = []

    def one(window: Window) -> Tensor:
        def report(step: int, steps: int) -> None:
            if progress is not None:
                progress(len(done) * steps + step, len(operators) * steps)

        y = window.crop(problem.measurement).to(_device(model))
        operator = operators[len(done)].to(y.device)
        out = sampler.reconstruct(model, operator, y, seed=seed + len(done), progress=report)
        done.append(_tile(out))
        settings.update(out.settings)
        std = torch.zeros_like(out.estimate) if out.std is None else out.std
        measured = out.split()[0] if linear else torch.zeros_like(out.estimate)
        return torch.cat([out.estimate, std, measured]).cpu()

    settings: dict[str, object] = {}
    linear = isinstance(operators[0], LinearOperator)
    estimate, std, measured = tiling.map(one, size, scale=problem.scale)
    if not bool(torch.isfinite(estimate).all()):
        raise ValueError("the restored image has values that are NaN or infinite: these weights do not suit this problem")
    return Restored(
        picture=problem.finish(estimate),
        std=std.square().mean(0, keepdim=True).sqrt() if sampler.samples > 1 else None,
        measured=problem.finish(measured) if linear else None,
        measured_share=_mean_share(done),
        operator=operators[0],
        residual_ratio=_overall(done),
        network_calls=sum(tile.network_calls for tile in done),
        seconds=sum(tile.seconds for tile in done),
        tiles=len(done),
        settings=settings | {"seed": seed},
        sampler=sampler,
    )


@dataclass(frozen=True)
class _Tile:
    values: int
    pixels: int
    residual_ratio: float | None
    measured_share: float | None
    network_calls: int
    seconds: float


def _tile(out: Reconstruction) -> _Tile:
    return _Tile(
        values=out.measurement.numel(),
        pixels=out.estimate.numel(),
        residual_ratio=out.residual_ratio,
        measured_share=out.measured_share(),
        network_calls=out.network_calls,
        seconds=out.seconds,
    )


def _device(model: Denoiser) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _overall(tiles: list[_Tile]) -> float | None:
    squares = [tile.values * tile.residual_ratio**2 for tile in tiles if tile.residual_ratio is not None]
    if len(squares) < len(tiles):
        return None
    return (sum(squares) / sum(tile.values for tile in tiles)) ** 0.5


def _mean_share(tiles: list[_Tile]) -> float | None:
    shares = [tile.pixels * tile.measured_share for tile in tiles if tile.measured_share is not None]
    return sum(shares) / sum(tile.pixels for tile in tiles) if len(shares) == len(tiles) else None
