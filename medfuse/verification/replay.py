"""What a verification computes: the picture from what is stored, the run from its inputs.

Every number that is compared is computed anew.
"""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from medfuse.case.pipeline import align, fuse_case, load_image
from medfuse.case.record import (
    CaseRecord,
    registration_check,
    start_matrix,
    unit_check,
    write_case,
)
from medfuse.errors import InputError, MedfuseError, UsageError, option
from medfuse.fusion import FusionResult
from medfuse.fusion.choice import AUTO
from medfuse.fusion.slices import Sources, repaint
from medfuse.imaging.dicom.scan import scan_folder
from medfuse.imaging.grid import Grid, coverage, transform_points
from medfuse.imaging.nifti.facts import find_facts
from medfuse.imaging.pairing import TOLD
from medfuse.imaging.volume import content_hash
from medfuse.imaging.windows import Window
from medfuse.kernel.devices import find_device
from medfuse.record.provenance import Role, software
from medfuse.registration.result import Registration
from medfuse.results.export import band_files, to_bytes
from medfuse.results.folder import file_sha256, inventory
from medfuse.settings import CaseSettings, Progress

ROLES: tuple[Role, Role] = ("anatomical", "functional")
SHARE_TOLERANCE = 1e-5  # luminance: float32 sums in another order
# What a run says of itself, and what it was called; the bytes of the inputs decide over the rest.
_OWN = ("created", "timing", "command", "case", "key", "software", "hardware", "outputs", "bids")
_UNCOMPARED = (*_OWN, "identifiers", "inputs", "settings", "notes")
# Made by whoever wrote the folder (the MONAI chain and napari know less of the way there).
# What another version of medfuse asks, words and draws otherwise.
_PAGES = ("audit.json", "figures/")
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error)
_OTHER_FILES = ("provenance.json", "provenance.prov.json", "report.html", "figures/figures.json")


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    what: str
    ok: bool
    text: str


class Inputs:
    """Images under a folder, found by the hash of their content: names count for nothing."""

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise InputError(
                "E_NO_INPUT",
                what="Cannot verify with the inputs",
                where=root.name,
                cause="there is no such folder",
                remedy=f"Give the folder that holds the images with {option('inputs', 'DIR')}",
            )
        self.root = root
        self._index: dict[str, tuple[Path, str | None]] | None = None

    def load(self, role: Role, record: dict[str, Any], settings: CaseSettings) -> MetaTensor | None:
        """The image with the recorded content, or None."""
        path, series = self._found().get(record["sha256"], (None, None))
        if path is not None:
            image = load_image(path, role, _stated(settings, role, record, series))
            if TOLD in record:  # it may have been told by another name, or without a statement
                image.meta["source"][TOLD] = record[TOLD]
            return image
        if record["kind"] == "dicom":  # one frame of a series: fewer files than lie there
            for path, series in self._found().values():
                found = series and _try(path, role, _stated(settings, role, record, series))
                if found and found.meta["source"]["sha256"] == record["sha256"]:
                    return found
        return None

    def _found(self) -> dict[str, tuple[Path, str | None]]:
        """Content hash -> path and, in DICOM, series UID."""
        if self._index is None:
            files = [self.root] if self.root.is_file() else sorted(self.root.rglob("*"))
            niftis = (p for p in files if p.name.lower().endswith((".nii", ".nii.gz")))
            self._index = {_nifti_hash(path): (path, None) for path in niftis if path.is_file()}
            for series in scan_folder(self.root if self.root.is_dir() else self.root.parent).series:
                paths = [file.path for file in series.files]
                folder = Path(*_common([path.parent.parts for path in paths]))
                self._index[content_hash([file_sha256(p) for p in paths])] = folder, series.uid
        return self._index


def replay_stored(folder: Path, provenance: dict[str, Any]) -> Iterator[Finding]:
    """Paint the picture again from stored luminance, functional image and weights.

    The anatomical image is not stored. What the functional one gave to the luminance follows from
    it and the weights; the rest is the anatomical part, and the stored share must say so.
    """
    values = stored(folder, "functional_on_anatomical")
    if values.dtype.names:
        yield Finding("picture", True, "not painted again: the functional image came as RGB")
        return
    luminance, share = stored(folder, "luminance"), stored(folder, "anatomical_share")
    sources, chosen = _stored_sources(folder, provenance, values, luminance)
    rgb, from_a = repaint(
        sources, levels=chosen["levels"], mode=chosen["mode"], kernel=chosen["kernel"]
    )
    yield _same_picture(folder, np.asarray(rgb))
    a = np.asarray(from_a)[0]
    b = luminance - a
    for name in ("bound_change", "painted"):
        if f"{name}.nii.gz" in provenance["outputs"]:
            b -= stored(folder, name)
    both = np.abs(a) + np.abs(b)
    gap = np.abs(share.astype(np.float64) * both - np.abs(b))
    worst = float(np.where(both > 1e-6, gap, 0).max())  # NaN stays NaN, and is not below any limit
    ok = worst <= SHARE_TOLERANCE
    text = "follows from the weights" if ok else f"off by {worst:.3g} of the luminance at most"
    yield Finding("share and luminance", ok, text)


