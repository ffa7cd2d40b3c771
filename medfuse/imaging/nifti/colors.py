"""Color volumes in NIfTI files: three bytes a voxel (RGB24), or a fourth axis of R, G and B."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

#: How a file holds the colors of its voxels.
ColorLayout = Literal["rgb24", "4d"]
LAYOUTS: tuple[ColorLayout, ...] = get_args(ColorLayout)
#: ``intent_name`` of a file whose fourth axis is R, G and B: three time frames look the same.
MARK = "RGB"
CHANNELS = ("R", "G", "B")
RGB24, UINT8 = 128, 2  # datatype, nifti1.h


def color_layout(header: Any) -> ColorLayout | None:
    """How a file with this header (of nibabel) holds colors; None for all that are no colors."""
    code, size = int(header["datatype"]), header["dim"]
    if code == RGB24:
        return "rgb24"
    four = code == UINT8 and size[0] == 4 and size[4] == len(CHANNELS)
    return "4d" if four and header["intent_name"].item() == MARK.encode() else None


def color_bytes(image: Any) -> NDArray[np.uint8] | None:
    """Colors of an image of nibabel, (X, Y, Z, 3) uint8; None where it holds none.

    Raises
    ------
    OSError, EOFError, ValueError
        Of a damaged file.
    """
    layout = color_layout(image.header)
    if layout is None:
        return None
    voxels = np.asarray(image.dataobj)
    if layout == "rgb24":
        voxels = np.stack([voxels[channel] for channel in CHANNELS], axis=-1)
    return voxels.astype(np.uint8, copy=False)
