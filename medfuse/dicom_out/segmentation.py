"""Measured regions as a Segmentation, on the voxels of the image that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import medfuse
from medfuse.dicom_out.origin import UTF8, Origin, require_highdicom
from medfuse.dicom_out.parametric_map import name_sources, shaped
from medfuse.imaging.memory import require_memory
from medfuse.imaging.volume import Place
from medfuse.measurement.occupancy import Part
from medfuse.measurement.table import Row, cell

SERIES = 9005
#: Parts of voxels are stored in so many steps; a smaller part than half a step is none.
STEPS = 255
_LABEL = 64  # characters of a value representation LO
_COPIES = 3


@dataclass(frozen=True, eq=False)
class Drawn:
    """A measured region.

    Attributes
    ----------
    row : Row
        Of the table.
    part : Part
        The part of each voxel of the functional image that it fills.
    """

    row: Row
    part: Part

    @property
    def is_cut(self) -> bool:
        """Whether it fills some voxels in part."""
        weights = self.part.weights
        return bool(((weights > 0) & (weights < 1)).any())

    @property
    def name(self) -> str:
        """In one line, with nothing that parts values in DICOM."""
        return cell(self.row.region).replace("\\", "/")


def build_segmentation(origin: Origin, regions: Sequence[Drawn]) -> Dataset:
    """Make the object: a segment for each region, binary where no voxel is filled in part.

    Parameters
    ----------
    origin : Origin
        About the functional image alone.
    regions : sequence of Drawn
        One or more.

    Raises
    ------
    InputError
        ``E_TOO_LARGE``.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20.
    """
    hd = require_highdicom()
    cut = any(region.is_cut for region in regions)
    planes, frames = _frames(origin, regions, cut=cut)
    common = origin.common("regions", SERIES, "measured regions")
    dataset: Dataset = hd.seg.Segmentation(
        [shaped(origin, frames.shape[1:3])],
        hd.Volume(
            frames,
            origin.geometry[planes].affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=origin.frame_of_reference,
            channels={"SegmentNumber": range(1, len(regions) + 1)},
        ),
        segmentation_type="FRACTIONAL" if cut else "BINARY",
        fractional_type="OCCUPANCY",
        max_fractional_value=STEPS,
        segment_descriptions=[
            _segment(origin, region, number) for number, region in enumerate(regions, start=1)
        ],
        sop_instance_uid=origin.uid("regions"),
        content_label="REGIONS",
        content_description="Measured regions",
        **common | {"specific_character_set": UTF8},
    )
    name_sources(dataset, origin, codes.cid7203.SegmentationImageDerivation)
    source = origin.functional
    dataset.LossyImageCompression = "01" if source.lossy else "00"
    origin.finish(dataset)
    del dataset.Laterality  # that of the regions is not known
    return dataset


def _frames(origin: Origin, regions: Sequence[Drawn], *, cut: bool) -> tuple[slice, NDArray[Any]]:
    """Which slices hold a region, and (slices, rows, columns, regions) of them."""
    spans = [region.part.slices[2] for region in regions]
    low, high = min(s.start for s in spans), max(s.stop for s in spans)
    dtype = np.dtype(np.float32 if cut else np.uint8)
    shape = (*origin.grid.shape[:2], high - low, len(regions))
    place = Place("Cannot write the regions as DICOM", "the segmentation")
    require_memory(shape, _COPIES * dtype.itemsize, place)
    frames = np.zeros((high - low, *origin.grid.shape[1::-1], len(regions)), dtype)
    for number, region in enumerate(regions):
        x, y, z = region.part.slices
        rows = np.moveaxis(region.part.weights, (0, 1, 2), (2, 1, 0))
        frames[z.start - low : z.stop - low, y, x, number] = rows
    return slice(low, high), frames


def _segment(origin: Origin, region: Drawn, number: int) -> Dataset:
    """A segment of which is known that it is a region, and not what of the body it is."""
    hd = require_highdicom()
    row = region.row
    contour = row.kind.startswith("isocontour")
    segment: Dataset = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=region.name[:_LABEL],
        segmented_property_category=codes.cid7150.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.SelectedRegion,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=f"medfuse {row.kind}"[:_LABEL],
            family=codes.cid7162.HistogramAnalysis if contour else codes.DCM.SpatialResampling,
            version=medfuse.__version__,
        ),
        tracking_uid=origin.uid(f"region {number}"),
        tracking_id=region.name,
    )
    where = "" if contour else f", drawn on the {row.space} image and brought to these voxels"
    segment.SegmentDescription = f"{row.kind}{where}"
    return segment
