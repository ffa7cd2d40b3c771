"""The parent's side of a batch: it alone starts, ends and records cases."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import medfuse
from medfuse.batch.ledger import (
    BatchSummary,
    Ledger,
    result_fields,
    write_description,
    write_summary,
)
from medfuse.batch.lock import BatchLock
from medfuse.case import CaseResult
from medfuse.errors import MedfuseError, OutputError
from medfuse.imaging.folder import remove_stale
from medfuse.privacy import sanitize_text
from medfuse.worker import Job, Runner, failure, work

EXIT_OK, EXIT_OUTPUT, EXIT_FAILED, EXIT_INTERRUPTED = 0, 4, 8, 130
#: So many results in a row that could not be written mean that none can be.
MAX_WRITE_FAILURES = 3
POLL_S = 0.2
GRACE_S = 3.0

OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class _Running:
    job: Job
    process: SpawnProcess
    pipe: connection.Connection
    started: float
    result: dict[str, Any] | None = None  # fields of a CaseResult


@dataclass
class Batch:
    """The cases of one call, running and ended."""

    out: Path
    runner: Runner
    lock: BatchLock
    ledger: Ledger
    on_event: OnEvent | None
    force: bool
    timeout_s: float | None
    results: list[CaseResult] = field(default_factory=list)
    running: list[_Running] = field(default_factory=list)
    write_failures: int = 0

    def run(self, jobs: list[Job], workers: int, stop: threading.Event) -> BatchSummary:
        """Do all jobs, or as many as can be until `stop`."""
        begun = time.monotonic()
        self._clean()
        write_description(self.out)
        total = len(jobs) + len(self.results)
        self.emit("batch-start", cases=total, workers=workers, medfuse=medfuse.__version__)
        pending = deque(jobs)
        try:
            while (pending or self.running) and not self._must_stop(stop):
                while pending and len(self.running) < workers and not self._must_stop(stop):
                    self._begin(pending.popleft())
                self._poll()
        finally:
            dropped = self._drop_all()
        not_run = tuple(job.case for job in (*dropped, *pending))
        return self._finish(not_run, stop, time.monotonic() - begun)

    def end(self, result: CaseResult) -> None:
        """Record the end of a case."""
        self.results.append(result)
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

    def _begin(self, job: Job) -> None:
        if not self.force and self._is_finished(job):
            verdict = _verdict(job.folder)
            self.end(CaseResult(job.case, "skipped", folder=job.folder, verdict=verdict))
            return
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=work, args=(theirs, self.runner, job, self._raw_log(job)), daemon=False
        )
        self.emit("case-start", case=job.case)
        with _without_interrupt():
            process.start()
        theirs.close()
        self.running.append(_Running(job, process, mine, time.monotonic()))

    def _is_finished(self, job: Job) -> bool:
        try:
            return self.runner.is_finished(job)
        except (MedfuseError, OSError):
            return False  # the case itself will say what is wrong

    def _poll(self) -> None:
        """Wait a moment for news; record the cases that ended or took too long."""
        self.lock.beat()
        waiting = [w for r in self.running for w in (r.pipe, r.process.sentinel)]
        connection.wait(waiting, timeout=POLL_S)
        for running in list(self.running):
            alive = running.process.is_alive()
            self._read(running)
            elapsed = time.monotonic() - running.started
            if running.result is None and alive:
                if self.timeout_s is None or elapsed < self.timeout_s:
                    continue
                running.result = failure(
                    running.job.case,
                    "E_TIMEOUT",
                    f"it took longer than {self.timeout_s:g} s",
                    "Give more time with --timeout or look at the case alone",
                )
            self._reap(running)
            fields = running.result or _crash(running)
            result = CaseResult(**{"seconds": round(elapsed, 3), **fields})
            self._keep_log(running.job, failed=result.status == "failed")
            self.end(result)

    def _read(self, running: _Running) -> None:
        """Take what the child has sent; a message that was cut off counts as none."""
        try:
            while running.result is None and running.pipe.poll():
                kind, *content = running.pipe.recv()
                if kind == "result":
                    running.result = content[0]
                else:
                    fraction, text = content
                    case = running.job.case
                    self.emit("progress", case=case, fraction=float(fraction), text=text)
        except (EOFError, OSError):
            pass

    def _reap(self, running: _Running) -> None:
        """End the process and clear what it left half-built."""
        self.running.remove(running)
        if running.result is not None and running.result.get("code") != "E_TIMEOUT":
            running.process.join(GRACE_S)
        if running.process.is_alive():
            running.process.terminate()
            running.process.join(GRACE_S)
        if running.process.is_alive():
            running.process.kill()
        running.process.join()
        running.pipe.close()
        if running.result is None or running.result["status"] == "failed":
            with contextlib.suppress(OutputError):
                remove_stale(self.out)

    def _drop_all(self) -> list[Job]:
        dropped = list(self.running)
        for running in dropped:
            running.process.terminate()
        for running in dropped:
            self._read(running)
            self._reap(running)
            self._keep_log(running.job, failed=False)
            if running.result is not None:  # it was just in time
                self.end(CaseResult(**running.result))
        return [running.job for running in dropped if running.result is None]

    def _finish(
        self, not_run: tuple[str, ...], stop: threading.Event, spent: float
    ) -> BatchSummary:
        if stop.is_set():
            code = EXIT_INTERRUPTED
        elif self.write_failures >= MAX_WRITE_FAILURES:
            code = EXIT_OUTPUT
        else:
            code = EXIT_FAILED if any(r.status == "failed" for r in self.results) else EXIT_OK
        write_summary(self.out, self.results, not_run)
        notes = _study_report(self.out)
        self.emit("batch-end", exit_code=code, not_run=list(not_run), seconds=round(spent, 3))
        with contextlib.suppress(OSError):
            (self.out / "logs").rmdir()  # stays unless it is empty
        return BatchSummary(self.out, tuple(self.results), code, not_run, notes, spent)

    def _clean(self) -> None:
        remove_stale(self.out)
        for raw in (self.out / "logs").glob("*.raw"):
            raw.unlink(missing_ok=True)

    def _raw_log(self, job: Job) -> Path:
        return (self.out / "logs" / f"{job.case}.raw").absolute()

    def _keep_log(self, job: Job, *, failed: bool) -> None:
        """Keep what a failed case printed, without paths; drop the rest."""
        raw, log = self._raw_log(job), self._raw_log(job).with_name(f"{job.case}.log")
        with contextlib.suppress(OSError):
            text = raw.read_text("utf-8", errors="replace")
            raw.unlink()
            log.unlink(missing_ok=True)
            if failed and text:
                log.write_text(sanitize_text(text), "utf-8")


def _crash(running: _Running) -> dict[str, Any]:
    code = running.process.exitcode
    remedy = f"See logs/{running.job.case}.log; run the case alone"
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ", which is how a system short of memory ends processes" if code == -9 else ""
        cause = f"the process was ended by {name}{hint}"
        return failure(running.job.case, "E_KILLED", cause, remedy)
    cause = f"the process ended without a result (exit code {code})"
    return failure(running.job.case, "E_CRASHED", cause, remedy)


def _verdict(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "audit.json").read_text("utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _study_report(out: Path) -> tuple[str, ...]:
    """Write study.html; a report that fails must not cost the results."""
    from medfuse.report import write_study_report

    try:
        write_study_report(out)
    except Exception as error:  # the boundary of the batch
        return (f"study.html was not written: {type(error).__name__}",)
    return ()


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """Start a process that Ctrl-C does not reach; for this one the signal waits a moment."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
