"""A local deformation that somebody gives: of a result, or of an ITK or ANTs composite."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from medfuse.imaging.grid import LPS_FROM_RAS, Grid, Matrix
from medfuse.registration.deformation import FILE, Deformation
from medfuse.registration.refine import ras_matrix

#: More nodes than any program writes; each takes 12 bytes, and some hundred while it is judged.
MOST_NODES = 1 << 24
_LPS = np.diag(LPS_FROM_RAS)[:3]
_READING = (OSError, ValueError, EOFError, KeyError, TypeError, ImageFileError, zlib.error)


def of_result(path: Path, values: Mapping[str, Any]) -> Deformation:
    """The deformation of a ``transform.json``, whose displacements lie in a file beside it.

    Raises
    ------
    ValueError
        In words: the file is missing or damaged, or belongs to another transform.
    """
    beside = path.with_name(FILE)
    try:
        lattice = values["deformation"]["lattice"]
        shape = tuple(int(n) for n in lattice["shape"])
        image: Any = nib.load(beside)
        if image.shape != (*shape, 1, 3) or np.prod(shape, dtype=float) > MOST_NODES:
            raise ValueError("another shape")
        stored = np.asarray(image.dataobj, dtype=np.float32)[..., 0, :]
        # In the order in which it is read again, so that sums over it are the same to the bit.
        vectors = np.ascontiguousarray(stored * _LPS.astype(np.float32))
        found = Deformation.from_dict(values["deformation"], vectors)
    except FileNotFoundError:
        raise ValueError(f"its deformation lies in {FILE}, which is not beside it") from None
    except _READING:
        raise ValueError(f"its deformation cannot be read from {FILE} beside it") from None
    if found.sha256 != values["deformation"].get("sha256"):
        raise ValueError(f"{FILE} beside it belongs to another transform")
    return replace(found, given=True)


def of_itk(transform: sitk.Transform) -> tuple[Matrix, Deformation | None] | None:
    """A linear map and the displacements before it; None for a transform of another form."""
    parts = sitk.CompositeTransform(transform)
    parts.FlattenTransform()
    last = parts.GetNumberOfTransforms() - 1
    field = parts.GetNthTransform(last)  # which ITK applies first
    linear = [parts.GetNthTransform(i) for i in range(last)]
    if field.GetTransformEnum() != sitk.sitkDisplacementField:
        linear, field = [*linear, field], None
    if not all(part.IsLinear() for part in linear):
        return None
    matrix = ras_matrix(sitk.CompositeTransform(linear)) if linear else np.eye(4)
    return matrix, None if field is None else _of_field(field)


def _of_field(field: sitk.Transform) -> Deformation:
    image = sitk.DisplacementFieldTransform(field).GetDisplacementField()
    shifts = sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3) * _LPS
    x, y, z = image.GetSize()
    vectors = np.ascontiguousarray(shifts, dtype=np.float32)
    return Deformation(Grid((x, y, z), _affine(image)), vectors, inverse_mm=None, given=True)


def _affine(image: sitk.Image) -> NDArray[np.float64]:
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return np.asarray(LPS_FROM_RAS @ lps)
