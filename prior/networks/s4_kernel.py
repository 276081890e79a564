"""The convolution kernel of S4 (Gu et al. 2022, "Efficiently modeling long sequences with structured state spaces").

A channel is a linear system x' = A x + B u, y = C x of N complex states in conjugate pairs, one of each pair stored, with

    A = diag(lambda) - P P^*,    lambda = -exp(inv_w_real) + i w_imag              (normal plus low rank, section 3.2)

made discrete by the bilinear rule with step dt, h = dt / 2:

    dA = (I - h A)^-1 (I + h A),    dB = (I - h A)^-1 dt B,    k_l = C dA^l dB,    l = 0, 1, ...

Names of parameters and their shapes are the released ones; C and the buffer L follow a protocol (:class:`S4Kernel`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["S4Kernel", "cauchy_sums", "nplr_legs"]

STEPS = (0.001, 0.1)  # a fresh dt, uniform in its logarithm
CACHED, HELD = 2**17, 2**23  # channels times pairs times frequencies of 1 / D at once: to stay in a CPU's cache, elsewhere


@lru_cache
def nplr_legs(state: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(w, P, B)``, each (N / 2,) complex128: HiPPO-LegS of N states as normal plus low rank (Gu et al. 2022, theorem 1).

    A_nk = -sqrt((2n + 1)(2k + 1)) for n > k,  -(n + 1) for n = k,  0 above;   B_n = sqrt(2n + 1),   P_n = sqrt(n + 1/2)
    A + P P^T = -I / 2 + S with S = -S^T,   S = V diag(i mu) V^*,   w = -1/2 + i mu,   P <- V^* P,   B <- V^* B

    Of each conjugate pair the one with mu < 0 is kept, mu ascending. Phases of eigenvectors are arbitrary; |P|, |B| and
    B conj(P) are not. Raises ``ValueError`` where N is not even and at least 2.
    """
    if state < 2 or state % 2:
        raise ValueError(f"state must be even and at least 2, got {state}; conjugate pairs are stored")
    n = torch.arange(state, dtype=torch.float64, device="cpu")
    B, P = (2 * n + 1).sqrt(), (n + 0.5).sqrt()
    skew = (torch.outer(B, B) / 2).triu(1)
    mu, V = torch.linalg.eigh(1j * (skew.mT - skew))  # -i S
    V = V[:, : state // 2].mH
    return torch.complex(torch.full_like(mu, -0.5), mu)[: state // 2], V @ P.to(V), V @ B.to(V)


class S4Kernel(nn.Module):
    """Kernels k (2, d, l) of two directions and d channels, from :meth:`forward` with their length l.

    With Lb = ``L`` >= l, theta_k = 2 pi k / Lb, s = sin(theta_k / 2), c = cos(theta_k / 2), k = 0..Lb // 2, and sums over
    all N modes, the stored ones and their conjugates,

        r_ab = dt sum_n a_n b_n / (2 i s - dt lambda_n c)
        K^_k = exp(i theta_k / 2) (r_BC~ - c r_BP* r_PC~ / (1 + c r_PP*)),      k = irfft(K^)[:l]

    which is the generating function of Gu et al. 2022 (appendix C.3) with z = 2 (1 - w) / (1 + w) = 2 i s / c for
    w = exp(-i theta) and c cancelled: no pole at w = -1, and complex64 is accurate to some 1e-6 of the largest tap.

    **C and L.** The generating function of a kernel cut at Lb has C~ = C (I - dA^Lb) for C. A fresh module holds C and
    L = 0; its first kernel, or :meth:`prepare`, rewrites C in place and sets L = l. One longer than L doubles L until it is
    enough, C~ <- C~ (I + dA^L); a shorter one is cut off. C and L only mean something together: a file with one and not
    the other is refused, and a fresh module must be prepared before a moving average is begun from it.

    Float32 or float64, whichever the parameters are, float32 for narrower ones; autocast does not reach it.

    Parameters
    ----------
    channels: d.
    state: N of each channel, even.

    Attributes
    ----------
    C (2, d, N / 2, 2), B, P (1, d, N / 2, 2): real and imaginary part last.
    inv_w_real, w_imag (d, N / 2); log_dt (d,); L: int64 ().
    """

    L: Tensor

    def __init__(self, channels: int, state: int = 128) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        w, P, B = nplr_legs(state)
        dtype = torch.get_default_dtype()
        low, high = (math.log(dt) for dt in STEPS)
        pair = (1, channels, state // 2, 2)
        C = torch.randn(2, *pair[1:], dtype=dtype) * math.sqrt(0.5)  # of a complex standard normal
        self.C = nn.Parameter(C)
        self.log_dt = nn.Parameter(torch.empty(channels, dtype=dtype).uniform_(low, high))
        self.B = nn.Parameter(torch.view_as_real(B).to(dtype).expand(pair).clone())
        self.P = nn.Parameter(torch.view_as_real(P).to(dtype).expand(pair).clone())
        self.inv_w_real = nn.Parameter((-w.real).log().to(dtype).expand(pair[1:3]).clone())
        self.w_imag = nn.Parameter(w.imag.to(dtype).expand(pair[1:3]).clone())
        self.register_buffer("L", torch.tensor(0))

    def forward(self, length: int) -> Tensor:
        """k (2, d, length). Raises ``ValueError`` where length is below 1 or a tap is not finite."""
        done = self.prepare(length)
        with torch.autocast(self.C.device.type, enabled=False):
            k = self._kernel(done)[..., :length]
        return self._finite(k, length)

    @torch.no_grad()
    def prepare(self, length: int) -> int:
        """L, after rewriting C and L in place for kernels of that length where L is too short for it (or 0)."""
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        done = int(self.L)
        if done >= length:
            return done
        C = torch.view_as_complex(self.C.to("cpu", torch.float64))
        if done == 0:
            C, done = C - self._advanced(C, length), length
        while done < length:
            C, done = C + self._advanced(C, done), 2 * done
        self.C.copy_(self._finite(torch.view_as_real(C), length))
        self.L.fill_(done)
        return done

    def _advanced(self, x: Tensor, steps: int) -> Tensor:
        """x dA^steps of row vectors x (2, d, N / 2) complex128: y = x (I - h A)^-1 by Woodbury's formula, x dA = 2 y - x."""
        _B, P, lam, dt = self._system(torch.float64, "cpu")
        e, h = 1 / (1 - lam / 2), dt[:, None] / 2
        low_rank = h / (1 + 2 * h * (P.abs().square() * e).real.sum(-1, keepdim=True))
        keep, mix, onto = 2 * e - 1, e * P, 4 * low_rank * e * P.conj()
        for _ in range(steps):
            x = keep * x - onto * (mix * x).real.sum(-1, keepdim=True)
        return x

    def _system(self, dtype: torch.dtype, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(B, P, dt lambda, dt)``, complex (1, d, N / 2) twice, complex (d, N / 2) and real (d,)."""
        B, P = (torch.view_as_complex(p.to(device, dtype)) for p in (self.B, self.P))
        dt = self.log_dt.to(device, dtype).exp()
        w = torch.complex(-self.inv_w_real.to(device, dtype).exp(), self.w_imag.to(device, dtype))
        return B, P, dt[:, None] * w, dt

    def _kernel(self, length: int) -> Tensor:
        dtype, device = torch.promote_types(self.C.dtype, torch.float32), self.C.device
        B, P, lam, dt = self._system(dtype, device)
        C = torch.view_as_complex(self.C.to(dtype))
        s, c = _half_angles(length, dtype, device)
        r = dt[:, None] * cauchy_sums(torch.cat([B * C, P * C, B * P.conj(), P * P.conj()]), lam, s, c)
        r_BC, r_PC, r_BP, r_PP = r[:2], r[2:4], r[4], r[5]
        K = torch.complex(c, s) * (r_BC - r_PC * (c * r_BP / (1 + c * r_PP)))
        return torch.fft.irfft(K, n=length)

    def _finite(self, values: Tensor, length: int) -> Tensor:
        if bool(values.isfinite().all()):
            return values
        bad = [name for name, p in self.named_parameters() if not bool(p.isfinite().all())]
        cause = f"{', '.join(bad)} hold(s) NaN or infinity" if bad else "the parameters are finite, but far too large"
        raise ValueError(
            f"the S4 kernel of length {length} is not finite: {cause}. Go back to an earlier checkpoint; "
            "if training led here, lower the learning rate or clip gradients."
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if (f"{prefix}C" in state_dict) != (f"{prefix}L" in state_dict):
            errors = args[-1]
            errors.append(f"{prefix}C and {prefix}L must come together: L says for which length C was rewritten")
        super()._load_from_state_dict(state_dict, prefix, *args)


def cauchy_sums(v: Tensor, lam: Tensor, s: Tensor, c: Tensor) -> Tensor:
    """``sum_n v_n / (2 i s - lam_n c) + conj(v_n) / (2 i s - conj(lam_n) c)`` (m, d, F), for m numerators v at once.

    v (m, d, n) and lam (d, n) complex, Re lam < 0; s, c (F,) real. The two of a pair have one common denominator,

        (4 i s Re v_n - 2 c Re(v_n conj(lam_n))) / D_n,    D_n = |lam_n|^2 c^2 - 4 s^2 - 4 i s c Re lam_n,

    so the numerators, real but for i s and c, share 1 / D (d, n, F), and all sums are one product of real matrices a channel.
    """
    weights = torch.cat([4 * v.real, -2 * (v * lam.conj()).real]).movedim(1, 0)
    square = lam.real.square() + lam.imag.square()
    found = torch.view_as_complex(_SharedInverse.apply(weights, square, lam.real, s, c).unflatten(-1, (-1, 2)))
    of_v, of_v_lam = found.chunk(2, dim=1)
    return (1j * s * of_v + c * of_v_lam).movedim(0, 1)


class _SharedInverse(torch.autograd.Function):
    """``sum_n W_mn / D_n`` (d, m, 2 F), real and imaginary parts by turns, of W (d, m, n), |lam|^2 and Re lam (d, n).

    Channels are taken in pieces and 1 / D is worked out again for the gradient, so no more than a piece is ever held:

        dW = G (1 / D)^T,    dD = -(W^T G) conj(1 / D)^2,    d|lam|^2 = Re(dD) c^2,    dRe lam = -4 Im(dD) s c.

    The backward pass starts from the inputs alone, so it can itself be differentiated.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        *channels, s, c = inputs
        return torch.cat([W @ _interleaved(_inverse(q, a, s, c)) for W, q, a in _pieces(channels, len(s))])

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        *channels, s, c = ctx.saved_tensors
        onto = _interleaved(torch.diag_embed(torch.stack([-c * c, -4 * s * c], -1)).movedim(-1, 0))
        conjugate = _interleaved(torch.view_as_complex(G.unflatten(-1, (-1, 2))).conj())
        found = []
        for W, q, a, g, g_conj in _pieces([*channels, G, conjugate], len(s)):
            inverse = _inverse(q, a, s, c)
            of_D = torch.view_as_complex((W.mT @ g_conj).unflatten(-1, (-1, 2))) * inverse * inverse  # -conj(dD)
            found.append((g @ _interleaved(inverse).mT, _interleaved(of_D) @ onto.mT))
        of_W, of_q_a = (torch.cat(parts) for parts in zip(*found, strict=True))
        return of_W, of_q_a[..., 0], of_q_a[..., 1], None, None


def _inverse(square: Tensor, real: Tensor, s: Tensor, c: Tensor) -> Tensor:
    """1 / D (d, n, F), see :func:`cauchy_sums`."""
    return torch.complex(torch.addcmul(-4 * s * s, square[..., None], c * c), real[..., None] * (-4 * s * c)).reciprocal()


def _interleaved(z: Tensor) -> Tensor:
    """(..., F) complex, or (..., F, 2) real, as (..., 2 F) real."""
    return (torch.view_as_real(z.resolve_conj()) if z.is_complex() else z).flatten(-2)


def _pieces(tensors: Sequence[Tensor], frequencies: int) -> Iterator[tuple[Tensor, ...]]:
    """The tensors, whose second one is (d, n), cut along the channels."""
    limit = CACHED if tensors[0].device.type == "cpu" else HELD
    width = max(1, limit // (tensors[1].shape[1] * frequencies))
    return zip(*(t.split(width) for t in tensors), strict=True)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _half_angles(length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """``sin`` and ``cos`` of pi k / length, k = 0..length // 2."""
    half = torch.arange(length // 2 + 1, dtype=torch.float64, device="cpu") * (math.pi / length)
    return half.sin().to(device, dtype), half.cos().to(device, dtype)
