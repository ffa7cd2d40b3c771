"""The viewer inside a report: niivue, the small volumes, and the places that audit rows lead to."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import json
import math
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from medfuse.errors import InputError, MedfuseError
from medfuse.imaging.grid import DisplayOrder, Grid, transform_points
from medfuse.report.viewer import NAMES

#: Of the files of one viewer together; those that medfuse writes are far smaller.
MAX_BYTES = 1 << 25
Places = list[tuple[str, str]]


def viewer_data(figures: Path, index: dict[str, Any]) -> dict[str, Any] | None:
    """What the template needs of the viewer; None where the figures have none.

    Parameters
    ----------
    figures : Path
        The folder with ``viewer_*.nii.gz``.
    index : dict
        Content of ``figures.json``.

    Raises
    ------
    InputError
        ``E_NOT_A_RESULT`` where a file is missing, ``E_TOO_LARGE`` where they are too large.
    """
    told = index.get("viewer")
    if told is None:
        return None
    packed, sha256 = _niivue()
    names = [name for name in NAMES if name in told["files"]]
    facts = {
        **told,
        "files": dict.fromkeys(names, True),
        "spot_mm": index["spot"]["ras_mm"],
    }
    # A "<" could end the element that holds the text.
    text = json.dumps(facts, ensure_ascii=True, sort_keys=True).replace("<", "\\u003c")
    return {
        "facts": Markup(text),
        "told": told,
        "names": names,
        "files": _read(figures, names),
        "niivue": Markup(packed),
        "niivue_sha256": sha256,
    }


def places(
    audit: dict[str, Any], transform: dict[str, Any], figures: dict[str, Any]
) -> dict[str, Places]:
    """Where the crosshair goes for a check: its id -> (name of the place, JSON of RAS mm)."""
    found = {}
    for check in audit["checks"]:
        named = list(_places(check, transform, figures))
        shown = [(name, json.dumps(mm)) for name, mm in named if _is_point(mm)]
        if shown:
            found[check["id"]] = shown
    return found


def _places(
    check: dict[str, Any], transform: dict[str, Any], figures: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    details = check.get("details") or {}
    for number, spot in enumerate(details.get("spots") or [], 1):
        yield f"spot {number}", spot.get("position_ras_mm")
    if "position_ras_mm" in details:
        yield "the place", details["position_ras_mm"]
    if check["id"] == "invented" and "slice" in details and transform.get("fixed_grid"):
        yield "the worst slice", _middle_of(transform["fixed_grid"], details["slice"])
    if check["id"] in ("share", "window"):
        yield "the hottest spot", figures["spot"]["ras_mm"]
    if check["id"] == "registration":
        for place in (transform.get("expected_error") or {}).get("places", []):
            yield str(place["name"]), place.get("point")


def _middle_of(grid: dict[str, Any], number: Any) -> list[float] | None:
    """The middle of a slice, counted in display order."""
    try:
        x, y, z = grid["shape"]
        lattice = Grid((x, y, z), np.asarray(grid["affine"], dtype=float))
    except (MedfuseError, KeyError, TypeError, ValueError):
        return None
    order = DisplayOrder.from_grid(lattice)
    index = (np.array(lattice.shape) - 1) / 2.0
    axis = order.axes[0]
    index[axis] = lattice.shape[axis] - 1 - number if order.flips[0] else number
    point: list[float] = transform_points(lattice.affine, index).round(1).tolist()
    return point


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    )


def _read(folder: Path, names: list[str]) -> dict[str, Markup]:
    """Files in base64, by what they show."""
    paths = {name: folder / f"viewer_{name}.nii.gz" for name in names}
    try:
        for path in paths.values():
            if path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "it is no file", str(path))
        if sum(path.stat().st_size for path in paths.values()) > MAX_BYTES:
            raise InputError(
                "E_TOO_LARGE",
                what="Cannot make a report",
                cause=f"its volumes take more than {MAX_BYTES >> 20} MB",
                remedy="Run the case again",
            )
        content = {name: path.read_bytes() for name, path in paths.items()}
    except OSError as error:
        raise InputError(
            "E_NOT_A_RESULT",
            what="Cannot make a report",
            where=Path(error.filename or "figures").name,
            cause=error.strerror or "it cannot be read",
            remedy="Run the case again",
        ) from error
    return {name: Markup(base64.b64encode(data).decode()) for name, data in content.items()}


@cache
def _niivue() -> tuple[str, str]:
    """The packed script in base64, and the sha256 of what is in it."""
    packed = resources.files("medfuse.report").joinpath("vendor/niivue.min.js.gz").read_bytes()
    digest = hashlib.sha256(gzip.decompress(packed)).hexdigest()
    return base64.b64encode(packed).decode(), digest
