"""What the report of a volume says in words: what was measured, how well it is met, and what the prior supplied."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from torch import Tensor

from posterior.volume_scores import Fit

__all__ = ["TITLES", "facts", "filled_words", "fit_words", "lead", "spread_words"]

TITLES = {
    "truth": "Truth",
    "baseline": "Classical",
    "estimate": "Reconstruction",
    "error": "Error",
    "std": "Uncertainty",
    "measured": "Measured",
    "filled": "Filled in",
}
GOOD = 5.0  # deviations of chi-square, and beside them this share, within which it counts as met
SLACK = 0.1


def lead(record: Mapping[str, Any], modality: str) -> str:
    """What was done, in a sentence or two."""
    m = record["measurement"]
    D, H, W = record["shape"]
    if modality == "CT":
        what = f"{m['views']} views" + (f" over {m['angles']}" if "angles" in m else "")
        noise = f", {m['photons']:g} photons a ray" if m.get("photons") else ", no noise known"
    else:
        what = f"{100 * m['measured']:.0f} % of k-space by {m['coils']} coils"
        noise = "" if m.get("noise") else ", no noise known"
    several = f", {record['samples']} samples" if record["samples"] > 1 else ""
    return (
        f"A volume of {W} × {H} × {D} voxels from {what}{noise}, reconstructed by {record['method']} with the prior "
        f"{record['model']}{several}: {record['network_calls']} network calls a slice, {record['seconds']:.0f} seconds."
    )


def fit_words(fit: Fit) -> str:
    """How the estimate, measured again, compares with the measurement, as HTML."""
    text = f"Measured again, the estimate differs from the measurement by <b>{100 * fit.relative:.2g} %</b> (of its norm). "
    if fit.chi_square is None:
        return f"{text}The measurement states no noise to hold this against."
    off = fit.chi_square - 1
    text += f"Held against its noise, chi-square a number measured is <b>{fit.chi_square:.3f}</b> "
    text += f"(noise alone gives 1 ± {fit.expected:.2g}): "
    if off > max(GOOD * fit.expected, SLACK):
        return f"{text}more than noise explains, so the estimate contradicts some of what was measured."
    if off < -max(GOOD * fit.expected, SLACK):
        return f"{text}less than the noise, so the estimate follows some of it."
    return f"{text}as close as the noise allows."


def filled_words(record: Mapping[str, Any], share: float | None) -> str:
    """Who vouches for what, as HTML."""
    fixed = (
        "The measurement leaves most of a volume open. "
        if share is None
        else f"The measurement fixes about <b>{100 * share:.1f} %</b> of what makes up this volume. "
    )
    return (
        f"{fixed}The rest is what the prior <b>{escape(str(record['model']))}</b>, which has seen other patients, holds for "
        "likely: it was not observed, looks as plausible as what was, and may be wrong. A structure that shows only under "
        "“Filled in”, or where the uncertainty is large, must not be taken for a finding, and one that was never seen in "
        "training may be missing. This is no medical device."
    )


def spread_words(std: Tensor, record: Mapping[str, Any], modality: str) -> str:
    """What the samples say of the uncertainty, as HTML."""
    unit = " HU" if modality == "CT" else ""
    return (
        f"Between {record['samples']} samples a voxel varies by <b>{float(std.mean()):.3g}{unit}</b> on average. The spread is "
        "not calibrated: read it as where the volume is unsure, not as how much. All samples share the prior, and with it what "
        "it does not know."
    )


def facts(record: Mapping[str, Any]) -> dict[str, object]:
    """The settings and figures, for a list."""
    plain = ("source", "output", "modality", "method", "model", "samples", "network_calls", "seconds", "shape", "voxel")
    found = {name.replace("_", " "): _brief(record[name]) for name in plain}
    found |= {f"measurement: {name}": _brief(value) for name, value in record["measurement"].items() if value is not None}
    found |= {name: _brief(value) for name, value in record["settings"].items()}
    return found


def _brief(value: Any) -> object:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (tuple, list)):
        return " x ".join(str(_brief(v)) for v in value)
    return value
