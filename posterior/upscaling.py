"""``posterior upscale --method resshift``: which restorer, and files or folders of them through it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import typer

from posterior import tiles
from posterior.commands.options import Options, Precision
from posterior.file_upscaling import FileUpscaling
from posterior.jobs import Item, Outcome, Progress, Result, over_files
from posterior.outputs import compute_device
from restore.resshift import ResShift, load, task_of_file

__all__ = ["COMPACT", "Upscaling"]

COMPACT = "photos-x4"
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


@dataclass(frozen=True, kw_only=True)
class Upscaling:
    """What the command was asked for, besides the shared options.

    Attributes
    ----------
    factor: how many times larger; None for what the restorer was trained for.
    face: whether it is a portrait, which the models for faces take.
    mask: an image, or a folder of them, white where the picture is to be filled in.
    autoencoder: file of the first stage, where it does not lie beside the weights.
    precision, channels_last, compile: how the networks compute.
    """

    factor: int | None = None
    face: bool = False
    mask: Path | None = None
    autoencoder: Path | None = None
    precision: Precision = Precision.fp32
    channels_last: bool = False
    compile: bool = False

    def run(self, source: Path, target: Path, options: Options, progress: Progress | None = None) -> Outcome:
        """As :func:`posterior.jobs.run`, with a restorer in place of a prior and a sampler."""

        notes: list[str] = []

        def prepare() -> Callable[[Item, Callable[[int, int], None]], Result]:
            name = self._check(options)
            model = self._load(name, options, notes)
            return lambda item, step: FileUpscaling(self, name, model, options, item).result(step)

        outcome = over_files(prepare, source, target, options, progress)
        for note in notes:
            typer.echo(f"note: {' '.join(note.split())}", err=True)
        return outcome

    def _check(self, options: Options) -> str:
        """The name of the restorer; ``ValueError`` for options that do not go together."""
        if options.sampler is not None:
            raise ValueError(
                f"--sampler {options.sampler} belongs to --method posterior; a restorer has one sampler, its chain"
            )
        if self.mask is not None and self.factor is not None:
            raise ValueError("--factor must be left out with --mask: fill in first, then enlarge what came of it")
        tiles.Tiling(tile=options.tile, overlap=options.overlap)  # raises what it always raises
        if options.model is not None:
            if self.face:
                raise ValueError(f"--face chooses the model, and so does --model {options.model}; leave one of them out")
            return options.model
        return self._default(options.weights)

    def _default(self, weights: Path | None) -> str:
        if self.face:
            return "faceir" if self.mask is None else "inpaint_face"
        if weights is not None and not weights.exists():
            raise FileNotFoundError(f"--weights: there is no file or folder {weights}")
        known = None if weights is None else task_of_file(weights)
        if known is not None:
            return known
        if self.mask is not None:
            return "inpaint_imagenet"
        if weights is not None and not weights.is_dir():
            raise ValueError(f"--model must name the task that {weights} was trained for: it has no released file's name")
        return COMPACT if weights is None else "realsr_v3"

    def _load(self, name: str, options: Options, notes: list[str]) -> ResShift:
        device = compute_device(options.device)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = load(
                name,
                options.weights,
                autoencoder=self.autoencoder,
                dtype=DTYPES[self.precision],
                channels_last=self.channels_last,
                compile=self.compile,
            )
        self._check_mask(name, model)
        notes += [str(warning.message) for warning in told]
        if options.steps is not None:
            T = model.model.schedule.T
            if options.steps > T:
                raise ValueError(f"--steps must be 1..{T} for {name}, whose chain has {T}, got {options.steps}")
            model.model.schedule = model.model.schedule.respace(options.steps)
        return model.to(device)

    def _check_mask(self, name: str, model: ResShift) -> None:
        fills = bool(getattr(getattr(model.model.network, "config", None), "cond_mask", False))
        if fills and self.mask is None:
            raise ValueError(f"--mask must be given for {name}, which fills in what is missing")
        if self.mask is not None and not fills:
            raise ValueError(f"--mask: {name} takes none; the models that fill in are inpaint_imagenet and inpaint_face")
