"""Label maps of FreeSurfer: ``.mgz`` and ``.mgh`` files."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader, MGHImage
from numpy.typing import NDArray

from medfuse.errors import InputError, MedfuseError
from medfuse.imaging.grid import Grid
from medfuse.imaging.memory import require_memory
from medfuse.imaging.volume import Place

SUFFIXES = (".mgz", ".mgh")
_HEAD = 284  # bytes before the voxels
_TAIL = 1 << 24  # bytes that may follow them: acquisition and a history of commands
_COPIES = 12  # bytes a voxel: the file in memory, and its values


def read_mgh(path: Path, place: Place) -> tuple[NDArray[np.float32], Grid]:
    """Values and grid of a file, verified to the last byte.

    Parameters
    ----------
    path : Path
    place : Place
        For errors.

    Returns
    -------
    values : (X, Y, Z) float32
    grid : Grid
        In the scanner's RAS, as the file has it.

    Raises
    ------
    InputError
        ``E_REGION``: damaged, no such file, several volumes, no orientation; ``E_TOO_LARGE``.

    References
    ----------
    surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".mgz" else path.open("rb") as stream:
            head = stream.read(_HEAD)
            header = MGHHeader.from_fileobj(io.BytesIO(head))
            shape = tuple(int(n) for n in header.get_data_shape())
            if len(shape) != 3 or min(shape) < 1:
                raise _unfit(place, f"it holds {shape} values and not one volume")
            if int(header["goodRASFlag"]) != 1:
                raise _unfit(place, "it does not say how it lies in the scanner")
            require_memory(shape, _COPIES, place)
            size = int(np.prod(shape)) * header.get_data_dtype().itemsize
            voxels = stream.read(size)
            tail = stream.read(_TAIL + 1)  # to the end: here gzip compares its sum
        if len(voxels) < size or len(tail) > _TAIL:
            raise _unfit(place, f"it holds {len(voxels)} bytes of voxels instead of {size}")
        image = MGHImage.from_stream(io.BytesIO(head + voxels + tail))
        values = np.asarray(image.dataobj, dtype=np.float32)
        return values, Grid(shape, np.asarray(image.affine, dtype=np.float64))
    except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise _unfit(place, "it is damaged or no file of FreeSurfer") from error


def _unfit(place: Place, cause: str) -> MedfuseError:
    remedy = "Give one label map, or convert it to NIfTI (mri_convert)"
    return place.error(InputError, "E_REGION", cause, remedy)
