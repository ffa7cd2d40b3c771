"""One case, from files to a result folder that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medfuse
from medfuse.case.early import EarlyPair, read_image, require_windows
from medfuse.case.focus import case_region
from medfuse.case.record import (
    CaseRecord,
    registration_checks,
    unit_check,
    write_case,
)
from medfuse.case.regions import contour_notes, measure_case, region_files
from medfuse.case.start import registered, start_of
from medfuse.errors import (
    InputError,
    OutputError,
    RegistrationError,
    UsageError,
    option,
)
from medfuse.fusion import FusionResult, fuse
from medfuse.fusion.choice import AUTO, CANDIDATES
from medfuse.imaging.grid import Matrix
from medfuse.imaging.located import located
from medfuse.imaging.memory import disk_for_case, memory_limit
from medfuse.imaging.pairing import require_pair
from medfuse.imaging.pet.body_weight import find_weight
from medfuse.imaging.progress import listening
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.devices import find_device
from medfuse.kernel.scratch import on_disk, require_disk, set_aside
from medfuse.measurement.files import Named
from medfuse.measurement.gather import fingerprint
from medfuse.methods.registry import get_method
from medfuse.methods.zoo import shipped_sha256
from medfuse.record.privacy import case_secret, study_salt
from medfuse.record.provenance import Role, bids_fields
from medfuse.registration.deformation import Deformation
from medfuse.registration.region import Region
from medfuse.registration.result import Registration
from medfuse.registration.start import read_matrix
from medfuse.results.export import ResultFolder, remove_stale
from medfuse.results.export import is_complete as folder_is_complete
from medfuse.results.folder import (
    file_sha256,
    input_files,
    read_json,
    read_manifest,
    shown_name,
)
from medfuse.settings import (
    FILES,
    CaseResult,
    CaseSettings,
    Progress,
    file_of,
    fusion_keywords,
    pair_keywords,
    regions_for,
)

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = [
    "CaseResult",
    "CaseSettings",
    "align",
    "case_key",
    "fuse_case",
    "is_complete",
    "load_image",
    "load_pair",
    "read_matrix",
    "run_case",
]

#: Part of the allowed memory from which on files are let go; what is no file comes on top of it.
HELD_SHARE = 0.5


def case_key(anatomical: Path, functional: Path, settings: CaseSettings) -> str:
    """Hash of all that decides a result: input bytes, settings, version, guide weights.

    Raises
    ------
    InputError
        If an input is missing or unreadable.
    """
    files = {name: file_of(settings, name) for name in FILES}
    for name, file in files.items():
        _require_file(file, name)
    initial, region = files["initial"], files["region"]
    parts: dict[str, Any] = {
        "anatomical": _content_hash(anatomical),
        "functional": _content_hash(functional),
        "settings": settings.model_dump(mode="json", exclude={*FILES, "regions"}),
        "initial": _content_hash(initial) if initial else None,
        "regions": fingerprint(region_files(settings, anatomical, functional)),
        "version": medfuse.__version__,
        "weights": _weights_sha256(settings.method),
    }
    if region:
        parts["region"] = [_content_hash(region), *fingerprint([Named.parse(str(settings.region))])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _weights_sha256(method: str) -> str | list[str | None] | None:
    """Of the method, or of all among which medfuse would choose."""
    if method == AUTO:
        return [shipped_sha256(name) for name in CANDIDATES]
    return get_method(method).info.weights_sha256


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
    uid_salt: Path | None = None,
    max_memory_gb: float | None = None,
    replace_other: bool = True,
    early: EarlyPair | None = None,
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
    uid_salt : Path, optional
        File with the secret of the study, with which DICOM UIDs are hashed; made if it is not
        there. Default: a secret of the case.
    max_memory_gb : float, optional
        What the case may hold in memory, by estimate. Where it needs more, its volumes lie in
        nameless files beside `out`: slower, and the same bytes. Also what reading an image may
        take. Default: the machine's memory, and usual limits of reading.
    replace_other : bool
        Also replace a finished result of other images; one of the same images always is.
    early : EarlyPair, optional
        What `read_early` has read of these files with these settings.
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
    case = shown_name(case)
    settings = settings.model_copy(update={"regions": regions_for(settings.regions, case)})
    _require_apart(out, anatomical, functional)
    if settings.dicom:
        from medfuse.dicom_out import DEFORMED, SourceSeries, limits, read_patient, source_uids
        from medfuse.dicom_out.origin import require_highdicom

        require_highdicom()
    find_device(settings.device)
    require_windows(settings)
    _require_colormap(settings.colormap)
    key = case_key(anatomical, functional, settings)
    salt = study_salt(uid_salt) if uid_salt and not settings.keep_uids else None
    told = listening(lambda _, text: notify(0.0, text))
    with clock("load"), told, memory_limit(max_memory_gb):
        notify(0.0, "loading")
        anat, func = load_pair(anatomical, functional, settings, early)
        clock.seconds["load"] = early.seconds if early else 0.0
    if not replace_other:
        _require_same_images(out, anat, func)
    wanted = disk_for_case(
        tuple(anat.shape[-3:]), anatomical.name, max_memory_gb, dicom=bool(settings.dicom)
    )
    with _on_disk(anat, func, out, wanted, max_memory_gb):
        with clock("register"):
            initial, deformation = start_of(settings, anat, func)
            region = case_region(settings, anat, func)
            registration = align(
                anat, func, settings,
                initial=initial, deformation=deformation, region=region,
                progress=_part(notify, 0.1, 0.5),
            )  # fmt: skip
            on_grid = registration.resample(func)
        with clock("fuse"):
            result = fuse_case(on_grid, anat, settings, progress=_part(notify, 0.5, 0.7))
            assert result.audit is not None  # fuse() was not told to leave it out
            audit = result.audit.with_checks([*registration_checks(registration), unit_check(func)])
        files = region_files(settings, anatomical, functional)
        measured = (
            measure_case(settings, files, anat, func, registration, on_grid, result)
            if settings.regions
            else None
        )
        remove_stale(out.parent)
        notes = (*anat.meta["notes"], *func.meta["notes"], *registration.reasons)
        if settings.dicom:
            series = SourceSeries.from_volume(anat), SourceSeries.from_volume(func)
            notes += (*limits(*series), *source_uids(*series))
            notes += DEFORMED if registration.bends else ()
        patient, kept = None, settings.dicom and settings.keep_patient
        if kept:
            patient = read_patient(anatomical, settings.anatomical_series)
        if settings.dicom and measured:
            measured = measured.with_objects(
                func,
                registration,
                salt=salt
                or case_secret([image.meta.get("source") or {} for image in (anat, func)]),
                patient=read_patient(functional, settings.functional_series) if kept else None,
            )
        notes += measured.notes if measured else ()
        notes += contour_notes(settings, measured, registration)
        record = CaseRecord(
            case=case,
            command=command,
            key=key,
            settings=settings,
            anat=anat,
            func=func,
            registration=registration,
            initial=initial,
            region=region,
            on_grid=on_grid,
            result=result,
            audit=audit,
            notes=notes,
            uid_salt=salt,
            bids=bids_fields(anatomical, functional),
            patient=patient,
            measured=measured,
        )
        with ResultFolder(out, case=case, key=key) as folder, clock("write"):
            timing = dict(clock.seconds)
            write_case(folder.path, record, timing=timing, progress=_part(notify, 0.7, 1.0))
    notify(1.0, "done")
    return CaseResult(
        case=case,
        status="done",
        folder=out,
        verdict=audit.verdict,
        chosen=f"{result.method.name} ({result.chosen})" if result.chosen else None,
        notes=(*notes, *(measured.problems if measured else ())),
        seconds=round(sum(clock.seconds.values()), 3),
        timing=dict(clock.seconds),
    )


def _require_apart(out: Path, *images: Path) -> None:
    """Refuse a result within the folder of an image, which would be read with it the next time."""
    target = Path(os.path.realpath(out))
    for image in images:
        if image.is_dir() and target.is_relative_to(os.path.realpath(image)):
            raise UsageError(
                "E_OUTPUT_IN_INPUT",
                what="Cannot write the result",
                where=shown_name(out.name),
                cause="it would lie within the folder of an input image",
                remedy="Choose a folder outside of it",
            )


def _require_colormap(name: str | None) -> None:
    """Refuse an unknown color map before the images are registered for it."""
    if name is not None and name not in COLORMAPS:
        raise UsageError(
            "E_SETTINGS",
            what="Cannot fuse",
            cause=f"{option('colormap', name)} is no color map of medfuse; known are "
            f"{', '.join(COLORMAPS)}",
            remedy="Choose one of these",
        )


def _require_same_images(out: Path, anat: MetaTensor, func: MetaTensor) -> None:
    """Refuse to replace a finished result of another pair."""
    if read_manifest(out) is None:
        return
    try:
        inputs = (read_json(out / "provenance.json") or {})["inputs"]
        before = [inputs[role]["sha256"] for role in ("anatomical", "functional")]
    except (KeyError, TypeError):
        before = []
    if before != [image.meta["source"].get("sha256") for image in (anat, func)]:
        raise OutputError(
            "E_OTHER_RESULT",
            what="Cannot write the result",
            where=out.name,
            cause="the folder holds a finished result of other images",
            remedy=f"Choose another folder, or replace that result with {option('force', 'True')}",
        )


@contextmanager
def _on_disk(
    anat: MetaTensor, func: MetaTensor, out: Path, wanted: int, limit_gb: float | None
) -> Iterator[None]:
    """Let the volumes of a case lie in `wanted` bytes of disk beside its result; 0: in memory."""
    if not wanted or limit_gb is None:
        yield
        return
    folder = next(parent for parent in out.absolute().parents if parent.is_dir())
    require_disk(folder, wanted)
    with on_disk(folder, HELD_SHARE * limit_gb * 2**30):
        for volume in (anat, func):
            volume.data = set_aside(volume.as_tensor())
        yield


def load_pair(
    anatomical: Path, functional: Path, settings: CaseSettings, early: EarlyPair | None = None
) -> tuple[MetaTensor, MetaTensor]:
    """Read both images of a case as the settings say, or take what was read early.

    Raises
    ------
    SeriesError
        ``E_MIXED_PATIENT`` if the files name two patients and that was not allowed.
    UsageError
        ``E_ROLES``, ``E_SAME_IMAGE`` as `medfuse.imaging.pairing.require_pair`.
    MedfuseError
        As ``medfuse.load``.
    """
    if early is None:
        anat = load_image(anatomical, "anatomical", settings)
        func = load_image(functional, "functional", settings)
    else:
        anat, func = (located(volume) for volume in early.take())
    require_pair(anat, func, **pair_keywords(settings))
    return anat, func


def load_image(path: Path, role: Role, settings: CaseSettings) -> MetaTensor:
    """Read one image of a case as the settings say; errors as `read_image`."""
    return located(read_image(path, role, settings))


def align(
    anat: MetaTensor,
    func: MetaTensor,
    settings: CaseSettings,
    *,
    initial: Matrix | None = None,
    deformation: Deformation | None = None,
    region: Region | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Register the functional to the anatomical image; refuse a suspect result.

    ``initial`` and ``deformation`` are what `start_of` read, ``region`` what `case_region` read; by
    default they are read here.

    Raises
    ------
    RegistrationError
        ``E_REGISTRATION`` with the reasons, unless ``settings.accept_suspect``.
    """
    if initial is None:
        initial, deformation = start_of(settings, anat, func)
    if region is None:
        region = case_region(settings, anat, func)
    registration = registered(
        settings, anat, func,
        start=(initial, deformation), region=region, progress=progress, **pair_keywords(settings),
    )  # fmt: skip
    if registration.verdict == "suspect" and not settings.accept_suspect:
        go_on = option("accept_suspect", "True")
        raise RegistrationError(
            "E_REGISTRATION",
            what="Registration is suspect, nothing was fused",
            cause="; ".join(registration.reasons),
            remedy=f"Search with {option('registration', 'rigid')}, or go on with {go_on}"
            if settings.registration == "identity"
            else f"Give a start with {option('initial', 'FILE')}, choose a position with "
            f"{option('choose', 'headers')}, or go on with {go_on}",
        )
    return registration


