"""Long lists that stay on disk."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Spill(Sequence[T]):
    """A list whose items lie in an anonymous temporary file; 8 bytes an item stay in memory.

    Parameters
    ----------
    encode, decode : callable
        Item to JSON-able object and back.
    items : iterable, optional
        To begin with.
    """

    def __init__(
        self, encode: Callable[[T], Any], decode: Callable[[Any], T], items: Sequence[T] = ()
    ) -> None:
        self._encode, self._decode = encode, decode
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the list
        self._starts = array("Q")
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        self._starts.append(self._file.seek(0, 2))
        self._file.write(json.dumps(self._encode(item)).encode() + b"\n")

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[T]:
        return (self[n] for n in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        self._file.seek(self._starts[index])
        return self._decode(json.loads(self._file.readline()))
