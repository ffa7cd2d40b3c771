"""DICOM series to one volume with a grid, a unit and the facts behind both.

pydicom alone reads; no series reader that repairs geometry in silence is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medfuse.errors import GeometryError, MedfuseError, SeriesError, UnitError, option
from medfuse.imaging.dicom.chosen import Chosen, FrameWish, choose_frame
from medfuse.imaging.dicom.header import DicomFile, quiet_pydicom, text
from medfuse.imaging.dicom.pet import read_pet_header
from medfuse.imaging.dicom.pixels import decode, hash_pixels, is_lossy, require_readable, rescale
from medfuse.imaging.dicom.planes import Plane, read_planes
from medfuse.imaging.dicom.scan import (
    Scan,
    Series,
    choose_series,
    require_one_patient,
    scan_file_series,
    scan_folder,
)
from medfuse.imaging.dicom.stack import Stack, stack_planes
from medfuse.imaging.dicom.tilt import Tilt
from medfuse.imaging.dicom.units import ct_rescale_types
from medfuse.imaging.memory import require_memory
from medfuse.imaging.pairing import TOLD, told
from medfuse.imaging.pet.header import DIFFERS
from medfuse.imaging.pet.nuclides import SINGLE_PHOTON
from medfuse.imaging.pet.suv import SuvScale, compute_suv_scale, describe_steps
from medfuse.imaging.progress import steps
from medfuse.imaging.volume import (
    AIR_HU,
    MAX_HU_OF_AIR,
    Place,
    Volume,
    axis_codes,
    content_hash,
    display_name,
    fill_nonfinite,
    negative_note,
    require_contrast,
    short_hash,
    spacing_of,
)

#: Raw file, rescaled slices and the final copy are in memory together.
_BYTES_PER_VOXEL = 12


@dataclass(frozen=True, eq=False)
class SeriesPlan:
    """One series before its pixels are read: grid, modality, unit and the SUV arithmetic."""

    series: Series
    place: Place
    stack: Stack
    modality: str
    unit: str
    factor: float
    suv: dict[str, Any] | None
    notes: tuple[str, ...]


def read_dicom(
    path: Path,
    *,
    series: str | None = None,
    frame: FrameWish = None,
    modality: str | None = None,
    values_in: str | None = None,
    tilt_correction: bool = True,
    suv: str = "suv",
) -> Volume:
    """Read one DICOM series.

    Parameters
    ----------
    path : Path
        Folder, or one file of the series.
    series : str, optional
        SeriesInstanceUID, its end, or SeriesNumber, where the folder holds several series.
    frame : int or "mean", optional
        Frame of a time-resolved series, counted from 0, or the unweighted mean of all.
    modality, values_in : str, optional
        What the user states; overrides the header, and no SUV is computed from a stated unit.
    tilt_correction : bool
        Whether a stack with gantry tilt is resampled to a straight grid, or refused.
    suv : str
        A key of `SUV_UNITS`: what the SUV of a PET is normalised to.

    Returns
    -------
    Volume
        In SUVbw, Bq/ml, HU, counts or a.u.; affine RAS mm; axes (column, row, slice).

    Raises
    ------
    MedfuseError
        See `choose_series`, `require_readable` and `stack_planes`; ``E_DYNAMIC``, ``E_FRAME``,
        ``E_MISSING_SLICE``, ``E_FRAMES_DIFFER``, ``E_TOO_LARGE``, ``E_CONSTANT``,
        ``E_UNIT_MIXED``, ``E_FRAME_OF_REFERENCE``.
    """
    with quiet_pydicom():
        scan = scan_folder(path) if path.is_dir() else scan_file_series(path)
        plan = plan_series(
            choose_series(scan, series), display_name(path), modality=modality, values_in=values_in,
            suv_kind=suv,
        )  # fmt: skip
        chosen = choose_frame(plan.stack, frame, plan.place)
        if chosen.grid.tilt and not tilt_correction:
            raise _tilted(chosen.grid.tilt, plan.place)
        return _read_plan(plan, chosen, path, scan.notes)


def describe_dicom(path: Path) -> list[dict[str, Any]]:
    """Say what each series under `path` is, from the headers alone; problems are error texts."""
    with quiet_pydicom():
        scan = scan_folder(path) if path.is_dir() else scan_file_series(path)
        if not scan.series:
            choose_series(scan, None)
        return [_describe_series(s, scan, display_name(path)) for s in scan.series]


def plan_series(
    series: Series,
    where: str,
    *,
    modality: str | None = None,
    values_in: str | None = None,
    suv_kind: str = "suv",
) -> SeriesPlan:
    """Find the grid and the unit of a series without reading pixels (but those of duplicates)."""
    place = Place(f"Cannot read {series.label}", where)
    _require_one_origin(series.files, place)
    planes = [plane for file in steps(series.files, "planes") for plane in read_planes(file, place)]
    require_readable(planes, place)
    stack = stack_planes(planes, place, partial(hash_pixels, place=place))
    require_memory(stack.first.straight[1], _BYTES_PER_VOXEL, place)
    notes = [*stack.notes, *_position_note(series.files)]
    if series.skipped:
        notes.append(f"{series.skipped} localisers, screen saves or projections were left out")
    if any(is_lossy(f) for f in series.files):
        notes.append("the images went through lossy compression")
    found, suv, more = _modality_and_scale(series, place, suv_kind)
    scale = suv or SuvScale(1.0, _plain_unit(series, place), {"refusal": None})
    if values_in is not None:
        scale, suv = SuvScale(1.0, values_in, {"refusal": None}), None
        more.append(f"unit {values_in} is as stated by the user; the header was not asked")
    if suv is not None and suv.refusal:
        more.append(f"SUV not available: {suv.refusal}. Values stay in {suv.unit}")
    if modality not in (None, found):
        more.append(f"modality {modality} is as stated by the user; the header says {found}")
    return SeriesPlan(
        series,
        place,
        stack,
        modality or found,
        scale.unit,
        scale.factor,
        suv.record if suv else None,
        tuple(notes + more),
    )


def _modality_and_scale(
    series: Series, place: Place, suv_kind: str
) -> tuple[str, SuvScale | None, list[str]]:
    """Modality, and for DICOM modality PT the SUV scale and its remarks."""
    if series.files[0].modality != "PT":
        return series.modality, None, []
    header = read_pet_header(series.files)
    mixed = {
        name
        for name in ("units", "suv_type", "decay_correction")
        if header.problems.get(name) == DIFFERS
    }
    if mixed:
        raise place.error(
            UnitError,
            "E_UNIT_MIXED",
            f"the images of the series differ in {' and '.join(sorted(mixed))}",
            "Export each unit as a series of its own",
        )
    suv = compute_suv_scale(header, suv_kind)
    notes = [f"SUV: {remark}" for remark in suv.record["remarks"]]
    if header.nuclide not in SINGLE_PHOTON:
        return "PET", suv, notes
    notes.append(f"the header says PET, but {header.nuclide} emits no positrons: treated as SPECT")
    return "SPECT", suv, notes


def _plain_unit(series: Series, place: Place) -> str:
    if series.modality == "SPECT":
        return "counts"
    if series.modality != "CT":
        return "a.u."
    kinds = ct_rescale_types(series.files)
    if len(kinds) > 1:
        raise place.error(
            UnitError,
            "E_UNIT_MIXED",
            f"the images of the series differ in RescaleType ({len(kinds)} kinds, "
            f"{'HU among them' if 'HU' in kinds else 'none is HU'})",
            "Export each unit as a series of its own",
        )
    return "HU" if kinds == {"HU"} else "a.u."


def _tilted(tilt: Tilt, place: Place) -> MedfuseError:
    return place.error(
        GeometryError,
        "E_TILT",
        f"the stack is sheared by {tilt.angle_deg:.1f} degrees (gantry tilt), "
        f"{tilt.millimetres:.2f} mm from the first to the last slice",
        f"Have it resampled with {option('tilt_correction', 'True')}, or export a series without "
        f"tilt",
    )


def _require_one_origin(files: Sequence[DicomFile], place: Place) -> None:
    if len({f.modality for f in files}) > 1:
        raise place.error(
            SeriesError,
            "E_MODALITY_MIXED",
            "one SeriesInstanceUID holds images of different modalities",
            "Sort the files into one folder for each modality",
        )
    frames = {text(f.header, "FrameOfReferenceUID") for f in files}
    if len(frames) > 1:
        raise place.error(
            GeometryError,
            "E_FRAME_OF_REFERENCE",
            f"the images lie in {len(frames)} frames of reference",
            "Sort the files into one folder for each frame of reference",
        )


def _read_plan(plan: SeriesPlan, chosen: Chosen, path: Path, scan_notes: list[str]) -> Volume:
    planes, grid = chosen.planes, chosen.grid
    values, hashes, padded = _read_values(planes, grid.shape, plan.place)
    values *= np.float32(plan.factor)
    if grid.tilt:
        values = grid.tilt.straighten(values, AIR_HU if plan.unit == "HU" else 0.0)
    notes = [*plan.notes, *chosen.notes]
    if padded:
        notes.append(
            f"{padded} padding voxels were set to {'-1000 HU' if plan.modality == 'CT' else '0'}"
        )
    notes += fill_nonfinite(values, 0.0, plan.place)
    require_contrast(values, plan.place)
    notes += negative_note(values, plan.modality, plan.unit)
    if plan.unit == "HU" and values.min() > MAX_HU_OF_AIR:
        notes.append(
            f"no voxel is below {MAX_HU_OF_AIR:g} HU (lowest {values.min():g}): air is expected "
            "near -1000 HU"
        )
    meta = {
        "modality": plan.modality,
        "unit": plan.unit,
        "spacing": spacing_of(grid.affine),
        "source": _source(plan, planes, path, hashes),
        "suv": plan.suv,
        "notes": notes + scan_notes,
    }
    return Volume(values, grid.straight[0], meta)


def _patient_position(files: Sequence[DicomFile]) -> str | None:
    """How the patient lay, e.g. "HFS"; None where the files do not say it, or contradict."""
    found = _positions(files)
    return found.pop() or None if len(found) == 1 else None


def _positions(files: Sequence[DicomFile]) -> set[str]:
    return {(text(file.header, "PatientPosition") or "").upper() for file in files}


def _position_note(files: Sequence[DicomFile]) -> list[str]:
    """A remark where the files of one series say that the patient lay in several ways."""
    found = sorted(_positions(files) - {""})
    if len(found) < 2:
        return []
    return [
        f"the files of the series say different patient positions ({', '.join(found)}): they are "
        "not used; where left and right are follows from the coordinates of the slices alone"
    ]


def _source(
    plan: SeriesPlan, planes: list[list[Plane]], path: Path, hashes: list[str]
) -> dict[str, Any]:
    """Facts about the files; `record.privacy` keeps patient, uids and secret out of outputs."""
    series = plan.series
    first = series.files[0]
    uids = {
        "frame_of_reference": text(first.header, "FrameOfReferenceUID"),
        "series": series.uid,
        "study": text(first.header, "StudyInstanceUID"),
        # One text: data loaders stack lists of a batch, and these differ in length.
        "images": json.dumps([[_image_uid(plane) for plane in group] for group in planes]),
    }
    return {
        "kind": "dicom",
        "name": display_name(path),
        "files": len(hashes),
        "sha256": content_hash(hashes),
        "frame_of_reference": short_hash(uids["frame_of_reference"]),
        "series": short_hash(series.uid),
        "patient": short_hash(first.patient),
        "subject": None,
        "patient_position": _patient_position(series.files),
        TOLD: _modality_told(plan),
        "uids": uids,
        "secret": content_hash(["uid", *hashes]),
        "rescaled_by": plan.factor,
        "lossy": any(is_lossy(file) for file in series.files),
        "burned_in": any(text(f.header, "BurnedInAnnotation") == "YES" for f in series.files),
    }


def _modality_told(plan: SeriesPlan) -> str:
    header = plan.series.modality
    header = "" if header == "unknown" else header
    return told(user=plan.modality if plan.modality != header else None, dicom_header=header)


def _image_uid(plane: Plane) -> tuple[str, str, int | None]:
    """SOP class, SOP instance and, of a multi-frame image, number of the frame from 1."""
    header = plane.file.header
    return (
        text(header, "SOPClassUID") or "",
        text(header, "SOPInstanceUID") or "",
        plane.frame + 1 if plane.file.frames > 1 else None,
    )


def _read_values(
    slices: list[list[Plane]], shape: tuple[int, int, int], place: Place
) -> tuple[np.ndarray, list[str], int]:
    """Rescaled values (X, Y, Z) float32, sha256 of every file read, number of padding voxels."""
    many = len(slices[0])
    stack = np.zeros(shape[::-1], dtype=np.float32 if many == 1 else np.float64)
    by_file: dict[DicomFile, list[tuple[Plane, int]]] = {}
    for index, planes in enumerate(slices):
        for plane in planes:
            by_file.setdefault(plane.file, []).append((plane, index))
    hashes, padded = [], 0
    for file, entries in steps(by_file.items(), "reading"):
        wanted = sorted({plane.frame for plane, _ in entries})
        sha256, arrays = decode(file, wanted, place)
        hashes.append(sha256)
        by_frame: dict[int, list[tuple[Plane, int]]] = {}
        for plane, index in entries:
            by_frame.setdefault(plane.frame, []).append((plane, index))
        for frame, stored in zip(wanted, arrays, strict=True):
            for plane, index in by_frame[frame]:
                values, count = rescale(plane.cut(stored), plane)
                stack[index] += values / many
                padded += count
    return np.ascontiguousarray(stack.transpose(2, 1, 0), dtype=np.float32), hashes, padded


def _describe_series(series: Series, scan: Scan, where: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": series.label,
        "kind": "dicom",
        "series": series.number,
        "uid_end": series.uid_end,
        "modality": series.modality,
        "unit": None,
        "images": series.images,
        "frames": None,
        "shape": None,
        "spacing": None,
        "orientation": None,
        "suv": None,
        "suv_steps": [],
        "notes": list(scan.notes),
        "problems": [str(p) for p in scan.problems.values()],
    }
    try:
        require_one_patient(series.files, series.label, where)
        plan = plan_series(series, where)
        entry |= _describe_plan(plan, scan.notes)
        choose_frame(plan.stack, None, plan.place)
    except MedfuseError as problem:
        entry["problems"].append(str(problem))
    return entry


def _describe_plan(plan: SeriesPlan, notes: list[str]) -> dict[str, Any]:
    return {
        "modality": plan.modality,
        "unit": plan.unit,
        "frames": len(plan.stack.frames),
        "shape": list(plan.stack.first.straight[1]),
        "spacing": spacing_of(plan.stack.first.affine),
        "orientation": axis_codes(plan.stack.first.affine),
        "suv": plan.suv,
        "suv_steps": describe_steps(plan.suv) if plan.suv else [],
        "notes": [*plan.notes, *notes],
    }
