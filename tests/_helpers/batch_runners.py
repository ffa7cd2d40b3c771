"""What the cases of tests of batches do; imported by their processes, so nothing heavy here."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medfuse.batch.worker import Job
from medfuse.errors import InputError
from medfuse.results.folder import PREFIX, ResultFolder, is_complete, writing

Progress = Callable[[float, str], None]


class SmallWork:
    """Copies the inputs into a result folder; some case names have a fate of their own."""

    def is_finished(self, job: Job) -> bool:
        return is_complete(job.folder, self.key(job))

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        progress(0.5, "half")
        fate = getattr(self, f"fate_{job.case.split('-')[0]}", None)
        with ResultFolder(job.folder, key=self.key(job)) as folder:
            (folder.path / "copy.txt").write_text(job.functional.read_text())
            if fate:
                fate(job)
            (folder.path / "audit.json").write_text(json.dumps({"verdict": "look"}))
            (folder.path / "settings.json").write_text(json.dumps(job.settings))
            (folder.path / "threads.txt").write_text(str(job.threads))
        return {"verdict": "look", "notes": ("=SUM(1)", "a note"), "folder": job.folder}

    def key(self, job: Job) -> str:
        content = [job.anatomical.read_text(), job.functional.read_text(), job.settings]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def fate_refused(self, job: Job) -> None:
        raise InputError(
            "E_EMPTY_FILE",
            what="Cannot read",
            where=job.functional.name,
            cause="the file is empty (0 bytes)",
            remedy="Export it again",
        )

    def fate_bug(self, job: Job) -> None:
        raise ValueError(f"cannot do\n{job.functional.resolve()}")

    def fate_exits(self, job: Job) -> None:
        os.write(2, f"library noise from {Path(__file__).resolve()}\n".encode())
        os._exit(9)

    def fate_killed(self, job: Job) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fate_hungry(self, job: Job) -> None:
        """Need more memory than its process may have."""
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
        bytearray(1 << 34)

    def fate_hangs(self, job: Job) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # deaf, as native code can be
        time.sleep(600)

    def fate_slow(self, job: Job) -> None:
        time.sleep(float(job.anatomical.read_text()))

    def fate_big(self, job: Job) -> None:
        """Write a megabyte into the folder that is being built."""
        place = job.folder.with_name(f"{PREFIX}{job.case}-{os.getpid()}.tmp")
        with writing(job.folder):
            (place / "big.bin").write_bytes(bytes(1_000_000))
