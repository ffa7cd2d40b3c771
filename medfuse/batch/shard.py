"""One part of a study that several machines share without talking to each other."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from medfuse.batch.lock import LOCK_NAME
from medfuse.errors import UsageError
from medfuse.results.folder import writing
from medfuse.study.scan import LEDGER

try:
    import fcntl
except ImportError:  # Windows: the last shard to end should be run again for the summary
    fcntl = None  # type: ignore[assignment]

_SUMMARY_LOCK = ".medfuse-summary.lock"


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th case, from case ``index`` on (1 is the first)."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``i/n`` with 1 <= i <= n.

        Raises
        ------
        UsageError
            ``E_USAGE``.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found:
            index, count = int(found[1]), int(found[2])
            if 1 <= index <= count:
                return cls(index, count)
        raise UsageError(
            "E_USAGE",
            what="Cannot read --shard",
            cause=f"expected i/n with i from 1 to n, got {text!r}",
            remedy="Write --shard 1/4 on the first of four machines",
        )

    def takes(self, position: int) -> bool:
        """Whether the case at this position (from 0) belongs to this shard."""
        return position % self.count == self.index - 1

    @property
    def ledger_name(self) -> str:
        """Each shard writes a ledger of its own: appends over a network file system may mix."""
        return LEDGER if self.count == 1 else f"batch.{self.index}-of-{self.count}.jsonl"

    @property
    def lock_name(self) -> str:
        """A shard runs once at a time; different shards do not wait for each other."""
        return LOCK_NAME if self.count == 1 else f"{LOCK_NAME}.{self.index}-of-{self.count}"

    @contextlib.contextmanager
    def alone(self, out: Path) -> Iterator[None]:
        """Keep other shards from writing the summary meanwhile, so that the last one is whole."""
        path = out / _SUMMARY_LOCK
        if self.count == 1 or fcntl is None:
            yield
            return
        with writing(path), path.open("w") as lock:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
