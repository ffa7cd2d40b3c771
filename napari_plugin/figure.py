"""Pictures and movies for slides: what they are of stands on them and in the file.

PNG keeps the facts as text chunks, GIF as a comment. Names of layers and files are not written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from medfuse import __version__
from medfuse.errors import SHORT_NOTICE, UsageError
from medfuse.results.folder import whole_file, writing
from napari_plugin.case import case_name
from napari_plugin.result import Result

MOVIES = (".gif", ".png")
FRAMES = 72  # of a whole turn
FRAME_MS = 80


@dataclass(frozen=True)
class About:
    """What a picture is of.

    Attributes
    ----------
    case : str
    provenance : str
        Key of the provenance record, by which the result folder is found.
    verdict : str
        Of the audit.
    remark : str
        Empty where it is the result of what is chosen.
    """

    case: str
    provenance: str
    verdict: str
    remark: str = ""

    @classmethod
    def of(cls, result: Result, case: str = "") -> About:
        """What is known of a result; ``case``: the name it was exported under."""
        fusion = result.fusion
        key = str(json.loads(fusion.record).get("key", ""))
        name = case or fusion.opened or case_name(fusion)
        remark = "" if result.is_current or fusion.opened else "an earlier result"
        return cls(name, key, fusion.audit.verdict, remark)

    @property
    def caption(self) -> str:
        """One line below the picture."""
        parts = [self.case, f"provenance {self.provenance[:12]}", f"audit {self.verdict}"]
        return "  |  ".join([*parts, *([self.remark] if self.remark else []), SHORT_NOTICE])

    @property
    def facts(self) -> dict[str, str]:
        """What is written into the file."""
        facts = {
            "Software": f"medfuse {__version__}",
            "Case": self.case,
            "Provenance": self.provenance,
            "Audit": self.verdict,
            "Comment": SHORT_NOTICE,
        }
        return facts | ({"Warning": self.remark} if self.remark else {})


def write_figure(path: Path, rgb: NDArray[np.uint8], about: About) -> Path:
    """Write an (H, W, 3) picture as PNG.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    """
    return _write(path, [rgb], about)


def write_movie(path: Path, frames: list[NDArray[np.uint8]], about: About) -> Path:
    """Write frames as an animated GIF or PNG, by the ending of the name; it runs forever.

    Raises
    ------
    UsageError
        ``E_USAGE``: another ending.
    OutputError
        ``E_WRITE``.
    """
    return _write(path, frames, about)


def _write(path: Path, frames: list[NDArray[np.uint8]], about: About) -> Path:
    if path.suffix.lower() not in MOVIES:
        raise UsageError(
            "E_USAGE",
            what="Cannot write the picture",
            where=path.name,
            cause=f"its name ends in {path.suffix or 'nothing'}",
            remedy=f"End it in {' or '.join(MOVIES)}",
        )
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    more: dict[str, Any] = {}
    if len(images) > 1:
        more = {"save_all": True, "append_images": images[1:], "duration": FRAME_MS, "loop": 0}
    if path.suffix.lower() == ".png":
        info = PngImagePlugin.PngInfo()
        for name, value in about.facts.items():
            info.add_itxt(name, value)
        more["pnginfo"] = info
    else:
        more["comment"] = json.dumps(about.facts).encode()
    kind = "PNG" if path.suffix.lower() == ".png" else "GIF"
    with writing(path), whole_file(path) as file:
        images[0].save(file, format=kind, **more)
    return path
