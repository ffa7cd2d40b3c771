"""One checked way in for every scan: DICOM series and NIfTI files to a MetaTensor in RAS mm.

`load`, `describe` and the MONAI reader share it. torch and MONAI are imported when a volume is
made, so that `describe` answers fast.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medfuse.errors import InputError, MedfuseError, UnitError, option
from medfuse.imaging.dicom.chosen import FrameWish
from medfuse.imaging.dicom.series import describe_dicom, read_dicom
from medfuse.imaging.fingerprint import with_fingerprint
from medfuse.imaging.nifti.volume import describe_nifti, read_nifti
from medfuse.imaging.pet.header import suv_unavailable
from medfuse.imaging.pet.suv import SUV_UNITS
from medfuse.imaging.pointers import ANNEX, lacks_content, pointer_error, pointer_kind
from medfuse.imaging.volume import (
    Volume,
    display_name,
    parse_modality,
    parse_unit,
    read_failure,
)

if TYPE_CHECKING:
    import os

    from monai.data.meta_tensor import MetaTensor


__all__ = ["describe", "load", "read_volume"]

UnitWish = Literal["auto", "suv", "sul", "suvbsa", "proportion"]
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
}
_KNOWN_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF document",
    b"NRRD": "an NRRD image",
    b"\x93NUMPY": "a NumPy array",
    b"ObjectType": "a MetaImage",
    b"\x89HDF": "an HDF5 file (MINC?)",
}


def load(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    unit: UnitWish = "auto",
    frame: FrameWish = None,
    modality: str | None = None,
    values_in: str | None = None,
    tilt_correction: bool = True,
    assume_identity: bool = False,
) -> MetaTensor:
    """Load a scan: a DICOM folder, one file of a DICOM series, or a NIfTI file.

    PET in Bq/ml becomes SUVbw where its header allows it (`medfuse.imaging.pet.suv`); CT is in HU.

    Parameters
    ----------
    path : path-like
    series : str, optional
        SeriesInstanceUID (or its end) or SeriesNumber, where a folder holds several series.
    unit : {"auto", "suv", "sul", "suvbsa", "proportion"}
        "auto": SUVbw where it is available, else the unit of the file, with a note. "suv", "sul"
        (by lean mass) and "suvbsa" (by body surface) refuse a volume that is not available in it.
        "proportion": each voxel's part of all counts, parts per million (ppm), for PET and SPECT.
    frame : int or "mean", optional
        Frame of a time-resolved scan, counted from 0, or the unweighted mean of all.
    modality, values_in : str, optional
        What a file does not say (NIfTI), or says wrongly: "MRI", "PET", "SPECT", "CT"; and
        "SUVbw", "Bq/ml", "HU", "counts", "a.u.".
    tilt_correction : bool
        Resample a DICOM stack with gantry tilt to a straight grid (with a note); False refuses it.
    assume_identity : bool
        Take the axes of a NIfTI file without orientation as right, anterior, superior.

    Returns
    -------
    MetaTensor (1, X, Y, Z) float32
        `.affine` (4, 4) float64: voxel index to RAS+ mm. `.meta`: modality, unit, spacing,
        source, suv, notes.

    Raises
    ------
    MedfuseError
        With a stable code, for everything that is not one sound volume.

    Examples
    --------
    >>> pet = load("study/pet_dicom", unit="suv")  # doctest: +SKIP
    >>> pet.meta["modality"], pet.meta["unit"]  # doctest: +SKIP
    ('PET', 'SUVbw')
    """
    from monai.data.meta_tensor import MetaTensor

    from medfuse.imaging.located import located

    volume = located(read_volume(
        path, series=series, unit=unit, frame=frame, modality=modality, values_in=values_in,
        tilt_correction=tilt_correction, assume_identity=assume_identity,
    ))  # fmt: skip
    return MetaTensor(volume.as_tensor(), affine=volume.affine, meta=volume.meta)


def read_volume(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    unit: UnitWish = "auto",
    frame: FrameWish = None,
    modality: str | None = None,
    values_in: str | None = None,
    tilt_correction: bool = True,
    assume_identity: bool = False,
) -> Volume:
    """Read what `load` loads, as numpy values; parameters and errors as there."""
    path = Path(path)
    modality, values_in = parse_modality(modality), parse_unit(values_in)
    if kind_of(path) == "nifti":
        volume = read_nifti(
            path, frame=frame, modality=modality, values_in=values_in,
            assume_identity=assume_identity,
        )  # fmt: skip
    else:
        volume = read_dicom(
            path, series=series, frame=frame, modality=modality, values_in=values_in,
            tilt_correction=tilt_correction, suv=unit if unit in SUV_UNITS else "suv",
        )  # fmt: skip
    if unit in SUV_UNITS and volume.meta["unit"] != SUV_UNITS[unit]:
        raise _no_suv(volume, display_name(path))
    if unit == "proportion":
        volume = _as_proportion(volume, display_name(path))
    return replace(volume, meta=with_fingerprint(volume.meta, volume.values, volume.affine))


def describe(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Say what lies at `path`: one entry for each DICOM series, or one for a NIfTI file.

    DICOM is judged by its headers, NIfTI by a full read.

    Returns
    -------
    list of dict
        name, kind, series (number), uid_end, modality, unit, images, frames, shape, spacing (mm),
        orientation ("LPS" ...), suv (record of the arithmetic), suv_steps (lines), notes, and
        problems: the texts of the errors that `load` would raise.

    Raises
    ------
    MedfuseError
        Nothing at `path` is an image.
    """
    path = Path(path)
    return [describe_nifti(path)] if kind_of(path) == "nifti" else describe_dicom(path)


