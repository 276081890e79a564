"""Which schedule a table of betas is, and which head a library's name for a prediction means."""

from __future__ import annotations

import torch
from torch import Tensor

from prior.denoiser import Head, ImageHead, NoiseHead, VHead
from prior.schedules import Cosine, DiscreteVP, Linear, ScaledLinear, Tabulated

__all__ = ["head_of", "schedule_of"]

HEADS: dict[str, Head] = {"epsilon": NoiseHead(), "sample": ImageHead(), "v_prediction": VHead()}


def schedule_of(betas: Tensor) -> DiscreteVP:
    """The schedule whose variances ``betas`` (T,) are, to float32 rounding; a table of its own where it has no name.

    Raises ``ValueError`` unless all of them lie strictly between 0 and 1: with a last beta of 1 (a schedule rescaled to
    zero terminal SNR) the noisiest image says nothing about the clean one, which noise prediction cannot divide by.
    """
    betas = torch.as_tensor(betas).detach().cpu().double().flatten()
    if not len(betas) or not bool(((betas > 0) & (betas < 1)).all()):
        got = f"{betas.min().item():g}..{betas.max().item():g}" if len(betas) else "none"
        raise ValueError(f"betas must lie strictly between 0 and 1, got {got}")
    T, first, last = len(betas), float(betas[0]), float(betas[-1])
    named: list[DiscreteVP] = [Cosine(T=T)]
    if first < last:
        ends = [(float(f"{first * T / 1000:.6g}"), float(f"{last * T / 1000:.6g}"))]
        named += [Linear(T=T, beta_min=a, beta_max=b) for a, b in ends]
        named += [ScaledLinear(T=T, beta_min=float(f"{first:.6g}"), beta_max=float(f"{last:.6g}"))]
    match = (s for s in named if torch.allclose(s.betas, betas, rtol=2e-5, atol=1e-7))
    return next(match, None) or Tabulated(table=tuple(betas.tolist()))


def head_of(prediction: str) -> Head:
    """The head that diffusers and MONAI call ``prediction``."""
    if prediction not in HEADS:
        raise ValueError(f"prediction_type must be one of {', '.join(HEADS)}, got {prediction!r}")
    return HEADS[prediction]
