"""Do the records of a result say one thing, and does what they conclude follow from them?

Everything here is told again from the other records and from the limits of this version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np

from medfuse.audit.verdicts import contradicted, has_rule
from medfuse.case.deformation import CHECKS, deformation_checks
from medfuse.case.record import registration_check, unit_check
from medfuse.fusion.restate import TOLD
from medfuse.methods.base import BF16
from medfuse.methods.zoo import weights_name
from medfuse.record.privacy import sanitize, sanitize_text
from medfuse.record.prov_json import to_prov_json
from medfuse.record.provenance import PROV_FILE, Provenance, audit_summary, colour_table, software
from medfuse.registration.result import Registration
from medfuse.report.case import report_page
from medfuse.results.folder import is_plain
from medfuse.settings import FILES, CaseSettings
from medfuse.verification.compare import differences
from medfuse.verification.finding import Finding, agreement, listed, not_checked, read_json

#: What a run says of itself: nothing in the folder or in its inputs tells it again.
STATED = ("created", "timing", "command", "hardware", "software")
_ALWAYS = {"linearity", "invented", "contradiction", "laterality", "overshoot"}
_LEVELS = range(17)  # of a pyramid; the widest image has 2**15 voxels


def check_records(folder: Path, manifest: dict[str, Any], made_by: str | None) -> Iterator[Finding]:
    """Manifest, provenance, audit, transform and report tell the same story."""
    provenance, audit = read_json(folder, "provenance.json"), read_json(folder, "audit.json")
    transform = read_json(folder, "transform.json")
    yield from check_entries(manifest, provenance, audit, transform, made_by)
    wrong = sorted(_restated(folder, provenance))
    yield agreement("records restated", wrong, says="not what the records say")
    yield _report(folder, provenance, made_by)
    yield _versions(provenance)


def check_entries(
    manifest: dict[str, Any],
    provenance: dict[str, Any],
    audit: dict[str, Any],
    transform: dict[str, Any],
    made_by: str | None = None,
) -> Iterator[Finding]:
    """What the four records say of each other, entry by entry; no file is read."""
    Provenance.model_validate(provenance)
    files = manifest["files"]
    outputs = {name: files.get(name, {}).get("sha256") for name in provenance["outputs"]}
    wrong = [name for name, digest in outputs.items() if digest != provenance["outputs"][name]]
    named = {*outputs, "provenance.json", PROV_FILE, "report.html"}
    wrong += sorted(set(files) - named)
    yield agreement("outputs named in provenance", wrong, says="not as recorded", fine="all agree")
    wrong = [name for name in ("key", "case") if provenance[name] != _told(manifest, name)]
    yield agreement("key and case", wrong, says="manifest and provenance disagree")
    yield from _audit(audit, provenance, transform)
    if provenance["colormap"] is not None:
        yield _colour_map(provenance, made_by)
    wrong = sorted(_contradictions(provenance, files))
    yield agreement("settings, steps and inputs", wrong, says="contradict each other")
    yield agreement("transform", _transform(provenance, transform), says="told in two ways")


def _told(manifest: dict[str, Any], name: str) -> Any:
    value = manifest.get(name)
    return sanitize_text(value) if name == "case" and isinstance(value, str) else value


def _audit(
    audit: dict[str, Any], provenance: dict[str, Any], transform: dict[str, Any]
) -> Iterator[Finding]:
    """The verdicts follow from the numbers, and the whole from the checks."""
    checks = {check["id"]: check for check in audit["checks"]}
    wrong = [] if len(checks) == len(audit["checks"]) else ["a check is there twice"]
    wrong += _told_by_records(checks, provenance, transform)
    by_colour = checks.get("read_back", {}).get("verdict") == "pass"
    for name, check in checks.items():
        if has_rule(name):
            against = contradicted(check, by_colour=by_colour)
            wrong += [f"{name} ({against})"] if against else []
    wrong += [f"{name} (missing)" for name in sorted(_ALWAYS - checks.keys())]
    known = {*TOLD, "registration", "unit", *CHECKS}
    wrong += [f"{n} (no such check)" for n in checks if not (has_rule(n) or n in known)]
    yield agreement("verdicts", wrong, says="not by the limits of this version")
    verdicts = {check["verdict"] for check in audit["checks"]}
    worst = next((v for v in ("fail", "look") if v in verdicts), "pass")
    agree = audit["verdict"] == worst and audit_summary(audit).model_dump() == provenance["audit"]
    agree = agree and audit["case"] == provenance["case"]
    stated = f"checks say {worst}, files {audit['verdict']} and {provenance['audit']}"
    yield Finding("audit verdict", agree, worst if agree else stated[:300])


def _told_by_records(
    checks: dict[str, Any], provenance: dict[str, Any], stored: dict[str, Any]
) -> list[str]:
    """Checks of the audit that other records tell to the letter."""
    source = provenance["inputs"]["functional"]
    func: Any = SimpleNamespace(meta={**source, "notes": tuple(source["notes"])})
    transform = Registration.from_dict(stored, linear_only=True)
    made = [registration_check(transform), *deformation_checks(stored.get("deformation"))]
    if provenance["colormap"] is not None or "unit" in checks:
        made.append(unit_check(func))
    wrong = []
    for check in made:
        told = sanitize(vars(check))
        differ = list(differences(told, sanitize(checks.get(check.id))))
        wrong += (
            [f"{check.id} ({listed(differ)})" if checks.get(check.id) else f"{check.id} (missing)"]
            if differ
            else []
        )
    details = checks.get("laterality", {}).get("details", {})
    if "axes" in details:
        affine = transform.fixed_grid.affine
        axes = "".join(nib.orientations.aff2axcodes(affine))
        handed = "right" if np.linalg.det(affine[:3, :3]) > 0 else "left"
        if (details["axes"], details.get("handedness")) != (axes, handed):
            wrong.append("laterality (axes)")
    return wrong


def _colour_map(provenance: dict[str, Any], made_by: str | None) -> Finding:
    """The table on record, with which the picture is painted again, is the one of that name."""
    colours = provenance["colormap"]
    if colour_table(colours["name"]).model_dump() == colours:
        return Finding("color map", True, f"{colours['name']}, as in this version")
    table = f"the table of {colours['name']}"
    return other_version("color map", table, provenance["medfuse"], made_by)


def _contradictions(provenance: dict[str, Any], files: dict[str, Any]) -> Iterator[str]:
    """Entries of a record that another entry of it denies."""
    settings, steps = provenance["settings"], {s["name"]: s for s in provenance["steps"]}
    CaseSettings.model_validate({**settings, **dict.fromkeys(FILES), "initial_kind": "auto"})
    parameters = {name: step["parameters"] for name, step in steps.items()}
    fuse = parameters["fuse"]
    if not are_levels(fuse["levels"]):
        yield "steps.fuse.levels"
    for step, values in parameters.items():
        for name, value in values.items():
            if not _is_as_asked(name, settings.get(name), value):
                yield f"steps.{step}.{name} and settings.{name}"
    yield from _windows(settings, parameters["window"])
    for name, folder in (("png", "png/"), ("dicom", "dicom/")):
        if bool(settings.get(name)) != any(file.startswith(folder) for file in files):
            yield f"settings.{name} and the files"
    for text, one, other in _said_twice(provenance, settings, parameters):
        if one != other:
            yield text
    yield from _notes(provenance, steps)


def are_levels(value: Any) -> bool:
    """Whether a pyramid can have so many levels: more would be computed without end."""
    return type(value) is int and value in _LEVELS


def _said_twice(
    provenance: dict[str, Any], settings: dict[str, Any], parameters: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """What two entries of a record say, each in its way."""
    fuse, colormap = parameters["fuse"], (provenance["colormap"] or {}).get("name")
    start = parameters["register"].get("initial")
    yield (
        "settings.style, steps.fuse",
        settings.get("style") == "overlay",
        fuse["gamut"] == "overlay",
    )
    yield "settings.initial, steps.register", settings.get("initial") is None, start is None
    region = parameters["register"].get("region")
    yield "settings.region, steps.register", settings.get("region") is None, region is None
    yield "colormap, steps.colour", colormap, parameters["colour"]["colormap"]
    yield "guide.name, steps.fuse.method", provenance["guide"]["name"], fuse["method"]
    kept = provenance["identifiers"] == "kept"
    yield "identifiers, settings.keep_uids", kept, bool(settings.get("keep_uids"))
    yield "medfuse, software.medfuse", provenance["medfuse"], provenance["software"].get("medfuse")


def _is_as_asked(name: str, asked: Any, value: Any) -> bool:
    """Whether a parameter of a step is the one of the settings; some leave the choice open."""
    if asked in (None, "auto") or asked == value or name in FILES:
        return True
    if name == "method":  # a file of the user's own, or another name of the same weights
        same = weights_name(asked) == weights_name(value)
        return asked.endswith(".safetensors") or (
            same and asked.endswith(BF16) == value.endswith(BF16)
        )
    return (name, value) in (("gamut", "overlay"), ("colormap", None))


def _windows(settings: dict[str, Any], windows: dict[str, Any]) -> Iterator[str]:
    for role, name in (("functional", "window"), ("anatomical", "anatomical_window")):
        asked, used = settings.get(name), windows.get(role)
        if asked and used != {**(used or {}), "low": asked[0], "high": asked[1], "rule": "given"}:
            yield f"steps.window.{role} and settings.{name}"


def _notes(provenance: dict[str, Any], steps: dict[str, Any]) -> Iterator[str]:
    """The notes are those of the images and the registration, of DICOM output and of contours."""
    inputs, notes = provenance["inputs"], list(provenance["notes"])
    told = [*inputs["anatomical"]["notes"], *inputs["functional"]["notes"]]
    told += [sanitize_text(str(note)) for note in steps["register"]["result"]["reasons"]]
    kinds = {"dicom": "DICOM: ", "contours": "contours "}
    chosen = tuple(start for name, start in kinds.items() if provenance["settings"].get(name))
    if notes[: len(told)] != told or not all(str(n).startswith(chosen) for n in notes[len(told) :]):
        yield "notes, and those of the inputs and the registration"


def _transform(provenance: dict[str, Any], stored: dict[str, Any]) -> list[str]:
    """Entries of transform.json that differ from the record, or from what they follow from."""
    steps = {step["name"]: step["result"] for step in provenance["steps"]}
    again = Registration.from_dict(stored, linear_only=True).to_dict()  # inverse, direction, schema
    source = provenance["inputs"]["anatomical"]
    grid = stored["fixed_grid"]
    lengths = np.linalg.norm(np.asarray(grid["affine"])[:3, :3], axis=0).round(6).tolist()
    told = {**grid, "spacing_mm": lengths}
    found = {name: source[name] for name in ("shape", "affine", "spacing_mm")}
    return [
        *differences(steps["register"], stored),
        *(name for name in ("schema", "direction", "inverse") if again[name] != stored[name]),
        *differences(told, found, at="inputs.anatomical"),
    ]


def _restated(folder: Path, provenance: dict[str, Any]) -> Iterator[str]:
    """Files that follow from other files and do not."""
    if list(differences(to_prov_json(provenance), read_json(folder, PROV_FILE))):
        yield PROV_FILE
    stored = read_json(folder, "transform.json")
    with tempfile.TemporaryDirectory() as scratch:
        Registration.from_dict(stored, linear_only=True).write_tfm(Path(scratch) / "transform.tfm")
        made = (Path(scratch) / "transform.tfm").read_bytes()
    if not _holds(folder / "transform.tfm", made):
        yield "transform.tfm"


def _report(folder: Path, provenance: dict[str, Any], made_by: str | None) -> Finding:
    """The page is drawn anew from the records and figures that lie there."""
    if (
        not (folder / "report.html").exists()
        and "figures/figures.json" not in provenance["outputs"]
    ):
        return Finding("report", True, "none was written")
    if _holds(folder / "report.html", report_page(folder).encode()):
        return Finding("report", True, "drawn anew from the records, equal to the byte")
    return other_version("report", "report.html", provenance["medfuse"], made_by)


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file has this content; one of another size is not read."""
    return (
        is_plain(path, len(content))
        and path.stat().st_size == len(content)
        and path.read_bytes() == content
    )


