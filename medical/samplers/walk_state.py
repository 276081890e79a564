"""The state of a walk in a file, so that a long reconstruction goes on after a kill with the same numbers."""

from __future__ import annotations

import hashlib
import pickle
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from medical.files.atomic import written_whole
from medical.samplers.data_step import Position
from medical.samplers.run import Run

__all__ = ["Keeper", "WalkState", "fingerprint"]


@dataclass
class WalkState:
    """Where a walk is: the finished draws, and of the one under way the slices, the duals and the steps done.

    Attributes
    ----------
    draws: finished draws, (D, C, H, W) each.
    step: steps done of the draw under way.
    position: where it stands; None before the first step.
    calls: passes through the network so far, a slice.
    seconds: worked so far, earlier runs included.
    """

    draws: list[Tensor] = field(default_factory=list)
    step: int = 0
    position: Position | None = None
    calls: int = 0
    seconds: float = 0.0

    def to(self, device: torch.device) -> WalkState:
        """The same on another device."""
        at = self.position
        position = None if at is None else Position(at.x.to(device), at.v.to(device), at.w.to(device))
        return replace(self, draws=[x.to(device) for x in self.draws], position=position)


class Keeper:
    """Reads and writes the state of one walk, told from others by its ``mark``; without ``run.state`` it does neither."""

    def __init__(self, run: Run, mark: str) -> None:
        self.path, self.every, self.mark = run.state, run.every, mark
        self.fabric = run.fabric
        self.first = run.fabric is None or run.fabric.global_rank == 0
        self._written = time.monotonic()

    def read(self, device: torch.device) -> WalkState:
        """The state in the file, or a new one where there is none.

        Of several processes the first one reads, and tells the others: machines need not share a disk, and all of them begin
        at the same step, or raise the same error. Raises ``ValueError`` for a file that is damaged, or belongs to another
        measurement, prior, sampler or seed.
        """
        if self.path is None:
            return WalkState()
        if self.fabric is None or self.fabric.world_size == 1:
            return self._read(device)
        try:
            found: WalkState | str = self._read(torch.device("cpu")) if self.first else WalkState()
        except ValueError as error:
            found = str(error)
        found = self.fabric.broadcast(found, src=0)
        if isinstance(found, str):
            raise ValueError(found)
        return found.to(device)

    def _read(self, device: torch.device) -> WalkState:
        assert self.path is not None
        if not self.path.exists():
            return WalkState()
        try:
            kept = torch.load(self.path, map_location=device, weights_only=True)
            mark, position = kept.pop("mark"), kept.pop("position")
            state = WalkState(**kept, position=None if position is None else Position(*position))
        except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{self.path}: damaged or no state of a reconstruction; remove it to begin again") from error
        if mark != self.mark:
            raise ValueError(
                f"{self.path}: the state of another reconstruction (another measurement, prior, method or seed); "
                "give the settings that it was begun with, or remove it to begin again"
            )
        return state

    def keep(self, state: WalkState) -> None:
        """Write the state, completely or not at all, where the last time is long enough ago."""
        if self.path is None or not self.first or time.monotonic() - self._written < self.every:
            return
        at = state.position
        kept = {**vars(state), "position": None if at is None else (at.x, at.v, at.w), "mark": self.mark}
        with written_whole(self.path, overwrite=True) as temporary:
            torch.save(kept, temporary)
        self._written = time.monotonic()


def fingerprint(model: nn.Module, y: Tensor, settings: object) -> str:
    """A hash of everything that the course of a walk depends on: weights, measurement and settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for tensor in (*model.state_dict().values(), y):
        plain = tensor.detach().cpu().contiguous()
        plain = torch.view_as_real(plain) if plain.is_complex() else plain
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
