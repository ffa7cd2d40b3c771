"""NIfTI files to one volume: verified to the last byte, with a unit only where one is stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from medfuse.errors import MedfuseError, SeriesError, UsageError, option
from medfuse.imaging.memory import require_memory
from medfuse.imaging.nifti.facts import Facts, find_facts, modality_of_name, subject_of_name
from medfuse.imaging.nifti.header import NiftiHeader, parse_header
from medfuse.imaging.nifti.stream import NiftiStream
from medfuse.imaging.pairing import TOLD, told
from medfuse.imaging.pet.header import NO_UNIT_STATED
from medfuse.imaging.pet.suv import describe_steps
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
    spacing_of,
)

Frame = int | Literal["mean"] | None
_SLICES = 16  # read at a time


def read_nifti(
    path: Path,
    *,
    frame: Frame = None,
    modality: str | None = None,
    values_in: str | None = None,
    assume_identity: bool = False,
) -> Volume:
    """Read one NIfTI file (.nii or .nii.gz, NIfTI-1 or NIfTI-2).

    Parameters
    ----------
    path : Path
    frame : int or "mean", optional
        Volume of a 4-D file, counted from 0, or the unweighted mean. Only what is asked for is
        held in memory.
    modality, values_in : str, optional
        What the user states; wins over file name and sidecar.
    assume_identity : bool
        Take the axes of a file without orientation as right, anterior, superior.

    Returns
    -------
    Volume
        Axes as stored; affine RAS mm (sform before qform).

    Raises
    ------
    MedfuseError
        See `parse_header` and `NiftiStream`; ``E_DYNAMIC``, ``E_FRAME``, ``E_TOO_LARGE``,
        ``E_NONFINITE``, ``E_CONSTANT``.
    """
    place = Place("Cannot read", display_name(path))
    with NiftiStream(path, place) as stream:
        header = _read_header(stream, place, assume_identity=assume_identity)
        wanted, frame_notes = _wanted_frames(header, frame, stream, place)
        require_memory(header.shape, header.dtype.itemsize + (4 if len(wanted) == 1 else 12), place)
        stream.require_possible()
        values = _read_frames(stream, header, wanted)
        file_hash = stream.finish()
    if stream.is_gzip != path.name.lower().endswith(".gz"):
        named = "gzip content under a plain name" if stream.is_gzip else "plain content named .gz"
        frame_notes.append(f"{named}: the content decided")
    facts = find_facts(path)
    named = modality or facts.modality or "unknown"
    unit, unit_notes = _unit(named, facts, values, values_in)
    if facts.factor != 1.0 and unit == facts.unit and values_in is None:
        values *= np.float32(facts.factor)
    suv = facts.suv if unit == "Bq/ml" and values_in is None else None
    if suv is not None:
        values *= np.float32(suv.factor)
        unit = suv.unit
        unit_notes += [f"SUV: {remark}" for remark in suv.record["remarks"]]
        if suv.refusal:
            unit_notes.append(f"SUV not available: {suv.refusal}. Values stay in {unit}")
    notes = [*header.notes, *frame_notes, *facts.notes, *unit_notes]
    notes += fill_nonfinite(values, AIR_HU if unit == "HU" else 0.0, place)
    require_contrast(values, place)
    notes += negative_note(values, named, unit)
    hashes = [file_hash] + ([facts.sidecar_sha256] if facts.sidecar_sha256 else [])
    meta = {
        "modality": named,
        "unit": unit,
        "spacing": spacing_of(header.affine),
        "source": {
            "kind": "nifti",
            "name": display_name(path),
            "files": len(hashes),
            "sha256": content_hash(hashes),
            "frame_of_reference": None,
            "series": None,
            "patient": None,
            "subject": subject_of_name(path.name),
            "patient_position": facts.patient_position,
            TOLD: _modality_told(path.name, facts, modality),
        },
        "suv": suv.record if suv else None,
        "notes": notes,
    }
    return Volume(values, header.affine, meta)


def describe_nifti(path: Path) -> dict[str, Any]:
    """Say what a NIfTI file is; problems are error texts, of a full read where it can be made."""
    place = Place("Cannot read", display_name(path))
    entry: dict[str, Any] = {
        "name": display_name(path),
        "kind": "nifti",
        "series": None,
        "uid_end": None,
        "modality": find_facts(path).modality or "unknown",
        "unit": None,
        "images": None,
        "frames": None,
        "shape": None,
        "spacing": None,
        "orientation": None,
        "suv": None,
        "suv_steps": [],
        "notes": [],
        "problems": [],
    }
    try:
        with NiftiStream(path, place) as stream:
            header = _read_header(stream, place)
        entry |= {
            "images": header.shape[2] * header.frames,
            "frames": header.frames,
            "shape": list(header.shape),
            "spacing": spacing_of(header.affine),
            "orientation": axis_codes(header.affine),
        }
        meta = read_nifti(path).meta
        entry |= {key: meta[key] for key in ("modality", "unit", "suv", "notes")}
        entry["suv_steps"] = describe_steps(meta["suv"]) if meta["suv"] else []
    except MedfuseError as problem:
        entry["problems"].append(str(problem))
    return entry


def _read_header(
    stream: NiftiStream, place: Place, *, assume_identity: bool = False
) -> NiftiHeader:
    raw = stream.read(348)
    if int.from_bytes(raw[:4], "little") == 540 or int.from_bytes(raw[:4], "big") == 540:
        raw += stream.read(192)
    try:
        header = parse_header(raw, place, assume_identity=assume_identity)
    except MedfuseError:
        stream.finish()  # a damaged stream is the better explanation of an odd header
        raise
    stream.expected = header.offset + header.frames * header.frame_bytes
    return header


def _wanted_frames(
    header: NiftiHeader, frame: Frame, stream: NiftiStream, place: Place
) -> tuple[range, list[str]]:
    count = header.frames
    if frame is None and count > 1:
        stream.finish()
        raise place.error(
            SeriesError,
            "E_DYNAMIC",
            f"the file holds {count} frames of {' x '.join(map(str, header.shape))} voxels",
            f"Choose one from 0 to {count - 1} with {option('frame', 'NUMBER')}, or "
            f"{option('frame', 'mean')}",
        )
    if isinstance(frame, int) and not 0 <= frame < count:
        raise place.error(
            UsageError,
            "E_FRAME",
            f"there is no frame {frame}: the file has {count}",
            f"Choose 0 to {count - 1}",
        )
    if count == 1:
        return range(1), []
    if frame == "mean":
        return range(count), [f"unweighted mean of {count} frames"]
    assert isinstance(frame, int)
    return range(frame, frame + 1), [f"frame {frame} of 0 to {count - 1}"]


def _read_frames(stream: NiftiStream, header: NiftiHeader, wanted: range) -> np.ndarray:
    """One frame, or the mean of several, (X, Y, Z) float32."""
    total: np.ndarray | None = None
    for index in wanted:
        stream.skip_to(header.offset + index * header.frame_bytes)
        values = _read_frame(stream, header)
        if len(wanted) == 1:
            return values
        total = values.astype(np.float64) if total is None else total + values
    assert total is not None
    return (total / len(wanted)).astype(np.float32)


def _read_frame(stream: NiftiStream, header: NiftiHeader) -> np.ndarray:
    """The frame that comes next, scaled, a few slices at a time."""
    values = np.empty(header.shape, dtype=np.float32)
    for z in range(0, header.shape[2], _SLICES):
        part = values[..., z : z + _SLICES]
        raw = stream.read(part.size * header.dtype.itemsize)
        stored = np.frombuffer(raw, header.dtype).reshape(part.shape, order="F")
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as non-finite
            part[...] = stored * np.float64(header.slope) + header.intercept
    return values


def _modality_told(name: str, facts: Facts, stated: str | None) -> str:
    by_name = "file_name" if subject_of_name(name) is None else "BIDS_name"
    return told(user=stated, sidecar=facts.sidecar, **{by_name: modality_of_name(name)[0]})


def _unit(
    modality: str, facts: Facts, values: np.ndarray, values_in: str | None
) -> tuple[str, list[str]]:
    if values_in is not None:
        return values_in, [f"unit {values_in} is as stated by the user"]
    if facts.unit is not None:
        return facts.unit, [f"unit {facts.unit} is that of the sidecar"]
    if modality == "CT":
        lowest = float(np.min(values, initial=0.0, where=np.isfinite(values)))
        if lowest <= MAX_HU_OF_AIR:
            return "HU", []
        return "a.u.", [
            f"CT without values of air (lowest {lowest:g}, expected {MAX_HU_OF_AIR:g} or less): "
            "not taken as HU; state the unit HU if it is"
        ]
    if modality == "PET":
        return "a.u.", [] if _says_why(facts) else [NO_UNIT_STATED]
    return "a.u.", []


def _says_why(facts: Facts) -> bool:
    """Whether a unit was stated, and the notes say why it could not be used."""
    return any("Units" in note or "cannot be read" in note for note in facts.notes)
