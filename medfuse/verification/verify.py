"""Is a result folder what it says it is? Hash it, restate its records, and do the fusion again.

Nothing here trusts the folder. Without the inputs, somebody who repaints every file so that all
agree is found by a signature alone; with them, by the replay. What cannot be compared is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from medfuse.errors import MedfuseError
from medfuse.record.privacy import salt_beside, study_salt
from medfuse.results.folder import MANIFEST, STUDY_LIST, read_manifest
from medfuse.results.ledger_files import follow_up_folders
from medfuse.settings import Progress
from medfuse.verification.deformation import check_deformation
from medfuse.verification.files import check_beside, check_files, check_name, result_folders
from medfuse.verification.finding import (
    Finding,
    failure_text,
    not_a_result,
    not_checked,
    read_json,
)
from medfuse.verification.followup import is_follow_up, verify_follow_up
from medfuse.verification.inputs import Inputs
from medfuse.verification.records import check_records, stated_alone
from medfuse.verification.replay import replay_inputs, replay_stored
from medfuse.verification.signing import (
    BadSignature,
    PublicKey,
    check_signature,
    differences,
    read_public,
)
from medfuse.verification.volumes import check_headers

__all__ = ["Finding", "verify", "verify_study"]

_NEEDS_INPUTS = (
    "the anatomical image, how the weights were chosen, the registration, what the audit says of "
    "the anatomy, figures and DICOM files; a run from the inputs repeats them"
)


_NEEDS_REGIONS = "a run from the inputs, with the files of the regions, measures them again"


def verify(
    folder: Path,
    *,
    inputs: Path | Inputs | None = None,
    public_key: Path | None = None,
    made_by: str | None = None,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Check a result folder against itself and, with the inputs at hand, against a new run.

    Parameters
    ----------
    folder : Path
        Result folder of one case, or comparison of two times.
    inputs : Path, optional
        Folder in which the two inputs lie, at any depth and under any name: they are known by
        their content. Where it is a study, they must be the images of this case there. The
        transform is applied again, the fusion is replayed from the stored weight map, registration
        and guide are run anew and every file is made again; all must agree to the bit. Without it
        the picture is painted again from the stored luminance, functional image and weights.
    public_key : Path, optional
        The folder, or the study that it lies in, must be signed with this key.
    made_by : str, optional
        Version of medfuse that made the result, if the user vouches for it: what that version may
        have worded or drawn otherwise is then named as not checked. A version that only the record
        names excuses nothing.
    progress : callable (fraction, text), optional

    Returns
    -------
    tuple of Finding
        ``all(f.ok for f in findings)`` is the answer. What could not be compared is a finding with
        ``checked`` false.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT`` if the folder holds no manifest, ``E_NO_INPUT`` if there is no folder
        of inputs.
    UsageError
        ``E_KEY``, ``E_EXTRA``.
    """
    notify = progress or (lambda fraction, text: None)
    if isinstance(inputs, Path):
        inputs = Inputs(inputs)
    if is_follow_up(folder):
        return _comparison(folder, inputs, public_key, made_by, notify)
    manifest = read_manifest(folder)
    if manifest is None:
        raise not_a_result(folder, f"{MANIFEST} is missing or unreadable")
    findings = []
    if public_key is not None:
        findings.append(_signature(folder, read_public(public_key)))
    signed = bool(findings) and findings[0].ok
    notify(0.0, "files")
    findings += _guarded("files", lambda: check_files(folder, manifest))
    findings += _guarded("folder name", lambda: [check_name(folder, manifest["case"])])
    findings += _guarded("records", lambda: check_records(folder, manifest, made_by))
    provenance = _read(folder)
    if provenance is not None:
        notify(0.1, "picture")
        findings += _guarded("volumes", lambda: check_headers(folder, provenance))
        findings += _guarded("deformation", lambda: check_deformation(folder))
        findings += _guarded("picture", lambda: replay_stored(folder, provenance))
        if inputs is not None:
            replay = inputs  # known to be one, also inside the function
            salt = _salt(folder)
            findings += _guarded(
                "replay",
                lambda: replay_inputs(folder, provenance, replay, notify, made_by, salt),
            )
        else:
            findings += _guarded("measurements", lambda: _measurements(provenance))
        if inputs is None and not signed:
            findings.append(not_checked("without the inputs", _NEEDS_INPUTS))
        findings += _guarded("stated by the run", lambda: [stated_alone(provenance, signed=signed)])
    notify(1.0, "verified")
    return tuple(dict.fromkeys(findings))


