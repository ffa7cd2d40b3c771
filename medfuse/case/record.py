"""A case: its settings, its record, and the files that a result folder holds.

Shared by the pipeline, the MONAI transforms and the napari panel, so that all write the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import medfuse
from medfuse.audit import Audit, Check
from medfuse.audit.model import Verdict
from medfuse.case.deformation import deformation_checks, write_deformation
from medfuse.case.regions import TABLE, Measured, region_outlines
from medfuse.errors import SHORT_NOTICE
from medfuse.fusion import FusionResult
from medfuse.fusion.choice import OVERLAY_MAP
from medfuse.fusion.evidence import contradictions
from medfuse.fusion.sources import Sources, coverage_of
from medfuse.imaging.grid import Grid, transform_points
from medfuse.imaging.pet.header import NO_UNIT_STATED
from medfuse.imaging.pet.suv import SUV_UNITS
from medfuse.imaging.windows import Window, apply_window
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out
from medfuse.record.privacy import case_secret
from medfuse.record.provenance import build_provenance, write_provenance
from medfuse.registration.geometry import rotation_angle
from medfuse.registration.region import REGION_FILE, Region
from medfuse.registration.result import Registration
from medfuse.report.case import render_report
from medfuse.report.figures import ReportVolumes, write_figures
from medfuse.report.positions import ErrorAt
from medfuse.results.described import VOLUMES, Facts, about, volume_list
from medfuse.results.export import LUMA, SLICES, band_name, write_mip, write_nifti, write_pngs
from medfuse.results.outlines import Outlines
from medfuse.settings import CaseSettings, Progress

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from medfuse.dicom_out import Layout

ROUNDING = 1e-6  # of luminance, float32
APART_MM, APART_DEG = 3.0, 3.0  # of positions that are shown beside the result
_AS_CHECK: dict[str, Verdict] = {"good": "pass", "look": "look", "suspect": "fail"}


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """A fused case before it is written.

    Attributes
    ----------
    anat, func : MetaTensor
        As they were loaded; of ``func`` only shape, affine and meta are asked for.
    initial : (4, 4) array, optional
        Where registration began, as `case.start` read it; None: where the headers say.
    region : Region, optional
        What the registration had to get right.
    on_grid : MetaTensor
        The functional volume on the anatomical grid, in its unit.
    result : FusionResult
    audit : Audit
        Of the fusion, with the checks of registration and unit.
    notes : tuple of str
    uid_salt : bytes, optional
        Of the study, with which UIDs are hashed; default a secret of the case.
    bids : dict, optional
        From `provenance.bids_fields`.
    patient : Dataset, optional
        From `dicom_out.origin.read_patient`, for DICOM output; None blanks it.
    measured : Measured, optional
        The regions of the case, where some were asked for.
    """

    case: str
    command: str
    key: str
    settings: CaseSettings
    anat: MetaTensor
    func: MetaTensor
    registration: Registration
    initial: np.ndarray | None = None
    region: Region | None = None
    on_grid: MetaTensor
    result: FusionResult
    audit: Audit
    notes: tuple[str, ...] = ()
    uid_salt: bytes | None = None
    bids: dict[str, Any] | None = None
    patient: Any = None
    measured: Measured | None = None


def write_case(
    folder: Path,
    record: CaseRecord,
    *,
    volumes: ReportVolumes | None = None,
    timing: dict[str, float] | None = None,
    report: bool = True,
    progress: Progress | None = None,
) -> None:
    """Write all files of a case into a folder that :class:`ResultFolder` has made.

    Parameters
    ----------
    folder : Path
    record : CaseRecord
    volumes : ReportVolumes, optional
        For the report; default :func:`report_volumes`.
    timing : dict, optional
        Seconds by stage, for provenance.
    report : bool
        Also figures and report.html.
    progress : callable (fraction, text), optional

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    notify = progress or (lambda fraction, text: None)
    notify(0.0, "writing")
    _write_images(folder, record)
    if record.settings.dicom:
        _write_dicom(folder / "dicom", record, record.settings.dicom)
    if record.measured is not None:
        record.measured.table.write(folder / TABLE)
    _write_json(folder / "audit.json", {**record.audit.to_dict(), "case": record.case})
    if report:
        notify(0.4, "figures")
        live = record.settings.report == "live"
        write_figures(folder, volumes or report_volumes(record), live=live)
    write_provenance(folder, provenance_of(record, timing or {}))
    if report:
        notify(0.8, "report")
        render_report(folder)


def registration_checks(registration: Registration) -> list[Check]:
    """Audit checks of the registration and, where there is one, of its deformation."""
    deformation = registration.deformation
    facts = None if deformation is None else deformation.to_dict()
    return [registration_check(registration), *deformation_checks(facts)]


