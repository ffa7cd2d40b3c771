"""A NIfTI file read from the first to the last byte, so that nothing of it goes unverified.

nibabel and ITK stop when they have the voxels; the CRC and the length of a gzip stream stand
behind them. Here they are always checked, and the file is hashed in the same pass.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from medfuse.errors import InputError
from medfuse.imaging.volume import Place, read_failure

_CHUNK = 1 << 18
#: More than this behind the declared data is no padding any more.
_MAX_EXTRA = 1 << 26
#: Where the header declares nothing usable: enough for any scan, an end to any bomb.
_MAX_UNKNOWN = 1 << 33
#: Deflate makes no more of a byte (RFC 1951: 258 bytes of two bits).
MAX_RATIO = 1032
_REMEDY = "Copy or download the file again"


class _HashingFile:
    """A file that is hashed while it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.sha256.update(data)
        return data


class NiftiStream:
    """Sequential reader of the (decompressed) bytes of a .nii or .nii.gz file.

    Use as a context manager. Compression is told by content, not by name.

    Attributes
    ----------
    position : int
        Decompressed bytes read so far.
    expected : int or None
        Bytes that the header declares, once known; for the text of ``E_TRUNCATED``.
    """

    def __init__(self, path: Path, place: Place) -> None:
        self.place = place
        self.position = 0
        self.expected: int | None = None
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise read_failure(error, place.where) from None
        self._size = os.fstat(self._file.fileno()).st_size
        self.is_gzip = self._file.read(2) == b"\x1f\x8b"
        self._file.seek(0)
        self._hashing = _HashingFile(self._file)
        self._plain = (
            gzip.GzipFile(fileobj=self._hashing, mode="rb") if self.is_gzip else self._hashing  # type: ignore[call-overload]
        )

    def __enter__(self) -> NiftiStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, size: int) -> bytearray:
        """Read exactly `size` bytes.

        Raises
        ------
        InputError
            ``E_TRUNCATED``, ``E_CORRUPT`` or ``E_UNREADABLE``.
        """
        data = bytearray()
        while len(data) < size:
            chunk = self._read(min(_CHUNK, size - len(data)))
            if not chunk:
                raise self._truncated()
            data += chunk
        return data

    def require_possible(self) -> None:
        """Refuse a header that declares more than the file can hold, before it is made room for.

        Raises
        ------
        InputError
            ``E_TRUNCATED``
        """
        expected = self.expected or 0
        if not self.is_gzip and expected > self._size:
            self.position = self._size
            raise self._truncated()
        if expected > self._size * MAX_RATIO:
            cause = f"a compressed file of {self._size} bytes cannot hold the {expected} bytes that"
            raise self.place.error(
                InputError, "E_TRUNCATED", f"{cause} its header declares", _REMEDY
            )

    def skip_to(self, position: int) -> None:
        """Read and drop everything before `position`."""
        while self.position < position:
            self.read(min(_CHUNK, position - self.position))

    def finish(self) -> str:
        """Read to the end, which verifies CRC and length, and return the sha256 of the file.

        Raises
        ------
        InputError
            ``E_TRUNCATED``, ``E_CORRUPT``.
        """
        self.require_possible()
        end = _MAX_UNKNOWN if self.expected is None else self.expected + _MAX_EXTRA
        while self._read(_CHUNK):
            if self.position > end:
                raise self._corrupt("it goes on far beyond the data that its header declares")
        while self._hashing.read(_CHUNK):
            pass
        return self._hashing.sha256.hexdigest()

    def _read(self, size: int) -> bytes:
        try:
            data = bytes(self._plain.read(size))
        except EOFError:
            raise self._truncated() from None
        except (gzip.BadGzipFile, zlib.error):
            raise self._corrupt("the gzip stream is damaged (checksum or structure)") from None
        except OSError as error:
            raise read_failure(error, self.place.where) from None
        self.position += len(data)
        return data

    def _truncated(self) -> Exception:
        of_all = "" if self.expected is None else f" of {self.expected}"
        return self.place.error(
            InputError, "E_TRUNCATED", f"stream ends after {self.position}{of_all} bytes", _REMEDY
        )

    def _corrupt(self, cause: str) -> Exception:
        return self.place.error(InputError, "E_CORRUPT", cause, _REMEDY)
