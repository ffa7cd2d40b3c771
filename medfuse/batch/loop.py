"""The parent's side of a batch: it alone starts, ends and records cases."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import medfuse
from medfuse.batch.crate import write_crate
from medfuse.batch.ledger import (
    BatchSummary,
    Ledger,
    read_verdict,
    result_fields,
    write_description,
    write_summary,
)
from medfuse.batch.lock import BatchLock
from medfuse.batch.pool import Ended, Pool
from medfuse.batch.shard import Shard
from medfuse.batch.tables import write_tables
from medfuse.batch.worker import Job, Runner
from medfuse.errors import MedfuseError, OutputError
from medfuse.report.study import write_study_report
from medfuse.results.folder import remove_stale
from medfuse.results.ledger_files import CRATE
from medfuse.settings import CaseResult
from medfuse.study.spill import Spill

EXIT_OK, EXIT_OUTPUT, EXIT_FAILED, EXIT_INTERRUPTED = 0, 4, 8, 130
#: So many results in a row that could not be written mean that none can be.
MAX_WRITE_FAILURES = 3

OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class Batch:
    """The cases of one call, running and ended."""

    out: Path
    runner: Runner
    pool: Pool
    lock: BatchLock
    ledger: Ledger
    on_event: OnEvent | None
    force: bool
    shard: Shard
    results: Spill[CaseResult] = field(default_factory=lambda: Spill(_encode, _decode))
    counts: dict[str, int] = field(default_factory=dict)
    write_failures: int = 0
    not_paired: list[dict[str, str]] | None = None
    #: What is done when all cases have ended; gives a line for each part of it that failed.
    then: Callable[[threading.Event], list[str]] | None = None

    def run(
        self, jobs: Iterator[Job], total: int, workers: int, stop: threading.Event
    ) -> BatchSummary:
        """Do all jobs, or as many as can be until `stop`."""
        begun = time.monotonic()
        remove_stale(self.out)
        write_description(self.out)
        left_out = {} if self.not_paired is None else {"not_paired": self.not_paired}
        self.emit(
            "batch-start", cases=total, workers=workers, medfuse=medfuse.__version__, **left_out
        )
        waiting = None
        try:
            while not self._must_stop(stop):
                waiting = self._fill(waiting, jobs, stop)
                if waiting is None and not self.pool.is_busy():
                    break
                self._poll()
        finally:
            dropped = self._drop()
        if waiting is not None:
            dropped.append(waiting)
        not_run = (*(job.case for job in dropped), *(job.case for job in jobs))
        failures = self.then(stop) if self.then and not self._must_stop(stop) else []
        return self._finish(not_run, stop, time.monotonic() - begun, failures)

    def _drop(self) -> list[Job]:
        """End all that runs, also where the ledger cannot be written any more."""
        left = list(self.pool.drop())
        with contextlib.suppress(OutputError):
            remove_stale(self.out)
        for ended in left:
            if isinstance(ended, Ended):
                self.end(CaseResult(**ended.fields))
        return [job for job in left if isinstance(job, Job)]

    def end(self, result: CaseResult) -> None:
        """Record the end of a case."""
        self.results.append(result)
        self.counts[result.status] = self.counts.get(result.status, 0) + 1
        self.write_failures = self.write_failures + 1 if result.code == "E_WRITE" else 0
        self.emit("case-end", **result_fields(result))

    def emit(self, event: str, **fields: Any) -> None:
        """Tell the listener, and the ledger all but progress."""
        content = {"event": event, **fields}
        if event != "progress":
            self.ledger.write(content)
        if self.on_event:
            self.on_event(content)

    def _must_stop(self, stop: threading.Event) -> bool:
        return stop.is_set() or self.write_failures >= MAX_WRITE_FAILURES

    def _fill(self, waiting: Job | None, jobs: Iterator[Job], stop: threading.Event) -> Job | None:
        """Start jobs while there is room; return the one that has to wait."""
        job = waiting or next(jobs, None)
        while job is not None and not self._must_stop(stop) and self.pool.has_room(job):
            self._begin(job)
            job = next(jobs, None) if not self._must_stop(stop) else None
        return job

    def _begin(self, job: Job) -> None:
        if not self.force and self._is_finished(job):
            verdict = read_verdict(job.folder)
            self.end(CaseResult(job.case, "skipped", folder=job.folder, verdict=verdict))
            return
        self.emit("case-start", case=job.case)
        self.pool.start(job)

    def _is_finished(self, job: Job) -> bool:
        try:
            return self.runner.is_finished(job)
        except (MedfuseError, OSError):
            return False  # the case itself will say what is wrong

    def _poll(self) -> None:
        """Pass on progress, record the cases that ended."""
        self.lock.beat()
        for news in self.pool.wait():
            if isinstance(news, Ended):
                if news.fields["status"] == "failed":
                    with contextlib.suppress(OutputError):
                        remove_stale(self.out)
                self.end(CaseResult(**news.fields))
            else:
                self.emit("progress", case=news.job.case, fraction=news.fraction, text=news.text)

    def _finish(
        self, not_run: tuple[str, ...], stop: threading.Event, spent: float, failures: list[str]
    ) -> BatchSummary:
        if stop.is_set():
            code = EXIT_INTERRUPTED
        elif self.write_failures >= MAX_WRITE_FAILURES:
            code = EXIT_OUTPUT
        else:
            code = EXIT_FAILED if self.counts.get("failed") or failures else EXIT_OK
        self.emit("batch-end", exit_code=code, not_run=list(not_run), seconds=round(spent, 3))
        with self.shard.alone(self.out):
            write_summary(self.out)
            write_tables(self.out)
            notes = (*failures, *_study_report(self.out))
        with contextlib.suppress(OSError):
            (self.out / "logs").rmdir()  # stays unless it is empty
        return BatchSummary(self.out, self.results, code, not_run, notes, spent, dict(self.counts))


def _encode(result: CaseResult) -> dict[str, Any]:
    return {**vars(result), "folder": str(result.folder) if result.folder else None}


def _decode(fields: dict[str, Any]) -> CaseResult:
    folder = fields["folder"]
    return CaseResult(
        **{**fields, "folder": Path(folder) if folder else None, "notes": tuple(fields["notes"])}
    )


def _study_report(out: Path) -> tuple[str, ...]:
    """Write study.html and the metadata; what fails here must not cost the results."""
    notes: tuple[str, ...] = ()
    for name, write in (("study.html", write_study_report), (CRATE, write_crate)):
        try:
            write(out)
        except Exception as error:  # the boundary of the batch
            notes += (f"{name} was not written: {type(error).__name__}",)
    return notes