def registration_check(registration: Registration) -> Check:
    """Audit check: the verdict of the registration and its numbers."""
    mirrors = bool(np.linalg.det(registration.matrix[:3, :3]) < 0)
    verdict = _AS_CHECK[registration.verdict]
    reasons = "; ".join(registration.reasons)
    expected = registration.error_words()
    return Check(
        "registration",
        "Registration",
        registration.overlap,
        "overlap",
        None,
        "fail" if mirrors else verdict,
        ("The transform MIRRORS the functional image. " if mirrors else "")
        + (f"{expected[0].upper()}{expected[1:]} (90 % of cases). " if expected else "")
        + f"{registration.method}: moved {registration.shift_mm:.1f} mm and "
        f"{registration.rotation_deg:.1f} degrees; mutual information "
        f"{registration.metric_before:.3f} before, {registration.metric_after:.3f} after. "
        + (f"{registration.verdict.upper()}: {reasons}. " if verdict != "pass" else "")
        + "Mutual information cannot prove accuracy: look at the checkerboard.",
        {
            "verdict": registration.verdict,
            "reasons": list(registration.reasons),
            "mirrors": mirrors,
        },
    )


def unit_check(func: MetaTensor) -> Check:
    """Audit check: whether a PET is in SUV and a CT in HU.

    A NIfTI file that states no unit is no finding about its image: that is said, with the way to
    state the unit. A unit that was refused, for a reason in the header or the sidecar, is one.
    """
    unit, modality = func.meta["unit"], func.meta["modality"]
    expected = {"PET": (*SUV_UNITS.values(), "ppm"), "CT": ("HU",)}.get(modality, (unit,))
    ok = unit in expected
    unstated = modality == "PET" and NO_UNIT_STATED in func.meta["notes"]
    return Check(
        "unit",
        "Unit of the functional image",
        float(ok),
        unit,
        None,
        "pass" if ok or unstated else "look",
        f"{modality} in {unit}." + ("" if ok else f" {_why_not(func, expected[0])}"),
    )


def _why_not(func: MetaTensor, expected: str) -> str:
    """Why values are not in the unit that their modality has."""
    notes, refusal = func.meta["notes"], (func.meta.get("suv") or {}).get("refusal")
    if NO_UNIT_STATED in notes:
        return f"{NO_UNIT_STATED}."
    known = [n for n in notes if n.startswith(("SUV not available", "CT without values of air"))]
    stated = [n for n in notes if n.startswith(("unit ", "the Units of the sidecar"))]
    why = refusal or next(iter([*known, *stated]), "the file does not say")
    return f"{expected} was not available: {why}"


def _write_images(folder: Path, record: CaseRecord) -> None:
    result, on_grid = record.result, record.on_grid
    affine = np.asarray(on_grid.affine, dtype=float)
    volumes = {
        "fused_rgb": result.rgb,
        "luminance": result.luminance,
        "weight_map": result.weights,
        "anatomical_share": result.share,
        "gamut_change": gamut_change(result.rgb, result.luminance, result.gamut),
        "functional_on_anatomical": on_grid,
    }
    volumes |= result.additions()
    affines = dict.fromkeys(volumes, affine)
    for level, weights in enumerate(result.band_weights):
        volumes[band_name(level)] = weights
        affines[band_name(level)] = np.asarray(cast("MetaTensor", weights).affine, dtype=float)

    window = asdict(result.window) if result.window else None
    meta = record.func.meta
    modality, unit = str(meta.get("modality", "unknown")), str(meta.get("unit", "a.u."))
    colors = record.settings.rgb
    facts = Facts(window, modality, unit, colors)

    def write(name: str) -> None:
        array = np.asarray(volumes[name])
        path, what = folder / f"{name}.nii.gz", about(name, facts)
        values = array if len(array) == 3 else array[0]
        write_nifti(path, values, affines[name], what=what, colors=colors)

    share_out(write, list(volumes))
    names, region = list(volumes), record.region
    if region:
        name = REGION_FILE.removesuffix(".nii.gz")
        names.append(name)
        inside = region.inside.astype(np.uint8)
        write_nifti(folder / REGION_FILE, inside, region.affine, what=about(name, facts))
    names += ["deformation"] if record.registration.deformation else []
    _write_json(folder / VOLUMES, volume_list(names, facts))
    record.registration.write_tfm(folder / "transform.tfm")
    if record.registration.deformation is not None:
        write_deformation(folder, record.registration.deformation)
    _write_json(folder / "transform.json", record.registration.to_dict())
    if record.settings.png:
        _write_pngs(folder / "png", record, affine)


