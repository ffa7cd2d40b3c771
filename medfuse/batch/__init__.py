"""Many cases: one process each, resumed where they were left, and one that fails stops no other."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medfuse.batch.followups import FollowUpRunner, compare_all, follow_up_jobs
from medfuse.batch.ledger import BatchSummary, Ledger, read_ledger
from medfuse.batch.lock import BatchLock
from medfuse.batch.loop import Batch, OnEvent
from medfuse.batch.memory import USABLE, Budget, available_bytes
from medfuse.batch.pool import Pool, ProcessPool
from medfuse.batch.shard import Shard
from medfuse.batch.worker import Job, PipelineRunner, Runner
from medfuse.errors import UsageError
from medfuse.kernel.cores import usable_cores, wanted_threads
from medfuse.record.privacy import salt_beside, sanitize_text, study_salt
from medfuse.results.folder import writing
from medfuse.settings import CaseResult, CaseSettings, regions_for
from medfuse.study import Study
from medfuse.study.model import place
from medfuse.study.names import case_name

if TYPE_CHECKING:
    from medfuse.batch.cluster import Cluster

__all__ = ["BatchSummary", "Job", "PipelineRunner", "Runner", "Shard", "read_ledger", "run_batch"]

EXIT_NO_CASE = 3
WHOLE = Shard()


def run_batch(
    study: Study,
    out: Path,
    settings: CaseSettings,
    *,
    workers: int | None = None,
    force: bool = False,
    timeout_s: float | None = None,
    shard: Shard = WHOLE,
    cluster: Cluster | None = None,
    on_event: OnEvent | None = None,
    command: str = "",
    runner: Runner | None = None,
    uid_salt: Path | None = None,
    max_memory_gb: float | None = None,
    first_sessions: bool = False,
) -> BatchSummary:
    """Fuse all cases of a study into ``out/<case>/``.

    Every case runs in a process of its own: a crash, a kill or a hang ends that case alone. Cases
    with a whole result of the same inputs and settings are skipped. Beside the results lie
    ``batch.jsonl`` (what happened when, appended), ``summary.csv``, ``study.html`` and, of failed
    cases, ``logs/<case>.log``.

    Parameters
    ----------
    study : Study
        From `medfuse.study.discover`.
    out : Path
        Made when it is not there; outside the study, or in a ``derivatives`` folder of it.
    settings : CaseSettings
        For all cases; the overrides of a case go before.
    workers : int, optional
        Cases at a time. Fewer run where the headers say that
        memory would not do. Default: one a core. Not for a cluster.
    force : bool
        Redo finished cases.
    timeout_s : float, optional
        A case that takes longer is ended.
    shard : Shard
        Do every n-th case only; other machines do the others.
    cluster : Cluster, optional
        Run the cases on Dask workers instead of here.
    on_event : callable, optional
        Gets dicts: ``{"event": "case-start" | "progress" | "case-end" | ..., "case": ...}``; those
        with a ``status`` end a case.
    command : str
        For provenance.
    runner : Runner, optional
        What is done with a case; default `PipelineRunner`.
    uid_salt : Path, optional
        File with the secret with which DICOM UIDs are hashed, made once; default
        ``<out>.uid-salt`` beside the output folder.
    max_memory_gb : float, optional
        What each case may hold in memory (`medfuse.case.pipeline.run_case`).
    first_sessions : bool
        Of a BIDS data set, compare every session of a person with the first. What a manifest names
        as the baseline of a case is always compared. Comparisons are made here when all cases have
        ended, into ``out/<case>-followup/``; one that fails costs no case.

    Returns
    -------
    BatchSummary
        With the exit code. After SIGINT or SIGTERM the running cases are dropped and it is 130.

    Raises
    ------
    UsageError
        ``E_OUTPUT_IN_INPUT``.
    OutputError
        ``E_WRITE``, ``E_LOCKED``.

    Notes
    -----
    Processes import the main module: a script that calls this needs
    ``if __name__ == "__main__":``. A case has as many threads as ``OMP_NUM_THREADS`` says here, on
    the workers of a cluster too.
    """
    named = [skipped for skipped in study.skipped if skipped.case]
    if not study.cases and not named:
        return BatchSummary(out, (), EXIT_NO_CASE)
    _require_apart(study, out)
    with writing(out):
        (out / "logs").mkdir(parents=True, exist_ok=True)
    runner = runner or PipelineRunner()
    salt = None if settings.keep_uids else _salt(study, out, uid_salt)
    with (
        BatchLock(out, shard.lock_name) as lock,
        Ledger(out, shard.ledger_name) as ledger,
        _stop_signals() as stop,
        contextlib.ExitStack() as stack,
    ):
        if cluster is None:
            workers = workers or usable_cores()
            budget = Budget(USABLE * available_bytes())
            pool: Pool = ProcessPool(runner, workers, budget, timeout_s, out / "logs")
        else:
            kind = type(runner)
            name = f"{kind.__module__}:{kind.__qualname__}"
            pool = stack.enter_context(cluster.pool(name, timeout_s, out / "logs"))
            workers = cluster.workers
        batch = Batch(out, runner, pool, lock, ledger, on_event, force, shard)
        if shard.index == 1:
            batch.not_paired = _not_paired(study)
        for skipped in named if shard.index == 1 else ():
            batch.end(CaseResult(skipped.case, "failed", code=skipped.code, message=skipped.reason))
        total = len(range(shard.index - 1, len(study.cases), shard.count)) + len(batch.results)
        job = partial(
            Job, command=command, uid_salt=salt, max_memory_gb=max_memory_gb,
            threads=wanted_threads(),
        )  # fmt: skip
        jobs = partial(_jobs, out=out, settings=settings, job=job)
        comparisons, lines = follow_up_jobs(study, jobs, shard, first_sessions=first_sessions)
        if comparisons or lines:
            batch.then = partial(_compared, batch, comparisons, lines, workers, timeout_s)
        return batch.run(jobs(study, shard), total, workers, stop)


def _compared(
    batch: Batch, jobs: list[Job], lines: list[str], workers: int, timeout_s: float | None,
    stop: threading.Event,
) -> list[str]:  # fmt: skip
    """Compare cases with their baselines on this machine; what failed, a line each."""
    budget = Budget(USABLE * available_bytes())
    pool = ProcessPool(FollowUpRunner(), workers, budget, timeout_s, batch.out / "logs")
    return [*lines, *compare_all(jobs, pool, stop, batch.emit, force=batch.force)]


def _not_paired(study: Study) -> list[dict[str, str]]:
    """Subjects of which no case could be made, as an output may say it."""
    return [
        {
            "case": case_name(place(item.path, study.root)),
            "code": item.code,
            "message": sanitize_text(item.written),
        }
        for item in study.skipped
        if item.subject and not item.case
    ]


def _salt(study: Study, out: Path, given: Path | None) -> Path | None:
    """Make the secret of the study before the cases need it at once; NIfTI files have no UIDs."""
    volumes = (path for case in study.cases for path in (case.anatomical, case.functional))
    if given is None and all(path.name.endswith((".nii", ".nii.gz")) for path in volumes):
        return None
    path = given or salt_beside(out)
    study_salt(path)
    return path.absolute()


def _jobs(
    study: Study, shard: Shard, *, out: Path, settings: CaseSettings, job: Callable[..., Job]
) -> Iterator[Job]:
    common = settings.model_dump()
    for position, case in enumerate(study.cases):
        if shard.takes(position):
            chosen = {**common, **case.overrides}
            chosen["regions"] = regions_for(chosen["regions"], case.name)
            yield job(
                case.name,
                case.anatomical.absolute(),
                case.functional.absolute(),
                (out / case.name).absolute(),
                chosen,
            )


def _require_apart(study: Study, out: Path) -> None:
    """Refuse an output that would lie among, or replace, inputs."""
    target, root = out.resolve(), study.root.resolve()
    inside = target.is_relative_to(root)
    if inside and "derivatives" not in target.relative_to(root).parts:
        raise _refuse("it lies inside the study")
    for case in study.cases:
        for path in (case.anatomical, case.functional):
            if path.resolve().is_relative_to(target / case.name):
                raise _refuse(f"the result of {case.name} would replace its input")


def _refuse(cause: str) -> UsageError:
    return UsageError(
        "E_OUTPUT_IN_INPUT",
        what="Cannot use the output folder",
        cause=cause,
        remedy="Choose a folder outside the study, or derivatives/ inside it",
    )


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event while the batch runs."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in earlier.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
