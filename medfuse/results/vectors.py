"""Displacement fields as NIfTI files that ITK, ANTs and 3D Slicer read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfuse.imaging.grid import LPS_FROM_RAS
from medfuse.results.export import OFFSET, gzip_parts, nifti_head
from medfuse.results.folder import whole_file, writing

DESCRIPTION = "displacement in mm, LPS components (ITK, ANTs)"
_LPS = np.diag(LPS_FROM_RAS)[:3].astype(np.float32)


def vector_header(shape: tuple[int, int, int], affine: ArrayLike) -> Any:
    """Header of a field (X, Y, Z, 1, 3): intent 1007 (vector), float32, mm."""
    header: Any = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.dtype("<f4"))
    header.set_data_shape((*shape, 1, 3))
    header.set_qform(np.asarray(affine, dtype=np.float64), code=1)
    header.set_sform(np.asarray(affine, dtype=np.float64), code=1)
    header.set_xyzt_units("mm")
    header.set_intent("vector")
    header.set_slope_inter(1, 0)
    header["descrip"] = DESCRIPTION.encode("ascii")
    header.set_data_offset(OFFSET)
    return header


def write_vectors(path: Path, vectors: NDArray[np.float32], affine: ArrayLike) -> Path:
    """Write displacements; the same ones give the same bytes.

    Parameters
    ----------
    path : Path
        ``.nii.gz``.
    vectors : (X, Y, Z, 3) float32
        RAS mm. The file holds them in LPS, as ITK and ANTs have them under this intent.
    affine : (4, 4) array-like
        Index -> RAS mm.

    Raises
    ------
    OutputError
        ``E_WRITE``.

    References
    ----------
    NIfTI-1 header (nifti1.h): NIFTI_INTENT_VECTOR, five dimensions.
    """
    x, y, z, _ = vectors.shape
    content = np.ascontiguousarray((vectors * _LPS).astype("<f4").T)
    with writing(path), whole_file(path) as file:
        for part in gzip_parts([nifti_head(vector_header((x, y, z), affine)), content.data]):
            file.write(part)
    return path


def as_vectors(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """(X, Y, Z, 3) RAS mm from the voxels of a file that `write_vectors` wrote."""
    stored = np.frombuffer(content, "<f4").reshape((3, *shape[::-1])).T
    return np.ascontiguousarray(stored * _LPS, dtype=np.float32)
