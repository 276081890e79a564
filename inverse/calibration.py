"""Whether an uncertainty can be trusted: coverage, reliability, and the conformal correction that makes intervals hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from scipy import stats
from torch import Tensor

from inverse.operators.inpainting import Inpaint, Sample
from inverse.operators.noise import Noiseless

if TYPE_CHECKING:
    from inverse.reconstruction import Reconstruction

__all__ = [
    "FLOOR", "LEVELS", "Calibration", "Check", "conformal_factor", "coverage", "half_width", "images_needed", "load",
    "reliability", "save", "scores",
]  # fmt: skip

LEVELS = (0.68, 0.95)
FLOOR = 1e-3
"""Added to every standard deviation: a quarter of a grey level, so that samples that agree do not claim certainty."""


def half_width(level: float, samples: int) -> float:
    """Half the width, in standard deviations of ``samples`` draws, of an interval that holds a Gaussian's ``level``.

    Student's t with ``samples - 1`` degrees of freedom, since the deviation is itself estimated.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2 to have a spread, got {samples}")
    return float(stats.t.ppf((1 + level) / 2, samples - 1))


def scores(reconstruction: Reconstruction, truth: Tensor) -> Tensor:
    """``|truth - estimate| / (std + 1e-3)``, one row an image, (B, n): how many deviations off each of its values is.

    Pixels that a noiseless mask shows are left out: they are known, and would flatter the others.
    """
    std = reconstruction.std
    if std is None:
        raise ValueError("reconstruction must hold at least two samples; ask its sampler for some")
    if truth.shape != reconstruction.estimate.shape:
        raise ValueError(
            f"truth must have the shape of the estimate, {tuple(reconstruction.estimate.shape)}, got {tuple(truth.shape)}"
        )
    off = (truth.to(std) - reconstruction.estimate).abs() / (std + FLOOR)
    unseen = _unseen(reconstruction)
    return off.flatten(1) if unseen is None else off[:, unseen]


def _unseen(reconstruction: Reconstruction) -> Tensor | None:
    A = reconstruction.operator
    if not isinstance(A, Inpaint | Sample) or not isinstance(A.noise, Noiseless) or bool(A.mask.all()):
        return None
    return ~A.mask.expand(reconstruction.estimate.shape[1:])


def coverage(scores: Tensor, factor: float) -> float:
    """Share of the values that lie within ``factor`` deviations."""
    return float((scores <= factor).double().mean())


def reliability(images: Sequence[Tensor] | Tensor, samples: int, count: int = 19) -> tuple[list[float], list[float]]:
    """Nominal and observed coverage at ``count`` levels, the scores of each of the ``images`` weighing alike.

    A diagonal is a calibrated Gaussian; above it the samples spread wider than need be, below it too little.
    """
    nominal = [(k + 1) / (count + 1) for k in range(count)]
    observed = [sum(coverage(s, half_width(p, samples)) for s in images) / len(images) for p in nominal]
    return nominal, observed


def images_needed(level: float) -> int:
    """The fewest images that a conformal factor of this ``level`` can come from: 3 for 68 %, 19 for 95 %."""
    return math.ceil(level / (1 - level) - 1e-9)


def conformal_factor(images: Sequence[Tensor] | Tensor, level: float) -> float:
    """The least factor whose interval, for a further image like these, is expected to hold ``level`` of its values.

    Conformal risk control (Angelopoulos et al. 2024, theorem 1) of the share of values outside: with n images whose mean
    share is R, ``(n R + 1) / (n + 1) <= 1 - level``. It needs no model of the errors, only that the further image is
    exchangeable with these: same kind of picture, same operator, same sampler. Raises ``ValueError`` for fewer images
    than the level needs, 19 for 95 %.
    """
    n, needed = len(images), images_needed(level)
    if n < needed:
        raise ValueError(f"images must be at least {needed} for the level {level}, got {n}")
    allowed = ((1 - level) * (n + 1) - 1) / n
    values = torch.cat([s.flatten().double() for s in images])
    weights = torch.cat([torch.full((s.numel(),), 1 / (n * s.numel()), dtype=torch.float64) for s in images])
    order = values.argsort()
    inside = weights[order].cumsum(0)
    index = int(torch.searchsorted(inside, 1 - max(allowed, 0.0) - 1e-12).clamp(max=len(values) - 1))
    return float(values[order][index])


