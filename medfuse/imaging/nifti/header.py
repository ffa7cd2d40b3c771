"""A NIfTI header, judged: shape, data type, scaling and the affine that the file means."""

from __future__ import annotations

import math
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from medfuse.errors import GeometryError, InputError, UnitError, option
from medfuse.imaging.nifti.colors import color_layout
from medfuse.imaging.volume import Place, out_of_this_world, spacing_of

_DATA_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_DATA_TYPES |= {1024: "i8", 1280: "u8"}
_REFUSED_TYPES = {
    1: "binary",
    32: "complex",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
_LABEL_INTENT = 1002
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_SHEAR_TOLERANCE = 1e-3
#: More than this before the voxels is no header extension any more.
_MAX_OFFSET = 1 << 26
#: By how much a squared quaternion may exceed 1: rounding, and no other rotation.
_QUATERNION_TOLERANCE = 1e-3
#: sform and qform may differ by this much at the corners of the volume without a note.
_FORM_TOLERANCE_MM = 0.1


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What is needed to read the voxels.

    Attributes
    ----------
    shape : (3,) int
    frames : int
        Length of the fourth axis.
    dtype : numpy dtype
        In the byte order of the file.
    slope, intercept : float
        ``value = stored * slope + intercept``.
    affine : (4, 4) float64
        Voxel index to RAS+ mm.
    offset : int
        Position of the first voxel in the (decompressed) file.
    """

    shape: tuple[int, int, int]
    frames: int
    dtype: np.dtype[np.generic]
    slope: float
    intercept: float
    affine: np.ndarray
    offset: int
    notes: tuple[str, ...]

    @property
    def frame_bytes(self) -> int:
        """Size of one volume as stored."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(
    raw: bytes | bytearray, place: Place, *, assume_identity: bool = False
) -> NiftiHeader:
    """Interpret the 348 (NIfTI-1) or 540 (NIfTI-2) bytes of a header.

    Parameters
    ----------
    raw : bytes
    place : Place
    assume_identity : bool
        Take the axes of a file without orientation as right, anterior, superior.

    Raises
    ------
    InputError
        ``E_NOT_NIFTI``, ``E_NOT_A_VOLUME``, ``E_DTYPE``, ``E_CORRUPT``
    GeometryError
        ``E_NO_ORIENTATION``, ``E_BAD_AFFINE``
    UnitError
        ``E_RESCALE``

    References
    ----------
    NIfTI-1.1 and NIfTI-2 headers, nifti.nimh.nih.gov: methods 2 (qform) and 3 (sform).
    """
    kind = nib.Nifti1Header if len(raw) == 348 else nib.Nifti2Header
    magic = raw[344:348] if len(raw) == 348 else raw[4:8]
    if magic[:3] not in (b"n+1", b"n+2"):
        raise place.error(
            InputError,
            "E_NOT_NIFTI",
            "the header is of an image pair or of ANALYZE, not of a single NIfTI file",
            "Convert it to one .nii.gz file",
        )
    header = kind(bytes(raw), check=False)  # type: ignore[no-untyped-call]
    shape, frames = _shape(header, place)
    dtype = _dtype(header, place)
    slope, intercept, notes = _scaling(header, place)
    affine, more = _affine(header, shape, place, assume_identity=assume_identity)
    offset = float(header["vox_offset"])
    if not (len(raw) + 4 <= offset <= _MAX_OFFSET and offset.is_integer()):
        raise place.error(
            InputError,
            "E_CORRUPT",
            f"voxels start at byte {offset:g}, expected a whole number from {len(raw) + 4} to "
            f"{_MAX_OFFSET}",
            "Write the file again",
        )
    return NiftiHeader(shape, frames, dtype, slope, intercept, affine, int(offset), (*notes, *more))


def _shape(header: nib.Nifti1Header, place: Place) -> tuple[tuple[int, int, int], int]:
    dims = [int(d) for d in header["dim"]]
    count = dims[0]
    sizes = dims[1 : count + 1] if 1 <= count <= 7 else []
    while len(sizes) > 3 and sizes[-1] in (0, 1):  # the NIfTI-1 library takes 0 as 1
        sizes.pop()
    text = " x ".join(str(s) for s in sizes) or "no valid size"
    if not 3 <= len(sizes) <= 4 or min(sizes) < 1 or min(sizes[:3]) < 2:
        raise place.error(
            InputError,
            "E_NOT_A_VOLUME",
            f"the image is {text} voxels, expected three axes of 2 or more (and frames at most)",
            "Give a 3-D scan",
        )
    return (sizes[0], sizes[1], sizes[2]), sizes[3] if len(sizes) == 4 else 1


