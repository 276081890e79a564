"""The XML header of an ISMRMRD file, which fastMRI files carry too: sizes, fields of view and the kind of trajectory."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

__all__ = ["Header", "Limits", "Space"]

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
STEPS = ("kspace_encoding_step_1", "kspace_encoding_step_2")


@dataclass(frozen=True, kw_only=True)
class Space:
    """A grid of (x, y, z) points and its field of view in mm; x is the direction of the readout."""

    matrix: tuple[int, int, int]
    fov: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Smallest and largest number of a phase-encoding step, and the number of the step through the centre of k-space."""

    minimum: int
    maximum: int
    centre: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header says of one encoding.

    Attributes
    ----------
    encoded, recon: the grid that is measured, with oversampling, and the grid of the image.
    trajectory: ``"cartesian"``, ``"epi"``, ``"radial"``, ``"goldenangle"``, ``"spiral"`` or ``"other"``.
    coils: number of receiver channels, or None.
    step_1, step_2: limits of the phase encodings y and z, or None.
    xml: the text it was read from, written back as it is.
    """

    encoded: Space
    recon: Space
    trajectory: str = "cartesian"
    coils: int | None = None
    step_1: Limits | None = None
    step_2: Limits | None = None
    xml: str = field(default="", repr=False, compare=False)

    @property
    def readout_oversampling(self) -> float:
        """Encoded over reconstructed field of view along x, 2 on most scanners."""
        return self.encoded.fov[0] / self.recon.fov[0]

    @classmethod
    def parse(cls, xml: str, *, source: str, encoding: int = 0) -> Header:
        """From the text ``xml`` of the file ``source``; ``encoding`` counts the encodings from 0.

        Raises ``ValueError`` naming the source for text that is not such a header, or has no such encoding.
        """
        if "<!DOCTYPE" in xml:
            raise ValueError(f"{source}: the XML header must not define a document type")
        try:
            root = ElementTree.fromstring(xml.encode())
        except ElementTree.ParseError as error:
            raise ValueError(f"{source}: the XML header is damaged ({error})") from error
        encodings = root.findall("{*}encoding")
        if not 0 <= encoding < len(encodings):
            raise ValueError(f"{source}: the XML header has {len(encodings)} encodings, encoding {encoding} is not there")
        chosen = encodings[encoding]
        coils = root.findtext("{*}acquisitionSystemInformation/{*}receiverChannels")
        try:
            return cls(
                encoded=_space(chosen, "encodedSpace"),
                recon=_space(chosen, "reconSpace"),
                trajectory=(chosen.findtext("{*}trajectory") or "cartesian").strip().lower(),
                coils=None if coils is None else int(coils),
                step_1=_limits(chosen, STEPS[0]),
                step_2=_limits(chosen, STEPS[1]),
                xml=xml,
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{source}: the XML header is incomplete or wrong ({error})") from error

    def to_xml(self) -> str:
        """The text it was read from, or else a header with what is known; resonance frequency 0 says that it is not."""
        if self.xml:
            return self.xml
        root = ElementTree.Element("ismrmrdHeader", xmlns=NAMESPACE)
        if self.coils is not None:
            _write(root, {"acquisitionSystemInformation": {"receiverChannels": self.coils}})
        limits = {
            name: {"minimum": found.minimum, "maximum": found.maximum, "center": found.centre}
            for name, found in zip(STEPS, (self.step_1, self.step_2), strict=True)
            if found is not None
        }
        _write(
            root,
            {
                "experimentalConditions": {"H1resonanceFrequency_Hz": 0},
                "encoding": {
                    "encodedSpace": _grid(self.encoded),
                    "reconSpace": _grid(self.recon),
                    "encodingLimits": limits,
                    "trajectory": self.trajectory,
                },
            },
        )
        return ElementTree.tostring(root, encoding="unicode")


def _space(encoding: ElementTree.Element, name: str) -> Space:
    def triple(what: str) -> list[str]:
        found = [encoding.findtext(f"{{*}}{name}/{{*}}{what}/{{*}}{axis}") for axis in "xyz"]
        if None in found:
            raise KeyError(f"{name}/{what}")
        return [text for text in found if text is not None]

    (nx, ny, nz), (fx, fy, fz) = map(int, triple("matrixSize")), map(float, triple("fieldOfView_mm"))
    if min(nx, ny, nz) < 1:
        raise ValueError(f"{name}/matrixSize {nx} x {ny} x {nz}")
    return Space(matrix=(nx, ny, nz), fov=(fx, fy, fz))


def _limits(encoding: ElementTree.Element, name: str) -> Limits | None:
    found = encoding.find(f"{{*}}encodingLimits/{{*}}{name}")
    if found is None:
        return None
    low, high, centre = (int(found.findtext(f"{{*}}{what}") or 0) for what in ("minimum", "maximum", "center"))
    return Limits(minimum=low, maximum=high, centre=centre)


def _grid(space: Space) -> dict[str, object]:
    matrix, fov = (dict(zip("xyz", values, strict=True)) for values in (space.matrix, space.fov))
    return {"matrixSize": matrix, "fieldOfView_mm": fov}


def _write(parent: ElementTree.Element, content: dict[str, object]) -> None:
    for name, value in content.items():
        child = ElementTree.SubElement(parent, name)
        if isinstance(value, dict):
            _write(child, value)
        else:
            child.text = str(value)
