"""An Advanced Blending Presentation State: both sources as they are, coloured and laid over.

The alternative that burns nothing in. A viewer blends the untouched images half and half; it is not
the fused picture.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import MRImageStorage

from medfuse.dicom_out.origin import Origin, require_highdicom
from medfuse.dicom_out.source import SourceSeries, reference_items
from medfuse.imaging.windows import Window
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.results.export import to_bytes

SERIES = 9004
GRAY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def build_blending(
    origin: Origin,
    registration: Dataset,
    anatomical: Window,
    functional: Window,
    colormap: str,
) -> Dataset:
    """Make the object.

    Parameters
    ----------
    origin : Origin
        Both sources DICOM.
    registration : Dataset
        From `build_registration`, by which the functional images come into place.
    anatomical, functional : Window
        In the units of the loaded images.
    colormap : str
        Of the functional image.

    References
    ----------
    DICOM PS3.3 A.33.8, C.11.30.
    """
    hd = require_highdicom()
    colours = to_bytes(COLORMAPS[colormap].numpy())
    images = [_stand_ins(origin, s) for s in (origin.anatomical, origin.functional)]
    inputs = [
        _input(images[0], 1, anatomical, origin.anatomical, GRAY),
        _input(images[1], 2, functional, origin.functional, colours),
    ]
    dataset = hd.pr.AdvancedBlendingPresentationState(
        referenced_images=[*images[0], *images[1]],
        blending=inputs,
        blending_display=[
            hd.pr.BlendingDisplay("EQUAL", [hd.pr.BlendingDisplayInput(n) for n in (1, 2)])
        ],
        sop_instance_uid=origin.uid("blending"),
        content_label="BLENDING",
        content_description="Both sources as they are, half and half",
        **origin.common("blending", SERIES, "blending of sources"),
    )
    _complete(dataset, origin, registration)
    del dataset.ReferencedSeriesSequence
    return origin.finish(dataset, names_images=False)


def _stand_ins(origin: Origin, source: SourceSeries) -> list[Dataset]:
    """Images as highdicom wants to see them; `_complete` puts study, space and references right.

    Multi-frame images pass for classic ones, whose headers need no functional groups.
    """
    found = []
    for instance in dict.fromkeys(image[1] for image in source.images):
        image = deepcopy(origin.stand_in)
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, instance
        image.SeriesInstanceUID = source.series
        image.Rows, image.Columns, image.SamplesPerPixel = *source.pixels, 1
        found.append(image)
    return found


def _input(
    images: list[Dataset], number: int, window: Window, source: SourceSeries, colours: np.ndarray
) -> Dataset:
    hd = require_highdicom()
    low, high = window.low / source.rescaled_by, window.high / source.rescaled_by
    found: Dataset = hd.pr.AdvancedBlending(
        referenced_images=images,
        blending_input_number=number,
        voi_lut_transformations=[
            hd.pr.SoftcopyVOILUTTransformation(
                window_center=(low + high) / 2,
                window_width=high - low,
                voi_lut_function="LINEAR_EXACT",
            )
        ],
        palette_color_lut_transformation=hd.PaletteColorLUTTransformation.from_combined_lut(
            colours
        ),
    )
    return found


def _complete(dataset: Dataset, origin: Origin, registration: Dataset) -> None:
    """True studies and frames, and the registration that brings the second input into place."""
    for item, source in zip(
        dataset.AdvancedBlendingSequence, (origin.anatomical, origin.functional), strict=True
    ):
        item.StudyInstanceUID = source.study
        item.ReferencedImageSequence = reference_items(source.images)
        item.TimeSeriesBlending = "FALSE"
        item.GeometryForDisplay = "TRUE" if source is origin.anatomical else "FALSE"
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = registration.SOPClassUID
    instance.ReferencedSOPInstanceUID = registration.SOPInstanceUID
    series.SeriesInstanceUID = registration.SeriesInstanceUID
    series.ReferencedSOPSequence = DicomSequence([instance])
    study.StudyInstanceUID = registration.StudyInstanceUID
    study.ReferencedSeriesSequence = DicomSequence([series])
    functional = dataset.AdvancedBlendingSequence[1]
    functional.ReferencedSpatialRegistrationSequence = DicomSequence([study])
