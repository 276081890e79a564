"""Intervals that hold for a further subject: conformal factors from volumes of which the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from inverse.calibration import LEVELS, Calibration, conformal_factor, scores
from inverse.reconstruction import Reconstruction

__all__ = ["AIR", "calibrate", "factor_of_subject", "magnitudes", "voxel_scores"]

AIR = 0.02
"""Estimates below count as air: -950 HU in the default window, 2 % of white in MR."""


def magnitudes(reconstruction: Reconstruction) -> Reconstruction:
    """The same with ``|x|`` of a complex estimate and its samples, which is what is looked at; real ones stay as they are.

    The standard deviation of complex samples is that of both parts together, and no interval of a magnitude.
    """
    x, samples = reconstruction.estimate, reconstruction.samples
    return replace(reconstruction, estimate=x.abs(), samples=samples.abs()) if x.is_complex() else reconstruction


def voxel_scores(reconstruction: Reconstruction, truth: Tensor, *, air: float | None = AIR) -> Tensor:
    """:func:`inverse.calibration.scores` of the voxels whose estimate is at least ``air``, (n,); of magnitudes, if complex.

    The air around a patient is easy to get right, and would flatter the rest. Which voxels count is known without the
    truth. With ``air`` None all do. Raises ``ValueError`` where none are left.
    """
    found = magnitudes(reconstruction)
    every = scores(found, truth.abs() if truth.is_complex() else truth).flatten()
    if air is None:
        return every
    kept = every[found.estimate.flatten() >= air]
    if not len(kept):
        raise ValueError(
            f"reconstruction must hold voxels of at least {air:g}, got a largest of {float(found.estimate.max()):g}"
        )
    return kept


def factor_of_subject(blocks: Sequence[Tensor], level: float) -> float:
    """The least factor whose intervals hold ``level`` of one subject's values; its ``blocks`` weigh alike.

    :func:`inverse.calibration.conformal_factor` at ``n level / (n + 1)``, where what that keeps in hand for a further block
    is gone: ``((1 - n level / (n + 1)) (n + 1) - 1) / n = 1 - level``.
    """
    n = len(blocks)
    return conformal_factor(blocks, n * level / (n + 1))


def calibrate(
    subjects: Mapping[str, Sequence[Tensor]], *, task: str, sampler: str, samples: int, prior: str = "",
    levels: Sequence[float] = LEVELS,
) -> Calibration:  # fmt: skip
    """Conformal factors from the :func:`voxel_scores` of blocks of slices, or of whole volumes, by subject.

    What is exchangeable is the subject, and not its slices, which share an anatomy, a scanner and a field of view. The score
    of a subject is the least factor that holds ``level`` of its voxels, and the factor the largest of the K scores: of a
    further subject like these, the intervals hold at least ``level`` of the voxels with a probability of ``K / (K + 1)`` or
    more (split conformal prediction, Vovk et al. 2005, with subjects as examples). That is 3 in 4 for three subjects, and
    cannot be had better from three. With 19 or more, ``Calibration.fit`` with one row of scores a subject gives narrower
    intervals that hold ``level`` on average.

    ``images`` of the result is K. Raises ``ValueError`` without subjects, and for one without blocks.
    """
    if not subjects:
        raise ValueError("subjects must hold the scores of at least one subject, got none")
    if empty := [name for name, blocks in subjects.items() if not len(blocks) or not all(len(block) for block in blocks)]:
        raise ValueError(f"subjects must have at least one block of scores each, got none of {', '.join(empty)}")
    return Calibration(
        task=task, sampler=sampler, prior=prior, images=len(subjects), samples=samples, levels=tuple(levels),
        factors=tuple(max(factor_of_subject(blocks, level) for blocks in subjects.values()) for level in levels),
    )  # fmt: skip
