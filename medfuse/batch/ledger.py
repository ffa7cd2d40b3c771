"""What a batch leaves behind beside its results: the ledger and the summary."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import medfuse
from medfuse.batch.figures import AUDIT, FIGURES, figures_of
from medfuse.results.folder import BIDS_DESCRIPTION, read_json, write_through, writing
from medfuse.results.ledger_files import SUMMARY, ledger_events, not_paired, result_folders
from medfuse.settings import CaseResult
from medfuse.study.scan import LEDGER, dataset_type
from medfuse.study.spill import Spill

COLUMNS = ("case", "status", "verdict", "code", "seconds", "message", "notes", "report")
BIDS_VERSION = "1.10.0"
MAX_LEVELS = 4  # of folders between an output and the data set that it lies in

# A spreadsheet would run such a cell as a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Ledger:
    """Append-only record of a batch, one JSON line an event, safe on disk before it goes on.

    A line that a power cut left unfinished stays alone and harms no other.
    """

    def __init__(self, out: Path, name: str = LEDGER) -> None:
        self._path = out / name

    def __enter__(self) -> Self:
        with writing(self._path):
            self._file = self._path.open("ab+", buffering=0)
            end = self._file.seek(0, os.SEEK_END)
            if end:
                self._file.seek(end - 1)
                if self._file.read(1) != b"\n":
                    self._file.write(b"\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, event: dict[str, Any]) -> None:
        """Append an event with the time; the order of lines counts, clocks are set back.

        Raises
        ------
        OutputError
            ``E_WRITE``: the disk is full, or the output folder was removed meanwhile.
        """
        stamped = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
        # What is no UTF-8 in a name stays an escape of JSON.
        line = json.dumps(stamped, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        with writing(self._path):
            if not self._is_in_place():
                raise OSError(errno.ENOENT, "it was removed or replaced while the batch ran")
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())

    def _is_in_place(self) -> bool:
        """Whether the open file is the one that readers of the output folder see."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        return False


def read_ledger(out: Path) -> list[dict[str, Any]]:
    """Events of all batches and shards on an output folder; unfinished lines are left out."""
    return list(ledger_events(out))


@dataclass(frozen=True)
class BatchSummary:
    """What became of a study.

    Attributes
    ----------
    exit_code : int
        0 all well, 3 no case, 4 output not writable, 8 some cases failed, 130 interrupted.
    not_run : tuple of str
        Cases that were not begun or not ended.
    """

    out: Path
    results: Sequence[CaseResult]
    exit_code: int
    not_run: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)

    def count(self, status: str) -> int:
        """Cases with a status."""
        return self.counts.get(status, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the folders relative to the output."""
        return {
            "exit_code": self.exit_code,
            **{status: self.count(status) for status in ("done", "skipped", "failed")},
            "not_run": list(self.not_run),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "cases": [result_fields(result) for result in self.results],
        }


def result_fields(result: CaseResult) -> dict[str, Any]:
    """Plain values of a result, without the path of its folder."""
    return {
        "case": result.case,
        "status": result.status,
        "verdict": result.verdict,
        "code": result.code,
        "message": result.message,
        "seconds": result.seconds,
        "timing": result.timing,
        "notes": list(result.notes),
    }


def write_summary(out: Path) -> None:
    """Write summary.csv, a line a case: the last word of the ledgers on each.

    Whole result folders that no ledger knows any more are lines, too.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    path, temporary = out / SUMMARY, out / f"{SUMMARY}.tmp"
    with writing(path):
        rows: Spill[dict[str, Any]] = Spill(dict, dict)
        checks: dict[str, None] = {}
        with contextlib.closing(_last_words(out)) as table:
            for (text,) in table.execute("select event from last order by rowid"):
                row = _summary_row(out, json.loads(text))
                checks |= {name: None for name in row if name.startswith(AUDIT)}
                rows.append(row)
        for subject in not_paired(out):
            rows.append({**subject, "status": "not paired"})
        with temporary.open("w", newline="", encoding="utf-8") as file:
            columns = (*COLUMNS, *FIGURES, *checks)
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({name: _safe(row.get(name)) for name in columns})
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def _summary_row(out: Path, event: dict[str, Any]) -> dict[str, Any]:
    """The last word on a case, with the figures of its result where that is what it tells of."""
    folder = out / event["case"]
    has_report = (folder / "report.html").is_file()
    is_there = event.get("status") in ("done", "skipped")
    return {name: event.get(name) for name in COLUMNS} | {
        "notes": " | ".join(event.get("notes", ())),
        "report": f"{event['case']}/report.html" if has_report else "",
        **(figures_of(folder) if is_there else {}),
    }


def _last_words(out: Path) -> sqlite3.Connection:
    """The last event on each case, in a temporary table on disk: a study may be long."""
    table = sqlite3.connect("")
    table.execute("create table last (name text primary key, event text)")
    for case, event in _words(out):
        newer = "update set event = ?2" if event.get("event") == "case-end" else "nothing"
        table.execute(
            f"insert into last values (?, ?) on conflict (name) do {newer}",
            (case, json.dumps(event)),
        )
    for folder in result_folders(out):  # of a ledger that was lost or cut
        if not table.execute("select 1 from last where name = ?", (folder.name,)).fetchone():
            event = {"case": folder.name, "status": "done", "verdict": read_verdict(folder)}
            table.execute("insert into last values (?, ?)", (folder.name, json.dumps(event)))
    return table


def _words(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in ledger_events(out):
        if event.get("event") == "case-end" and event.get("case"):
            yield event["case"], event
        elif event.get("event") == "batch-end":
            for case in event.get("not_run", ()):
                yield case, {"case": case, "status": "not run"}


def read_verdict(folder: Path) -> str | None:
    """Verdict of the audit in a result folder, None where it cannot be read."""
    verdict = (read_json(folder / "audit.json") or {}).get("verdict")
    return None if verdict is None else str(verdict)


def write_description(out: Path) -> None:
    """Describe an output folder as a BIDS derivative.

    In a folder inside a BIDS data set it also says what ``bids:raw:`` in provenance.json is; the
    way to a data set elsewhere would name folders, and is left to the user.
    """
    parents = list(out.resolve().parents)[:MAX_LEVELS]
    levels = next((n for n, p in enumerate(parents, 1) if dataset_type(p) == "raw"), 0)
    describe_data_set(out, "/".join([".."] * levels) or None)


def describe_data_set(out: Path, raw: str | None) -> None:
    """Write the dataset_description.json of a derivative; `raw` is the way to the raw data set."""
    content: dict[str, Any] = {
        "Name": "medfuse results",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "medfuse", "Version": medfuse.__version__}],
    }
    if raw is not None:
        content["DatasetLinks"] = {"raw": raw}
    write_through(out / BIDS_DESCRIPTION, (json.dumps(content, indent=1) + "\n").encode())


def _safe(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    return f"'{text}" if value.startswith(_FORMULA) or text.startswith(_FORMULA) else text
