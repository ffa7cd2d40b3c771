"""Cases for machines that share no storage: inputs travel there, results travel back."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medfuse.batch.remote import run_apart
from medfuse.batch.worker import Job
from medfuse.imaging.bids import data_set_of
from medfuse.imaging.pet.body_weight import table_files
from medfuse.results.folder import MANIFEST, ResultFolder, input_files
from medfuse.settings import FILES, split_region


@dataclass(frozen=True)
class Parcel:
    """A job with its input files; ``files`` is an uncompressed zip."""

    job: Job
    files: bytes


def pack(job: Job) -> Parcel:
    """Put the files of a job (images, sidecars, tables, start, region, salt) into a parcel."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
        for role in ("anatomical", "functional"):
            path = getattr(job, role)
            top = data_set_of(path)
            for file in (*input_files(path), *table_files(path)):
                archive.write(file, f"{role}/{file.absolute().relative_to(top).as_posix()}")
        given = [(name, _file(job.settings.get(name))) for name in FILES]
        for role, single in (*given, ("uid_salt", job.uid_salt)):
            if single:
                archive.write(single, f"{role}/{single.name}")
        regions = _pack_regions(job, archive) if job.settings.get("regions") else ()
    return Parcel(replace(job, settings={**job.settings, "regions": regions}), buffer.getvalue())


def _pack_regions(job: Job, archive: zipfile.ZipFile) -> list[str]:
    """Put files with regions, and tables of their names, into a parcel; return their places."""
    from medfuse.measurement.gather import files_of
    from medfuse.measurement.labels import tables_beside

    places = []
    files = files_of(job.settings["regions"], job.anatomical, job.functional)
    for number, file in enumerate(files):
        folder = Path("regions") / str(number)
        places.append(str(replace(file, path=folder / file.path.name)))
        for path in (file.path, *tables_beside(file.path)):
            if path.is_file():
                archive.write(path, (folder / path.name).as_posix())
    return places


def run_parcel(parcel: Parcel, **options: Any) -> tuple[dict[str, Any], bytes]:
    """Unpack, run the case, and pack what it wrote; nothing stays on this machine."""
    with tempfile.TemporaryDirectory(prefix="medfuse-") as name:
        room = Path(name)
        with zipfile.ZipFile(io.BytesIO(parcel.files)) as archive:
            archive.extractall(room)
        job = parcel.job
        settings = {**job.settings, "regions": list(job.settings.get("regions") or ())}
        for role in FILES:
            if settings.get(role):
                structure, path = split_region(settings[role])
                there = str(room / role / Path(path).name)
                settings[role] = f"{structure}={there}" if structure else there
        for number, given in enumerate(settings["regions"]):
            region, path = split_region(given)
            settings["regions"][number] = f"{region}={room / path}" if region else str(room / path)
        local = replace(
            job,
            anatomical=room / "anatomical" / _below(job.anatomical),
            functional=room / "functional" / _below(job.functional),
            folder=room / "out" / job.folder.name,
            settings=settings,
            uid_salt=room / "uid_salt" / job.uid_salt.name if job.uid_salt else None,
        )
        fields = run_apart(local, **options)
        fields["folder"] = str(job.folder) if fields.get("folder") else None
        return fields, _zip(local.folder) if local.folder.is_dir() else b""


def _file(text: str | None) -> Path | None:
    """The file of ``FILE`` or ``NAME=FILE``."""
    return Path(split_region(text)[1]) if text else None


def _below(path: Path) -> Path:
    """Place of an input below the top of its data set, whose sidecars and tables travel too."""
    return path.absolute().relative_to(data_set_of(path))


def unpack_result(job: Job, content: bytes) -> None:
    """Let a result that came back appear whole in its place.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = json.loads(archive.read(MANIFEST))
        with ResultFolder(job.folder, key=manifest["key"], case=manifest["case"]) as folder:
            names = [name for name in archive.namelist() if name != MANIFEST]
            archive.extractall(folder.path, names)


def _zip(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
        for file in input_files(folder):
            archive.write(file, file.relative_to(folder).as_posix())
    return buffer.getvalue()
