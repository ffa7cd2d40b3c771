"""Result folders that claim, hold or point at more than anybody should read."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from medfuse.results.folder import MANIFEST, file_sha256
from medfuse.verification.files import entries
from tests._helpers.hostile import deflated_zeros

Spoil = Callable[[Path], None]
TERABYTE = 1 << 40


def _text(name: str, content: str) -> Spoil:
    def spoil(folder: Path) -> None:
        _new(folder / name).write_text(content)

    return spoil


def _new(path: Path) -> Path:
    """A path that nothing stands at: the files of the folder are links of one another."""
    path.unlink(missing_ok=True)
    return path


def _sparse(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        with _new(folder / name).open("wb") as file:
            file.truncate(TERABYTE)

    return spoil


def _pipe(name: str) -> Spoil:
    return lambda folder: os.mkfifo(_new(folder / name))


def _link(name: str, target: str) -> Spoil:
    return lambda folder: _new(folder / name).symlink_to(target)


def _edit(name: str, *way: Any, to: Any) -> Spoil:
    """Set one entry of a record."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        inside = content
        for step in way[:-1]:
            inside = inside[step]
        inside[way[-1]] = to
        _new(folder / name).write_text(json.dumps(content))

    return spoil


def _raw(name: str, old: str, new: str) -> Spoil:
    """Put what the JSON of Python would not write into a record."""

    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        _new(folder / name).write_text(text.replace(old, new, 1))

    return spoil


def _bomb(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        head = b"\x1f\x8b\x08" + bytes(5) + b"\x04\xff"
        _new(folder / name).write_bytes(head + deflated_zeros(1 << 30) + bytes(8))

    return spoil


def _behind(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        bomb = b"\x1f\x8b\x08" + bytes(7) + deflated_zeros(1 << 30) + bytes(8)
        _new(folder / name).write_bytes(content + bomb)

    return spoil


def _large_header(folder: Path) -> None:
    path = folder / "luminance.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<8h", content, 40, 7, *[32767] * 7)
    _new(path).write_bytes(gzip.compress(bytes(content)))


def _picture_bomb(folder: Path) -> None:
    """A few figures of 144 million pixels, and noise so that all must be made smaller."""
    Image.new("1", (12000, 12000)).save(folder / "figures" / "bomb.png", compress_level=9)
    content = (folder / "figures" / "bomb.png").read_bytes()
    for number in range(300):
        (folder / "figures" / f"bomb{number}.png").write_bytes(content)


def _crowded(folder: Path) -> None:
    (folder / "png").mkdir()
    for number in range(3000):
        (folder / "png" / f"{number}.png").touch()


def _nested(folder: Path) -> None:
    """Deeper than a path may be long."""
    here = os.getcwd()
    os.chdir(folder)
    for _ in range(60):
        os.mkdir("d" * 100)
        os.chdir("d" * 100)
    os.chdir(here)


def _folder_as_file(folder: Path) -> None:
    _new(folder / MANIFEST).mkdir()


def _names(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\xfe\n\x1b[31m")).write_text("x")


def _step(number: int, part: str, name: str, to: Any) -> Spoil:
    return _edit("provenance.json", "steps", number, part, name, to=to)


#: What is done to a copy of a sound result. The manifest is made to fit afterwards.
HOSTILE: dict[str, Spoil] = {
    "array-of-folders": _folder_as_file,
    "check-of-a-million": _edit("audit.json", "checks", to=[{"id": "x"}] * 200_000),
    "crowded": _crowded,
    "deep-audit": _text("audit.json", "[" * 100_000),
    "deep-notes": _raw("provenance.json", '"notes": [', '"notes": [' + "[" * 900 + "]" * 900 + ","),
    "far-affine": _edit("transform.json", "fixed_grid", "affine", 0, to=[1e308, 0, 0, 1e308]),
    "figure-bombs": _picture_bomb,
    "huge-record": _text("provenance.json", '{"notes": [' + "0," * (1 << 23) + "0]}"),
    "huge-sizes": _large_header,
    "huge-sources": _edit("provenance.json", "inputs", "functional", "shape", to=[10**9] * 3),
    "infinite": _raw("transform.json", '"overlap": ', '"overlap": 1e999, "before": '),
    "large-grid": _edit("transform.json", "fixed_grid", "shape", to=[30000, 30000, 30000]),
    "level-of-a-million": _step(4, "parameters", "levels", 1_000_000),
    "levels-of-letters": _step(4, "parameters", "levels", "all"),
    "linked-report": _link("report.html", "/dev/zero"),
    "linked-transform": _link("transform.tfm", "/dev/zero"),
    "linked-volume": _link("luminance.nii.gz", "/dev/zero"),
    "long-number": _raw("provenance.json", '"seed": 0', '"seed": ' + "9" * 5000),
    "long-table": _edit("provenance.json", "colormap", "table", to=["0 0 0"] * 500_000),
    "lost-steps": _edit("provenance.json", "steps", to=[]),
    "negative-grid": _edit("transform.json", "fixed_grid", "shape", to=[-1, 0, True]),
    "nested": _nested,
    "notes-of-a-million": _edit("provenance.json", "notes", to=["x"] * 1_000_000),
    "odd-names": _names,
    "packed-behind": _behind("weight_map.nii.gz"),
    "packed-zeros": _bomb("luminance.nii.gz"),
    "linked-viewer": _link("figures/viewer_share.nii.gz", "/dev/zero"),
    "piped-viewer": _pipe("figures/viewer_share.nii.gz"),
    "piped-figure": _pipe("figures/pipe.png"),
    "piped-record": _pipe("audit.json"),
    "piped-report": _pipe("report.html"),
    "sparse-record": _sparse("transform.json"),
    "sparse-report": _sparse("report.html"),
    "sparse-signature": _sparse(f"{MANIFEST}.minisig"),
    "sparse-volume": _sparse("fused_rgb.nii.gz"),
    "twice": _raw("audit.json", '"verdict": ', '"verdict": "pass", "verdict": '),
    "without-numbers": _raw("transform.json", '"overlap": ', '"overlap": NaN, "before": '),
}  # fmt: skip


def write_hostile_results(result: Path, study: Path, *names: str) -> None:
    """A folder for some of `HOSTILE`, each a copy of a sound result in which one thing is odd."""
    for name in names:
        folder = study / name
        shutil.copytree(result, folder, copy_function=os.link)
        HOSTILE[name](folder)
        if (folder / MANIFEST).is_file():
            _fit(folder)


def _fit(folder: Path) -> None:
    """A manifest that names what lies there, with its size."""
    manifest, files = json.loads((folder / MANIFEST).read_text()), {}
    for name, size in entries(folder)[0].items():
        if not name.startswith(MANIFEST):
            digest = "0" * 64 if size >= TERABYTE else file_sha256(folder / name)
            files[os.fsencode(name).decode(errors="replace")] = {"sha256": digest, "bytes": size}
    content = json.dumps(manifest | {"files": files}, indent=1) + "\n"
    _new(folder / MANIFEST).write_text(content)