def _dtype(header: nib.Nifti1Header, place: Place) -> np.dtype[np.generic]:
    code = int(header["datatype"])
    is_label = int(header["intent_code"]) == _LABEL_INTENT
    in_color = color_layout(header) is not None
    if code not in _DATA_TYPES or is_label or in_color:
        other = "RGB" if in_color else _REFUSED_TYPES.get(code, f"unknown (code {code})")
        kind = "label" if is_label else other
        raise place.error(
            InputError,
            "E_DTYPE",
            f"the voxels are {kind} values, expected real measured ones",
            "Give the scalar scan itself",
        )
    return np.dtype(_DATA_TYPES[code]).newbyteorder(header.endianness)


def _scaling(header: nib.Nifti1Header, place: Place) -> tuple[float, float, list[str]]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        unused = math.isfinite(intercept) and intercept != 0
        note = f"scl_slope is {slope:g}: stored values are taken as they are, scl_inter unused"
        return 1.0, 0.0, [note] if unused else []
    if not math.isfinite(intercept):
        raise place.error(
            UnitError,
            "E_RESCALE",
            f"scl_slope is {slope:g} but scl_inter is {intercept:g}",
            "Write the file again with valid scaling",
        )
    return slope, intercept, []


def _affine(
    header: nib.Nifti1Header, shape: tuple[int, int, int], place: Place, *, assume_identity: bool
) -> tuple[np.ndarray, list[str]]:
    """Take the sform where its code is set, else the qform; never make one up."""
    has_qform = int(header["qform_code"]) > 0
    has_sform = int(header["sform_code"]) > 0 and (_has_rows(header) or not has_qform)
    if not (has_sform or has_qform or assume_identity):
        raise place.error(
            GeometryError,
            "E_NO_ORIENTATION",
            "sform_code and qform_code are 0: the header does not say where left is",
            f"Convert again from DICOM, or use {option('assume_identity', 'True')} if you know "
            f"that the axes run "
            "right, anterior, superior",
        )
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    sound = bool(np.isfinite(zooms).all() and (zooms > 0).all())
    if not (sound or has_sform):
        raise _bad_affine(place, f"pixdim is {zooms[0]:g}, {zooms[1]:g}, {zooms[2]:g}")
    qform = read_qform(header) if has_qform and sound else None
    notes: list[str] = []
    if has_sform:
        affine = np.array(header.get_sform(), dtype=np.float64)
        notes += _pixdim_note(affine, zooms)
    elif qform is not None:
        affine = qform.copy()
        notes += _quaternion_note(header)
    elif has_qform:
        raise _bad_affine(place, "the quaternion of the qform is no rotation")
    else:
        affine = np.diag([*zooms, 1.0])
        notes.append(
            "no orientation in the header: axes right, anterior, superior are as stated by the user"
        )
    scale, unit_notes = _to_millimetres(header)
    affine[:3] *= scale
    _require_sound(affine, place)
    if has_sform and qform is not None:
        qform[:3] *= scale
        _require_one_handedness(header, affine, qform, place)
        notes += _form_note(affine, qform, shape)
    return affine, unit_notes + notes


def _has_rows(header: nib.Nifti1Header) -> bool:
    """Whether the sform holds anything but zeros."""
    return any(bool(np.any(header[f"srow_{axis}"])) for axis in "xyz")