def _as_proportion(volume: Volume, name: str) -> Volume:
    """Divide by the sum of all positive values, in place: comparable without dose and decay."""
    modality = volume.meta["modality"]
    total = float(np.sum(volume.values, where=volume.values > 0, dtype=np.float64))
    if modality not in ("PET", "SPECT") or total <= 0:
        raise UnitError(
            "E_UNIT",
            what="Cannot give proportions for",
            where=name,
            cause=f"{modality} with a positive sum of {total:g}, expected PET or SPECT with counts",
            remedy=f"Use {option('unit', 'auto')}, or state the modality with {option('modality')}",
        )
    volume.values[...] *= np.float32(1e6 / total)
    was = volume.meta["unit"]
    note = f"values are parts per million of the sum of all positive voxels ({total:.6g} {was})"
    return replace(
        volume, meta={**volume.meta, "unit": "ppm", "notes": [*volume.meta["notes"], note]}
    )


def _no_suv(volume: Volume, name: str) -> MedfuseError:
    record, modality, unit = (volume.meta[k] for k in ("suv", "modality", "unit"))
    refusal = record and record["refusal"]
    return suv_unavailable(
        refusal or f"{modality} in {unit} has no SUV tags",
        what="Cannot give SUV for",
        where=name,
    )


def kind_of(path: Path) -> Literal["dicom", "nifti"]:
    """Decide by content what `path` is; names count for nothing.

    Raises
    ------
    InputError
        ``E_UNREADABLE``, ``E_EMPTY_FILE``, ``E_ARCHIVE``, ``E_NOT_NIFTI``, ``E_NOT_DICOM``,
        ``E_NOT_AN_IMAGE``.
    """
    name = display_name(path)
    try:
        if path.is_dir():
            return "dicom"
        if lacks_content(path):
            raise pointer_error(name, ANNEX)
        if path.exists() and not path.is_file():
            raise _foreign("E_NOT_AN_IMAGE", name, "it is a pipe, a socket or a device, not a file")
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise read_failure(error, name) from None
    if not head:
        raise _foreign("E_EMPTY_FILE", name, "the file is empty (0 bytes)")
    if head[128:132] == b"DICM":
        return "dicom"
    is_gzip = head[:2] == b"\x1f\x8b"
    inner = _gunzip_start(path) if is_gzip else head
    if _has_nifti_mark(inner) or (is_gzip and len(inner) < 348):
        return "nifti"  # too short a stream is reported where streams are verified
    if path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists():
        raise _image_pair(name)
    raise _not_an_image(inner, name, is_gzip)


def _image_pair(name: str) -> MedfuseError:
    return InputError(
        "E_NOT_NIFTI",
        what="Cannot read",
        where=name,
        cause="the file is half of an image pair (.hdr and .img), not a single NIfTI file",
        remedy="Convert it to one .nii.gz file",
    )


def _gunzip_start(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as stream:
            return stream.read(1024)
    except (OSError, EOFError, zlib.error):
        return b""


def _has_nifti_mark(head: bytes) -> bool:
    size = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    return bool(size & {348, 540})


def _not_an_image(head: bytes, name: str, is_gzip: bool) -> MedfuseError:
    if pointer := pointer_kind(head):
        return pointer_error(name, pointer)
    for mark, kind in _ARCHIVES.items():
        if head.startswith(mark):
            return _archive(name, kind)
    if head[257:262] == b"ustar":
        return _archive(name, "a tar archive")
    start = head[:512].lstrip().lower()
    is_html = start.startswith((b"<!doctype html", b"<html"))
    known = [kind for mark, kind in _KNOWN_OTHERS.items() if head.startswith(mark)]
    content = "an HTML page (a failed download?)" if is_html else (known or ["of unknown kind"])[0]
    cause = f"the {'unpacked ' if is_gzip else ''}content is {content}"
    lower = name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return _foreign("E_NOT_NIFTI", name, f"{cause}, not NIfTI")
    if lower.endswith((".dcm", ".ima", ".dicom")):
        return _foreign("E_NOT_DICOM", name, f"{cause}; DICOM has the mark DICM at byte 128")
    return _foreign("E_NOT_AN_IMAGE", name, f"{cause}, neither DICOM nor NIfTI")


def _archive(name: str, kind: str) -> MedfuseError:
    return InputError(
        "E_ARCHIVE",
        what="Cannot read",
        where=name,
        cause=f"the file is {kind}, and archives are not opened",
        remedy="Unpack it first and give the folder",
    )


def _foreign(code: str, name: str, cause: str) -> MedfuseError:
    remedy = "Give a NIfTI file or the folder of a DICOM series, or fetch the file again"
    return InputError(code, what="Cannot read", where=name, cause=cause, remedy=remedy)


def __getattr__(name: str) -> Any:
    """Alias, for one release: MONAI workflows import the reader from here."""
    if name == "ClinicalReader":
        return import_module("medfuse.imaging.monai_reader").ClinicalReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
