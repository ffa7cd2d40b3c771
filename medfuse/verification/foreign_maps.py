"""Maps of an audit as pictures: where luminance overshoots, what is unexplained, whose it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfuse.audit import contradiction_map, unexplained_map
from medfuse.audit.both_sources import shown_luminance
from medfuse.errors import UsageError
from medfuse.kernel.colormaps import apply_colormap
from medfuse.report.contradiction import MIDDLE
from medfuse.report.panels import outline, share_colours
from medfuse.results.export import ResultFolder, square_pixels, to_bytes, write_png
from medfuse.verification.foreign import ForeignAudit

MOST = 5  # slices of a volume that are shown
GAP = 6
FULL_OVERSHOOT = 50 / 255  # shown in the brightest colour


def write_audit(
    out: Path, found: ForeignAudit, *, inputs: dict[str, Path], keep_names: bool = False
) -> None:
    """Write ``audit.json`` and one picture for each map, the whole folder or nothing.

    Each picture shows slices side by side: the fused picture above, the map below. ``overshoot``:
    red where brighter, blue where darker than both sources nearby, full at 50 of 255;
    ``invented``: black explained, yellow not; ``share``: yellow anatomical, blue functional.
    ``contradiction``, only where one is flagged: functional, anatomical and fused image of the
    worst slice, below with the places outlined.

    Raises
    ------
    OutputError
        ``E_WRITE``.
    UsageError
        ``E_UNSAFE_PATH`` if the folder is that of an input.
    """
    if any(path.resolve().is_relative_to(out.resolve()) for path in inputs.values()):
        raise UsageError(
            "E_UNSAFE_PATH",
            what="Cannot write the audit",
            where=out.name,
            cause="the folder holds an input",
            remedy="Choose another folder",
        )
    with ResultFolder(out, case=out.name) as folder:
        record = audit_record(found, inputs=inputs, keep_names=keep_names)
        text = json.dumps(record, indent=2)
        (folder.path / "audit.json").write_text(text + "\n", encoding="utf-8")
        for name, picture in _pictures(found).items():
            write_png(folder.path / f"{name}.png", picture)


def audit_record(
    found: ForeignAudit, *, inputs: dict[str, Path], keep_names: bool = False
) -> dict[str, Any]:
    """Audit, notes and inputs, ready for JSON; with `keep_names` the names of the files too."""
    names = {role: path.name if keep_names else role for role, path in inputs.items()}
    return {**found.audit.to_dict(), "inputs": names, "notes": list(found.notes)}


def _pictures(found: ForeignAudit) -> dict[str, np.ndarray]:
    e = found.evidence
    unexplained = unexplained_map(e)
    maps = {"invented": to_bytes(apply_colormap(unexplained, "hot"))}
    if e.overshoot is not None:
        maps["overshoot"] = _signed(e.overshoot)
    if e.share is not None:
        colours = share_colours(e.share[:, 0].numpy())
        maps["share"] = np.moveaxis(colours, -1, 1)
    fused = to_bytes(e.rgb)
    shown = _shown(e.a + e.b, unexplained)
    pictures = {
        name: _montage(fused[shown], colours[shown], found.order.spacing[1:])
        for name, colours in maps.items()
    }
    places = contradiction_map(e.a, e.b, shown_luminance(e)).numpy()
    if places.any() and not e.colours_unknown:
        pictures["contradiction"] = _contradiction(found, places)
    return pictures


def _contradiction(found: ForeignAudit, places: np.ndarray) -> np.ndarray:
    """The worst slice: functional, anatomical, fused; below the same with the places outlined."""
    e = found.evidence
    worst = int((places == MIDDLE).sum(axis=(1, 2)).argmax())
    above = np.stack([to_bytes(x[worst].expand(3, -1, -1)) for x in (e.a, e.b, e.rgb)])
    marked = [outline(np.moveaxis(x, 0, -1), places[worst] > 0) for x in above]
    return _montage(above, np.moveaxis(np.stack(marked), -1, 1), found.order.spacing[1:])


def _shown(content: Tensor, unexplained: Tensor) -> list[int]:
    """Slices from 15 to 85 % of those with content, and the one that is explained worst."""
    filled = (content > 0.1).float().mean((1, 2, 3)) > 0.02
    slices = filled.nonzero()[:, 0] if bool(filled.any()) else torch.arange(len(content))
    steps = torch.linspace(0.15, 0.85, min(MOST, len(slices)))
    chosen = slices[(steps * (len(slices) - 1)).round().long()].tolist()
    return sorted({*chosen, int(unexplained.mean((1, 2, 3)).argmax())})


def _signed(overshoot: Tensor) -> np.ndarray:
    part = (overshoot / FULL_OVERSHOOT).clamp(-1, 1)
    over, under = part.clamp(min=0), (-part).clamp(min=0)
    return to_bytes(torch.cat([over, 0.4 * (over + under), under], dim=1))


def _montage(above: np.ndarray, below: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """(n, 3, R, K) pictures over (n, 3, R, K) maps."""
    columns = []
    for pair in zip(above, below, strict=True):
        cells = [square_pixels(np.moveaxis(x, 0, -1), spacing) for x in pair]
        space = np.zeros((GAP, cells[0].shape[1], 3), np.uint8)
        columns.append(np.vstack([cells[0], space, cells[1]]))
    space = np.zeros((columns[0].shape[0], GAP, 3), np.uint8)
    return np.hstack([part for column in columns for part in (column, space)][:-1])