def _write_pngs(folder: Path, record: CaseRecord, affine: np.ndarray) -> None:
    """Every slice and projections; once more with lines around regions, where that is chosen."""
    rgb, rank = np.asarray(record.result.rgb), np.asarray(record.on_grid)
    highest = rank[0] if len(rank) == 1 else None
    write_pngs(folder, rgb, affine)
    write_mip(folder, rgb, affine, rank=highest)
    if record.settings.contours and (regions := outlines_of(record)):
        write_pngs(folder, rgb, affine, prefix="outlined", regions=regions)
        write_mip(
            folder, rgb, affine, rank=highest, prefix="outlined_mip", frames=0, regions=regions
        )


def _write_dicom(folder: Path, record: CaseRecord, layout: Layout) -> None:
    from medfuse.dicom_out import Origin, Pictures, SourceSeries, write_dicom

    result = record.result
    sources = [image.meta.get("source") or {} for image in (record.anat, record.func)]
    origin = Origin(
        anatomical=SourceSeries.from_volume(record.anat),
        functional=SourceSeries.from_volume(record.func),
        grid=Grid.from_volume(record.anat),
        key=record.key,
        salt=record.uid_salt or case_secret(sources),
        description=_description(result),
        patient=record.patient,
    )
    pictures = Pictures(
        rgb=np.asarray(result.rgb),
        weights=np.asarray(result.weights)[0],
        matrix=None if record.registration.bends else record.registration.matrix,
        windows=(result.anatomical_window, result.window),
        colormap=result.colormap,
        regions=outlines_of(record) if record.settings.contours else None,
        contours=record.settings.contours,
    )
    write_dicom(folder, origin, pictures, layout)
    if record.measured is not None and record.measured.objects is not None:
        record.measured.objects.write(folder)


def _description(result: FusionResult) -> str:
    """What was done, for people who find the picture alone."""
    window, guide = result.window, result.method
    shown = f"{window.low:g} to {window.high:g} {window.unit}" if window else "as given"
    sha256 = guide.weights_sha256
    return (
        f"medfuse {medfuse.__version__}: functional image ({shown}, color map {result.colormap}) "
        f"resampled to the anatomical grid; luminance blended by method {guide.name}"
        + (f" (weights sha256 {sha256[:16]})" if sha256 else "")
        + f". {SHORT_NOTICE}"
    )


def gamut_change(colours: Any, luminance_file: Any, gamut: str) -> np.ndarray:
    """What the gamut policy changed, (1, X, Y, Z), of RGB (3, ...) and luminance (1, ...).

    Luminance of the picture less that of the luminance file; of a two-way map, in which the whole
    luminance lies in a band by design, only what was beyond [0, 1].
    """
    rgb, luminance = np.asarray(colours), np.asarray(luminance_file)[0]
    if gamut == "band":
        return np.asarray(luminance.clip(0, 1) - luminance)[None]
    change = empty((1, *luminance.shape)).numpy()
    for z in range(0, luminance.shape[-1], SLICES):
        part = np.s_[..., z : z + SLICES]
        gap = np.tensordot(LUMA, rgb[part], 1) - luminance[part]
        gap[np.abs(gap) < ROUNDING] = 0
        change[0][part] = gap
    return change


def report_volumes(record: CaseRecord) -> ReportVolumes:
    """What the report shows of a case, with the functional volume before registration."""
    result, on_grid = record.result, record.on_grid
    values = np.asarray(on_grid)[0]
    before, elsewhere = _before(record), _elsewhere(record)
    positions = {"before": _start(record)} if before is not None else {}
    others = record.registration.alternatives
    positions |= {other.name: other.matrix for other in others if other.name in elsewhere}
    return ReportVolumes(
        anatomical=np.asarray(result.anatomical)[0],
        functional=_shown(values, result.window) if result.window else values,
        fused=np.asarray(result.rgb),
        weights=np.asarray(result.weights)[0],
        share=np.asarray(result.share)[0],
        coverage=np.asarray(result.coverage)[0],
        affine=np.asarray(on_grid.affine, dtype=float),
        functional_values=values,
        functional_before=before,
        functional_at=elsewhere,
        error_at=error_at(record.registration),
        displacement_at=displacement_at(record.registration),
        colormap=result.colormap or "gray",
        window=result.window,
        anatomical_window=result.anatomical_window,
        contradiction=contradiction_of(result, on_grid, record.anat, record.audit),
        overlay=None if result.gamut == "overlay" else OVERLAY_MAP,
        regions=outlines_of(record),
        regions_at={name: outlines_of(record, matrix) for name, matrix in positions.items()},
    )


def outlines_of(record: CaseRecord, matrix: np.ndarray | None = None) -> Outlines | None:
    """The regions of a case as pictures outline them; None where none was measured."""
    if record.measured is None:
        return None
    return region_outlines(record.measured, record.registration, matrix)


