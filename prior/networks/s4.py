"""The S4 layer (Gu et al. 2022), in both directions of time as TSDiff has it (Kollovieh et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prior.networks.s4_kernel import S4Kernel

__all__ = ["S4", "Spectrum", "convolved"]


class S4(nn.Module):
    """u (B, d, l), any l, to the same shape: two kernels and a skip, GELU (exact), dropout, and a 1x1 convolution.

    y_j = sum_{m >= 0} k0_m u_{j-m} + sum_{m >= 0} k1_m u_{j+1+m} + D u_j,        out = W dropout(gelu(y)) + b

    The one direction starts at the present, the other one step ahead; u is zero outside. The convolution is float32 at
    least, whatever autocast says. Names of parameters and their shapes are the released ones.

    Parameters
    ----------
    channels: d.
    state: N of the kernels, even.
    dropout: rate after GELU, in training.

    Attributes
    ----------
    D (1, d): the skip, standard normal when fresh.
    kernel: :class:`Spectrum`; ``kernel.kernel`` is the :class:`~prior.networks.s4_kernel.S4Kernel`.
    """

    def __init__(self, channels: int, state: int = 128, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(1, channels))
        self.kernel = Spectrum(S4Kernel(channels, state))
        self.dropout = nn.Dropout(dropout)
        self.output_linear = nn.Conv1d(channels, channels, 1)

    def forward(self, u: Tensor) -> Tensor:
        if u.ndim != 3 or u.shape[1] != self.D.shape[1] or u.shape[2] < 1:
            raise ValueError(f"u must have shape (B, {self.D.shape[1]}, l) with l >= 1, got {tuple(u.shape)}")
        spectrum = self.kernel(u.shape[-1])
        with torch.autocast(u.device.type, enabled=False):
            y = convolved(u.to(spectrum.real.dtype), spectrum + self.D.mT).to(u.dtype)
        return self.output_linear(self.dropout(F.gelu(y)))


def convolved(u: Tensor, spectrum: Tensor) -> Tensor:
    """The circular convolution at twice the length of u (B, d, l) with what has ``spectrum`` (d, l + 1), cut to l."""
    return _Convolution.apply(u, spectrum)


class _Convolution(torch.autograd.Function):
    """:func:`convolved`; its gradients are real transforms as well, where those of ``rfft`` and ``irfft`` are complex ones.

    With U, G the transforms of u and of the gradient, both zero beyond l:    du = irfft(G conj(S))[:l],    and of S, whose
    inner frequencies stand for two,    dS = w sum_B G conj(U) / (2 l),    w = 1, 2, ..., 2, 1.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, spectrum: Tensor) -> Tensor:
        length = u.shape[-1]
        of_u = torch.fft.rfft(u, n=2 * length)
        ctx.save_for_backward(of_u if ctx.needs_input_grad[1] else None, spectrum)
        return torch.fft.irfft(of_u * spectrum, n=2 * length)[..., :length]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        of_u, spectrum = ctx.saved_tensors
        length = gradient.shape[-1]
        G = torch.fft.rfft(gradient, n=2 * length)
        of_S = None
        if of_u is not None:
            of_S = (G * of_u.conj()).sum(0) / length
            of_S[..., 0] /= 2
            of_S[..., -1] /= 2
        of_input = torch.fft.irfft(G * spectrum.conj(), n=2 * length)[..., :length] if ctx.needs_input_grad[0] else None
        return of_input, of_S


class Spectrum(nn.Module):
    """The Fourier transform (d, l + 1) of both kernels, as one of length 2 l: k0 first, k1 backwards from the end.

    Lag j >= 0 lies at j and lag -1 - m at 2 l - 1 - m, so one circular convolution runs both ways without wrapping.

    In evaluation mode, and wherever no gradient is taken, the last spectrum is kept and used again as long as l is the
    same and all parameters and ``L`` have the very values (type, device) that it was made from, however they were changed;
    gradients to the parameters are right there too, by working the kernel out again in the backward pass. What is kept is
    in no state dict, pickle or copy.
    """

    def __init__(self, kernel: S4Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self._kept: tuple[int, Tensor, Tensor] | None = None  # l, the parameters, the spectrum

    def forward(self, length: int) -> Tensor:
        parameters = list(self.kernel.parameters())
        learning = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if learning and self.training:
            return self._spectrum(length)
        spectrum = self._remembered(length)
        return _Remembered.apply(spectrum, lambda: self._spectrum(length), *parameters) if learning else spectrum

    def _spectrum(self, length: int) -> Tensor:
        ahead, behind = self.kernel(length)
        return torch.fft.rfft(torch.cat([ahead, behind.flip(-1)], dim=-1))

    @torch.no_grad()
    def _remembered(self, length: int) -> Tensor:
        kept, values = self._kept, self._values()
        if kept is not None and kept[0] == length and _same(kept[1], values):
            return kept[2]
        self.kernel.prepare(length)
        with torch.inference_mode(False), torch.no_grad():  # what is made in inference mode no gradient could use
            spectrum, values = self._spectrum(length), self._values()
        self._kept = (length, values, spectrum)
        return spectrum

    def _values(self) -> Tensor:
        return torch.cat([t.detach().flatten() for t in (*self.kernel.parameters(), self.kernel.L)])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


class _Remembered(torch.autograd.Function):
    """The spectrum as a function of the parameters, at the price of the kernel only where their gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, evaluate: Callable[[], Tensor], *parameters: Tensor) -> Tensor:
        ctx.evaluate = evaluate
        ctx.save_for_backward(*parameters)
        return spectrum.view_as(spectrum)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [p if need else None for p, need in zip(ctx.saved_tensors, ctx.needs_input_grad[2:], strict=True)]
        with torch.enable_grad():
            found = iter(torch.autograd.grad(ctx.evaluate(), [p for p in wanted if p is not None], gradient))
        return None, None, *(None if p is None else next(found) for p in wanted)
