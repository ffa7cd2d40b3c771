"""The report of a study: one page over all cases of an output folder, the odd ones first."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import medfuse
from medfuse.report.page import PICTURE_BUDGET, data_uri, render
from medfuse.report.regions import study_regions
from medfuse.results.folder import read_json, write_through
from medfuse.results.ledger_files import LEDGERS, SUMMARY, ledger_events, not_paired, result_folders

FINAL = frozenset({"done", "skipped", "failed"})
RANK = {"fail": 0, "look": 1, "pass": 2}
THUMBNAIL_HEIGHT = 96
_MAX_THUMBNAIL = 1 << 24  # pixels of one that a case wrote
MIN_CASES = 5
ODD = 3.5
_REGISTRATION = {"shift_mm": "Shift", "rotation_deg": "Rotation", "metric_after": "Similarity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """What the study page says about one finished case; a study may have 10,000.

    Attributes
    ----------
    worries : tuple of str
        Titles of the checks that did not pass.
    numbers : dict
        What is compared between the cases, by title.
    """

    name: str
    verdict: str
    worries: tuple[str, ...]
    modality: str
    unit: str
    registration: str
    shift_mm: float
    overlap: float
    notice: str
    numbers: dict[str, float]
    oddity: float = 0.0
    odd: str = ""


def write_study_report(out: Path) -> Path:
    """Write ``study.html`` into an output folder.

    Finished cases come from the result folders, failures from ``batch.jsonl`` (or, without one,
    ``summary.csv``): the last word on each case counts.

    Parameters
    ----------
    out : Path
        Folder of result folders.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    out = Path(out)
    rows = _with_oddity([row for folder in result_folders(out) if (row := _row(folder))])
    rows.sort(key=lambda row: (RANK[row.verdict], -row.oddity, row.name))
    regions, left_out = study_regions(out)
    page = render(
        "study.html.j2",
        "study.js",
        study=out.resolve().name,
        version=medfuse.__version__,
        notice=rows[0].notice if rows else "",
        rows=rows,
        failures=_failures(out),
        counts=Counter(row.verdict for row in rows),
        thumbnails=_thumbnails(out, rows),
        min_cases=MIN_CASES,
        odd=ODD,
        regions=regions,
        regions_left_out=left_out,
    )
    path = out / "study.html"
    write_through(path, page.encode())
    return path


def _row(folder: Path) -> CaseRow | None:
    """None for a result folder that somebody has taken apart."""
    try:
        audit, provenance, transform = (
            read_json(folder / f"{name}.json") or {}
            for name in ("audit", "provenance", "transform")
        )
        numbers = {sys.intern(c["title"]): c["value"] for c in audit["checks"]}
        numbers |= {title: transform[name] for name, title in _REGISTRATION.items()}
        functional = provenance["inputs"]["functional"]
        row = CaseRow(
            name=folder.name,
            verdict=audit["verdict"],
            worries=tuple(
                sys.intern(c["title"]) for c in audit["checks"] if c["verdict"] != "pass"
            ),
            modality=sys.intern(functional["modality"]),
            unit=sys.intern(functional["unit"]),
            registration=sys.intern(transform["verdict"]),
            shift_mm=float(transform["shift_mm"]),
            overlap=float(transform["overlap"]),
            notice=sys.intern(provenance["notice"]),
            numbers={k: float(v) for k, v in numbers.items() if isinstance(v, int | float)},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return row if row.verdict in RANK else None


def _with_oddity(rows: list[CaseRow]) -> list[CaseRow]:
    """Find for every case the number that lies farthest from the other cases.

    Distance is the modified z-score: 0.6745 |x - median| / MAD (Iglewicz & Hoaglin 1993), with
    MAD not below 1 % of the median, so that rounding is no outlier.
    """
    if len(rows) < MIN_CASES:
        return rows
    farthest = dict.fromkeys((row.name for row in rows), (0.0, ""))
    for title in sorted({title for row in rows for title in row.numbers}):
        having = [row for row in rows if title in row.numbers]
        values = np.array([row.numbers[title] for row in having])
        if np.isin(values, (0, 1)).all():  # yes or no: a verdict says that, and no distance
            continue
        middle = float(np.median(values))
        spread = max(float(np.median(np.abs(values - middle))), 0.01 * abs(middle), 1e-6)
        for row, distance in zip(having, 0.6745 * np.abs(values - middle) / spread, strict=True):
            farthest[row.name] = max(farthest[row.name], (float(distance), title))
    return [
        replace(row, oddity=oddity, odd=title if oddity > ODD else "")
        for row, (oddity, title) in zip(rows, farthest.values(), strict=True)
    ]


def _failures(out: Path) -> list[dict[str, str | None]]:
    """Cases whose last final word is a failure; damaged lines are passed over."""
    failed: dict[str, dict[str, str | None]] = {}
    for event in _events(out):
        case, status = event.get("case"), event.get("status")
        if not case or status not in FINAL:
            continue
        failed.pop(case, None)
        if status == "failed":
            failed[case] = {key: event.get(key) for key in ("case", "code", "message")}
    return [*failed.values(), *not_paired(out)]


def _events(out: Path) -> Iterable[dict[str, Any]]:
    if any(out.glob(LEDGERS)):
        yield from ledger_events(out)
    elif (out / SUMMARY).is_file():
        with (out / SUMMARY).open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def _thumbnails(out: Path, rows: list[CaseRow]) -> dict[str, str]:
    """Small pictures by case name, until the page would grow beyond its limit."""
    pictures, left = {}, PICTURE_BUDGET
    for row in rows:
        path = out / row.name / "figures" / "thumbnail.png"
        try:
            if not path.is_file():
                continue
            with Image.open(path) as picture:
                if picture.width * picture.height > _MAX_THUMBNAIL:
                    continue
                width = max(1, round(picture.width * THUMBNAIL_HEIGHT / picture.height))
                buffer = io.BytesIO()
                small = picture.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.LANCZOS)
                small.convert("RGB").save(buffer, "JPEG", quality=88, subsampling=0)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        left -= buffer.tell()
        if left < 0:
            break
        pictures[row.name] = data_uri(buffer.getvalue(), "image/jpeg")
    return pictures
