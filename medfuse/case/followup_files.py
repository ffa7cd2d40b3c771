"""The folder of two times: its files, and the record of what they were made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medfuse
from medfuse.case.followup import WHAT, TimePoint
from medfuse.errors import NOTICE
from medfuse.measurement.asked import Asked
from medfuse.measurement.change import change_columns, changes_tsv
from medfuse.measurement.files import Named
from medfuse.measurement.gather import content_of
from medfuse.measurement.region import Isocontour, Sphere, Threshold
from medfuse.record.privacy import sanitize
from medfuse.record.provenance import software
from medfuse.report.followup import FollowUp, write_page
from medfuse.results.export import write_nifti
from medfuse.results.folder import inventory
from medfuse.results.ledger_files import FOLLOW_UP
from medfuse.results.new_folder import new_folder

SCHEMA = "medfuse-followup/2"
FIRST, SECOND, CHANGES, PAGE = "first.tsv", "second.tsv", "changes.tsv", "followup.html"
_SETTINGS = ("preset", "accept_suspect")


def write_follow_up(
    out: Path, found: FollowUp, about: dict[str, Any], *, replace_earlier: bool = False
) -> None:
    """Write a folder, whole or not at all: tables, images, page and record.

    Parameters
    ----------
    out : Path
        Where nothing may be.
    about : dict
        From `record_of`.
    replace_earlier : bool
        An earlier comparison may be there; nothing else is ever replaced.

    Raises
    ------
    OutputError
        ``E_WRITE``: the disk is full, or something lies at `out`.
    """
    earlier = replace_earlier and (out / FOLLOW_UP).is_file()
    with new_folder(out, WHAT, replace_old=earlier) as scratch:
        write_files(scratch, found)
        outputs = {name: facts["sha256"] for name, facts in inventory(scratch).items()}
        _to_json(scratch / FOLLOW_UP, {**about, "outputs": outputs})


def write_files(folder: Path, found: FollowUp) -> None:
    """Write all files but the record."""
    found.first.write(folder / FIRST)
    found.second.write(folder / SECOND)
    (folder / CHANGES).write_text(changes_tsv(found.rows), encoding="utf-8")
    _to_json(folder / "changes.json", change_columns())
    names = {"second_on_first": found.after, "difference": found.difference}
    for name, values in names.items():
        write_nifti(folder / f"{name}.nii.gz", values, found.grid.affine)
    write_page(folder, found)


def record_of(
    first: TimePoint, second: TimePoint, asked: Asked, found: FollowUp, **settings: Any
) -> dict[str, Any]:
    """What the folder was made from; no path, no name of a file.

    Parameters
    ----------
    settings
        `preset` and `accept_suspect`, as of `follow_up`.
    """
    about = {
        "schema": SCHEMA,
        "medfuse": medfuse.__version__,
        "notice": NOTICE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        "times": {"first": _time(first), "second": _time(second)},
        "asked": _asked(asked),
        "settings": {name: settings[name] for name in _SETTINGS},
        "unit": found.unit,
        "registration": found.registration.to_dict(),
        "failures": [f"{error.cause} [{error.code}]" for error in found.failures],
    }
    told: dict[str, Any] = sanitize(about)
    return told


def _time(time: TimePoint) -> dict[str, Any]:
    """Of a result what is needed to find its images again and to read them alike."""
    names = ("case", "key", "medfuse", "settings", "inputs")
    window = [step for step in time.record["steps"] if step["name"] == "window"]
    return {**{name: time.record[name] for name in names}, "steps": window} | {
        "transform": time.transform
    }


def _asked(asked: Asked) -> dict[str, Any]:
    table = asked.names if asked.names in (None, "freesurfer") else content_of(Path(asked.names))
    return {
        "files": [{"name": file.name, "sha256": content_of(file.path)} for file in asked.files],
        "spheres": [_plain(s, "centre", "radius_mm") for s in _only(asked.shapes, Sphere)],
        "isocontours": [
            _plain(s, "seed") | {"threshold": vars(s.threshold)}
            for s in _only(asked.shapes, Isocontour)
        ],
        "reference": asked.reference,
        "mtv_threshold": vars(asked.mtv_threshold),
        "drawn_on": asked.drawn_on,
        "label_names": table,
        "keep_names": asked.keep_names,
        "allow_patient_mismatch": asked.allow_patient_mismatch,
    }


def asked_again(told: dict[str, Any], files: Sequence[Named], names: str | None) -> Asked:
    """Inverse of the record of what was asked, with the files at hand."""
    spheres = [Sphere(s["name"], tuple(s["centre"]), s["radius_mm"]) for s in told["spheres"]]
    contours = [
        Isocontour(s["name"], Threshold(**s["threshold"]), tuple(s["seed"]) if s["seed"] else None)
        for s in told["isocontours"]
    ]
    return Asked(
        files=files,
        shapes=[*spheres, *contours],
        reference=told["reference"],
        mtv_threshold=Threshold(**told["mtv_threshold"]),
        drawn_on=told["drawn_on"],
        names=names,
        keep_names=told["keep_names"],
        allow_patient_mismatch=told["allow_patient_mismatch"],
    )


def _only(shapes: Sequence[Any], kind: type) -> list[Any]:
    return [shape for shape in shapes if isinstance(shape, kind)]


def _plain(shape: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(shape, name) for name in ("name", *names)}


def _to_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
