"""The projectors on a GPU against what the card can do, and against the CPU's numbers.

    python -m benchmarks.gpu_projectors [--json FILE] [--small]

Two ceilings are measured in the same run: bytes a second of a large copy (read and written), and multiplications with
addition a second of a large float32 matrix product. A projection is set against both: the time the copy of its input to
its output would take at the least, and the time for the arithmetic of linear interpolation, 2 multiply-adds a point on a
ray in a slice and 4 in a volume. ``--small`` takes an eighth of the side lengths, to see that all works. Without CUDA: one
line, exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from medical.geometry import Beam, ConeBeam, Detector, ParallelBeam, Volume
from medical.operators.projector import Kernel

__all__ = ["Ceilings", "Measured", "main"]

REPETITIONS = 15


@dataclass(frozen=True)
class Ceilings:
    """What the card reached: ``bandwidth`` in bytes a second, ``arithmetic`` in multiply-adds a second."""

    bandwidth: float
    arithmetic: float


@dataclass(frozen=True)
class Measured:
    """One method of one projector.

    Attributes
    ----------
    seconds: median of one call.
    taps: bytes a second of pixels read (adjoint: added to) for interpolation, most of them out of caches.
    copy_share: time to copy the input to the output at the measured bandwidth, of ``seconds``.
    arithmetic_share: multiply-adds a second of the measured ceiling.
    difference: largest difference to the CPU, relative to the largest value.
    transpose: ``|<A x, y> - <x, A^T y>| / (|A x| |y|)``.
    """

    name: str
    method: str
    seconds: float
    taps: float
    copy_share: float
    arithmetic_share: float
    difference: float
    transpose: float


def seconds(call: Callable[[], object], repetitions: int = REPETITIONS) -> float:
    """Median by the device's own clock, after two calls that tune and warm up."""
    for _ in range(2):
        call()
    times = []
    for _ in range(repetitions):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        call()
        ended.record()
        ended.synchronize()
        times.append(1e-3 * began.elapsed_time(ended))
    return sorted(times)[len(times) // 2]


def ceilings() -> Ceilings:
    """A copy of 2 GiB, and a product of two 8192 x 8192 matrices in full float32."""
    source = torch.rand(2**29, device="cuda")
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / seconds(lambda: target.copy_(source))
    tf32, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    a, b = torch.rand(2, 8192, 8192, device="cuda")
    arithmetic = 8192**3 / seconds(lambda: a @ b)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return Ceilings(bandwidth, arithmetic)


def samples(volume: Volume, beam: Beam) -> int:
    """How many points on rays lie on planes within reach of the grid."""
    from medical.operators.joseph_torch import TorchJoseph

    ones = torch.ones(1, *volume.shape, device="cuda")
    rays, total = beam.rays(), 0.0
    kernel = TorchJoseph(volume, rays, ones.device)
    for axis in range(volume.ndim):
        for walk in kernel._walks(axis, 1):
            sides = torch.tensor([n for m, n in enumerate(reversed(volume.shape)) if m != axis], device="cuda").flip(0)
            plane = torch.arange(volume.shape[-1 - axis], device="cuda")[:, None]
            position = walk.intercept[:, None] + walk.slope[:, None] * plane
            total += float(((position > -1) & (position < sides)).all(-1).sum())
    return int(total)


def measure(name: str, volume: Volume, beam: Beam, count: int, top: Ceilings) -> list[Measured]:
    """Forward and adjoint of ``count`` grids on the GPU, checked against the CPU on the first few."""
    from medical.operators.joseph_triton import TritonJoseph

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(count, *shape, generator=generator) for shape in (volume.shape, beam.shape))
    kernel = TritonJoseph(volume, beam.rays(), torch.device("cuda"))
    on_x, on_y = x.cuda(), y.cuda()
    forward, adjoint = kernel.forward(on_x), kernel.adjoint(on_y)
    gap = (forward.double() * on_y.double()).sum() - (on_x.double() * adjoint.double()).sum()
    transpose = float(gap.abs() / (forward.double().norm() * on_y.double().norm()))
    few = slice(0, min(count, 8))  # the CPU takes its time
    reference = on_cpu(volume, beam)
    points, corners = count * samples(volume, beam), 2 ** (volume.ndim - 1)
    rows = []
    for method, got, right, call in (
        ("forward", forward, reference.forward(x[few]), lambda: kernel.forward(on_x)),
        ("adjoint", adjoint, reference.adjoint(y[few]), lambda: kernel.adjoint(on_y)),
    ):
        took = seconds(call)
        rows.append(
            Measured(
                name=name,
                method=method,
                seconds=took,
                taps=points * corners * x.itemsize / took,
                copy_share=(x.nbytes + y.nbytes) / top.bandwidth / took,
                arithmetic_share=points * corners / took / top.arithmetic,
                difference=apart(got[few].cpu(), right),
                transpose=transpose,
            )
        )
    return rows


