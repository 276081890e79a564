"""Posterior samplers where the posterior is known: Gaussian and Gaussian-mixture priors with exact denoisers.

    python -m benchmarks.exact [--draws 2000] [--json FILE] [--only NAME]

Every sampler draws from the posterior of one measurement per prior and operator, on images of 2 x 4 x 4. The table gives
the error of the mean, in posterior standard deviations (root mean square over pixels), and that of the covariance
(Frobenius norm, relative). The line "exact draws" is what as many independent draws of the true posterior give: the
floor of a Monte-Carlo measurement. No network is involved, so the errors are the samplers' own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.timing import machine
from inverse.operators import Blur, Downsample, Gaussian, Identity, Inpaint, LinearOperator
from inverse.samplers.daps import DAPS
from inverse.samplers.ddnm import DDNM
from inverse.samplers.ddrm import DDRM
from inverse.samplers.diffpir import DiffPIR
from inverse.samplers.dps import DPS
from inverse.samplers.loop import PosteriorSampler
from inverse.samplers.mcg import MCG
from inverse.samplers.mcmc import Langevin
from inverse.samplers.pigdm import PiGDM
from inverse.samplers.problem import Problem
from inverse.samplers.reddiff import RedDiff
from prior.mixture import GaussianMixture
from prior.schedules import Linear

__all__ = ["OPERATORS", "PRIORS", "SAMPLERS", "Row", "run"]

SHAPE = (2, 4, 4)
NOISE = 0.1
STEPS = 200

PRIORS: dict[str, Callable[[], GaussianMixture]] = {
    "Gaussian": lambda: GaussianMixture.random(SHAPE, K=1, seed=101),
    "mixture of 3": lambda: GaussianMixture.random(SHAPE, K=3, seed=101),
}
OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "denoising": lambda: Identity(SHAPE, noise=Gaussian(NOISE)),
    "inpainting": lambda: Inpaint.random(SHAPE, 0.5, seed=1, noise=Gaussian(NOISE)),
    "block mean x2": lambda: Downsample.area(2, shape=SHAPE, noise=Gaussian(NOISE)),
    "blur": lambda: Blur.gaussian(0.8, "circular", shape=SHAPE, noise=Gaussian(NOISE)),
}
SAMPLERS: dict[str, PosteriorSampler | RedDiff] = {
    "PiGDM": PiGDM(steps=STEPS, prior_std=0.35, weighting="exact"),
    "PiGDM, as for networks": PiGDM(steps=STEPS, prior_std=0.35),
    "DAPS": DAPS(steps=STEPS, spread=0.35),
    "DAPS, Langevin chain": DAPS(steps=STEPS, spread=0.35, mcmc=Langevin(steps=30)),
    "DAPS-1k, exact chain": DAPS(steps=200, levels=(100.0, 0.1), ode_steps=5, ode_end=0.01, spread=None),
    "DDNM+": DDNM(steps=STEPS),
    "DDRM": DDRM(steps=STEPS),
    "DiffPIR": DiffPIR(steps=STEPS, lam=4.0, zeta=0.3, clip=False),
    "DPS": DPS(steps=STEPS, zeta=0.3, clip=False),
    "MCG": MCG(steps=STEPS, zeta=0.3),
    "RED-Diff": RedDiff(),
}


@dataclass(frozen=True)
class Row:
    """Errors of one sampler on one posterior; network calls of one draw."""

    prior: str
    operator: str
    sampler: str
    network_calls: int
    mean_error: float
    covariance_error: float


def errors(draws: Tensor, mean: Tensor, covariance: Tensor) -> tuple[float, float]:
    """Of the draws (N, n): mean in posterior deviations, covariance relative, both as in the table."""
    d = (draws.mean(0) - mean) / covariance.diagonal().sqrt()
    return float(d.square().mean().sqrt()), float((draws.T.cov() - covariance).norm() / covariance.norm())


@torch.no_grad()
def draw(sampler: PosteriorSampler | RedDiff, problem: Problem, count: int) -> tuple[Tensor, int]:
    """``count`` draws (count, n), and the network calls that one takes."""
    calls = 0

    def one(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = problem.model.register_forward_hook(one)
    generator = torch.Generator().manual_seed(7)

    def noise(like: Tensor) -> Tensor:  # its own for every member, unlike in a reconstruction
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    try:
        if isinstance(sampler, RedDiff):
            x = _perturbed(sampler, problem, noise)
        else:
            sampler.check(problem)
            x, _ = sampler.draw(problem, sampler.times(problem.model.schedule), noise)
    finally:
        hook.remove()
    return x.flatten(1).double(), calls


def _perturbed(sampler: RedDiff, problem: Problem, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """RED-Diff's samples by perturbation, with alternative truths from the prior itself."""
    times = sampler.times(problem)
    mu, _ = sampler.run(problem, sampler.start(problem), times, noise)
    truth = sampler._variation(problem.model, mu, noise)
    measured = problem.A(truth) + NOISE * noise(problem.y)
    imagined = Problem(problem.model, problem.A, measured)
    again, _ = sampler.run(imagined, sampler.start(imagined), times, noise)
    return mu + truth - again


def run(count: int, only: str = "", console: Console | None = None) -> list[Row]:
    """All rows; ``count`` draws each."""
    rows = []
    cells = [(p, o) for p in PRIORS for o in OPERATORS]
    for prior_name, operator_name in track(cells, console=console, transient=True, disable=console is None):
        mixture, A = PRIORS[prior_name](), OPERATORS[operator_name]().double()
        n = torch.Size(SHAPE).numel()
        D = A(torch.eye(n, dtype=torch.float64).view(n, *SHAPE)).flatten(1).T
        y = A.measure(mixture.sample(1, seed=5), seed=6)
        posterior = mixture.posterior(D, y.flatten(), NOISE)
        floor = errors(posterior.sample(count, seed=8), posterior.mean, posterior.covariance)
        rows.append(Row(prior_name, operator_name, "exact draws", 0, *floor))
        model = mixture.denoiser(Linear())
        problem = Problem(model, A, y.expand(count, *y.shape[1:]))
        for name, sampler in SAMPLERS.items():
            if only in name:
                draws, calls = draw(sampler, problem, count)
                rows.append(Row(prior_name, operator_name, name, calls, *errors(draws, posterior.mean, posterior.covariance)))
    return rows


def table(rows: list[Row]) -> Table:
    """One line a sampler, one column a posterior."""
    columns = list(dict.fromkeys((r.prior, r.operator) for r in rows))
    out = Table(title="error of the mean, in posterior deviations / of the covariance, relative")
    out.add_column("sampler")
    out.add_column("calls")
    for prior_name, operator_name in columns:
        out.add_column(f"{prior_name}\n{operator_name}", justify="right")
    for name in dict.fromkeys(r.sampler for r in rows):
        mine = {(r.prior, r.operator): r for r in rows if r.sampler == name}
        calls = max(r.network_calls for r in mine.values())
        out.add_row(name, str(calls or ""), *(f"{mine[c].mean_error:.2f} / {mine[c].covariance_error:.2f}" for c in columns))
    return out


def main() -> None:
    """Measure, print the table and, if asked, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--only", default="", help="only the samplers whose name holds this")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=170)
    rows = run(args.draws, args.only, console)
    console.print(table(rows))
    if args.json is not None:
        record = {"rows": [asdict(r) for r in rows], "draws": args.draws, "machine": machine()}
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
