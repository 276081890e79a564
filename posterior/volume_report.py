"""The report of a reconstructed volume: one HTML file that needs nothing else, and says what was measured and what was not.

Pictures are embedded, nothing is fetched (the page forbids it to itself), and all text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medical.files import Scan
from medical.files.atomic import written_whole
from medical.files.orientation import canonical
from posterior.page import filled, page
from posterior.volume_figures import Look, centre, data_uri, histogram, plane_picture, profile, residual_picture
from posterior.volume_scores import PLANES, Fit
from posterior.volume_words import TITLES, facts, filled_words, fit_words, lead, spread_words

__all__ = ["VolumeCase", "html", "write"]

WINDOWS = {"CT": {"Soft tissue": (-160.0, 240.0), "Wide": (-1000.0, 1000.0)}}  # HU
SPREAD, SIGNED = "magma", "coolwarm"
BRIGHTEST = 0.995  # quantile that is shown as the brightest
SIGMAS = 4.0  # of a map of a residual
SHOWN = ("truth", "baseline", "estimate", "error", "std", "measured", "filled")


@dataclass(frozen=True, eq=False, kw_only=True)
class VolumeCase:
    """What a report is made of.

    Attributes
    ----------
    modality: "CT" or "MR".
    volumes: scans by name: "estimate", and where there are any "truth", "baseline", "std", "measured" and "filled".
    fit: what is left of the measurement.
    record: all that is told of the job, as :class:`posterior.volumes.VolumeRecord` has it.
    baseline: name of the classical method, and its seconds.
    share: of the degrees of freedom that the measurement fixes, where that was worked out.
    """

    modality: str
    volumes: Mapping[str, Scan]
    fit: Fit
    record: Mapping[str, Any]
    baseline: tuple[str, float] | None = None
    share: float | None = None
    images: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        if self.modality not in ("CT", "MR"):
            raise ValueError(f"modality must be CT or MR, got {self.modality!r}")
        if "estimate" not in self.volumes:
            raise ValueError(f"volumes must hold the estimate, got {', '.join(self.volumes) or 'none'}")
        shapes = {name: tuple(scan.data.shape) for name, scan in self.volumes.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"volumes must have one shape, got {shapes}")
        found = {name: canonical(scan)[0].data for name, scan in self.volumes.items()}
        if "truth" in found:
            found["error"] = (found["estimate"] - found["truth"]).abs()
        object.__setattr__(self, "images", found)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(dz, dy, dx) in mm, in canonical axes."""
        return canonical(self.volumes["estimate"])[0].spacing

    @property
    def at(self) -> tuple[int, int, int]:
        """The voxel through which slices are shown."""
        shown = self.images.get("truth", self.images["estimate"])
        low, high = self.windows["Wide" if self.modality == "CT" else "Window"]
        return centre(shown.clamp(low, high))

    @property
    def windows(self) -> dict[str, tuple[float, float]]:
        """Grey levels by name: for CT the usual ones, for MR from 0 to the brightest."""
        if self.modality in WINDOWS:
            return WINDOWS[self.modality]
        return {"Window": (0.0, _brightest(self.images.get("truth", self.images["estimate"])))}


def write(path: Path, case: VolumeCase, *, overwrite: bool = False) -> Path:
    """Write the report to the HTML file ``path``, completely or not at all; see :func:`html`."""
    text = html(case)
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def html(case: VolumeCase) -> str:
    """The report as one HTML page."""
    words = [("How well it fits", fit_words(case.fit)), ("What the prior made up", filled_words(case.record, case.share))]
    if "std" in case.images:
        words.append(("How sure it is", spread_words(case.images["std"], case.record, case.modality)))
    body = filled(
        "volume.html",
        table=_table(case),
        words="\n".join(f"<h3>{title}</h3><p>{text}</p>" for title, text in words),
        choices=_choices(case),
        planes="\n".join(_plane(case, plane) for plane in PLANES),
        profile=_profile(case),
        residual=_residual(case),
    )
    title = f"{case.record['source']}: {case.modality} by {case.record['method']}"
    return page(body, title=title, lead=lead(case.record, case.modality), facts=facts(case.record), styles=["volume.css"])


def _brightest(values: Tensor) -> float:
    return max(float(np.quantile(values.numpy(), BRIGHTEST)), 1e-6)


def _table(case: VolumeCase) -> str:
    """Scores by plane, a row a method; without a truth there are none."""
    known = case.record["scores"]
    if not known:
        return '<p class="note">The truth is not known: there is nothing to score against.</p>'
    head = "".join(f'<th scope="col">{what} {plane}</th>' for what in ("PSNR", "SSIM") for plane in PLANES)
    rows = [f'<thead><tr><th class="name" scope="col">Method</th>{head}<th scope="col">Seconds</th></tr></thead><tbody>']
    for name, found in known.items():
        ours = name == case.record["method"]
        seconds = case.record["seconds"] if ours else case.baseline[1] if case.baseline else None
        cells = [_number(found.psnr[p], 2) for p in PLANES] + [_number(found.ssim[p], 3) for p in PLANES]
        numbers = "".join(f"<td>{cell}</td>" for cell in (*cells, _number(seconds, 1)))
        rows.append(f'<tr class="{"best" if ours else "rest"}"><td class="name">{escape(name)}</td>{numbers}</tr>')
    note = f"Means over the slices of each plane, nothing clipped; PSNR in dB, data range {case.record['data_range']}."
    return f'<div class="scroll" tabindex="0"><table>{"".join(rows)}</tbody></table></div><p class="note">{escape(note)}</p>'


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _choices(case: VolumeCase) -> str:
    """Radio buttons for the windows; the style sheet shows the pictures of the one that is chosen."""
    if len(case.windows) < 2:
        return ""
    parts = []
    for number, (name, (low, high)) in enumerate(case.windows.items()):
        chosen = " checked" if number == 0 else ""
        parts.append(
            f'<input type="radio" name="window" id="window-{number}" class="window-{number}"{chosen}>'
            f'<label for="window-{number}">{escape(name)} <small>{low:g} to {high:g} HU</small></label>'
        )
    return "".join(parts)


