"""Is a result folder what it says it is? Hash it, restate its records, and do the fusion again.

Nothing here trusts the folder. Without the inputs, somebody who repaints every file so that all
agree is found by a signature alone; with them, by the replay.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medfuse.errors import MedfuseError
from medfuse.record.prov_json import to_prov_json
from medfuse.record.provenance import PROV_FILE, Provenance, audit_summary, colour_table, software
from medfuse.registration.result import Registration
from medfuse.report.case import report_page
from medfuse.results.folder import MANIFEST, STUDY_LIST, inventory, read_manifest
from medfuse.settings import Progress
from medfuse.verification.replay import (
    Finding,
    Inputs,
    not_a_result,
    read_json,
    replay_inputs,
    replay_stored,
    same_version,
)
from medfuse.verification.signing import (
    BadSignature,
    PublicKey,
    check_signature,
    differences,
    read_public,
    result_folders,
)

__all__ = ["Finding", "verify", "verify_study"]


def verify(
    folder: Path,
    *,
    inputs: Path | Inputs | None = None,
    public_key: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Check a result folder against itself and, with the inputs at hand, against a new run.

    Parameters
    ----------
    folder : Path
        Result folder of one case.
    inputs : Path, optional
        Folder in which the two inputs lie, at any depth and under any name: they are known by
        their content. With it the transform is applied again, the fusion is replayed from the
        stored weight map, registration and guide are run anew and every file is made again; all
        must agree to the bit. Without it the picture is painted again from the stored luminance,
        functional image and weights, which agrees to the bit too.
    public_key : Path, optional
        The folder, or the study that it lies in, must be signed with this key.
    progress : callable (fraction, text), optional

    Returns
    -------
    tuple of Finding
        ``all(f.ok for f in findings)`` is the answer.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT`` if the folder holds no manifest, ``E_NO_INPUT`` if there is no folder
        of inputs.
    UsageError
        ``E_KEY``, ``E_EXTRA``.
    """
    notify = progress or (lambda fraction, text: None)
    manifest = read_manifest(folder)
    if manifest is None:
        raise not_a_result(folder, f"{MANIFEST} is missing or unreadable")
    if isinstance(inputs, Path):
        inputs = Inputs(inputs)
    findings = []
    if public_key is not None:
        findings.append(_signature(folder, read_public(public_key)))
    notify(0.0, "files")
    findings += _files(folder, manifest)
    findings += _guarded("records", lambda: _records(folder, manifest))
    provenance = _read(folder)
    if provenance is not None:
        notify(0.1, "picture")
        findings += _guarded("picture", lambda: replay_stored(folder, provenance))
        if inputs is not None:
            replay = inputs  # known to be one, also inside the function
            findings += _guarded(
                "replay", lambda: replay_inputs(folder, provenance, replay, notify)
            )
    notify(1.0, "verified")
    return tuple(dict.fromkeys(findings))


def verify_study(
    study: Path,
    *,
    inputs: Path | None = None,
    public_key: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[Finding, ...]]:
    """Check every result of a batch; parameters and errors as `verify`.

    Returns
    -------
    dict
        Case name -> findings. With a public key the entry of the empty name holds the signature
        over the study.
    """
    folders = result_folders(study)
    if not folders:
        raise not_a_result(study, f"no {MANIFEST} is in it or in its folders")
    notify = progress or (lambda fraction, text: None)
    known = Inputs(inputs) if inputs is not None else None
    found: dict[str, tuple[Finding, ...]] = {}
    if public_key is not None:
        found[""] = (_study_signature(study, read_public(public_key)),)
    for number, folder in enumerate(folders):
        step = _step(notify, number, len(folders), folder.name)
        found[folder.name] = verify(folder, inputs=known, progress=step)
    return found


def _step(notify: Progress, number: int, total: int, case: str) -> Progress:
    return lambda fraction, text: notify((number + fraction) / total, case)


def _guarded(what: str, compare: Any) -> list[Finding]:
    """What was found until a file could not be read, and then which."""
    findings: list[Finding] = []
    try:
        for finding in compare():
            findings.append(finding)
    except MedfuseError as error:
        findings.append(Finding(what, False, error.cause))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        findings.append(Finding(what, False, f"a record has not the form it had: {_brief(error)}"))
    return findings


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__} {error}"[:120]


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        return read_json(folder, "provenance.json")
    except MedfuseError:
        return None