def _comparison(
    folder: Path,
    inputs: Inputs | None,
    public_key: Path | None,
    made_by: str | None,
    notify: Progress,
) -> tuple[Finding, ...]:
    """The findings on a comparison of two times, which no signature covers."""
    compare = lambda: verify_follow_up(folder, inputs=inputs, made_by=made_by, progress=notify)  # noqa: E731
    findings = _guarded("comparison", compare)
    if public_key is not None:
        findings.append(not_checked("signature", "comparisons of two times are not signed"))
    return tuple(findings)


def _measurements(provenance: dict[str, Any]) -> list[Finding]:
    if any(step["name"] == "measure" for step in provenance["steps"]):
        return [not_checked("measurements", _NEEDS_REGIONS)]
    return []


def verify_study(
    study: Path,
    *,
    inputs: Path | None = None,
    public_key: Path | None = None,
    made_by: str | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[Finding, ...]]:
    """Check every result of a batch; parameters and errors as `verify`.

    Returns
    -------
    dict
        Case name -> findings; a folder that cannot be verified at all is one finding of its case.
        The entry of the empty name is about what lies beside the results and, with a public key,
        about the signature over the study.
    """
    folders = result_folders(study)
    folders += follow_up_folders(study) if study.is_dir() else ()
    if not folders:
        raise not_a_result(study, f"no {MANIFEST} is in it or in its folders")
    notify = progress or (lambda fraction, text: None)
    known = Inputs(inputs) if inputs is not None else None
    key = read_public(public_key) if public_key is not None else None
    beside = [_study_signature(study, key)] if key is not None else []
    beside += _guarded("beside the results", lambda: check_beside(study, folders))
    found: dict[str, tuple[Finding, ...]] = {"": tuple(beside)} if beside else {}
    for number, folder in enumerate(folders):
        step = _step(notify, number, len(folders), folder.name)
        found[folder.name] = _one(folder, inputs=known, made_by=made_by, progress=step)
    return found


def _one(folder: Path, **chosen: Any) -> tuple[Finding, ...]:
    """The findings on one case of many: none of them stops the others."""
    try:
        return verify(folder, **chosen)
    except MedfuseError as error:
        return (Finding("result", False, error.cause),)
    except Exception as error:  # the boundary of a case
        return (Finding("result", False, failure_text(error)),)


def _step(notify: Progress, number: int, total: int, case: str) -> Progress:
    return lambda fraction, text: notify((number + fraction) / total, case)


def _guarded(what: str, compare: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What was found until something could not be read, and then what; whatever it raises."""
    findings: list[Finding] = []
    try:
        for finding in compare():
            findings.append(finding)
    except MedfuseError as error:
        findings.append(Finding(what, False, error.cause))
    except Exception as error:  # the files are those of a stranger
        findings.append(Finding(what, False, failure_text(error)))
    return findings


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        return read_json(folder, "provenance.json")
    except MedfuseError:
        return None


def _salt(folder: Path) -> bytes | None:
    """The secret of the study, where it lies beside the results as the batch put it."""
    path = salt_beside(folder.absolute().parent)
    try:
        return study_salt(path) if path.is_file() and path.stat().st_size < 4096 else None
    except (MedfuseError, OSError):
        return None


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