def _stored_sources(
    folder: Path, provenance: dict[str, Any], values: np.ndarray, luminance: np.ndarray
) -> tuple[Sources, dict[str, Any]]:
    steps = {step["name"]: step["parameters"] for step in provenance["steps"]}
    transform = Registration.from_dict(read_json(folder, "transform.json"))
    func = provenance["inputs"]["functional"]
    source = Grid(tuple(func["shape"]), np.asarray(func["affine"]))
    grid, window = transform.fixed_grid, steps["window"]["functional"]
    sources = Sources(
        functional=torch.from_numpy(values[None]),
        anatomical=MetaTensor(luminance[None], affine=torch.tensor(grid.affine)),
        window=Window(**window) if window else None,
        anatomical_window=None,
        colormap=steps["colour"]["colormap"],
        table=_table(provenance["colormap"]),
        coverage=torch.from_numpy(coverage(grid, source, transform.matrix)),
        gamut=steps["fuse"]["gamut"],
        bias=steps["fuse"].get("bias", 0.0),
        weights=tuple(stored_maps(folder)),
        flat=False,
    )
    return sources, steps["fuse"]


def _table(colours: dict[str, Any] | None) -> torch.Tensor | None:
    """The colour map on record: results outlive the maps of a version."""
    if colours is None:
        return None
    return torch.tensor([[float(value) for value in row.split()] for row in colours["table"]])


def replay_inputs(
    folder: Path, provenance: dict[str, Any], inputs: Inputs, notify: Progress
) -> Iterator[Finding]:
    """The whole run again: transform, resampling, kernel from stored weights, guide, all files."""
    settings = _settings(provenance)
    notify(0.2, "inputs")
    found = {r: inputs.load(r, provenance["inputs"][r], settings) for r in ROLES}
    for role, volume in found.items():
        text = "same content" if volume is not None else "no image with this content was found"
        yield Finding(f"{role} input", volume is not None, text)
    anat, func = found["anatomical"], found["functional"]
    if anat is None or func is None:
        return
    try:
        find_device(settings.device)
    except UsageError as error:
        yield Finding("device", True, f"not computed again: {error.cause}")
        return
    transform = Registration.from_dict(read_json(folder, "transform.json"))
    on_grid = transform.resample(func)
    yield _equal("resampled functional", on_grid, stored(folder, "functional_on_anatomical"))
    notify(0.4, "replay")
    weights, chosen = stored_maps(folder), _as_chosen(provenance, settings)
    replay = fuse_case(on_grid, anat, chosen, weights=weights)
    yield _equal("fused luminance", replay.luminance, stored(folder, "luminance"))
    yield _equal("anatomical share", replay.share, stored(folder, "anatomical_share"))
    yield _same_picture(folder, np.asarray(replay.rgb))
    notify(0.5, "guide")
    fresh = fuse_case(on_grid, anat, chosen)
    yield _same_guide(provenance, fresh)
    asked = fresh.band_weights or (fresh.weights,)
    same = [
        _equal("weights of the guide", x, np.asarray(y)[0])
        for x, y in zip(asked, weights, strict=False)
    ]
    yield next((finding for finding in same if not finding.ok), same[0])
    yield _same_audit(folder, provenance, replay)
    with tempfile.TemporaryDirectory() as scratch:
        settings = _with_start(settings, provenance, Path(scratch))
        notify(0.6, "registration")
        yield _same_registration(anat, func, transform, settings, provenance)
        notify(0.8, "files")
        # The guide was asked only there; why it was chosen is on record.
        why = _step(provenance, "fuse").get("chosen") or ""
        replay = replace(replay, diagnostics=fresh.diagnostics, chosen=why)
        case = (anat, func, transform, on_grid, replay)
        yield from _again(folder, provenance, settings, case, Path(scratch) / "again")


