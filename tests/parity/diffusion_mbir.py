"""The operators, priors, noises and settings of the cases of ``diffusion_mbir``, in this library's terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inverse.operators.base import LinearOperator
from medical.operators import RealImages, RotateRadon, Sense
from medical.samplers import DiffusionMBIR, Run
from medical.samplers.coupling import Coupling
from medical.samplers.data_step import DataStep
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem
from prior.denoiser import Denoiser, ScoreHead
from prior.schedules import VE
from tests.parity.cases import Case
from tests.parity.ncsnpp import network_of

__all__ = [
    "GaussianScore",
    "StoredNoise",
    "analytic_prior",
    "close",
    "coupling_of",
    "data_step_of",
    "measurement_of",
    "network_prior",
    "problem_of",
    "run_of",
    "sampler_of",
    "stack_of",
]


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Within ``tolerance`` of the largest value."""
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))


class GaussianScore(nn.Module):
    """The exact score of ``N(mu, tau^2)`` with noise of the level sigma, ``-(x - mu) / (sigma^2 + tau^2)``."""

    mu: Tensor

    def __init__(self, mu: Tensor, tau: float) -> None:
        super().__init__()
        self.register_buffer("mu", mu)
        self.tau = tau

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -(x - self.mu) / (sigma.view(-1, 1, 1, 1) ** 2 + self.tau**2)


def _denoiser(network: nn.Module, settings: Mapping[str, Any]) -> Denoiser:
    schedule = VE(sigma_min=settings["sigma_min"], sigma_max=settings["sigma_max"], reads_sigma=True)
    return Denoiser(network, schedule, ScoreHead(), data_range=(0.0, 1.0))


def network_prior(case: Case) -> Denoiser:
    """The tiny random NCSN++ of the case."""
    return _denoiser(network_of(case).requires_grad_(False), case.settings["config"])


def analytic_prior(case: Case) -> Denoiser:
    """The Gaussian of the case."""
    return _denoiser(GaussianScore(case["mu"], case.settings["tau"]), case.settings)


def measurement_of(case: Case) -> tuple[LinearOperator, Tensor]:
    """The official operator, with its unmatched backprojection, and what it measured.

    The official MRI has ``A^T A`` of the eigenvalues 0, 1/2, 1 by 1 / (H W) in its ``A^T``; here both sides have its root.
    """
    settings = case.settings
    if "mask" in case:
        H, W = case["volume"].shape[2:]
        c = 1 / math.sqrt(H * W)
        masks = case["mask"]
        assert bool((masks == masks[:1]).all())  # one for all slices
        A = RealImages(c * Sense.single((H, W), masks[0, 0], legacy_fft=True))
        return A, c * torch.complex(case["kspace_re"], case["kspace_im"])
    W = case["volume"].shape[-1]
    angle = settings.get("limited_angle")
    radon = RotateRadon.limited(W, angle, matched=False) if angle else RotateRadon.sparse(W, settings["views"], matched=False)
    return radon, case["measurement"]


def run_of(case: Case) -> Run:
    """Chunks of the stored sizes, by the official rule."""
    count = len(case["volume"])
    wanted = case.settings.get("chunks", [count])
    for chunk in range(1, count + 2):
        run = Run(chunk=chunk, official_chunks=True)
        if [part.stop - part.start for part in run.parts(count)] == wanted:
            return run
    raise LookupError(f"no chunk size divides {count} slices into {wanted}")


def coupling_of(settings: Mapping[str, Any]) -> Coupling:
    """Along z, or with the kind ``all_vol`` along all axes; around the ends."""
    return Coupling(axes="zyx" if settings.get("kind") == "all_vol" else "z", periodic=True)


def sampler_of(case: Case) -> DiffusionMBIR:
    """The official loop with the settings of the case."""
    settings = case.settings
    levels = settings.get("config", settings)
    return DiffusionMBIR(
        steps=settings["N"],
        sigma_min=levels["sigma_min"],
        sigma_max=levels["sigma_max"],
        snr=settings["snr"],
        corrector_steps=settings.get("n_corrector_steps", 1),
        weight=settings["lambda_"],
        rho=settings["rho"],
        norm=1.0,
        coupling=coupling_of(settings),
        consistent=settings.get("kind") != "mri",
        whole_chunks=True,
        truncated=True,
    )


def stack_of(case: Case) -> Stack:
    """Operator and measurement."""
    return Stack.checked(*measurement_of(case), run_of(case))


def data_step_of(case: Case, *, iterations: int) -> DataStep:
    """ADMM with the weights of the case, one step of conjugate gradients in each iteration."""
    settings = case.settings
    coupling, weight, rho = coupling_of(settings), settings["lambda_"], settings["rho"]
    return DataStep(stack=stack_of(case), coupling=coupling, weight=weight, rho=rho, iterations=iterations)


def problem_of(case: Case, model: Denoiser, noise: Callable[..., Tensor]) -> VolumeProblem:
    """Prior, measurement and stored noise."""
    return VolumeProblem(SlicePrior(model, run_of(case)), stack_of(case), noise)


@dataclass(frozen=True)
class StoredNoise:
    """The noise of the start, then of each step, predictor and correctors, in the place of what a seed gives.

    All are (D, 1, H, W); the stored start has its sigma already.
    """

    start: Tensor
    steps: tuple[tuple[Tensor, ...], ...]

    @classmethod
    def of(cls, case: Case) -> StoredNoise:
        """``iter<i>.z_pred, iter<i>.z_corr<q>``, or stacked in ``z_pred, z_corr``."""
        settings = case.settings
        start = case["x_T"] / settings.get("config", settings)["sigma_max"]
        if "z_pred" in case:
            return cls(start, tuple(zip(case["z_pred"], case["z_corr"], strict=True)))
        names = ["z_pred", *(f"z_corr{q}" for q in range(settings["n_corrector_steps"]))]
        return cls(start, tuple(tuple(case[f"iter{i}.{name}"] for name in names) for i in range(settings["N"])))

    def __call__(self, like: Tensor, step: int, draw: int, part: slice) -> Tensor:
        return (self.steps[step][draw - 1] if draw else self.start)[part]
