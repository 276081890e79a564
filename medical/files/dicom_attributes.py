"""What every file of a written DICOM series says: who was examined, what the pictures are, and that they are derived."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from medical.files.hdf5 import software

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MODALITIES", "series_attributes"]

MODALITIES = ("CT", "MR")
COPIED = (  # from the source; its private and all other attributes stay behind
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined"),
    *("Laterality", "ProtocolName", "ContrastBolusAgent", "AcquisitionDate", "AcquisitionTime", "AcquisitionNumber"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BurnedInAnnotation"),
)
COPIED_OF = {
    "CT": ("KVP", "WindowCenter", "WindowWidth"),
    "MR": (
        *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime"),
        *("EchoTrainLength", "InversionTime", "FlipAngle", "MagneticFieldStrength", "ImagingFrequency"),
    ),
}
EMPTY = (  # must be there, if only without a value (type 2)
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition", "AcquisitionNumber"),
)
EMPTY_OF = {"CT": ("KVP",), "MR": ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")}
STATED_OF: dict[str, dict[str, Any]] = {  # where the source does not say otherwise
    "CT": {"WindowCenter": 40, "WindowWidth": 400},
    "MR": {"ScanningSequence": "RM", "SequenceVariant": "NONE"},  # a research mode
}
TYPE = {"CT": ["DERIVED", "SECONDARY", "AXIAL"], "MR": ["DERIVED", "SECONDARY", "OTHER"]}
SOURCE_NUMBER = 1000  # the series comes after those of the scanner
ACQUISITION_EQUIPMENT = ("109101", "DCM", "Acquisition Equipment")


def series_attributes(modality: str, description: str, source: Dataset | None) -> Dataset:
    """The attributes that all slices of a new series share, apart from geometry and pixels.

    Patient, study, frame of reference and acquisition are those of ``source``, as far as they are valid; without one study
    and frame of reference are new. The series is new, and the pictures are marked as derived.
    """
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

    series = Dataset()
    series.SpecificCharacterSet = "ISO_IR 192"
    for name in (*EMPTY, *EMPTY_OF[modality]):
        setattr(series, name, None)
    for name, value in {**STATED_OF[modality], "BurnedInAnnotation": "NO"}.items():
        setattr(series, name, value)
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID"):
        setattr(series, name, generate_uid(prefix=None))  # 2.25 and a random number
    if source is not None:
        _copy(source, series, (*COPIED, *COPIED_OF[modality]))
        _name_equipment(source, series)
    series.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    series.Modality, series.ImageType = modality, TYPE[modality]
    series.SeriesDescription = description
    series.SeriesNumber = SOURCE_NUMBER + int((source.get("SeriesNumber") if source is not None else None) or 0)
    origin = "" if source is None else f" Source: series {source.get('SeriesInstanceUID', 'without UID')}."
    series.DerivationDescription = f"Computed by {software()}; not an acquired image.{origin}"
    series.Manufacturer, series.SoftwareVersions = "posterior", software()
    now = datetime.now()
    for event in ("Series", "Content", "InstanceCreation"):
        setattr(series, f"{event}Date", now.strftime("%Y%m%d"))
        setattr(series, f"{event}Time", now.strftime("%H%M%S"))
    return series


def _copy(source: Dataset, target: Dataset, names: tuple[str, ...]) -> None:
    """The attributes ``names`` that the source has, but for those that break the standard."""
    from pydicom import DataElement
    from pydicom.config import RAISE
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    for name in names:
        tag = tag_for_keyword(name)
        if tag is None or not source.get(name):
            continue
        try:
            target[name] = DataElement(tag, dictionary_VR(tag), source[name].value, validation_mode=RAISE)
        except (ValueError, TypeError):
            continue


def _name_equipment(source: Dataset, target: Dataset) -> None:
    """The scanner, as what acquired the source."""
    from pydicom import Dataset, Sequence

    scanner, purpose = Dataset(), Dataset()
    _copy(source, scanner, ("Manufacturer", "ManufacturerModelName"))
    if "Manufacturer" not in scanner:
        return
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = ACQUISITION_EQUIPMENT
    scanner.PurposeOfReferenceCodeSequence = Sequence([purpose])
    target.ContributingEquipmentSequence = Sequence([scanner])
