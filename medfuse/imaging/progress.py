"""How far the reading of a scan is, for whoever listens: a terminal, a panel, nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[float, str], None]

#: Reports are for eyes: no more of them a second than these.
_PER_SECOND = 10
_listener: ContextVar[Listener | None] = ContextVar("medfuse_reading_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand ``(fraction, text)`` of everything that is read in this context to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def steps(items: Collection[Item], what: str) -> Iterator[Item]:
    """Go through `items` and report how many are done.

    Parameters
    ----------
    items : collection
    what : str
        One word for what is done with them, e.g. "reading".
    """
    listener, total, last = _listener.get(), len(items), time.monotonic()
    for done, item in enumerate(items):
        yield item
        if listener is not None and time.monotonic() - last > 1 / _PER_SECOND:
            last = time.monotonic()
            listener((done + 1) / total, f"{what} {done + 1} of {total}")
