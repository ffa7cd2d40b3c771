"""One case in a process of its own: whatever happens there ends that case only.

Nothing heavy is imported until the case is begun.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, Protocol, Self

from medfuse.errors import MedfuseError, option
from medfuse.kernel.cores import usable_cores
from medfuse.record.privacy import sanitize_text
from medfuse.results.folder import MANIFEST
from medfuse.settings import Progress, as_flag_or_column

MAX_MESSAGE = 500
#: Of a case, unless told; cases at a time use further cores better, and these while others wait.
THREADS = 2


@dataclass(frozen=True)
class Job:
    """All that a process needs to know of its case.

    Attributes
    ----------
    settings : dict
        Of `CaseSettings`, with the overrides of the case.
    uid_salt : Path, optional
        File with the secret of the study.
    max_memory_gb : float, optional
        As of `medfuse.case.pipeline.run_case`.
    threads : int, optional
        Of the case; default two, or one on a machine with one core.
    """

    case: str
    anatomical: Path
    functional: Path
    folder: Path
    settings: dict[str, Any]
    command: str = ""
    uid_salt: Path | None = None
    max_memory_gb: float | None = None
    threads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        names = ("anatomical", "functional", "folder", "uid_salt")
        return cls(**{**fields, **{n: Path(fields[n]) for n in names if fields.get(n)}})


def limit_threads(job: Job) -> None:
    """Give the case its threads."""
    import torch

    torch.set_num_threads(job.threads or min(THREADS, usable_cores()))


class Runner(Protocol):
    """What is done with a case; it must be picklable."""

    def is_finished(self, job: Job) -> bool:
        """Whether a result of these inputs and settings is there already."""

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        """Do the case and return fields of its `CaseResult`; raise if it fails."""


class PipelineRunner:
    """Fuse the case (`medfuse.case.pipeline.run_case`)."""

    def is_finished(self, job: Job) -> bool:
        """Hash the inputs only where there is a result to compare with."""
        if not (job.folder / MANIFEST).is_file():
            return False
        from medfuse.case.pipeline import CaseSettings, case_key, is_complete

        key = case_key(job.anatomical, job.functional, CaseSettings(**job.settings))
        return is_complete(job.folder, key)

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        """Run the pipeline."""
        from medfuse.case.pipeline import CaseSettings, run_case

        limit_threads(job)
        result = run_case(
            job.anatomical,
            job.functional,
            job.folder,
            CaseSettings(**job.settings),
            case=job.case,
            command=job.command,
            uid_salt=job.uid_salt,
            max_memory_gb=job.max_memory_gb,
            progress=progress,
        )
        return dict(vars(result))


def work(pipe: connection.Connection, runner: Runner, job: Job, log: Path) -> None:
    """Run in the child: send ``("progress", fraction, text)`` and one ``("result", fields)``."""
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _divert_output(log)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    tell = lambda fraction, text: pipe.send(("progress", fraction, text))  # noqa: E731
    fields = {"status": "done", **attempt(runner, job, tell), "case": job.case}
    pipe.send(("result", fields))
    pipe.close()


def failure(case: str, code: str, cause: str, remedy: str) -> dict[str, Any]:
    """Fields of the result of a case that ended without an error of its own."""
    error = MedfuseError(code, what="Cannot finish", where=case, cause=cause, remedy=remedy)
    message = error.told(as_flag_or_column)
    return {"case": case, "status": "failed", "code": code, "message": message}


def crash(job: Job, code: int | None) -> dict[str, Any]:
    """Fields of a case whose process ended without a result, with its exit code."""
    remedy = f"See logs/{job.case}.log; run the case alone"
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ", which is how a system short of memory ends processes" if code == -9 else ""
        return failure(job.case, "E_KILLED", f"the process was ended by {name}{hint}", remedy)
    cause = f"the process ended without a result (exit code {code})"
    return failure(job.case, "E_CRASHED", cause, remedy)


def timed_out(job: Job, seconds: float) -> dict[str, Any]:
    """Fields of a case that took too long."""
    cause = f"it took longer than {seconds:g} s"
    remedy = f"Give more time with {option('timeout', 'SECONDS')} or look at the case alone"
    return failure(job.case, "E_TIMEOUT", cause, remedy)


def attempt(runner: Runner, job: Job, progress: Progress) -> dict[str, Any]:
    """Run a case; whatever goes wrong becomes fields of a failed result."""
    try:
        return runner.run(job, progress)
    except MedfuseError as error:
        message = _one_line(error.told(as_flag_or_column))
        return {"status": "failed", "code": error.code, "message": message}
    except MemoryError:
        traceback.print_exc()
        remedy = "Use fewer workers, a larger machine or a smaller image"
        return failure(job.case, "E_MEMORY", "there was not enough memory", remedy)
    except Exception as error:  # the boundary of a case
        traceback.print_exc()
        cause = _one_line(f"{type(error).__name__}: {error}")
        return failure(job.case, "E_INTERNAL", cause, f"See logs/{job.case}.log and report it")


def _one_line(text: str) -> str:
    return " ".join(sanitize_text(text).split())[:MAX_MESSAGE]


def _divert_output(log: Path) -> None:
    """Send everything that libraries print, in C++ too, to a file."""
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
    os.close(handle)
    faulthandler.enable()


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
