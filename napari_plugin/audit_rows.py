"""Rows of the audit for readers: the worst first, each with its value and limit in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from medfuse.audit import Audit, Check
from medfuse.report.words import limit_in_words, value_in_words

ORDER = {"fail": 0, "look": 1, "pass": 2}


@dataclass(frozen=True)
class Row:
    """One line: ``measured`` in words with its number, ``limit`` ("" where there is none)."""

    check: Check
    title: str
    measured: str
    limit: str

    @property
    def sentence(self) -> str:
        """What was measured and the limit, as one phrase."""
        return f"{self.measured}, {self.limit}" if self.limit else self.measured


def rows_of(audit: Audit) -> list[Row]:
    """All checks of an audit, the worst first, else in their own order."""
    return [row_of(check) for check in sorted(audit.checks, key=lambda c: ORDER[c.verdict])]


def row_of(check: Check) -> Row:
    """One check in words."""
    told = asdict(check)
    return Row(check, check.title, value_in_words(told), limit_in_words(told))
