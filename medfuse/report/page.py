"""Making self-contained pages: templates that escape everything, pictures inside the file."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from medfuse.errors import InputError
from medfuse.kernel.cores import usable_cores, wanted_threads
from medfuse.report.words import limit_in_words, value_in_words

# A page stays under 8 MB: base64 makes 4 bytes of 3, and some room is left for the text and viewer.
PICTURE_BUDGET = 3_300_000
#: Figures of a case are far smaller together.
_MAX_PICTURE_BYTES, _MAX_PIXELS = 1 << 28, 1 << 28


def render(template: str, *scripts: str, others: Sequence[str] = (), **content: Any) -> str:
    """Fill a template; everything that is not the template's own text is escaped.

    The page forbids itself every connection, and every script but its own and those with the
    sha256 (hexadecimal) in `others`, by their hashes.
    """
    environment = Environment(
        loader=PackageLoader("medfuse.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"num": number, "found": value_in_words, "limit": limit_in_words}
    assert environment.loader is not None
    sources = [environment.loader.get_source(environment, name)[0] for name in scripts]
    source = "".join(sources)
    digests = [hashlib.sha256(source.encode()).digest(), *map(bytes.fromhex, others)]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return environment.get_template(template).render(
        **content, script=Markup(source), allowed=Markup(allowed)
    )


def inline_pictures(paths: Iterable[Path]) -> dict[str, str]:
    """PNG files as data URIs by file name; all are made smaller when they are too much together."""
    paths = list(paths)
    if not all(path.is_file() for path in paths):
        raise _odd_figures("are not all files")
    held = sum(path.stat().st_size for path in paths)
    if held > _MAX_PICTURE_BYTES:
        raise _odd_figures(f"take {held >> 20} MB, more than {_MAX_PICTURE_BYTES >> 20} MB")
    files = {path.name: path.read_bytes() for path in paths}
    total = sum(map(len, files.values()))
    if total > PICTURE_BUDGET:
        _require_usual_size(files)
        # Of a side: enlarged pictures hold no more when they are larger.
        scale = PICTURE_BUDGET / total
        with ThreadPoolExecutor(wanted_threads() or usable_cores()) as pool:
            smaller = pool.map(partial(_shrink, scale=scale), files.values())
            files = dict(zip(files, smaller, strict=True))
    return {name: data_uri(content, "image/png") for name, content in files.items()}


def _require_usual_size(files: dict[str, bytes]) -> None:
    """Figures are unpacked only where they are as large as those of a case."""
    pixels = 0
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        for content in files.values():
            with Image.open(io.BytesIO(content)) as picture:
                pixels += picture.width * picture.height
    if pixels > _MAX_PIXELS:
        raise _odd_figures(f"have {pixels / 1e6:.0f} million pixels")


def _odd_figures(cause: str) -> InputError:
    return InputError(
        "E_TOO_LARGE",
        what="Cannot make a report",
        cause=f"its figures {cause}",
        remedy="Run the case again",
    )


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def number(value: Any) -> str:
    """Show a number with four significant digits, anything else as text; a dash for nothing."""
    if isinstance(value, list | tuple):
        return ", ".join(number(v) for v in value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if 1e4 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def _shrink(content: bytes, scale: float) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        small = picture.resize(size, Image.Resampling.LANCZOS) if picture.height > 1 else picture
        buffer = io.BytesIO()
        small.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
