"""Lines around regions for viewers: a Color Softcopy Presentation State over the fused image.

Nothing is burned in: the lines lie on layers of their own, which a viewer can hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from importlib.resources import files
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import DS

from medfuse.dicom_out.origin import UTF8, Origin, require_highdicom
from medfuse.measurement.table import cell
from medfuse.results.outlines import Outlines, region_rgb, rings

SERIES = 9008
_SRGB = "_icc_profiles/sRGB_v4_ICC_preference.icc"  # as `AdvancedBlending` of highdicom has it
_NAME = 64  # characters of a value representation LO


def build_outlined_state(origin: Origin, regions: Outlines, *, per_slice: bool) -> Dataset:
    """Make the object: a layer for each region, in its color, with its name.

    Parameters
    ----------
    origin : Origin
    regions : Outlines
        On the anatomical grid.
    per_slice : bool
        Whether the fused image is a file a slice, as `build_colour` made it.

    References
    ----------
    DICOM PS3.3 A.33.2 (Color Softcopy Presentation State), C.10.5 (Graphic Annotation),
    C.10.7 (Graphic Layer).
    """
    hd = require_highdicom()
    slices = regions.slices(origin.order)
    images = {k: _image(origin, k if per_slice else None) for k in slices}
    layers = {piece.label: _layer(regions, piece.label) for piece in regions.pieces}
    dataset: Dataset = hd.pr.ColorSoftcopyPresentationState(
        referenced_images=[images[k] for k in slices] if per_slice else [images[slices[0]]],
        sop_instance_uid=origin.uid("contours"),
        content_label="REGIONS",
        content_description="Lines around regions",
        graphic_layers=list(layers.values()),
        graphic_annotations=[
            hd.pr.GraphicAnnotation(
                [images[k]],
                layers[label],
                referenced_frame_number=None if per_slice else k + 1,
                graphic_objects=graphics,
                text_objects=texts,
            )
            for k in slices
            for label, graphics, texts in _lines(origin, regions, k)
        ],
        icc_profile=(files("highdicom") / _SRGB).read_bytes(),
        **origin.common("contours", SERIES, "lines around regions")
        | {"specific_character_set": UTF8},
    )
    area = dataset.DisplayedAreaSelectionSequence[0]
    del area.PresentationPixelAspectRatio
    spacing = origin.geometry.pixel_spacing
    area.PresentationPixelSpacing = [DS(mm, auto_format=True) for mm in spacing]
    dataset.Laterality = ""
    return origin.settle(dataset)


def _lines(origin: Origin, regions: Outlines, k: int) -> Iterator[tuple[int, list[Any], list[Any]]]:
    """Label, closed lines and name of each region in a slice."""
    hd = require_highdicom()
    for label, mask in regions.cut(origin.order, k):
        tracking = {
            "tracking_id": _name(regions, label),
            "tracking_uid": origin.uid(f"region {label}"),
        }
        found = rings(mask)
        graphics = [hd.pr.GraphicObject("POLYLINE", ring, "PIXEL", **tracking) for ring in found]
        longest = max(found, key=len)
        right = longest[longest[:, 0].argmax()]
        name = hd.pr.TextObject(
            tracking["tracking_id"], "PIXEL", anchor_point=tuple(right), anchor_point_visible=False
        )
        yield label, graphics, [name]


def _layer(regions: Outlines, label: int) -> Any:
    hd = require_highdicom()
    return hd.pr.GraphicLayer(
        f"REGION {label}",
        label,
        description=_name(regions, label),
        display_color=hd.color.CIELabColor.from_rgb(*region_rgb(label)),
    )


def _name(regions: Outlines, label: int) -> str:
    return cell(regions.names[label - 1]).replace("\\", "/")[:_NAME]


def _image(origin: Origin, index: int | None) -> Dataset:
    """The fused image as highdicom wants to see it: a slice, or None for all in one file."""
    image = deepcopy(origin.stand_in)
    if index is None:
        image.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
        image.NumberOfFrames = origin.geometry.spatial_shape[0]
    else:
        image.SOPClassUID = SecondaryCaptureImageStorage
    image.SOPInstanceUID = origin.uid("fused" if index is None else f"fused {index}")
    image.SeriesInstanceUID = origin.uid("series fused")
    image.Rows, image.Columns = origin.geometry.spatial_shape[1:]
    image.SamplesPerPixel = 3
    return image
