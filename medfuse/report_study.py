"""The report of a study: one page over all cases of an output folder, the odd ones first."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import medfuse
from medfuse.imaging.folder import read_manifest, write_through
from medfuse.report_page import PICTURE_BUDGET, data_uri, render

LEDGERS = "batch*.jsonl"  # each shard has its own
SUMMARY = "summary.csv"
FINAL = frozenset({"done", "skipped", "failed"})
RANK = {"fail": 0, "look": 1, "pass": 2}
THUMBNAIL_HEIGHT = 96
MIN_CASES = 5
ODD = 3.5
_REGISTRATION = {"shift_mm": "Shift", "rotation_deg": "Rotation", "metric_after": "Similarity"}


@dataclass(frozen=True)
class CaseRow:
    """What the study page says about one finished case."""

    name: str
    verdict: str
    audit: dict[str, Any]
    provenance: dict[str, Any]
    transform: dict[str, Any]
    numbers: dict[str, float]
    oddity: float = 0.0
    odd: str = ""

    @property
    def worries(self) -> list[str]:
        """Titles of the checks that did not pass."""
        return [c["title"] for c in self.audit["checks"] if c["verdict"] != "pass"]


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
    rows = _with_oddity([row for folder in _result_folders(out) if (row := _row(folder))])
    rows.sort(key=lambda row: (RANK[row.verdict], -row.oddity, row.name))
    failures = [event for event in _last_events(out).values() if event.get("status") == "failed"]
    page = render(
        "study.html.j2",
        "study.js",
        study=out.resolve().name,
        version=medfuse.__version__,
        notice=rows[0].provenance["notice"] if rows else "",
        rows=rows,
        failures=failures,
        counts=Counter(row.verdict for row in rows),
        thumbnails=_thumbnails(out, rows),
        min_cases=MIN_CASES,
        odd=ODD,
    )
    path = out / "study.html"
    write_through(path, page.encode())
    return path


def _result_folders(out: Path) -> list[Path]:
    return sorted(
        path
        for path in out.iterdir()
        if path.is_dir() and not path.name.startswith(".") and read_manifest(path) is not None
    )


def _row(folder: Path) -> CaseRow | None:
    """None for a result folder that somebody has taken apart."""
    try:
        audit, provenance, transform = (
            json.loads((folder / f"{name}.json").read_text("utf-8"))
            for name in ("audit", "provenance", "transform")
        )
        numbers = {c["title"]: c["value"] for c in audit["checks"]}
        numbers |= {title: transform[name] for name, title in _REGISTRATION.items()}
        is_whole = audit["verdict"] in RANK and "functional" in provenance["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not is_whole:
        return None
    finite = {k: float(v) for k, v in numbers.items() if isinstance(v, int | float)}
    return CaseRow(folder.name, audit["verdict"], audit, provenance, transform, finite)


def _with_oddity(rows: list[CaseRow]) -> list[CaseRow]:
    """Find for every case the number that lies farthest from the other cases.

    Distance is the modified z-score: 0.6745 |x - median| / MAD (Iglewicz & Hoaglin 1993), with
    MAD not below 1 % of the median, so that rounding is no outlier.
    """
    if len(rows) < MIN_CASES:
        return rows
    score: dict[str, list[tuple[float, str]]] = {row.name: [] for row in rows}
    for title in sorted({title for row in rows for title in row.numbers}):
        having = [row for row in rows if title in row.numbers]
        values = np.array([row.numbers[title] for row in having])
        middle = float(np.median(values))
        spread = max(float(np.median(np.abs(values - middle))), 0.01 * abs(middle), 1e-6)
        for row, value in zip(having, values, strict=True):
            score[row.name].append((0.6745 * abs(float(value) - middle) / spread, title))
    found = []
    for row in rows:
        oddity, title = max(score[row.name], default=(0.0, ""))
        found.append(replace(row, oddity=oddity, odd=title if oddity > ODD else ""))
    return found


def _last_events(out: Path) -> dict[str, dict[str, Any]]:
    """The last final word of the ledger on each case; damaged lines are passed over."""
    last = {}
    for event in _events(out):
        if event.get("status") in FINAL and event.get("case"):
            last[str(event["case"])] = event
    return last


def _events(out: Path) -> Iterable[dict[str, Any]]:
    if any(out.glob(LEDGERS)):
        yield from ledger_events(out)
    elif (out / SUMMARY).is_file():
        with (out / SUMMARY).open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def ledger_events(out: Path) -> Iterator[dict[str, Any]]:
    """Events of all batches and shards on an output folder; unfinished lines are left out."""
    for path in sorted(out.glob(LEDGERS)):
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event


def _thumbnails(out: Path, rows: list[CaseRow]) -> dict[str, str]:
    """Small pictures by case name, until the page would grow beyond its limit."""
    pictures, left = {}, PICTURE_BUDGET
    for row in rows:
        try:
            with Image.open(out / row.name / "figures" / "thumbnail.png") as picture:
                width = max(1, round(picture.width * THUMBNAIL_HEIGHT / picture.height))
                buffer = io.BytesIO()
                small = picture.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.LANCZOS)
                small.convert("RGB").save(buffer, "JPEG", quality=88, subsampling=0)
        except OSError:
            continue
        left -= buffer.tell()
        if left < 0:
            break
        pictures[row.name] = data_uri(buffer.getvalue(), "image/jpeg")
    return pictures
