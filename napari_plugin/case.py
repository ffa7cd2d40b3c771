"""What the panel shares with the command line: the checks of a case and its result folder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfuse.audit import Check
from medfuse.errors import UsageError
from medfuse.settings import CaseSettings, names_in
from napari_plugin.jobs import Job, Progress

if TYPE_CHECKING:
    from medfuse.fusion import FusionResult
    from medfuse.registration.result import Registration
    from napari_plugin.records import Aligned, Fusion, Pair
    from napari_plugin.source import Source

_NUMBERS = re.compile(r"\[\s+[-+.\de,\s]+\]")  # a list of numbers reads better in one line
COMMAND = "napari: Fuse MRI+PET"


def case_checks(registration: Registration, pair: Pair) -> list[Check]:
    """Checks of registration and unit, as ``medfuse fuse`` has them."""
    from medfuse.case.record import registration_checks, unit_check

    checks = registration_checks(registration)
    return checks if pair.functional.rgb else [*checks, unit_check(pair.functional.volume())]


def contradiction(aligned: Aligned, result: FusionResult) -> Any:
    """(X, Y, Z) uint8 map of a contradiction that the audit has flagged; None without one."""
    from medfuse.case.record import contradiction_of

    assert result.audit is not None  # the panel always asks for it
    anat = aligned.pair.anatomical.volume()
    return contradiction_of(result, aligned.on_grid, anat, result.audit)


def record_text(fusion: Fusion) -> str:
    """Provenance of a fusion as JSON text, without files and the rows of the colour map."""
    from medfuse.case.record import provenance_of

    record = provenance_of(_record(fusion, case=case_name(fusion), key=case_key(fusion)), {})
    if record["colormap"]:
        record["colormap"]["table"] = [f"{len(record['colormap']['table'])} rows"]
    text = json.dumps(record, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)


def export_job(fusion: Fusion, out: Path, chosen: CaseSettings | None = None) -> Job:
    """Write a result folder as ``medfuse fuse`` does; value is the folder.

    Volumes, transform, audit and figures have the same bytes as those of the command line with
    the same images and settings. What is written (PNG, DICOM, names) is as `chosen` now, the
    picture as it was fused.
    """
    fusion = replace(fusion, settings=with_output(fusion.settings, chosen or fusion.settings))

    def work(progress: Progress) -> Path:
        from medfuse.case.record import write_case
        from medfuse.results.export import ResultFolder

        _require_unedited(fusion)
        if fusion.settings.dicom:
            from medfuse.dicom_out import require_highdicom

            require_highdicom()
        record = _record(fusion, case=out.name, key=case_key(fusion))
        with ResultFolder(out, case=record.case, key=record.key) as folder:
            write_case(folder.path, record, progress=progress)
            progress(0.95, "finishing")
        return out

    return Job(f"Writing {out.name}", work, commits=True)


def with_output(settings: CaseSettings, chosen: CaseSettings) -> CaseSettings:
    """Settings of a picture with those of the output that are chosen now."""
    names = names_in(("Output",))
    return settings.model_copy(update={name: getattr(chosen, name) for name in names})


def _require_unedited(fusion: Fusion) -> None:
    """Refuse to write what was fused from voxels that are no longer there."""
    if fusion.opened:
        raise UsageError(
            "E_EDITED",
            what="Cannot write the result",
            where=fusion.opened,
            cause="it was opened from its folder, which holds all of it",
            remedy="Copy the folder; or open both images and press Fuse",
        )
    sources = (fusion.pair.anatomical, fusion.pair.functional)
    for source, content in zip(sources, fusion.contents, strict=True):
        if source.checksum() != content:
            raise UsageError(
                "E_EDITED",
                what="Cannot write the result",
                where=source.name,
                cause="the voxels of the layer were changed after it was fused",
                remedy="Press Fuse, and export the new result",
            )


def case_name(fusion: Fusion) -> str:
    """Name of a case that was not named by the user."""
    return " + ".join(fusion.pair.words)


def case_key(fusion: Fusion) -> str:
    """Resume key: of the command line where both images came from files, else of the voxels."""
    from medfuse.case import pipeline

    pair, settings = fusion.pair, fusion.settings
    paths = [source.path for source in (pair.anatomical, pair.functional)]
    if all(path is not None and Path(path).exists() for path in paths) and not _is_painted(fusion):
        return str(pipeline.case_key(Path(paths[0]), Path(paths[1]), settings))
    parts = [_voxels(source) for source in (pair.anatomical, pair.functional)]
    region = fusion.aligned.region
    if region is not None:
        parts.append(hashlib.sha256(np.packbits(region.inside).tobytes()).hexdigest())
    text = json.dumps([*parts, settings.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_painted(fusion: Fusion) -> bool:
    """Whether the region that had to fit is no file, so that no command line has the same key."""
    return fusion.aligned.region is not None and fusion.settings.region is None


def _record(fusion: Fusion, *, case: str, key: str) -> Any:
    from medfuse.case.record import CaseRecord
    from medfuse.case.start import start_matrix

    anat, func = fusion.pair.anatomical.volume(), fusion.pair.functional.volume()
    notes, patient = _of_dicom(fusion, anat, func)
    settings = fusion.settings
    if _is_painted(fusion):  # the record says that there was one, and has its voxels
        settings = settings.model_copy(update={"region": "painted"})
    return CaseRecord(
        case=case,
        command=COMMAND,
        key=key,
        settings=settings,
        anat=anat,
        func=func,
        registration=fusion.registration,
        initial=start_matrix(fusion.settings, anat, func),
        region=fusion.aligned.region,
        on_grid=fusion.on_grid,
        result=fusion.result,
        audit=fusion.audit,
        notes=(
            *anat.meta["notes"],
            *func.meta["notes"],
            *fusion.registration.reasons,
            *notes,
        ),
        patient=patient,
    )


def _of_dicom(fusion: Fusion, anat: Any, func: Any) -> tuple[tuple[str, ...], Any]:
    """Remarks on DICOM output, and the patient whom it names; nothing where none is wanted."""
    settings, source = fusion.settings, fusion.pair.anatomical
    if not settings.dicom:
        return (), None
    from medfuse.dicom_out import DEFORMED, SourceSeries, limits, read_patient, source_uids

    series = SourceSeries.from_volume(anat), SourceSeries.from_volume(func)
    notes = (*limits(*series), *source_uids(*series))
    notes += DEFORMED if fusion.registration.deformation else ()
    if not settings.keep_patient or source.path is None:
        return notes, None
    return notes, read_patient(Path(source.path), settings.anatomical_series)


def _voxels(source: Source) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(source.data).data)
    digest.update(source.affine.tobytes())
    return digest.hexdigest()
