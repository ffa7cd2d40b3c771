"""One case, from files to a result folder that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from monai.data import MetaTensor
from pydantic import BaseModel, ConfigDict, Field

import medfuse
from medfuse.audit import Audit, Check
from medfuse.errors import InputError, RegistrationError, SeriesError, UsageError
from medfuse.fusion import FusionResult, Gamut, Mode, fuse
from medfuse.imaging.export import (
    ResultFolder,
    remove_stale,
    write_mip,
    write_nifti,
    write_pngs,
)
from medfuse.imaging.export import is_complete as folder_is_complete
from medfuse.imaging.reader import load
from medfuse.imaging.registration import Registration, register
from medfuse.imaging.windows import apply_window
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.base import get_method
from medfuse.provenance import build_provenance, write_provenance
from medfuse.report import render_report
from medfuse.report_figures import ReportVolumes, write_figures

Progress = Callable[[float, str], None]


class CaseSettings(BaseModel):
    """Everything that changes the pixels of a case; part of the resume key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "swift"
    mode: Mode = "slices"
    kernel: Kernel = "binomial"
    colormap: str | None = None
    gamut: Gamut = "fit"
    bias: float = Field(0.0, ge=-1, le=1)
    registration: Literal["auto", "rigid", "identity"] = "auto"
    preset: Literal["fast", "default", "thorough"] = "default"
    initial: str | None = None
    accept_suspect: bool = False
    allow_patient_mismatch: bool = False
    unit: Literal["auto", "suv"] = "auto"
    window: tuple[float, float] | None = None
    anatomical_window: tuple[float, float] | None = None
    anatomical_modality: str | None = None
    functional_modality: str | None = None
    functional_unit: str | None = None
    anatomical_series: str | None = None
    functional_series: str | None = None
    frame: int | Literal["mean"] | None = None
    seed: int = 0
    png: bool = False


@dataclass(frozen=True)
class CaseResult:
    """What became of one case."""

    case: str
    status: Literal["done", "skipped", "failed"]
    folder: Path | None = None
    code: str | None = None
    message: str | None = None
    verdict: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    timing: dict[str, float] = field(default_factory=dict)


