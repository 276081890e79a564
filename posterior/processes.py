"""One process or several, on one machine or more: Lightning Fabric, where there is more than one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from posterior.commands.options import Device
from posterior.outputs import compute_device

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["fabric_of", "is_first"]


def fabric_of(devices: int, nodes: int, device: Device) -> Fabric | None:
    """A launched Fabric of ``devices`` processes on each of ``nodes`` machines, None for a single one.

    Under ``torchrun`` the processes are there already, and their number must be this one; otherwise they are started here.
    Raises ``ValueError`` where the numbers do not fit, or CUDA is asked for and is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if devices * nodes == 1 and world == 1:
        return None
    if "TORCHELASTIC_RUN_ID" in os.environ and devices * nodes != world:
        raise ValueError(
            f"--devices {devices} --nodes {nodes} are {devices * nodes} processes, but torchrun has started {world}; "
            f"--devices is its --nproc-per-node, --nodes its --nnodes"
        )
    from lightning.fabric import Fabric

    accelerator = compute_device(device).type
    if accelerator == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"--devices {devices}: there are {torch.cuda.device_count()} CUDA devices on this machine")
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return fabric


def is_first(fabric: Fabric | None) -> bool:
    """Whether this is the process that writes and tells."""
    return fabric is None or fabric.global_rank == 0
