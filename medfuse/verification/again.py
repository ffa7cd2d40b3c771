"""A result written once more from its inputs, and compared file by file and entry by entry."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.case.pipeline import case_key
from medfuse.case.record import (
    CaseRecord,
    registration_checks,
    unit_check,
    write_case,
)
from medfuse.case.regions import TABLE, contour_notes, measure_case
from medfuse.case.start import start_matrix
from medfuse.errors import MedfuseError
from medfuse.measurement.files import Named
from medfuse.measurement.gather import found_by_content
from medfuse.record.privacy import case_secret
from medfuse.record.provenance import Role, bids_fields, software
from medfuse.registration.region import Region
from medfuse.registration.result import Registration
from medfuse.results.folder import MAX_JSON_BYTES, inventory, is_plain, read_manifest
from medfuse.settings import FILES, CaseSettings
from medfuse.verification.compare import differences, left_out
from medfuse.verification.finding import Finding, agreement, listed, not_checked, read_json
from medfuse.verification.inputs import Source
from medfuse.verification.records import STATED, other_version

if TYPE_CHECKING:
    from monai.data import MetaTensor

#: Compared with the files themselves, or entry by entry.
_RECORDS = ("provenance.json", "provenance.prov.json", "report.html")
#: What follows from other entries, or that `check_records` compares.
_ELSEWHERE = (*STATED, "case", "key", "outputs", "audit", "medfuse")
_TYPED = ("anatomical_series", "functional_series", *FILES, "initial_kind", "regions")
#: Files that show regions: not compared where these cannot be measured again.
_OF_REGIONS = (
    "figures/", "png/outlined_", "dicom/outlined", "dicom/contours.dcm", "dicom/regions.dcm",
    "dicom/measurements.dcm",
)  # fmt: skip
_SALTED = "hashed with a study salt"
Run = tuple["MetaTensor", "MetaTensor", Registration, "MetaTensor", Any, Region | None]


def same_files(
    folder: Path,
    provenance: dict[str, Any],
    settings: CaseSettings,
    run: Run,
    sources: dict[Role, Source],
    inputs: Path,
    *,
    scratch: Path,
    made_by: str | None,
    salt: bytes | None,
) -> Iterator[Finding]:
    """Write the result once more and compare it."""
    record = _record(provenance, settings, run, sources, salt)
    record, unmeasured = _measured(record, provenance, sources, inputs)
    scratch.mkdir()
    write_case(scratch, record)
    if unmeasured:
        yield unmeasured
        _keep_measurements(folder, scratch)
    salted = provenance["identifiers"] == _SALTED and salt is None
    left = _OF_REGIONS if unmeasured else ()
    yield from _files(folder, scratch, provenance, made_by, left, salted=salted)
    made, found = read_json(scratch, "provenance.json"), dict(provenance)
    if unmeasured:
        made["steps"] += [step for step in found["steps"] if step["name"] == "measure"]
        told = (note for note in found["notes"] if note not in made["notes"])
        made["notes"] += [note for note in told if note.startswith(("DICOM: ", "contours "))]
    if salted:
        yield from _pseudonyms(made, found)
    yield from _entries(made, found, made_by)
    yield _key(provenance, sources)


def _record(
    provenance: dict[str, Any],
    settings: CaseSettings,
    run: Run,
    sources: dict[Role, Source],
    salt: bytes | None,
) -> CaseRecord:
    anat, func, registration, on_grid, result, region = run
    reasons = registration.reasons
    notes = (*anat.meta["notes"], *func.meta["notes"], *reasons)
    patient = None
    if settings.dicom:
        from medfuse.dicom_out import DEFORMED, SourceSeries, limits, read_patient, source_uids

        series = SourceSeries.from_volume(anat), SourceSeries.from_volume(func)
        # Older versions did not say which UIDs the files hold.
        told = [note for note in source_uids(*series) if note in provenance["notes"]]
        notes += (*limits(*series), *told)
        notes += DEFORMED if registration.bends else ()
        source = sources["anatomical"]
        if settings.keep_patient:
            patient = read_patient(source.path, source.series.uid if source.series else None)
    salted = provenance["identifiers"] == _SALTED
    return CaseRecord(
        case=provenance["case"],
        command=provenance["command"],
        key=provenance["key"],
        settings=settings,
        anat=anat,
        func=func,
        registration=registration,
        initial=start_matrix(settings, anat, func),
        region=region,
        on_grid=on_grid,
        result=result,
        audit=result.audit.with_checks([*registration_checks(registration), unit_check(func)]),
        notes=notes,
        uid_salt=salt if salted else None,
        bids=bids_fields(sources["anatomical"].path, sources["functional"].path),
        patient=patient,
    )


def _measured(
    record: CaseRecord, provenance: dict[str, Any], sources: dict[Role, Source], inputs: Path
) -> tuple[CaseRecord, Finding | None]:
    """The record with its regions measured again, if their files are among the inputs."""
    step = next((s for s in provenance["steps"] if s["name"] == "measure"), None)
    if step is None:
        last = contour_notes(record.settings, None, record.registration)
        return replace(record, notes=(*record.notes, *last)), None
    wanted = step["parameters"]["files"]
    places = ((found_by_content(f["sha256"], inputs), f["name"]) for f in wanted)
    files = [Named(path, name) for path, name in places if path is not None]
    if len(files) < len(wanted):
        lacking = (
            f"{len(wanted) - len(files)} file(s) with regions are not among the inputs; figures, "
            "which show their outlines, are not compared either"
        )
        return record, not_checked("measurements", lacking)
    settings = record.settings
    measured = measure_case(
        settings, files, record.anat, record.func, record.registration,
        record.on_grid, record.result,
    )  # fmt: skip
    if settings.dicom:
        from medfuse.dicom_out import read_patient

        source = sources["functional"]
        series = source.series.uid if source.series else None
        images = [image.meta.get("source") or {} for image in (record.anat, record.func)]
        measured = measured.with_objects(
            record.func,
            record.registration,
            salt=record.uid_salt or case_secret(images),
            patient=read_patient(source.path, series) if settings.keep_patient else None,
        )
    last = contour_notes(settings, measured, record.registration)
    notes = (*record.notes, *measured.notes, *last)
    return replace(record, measured=measured, notes=notes), None


def _keep_measurements(folder: Path, scratch: Path) -> None:
    """Take over what could not be measured again: a finding names it as not checked."""
    for path in folder.glob(f"{Path(TABLE).stem}.*"):
        if is_plain(path, MAX_JSON_BYTES):
            shutil.copyfile(path, scratch / path.name)


def _files(
    folder: Path,
    scratch: Path,
    provenance: dict[str, Any],
    made_by: str | None,
    left: tuple[str, ...],
    *,
    salted: bool,
) -> Iterator[Finding]:
    # That the hashes of the manifest are those of the files, another finding says.
    new, old = inventory(scratch), (read_manifest(folder) or {"files": {}})["files"]
    older = provenance["medfuse"] != software()["medfuse"]
    left = (*left, "dicom/") if salted else left
    if salted and any(name.startswith("dicom/") for name in old):
        yield not_checked("DICOM files", "their UIDs rest on the secret of the study")
    if "report.html" not in old:  # MONAI may leave it out, with its figures
        left = (*left, "figures/")
    unmoved = tuple(name for name in new if name not in old and _shows_unmoved(name))
    if unmoved and not any(name.startswith("figures/") for name in left):
        left = (*left, *unmoved, "figures/figures.json")  # which lists them
        yield not_checked("figures", "the image before its registration was not shown (MONAI)")
    names = sorted({*new, *(() if older else old)} - {*_RECORDS})
    names = [n for n in names if not n.startswith(left) and (n in old or not older)]
    differ = [n for n in names if new.get(n, {}).get("sha256") != old.get(n, {}).get("sha256")]
    pages = all(name == "audit.json" or name.startswith("figures/") for name in differ)
    if differ and pages and older:
        yield other_version("files made again", listed(differ), provenance["medfuse"], made_by)
    else:
        fine = f"{len(names)} equal to the byte"
        yield Finding("files made again", not differ, listed(differ) or fine)


def _shows_unmoved(name: str) -> bool:
    """Figures of the functional image elsewhere: MONAI's chain has it at its last place only."""
    return name.startswith("figures/") and (
        name.endswith(("_before.png", "_before.nii.gz")) or Path(name).name.startswith("position_")
    )