def fuse_case(
    on_grid: MetaTensor,
    anat: MetaTensor,
    settings: CaseSettings,
    *,
    weights: Any = None,
    progress: Progress | None = None,
) -> FusionResult:
    """Fuse a functional volume that lies on the anatomical grid, as the settings say.

    ``weights`` replays a fusion from its stored maps instead of asking the guide, as `fuse` does.
    """
    try:
        return fuse(
            functional=on_grid,
            anatomical=anat,
            method=settings.method,
            weights=weights,
            progress=progress,
            **fusion_keywords(settings),
        )
    except ValueError as error:
        raise UsageError(
            "E_SETTINGS", what="Cannot fuse", cause=str(error), remedy="Change the setting"
        ) from error


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


def _require_file(path: Path | None, name: str) -> None:
    """Refuse to wait for a pipe."""
    if path and path.exists() and not path.is_file():
        is_start = name == "initial"
        raise InputError(
            "E_BAD_TRANSFORM" if is_start else "E_REGION",
            what="Cannot read the initial transform" if is_start else "Cannot use the region",
            where=shown_name(path.name),
            cause="it is no file",
            remedy="Give a file",
        )


def _content_hash(path: Path) -> str:
    """sha256 over the sorted hashes of all files, sidecar included: blind to names and order."""
    try:
        hashes = sorted(file_sha256(file) for file in input_files(path))
        hashes.append(str(find_weight(path).kg or ""))  # a corrected weight changes the SUV
    except OSError as error:
        raise InputError(
            "E_UNREADABLE",
            what="Cannot read the input",
            where=path.name,
            cause=error.strerror or type(error).__name__,
            remedy="Check the path and its permissions",
        ) from error
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
