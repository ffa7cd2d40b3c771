"""The metadata of a whole study for repositories and archives: RO-Crate, as JSON-LD."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import medfuse
from medfuse.errors import NOTICE
from medfuse.imaging.downloads import HOME
from medfuse.results.folder import read_json, shown_name, whole_file, writing
from medfuse.results.ledger_files import (
    CRATE,
    SUMMARY,
    TABLES,
    follow_up_folders,
    result_folders,
)

_PROFILE = "https://w3id.org/ro/crate/1.1"
_TYPES = {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json",
          ".html": "text/html"}  # fmt: skip
_ABOUT = {
    "study.html": "Overview of all cases, for people",
    SUMMARY: "One line a case: status, verdict, figures",
    "summary.tsv": "The same as tab-separated values",
    "summary.json": "Meaning of the columns of summary.tsv",
    "measurements.tsv": "Numbers of regions of all cases",
    "measurements.json": "Meaning of the columns of measurements.tsv",
    "changes.tsv": "Changes of regions of all cases since their baseline",
    "changes.json": "Meaning of the columns of changes.tsv",
}


def write_crate(out: Path) -> Path:
    """Write ``ro-crate-metadata.json`` into an output folder of many cases.

    It names the folder of each case, with its verdict, the tables and the software. Names are
    those of the case folders; nothing else is known of persons.

    Raises
    ------
    OutputError
        ``E_WRITE``.

    References
    ----------
    RO-Crate Metadata Specification 1.1, w3id.org/ro/crate/1.1.
    """
    path = out / CRATE
    papers = [name for name in ("study.html", SUMMARY, *TABLES) if (out / name).is_file()]
    parts = [_identifier(name) for name in papers]
    with writing(path), whole_file(path) as file:
        file.write(f'{{\n "@context": "{_PROFILE}/context",\n "@graph": [\n'.encode())
        for case in chain(_cases(out), _comparisons(out)):  # one at a time: a study may be long
            parts.append(case["@id"])
            file.write(f"  {json.dumps(case)},\n".encode())
        for name in papers:
            file.write(f"  {json.dumps(_paper(name))},\n".encode())
        last = [*_software(), _root(parts)]
        file.write(",\n".join(f"  {json.dumps(entity)}" for entity in last).encode())
        file.write(b"\n ]\n}\n")
    return path


def _cases(out: Path) -> Iterator[dict[str, Any]]:
    for folder in result_folders(out):
        audit = read_json(folder / "audit.json") or {}
        name = shown_name(folder.name)
        yield {
            "@id": f"{_identifier(folder.name)}/",
            "@type": "Dataset",
            "name": name,
            "description": f"Fused image of one case; audit: {audit.get('verdict', 'unknown')}. "
            "provenance.json in it names inputs, steps and versions; manifest.json has the SHA-256 "
            "of every file; volumes.json has the units.",
        }


def _comparisons(out: Path) -> Iterator[dict[str, Any]]:
    for folder in follow_up_folders(out):
        yield {
            "@id": f"{_identifier(folder.name)}/",
            "@type": "Dataset",
            "name": shown_name(folder.name),
            "description": "A case compared with an earlier one of the same person; followup.json "
            "in it names both and has the SHA-256 of every file.",
        }


def _paper(name: str) -> dict[str, Any]:
    return {
        "@id": _identifier(name),
        "@type": "File",
        "name": name,
        "description": _ABOUT.get(name, ""),
        "encodingFormat": _TYPES.get(Path(name).suffix, "application/octet-stream"),
    }


def _software() -> Iterator[dict[str, Any]]:
    yield {
        "@id": f"{HOME}#v{medfuse.__version__}",
        "@type": "SoftwareApplication",
        "name": "medfuse",
        "version": medfuse.__version__,
        "url": HOME,
    }
    yield {
        "@id": "#rights",
        "@type": "CreativeWork",
        "name": "Rights of the source images",
        "description": "The images belong to whom the source images belong to; medfuse does not "
        f"know their license. {NOTICE}",
    }
    yield {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _PROFILE},
        "about": {"@id": "./"},
    }


def _root(parts: list[str]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": "Fused images made by medfuse",
        "description": "MRI fused with PET, SPECT or CT of the same person, each case with its "
        f"audit and record. {NOTICE}",
        "datePublished": now.date().isoformat(),
        "license": {"@id": "#rights"},
        "hasPart": [{"@id": part} for part in parts],
    }


def _identifier(name: str) -> str:
    """A file name as a relative address."""
    return quote(shown_name(name))