def contradiction_of(
    result: FusionResult, on_grid: MetaTensor, anat: MetaTensor, audit: Audit
) -> np.ndarray | None:
    """(X, Y, Z) uint8: where the audit has flagged a contradiction; None where it has not.

    Parameters
    ----------
    on_grid : (C, X, Y, Z) MetaTensor
        The functional volume on the anatomical grid.
    audit : Audit
    """
    if not any(check.id == "contradiction" and check.verdict != "pass" for check in audit.checks):
        return None
    sources = Sources(
        functional=on_grid,
        anatomical=anat,
        window=result.window,
        anatomical_window=result.anatomical_window,
        colormap=result.colormap,
        coverage=coverage_of(on_grid, anat),
        gamut=result.gamut,
    )
    return contradictions(sources, result.luminance, result.rgb).numpy()


def error_at(registration: Registration) -> ErrorAt | None:
    """The bound of the error for the map of the report; None where nothing was measured."""
    return registration.error_within_mm if registration.expected else None


def displacement_at(registration: Registration) -> ErrorAt | None:
    """Length of the displacement for the map of the report, mm; None without a deformation."""
    deformation = registration.deformation
    if deformation is None or not registration.bends:
        return None
    return lambda points: np.asarray(np.linalg.norm(deformation.shifts(points), axis=-1))


def _before(record: CaseRecord) -> np.ndarray | None:
    """The functional volume where registration began; None where it was not moved."""
    registration = record.registration
    start, window = _start(record), record.result.window
    unchanged = np.array_equal(start, registration.matrix) and not registration.bends
    if unchanged or window is None:
        return None
    unmoved = replace(registration, matrix=start, deformation=None).resample(record.func)
    return _shown(np.asarray(unmoved)[0], window)


def _start(record: CaseRecord) -> np.ndarray:
    """Where registration began, anatomical point -> functional point, RAS mm."""
    return np.eye(4) if record.initial is None else record.initial


def _elsewhere(record: CaseRecord) -> dict[str, np.ndarray]:
    """The functional volume at other positions, where the registration is in doubt."""
    registration, window = record.registration, record.result.window
    if registration.verdict == "good" or window is None:
        return {}
    centre = registration.fixed_grid.centre
    here = transform_points(registration.matrix, centre)
    return {
        other.name: _shown(
            np.asarray(
                replace(registration, matrix=other.matrix, deformation=None).resample(record.func)
            )[0],
            window,
        )
        for other in registration.alternatives
        if np.linalg.norm(transform_points(other.matrix, centre) - here) > APART_MM
        or rotation_angle(other.matrix @ registration.inverse) > APART_DEG
    }


def _shown(values: np.ndarray, window: Window) -> np.ndarray:
    """(X, Y, Z) in its window, [0, 1]."""
    shown = empty(values.shape).numpy()
    for x in range(0, len(values), SLICES):
        shown[x : x + SLICES] = apply_window(values[x : x + SLICES], window)
    return shown


def provenance_of(record: CaseRecord, timing: dict[str, float]) -> dict[str, Any]:
    """The record of a case, as ``provenance.json`` holds it but for the hashes of its outputs."""
    result = record.result
    windows = {
        "functional": asdict(result.window) if result.window else None,
        "anatomical": asdict(result.anatomical_window) if result.anatomical_window else None,
    }
    registration = record.registration.to_dict()
    start: dict[str, Any] = {"seed": record.settings.seed, "initial": record.initial}
    if record.region:
        start["region"] = record.region.to_dict()
    steps = [
        {"name": "register", "parameters": start, "result": registration},
        {"name": "resample", "parameters": {"interpolation": "linear"}, "result": {}},
        {"name": "window", "parameters": windows, "result": {}},
        {"name": "colour", "parameters": {"colormap": result.colormap}, "result": {}},
        {
            "name": "fuse",
            "parameters": {
                "method": result.method.name,
                "mode": result.mode,
                "kernel": result.kernel,
                "levels": result.levels,
                "gamut": result.gamut,
                "bias": record.settings.bias,
                "bounded": record.settings.bounded,
                "chosen": result.chosen or None,
            },
            "result": result.diagnostics,
        },
    ]
    if record.measured is not None:
        steps.append(record.measured.step)
    return build_provenance(
        case=record.case,
        command=record.command,
        key=record.key,
        settings=record.settings.model_dump(mode="json"),
        inputs={"anatomical": record.anat, "functional": record.func},
        steps=steps,
        guide=result.method,
        colormap=result.colormap,
        audit=record.audit.to_dict(),
        notes=record.notes,
        timing=timing,
        uid_salt=record.uid_salt,
        bids=record.bids,
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n")