def _pseudonyms(made: dict[str, Any], found: dict[str, Any]) -> Iterator[Finding]:
    """Without the secret of the study its pseudonyms cannot be told; only that they are others."""
    names, wrong = ("series", "frame_of_reference"), []
    made["identifiers"] = found["identifiers"]
    for role, ours in made["inputs"].items():
        theirs = found["inputs"][role]
        for name in names:
            is_own = ours[name] is not None and ours[name] == theirs[name]
            if is_own or (ours[name] is None) != (theirs[name] is None):
                wrong.append(f"{role} {name}")
            ours[name] = theirs[name]
    if wrong:
        yield agreement("pseudonyms", wrong, says="not hashed with a secret of the study")
    else:
        yield not_checked("pseudonyms", "the secret of the study is not beside the results")


def _entries(made: dict[str, Any], found: dict[str, Any], made_by: str | None) -> Iterator[Finding]:
    """Every entry of the record but those that are compared elsewhere."""
    version = found["medfuse"]
    older = version != software()["medfuse"]
    kept = {name: value for name, value in found["settings"].items() if name in _TYPED}
    kept = {name: value for name, value in kept.items() if value not in (None, "auto", [])}
    names = [role for role, source in found["inputs"].items() if source.get("name")]
    for record in (made, found):
        for name in _ELSEWHERE:
            record.pop(name, None)
        record["settings"] = {n: v for n, v in record["settings"].items() if n not in _TYPED}
        record["inputs"] = {r: {**s, "name": None} for r, s in record["inputs"].items()}
    if (made["bids"] is None) != (found.get("bids") is None):
        made["bids"] = found.get("bids")
        yield not_checked("bids", "inputs here and record: only one knows of a BIDS data set")
    wrong = list(differences(made, found, older=older))
    what = "provenance made again"
    if wrong and older and not any(_is_number(found, name) for name in wrong):
        yield other_version(what, listed(wrong), version, made_by)
    else:
        lacking = listed(list(left_out(made, found))) if older else ""
        fine = f"same record; not in it: {lacking}" if lacking else "same record"
        yield Finding(what, not wrong, listed(wrong) or fine)
    if kept or names:
        typed = [f"settings.{name}" for name in kept] + [f"inputs.{role}.name" for role in names]
        yield not_checked("given by the user", f"{listed(typed)}, as typed or called then")


def _is_number(record: Any, name: str) -> bool:
    """Whether an entry ``a.b.3`` is a number: versions may word otherwise, not compute."""
    for step in name.split("."):
        record = record[int(step)] if isinstance(record, list) else (record or {}).get(step)
    return isinstance(record, int | float)


def _key(provenance: dict[str, Any], sources: dict[Role, Source]) -> Finding:
    """The resume key is told again where the command line named just these files."""
    settings = CaseSettings.model_validate({**provenance["settings"], **dict.fromkeys(FILES)})
    try:
        key = case_key(sources["anatomical"].path, sources["functional"].path, settings)
    except (MedfuseError, OSError):
        key = ""
    if key == provenance["key"]:
        return Finding("key", True, "of these inputs and settings")
    return not_checked("key", "made from files or settings as the command line had them")
