"""Two processes give the volume that one gives, bit for bit; run as a program, this file is one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inverse.operators import Gaussian
from inverse.operators.base import LinearOperator
from medical.coils import simulated_maps
from medical.operators import RealImages, RotateRadon, Sense
from medical.samplers import DDS, DiffusionMBIR, Run
from medical.samplers.volume_sampler import VolumeSampler
from prior.denoiser import Denoiser, EDMHead
from prior.networks import ResidualUNet
from prior.schedules import EDM

ROOT = Path(__file__).parents[2]
SIDE, DEPTH, COUNT = 16, 5, 2
CHUNKS = {"slices": 2, "volume": 2, "mri": 8, "langevin": 2}  # of 8 there is one: the second process has nothing to do


class Killed(Exception):
    """Stands for the end of the process."""


def network() -> Denoiser:
    model = ResidualUNet(in_channels=1, channels=(8, 12), blocks=(1, 1), embedding=8)
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = 0.1 * torch.randn(p.shape, generator=generator)
    return Denoiser(model, EDM(sigma_min=0.01, sigma_max=10.0), EDMHead(), data_range=(0.0, 1.0)).eval().requires_grad_(False)


def problem(name: str) -> tuple[VolumeSampler, LinearOperator, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(DEPTH, 1, SIDE, SIDE, generator=generator)
    if name == "volume":
        mask = torch.rand(DEPTH, SIDE, SIDE, generator=generator) < 0.4
        A: LinearOperator = RealImages(Sense(simulated_maps((DEPTH, SIDE, SIDE), 2)[0], mask, dims=3, noise=Gaussian(0.01)))
        return DDS(steps=4, inner=2, samples=2), A, A.measure(x.transpose(0, 1)[None])
    if name == "mri":
        mask = torch.rand(SIDE, SIDE, generator=generator) < 0.4
        A = Sense(simulated_maps((SIDE, SIDE), 3)[0], mask, noise=Gaussian(0.01))
        return DDS(steps=4, inner=2), A, A.mask * A.measure(x * (1 + 1j))
    A = RotateRadon.sparse(SIDE, 4, noise=Gaussian(0.1))
    return (DiffusionMBIR(steps=4) if name == "langevin" else DDS(steps=4, inner=2)), A, A.measure(x)


def reconstruct(name: str, run: Run) -> Tensor:
    sampler, A, y = problem(name)
    return sampler.reconstruct(network(), A, y, seed=3, run=run).samples


def worker(folder: Path) -> None:
    """What each process does: all problems, one of them killed and resumed, with a file of its own."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=COUNT, strategy="ddp")
    fabric.launch()
    torch.set_num_threads(1)
    rank = fabric.global_rank
    found: dict[str, object] = {name: reconstruct(name, Run(chunk=chunk, fabric=fabric)) for name, chunk in CHUNKS.items()}
    sampler, A, y = problem("slices")
    run = Run(chunk=2, fabric=fabric, state=folder / f"state-{rank}", every=0.0)

    def stop(done: int, total: int) -> None:
        if done == 7:  # within the third step of three chunks
            raise Killed

    try:
        sampler.reconstruct(network(), A, y, seed=3, progress=stop, run=run)
    except Killed:
        fabric.barrier()
        found["states"] = sorted(path.name for path in folder.glob("state-*"))
    counted: list[int] = []
    again = sampler.reconstruct(network(), A, y, seed=3, progress=lambda done, total: counted.append(done), run=run)
    found |= {"resumed": again.samples, "counted": counted}
    fabric.barrier()
    if rank == 0:
        (folder / "state-0").write_bytes(b"damaged")
    try:
        sampler.reconstruct(network(), A, y, seed=3, run=run)
    except ValueError as error:
        found["error"] = str(error)
    torch.save(found, folder / f"found-{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes found."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(COUNT)]
    finished = subprocess.run(
        [*command, "-m", "tests.medical.test_processes", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(COUNT)]


def bits(x: Tensor) -> Tensor:
    return (torch.view_as_real(x) if x.is_complex() else x).view(torch.int32)


@pytest.mark.parametrize("name", CHUNKS)
def test_as_one_process(found, name):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = reconstruct(name, Run(chunk=CHUNKS[name]))
    finally:
        torch.set_num_threads(threads)
    assert alone.is_complex() == (name == "mri")
    assert float(alone.abs().std()) > 0.01
    for other in found:
        assert torch.equal(bits(other[name]), bits(alone))


def test_killed_and_resumed(found):
    for other in found:
        assert other["states"] == ["state-0"]  # written by the first process alone, and told to the second
        assert other["counted"] == list(range(7, 13))
        assert torch.equal(bits(other["resumed"]), bits(other["slices"]))


def test_all_processes_raise_what_the_first_finds(found):
    assert found[0]["error"] == found[1]["error"]
    assert "state-0: damaged" in found[1]["error"]


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