def _files(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    """Every file is there, unaltered, and there is no other."""
    found = inventory(folder)
    expected = manifest["files"]
    altered = [name for name in expected if name in found and found[name] != expected[name]]
    whole = json.dumps(manifest, indent=1) + "\n"
    if whole != (folder / MANIFEST).read_text("utf-8"):
        altered.append(MANIFEST)
    for what, names in (
        ("missing files", sorted(set(expected) - set(found))),
        ("unknown files", sorted(set(found) - set(expected))),
        ("altered files", sorted(altered)),
    ):
        yield Finding(what, not names, ", ".join(names) or f"none of {len(expected)}")


def _records(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    """Manifest, provenance, audit, transform and report tell the same story."""
    provenance = read_json(folder, "provenance.json")
    Provenance.model_validate(provenance)
    found = inventory(folder)
    outputs = provenance["outputs"]
    wrong = sorted(n for n, h in outputs.items() if found.get(n, {}).get("sha256") != h)
    yield Finding("outputs named in provenance", not wrong, ", ".join(wrong) or "all agree")
    wrong = [name for name in ("key", "case") if provenance[name] != manifest.get(name)]
    yield Finding("key and case", not wrong, _says(wrong, "manifest and provenance disagree"))
    audit = read_json(folder, "audit.json")
    yield _audit(audit, provenance)
    if provenance["colormap"] is not None:
        yield _colour_map(provenance)
    wrong = sorted(_restated(folder, provenance))
    yield Finding("records restated", not wrong, _says(wrong, "not what the records say"))


def _says(wrong: list[str], text: str) -> str:
    return f"{', '.join(wrong)}: {text}" if wrong else "agree"


def _audit(audit: dict[str, Any], provenance: dict[str, Any]) -> Finding:
    verdicts = {check["verdict"] for check in audit["checks"]}
    worst = next((v for v in ("fail", "look") if v in verdicts), "pass")
    summary = audit_summary(audit).model_dump()
    agree = audit["verdict"] == worst and summary == provenance["audit"]
    stated = f"checks say {worst}, files {audit['verdict']} and {provenance['audit']}"
    return Finding("audit verdict", agree, worst if agree else stated)


def _colour_map(provenance: dict[str, Any]) -> Finding:
    """The table on record, with which the picture is painted again, is the one of that name."""
    colours = provenance["colormap"]
    if colour_table(colours["name"]).model_dump() == colours:
        return Finding("colour map", True, f"{colours['name']}, as in this version")
    text = f"another {colours['name']} than in this version of medfuse"
    return Finding("colour map", provenance["software"] != software(), text)


def _restated(folder: Path, provenance: dict[str, Any]) -> Iterator[str]:
    """Files that follow from other files and do not."""
    if read_json(folder, PROV_FILE) != to_prov_json(provenance):
        yield PROV_FILE
    stored = read_json(folder, "transform.json")
    steps = {step["name"]: step for step in provenance["steps"]}
    if steps["register"]["result"] != stored:
        yield "transform.json"
    transform = Registration.from_dict(stored)
    with tempfile.TemporaryDirectory() as scratch:
        transform.write_tfm(Path(scratch) / "transform.tfm")
        made = (Path(scratch) / "transform.tfm").read_bytes()
    if (folder / "transform.tfm").read_bytes() != made:
        yield "transform.tfm"
    if not same_version(provenance):  # another version draws other pages
        return
    page = folder / "report.html"
    if page.exists() and page.read_text("utf-8") != report_page(folder):
        yield "report.html"


def _signature(folder: Path, public: PublicKey) -> Finding:
    """Of the result, or of the study that it lies in."""
    study = folder.absolute().parent
    if not (folder / f"{MANIFEST}.minisig").exists() and (study / STUDY_LIST).exists():
        finding = _study_signature(study, public)
        lines = (study / STUDY_LIST).read_text("utf-8").splitlines()
        if finding.ok and not any(line.endswith(f"  {folder.name}/{MANIFEST}") for line in lines):
            return Finding("signature", False, f"{folder.name} was not there when it was signed")
        return finding
    return _checked(folder / MANIFEST, public)


def _study_signature(study: Path, public: PublicKey) -> Finding:
    finding = _checked(study / STUDY_LIST, public)
    wrong = differences(study) if finding.ok else []
    return Finding("signature", False, "; ".join(wrong)) if wrong else finding


def _checked(target: Path, public: PublicKey) -> Finding:
    try:
        return Finding(
            "signature", True, f"by key {public.name}: {check_signature(target, public)}"
        )
    except BadSignature as reason:
        return Finding("signature", False, str(reason))
