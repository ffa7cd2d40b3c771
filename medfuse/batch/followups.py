"""Cases of a batch compared with earlier ones of the same persons, when all cases have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from medfuse.batch.pool import Advance, Pool
from medfuse.batch.shard import Shard
from medfuse.batch.worker import Job, limit_threads
from medfuse.results.folder import read_manifest
from medfuse.results.ledger_files import SUFFIX
from medfuse.settings import CaseSettings, Progress
from medfuse.study import Study
from medfuse.study.baselines import baselines

_FIRST = "first"


class FollowUpRunner:
    """Compare a case with its baseline; the job holds both."""

    def is_finished(self, job: Job) -> bool:
        """Whether the comparison of these very results is there."""
        from medfuse.case.baseline import is_current

        return is_current(Path(job.settings[_FIRST]["folder"]), job.folder)

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        """Make the comparison."""
        limit_threads(job)
        from medfuse.case.baseline import Fused, compare_cases

        settings = dict(job.settings)
        first = Job.from_dict(settings.pop(_FIRST))
        fused = [
            Fused(j.folder, j.anatomical, j.functional, CaseSettings(**s))
            for j, s in ((first, first.settings), (job, settings))
        ]
        found = compare_cases(*fused, progress=progress)
        notes = tuple(f"{error.cause} [{error.code}]" for error in found.failures)
        return {"verdict": found.registration.verdict, "notes": notes}


def follow_up_jobs(
    study: Study,
    jobs: Callable[[Study, Shard], Iterator[Job]],
    shard: Shard,
    *,
    first_sessions: bool,
) -> tuple[list[Job], list[str]]:
    """Comparisons of this shard, and a line for each case whose baseline is no case."""
    pairs = baselines(study.cases, first_sessions=first_sessions)
    if not pairs:
        return [], ["no person was found at two times"] if first_sessions else []
    wanted = {*pairs, *pairs.values()}
    known = {job.case: job for job in jobs(study, Shard()) if job.case in wanted}
    found, notes = [], []
    for position, case in enumerate(study.cases):
        if case.name not in pairs or not shard.takes(position):
            continue
        first = known.get(pairs[case.name])
        if first is None:
            notes.append(f"follow-up of {case.name}: {pairs[case.name]} is no case of this run")
            continue
        job = known[case.name]
        settings = {**job.settings, _FIRST: first.to_dict()}
        found.append(replace(job, case=f"{case.name}{SUFFIX}", settings=settings))
    return found, notes


def compare_all(
    jobs: list[Job],
    pool: Pool,
    stop: threading.Event,
    tell: Callable[..., None],
    *,
    force: bool,
) -> list[str]:
    """Make all comparisons that are not there; a line for each that failed.

    Parameters
    ----------
    tell : callable (event, **fields)
        Told of progress and of every end.
    """
    runner, waiting, failed = FollowUpRunner(), list(reversed(jobs)), list[str]()
    while (waiting or pool.is_busy()) and not stop.is_set():
        while waiting and pool.has_room(waiting[-1]):
            job = waiting.pop()
            if read_manifest(job.folder) is None:
                failed.append(f"{job.case}: the case has no finished result")
            elif force or not runner.is_finished(job):
                pool.start(job)
        for news in pool.wait() if pool.is_busy() else ():
            if isinstance(news, Advance):
                tell("progress", case=news.job.case, fraction=news.fraction, text=news.text)
                continue
            fields = {"case": news.job.case, **news.fields}
            tell("follow-up", **fields)
            if fields["status"] == "failed":
                failed.append(f"{news.job.case}: {fields['message']}")
            failed += [f"{news.job.case}: not measured: {note}" for note in fields.get("notes", ())]
    list(pool.drop())
    return failed