def on_cpu(volume: Volume, beam: Beam) -> Kernel:
    """The compiled projector of the CPU."""
    from medical.operators.joseph_cpu import SliceJoseph
    from medical.operators.joseph_volume_cpu import VolumeJoseph

    return (SliceJoseph if volume.ndim == 2 else VolumeJoseph)(volume, beam.rays())


def apart(a: Tensor, b: Tensor) -> float:
    """``max |a - b| / max |b|``."""
    return float((a - b).abs().max() / b.abs().max())


def table(rows: list[Measured], top: Ceilings) -> Table:
    """One line a projector and method."""
    out = Table(title=f"copy {top.bandwidth / 1e12:.2f} TB/s, {top.arithmetic / 1e12:.1f} T multiply-adds/s")
    for column in ("projector", "method", "ms", "taps TB/s", "of copy", "of arithmetic", "to the CPU", "transpose"):
        out.add_column(column, justify="left" if column in ("projector", "method") else "right")
    for r in rows:
        out.add_row(
            r.name if r.method == "forward" else "", r.method, f"{1e3 * r.seconds:.2f}", f"{r.taps / 1e12:.2f}",
            f"{r.copy_share:.1%}", f"{r.arithmetic_share:.1%}", f"{r.difference:.1e}", f"{r.transpose:.1e}",
        )  # fmt: skip
    return out


def cases(scale: int) -> list[tuple[str, Volume, Beam, int]]:
    """64 slices and one volume, all lengths divided by ``scale``."""
    n, m = 512 // scale, 256 // scale
    parallel = ParallelBeam.uniform(720 // scale, Detector(725 // scale + 1))
    cone = ConeBeam.circular(360 // scale, Detector((384 // scale, 384 // scale), 1.5), 2.0 * m, 2.0 * m)
    return [
        (f"64 slices of {n} x {n}, {len(parallel)} parallel views", Volume((n, n)), parallel, 64),
        (f"1 slice of {n} x {n}, {len(parallel)} parallel views", Volume((n, n)), parallel, 1),
        (f"cone, {m}^3, {len(cone)} views of {cone.shape[1]} x {cone.shape[2]}", Volume((m, m, m)), cone, 1),
    ]


def main() -> None:
    """Measure, print the table and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu_projectors needs a CUDA device, and torch sees none", file=sys.stderr)
        sys.exit(2)
    console, top, rows = Console(width=150), ceilings(), []
    for case in cases(8 if args.small else 1):
        rows += measure(*case, top)
    device = torch.cuda.get_device_name()
    console.print(f"{device}, torch {torch.__version__}, triton {version('triton')}")
    console.print(table(rows, top))
    if args.json is not None:
        record = {
            "device": device,
            "date": datetime.now(UTC).date().isoformat(),
            "torch": torch.__version__,
            "triton": version("triton"),
            "ceilings": asdict(top),
            "projectors": [asdict(r) for r in rows],
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
