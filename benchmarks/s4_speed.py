"""One S4 layer and its kernel against a plain reading of the formula, and a training step: seconds and errors, in one run.

    python -m benchmarks.s4_speed [--repeats N] [--batch B] [--length L] [--channels d] [--state N] [--recipe FILE]

The plain reading has the same parameters. It takes the nodes z = 2 (1 - w) / (1 + w), each Cauchy sum as the broadcast sum
over all 2 * 3 * d * N * (L / 2 + 1) complex terms, conjugates included, in the type of the parameters, and pads both
kernels into one convolution as the layer does. Errors are the largest of a tap, against the recursion k_l = C dA^l dB in
float64, and of the layer's output against the layer in float64. Calls take turns; seconds are the least of each, of the
kernel alone and of the whole layer, forward and backward (gradients to input and parameters).

The training step is one of the TSDiff network of ``--recipe``, by default the published setting: loss and gradients of a batch
of windows, which are drawn and not cut from data, clipping, and Adam; the least of as many seconds, after a first step.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import machine
from prior.networks.s4 import S4
from prior.networks.s4_kernel import S4Kernel
from timeseries.configuration import TSDiffConfig

__all__ = ["Recipe", "Timing", "compare", "plain_kernel", "plain_layer", "recursion", "training_seconds"]

SEED = 0
EXCHANGE = Path(__file__).parents[1] / "timeseries" / "configs" / "exchange.yaml"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One of the two: least seconds and largest error of the kernel, and of the layer forward and backward."""

    name: str
    kernel_seconds: float
    kernel_error: float
    layer_seconds: float
    layer_error: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What of a training recipe a step depends on: the model, the windows of a batch, learning rate and clipping."""

    config: TSDiffConfig
    batch: int
    lr: float
    clip: float

    @classmethod
    def of(cls, path: Path) -> Recipe:
        """That of the YAML file ``path``, as those of ``timeseries/configs``."""
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        model, data = plain["model"]["init_args"], plain["data"]["init_args"]
        config, clip = TSDiffConfig.of_dict(model["config"]), plain["trainer"]["gradient_clip_val"]
        return cls(config=config, batch=data["batch_size"], lr=model["lr"], clip=clip)


def _completed(kernel: S4Kernel, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``(C, B, P, lambda, dt)`` with all N modes last."""
    C, B, P = (torch.view_as_complex(p.to(dtype)) for p in (kernel.C, kernel.B, kernel.P))
    w = torch.complex(-kernel.inv_w_real.to(dtype).exp(), kernel.w_imag.to(dtype))
    C, B, P, w = (torch.cat([z, z.conj()], dim=-1) for z in (C, B, P, w))
    return C, B, P, w, kernel.log_dt.to(dtype).exp()


@torch.no_grad()
def recursion(fresh: S4Kernel, length: int) -> Tensor:
    """k_l = C dA^l dB, l = 0..length - 1 (2, d, length) float64, with dense matrices, of a kernel that is not prepared."""
    if int(fresh.L):
        raise ValueError(f"the kernel holds C for length {int(fresh.L)} already; take the recursion before preparing it")
    C, B, P, w, dt = _completed(fresh, torch.float64)
    A = dt[:, None, None] * (torch.diag_embed(w) - P[0][:, :, None] * P[0].conj()[:, None])
    eye = torch.eye(A.shape[-1], dtype=A.dtype)
    dA = torch.linalg.solve(eye - A / 2, eye + A / 2)
    x = torch.linalg.solve(eye - A / 2, dt[:, None] * B[0])
    taps = []
    for _ in range(length):
        taps.append((C * x).sum(-1).real)
        x = (dA @ x[..., None])[..., 0]
    return torch.stack(taps, dim=-1)


