"""Rows of a table as spreadsheets save it: any of their separators, encodings and habits."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from medfuse.errors import InputError, UsageError

_SEPARATORS = ",;\t"
_CHUNK = 1 << 20
_HEAD_LINES = 20  # in which the line with the names of the columns must stand
#: Old Windows text. It is believed for letters only: a wrong letter in a path finds no file.
_OTHERWISE = "cp1252"
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
_TEXT_CELL = re.compile(r'="((?:[^"]|"")*)"')  # what keeps Excel from changing 007 into 7


class Sheet:
    """A CSV or TSV file, read row by row.

    Attributes
    ----------
    columns : list of str
        Names of the columns in lower case; the unnamed ones at the end are left out.
    encoding : str
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        self.encoding = _encoding(self._file, path)
        self._text = io.TextIOWrapper(self._file, self.encoding, newline="")
        self.separator, self.columns, self._line = self._header()

    def __enter__(self) -> Sheet:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def rows(self) -> Iterator[tuple[int, dict[str, str], str]]:
        """Number of the line, cells by column, and what is wrong with the line or an empty text."""
        reader = csv.reader(self._text, delimiter=self.separator, strict=True)
        number = self._line + 1
        while True:
            try:
                cells = [_cell(cell) for cell in next(reader)]
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                yield number, {}, f"the line and all below it cannot be read ({error})"
                return
            if any(cells) and not cells[0].startswith("#"):
                row = dict(zip(self.columns, cells, strict=False))
                yield number, row, self._fault(cells)
            number = self._line + reader.line_num + 1

    def _fault(self, cells: list[str]) -> str:
        extra = [cell for cell in cells[len(self.columns) :] if cell]
        if extra:
            return (
                f"it has {len(cells)} cells and the first line names {len(self.columns)} columns: "
                "put quotation marks around a cell that holds the separator"
            )
        formula = next((n + 1 for n, cell in enumerate(cells) if cell.startswith("=")), 0)
        return f"cell {formula} holds a formula and no value" if formula else ""

    def _header(self) -> tuple[str, list[str], int]:
        stated = ""
        for number in range(1, _HEAD_LINES + 1):
            line = self._text.readline(_CHUNK)
            mark = re.fullmatch(r'\s*"?sep=(\\t|.)"?[,;\s]*', line, re.IGNORECASE | re.DOTALL)
            if mark:
                stated = mark[1].replace("\\t", "\t")
                continue
            if not line.strip(" \t\r\n,;") or line.startswith("#"):
                continue
            separator = stated or max(_SEPARATORS, key=line.count)
            cells = next(csv.reader([line], delimiter=separator), [])
            columns = [_cell(name).lower() for name in cells]
            while columns and not columns[-1]:
                columns.pop()
            return separator, columns, number
        return stated or ",", [], _HEAD_LINES


def _cell(text: str) -> str:
    """A cell without what surrounds it: blanks, quotation marks, the sign for "this is text"."""
    text = text.replace("\ufeff", "").strip()
    whole = _TEXT_CELL.fullmatch(text)
    if whole:
        text = whole[1].replace('""', '"').strip()
    for mark in ('"', "'"):
        if len(text) > 1 and text[0] == text[-1] == mark:
            text = text[1:-1].strip()
    return text


def _opened(path: Path) -> IO[bytes]:
    try:
        file = path.open("rb")
        return file if file.seekable() else io.BytesIO(file.read())
    except OSError as error:
        raise InputError(
            "E_UNREADABLE",
            what="Cannot read the manifest",
            where=path.name,
            cause=(error.strerror or "unknown").lower(),
            remedy="Check the path (relative to the CSV)",
        ) from error


def _encoding(file: IO[bytes], path: Path) -> str:
    """UTF-16 or UTF-8 where the bytes are such, else that of old Windows programs."""
    head = file.read(4096)
    file.seek(0)
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise refuse(path, "it is a workbook", 'Save it in Excel as "CSV UTF-8"')
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.count(0) > len(head) // 4:
        even, odd = head[::2].count(0), head[1::2].count(0)
        return "utf-16-be" if even > odd else "utf-16-le"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := file.read(_CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _OTHERWISE
    finally:
        file.seek(0)
    return "utf-8-sig"


def find_path(text: str, folder: Path) -> Path | None:
    """The file or folder that a cell names, relative to `folder`; None where there is none.

    Tried as it is written, with the separators of Windows, and with accents composed otherwise: a
    spreadsheet on a Mac and a disk on Linux write them differently.
    """
    plain = re.sub(r"^file:/+(?=/|[A-Za-z]:)", "", text)
    for form in dict.fromkeys((text, plain, plain.replace("\\", "/"))):
        for name in dict.fromkeys((form, *(unicodedata.normalize(n, form) for n in _FORMS))):
            try:
                path = folder / Path(name).expanduser()
                if path.exists():
                    return path
            except (OSError, ValueError, RuntimeError):  # too long, a zero byte, no such user
                continue
    return None


def refuse(path: Path, cause: str, remedy: str) -> UsageError:
    """The manifest as a whole cannot be used."""
    return UsageError(
        "E_MANIFEST",
        what="Cannot read the manifest",
        where=path.name,
        cause=cause,
        remedy=remedy,
    )