def read_qform(header: nib.Nifti1Header) -> np.ndarray | None:
    """Affine of the qform, in the unit of the header; None where its quaternion is no rotation.

    As the standard and its library have it, and unlike nibabel: a pixdim[0] of 0 means 1, and of
    any other number the sign alone counts; a quaternion a little longer than 1 by rounding is that
    of a half turn.

    References
    ----------
    nifti1.h, method 2; ``nifti_quatern_to_mat44`` of the NIfTI-1 library.
    """
    vector = np.array([float(header[f"quatern_{axis}"]) for axis in "bcd"])
    offsets = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    zooms = np.array(header["pixdim"][:4], dtype=np.float64)
    rest = 1.0 - float(vector @ vector)
    if not (math.isfinite(rest) and math.isfinite(zooms[0])) or rest < -_QUATERNION_TOLERANCE:
        return None
    if rest < 1e-7:
        vector, rest = vector / np.linalg.norm(vector), 0.0
    turn = nib.quaternions.quat2mat([math.sqrt(rest), *vector])
    affine = np.eye(4)
    affine[:3, :3] = turn * zooms[1:] * [1, 1, -1 if zooms[0] < 0 else 1]
    affine[:3, 3] = offsets
    return affine


def _quaternion_note(header: nib.Nifti1Header) -> list[str]:
    length = math.sqrt(sum(float(header[f"quatern_{axis}"]) ** 2 for axis in "bcd"))
    if length - 1 < 1e-6:
        return []
    return [f"the quaternion of the qform is {length:.6f} long and was taken as 1, a half turn"]


def _pixdim_note(affine: np.ndarray, zooms: np.ndarray) -> list[str]:
    """Tell where pixdim, which the sform does not need, says something else."""
    spacing = np.array(spacing_of(affine))
    if np.allclose(spacing, zooms, rtol=0.01, atol=0):
        return []
    sizes = (" x ".join(f"{s:.4g}" for s in sizes) for sizes in (zooms, spacing))
    return ["pixdim is {} and the sform has voxels of {}: the sform was taken".format(*sizes)]


def _require_one_handedness(
    header: nib.Nifti1Header, sform: np.ndarray, qform: np.ndarray, place: Place
) -> None:
    """Refuse forms that disagree about left and right; a qfac that was never set says nothing."""
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    if mirrored and abs(float(header["pixdim"][0])) == 1:
        raise place.error(
            GeometryError,
            "E_BAD_AFFINE",
            "sform and qform contradict each other about left and right: one is the mirror image "
            "of the other",
            "Find out which is right and write it into both, or convert again from DICOM",
        )


def _to_millimetres(header: nib.Nifti1Header) -> tuple[float, list[str]]:
    code = int(header["xyzt_units"]) & 7
    if code not in _MILLIMETRES:
        return 1.0, [f"xyzt_units has the unknown code {code}: millimetres assumed"]
    if code in (1, 3):
        unit = "metres" if code == 1 else "micrometres"
        return _MILLIMETRES[code], [f"positions are given in {unit} and were converted to mm"]
    return 1.0, ["xyzt_units is not set: millimetres assumed"] if code == 0 else []


def _require_sound(affine: np.ndarray, place: Place) -> None:
    if not np.isfinite(affine).all():
        raise _bad_affine(place, "the affine holds NaN or infinity")
    if cause := out_of_this_world(affine):
        raise _bad_affine(place, cause)
    spacing = np.array(spacing_of(affine))
    cosines = affine[:3, :3] / spacing
    shear = np.abs(cosines.T @ cosines - np.eye(3)).max()
    if shear > _SHEAR_TOLERANCE:
        angle = math.degrees(math.asin(min(1.0, float(shear))))
        raise _bad_affine(place, f"the axes are sheared by {angle:.1f} degrees")


def _bad_affine(place: Place, cause: str) -> Exception:
    return place.error(
        GeometryError,
        "E_BAD_AFFINE",
        cause,
        "Correct the header, or resample the image to a rectangular grid",
    )


def _form_note(sform: np.ndarray, qform: np.ndarray, shape: tuple[int, int, int]) -> list[str]:
    """Tell how far sform and qform lie apart at the corners of the volume."""
    corners = np.array([(i, j, k, 1) for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(shape) - 1
    shift = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
    if not shift > _FORM_TOLERANCE_MM:
        return []
    turn = np.linalg.solve(qform[:3, :3], sform[:3, :3])
    cosine = np.clip((np.trace(turn / np.linalg.norm(turn, axis=0)) - 1) / 2, -1, 1)
    angle = math.degrees(math.acos(cosine))
    return [
        f"sform and qform disagree by up to {shift:.1f} mm and {angle:.1f} degrees: "
        "the sform was taken"
    ]
