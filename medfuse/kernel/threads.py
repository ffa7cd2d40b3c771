"""Work on several cores whose result does not depend on their number.

Convolutions, matrix products and sums round differently for another number of threads. A replay, a
batch with more workers and a cluster must give the same bits, so each piece is computed by one
thread, and only the pieces are shared out. No team of OpenMP threads is needed for that, which a
process forked from a busy one (the workers of a DataLoader) could not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, whatever was set before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_out(
    work: Callable[[T], None], pieces: Sequence[T], done: Callable[[int], None] = lambda _: None
) -> None:
    """Do all pieces, as many at a time as torch has threads.

    Parameters
    ----------
    work : callable
        Called once for each piece, from several threads; the pieces must not depend on each other.
    pieces : sequence
    done : callable
        Told in order how many pieces are done; an exception from it or from `work` ends the rest.
    """
    workers = min(torch.get_num_threads(), len(pieces))
    with one_thread():
        if workers < 2:
            for number, piece in enumerate(pieces, start=1):
                work(piece)
                done(number)
            return
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for number, _ in enumerate(pool.map(work, pieces), start=1):
                done(number)
        finally:
            pool.shutdown(cancel_futures=True)
