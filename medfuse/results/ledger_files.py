"""What lies in an output folder of many cases: ledgers of the batches, and whole result folders."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medfuse.results.folder import read_manifest

LEDGERS = "batch*.jsonl"  # each shard has its own


SUMMARY = "summary.csv"
#: What archives read of a study, by RO-Crate.
CRATE = "ro-crate-metadata.json"
#: The same, and the numbers of regions of all cases, in the form of BIDS.
TABLES = (
    *("summary.tsv", "summary.json", "measurements.tsv", "measurements.json"),
    *("changes.tsv", "changes.json"),
)
#: A case compared with an earlier one of the same person lies in a folder of its name and this.
SUFFIX = "-followup"
#: What makes a folder a comparison of two times.
FOLLOW_UP = "followup.json"
_MAX_LINE = 1 << 24  # bytes of an event; names of all cases of a large study


def result_folders(out: Path) -> Iterator[Path]:
    """Whole result folders of an output folder, by name."""
    for name in sorted(os.listdir(out)):
        if not name.startswith(".") and read_manifest(out / name) is not None:
            yield out / name


def follow_up_folders(out: Path) -> Iterator[Path]:
    """Comparisons of two times in an output folder, by name."""
    for name in sorted(os.listdir(out)):
        if not name.startswith(".") and (out / name / FOLLOW_UP).is_file():
            yield out / name


def not_paired(out: Path) -> list[dict[str, Any]]:
    """Subjects that the last batch could make no case of, with code and message."""
    found: list[dict[str, Any]] = []
    for event in ledger_events(out):
        subjects = event.get("not_paired")
        if event.get("event") == "batch-start" and isinstance(subjects, list):
            found = [item for item in subjects if isinstance(item, dict) and item.get("case")]
    return found


def ledger_events(out: Path) -> Iterator[dict[str, Any]]:
    """Events of all batches and shards on an output folder; unfinished lines are left out."""
    for path in sorted(out.glob(LEDGERS)):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE):
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event