def plain_kernel(kernel: S4Kernel) -> Tensor:
    """k (2, d, L) of a prepared kernel.

    K^ = 2 / (1 + w) (R_BC - R_BP R_PC / (1 + R_PP)),    R_ab = dt sum_n a_n b_n / (z - dt lambda_n)
    """
    C, B, P, w, dt = _completed(kernel, kernel.C.dtype)
    length = int(kernel.L)
    nodes = torch.exp(-2j * torch.pi * torch.arange(length // 2 + 1, dtype=kernel.C.dtype) / length)
    z = 2 * (1 - nodes) / (1 + nodes)
    left, right = torch.cat([B, P])[:, None], torch.cat([C, P.conj()])[None]
    terms = (left * right)[..., None] / (z - (dt[:, None] * w)[..., None])  # (2, 3, d, N, L / 2 + 1)
    R = dt[:, None] * terms.sum(-2)
    K = 2 / (1 + nodes) * (R[0, :2] - R[0, 2] * R[1, :2] / (1 + R[1, 2]))
    return torch.fft.irfft(K, n=length)


def plain_layer(layer: S4, u: Tensor) -> Tensor:
    """The layer with :func:`plain_kernel`, convolution by ``torch.fft`` as it is, and D u added."""
    ahead, behind = plain_kernel(layer.kernel.kernel)
    length, spectrum = u.shape[-1], torch.fft.rfft(torch.cat([ahead, behind.flip(-1)], dim=-1))
    y = torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * spectrum, n=2 * length)[..., :length] + layer.D.mT * u
    return layer.output_linear(F.gelu(y))


def compare(layer: S4, u: Tensor, *, repeats: int) -> list[Timing]:
    """The plain reading and this package, with a fresh layer and input u (B, d, L)."""
    length, cotangent = u.shape[-1], torch.ones_like(u)
    taps = recursion(layer.kernel.kernel, length)
    wide = copy.deepcopy(layer).double()
    kernel = layer.kernel.kernel
    kernel.prepare(length)
    u = u.clone().requires_grad_()
    readings: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "plain": (lambda: plain_kernel(kernel), lambda: plain_layer(layer, u)),
        "ours": (lambda: kernel(length), lambda: layer(u)),
    }
    truth = wide(u.double()).detach()
    errors = {
        name: (float((k().detach().double() - taps).abs().max()), float((y().detach().double() - truth).abs().max()))
        for name, (k, y) in readings.items()
    }
    calls: list[Callable[[], object]] = [c for k, y in readings.values() for c in (k, lambda y=y: y().backward(cotangent))]
    seconds = iter(_least(calls, repeats))
    return [
        Timing(name=name, kernel_seconds=next(seconds), kernel_error=k, layer_seconds=next(seconds), layer_error=y)
        for name, (k, y) in errors.items()
    ]


def training_seconds(recipe: Recipe, *, repeats: int) -> float:
    """The least seconds of a training step of ``recipe``, on windows of noise; the first step is not counted."""
    config = recipe.config
    if config.conditional or config.steps is not None:
        raise ValueError("recipe must be that of an unconditional model without time features and covariates")
    model = config.model().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    past = torch.randn(recipe.batch, config.assembly.past_length)
    window = model.window(past, future=torch.randn(recipe.batch, config.prediction_length))
    t, eps = torch.randint(config.T, (recipe.batch,)), torch.randn_like(window.x)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(window, t, eps, window.observed).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()

    step()
    (least,) = _least([step], repeats)
    return least


def _least(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    least = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            began = time.perf_counter()
            call()
            least[i] = min(least[i], time.perf_counter() - began)
    return least


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("repeats", 5), ("batch", 64), ("length", 360), ("channels", 64), ("state", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--recipe", type=Path, default=EXCHANGE)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = _parser()
    args = parser.parse_args(arguments)
    numbers = {name: value for name, value in vars(args).items() if name != "recipe"}
    if min(numbers.values()) < 1 or args.state % 2:
        parser.error(f"all settings must be at least 1 and --state even, got {numbers}")
    recipe = Recipe.of(args.recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layer, u = S4(args.channels, args.state), torch.randn(args.batch, args.channels, args.length)
        training = training_seconds(recipe, repeats=args.repeats)
    plain, ours = compare(layer, u, repeats=args.repeats)
    for t in (plain, ours):
        print(f"{t.name}: kernel {t.kernel_seconds:.4f} s, error {t.kernel_error:.1e};", end=" ")
        print(f"layer forward and backward {t.layer_seconds:.3f} s, error {t.layer_error:.1e}")
    kernel, whole = plain.kernel_seconds / ours.kernel_seconds, plain.layer_seconds / ours.layer_seconds
    sizes = f"B {args.batch}, L {args.length}, d {args.channels}, N {args.state}"
    print(f"kernel {kernel:.1f}, layer {whole:.2f} times as fast; {sizes}; {machine()}")
    window = recipe.config.assembly
    sizes = f"B {recipe.batch}, L {window.length}, {window.channels} channels"
    print(f"training step {training:.3f} s: forward, backward, optimizer; {args.recipe.stem}, {sizes}")


if __name__ == "__main__":
    main()
