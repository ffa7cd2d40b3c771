"""A batch in a process of its own, for tests that kill it: python batch_main.py STUDY OUT."""

from __future__ import annotations

import sys
from pathlib import Path

from batch_runners import SmallWork

from medfuse.study import discover

if __name__ == "__main__":
    from medfuse.batch import pool, run_batch
    from medfuse.settings import CaseSettings

    pool.PRELOAD.clear()  # small work needs no libraries
    summary = run_batch(
        discover(Path(sys.argv[1])),
        Path(sys.argv[2]),
        CaseSettings(),
        workers=1,  # so that cases end in their order
        runner=SmallWork(),
        on_event=lambda event: print(event["event"], event.get("case", ""), flush=True),
    )
    sys.exit(summary.exit_code)
