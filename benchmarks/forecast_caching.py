"""Sample paths with kernels that are kept between steps, that are worked out in each step, and that are read off the formula.

    python -m benchmarks.forecast_caching [--series 8] [--paths 100] [--steps 100] [--batch 256] [--length 360]

The network has the released size and hourly lags; its weights are fresh, for time does not depend on them. Every path of every
series takes ``--steps`` evaluations of the chain of 100, ``--batch`` paths at once: "kept" as forecasts run, "afresh" with the
kernels worked out in each evaluation, "plain" with those of ``benchmarks.s4_speed.plain_kernel``. Seconds are of one run each,
in turns of one step; the samples of all three are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.s4_speed import plain_kernel
from benchmarks.timing import machine
from prior.networks.s4 import Spectrum
from timeseries.configuration import TSDiffConfig
from timeseries.diffusion import WindowDiffusion

__all__ = ["seconds"]

HORIZON = 24


def seconds(model: WindowDiffusion, x: Tensor, *, steps: int, batch: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Seconds and the last states, by the name of the way, of the last ``steps`` steps to clean windows from x (P, L, C)."""
    spectra = [module for module in model.modules() if isinstance(module, Spectrum)]
    ways: dict[str, Callable[[Spectrum], None]] = {"kept": _keep, "afresh": _forget, "plain": _plain}
    spent = dict.fromkeys(ways, 0.0)
    states = {name: x.clone() for name in ways}
    for name, way in ways.items():  # what is worked out once is no part of a step
        _run(model, spectra, way, states[name][:1].clone(), 0, batch)
    for t in reversed(range(steps)):
        for name, way in ways.items():
            began = time.perf_counter()
            states[name] = _run(model, spectra, way, states[name], t, batch)
            spent[name] += time.perf_counter() - began
    return spent, states


@torch.no_grad()
def _run(
    model: WindowDiffusion, spectra: Sequence[Spectrum], way: Callable[[Spectrum], None], x: Tensor, t: int, batch: int
) -> Tensor:
    parts = []
    for part in x.split(batch):
        for spectrum in spectra:
            way(spectrum)
        parts.append(model.step(part, t, model.eps(part, t)))
    return torch.cat(parts)


def _keep(spectrum: Spectrum) -> None:
    """What was kept stays; that of the plain kernel is the same within rounding."""


def _forget(spectrum: Spectrum) -> None:
    spectrum._kept = None


def _plain(spectrum: Spectrum) -> None:
    ahead, behind = plain_kernel(spectrum.kernel)
    length = int(spectrum.kernel.L)
    spectrum._kept = (length, spectrum._values(), torch.fft.rfft(torch.cat([ahead, behind.flip(-1)], dim=-1)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("series", 8), ("paths", 100), ("steps", 100), ("batch", 256), ("length", 360)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args(arguments)
    if min(vars(args).values()) < 1 or args.steps > 100 or args.length <= HORIZON:
        parser.error(f"settings must be at least 1, --steps at most 100 and --length above {HORIZON}, got {vars(args)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = TSDiffConfig(freq="h", prediction_length=HORIZON, context_length=args.length - HORIZON)
        model = config.model().eval().requires_grad_(False)
        x = torch.randn(args.series * args.paths, args.length, model.channels)
    spent, states = seconds(model, x, steps=args.steps, batch=args.batch)
    for name, took in spent.items():
        error = float((states[name] - states["kept"]).abs().max())
        print(f"{name}: {took:.2f} s, {took / spent['kept']:.2f} times the seconds of kept, largest difference {error:.1e}")
    sizes = f"{args.series} series, {args.paths} paths, {args.steps} steps, {args.batch} at once, L {args.length}"
    print(f"{sizes}; {machine()}")


if __name__ == "__main__":
    main()
