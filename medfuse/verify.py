"""Is a result folder what it says it is? Hash it, find its inputs, and do the fusion again.

Nothing here trusts the folder: every number that is compared is computed anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from medfuse.errors import InputError, MedfuseError
from medfuse.fusion import FusionResult
from medfuse.imaging.export import to_bytes
from medfuse.imaging.folder import inventory, read_manifest
from medfuse.imaging.registration import Registration
from medfuse.pipeline import CaseSettings, align, fuse_case, load_pair

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    what: str
    ok: bool
    text: str


def verify(
    folder: Path, *, inputs: Path | None = None, progress: Progress | None = None
) -> tuple[Finding, ...]:
    """Check a result folder against its manifest and, with the inputs at hand, against a new run.

    Parameters
    ----------
    folder : Path
        Result folder of one case.
    inputs : Path, optional
        Folder in which the two inputs lie, at any depth, under the names in the provenance. With
        it the transform is applied again, the fusion is replayed from the stored weight map, and
        registration and guide are run anew; all must agree to the bit.
    progress : callable (fraction, text), optional

    Returns
    -------
    tuple of Finding
        ``all(f.ok for f in findings)`` is the answer.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT`` if the folder holds no manifest or provenance, ``E_NO_INPUT`` if an
        input is not found.
    """
    notify = progress or (lambda fraction, text: None)
    manifest = read_manifest(folder)
    if manifest is None:
        raise _not_a_result(folder, "manifest.json is missing or unreadable")
    notify(0.0, "files")
    findings = list(_files(folder, manifest))
    provenance = _json(folder, "provenance.json")
    findings += _records(folder, manifest, provenance)
    if inputs is not None:
        findings += _replay(folder, provenance, inputs, notify)
    notify(1.0, "verified")
    return tuple(findings)


def _files(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    """Every file is there, unaltered, and there is no other."""
    found = inventory(folder)
    expected = manifest["files"]
    altered = [n for n in expected if n in found and found[n]["sha256"] != expected[n]["sha256"]]
    for what, names in (
        ("missing files", sorted(set(expected) - set(found))),
        ("unknown files", sorted(set(found) - set(expected))),
        ("altered files", sorted(altered)),
    ):
        yield Finding(what, not names, ", ".join(names) or f"none of {len(expected)}")


def _records(
    folder: Path, manifest: dict[str, Any], provenance: dict[str, Any]
) -> Iterator[Finding]:
    """Manifest, provenance and audit tell the same story."""
    outputs = provenance.get("outputs", {})
    found = inventory(folder)
    wrong = sorted(n for n, h in outputs.items() if found.get(n, {}).get("sha256") != h)
    yield Finding("outputs named in provenance", not wrong, ", ".join(wrong) or "all agree")
    same_key = provenance.get("key") == manifest.get("key")
    yield Finding("key", same_key, "agrees" if same_key else "manifest and provenance disagree")
    audit = _json(folder, "audit.json")
    verdicts = {check["verdict"] for check in audit.get("checks", [])}
    worst = next((v for v in ("fail", "look") if v in verdicts), "pass")
    stated = (audit.get("verdict"), provenance.get("audit", {}).get("verdict"))
    agree = stated == (worst, worst)
    yield Finding("audit verdict", agree, worst if agree else f"checks say {worst}, files {stated}")


def _replay(
    folder: Path, provenance: dict[str, Any], inputs: Path, notify: Progress
) -> Iterator[Finding]:
    settings = CaseSettings(**{**provenance["settings"], "initial": None})
    paths = {role: _find(inputs, provenance["inputs"][role]["name"]) for role in _ROLES}
    notify(0.2, "inputs")
    anat, func = load_pair(paths["anatomical"], paths["functional"], settings)
    same = True
    for role, volume in zip(_ROLES, (anat, func), strict=True):
        ok = volume.meta["source"]["sha256"] == provenance["inputs"][role]["sha256"]
        same &= ok
        yield Finding(f"{role} input", ok, "same content" if ok else "content differs")
    if not same or anat.shape[1:] != _stored(folder, "luminance").shape:
        return
    stored = Registration.from_dict(_json(folder, "transform.json"))
    yield from _again(folder, anat, func, stored, settings, notify)
    if provenance["settings"].get("initial") is None:
        notify(0.7, "registration")
        yield _registration_again(anat, func, stored, settings)


def _again(
    folder: Path,
    anat: MetaTensor,
    func: MetaTensor,
    registration: Registration,
    settings: CaseSettings,
    notify: Progress,
) -> Iterator[Finding]:
    """Resample, replay from the stored weights, and ask the guide once more."""
    on_grid = registration.resample(func)
    yield _equal("resampled functional", on_grid, _stored(folder, "functional_on_anatomical"))
    weights = _stored(folder, "weight_map")[None]
    notify(0.4, "replay")
    replay = fuse_case(on_grid, anat, settings, weights=weights)
    yield from _pictures(folder, replay)
    notify(0.5, "guide")
    fresh = fuse_case(on_grid, anat, settings)
    yield _equal("weights of the guide", fresh.weights, weights[0])
    audit = _json(folder, "audit.json")
    stated = {check["id"]: check["value"] for check in audit["checks"]}
    wrong = [c.id for c in replay.audit.checks if stated.get(c.id) != c.value]
    yield Finding("audit numbers", not wrong, ", ".join(wrong) or "all reproduced")


def _pictures(folder: Path, replay: FusionResult) -> Iterator[Finding]:
    yield _equal("fused luminance", replay.luminance, _stored(folder, "luminance"))
    yield _equal("anatomical share", replay.share, _stored(folder, "anatomical_share"))
    rgb = _stored(folder, "fused_rgb")
    channels = np.stack([rgb[name] for name in ("R", "G", "B")])
    same = np.array_equal(channels, to_bytes(np.asarray(replay.rgb)))
    yield Finding("fused picture", same, "equal to the bit" if same else "differs")


def _registration_again(
    anat: MetaTensor, func: MetaTensor, stored: Registration, settings: CaseSettings
) -> Finding:
    try:
        found = align(anat, func, settings.model_copy(update={"accept_suspect": True}))
    except MedfuseError as error:
        return Finding("registration", False, str(error))
    gap = float(np.abs(found.matrix - stored.matrix).max())
    return Finding("registration", gap == 0, "same transform" if gap == 0 else f"off by {gap:.3g}")


def _equal(what: str, new: Any, stored: np.ndarray) -> Finding:
    values = np.asarray(new)[0]
    if np.array_equal(values, stored):
        return Finding(what, True, "equal to the bit")
    gap = np.abs(values.astype(float) - stored)
    return Finding(
        what, False, f"{int((gap > 0).sum())} voxels differ, by {float(gap.max()):.3g} at most"
    )


_ROLES = ("anatomical", "functional")


def _stored(folder: Path, name: str) -> np.ndarray:
    try:
        return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise _not_a_result(folder, f"{name}.nii.gz cannot be read") from error


def _find(inputs: Path, name: str) -> Path:
    candidates = [inputs] if inputs.name == name else sorted(inputs.rglob(name))
    if len(candidates) == 1:
        return candidates[0]
    raise InputError(
        "E_NO_INPUT",
        what="Cannot verify with the inputs",
        where=name,
        cause=f"found {len(candidates)} of that name under {inputs.name}",
        remedy="Give with --inputs the folder of this case alone",
    )


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_a_result(folder, f"{name} is missing or unreadable") from error
    if not isinstance(content, dict):
        raise _not_a_result(folder, f"{name} is not an object")
    return content


def _not_a_result(folder: Path, cause: str) -> InputError:
    return InputError(
        "E_NOT_A_RESULT",
        what="Cannot verify",
        where=folder.name,
        cause=cause,
        remedy="Give a result folder that medfuse fuse or batch has written",
    )