def _plane(case: VolumeCase, plane: str) -> str:
    z, y, x = case.at
    number = {"axial": z, "coronal": y, "sagittal": x}[plane]
    figures = "".join(_figure(case, name, plane) for name in SHOWN if name in case.images)
    return f'<h3>{plane.capitalize()} <small>slice {number}</small></h3><div class="slices">{figures}</div>'


def _figure(case: VolumeCase, name: str, plane: str) -> str:
    """One volume in one plane: a picture for each window, or one of a map."""
    dz, dy, dx = case.spacing
    D, H, W = case.images[name].shape
    wide, high = {"axial": (W * dx, H * dy), "coronal": (W * dx, D * dz), "sagittal": (H * dy, D * dz)}[plane]
    title = case.baseline[0] if name == "baseline" and case.baseline else TITLES[name]
    values = plane_picture(case.images[name], plane, case.at)
    pictures = []
    looks = _looks(case, name)
    for number, look in enumerate(looks):
        pixels = look.pixels(values)
        of = f' class="of-window-{number}"' if len(looks) > 1 else ""
        alt = escape(f"{title}, {plane}, {look.low:.4g} to {look.high:.4g}")
        pictures.append(
            f'<img{of} width="{pixels.shape[1]}" height="{pixels.shape[0]}" style="aspect-ratio: {wide:.4g} / {high:.4g}" '
            f'alt="{alt}" src="{data_uri(pixels)}">'
        )
    scale = _ends(looks[0], case.modality) if looks[0].colours else ""
    return (
        f'<figure data-key="{name}-{plane}">{"".join(pictures)}<figcaption><b>{escape(title)}</b>{scale}</figcaption></figure>'
    )


def _looks(case: VolumeCase, name: str) -> list[Look]:
    if name == "filled":
        reach = _brightest(case.images[name].abs())
        return [Look(low=-reach, high=reach, colours=SIGNED)]
    if name in ("error", "std"):
        return [Look(low=0.0, high=_brightest(case.images[name]), colours=SPREAD)]
    return [Look(low=low, high=high) for low, high in case.windows.values()]


def _ends(look: Look, modality: str) -> str:
    unit = " HU" if modality == "CT" else ""
    return f'<span class="ends"><span>{look.low:.3g}{unit}</span><span>{look.high:.3g}{unit}</span></span>'


def _profile(case: VolumeCase) -> str:
    z, y, _ = case.at
    lines: dict[str, Tensor] = {
        name: case.images[name][z, y] for name in ("truth", "baseline", "estimate") if name in case.images
    }
    band = case.images["std"][z, y] if "std" in case.images else None
    names = {"baseline": case.baseline[0] if case.baseline else "baseline"}
    legend = "".join(f'<span class="key-{n}">{escape(names.get(n, TITLES[n]))}</span>' for n in lines)
    if band is not None:
        legend += '<span class="key-band">± 2 standard deviations</span>'
    drawn = profile(lines, band, case.images["estimate"].shape[-1] * case.spacing[2], "HU" if case.modality == "CT" else "")
    return (
        f'<figure class="chart">{drawn}<figcaption>Row {y} of axial slice {z}, from the patient’s right to the left. '
        f'<span class="legend">{legend}</span></figcaption></figure>'
    )


def _residual(case: VolumeCase) -> str:
    """The map of the residual of one slice, and the histogram of all of it where there is noise to hold it against."""
    r, known = case.fit.standardised, case.fit.chi_square is not None
    values = residual_picture(r, min(case.at[0], len(r) - 1))
    complex_data = r.is_complex()
    reach = SIGMAS if known else max(float(np.abs(values).max()), 1e-12)
    look = Look(low=0.0, high=reach, colours=SPREAD) if complex_data else Look(low=-reach, high=reach, colours=SIGNED)
    unit = "standard deviations of the noise" if known else "of the largest number measured"
    axes = "k-space, root mean square over the coils" if complex_data else "sinogram: views down, columns across"
    map_of = (
        f'<figure class="chart"><img class="residual" alt="Residual map" src="{data_uri(look.pixels(values))}">'
        f"<figcaption><b>Residual of one slice</b>{axes}; {look.low:.3g} to {look.high:.3g} {unit}.</figcaption></figure>"
    )
    if not known:
        return map_of
    caption = "<b>All residuals</b>Bars: over the standard deviation of the noise. Curve: what noise alone gives."
    return f'{map_of}<figure class="chart">{histogram(r)}<figcaption>{caption}</figcaption></figure>'
