"""The report of a study: one page over all cases of an output folder."""

from __future__ import annotations
from pathlib import Path


def write_study_report(out: Path) -> Path:
    raise NotImplementedError