def other_version(what: str, differ: str, version: str, made_by: str | None) -> Finding:
    """Something differs that another version of medfuse may have written otherwise.

    A version string is part of what may be forged: it excuses only what the user vouches for.
    """
    if version == software()["medfuse"]:
        return Finding(what, False, f"{differ}: not what the records say")
    if version == made_by:
        return not_checked(what, f"{differ}: medfuse {version} may write it otherwise")
    return Finding(
        what,
        False,
        f"{differ}: not as this version of medfuse writes it. The record names version {version}: "
        "verify with that one, or state that it was made by it",
    )


def _versions(provenance: dict[str, Any]) -> Finding:
    here, there = software(), provenance["software"]
    other = [
        f"{name} {there.get(name)} (here {here.get(name)})"
        for name in sorted(here | there)
        if here.get(name) != there.get(name)
    ]
    if not other:
        return Finding("versions", True, "as installed here")
    return not_checked(
        "versions", f"recorded are {listed(other)}; everything was compared all the same"
    )


def stated_alone(provenance: dict[str, Any], *, signed: bool) -> Finding:
    """What the record says of its run and nobody can tell again."""
    names = ", ".join(name for name in STATED if provenance.get(name))
    if signed:
        return Finding("stated by the run", True, f"{names}: as signed")
    return not_checked("stated by the run", f"{names}; only a signature protects them")
