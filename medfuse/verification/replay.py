"""What a verification computes: the picture from what is stored, the run from its inputs.

Every number that is compared is computed anew.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medfuse.audit import audit_fusion
from medfuse.case.focus import stored_region
from medfuse.case.pipeline import align, fuse_case
from medfuse.case.record import gamut_change
from medfuse.case.start import start_of
from medfuse.errors import MedfuseError, UsageError
from medfuse.fusion import FusionResult
from medfuse.fusion.choice import AUTO
from medfuse.fusion.planes import image_axes
from medfuse.fusion.restate import TOLD, restated_evidence
from medfuse.fusion.slices import Repainted, Sources, repaint
from medfuse.imaging.grid import Grid, transform_points
from medfuse.imaging.located import Located
from medfuse.imaging.windows import Window
from medfuse.kernel.devices import find_device
from medfuse.record.provenance import Role, software
from medfuse.registration.region import Region
from medfuse.registration.result import Registration
from medfuse.results.export import to_bytes
from medfuse.settings import CaseSettings, Progress
from medfuse.verification.again import same_files
from medfuse.verification.compare import differences
from medfuse.verification.deformation import stored_registration
from medfuse.verification.finding import (
    Finding,
    agreement,
    not_a_result,
    not_checked,
    read_json,
)
from medfuse.verification.inputs import ROLES, Inputs, Source, known_settings
from medfuse.verification.records import are_levels, other_version
from medfuse.verification.volumes import result_grid, stored, stored_maps

if TYPE_CHECKING:
    from monai.data import MetaTensor

SHARE_TOLERANCE = 1e-5  # luminance: float32 sums in another order
ADDED = ("bound_change", "painted")
#: What made a result has judged its pair.
_NOT_REFUSED = {"accept_pair": "same-image", "allow_patient_mismatch": True}


def replay_stored(folder: Path, provenance: dict[str, Any]) -> Iterator[Finding]:
    """Paint the picture again from stored luminance, functional image and weights.

    The anatomical image is not stored. What the functional one gave to the luminance follows from
    it and the weights; the rest is the anatomical part, and the stored share must say so. What the
    audit says of picture, weights and functional image is measured again.
    """
    grid = result_grid(folder)
    values = stored(folder, "functional_on_anatomical", grid=grid)
    if values.dtype.names:
        yield not_checked("picture", "not painted again, the functional image came as RGB")
        return
    luminance = stored(folder, "luminance", grid=grid)
    added = [name for name in ADDED if f"{name}.nii.gz" in provenance["outputs"]]
    names = ("anatomical_share", "weight_map", "gamut_change", *added)
    volumes = {name: stored(folder, name, grid=grid) for name in names}
    sources, chosen = _stored_sources(folder, provenance, values, luminance)
    if not are_levels(chosen["levels"]):
        raise not_a_result(folder, "its record names no possible number of levels")
    again = repaint(sources, levels=chosen["levels"], mode=chosen["mode"], kernel=chosen["kernel"])
    rgb = np.asarray(image_axes(again.picture.rgb, again.order))
    yield _same_picture(folder, rgb)
    changed = gamut_change(rgb, luminance[None], chosen["gamut"])
    yield _equal("gamut change", changed, volumes["gamut_change"])
    yield _same_share(again, luminance, volumes)
    yield _same_audit_of_stored(folder, sources, again, volumes)


def _same_share(again: Repainted, luminance: np.ndarray, volumes: dict[str, np.ndarray]) -> Finding:
    a = np.asarray(image_axes(again.from_functional, again.order))[0]
    b = luminance - a
    for name in ADDED:
        b -= volumes.get(name, 0)
    both = np.abs(a) + np.abs(b)
    gap = np.abs(volumes["anatomical_share"].astype(np.float64) * both - np.abs(b))
    worst = float(np.where(both > 1e-6, gap, 0).max())  # NaN stays NaN, and is not below any limit
    ok = worst <= SHARE_TOLERANCE
    text = "follows from the weights" if ok else f"off by {worst:.3g} of the luminance at most"
    return Finding("share and luminance", ok, text)


def _same_audit_of_stored(
    folder: Path, sources: Sources, again: Repainted, volumes: dict[str, np.ndarray]
) -> Finding:
    """Checks that need no anatomical image, measured again and compared to the letter."""
    names = {"anatomical_share": "share", "weight_map": "weights"} | {n: n for n in ADDED}
    planes = {names[n]: torch.from_numpy(v[None]) for n, v in volumes.items() if n in names}
    told = {*TOLD, *(["linearity"] if "painted" in planes else [])}
    checks = audit_fusion(restated_evidence(sources, again, planes)).checks
    made = {check.id: json.loads(json.dumps(asdict(check))) for check in checks}
    found = {check["id"]: check for check in read_json(folder, "audit.json")["checks"]}
    own = {name: {name: made.get(name)} for name in sorted(told) if name in made or name in found}
    wrong = [name for name in own if list(differences(own[name], {name: found.get(name)}))]
    fine = f"{len(own)} of {len(found)} measured again"
    return agreement("audit of what is stored", wrong, says="not as measured", fine=fine)


def _stored_sources(
    folder: Path, provenance: dict[str, Any], values: np.ndarray, luminance: np.ndarray
) -> tuple[Sources, dict[str, Any]]:
    steps = {step["name"]: step["parameters"] for step in provenance["steps"]}
    transform = stored_registration(folder)
    func = provenance["inputs"]["functional"]
    source = Grid(tuple(func["shape"]), np.asarray(func["affine"]))
    grid, window = transform.fixed_grid, steps["window"]["functional"]
    meta = {name: func[name] for name in ("modality", "unit")}
    sources = Sources(
        functional=Located(torch.from_numpy(values[None]), torch.tensor(grid.affine), meta),
        anatomical=Located(torch.from_numpy(luminance[None]), torch.tensor(grid.affine)),
        window=Window(**window) if window else None,
        anatomical_window=None,
        colormap=steps["colour"]["colormap"],
        table=_table(provenance["colormap"]),
        coverage=torch.from_numpy(transform.covers(source)),
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
    folder: Path,
    provenance: dict[str, Any],
    inputs: Inputs,
    notify: Progress,
    made_by: str | None,
    salt: bytes | None,
) -> Iterator[Finding]:
    """The whole run again: transform, resampling, kernel from stored weights, guide, all files."""
    settings = known_settings(provenance)
    notify(0.2, "inputs")
    case = provenance["case"]
    found = {r: inputs.load(r, provenance["inputs"][r], settings, case) for r in ROLES}
    for role, image in found.items():
        text = "same content" if image else "no image with this content was found"
        yield Finding(f"{role} input", image is not None, text)
    anatomical, functional = found["anatomical"], found["functional"]
    if anatomical is None or functional is None:
        return
    (anat, _), (func, _) = anatomical, functional
    sources: dict[Role, Source] = {"anatomical": anatomical[1], "functional": functional[1]}
    yield from inputs.place(case, sources)
    try:
        find_device(settings.device)
    except UsageError as error:  # a record may name any device, so this excuses nothing
        yield Finding("device", False, f"not computed again: {error.cause}")
        return
    transform = stored_registration(folder)
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
        region = stored_region(folder, provenance)
        yield _same_registration(anat, func, transform, settings, provenance, made_by, region)
        notify(0.8, "files")
        # The guide was asked only there; why it was chosen is on record.
        why = _step(provenance, "fuse").get("chosen") or ""
        replay = replace(replay, diagnostics=fresh.diagnostics, chosen=why)
        run = (anat, func, transform, on_grid, replay, region)
        yield from same_files(
            folder, provenance, settings, run, sources, inputs.root,
            scratch=Path(scratch) / "again", made_by=made_by, salt=salt,
        )  # fmt: skip


def _step(provenance: dict[str, Any], name: str) -> dict[str, Any]:
    """Parameters of a step on record."""
    found = (step["parameters"] for step in provenance["steps"] if step["name"] == name)
    return next(found, {})


def _as_chosen(provenance: dict[str, Any], settings: CaseSettings) -> CaseSettings:
    """What was left to medfuse, as it chose: another version may choose otherwise."""
    fuse = _step(provenance, "fuse")
    gamut = None if fuse["gamut"] == "overlay" else fuse["gamut"]  # that is the style
    known = {"gamut": gamut, "colormap": _step(provenance, "colour")["colormap"]}
    known |= _NOT_REFUSED
    if settings.method == AUTO:
        known["method"] = fuse["method"]
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
    made_by: str | None,
    region: Region | None,
) -> Finding:
    """The same map, judged alike; what the user gave may have added a remark of its own."""
    anyway = settings.model_copy(update={**_NOT_REFUSED, "accept_suspect": True})
    try:
        initial, _ = start_of(settings, anat, func)
        field = stored.deformation
        field = field if field and field.given else None
        found = align(anat, func, anyway, initial=initial, deformation=field, region=region)
    except MedfuseError as error:
        return Finding("registration", False, str(error))
    centre = stored.fixed_grid.centre
    ends = [transform_points(map_.matrix, centre) for map_ in (found, stored)]
    apart = float(np.linalg.norm(ends[0] - ends[1]))
    version = provenance["medfuse"]
    older = version != software()["medfuse"]
    steps = {step["name"]: step["result"] for step in provenance["steps"]}
    made, told = json.loads(json.dumps(found.to_dict())), dict(steps["register"])
    if settings.initial:
        told["reasons"] = told["reasons"][: len(made["reasons"])]
    wrong = list(differences(made, told, older=older))
    if wrong and older:
        return other_version("registration", f"it ends {apart:.1f} mm from there", version, made_by)
    says = f"not as found again, {apart:.3g} mm from there"
    return agreement("registration", wrong, says=says, fine="same transform")


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
    wrong = [check.id for check in checks if stated.get(check.id) != check.value]
    return agreement(
        "audit numbers", wrong, says="not as measured again", fine=f"{len(checks)} reproduced"
    )


def _same_picture(folder: Path, rgb: np.ndarray) -> Finding:
    picture = stored(folder, "fused_rgb")
    channels = np.stack([picture[name] for name in ("R", "G", "B")])
    differ = int((channels != to_bytes(rgb)).any(axis=0).sum())
    text = f"{differ} voxels differ" if differ else "equal to the bit"
    return Finding("fused image", not differ, text)


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
