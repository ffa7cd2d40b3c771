"""Two times of one person: their results with the images, and their comparison verified."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from medfuse.case.followup import TimePoint, follow_up
from medfuse.case.followup_files import (
    CHANGES,
    FIRST,
    SCHEMA,
    SECOND,
    asked_again,
    record_of,
    write_files,
)
from medfuse.errors import MedfuseError
from medfuse.measurement.asked import Asked
from medfuse.measurement.change import changes, changes_tsv
from medfuse.measurement.files import Named
from medfuse.measurement.gather import found_by_content
from medfuse.measurement.table import MISSING, RegionTable, Row
from medfuse.record.provenance import software
from medfuse.results.folder import MAX_JSON_BYTES, file_sha256, inventory, is_plain
from medfuse.results.ledger_files import FOLLOW_UP
from medfuse.settings import Progress
from medfuse.verification.compare import differences
from medfuse.verification.files import entries
from medfuse.verification.finding import (
    Finding,
    agreement,
    listed,
    not_a_result,
    not_checked,
    read_json,
)
from medfuse.verification.inputs import ROLES, Inputs, known_settings
from medfuse.verification.measured import loaded
from medfuse.verification.records import other_version

#: What a run says of itself, or what other findings are about.
_STATED = ("created", "software", "outputs", "medfuse")
_FREESURFER = "freesurfer"
_MOST_BYTES = 1 << 32  # of all files together
_ALONE = (
    "tables, images and page, which a run from the inputs makes again; what the record says of its "
    "run, which nothing protects"
)


def time_point(folder: Path, inputs: Inputs) -> TimePoint:
    """A result with its images, found among the inputs by their content.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``, ``E_NO_INPUT``.
    """
    record = read_json(folder, "provenance.json")
    return TimePoint(record, read_json(folder, "transform.json"), *loaded(folder, record, inputs))


def is_follow_up(folder: Path) -> bool:
    """Whether a folder holds a comparison of two times, or says so."""
    return (folder / FOLLOW_UP).is_file()


def verify_follow_up(
    folder: Path,
    *,
    inputs: Inputs | None = None,
    made_by: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Finding]:
    """Check a comparison of two times; parameters as `verify`.

    Its files are whole and unchanged, the changes follow from the two tables, and the transforms
    are those of the results beside it, where these are there. With the inputs the two times are
    registered and measured again, and every file must be the same to the byte.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT``.
    """
    record = read_json(folder, FOLLOW_UP)
    if record.get("schema") != SCHEMA:
        raise not_a_result(folder, f"{FOLLOW_UP} is not of this version, which keeps no digests")
    yield from _files(folder, record)
    yield _restated(folder)
    for when, told in record["times"].items():
        yield _beside(folder, when, told)
    if inputs is None:
        yield not_checked("without the inputs", _ALONE)
        return
    yield from _again(folder, record, inputs, made_by, progress)
    stated = ", ".join(name for name in _STATED[:2] if record.get(name))
    yield not_checked("stated by the run", f"{stated}; nothing protects them")


def _files(folder: Path, record: dict[str, Any]) -> Iterator[Finding]:
    plain, odd = entries(folder)
    expected, found = record["outputs"], set(plain) - {FOLLOW_UP}
    left, altered = _MOST_BYTES, []
    for name in found.intersection(expected):
        left -= plain[name]
        if left < 0 or file_sha256(folder / name) != expected[name]:
            altered.append(name if left >= 0 else f"{name} (not read: far too large)")
    for what, names in (
        ("missing files", sorted(set(expected) - found)),
        ("unknown files", sorted({*(found - set(expected)), *odd})),
        ("altered files", sorted(altered)),
    ):
        yield Finding(what, not names, listed(names) or f"none of {len(expected)}")


def _restated(folder: Path) -> Finding:
    """The table of changes follows from the tables of both times."""
    first, second = (_table(folder, name) for name in (FIRST, SECOND))
    made = changes_tsv(changes(first, second))
    same = _text(folder, CHANGES) == made
    fine = f"{len(first)} row(s) follow from both times"
    return Finding("changes", same, fine if same else "not what the two tables say")


def _table(folder: Path, name: str) -> RegionTable:
    head, *lines = _text(folder, name).splitlines()
    names = head.split("\t")
    rows = (dict(zip(names, line.split("\t"), strict=True)) for line in lines)
    kinds = {column.name: str(column.type) for column in fields(Row)}
    return RegionTable(
        tuple(Row(**{n: _value(text, kinds[n]) for n, text in row.items()}) for row in rows)
    )


def _value(text: str, kind: str) -> Any:
    if text == MISSING:
        return None
    if kind.startswith("float"):
        return float(text)
    return int(text) if kind.startswith("int") else text


def _text(folder: Path, name: str) -> str:
    if not is_plain(folder / name, MAX_JSON_BYTES):
        raise not_a_result(folder, f"{name} is missing or unreadable")
    return (folder / name).read_text("utf-8")


def _beside(folder: Path, when: str, told: dict[str, Any]) -> Finding:
    """Whether the transform of a time is that of its result, where this lies beside."""
    what, result = f"{when} time", folder.absolute().parent / str(told["case"])
    if not (result / "transform.json").is_file():
        return not_checked(what, f"its result ({told['case']}) does not lie beside; verify it too")
    made = read_json(result, "transform.json")
    inputs = read_json(result, "provenance.json")["inputs"]
    wrong = [f"transform.{name}" for name in differences(made, told["transform"])]
    wrong += [f"inputs.{name}" for name in differences(inputs, told["inputs"])]
    fine = f"transform and images of {told['case']}, which lies beside"
    return agreement(what, wrong, says=f"not those of {told['case']}", fine=fine)


def _again(
    folder: Path,
    record: dict[str, Any],
    inputs: Inputs,
    made_by: str | None,
    progress: Progress | None,
) -> Iterator[Finding]:
    times = []
    for when, told in record["times"].items():
        settings = known_settings(told)
        images = [inputs.load(r, told["inputs"][r], settings, told["case"]) for r in ROLES]
        there = [image for image in images if image is not None]
        text = "same content" if len(there) == len(ROLES) else "not among the inputs"
        yield Finding(f"images of the {when} time", len(there) == len(ROLES), text)
        if len(there) == len(ROLES):
            times.append(TimePoint(told, told["transform"], *(image for image, _ in there)))
    if len(times) < len(record["times"]):
        return
    asked = _asked(record["asked"], inputs.root)
    if asked is None:
        lacking = "a file with regions, or with their names, is not among the inputs"
        yield not_checked("comparison", f"{lacking}: nothing was made again")
        return
    chosen = record["settings"]
    first, second = times
    try:
        made = follow_up(
            first, second, asked, preset=chosen["preset"], accept_suspect=True,
            regions_needed=False, progress=progress,
        )  # fmt: skip
    except MedfuseError as error:
        yield Finding("comparison", False, f"it cannot be made again: {error.cause}")
        return
    about = record_of(first, second, asked, made, **chosen)
    yield from _compared(folder, record, made, about, made_by)


def _compared(
    folder: Path, record: dict[str, Any], made: Any, about: dict[str, Any], made_by: str | None
) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as scratch:
        write_files(Path(scratch), made)
        outputs = {name: facts["sha256"] for name, facts in inventory(Path(scratch)).items()}
    version = record["medfuse"]
    older = version != software()["medfuse"]
    differ = sorted(
        name
        for name in outputs.keys() | record["outputs"].keys()
        if outputs.get(name) != record["outputs"].get(name)
    )
    if differ and older:
        yield other_version("files made again", listed(differ), version, made_by)
    else:
        fine = f"{len(outputs)} equal to the byte"
        yield Finding("files made again", not differ, listed(differ) or fine)
    ours, theirs = (
        {name: value for name, value in told.items() if name not in _STATED}
        for told in (about, record)
    )
    if made.registration.verdict == "suspect" and not record["settings"]["accept_suspect"]:
        yield Finding("registration", False, "it is suspect, and nobody accepted that")
    wrong = list(differences(ours, theirs, older=older))
    yield agreement("record made again", wrong, says="not as made again", fine="same record")


def _asked(told: dict[str, Any], root: Path) -> Asked | None:
    """What was asked for, with its files found by their content; None where one is not there."""
    files = [(found_by_content(file["sha256"], root), file["name"]) for file in told["files"]]
    names = told["label_names"]
    if names not in (None, _FREESURFER):
        table = found_by_content(names, root)
        names = str(table) if table else None
        if names is None:
            return None
    found = [Named(path, name) for path, name in files if path is not None]
    return asked_again(told, found, names) if len(found) == len(files) else None
