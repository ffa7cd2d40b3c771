"""A study that grows: cases are done when they have come to rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from medfuse.batch.ledger import BatchSummary
from medfuse.batch.loop import EXIT_INTERRUPTED
from medfuse.errors import MedfuseError
from medfuse.study import Case, Study

#: Files of a case, and what the table asks of it.
Signature = tuple[tuple[object, ...], ...]


def watch(
    find: Callable[[], Study],
    run: Callable[[Study], BatchSummary],
    *,
    every_s: float,
    wait: Callable[[float], None] = time.sleep,
    tell: Callable[[MedfuseError], None] = lambda error: None,
) -> int:
    """Look for new cases until Ctrl-C, and do those that did not change between two looks.

    A case whose files grow or are replaced later, or whose settings in the table change, is done
    again. A look that fails, as on a table that is just being saved, is told of and made again.

    Parameters
    ----------
    find : callable
        Looks for the cases, e.g. ``lambda: discover(study)``.
    run : callable
        Does some of them, e.g. ``lambda study: run_batch(study, out, settings)``.
    every_s : float
        Seconds from one look to the next.
    wait : callable
        Sleeps; KeyboardInterrupt from it ends the watch.
    tell : callable
        What a look that failed says.

    Returns
    -------
    int
        Exit code: 0, or the last one of a batch that was not 0; 130 where a batch was interrupted.
    """
    before: dict[str, Signature] = {}
    done: dict[str, Signature] = {}
    code = 0
    while True:
        try:
            study = find()
        except MedfuseError as error:
            tell(error)
        else:
            now = {case.name: signature(case) for case in study.cases}
            rested = tuple(
                case
                for case in study.cases
                if now[case.name] == before.get(case.name) != done.get(case.name)
            )
            if rested:
                summary = run(replace(study, cases=rested, skipped=()))
                code = summary.exit_code or code
                if summary.exit_code == EXIT_INTERRUPTED:
                    return EXIT_INTERRUPTED
                done.update({case.name: now[case.name] for case in rested})
            before = now
        try:
            wait(every_s)
        except KeyboardInterrupt:
            return code


def signature(case: Case) -> Signature:
    """Size and time of every file of a case; equal as long as nobody touches it."""
    found: list[tuple[object, ...]] = [(name, str(x)) for name, x in sorted(case.overrides.items())]
    for root in (case.anatomical, case.functional):
        for path in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
            try:
                stat = os.stat(path)
            except OSError:  # it is being moved
                continue
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