def _again(
    folder: Path, provenance: dict[str, Any], settings: CaseSettings, case: Any, scratch: Path
) -> Iterator[Finding]:
    """Write the result once more and compare it file by file."""
    anat, func, registration, on_grid, result = case
    audit = result.audit.with_checks([registration_check(registration), unit_check(func)])
    notes = tuple(provenance["notes"])
    record = CaseRecord(
        case=provenance["case"],
        command=provenance["command"],
        key=provenance["key"],
        settings=settings,
        anat=anat,
        func=func,
        registration=registration,
        initial=start_matrix(settings, anat, func),
        on_grid=on_grid,
        result=result,
        audit=audit,
        notes=notes,
    )
    scratch.mkdir()
    write_case(scratch, record)
    new, old = inventory(scratch), inventory(folder)
    # What a patient is called in DICOM rests on headers or a salt that are not given here.
    named = settings.keep_patient or provenance["identifiers"] == "hashed with a study salt"
    left_out = [*(["dicom/"] if named else []), *(() if same_version(provenance) else _PAGES)]
    names = [
        name
        for name in new
        if name in old and name not in _OTHER_FILES and not name.startswith(tuple(left_out))
    ]
    differ = [name for name in names if new[name]["sha256"] != old[name]["sha256"]]
    limits = f"; not compared: {', '.join(left_out)}" if left_out else ""
    yield Finding(
        "files made again",
        not differ,
        ", ".join(differ) or f"{len(names)} equal to the byte{limits}",
    )
    made, provenance = (_said(r) for r in (read_json(scratch, "provenance.json"), provenance))
    passed_over = (*_UNCOMPARED, *(() if same_version(provenance) else ("medfuse", "audit")))
    wrong = [n for n in made if n not in passed_over and made[n] != provenance.get(n)]
    settled = made["settings"]
    if not same_version(provenance):  # which may have had fewer
        settled = settled.keys() & provenance["settings"].keys()
    wrong += [n for n in settled if _setting(made, n) != _setting(provenance, n)]
    for role in ROLES:
        ours, theirs = made["inputs"][role], provenance["inputs"][role]
        facts = ("kind", "files", "modality", "unit", "shape", "spacing_mm", "affine", "suv")
        if not same_version(provenance):
            ours, theirs = _numbers_of_suv(ours, theirs)
        wrong += [f"{role} {n}" for n in facts if ours.get(n) != theirs.get(n)]
    yield Finding("provenance made again", not wrong, ", ".join(wrong) or "same record")


def _said(value: Any) -> Any:
    """A record without its empty entries, which MONAI drops on the way."""
    if isinstance(value, dict):
        return {name: _said(part) for name, part in value.items() if part is not None}
    return [_said(part) for part in value] if isinstance(value, list) else value


