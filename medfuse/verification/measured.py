"""Regions measured on a finished result, with its inputs where they are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medfuse.errors import InputError, MedfuseError, UsageError, option
from medfuse.imaging.grid import Grid
from medfuse.imaging.located import located
from medfuse.imaging.volume import Volume
from medfuse.imaging.windows import Window
from medfuse.measurement.asked import Asked
from medfuse.measurement.back import ReadBack, is_readable
from medfuse.measurement.files import Images
from medfuse.measurement.gather import read_all
from medfuse.measurement.measure import measure
from medfuse.measurement.table import RegionTable, columns_json, head, line
from medfuse.registration.result import Registration
from medfuse.results.folder import MANIFEST, whole_file, write_through, writing
from medfuse.results.new_folder import new_folder
from medfuse.settings import CASE, Progress
from medfuse.verification.deformation import stored_registration
from medfuse.verification.files import result_folders
from medfuse.verification.finding import not_a_result, read_json
from medfuse.verification.inputs import ROLES, Inputs, Source, known_settings
from medfuse.verification.volumes import result_grid, stored

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from medfuse.dicom_out.regions import RegionObjects

_AS_DICOM = "Cannot write the regions as DICOM"


@dataclass(frozen=True, kw_only=True)
class Wanted(Asked):
    """What is to be measured, and what is written of it.

    Attributes
    ----------
    dicom : bool
        Whether the regions and their numbers are also made as DICOM objects.
    keep_patient : bool
        With patient and study of the functional image.
    """

    dicom: bool = False
    keep_patient: bool = False


@dataclass(frozen=True)
class StudySummary:
    """How many cases and rows a table of a study holds, and what failed in which case.

    Attributes
    ----------
    cases, rows : int
    failures : tuple of (case, error)
    notes : tuple of str
        About the DICOM objects, each once.
    objects : int
        Cases with DICOM objects.
    """

    cases: int
    rows: int
    failures: tuple[tuple[str, MedfuseError], ...]
    notes: tuple[str, ...] = ()
    objects: int = 0


@dataclass(frozen=True)
class Measured:
    """The table of a result, what of the regions could not be read, and both as DICOM."""

    table: RegionTable
    failures: tuple[MedfuseError, ...]
    objects: RegionObjects | None = None

    def write(self, out: Path, dicom: Path | None = None) -> None:
        """Write the table, and the DICOM objects into a new folder.

        Raises
        ------
        OutputError
            ``E_WRITE``.
        """
        if dicom is None or self.objects is None:
            self.table.write(out)
            return
        with new_folder(dicom, _AS_DICOM) as scratch:
            self.objects.write(scratch)
            self.table.write(out)


def measure_result(
    folder: Path, wanted: Wanted, *, inputs: Inputs | None = None, goes_on: bool = False
) -> Measured:
    """Measure regions on the images of a result folder.

    Parameters
    ----------
    folder : Path
    wanted : Wanted
    inputs : Inputs, optional
        Where the images lie from which the result was made: the functional image is measured as it
        was acquired, and the anatomical one too. Without them the functional image is that of the
        result, which was interpolated, and every row says so.

    Raises
    ------
    MedfuseError
        ``E_NOT_A_RESULT``; ``E_NO_INPUT``: the inputs hold other images; ``E_SETTINGS``: the
        functional image came in colors, or the reference is no region; what reading regions raises
        if none can be read.
    """
    record = read_json(folder, "provenance.json")
    registration = stored_registration(folder)
    if record["colormap"] is None:
        raise UsageError(
            "E_SETTINGS",
            what="Cannot measure",
            where=folder.name,
            cause="the functional image came in colors, which are no values",
            remedy="Fuse the scalar image",
        )
    on_grid = stored(folder, "functional_on_anatomical", grid=result_grid(folder))
    found = _found(folder, record, inputs) if inputs is not None else None
    if found is None:
        functional, images = _resampled(on_grid, record, registration), _images(record)
        anatomical = None
    else:
        (anatomical, _), (functional, _) = found
        images = Images.of(functional, anatomical)
    regions, failures = read_all(
        wanted.files,
        images,
        drawn_on=wanted.drawn_on,
        names=wanted.names,
        keep_names=wanted.keep_names,
        allow_patient_mismatch=wanted.allow_patient_mismatch,
    )
    if failures and not regions and not wanted.shapes:
        raise failures[0].error
    shapes = [*regions, *wanted.shapes]
    table = measure(
        functional,
        shapes,
        anatomical=anatomical,
        registration=registration,
        share=stored(folder, "anatomical_share"),
        read_back=_read_back(folder, record, on_grid),
        reference=wanted.reference,
        mtv_threshold=wanted.mtv_threshold,
    )
    objects, errors = None, [failure.error for failure in failures]
    if wanted.dicom and found is not None:
        from medfuse.verification.measured_dicom import objects_of

        kept = wanted.keep_patient
        try:
            objects = objects_of(found, table, shapes, registration, keep_patient=kept)
        except MedfuseError as error:
            if not goes_on:
                raise
            errors.append(error)
    return Measured(table, tuple(errors), objects)


def measure_study(
    study: Path,
    out: Path,
    wanted: Wanted,
    *,
    inputs: Inputs | None = None,
    dicom: Path | None = None,
    progress: Progress | None = None,
) -> StudySummary:
    """Measure every result of a batch into one table, a row for each case and region.

    Each case is written as soon as it is measured; none stops the others. In the path of a file
    with regions ``{case}`` stands for the name of the case. In the new folder `dicom` each case
    has a folder of its name with its DICOM objects.

    Raises
    ------
    MedfuseError
        ``E_NOT_A_RESULT``: no result is there; ``E_USAGE``: files that do not name the case;
        ``E_WRITE``.
    """
    folders = result_folders(study)
    if not folders:
        raise not_a_result(study, f"no {MANIFEST} is in it or in its folders")
    if any(CASE not in str(file.path) for file in wanted.files):
        raise UsageError(
            "E_USAGE",
            what="Cannot measure a batch",
            cause="one file with regions would be used for all cases",
            remedy=f"Put {CASE} where its path has the name of the case",
        )
    with ExitStack() as stack:
        objects = stack.enter_context(new_folder(dicom, _AS_DICOM)) if dicom else None
        stack.enter_context(writing(out))
        file = stack.enter_context(whole_file(out))
        summary = _measure_all(folders, file, wanted, inputs, objects, progress)
        case = {"case": {"Description": "Name of the case, as of its result folder."}}
        write_through(out.with_suffix(".json"), columns_json(case).encode())
    return summary


def _measure_all(
    folders: Sequence[Path],
    file: BinaryIO,
    wanted: Wanted,
    inputs: Inputs | None,
    objects: Path | None,
    progress: Progress | None,
) -> StudySummary:
    """Write the table and the DICOM objects, case by case."""
    failures: list[tuple[str, MedfuseError]] = []
    notes: dict[str, None] = {}
    rows = made = 0
    file.write(f"{head('case')}\n".encode())
    for number, folder in enumerate(folders):
        if progress:
            progress(number / len(folders), folder.name)
        case = _of_case(wanted, folder.name)
        try:
            found = measure_result(folder, case, inputs=inputs, goes_on=True)
        except MedfuseError as error:
            failures.append((folder.name, error))
            continue
        failures += [(folder.name, error) for error in found.failures]
        file.writelines(f"{line(row, folder.name)}\n".encode() for row in found.table)
        rows += len(found.table)
        if objects is not None and found.objects is not None:
            (objects / folder.name).mkdir()
            found.objects.write(objects / folder.name)
            notes |= dict.fromkeys(found.objects.notes)
            made += 1
    return StudySummary(len(folders), rows, tuple(failures), tuple(notes), made)


def _of_case(wanted: Wanted, case: str) -> Wanted:
    files = [replace(f, path=Path(str(f.path).replace(CASE, case))) for f in wanted.files]
    return replace(wanted, files=files)


def loaded(folder: Path, record: dict[str, Any], inputs: Inputs) -> tuple[MetaTensor, MetaTensor]:
    """Both images of a result, found among the inputs by their content.

    Raises
    ------
    InputError
        ``E_NO_INPUT``.
    """
    (anatomical, _), (functional, _) = _found(folder, record, inputs)
    return anatomical, functional


def _found(folder: Path, record: dict[str, Any], inputs: Inputs) -> list[tuple[MetaTensor, Source]]:
    settings = known_settings(record)
    found = []
    for role in ROLES:
        image = inputs.load(role, record["inputs"][role], settings, record["case"])
        if image is None:
            raise InputError(
                "E_NO_INPUT",
                what="Cannot measure",
                where=folder.name,
                cause=f"the {role} image of this result is not among the inputs (by its content)",
                remedy=f"Give the folder that holds it with {option('inputs', 'DIR')}",
            )
        found.append(image)
    return found


def _resampled(
    values: np.ndarray, record: dict[str, Any], registration: Registration
) -> MetaTensor:
    source = record["inputs"]["functional"]
    grid = registration.fixed_grid
    meta = {
        "modality": source["modality"],
        "unit": source["unit"],
        "field_of_view": {
            "shape": source["shape"],
            "affine": source["affine"],
            "moving_from_fixed": registration.matrix.tolist(),
        },
    }
    return located(Volume(values, grid.affine.copy(), meta))


def _images(record: dict[str, Any]) -> Images:
    """Grids as on record; UIDs only where they were kept."""
    grids, sources = {}, {}
    for role in ROLES:
        entry = record["inputs"][role]
        grids[role] = Grid(tuple(entry["shape"]), np.asarray(entry["affine"], dtype=np.float64))
        kept = record["identifiers"] == "kept"
        uids = {name: entry[name] for name in ("frame_of_reference", "series")}
        sources[role] = {"uids": uids} if kept else {}
    return Images(grids["functional"], grids["anatomical"], sources)


def _read_back(folder: Path, record: dict[str, Any], on_grid: np.ndarray) -> ReadBack | None:
    steps = {step["name"]: step["parameters"] for step in record["steps"]}
    window, fuse = steps["window"]["functional"], steps["fuse"]
    colormap = steps["colour"]["colormap"]
    if window is None or not is_readable(colormap, fuse["gamut"]):
        return None
    picture = stored(folder, "fused_rgb")
    return ReadBack(
        np.stack([picture[name] for name in ("R", "G", "B")]),
        on_grid,
        Window(**window),
        colormap,
        two_way=fuse["gamut"] == "band",
        bias=float(fuse["bias"]),
    )
