"""Cases on a Dask worker, each in a process of its own.

A worker is a daemon and may start no process by multiprocessing. It talks to one that may:
``python -m medfuse.batch.remote`` reads jobs, a line of JSON each, and answers with the fields of
their results. It forks the cases from a server that has imported the libraries once. When its
standard input is closed, as by the end of its worker, it ends its case and itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from medfuse.batch.memory import Budget
from medfuse.batch.pool import POLL_S, Ended, ProcessPool
from medfuse.batch.worker import Job, crash

#: Processes of this worker that wait for their next case.
_idle: list[subprocess.Popen[str]] = []


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
        Fields of its `CaseResult`, and ``log``: what it printed if it failed.
    """
    process = _process()
    with ThreadPoolExecutor(1) as pool:
        request = {"runner": runner, "timeout_s": timeout_s, "job": job.to_dict()}
        answer = pool.submit(_ask, process, json.dumps(request))
        while not answer.done():
            if is_dropped() and process.stdin:
                process.stdin.close()
            wait([answer], POLL_S)
    if line := answer.result():
        _idle.append(process)
        fields: dict[str, Any] = json.loads(line)
        return fields
    return crash(job, process.wait())


def _process() -> subprocess.Popen[str]:
    """One that waits, or a new one."""
    with contextlib.suppress(IndexError):  # none is left; a worker may have several threads
        while (process := _idle.pop()).poll() is not None:
            pass
        return process
    command = [sys.executable, "-m", "medfuse.batch.remote"]
    # Dask lets its workers give back memory at every free, which doubles the time of a fusion.
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_TRIM_THRESHOLD_"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def _ask(process: subprocess.Popen[str], request: str) -> str:
    """The line that it answers; nothing if it ends before."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ValueError):  # it ended; its case was dropped
        print(request, file=process.stdin, flush=True)
    return process.stdout.readline()


def main() -> None:
    """Run the jobs that come by standard input, one after the other."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    gone = threading.Event()
    threading.Thread(target=_listen, args=(requests, gone), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="medfuse-") as logs:
        while request := requests.get():
            fields = _run(json.loads(request), Path(logs), gone)
            if not gone.is_set():
                print(json.dumps(fields, default=str), file=answers, flush=True)


def _listen(requests: queue.SimpleQueue[str], gone: threading.Event) -> None:
    for line in sys.stdin:
        requests.put(line)
    gone.set()
    requests.put("")


def _run(request: dict[str, Any], logs: Path, gone: threading.Event) -> dict[str, Any]:
    """One case, which is ended when the worker has gone."""
    module, _, name = request["runner"].partition(":")
    job = Job.from_dict(request["job"])
    runner = getattr(importlib.import_module(module), name)()
    pool = ProcessPool(runner, 1, Budget(), request["timeout_s"], logs)
    pool.start(job)
    while not gone.is_set():
        for news in pool.wait():
            if isinstance(news, Ended):
                log = logs / f"{job.case}.log"
                return {**news.fields, "log": log.read_text("utf-8") if log.exists() else ""}
    list(pool.drop())
    return {}


if __name__ == "__main__":
    main()