def _numbers_of_suv(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Both inputs with what both versions record of the SUV, without texts, which may change."""
    one, other = ours.get("suv") or {}, theirs.get("suv") or {}
    shared = {
        name
        for name in one.keys() & other.keys()
        if isinstance(one[name], (int, float)) and isinstance(other[name], (int, float))
    }
    return tuple(
        {**side, "suv": {name: suv[name] for name in shared}}
        for side, suv in ((ours, one), (theirs, other))
    )


def _setting(record: dict[str, Any], name: str) -> Any:
    """Names of files and series are replaced, so that they cannot be compared."""
    hidden = name.endswith("_series") or name in ("initial", "initial_kind")
    return None if hidden else record["settings"].get(name)


def _step(provenance: dict[str, Any], name: str) -> dict[str, Any]:
    """Parameters of a step on record."""
    found = (step["parameters"] for step in provenance["steps"] if step["name"] == name)
    return next(found, {})


def _as_chosen(provenance: dict[str, Any], settings: CaseSettings) -> CaseSettings:
    """What was left to medfuse, as it chose: another version may choose otherwise."""
    fuse = _step(provenance, "fuse")
    gamut = None if fuse["gamut"] == "overlay" else fuse["gamut"]  # that is the style
    known = {"gamut": gamut, "colormap": _step(provenance, "colour")["colormap"]}
    # What made the result did not refuse the pair; a replay shows what came of it.
    known |= {"accept_pair": "same-image", "allow_patient_mismatch": True}
    if settings.method == AUTO:
        known["method"] = fuse["method"]
    return settings.model_copy(update=known)


def _settings(provenance: dict[str, Any]) -> CaseSettings:
    own = {"initial": None, "initial_kind": "auto"}
    own |= {"anatomical_series": None, "functional_series": None}
    return CaseSettings(**{**provenance["settings"], **own})


def _stated(
    settings: CaseSettings, role: Role, record: dict[str, Any], series: str | None
) -> CaseSettings:
    """What the place or the name of a file said: which series, and in NIfTI the modality."""
    known = {f"{role}_series": series}
    if record["kind"] == "nifti" and record["modality"] != "unknown":
        known[f"{role}_modality"] = record["modality"]
    return settings.model_copy(update=known)


def _with_start(settings: CaseSettings, provenance: dict[str, Any], folder: Path) -> CaseSettings:
    """Give the recorded start of the registration as the file that it was."""
    steps = {step["name"]: step["parameters"] for step in provenance["steps"]}
    matrix = steps["register"].get("initial")
    if matrix is None:
        return settings
    path = folder / "start.txt"
    np.savetxt(path, np.asarray(matrix), fmt="%.17g")
    return settings.model_copy(update={"initial": str(path)})


def _same_registration(
    anat: MetaTensor,
    func: MetaTensor,
    stored: Registration,
    settings: CaseSettings,
    provenance: dict[str, Any],
) -> Finding:
    try:
        found = align(anat, func, settings.model_copy(update={"accept_suspect": True}))
    except MedfuseError as error:
        return Finding("registration", False, str(error))
    gap = float(np.abs(found.matrix - stored.matrix).max())
    if gap and not same_version(provenance):
        centre = stored.fixed_grid.centre
        apart = np.linalg.norm(
            transform_points(found.matrix, centre) - transform_points(stored.matrix, centre)
        )
        text = f"not repeated: this version searches otherwise, and ends {apart:.1f} mm from there"
        return Finding("registration", True, text)
    return Finding("registration", gap == 0, "same transform" if gap == 0 else f"off by {gap:.3g}")


def _same_guide(provenance: dict[str, Any], fresh: FusionResult) -> Finding:
    """Retrained weights explain why the guide answers otherwise."""
    ours, theirs = fresh.method.weights_sha256, provenance["guide"]["weights_sha256"]
    text = f"weights {str(ours)[:12]} here, {str(theirs)[:12]} on record"
    return Finding("guide", ours == theirs, "same weights" if ours == theirs else text)


def _same_audit(folder: Path, provenance: dict[str, Any], replay: FusionResult) -> Finding:
    audit = read_json(folder, "audit.json")
    stated = {check["id"]: check["value"] for check in audit["checks"]}
    assert replay.audit is not None  # only previews go without
    checks = replay.audit.checks
    if not same_version(provenance):  # which may have had fewer questions
        checks = tuple(check for check in checks if check.id in stated)
    wrong = [check.id for check in checks if stated.get(check.id) != check.value]
    return Finding("audit numbers", not wrong, ", ".join(wrong) or f"{len(checks)} reproduced")


def same_version(provenance: dict[str, Any]) -> bool:
    """Whether the result was made by this very software."""
    return bool(provenance["software"] == software())


def _same_picture(folder: Path, rgb: np.ndarray) -> Finding:
    picture = stored(folder, "fused_rgb")
    channels = np.stack([picture[name] for name in ("R", "G", "B")])
    differ = int((channels != to_bytes(rgb)).any(axis=0).sum())
    text = f"{differ} voxels differ" if differ else "equal to the bit"
    return Finding("fused picture", not differ, text)


def _equal(what: str, new: Any, old: np.ndarray) -> Finding:
    values = np.asarray(new)[0]
    if values.shape != old.shape:
        return Finding(what, False, f"expected {values.shape} voxels, found {old.shape}")
    if np.array_equal(values, old):
        return Finding(what, True, "equal to the bit")
    gap = np.abs(values.astype(float) - old)
    return Finding(
        what, False, f"{int((gap > 0).sum())} voxels differ, by {float(gap.max()):.3g} at most"
    )


def stored(folder: Path, name: str) -> np.ndarray:
    """Voxels of a volume of the result folder."""
    try:
        return np.asarray(nib.Nifti1Image.from_filename(folder / f"{name}.nii.gz").dataobj).copy()
    except (*_UNREADABLE, nib.filebasedimages.ImageFileError) as error:
        raise not_a_result(folder, f"{name}.nii.gz cannot be read") from error


def stored_maps(folder: Path) -> list[torch.Tensor]:
    """Weights (1, X, Y, Z) of a result: the one map, or one map a band, finest first."""
    names = [path.name.removesuffix(".nii.gz") for path in band_files(folder)] or ["weight_map"]
    return [torch.from_numpy(stored(folder, name)[None]) for name in names]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the result folder."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise not_a_result(folder, f"{name} is missing or unreadable") from error
    if not isinstance(content, dict):
        raise not_a_result(folder, f"{name} is not an object")
    return content


def not_a_result(folder: Path, cause: str) -> InputError:
    """The folder is none of ours."""
    return InputError(
        "E_NOT_A_RESULT",
        what="Cannot verify",
        where=folder.name,
        cause=cause,
        remedy="Give a result folder that medfuse fuse or batch has written",
    )


def _try(path: Path, role: Role, settings: CaseSettings) -> MetaTensor | None:
    try:
        return load_image(path, role, settings)
    except MedfuseError:
        return None


def _nifti_hash(path: Path) -> str:
    sidecar = find_facts(path).sidecar_sha256
    return content_hash([file_sha256(path), *([sidecar] if sidecar else [])])


def _common(parts: list[tuple[str, ...]]) -> list[str]:
    """The part that all paths begin with."""
    return [level[0] for level in zip(*parts, strict=False) if len(set(level)) == 1]
