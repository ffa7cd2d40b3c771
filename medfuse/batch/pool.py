"""Where the cases of a batch run: in processes of this machine, one each."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medfuse.batch.memory import Budget
from medfuse.batch.worker import Job, Runner, crash, timed_out, work
from medfuse.record.privacy import sanitize_text

if TYPE_CHECKING:  # Windows has no ForkServerContext
    from multiprocessing.context import ForkServerContext, SpawnContext

POLL_S = 0.2
GRACE_S = 3.0
#: Modules that every case needs; the server imports them once for all cases.
PRELOAD = ["medfuse.batch.preload"]


@dataclass(frozen=True)
class Advance:
    """A running case tells how far it is."""

    job: Job
    fraction: float
    text: str


@dataclass(frozen=True)
class Ended:
    """A case is over; ``fields`` are those of its `CaseResult`."""

    job: Job
    fields: dict[str, Any]


class Pool(Protocol):
    """A place that runs cases and never lets one harm another."""

    def has_room(self, job: Job) -> bool:
        """Whether this job may start now; True where nothing is running."""

    def start(self, job: Job) -> None:
        """Begin a case."""

    def is_busy(self) -> bool:
        """Whether a case is running."""

    def wait(self) -> Iterator[Advance | Ended]:
        """Wait a moment for news."""

    def drop(self) -> Iterator[Job | Ended]:
        """End everything that runs: the jobs that were dropped and those that were just done."""


@dataclass
class _Running:
    job: Job
    process: BaseProcess
    pipe: connection.Connection
    started: float
    result: dict[str, Any] | None = None


class ProcessPool:
    """A process a case on this machine, as many at a time as workers and memory allow.

    Parameters
    ----------
    runner : Runner
    workers : int
        Upper limit.
    budget : Budget
        Memory that the running cases may need together.
    timeout_s : float, optional
        A case that takes longer is ended.
    logs : Path
        Folder for what cases print.
    """

    def __init__(
        self, runner: Runner, workers: int, budget: Budget, timeout_s: float | None, logs: Path
    ) -> None:
        self._runner, self._workers, self._budget = runner, workers, budget
        self._timeout_s, self._logs = timeout_s, logs.absolute()
        self._running: list[_Running] = []
        self._context = _context()
        for raw in logs.glob("*.raw"):
            raw.unlink(missing_ok=True)

    def has_room(self, job: Job) -> bool:
        """Whether a worker is free and memory will do; a lone case always may start."""
        if not self._running:
            return True
        jobs = [running.job for running in self._running]
        return len(jobs) < self._workers and self._budget.allows(job, beside=jobs)

    def start(self, job: Job) -> None:
        """Begin a case in a process of its own."""
        mine, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=work, args=(theirs, self._runner, job, self._raw_log(job)), daemon=False
        )
        with _without_interrupt():
            process.start()
        theirs.close()
        self._running.append(_Running(job, process, mine, time.monotonic()))

    def is_busy(self) -> bool:
        """Whether a case is running."""
        return bool(self._running)

    def wait(self) -> Iterator[Advance | Ended]:
        """Wait a moment; tell progress, and the cases that ended or took too long."""
        connection.wait(
            [w for r in self._running for w in (r.pipe, r.process.sentinel)], timeout=POLL_S
        )
        for running in list(self._running):
            alive = running.process.is_alive()
            yield from self._read(running)
            elapsed = time.monotonic() - running.started
            if running.result is None and alive:
                if self._timeout_s is None or elapsed < self._timeout_s:
                    continue
                running.result = timed_out(running.job, self._timeout_s)
            self._reap(running)
            fields = running.result or crash(running.job, running.process.exitcode)
            self._keep_log(running.job, failed=fields["status"] == "failed")
            yield Ended(running.job, {"seconds": round(elapsed, 3), **fields})

    def drop(self) -> Iterator[Job | Ended]:
        """End all running cases."""
        dropped = list(self._running)
        for running in dropped:
            running.process.terminate()
        for running in dropped:
            list(self._read(running))
            self._reap(running)
            self._keep_log(running.job, failed=False)
            yield running.job if running.result is None else Ended(running.job, running.result)

    def _read(self, running: _Running) -> Iterator[Advance]:
        """Take what the child has sent; a message that was cut off counts as none."""
        with contextlib.suppress(EOFError, OSError):
            while running.result is None and running.pipe.poll():
                kind, *content = running.pipe.recv()
                if kind == "result":
                    running.result = content[0]
                else:
                    yield Advance(running.job, float(content[0]), content[1])

    def _reap(self, running: _Running) -> None:
        self._running.remove(running)
        if running.result is not None and running.result.get("code") != "E_TIMEOUT":
            running.process.join(GRACE_S)
        if running.process.is_alive():
            running.process.terminate()
            running.process.join(GRACE_S)
        if running.process.is_alive():
            running.process.kill()
        running.process.join()
        running.pipe.close()

    def _raw_log(self, job: Job) -> Path:
        return self._logs / f"{job.case}.raw"

    def _keep_log(self, job: Job, *, failed: bool) -> None:
        """Keep what a failed case printed; drop the rest."""
        raw = self._raw_log(job)
        with contextlib.suppress(OSError):
            text = raw.read_text("utf-8", errors="replace")
            raw.unlink()
            keep_log(raw.with_suffix(".log"), text if failed else "")


def keep_log(path: Path, text: str) -> None:
    """Replace the log of a case by what it printed, without paths; by nothing if that is empty."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if text:
            path.write_text(sanitize_text(text), "utf-8")


def _context() -> ForkServerContext | SpawnContext:
    """Fork every case from a clean server that has imported the libraries, where that exists."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


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