def case_key(anatomical: Path, functional: Path, settings: CaseSettings) -> str:
    """Hash of all that decides a result: input bytes, settings, version, guide weights.

    Raises
    ------
    InputError
        If an input is missing or unreadable.
    """
    parts = {
        "anatomical": _content_hash(anatomical),
        "functional": _content_hash(functional),
        "settings": settings.model_dump(mode="json"),
        "initial": _content_hash(Path(settings.initial)) if settings.initial else None,
        "version": medfuse.__version__,
        "weights": get_method(settings.method).info.weights_sha256,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def is_complete(folder: Path, key: str) -> bool:
    """Whether a finished result with this key lies in ``folder``."""
    return folder_is_complete(folder, key)


def run_case(
    anatomical: Path,
    functional: Path,
    out: Path,
    settings: CaseSettings,
    *,
    case: str,
    command: str = "",
    progress: Progress | None = None,
) -> CaseResult:
    """Load, register, fuse, audit and write one case.

    Parameters
    ----------
    anatomical, functional : Path
        NIfTI file, DICOM series folder, or one file of the series.
    out : Path
        Result folder; replaced as a whole when everything is written.
    settings : CaseSettings
    case : str
        Name for reports; holds no patient data unless the user put it there.
    command : str
        What the user typed, for provenance.
    progress : callable (fraction, text), optional
        Raise from it to cancel; then nothing is written.

    Returns
    -------
    CaseResult
        With ``status="done"``.

    Raises
    ------
    MedfuseError
        One line that says what is wrong and what to do; nothing has been written.
    """
    notify = progress or (lambda fraction, text: None)
    clock = _Clock()
    key = case_key(anatomical, functional, settings)
    with clock("load"):
        notify(0.0, "loading")
        anat, func = load_pair(anatomical, functional, settings)
    with clock("register"):
        registration = align(anat, func, settings, progress=_part(notify, 0.1, 0.5))
        on_grid = registration.resample(func)
    with clock("fuse"):
        result = fuse_case(on_grid, anat, settings, progress=_part(notify, 0.5, 0.7))
        audit = result.audit.with_checks([_registration_check(registration), _unit_check(func)])
    remove_stale(out.parent)
    with ResultFolder(out, case=case, key=key) as folder:
        with clock("write"):
            notify(0.7, "writing")
            _write_images(folder.path, result, on_grid, registration, settings)
            _write_json(folder.path / "audit.json", {**audit.to_dict(), "case": case})
        notes = (*anat.meta["notes"], *func.meta["notes"], *registration.reasons)
        record = _Record(case, command, key, settings, anat, func, registration, result)
        with clock("report"):
            notify(0.85, "report")
            write_figures(folder.path, _report_volumes(record, on_grid))
            write_provenance(folder.path, _provenance(record, audit, notes, clock.seconds))
            render_report(folder.path)
    notify(1.0, "done")
    return CaseResult(
        case=case,
        status="done",
        folder=out,
        verdict=audit.verdict,
        notes=tuple(notes),
        seconds=round(sum(clock.seconds.values()), 3),
        timing=dict(clock.seconds),
    )


def load_pair(
    anatomical: Path, functional: Path, settings: CaseSettings
) -> tuple[MetaTensor, MetaTensor]:
    """Read both images of a case as the settings say.

    Raises
    ------
    SeriesError
        ``E_MIXED_PATIENT`` if the headers name two patients and that was not allowed.
    MedfuseError
        As ``medfuse.load``.
    """
    anat = load(
        anatomical, series=settings.anatomical_series, modality=settings.anatomical_modality
    )
    func = load(
        functional,
        series=settings.functional_series,
        unit=settings.unit,
        frame=settings.frame,
        modality=settings.functional_modality,
        values_in=settings.functional_unit,
    )
    patients = {image.meta["source"].get("patient") for image in (anat, func)} - {None}
    if len(patients) > 1 and not settings.allow_patient_mismatch:
        raise SeriesError(
            "E_MIXED_PATIENT",
            what="Cannot fuse",
            where=f"{anatomical.name} and {functional.name}",
            cause="the headers name two different patients (ID, birth date or sex differ)",
            remedy="Check the pairing, or pass --allow-patient-mismatch if you are certain",
        )
    return anat, func


def align(
    anat: MetaTensor,
    func: MetaTensor,
    settings: CaseSettings,
    *,
    progress: Progress | None = None,
) -> Registration:
    """Register the functional to the anatomical image; refuse a suspect result.

    Raises
    ------
    RegistrationError
        ``E_REGISTRATION`` with the reasons, unless ``settings.accept_suspect``.
    """
    registration = register(
        fixed=anat,
        moving=func,
        method=settings.registration,
        preset=settings.preset,
        initial=read_matrix(Path(settings.initial)) if settings.initial else None,
        seed=settings.seed,
        progress=progress,
    )
    if registration.verdict == "suspect" and not settings.accept_suspect:
        raise RegistrationError(
            "E_REGISTRATION",
            what="Registration is suspect, nothing was fused",
            cause="; ".join(registration.reasons),
            remedy="Give a start with --initial (4x4 text, RAS mm), trust the headers with "
            "--registration identity, or go on with --accept-suspect",
        )
    return registration


def fuse_case(
    on_grid: MetaTensor,
    anat: MetaTensor,
    settings: CaseSettings,
    *,
    weights: np.ndarray | None = None,
    progress: Progress | None = None,
) -> FusionResult:
    """Fuse a functional volume that lies on the anatomical grid, as the settings say.

    ``weights`` (1, X, Y, Z) replays a fusion from its stored map instead of asking the guide.
    """
    try:
        return fuse(
            functional=on_grid,
            anatomical=anat,
            method=settings.method,
            mode=settings.mode,
            colormap=settings.colormap,
            kernel=settings.kernel,
            gamut=settings.gamut,
            bias=settings.bias,
            weights=weights,
            window=settings.window,
            anatomical_window=settings.anatomical_window,
            progress=progress,
        )
    except ValueError as error:
        raise UsageError(
            "E_SETTINGS", what="Cannot fuse", cause=str(error), remedy="Change the option"
        ) from error


def read_matrix(path: Path) -> np.ndarray:
    """Read a 4x4 point map fixed -> moving, RAS mm: plain text, or a ``transform.json`` of ours.

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM`` if the file holds no rigid or affine 4x4 matrix.
    """
    try:
        if path.suffix == ".json":
            matrix = np.asarray(json.loads(path.read_text())["matrix"], dtype=float)
        else:
            matrix = np.loadtxt(path)
    except (OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else "not numbers"
        raise _bad_transform(path, str(cause)) from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise _bad_transform(path, f"expected 4x4 finite numbers, got shape {matrix.shape}")
    if not np.allclose(matrix[3], [0, 0, 0, 1]) or abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise _bad_transform(path, "the last row is not 0 0 0 1 or the matrix is singular")
    return matrix


def _bad_transform(path: Path, cause: str) -> InputError:
    return InputError(
        "E_BAD_TRANSFORM",
        what="Cannot read the initial transform",
        where=path.name,
        cause=cause,
        remedy="Give four lines of four numbers: fixed point -> moving point, RAS, mm",
    )


@dataclass(frozen=True)
class _Record:
    """What provenance needs to know of a finished case."""

    case: str
    command: str
    key: str
    settings: CaseSettings
    anat: MetaTensor
    func: MetaTensor
    registration: Registration
    result: FusionResult


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.seconds[stage] = round(spent, 3)


def _part(notify: Progress, start: float, stop: float) -> Progress:
    return lambda fraction, text: notify(start + (stop - start) * fraction, text)


def _content_hash(path: Path) -> str:
    """sha256 over the sorted hashes of all files: blind to names and order."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        hashes = sorted(hashlib.sha256(f.read_bytes()).hexdigest() for f in files)
    except OSError as error:
        raise InputError(
            "E_UNREADABLE",
            what="Cannot read the input",
            where=path.name,
            cause=error.strerror or type(error).__name__,
            remedy="Check the path and its permissions",
        ) from error
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _registration_check(registration: Registration) -> Check:
    suspect = registration.verdict == "suspect"
    reasons = "; ".join(registration.reasons)
    return Check(
        "registration",
        "Registration",
        registration.overlap,
        "overlap",
        None,
        "fail" if suspect else "pass",
        f"{registration.method}: moved {registration.shift_mm:.1f} mm and "
        f"{registration.rotation_deg:.1f} degrees; mutual information "
        f"{registration.metric_before:.3f} before, {registration.metric_after:.3f} after. "
        + (f"SUSPECT: {reasons}. " if suspect else "")
        + "Mutual information cannot prove accuracy: look at the checkerboard.",
        {"verdict": registration.verdict, "reasons": list(registration.reasons)},
    )


def _unit_check(func: MetaTensor) -> Check:
    unit, modality = func.meta["unit"], func.meta["modality"]
    expected = {"PET": "SUVbw", "CT": "HU"}.get(modality)
    ok = expected is None or unit == expected
    why = next((note for note in func.meta["notes"] if "SUV" in note or "unit" in note.lower()), "")
    return Check(
        "unit",
        "Unit of the functional image",
        float(ok),
        unit,
        None,
        "pass" if ok else "look",
        f"{modality} in {unit}."
        + ("" if ok else f" {expected} was not available: {why or 'the file does not say'}"),
    )


def _write_images(
    folder: Path,
    result: FusionResult,
    on_grid: MetaTensor,
    registration: Registration,
    settings: CaseSettings,
) -> None:
    affine = np.asarray(on_grid.affine, dtype=float)
    volumes = {
        "fused_rgb": result.rgb,
        "luminance": result.luminance,
        "weight_map": result.weights,
        "anatomical_share": result.share,
        "functional_on_anatomical": on_grid,
    }
    for name, volume in volumes.items():
        array = np.asarray(volume)
        write_nifti(folder / f"{name}.nii.gz", array if len(array) == 3 else array[0], affine)
    registration.write_tfm(folder / "transform.tfm")
    _write_json(folder / "transform.json", registration.to_dict())
    if settings.png:
        write_pngs(folder / "png", np.asarray(result.rgb), affine)
        write_mip(folder / "png", np.asarray(result.rgb), affine, rank=np.asarray(on_grid)[0])


def _report_volumes(record: _Record, on_grid: MetaTensor) -> ReportVolumes:
    result = record.result
    values = np.asarray(on_grid)[0]
    return ReportVolumes(
        anatomical=np.asarray(result.anatomical)[0],
        functional=apply_window(values, result.window) if result.window else values,
        fused=np.asarray(result.rgb),
        weights=np.asarray(result.weights)[0],
        share=np.asarray(result.share)[0],
        coverage=np.asarray(result.coverage)[0],
        affine=np.asarray(on_grid.affine, dtype=float),
        functional_values=values,
        functional_before=_before(record),
        colormap=result.colormap or "gray",
        window=result.window,
        anatomical_window=result.anatomical_window,
    )


def _before(record: _Record) -> np.ndarray | None:
    """The functional volume where registration began; None where it was not moved."""
    settings, registration = record.settings, record.registration
    start = read_matrix(Path(settings.initial)) if settings.initial else np.eye(4)
    window = record.result.window
    if np.array_equal(start, registration.matrix) or window is None:
        return None
    unmoved = replace(registration, matrix=start).resample(record.func)
    return apply_window(np.asarray(unmoved)[0], window)


def _provenance(
    record: _Record, audit: Audit, notes: tuple[str, ...], timing: dict[str, float]
) -> dict[str, Any]:
    result = record.result
    windows = {
        "functional": asdict(result.window) if result.window else None,
        "anatomical": asdict(result.anatomical_window) if result.anatomical_window else None,
    }
    registration = record.registration.to_dict()
    steps = [
        {"name": "register", "parameters": {"seed": record.settings.seed}, "result": registration},
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
            },
            "result": {},
        },
    ]
    return build_provenance(
        case=record.case,
        command=record.command,
        key=record.key,
        settings=record.settings.model_dump(mode="json"),
        inputs={"anatomical": record.anat, "functional": record.func},
        steps=steps,
        guide=result.method,
        audit_verdict=audit.verdict,
        notes=notes,
        timing=timing,
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n")
