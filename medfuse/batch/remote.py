"""One case as a command: ``python -m medfuse.remote`` reads a job and answers with its result.

A Dask worker starts it for every case, so that a crash ends the case and not the worker. The
process lives as long as its standard input is open: with its worker it ends, too.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from medfuse.worker import Job, Runner, attempt, crash, timed_out, wait_asleep

POLL_S = 0.2
MAX_LOG = 20_000


def run_apart(
    job: Job,
    *,
    runner: str,
    timeout_s: float | None = None,
    is_dropped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run a case in a process of its own and wait for it.

    Parameters
    ----------
    job : Job
    runner : str
        ``module:class`` of a `Runner`.
    timeout_s : float, optional
    is_dropped : callable
        Asked now and then; True ends the case.

    Returns
    -------
    dict
        Fields of its `CaseResult`, and ``log``: the end of what it printed.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as noise:
        process = subprocess.Popen(
            [sys.executable, "-m", "medfuse.remote"],
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=noise,
        )
        request = {"runner": runner, "job": job.to_dict()}
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        started = time.monotonic()
        late = False
        while process.poll() is None and not is_dropped() and not late:
            late = timeout_s is not None and time.monotonic() - started > timeout_s
            time.sleep(POLL_S)
        if process.poll() is None:
            process.kill()
        code = process.wait()
        process.stdin.close()
        answer.seek(0)
        noise.seek(0)
        fields = _last_line(answer.read())
        log = noise.read()[-MAX_LOG:].decode("utf-8", errors="replace")
    spent = {"seconds": round(time.monotonic() - started, 3), "log": log}
    if fields is None and late and timeout_s is not None:
        fields = timed_out(job, timeout_s)
    return {**spent, **(fields or crash(job, code))}


def _last_line(answer: bytes) -> dict[str, Any] | None:
    lines = answer.splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def main() -> None:
    """Do the job that stands on the first line of standard input."""
    wait_asleep()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print, in C++ too, is no answer
    module, _, name = request["runner"].partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)()
    job = Job.from_dict(request["job"])
    fields = {"status": "done", **attempt(runner, job, lambda *_: None), "case": job.case}
    os.write(answer, json.dumps(fields, default=str).encode() + b"\n")


def _die_with_parent() -> None:
    while os.read(0, 1024):  # unbuffered: a daemon thread must not hold the lock of sys.stdin
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
