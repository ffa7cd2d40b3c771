"""Two results of one person at two times: the second on the grid of the first, and what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfuse.errors import (
    RegistrationError,
    SeriesError,
    UnitError,
    option,
)
from medfuse.imaging.grid import Grid, coverage
from medfuse.imaging.pairing import two_persons
from medfuse.imaging.windows import Window
from medfuse.measurement.change import (
    change_columns,
    changes,
    changes_tsv,
    composed,
    in_anatomical,
)
from medfuse.measurement.files import Images
from medfuse.measurement.gather import read_all
from medfuse.measurement.measure import measure
from medfuse.measurement.region import Sphere
from medfuse.registration.result import Registration, register
from medfuse.report.followup import FollowUp, write_page
from medfuse.results.export import write_nifti
from medfuse.results.new_folder import new_folder
from medfuse.settings import Progress
from medfuse.verification.finding import read_json
from medfuse.verification.measured import Wanted, loaded

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from medfuse.verification.inputs import Inputs

RECORD = "followup.json"


def follow_up(
    first: Path,
    second: Path,
    wanted: Wanted,
    *,
    inputs: Inputs,
    preset: str = "default",
    accept_suspect: bool = False,
    progress: Progress | None = None,
) -> FollowUp:
    """Bring the second time onto the first, and measure the same regions at both.

    Parameters
    ----------
    first, second : Path
        Result folders. The regions were drawn on the images of the first.
    wanted : Wanted
        Regions from files; spheres lie in the anatomical image of the first time.
    inputs : Inputs
        With the images of both results.
    preset : str
        Effort of the registration of the two anatomical images.
    accept_suspect : bool

    Raises
    ------
    MedfuseError
        ``E_NO_INPUT``; ``E_MIXED_PATIENT``; ``E_UNIT``: the units differ; ``E_REGISTRATION``; what
        reading regions raises if there is nothing to measure.
    """
    notify = progress or (lambda fraction, text: None)
    notify(0.0, "loading")
    (anat0, func0, to0), (anat1, func1, to1) = (_time(f, inputs) for f in (first, second))
    _require_comparable(first, second, (anat0, func0), (anat1, func1), wanted)
    notify(0.1, "registering")
    between = register(fixed=anat0, moving=anat1, preset=preset)
    if between.verdict == "suspect" and not accept_suspect:
        raise RegistrationError(
            "E_REGISTRATION",
            what="Cannot compare two times: the registration of the anatomical images is suspect",
            cause="; ".join(between.reasons),
            remedy=f"Look at both images, or go on with {option('accept_suspect', 'True')}",
        )
    to_second = composed(between, to1)
    regions, failures = read_all(
        wanted.files,
        Images.of(func0, anat0),
        drawn_on=wanted.drawn_on,
        names=wanted.names,
        keep_names=wanted.keep_names,
        allow_patient_mismatch=wanted.allow_patient_mismatch,
    )
    regions += [shape.region() for shape in wanted.shapes if isinstance(shape, Sphere)]
    if failures and not regions:
        raise failures[0].error
    notify(0.6, "measuring")
    chosen: dict[str, Any] = {"mtv_threshold": wanted.mtv_threshold, "reference": wanted.reference}
    one = measure(func0, regions, anatomical=anat0, registration=to0, **chosen)
    moved = [in_anatomical(region, to0) for region in regions]
    other = measure(func1, moved, registration=to_second, **chosen)
    grid = Grid.from_volume(anat0)
    before, after = (np.asarray(r.resample(f))[0] for r, f in ((to0, func0), (to_second, func1)))
    both = np.ones(grid.shape, dtype=bool)
    for found, image in ((to0, func0), (to_second, func1)):
        both &= coverage(grid, Grid.from_volume(image), found.matrix)
    return FollowUp(
        registration=between,
        rows=changes(one, other),
        first=one,
        second=other,
        regions=moved,
        grid=grid,
        anatomical=np.asarray(anat0)[0],
        before=before,
        after=after,
        difference=np.where(both, after - before, np.float32(0)),
        unit=str(func0.meta["unit"]),
        window=_window(first),
        failures=tuple(failure.error for failure in failures),
    )


def write_follow_up(out: Path, found: FollowUp) -> None:
    """Write a folder, whole or not at all: tables, difference image, record and page.

    Raises
    ------
    OutputError
        ``E_WRITE``: the disk is full, or something lies at `out`.
    """
    with new_folder(out, "Cannot write the comparison") as scratch:
        _write(scratch, found)


def _write(folder: Path, found: FollowUp) -> None:
    found.first.write(folder / "first.tsv")
    found.second.write(folder / "second.tsv")
    (folder / "changes.tsv").write_text(changes_tsv(found.rows), encoding="utf-8")
    _to_json(folder / "changes.json", change_columns())
    names = {"second_on_first": found.after, "difference": found.difference}
    for name, values in names.items():
        write_nifti(folder / f"{name}.nii.gz", values, found.grid.affine)
    _to_json(folder / RECORD, {"unit": found.unit, "registration": found.registration.to_dict()})
    write_page(folder, found)


def _to_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _time(folder: Path, inputs: Inputs) -> tuple[MetaTensor, MetaTensor, Registration]:
    record = read_json(folder, "provenance.json")
    anatomical, functional = loaded(folder, record, inputs)
    return anatomical, functional, Registration.from_dict(read_json(folder, "transform.json"))


def _window(folder: Path) -> Window:
    steps = read_json(folder, "provenance.json")["steps"]
    window = next(s["parameters"]["functional"] for s in steps if s["name"] == "window")
    return Window(**window) if window else Window(0.0, 1.0, "a.u.", "none")


def _require_comparable(
    first: Path,
    second: Path,
    one: tuple[MetaTensor, MetaTensor],
    other: tuple[MetaTensor, MetaTensor],
    wanted: Wanted,
) -> None:
    doubt = two_persons(*(image.meta for image in (*one, *other)))
    if doubt is not None and not wanted.allow_patient_mismatch:
        raise SeriesError(
            "E_MIXED_PATIENT",
            what="Cannot compare two times",
            where=f"{first.name} and {second.name}",
            cause=doubt.cause,
            remedy="Give two results of one person, or go on with "
            f"{option('allow_patient_mismatch', 'True')}",
        )
    units = [str(functional.meta["unit"]) for _, functional in (one, other)]
    if units[0] != units[1]:
        raise UnitError(
            "E_UNIT",
            what="Cannot compare two times",
            where=f"{first.name} and {second.name}",
            cause=f"the functional images are in {units[0]} and in {units[1]}",
            remedy=f"Fuse both with the same {option('unit')}",
        )
