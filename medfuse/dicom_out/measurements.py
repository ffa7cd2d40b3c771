"""Numbers of regions as a structured report, TID 1500, each with a code for name and unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

import medfuse
from medfuse.dicom_out.origin import UTF8, Origin, require_highdicom
from medfuse.dicom_out.segmentation import Drawn
from medfuse.measurement.peak import PEAK_ML
from medfuse.measurement.table import Row, as_dict

SERIES = 9006


@dataclass(frozen=True)
class Meaning:
    """How values in a unit are coded.

    Attributes
    ----------
    name, unit : Code
    total : Code or None
        Unit of a volume (ml) times a value, for the total lesion glycolysis.
    """

    name: Code
    unit: Code
    total: Code | None = None


#: Of the units of the table; others have no code here, and their values are not in the report.
#: SUL is that of `imaging.pet.suv`, by the lean mass of Janmahasatian.
#:
#: References: DICOM PS3.16 CID 7469 (names), CID 85 and 7181 (units).
MEANINGS = {
    "SUVbw": Meaning(
        codes.DCM.Suvbw,
        codes.UCUM.StandardizedUptakeValueBodyWeight,
        Code("g", "UCUM", "gram"),
    ),
    "SUL": Meaning(
        codes.DCM.SuvlbmJanma,
        codes.UCUM.StandardizedUptakeValueLeanBodyMassJanma,
        Code("g", "UCUM", "gram"),
    ),
    "SUVbsa": Meaning(
        codes.DCM.Suvbsa,
        codes.UCUM.StandardizedUptakeValueBodySurfaceArea,
        codes.UCUM.SquareCentimeter,
    ),
    "HU": Meaning(codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
}
_PROCEDURES = {
    "PET": codes.LN.PETUnspecifiedBodyRegion,
    "SPECT": codes.LN.NMUnspecifiedBodyRegion,
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "MRI": codes.LN.MRIUnspecifiedBodyRegion,
}
_OTHER = Code("363679005", "SCT", "Imaging procedure")


def meaning_of(unit: str, suv: Mapping[str, Any] | None) -> Meaning | None:
    """That of a unit; None for SUL that was stated, whose formula is not on record in `suv`."""
    if unit == "SUL" and not (suv or {}).get("lean_mass_kg"):
        return None
    return MEANINGS.get(unit)


def build_measurements(
    origin: Origin, segmentation: Dataset, regions: Sequence[Drawn], meaning: Meaning | None
) -> Dataset:
    """Make the object: a group of measurements for each segment.

    Parameters
    ----------
    origin : Origin
        About the functional image alone.
    segmentation : Dataset
        From `build_segmentation`, of the same regions.
    regions : sequence of Drawn
    meaning : Meaning or None
        From `meaning_of`; without one, only volumes are in the object.

    References
    ----------
    DICOM PS3.3 A.35.13 (Comprehensive 3D SR); PS3.16 TID 1500, 1411, 1419.
    """
    hd = require_highdicom()
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=origin.uid("observer"), name="medfuse", manufacturer_name="medfuse",
        model_name="medfuse", serial_number=medfuse.__version__,
    )  # fmt: skip
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=_PROCEDURES.get(regions[0].row.modality, _OTHER),
        imaging_measurements=[
            _group(origin, segmentation, region, number, meaning)
            for number, region in enumerate(regions, start=1)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    common = origin.common("measurements", SERIES, "measurements of regions")
    dataset: Dataset = hd.sr.Comprehensive3DSR(
        evidence=[segmentation, *_evidence(origin)],
        content=report[0],
        sop_instance_uid=origin.uid("measurements"),
        **common | {"specific_character_set": UTF8},
    )
    return origin.settle(dataset)


def _evidence(origin: Origin) -> Iterator[Dataset]:
    """The measured images, by the UIDs that they have."""
    source = origin.functional
    for sop_class, instance in dict.fromkeys(image[:2] for image in source.images):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = sop_class, instance
        image.SeriesInstanceUID, image.StudyInstanceUID = source.series, source.study
        yield image


def _group(
    origin: Origin, segmentation: Dataset, region: Drawn, number: int, meaning: Meaning | None
) -> Any:
    hd = require_highdicom()
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=origin.uid(f"region {number}"), identifier=region.name
        ),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(origin.functional.series),
        ),
        measurements=list(_measurements(region.row, meaning)),
    )
    if region.row.remark:
        remark = hd.sr.TextContentItem(
            name=codes.DCM.Comment, value=region.row.remark, relationship_type="CONTAINS"
        )
        group[0].ContentSequence.append(remark)
    return group


def _measurements(row: Row, meaning: Meaning | None) -> Iterator[Any]:
    """Those that the row has, to the digits of the table."""
    values = as_dict(row)
    if values["volume_ml"] is not None:
        yield _measurement(codes.SCT.Volume, values["volume_ml"], codes.UCUM.CubicCentimeter)
    if meaning is None:
        return
    sphere = f"highest mean in a sphere of {PEAK_ML:g} ml about a voxel of the region"
    for column, derivation, how in (
        ("max", codes.SCT.Maximum, None),
        ("mean", codes.SCT.Mean, None),
        ("peak", codes.DCM.PeakValueWithinROI, sphere),
    ):
        if values[column] is not None:
            yield _measurement(meaning.name, values[column], meaning.unit, derivation, how)
    if values["tlg"] is not None and meaning.total is not None:
        how = f"of values of {values['mtv_threshold']:g} {row.unit} or more"
        yield _measurement(codes.DCM.TotalLesionGlycolysis, values["tlg"], meaning.total, how=how)


def _measurement(
    name: Code, value: float, unit: Code, derivation: Code | None = None, how: str | None = None
) -> Any:
    hd = require_highdicom()
    algorithm = None
    if how:
        algorithm = hd.sr.AlgorithmIdentification("medfuse", medfuse.__version__, [how])
    return hd.sr.Measurement(name, value, unit, derivation=derivation, algorithm_id=algorithm)