@dataclass(frozen=True, kw_only=True)
class Check:
    """How intervals held on images that the factors do not come from.

    Attributes
    ----------
    images: how many there were.
    raw, calibrated: mean share of their values within Student's t intervals and within the calibrated ones, at the levels
        of the calibration.
    nominal, observed: the reliability curve of the former.
    """

    images: int
    raw: tuple[float, ...]
    calibrated: tuple[float, ...]
    nominal: tuple[float, ...]
    observed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Conformal factors of one task, sampler and prior.

    Attributes
    ----------
    task, sampler, prior: what it was measured with; the factors hold for nothing else.
    images: photographs that the factors come from.
    samples: draws behind each standard deviation.
    levels, factors: the wanted coverages and the half-widths that reach them, in ``std + 1e-3``.
    check: what came of them on other photographs, where that was measured.
    """

    task: str
    sampler: str
    prior: str = ""
    images: int
    samples: int
    levels: tuple[float, ...]
    factors: tuple[float, ...]
    check: Check | None = None

    def __post_init__(self) -> None:
        if not self.levels or len(self.levels) != len(self.factors):
            raise ValueError(f"factors must be one for each level, got {len(self.factors)} for {len(self.levels)}")

    @classmethod
    def fit(
        cls,
        images: Sequence[Tensor] | Tensor,
        *,
        task: str,
        sampler: str,
        samples: int,
        prior: str = "",
        levels: Sequence[float] = LEVELS,
    ) -> Calibration:
        """From the :func:`scores` of held-out images."""
        factors = tuple(conformal_factor(images, level) for level in levels)
        return cls(
            task=task, sampler=sampler, prior=prior, images=len(images), samples=samples, levels=tuple(levels), factors=factors
        )

    def checked(self, images: Sequence[Tensor] | Tensor) -> Calibration:
        """The same with its :class:`Check` on the :func:`scores` of other images."""
        if len(images) == 0:
            raise ValueError("images must hold the scores of at least one image, got none")
        nominal, observed = reliability(images, self.samples)

        def held(factor: float) -> float:
            return sum(coverage(s, factor) for s in images) / len(images)

        check = Check(
            images=len(images),
            raw=tuple(held(half_width(level, self.samples)) for level in self.levels),
            calibrated=tuple(held(factor) for factor in self.factors),
            nominal=tuple(nominal),
            observed=tuple(observed),
        )
        return replace(self, check=check)

    def factor(self, level: float) -> float:
        """The half-width of the interval of ``level``, in ``std + 1e-3``."""
        if level not in self.levels:
            raise ValueError(f"level must be one of {', '.join(map(str, self.levels))}, got {level}")
        return self.factors[self.levels.index(level)]

    def reach(self, reconstruction: Reconstruction, level: float = 0.95) -> Tensor:
        """Half the width of the interval of every value, (B, C, H, W), in units of [0, 1]."""
        factor = self.factor(level)
        if reconstruction.std is None or len(reconstruction.samples) != self.samples:
            raise ValueError(f"reconstruction must hold {self.samples} samples, got {len(reconstruction.samples)}")
        return factor * (reconstruction.std + FLOOR)

    def interval(self, reconstruction: Reconstruction, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Lower and upper end, (B, C, H, W) in [0, 1], between which ``level`` of the true values lie."""
        reach = self.reach(reconstruction, level)
        return reconstruction.estimate - reach, reconstruction.estimate + reach


def save(path: Path, calibrations: Sequence[Calibration], *, facts: Mapping[str, object] | None = None) -> Path:
    """Write ``calibrations`` and ``facts`` about their making to the JSON file ``path``."""
    record = {**(facts or {}), "calibrations": [asdict(calibration) for calibration in calibrations]}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> tuple[Calibration, ...]:
    """The calibrations in the JSON file ``path``; ``ValueError`` for a file that holds something else."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["calibrations"]
        return tuple(_calibration(entry) for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of calibrations ({type(error).__name__}: {error})") from error


def _calibration(entry: dict[str, Any]) -> Calibration:
    check = entry.get("check")
    values = _tuples(entry) | {"check": None if check is None else Check(**_tuples(check))}
    if set(values) != {f.name for f in fields(Calibration)}:
        raise ValueError(f"an entry must have {', '.join(f.name for f in fields(Calibration))}; got {', '.join(values)}")
    return Calibration(**values)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
