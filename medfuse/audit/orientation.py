"""Left, right and place: does the picture fit its sources best as they lie?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from medfuse.audit.model import Check, Evidence, Verdict
from medfuse.kernel.explained import fit_sources

SLICES = 12  # looked at, evenly spread
CLEAR = 0.02  # difference below which two ways of lying cannot be told apart
FAINT = 0.2  # correlation below which a picture resembles its sources nowhere


def laterality(e: Evidence) -> Check:
    """Check ``laterality``: fit the sources to the picture as they lie and mirrored left-right.

    A mirrored or turned picture fits the mirrored sources better. Patients are never symmetric in
    detail, so that a few slices tell it clearly.
    """
    axis = _left_right(e)
    there = explained(e)
    mirrored = explained(e, mirror=axis)
    margin = there - mirrored
    verdict, text = judge_side(margin)
    return Check(
        "laterality",
        "Left-right orientation",
        margin,
        "fraction of the structure explained, as it lies minus mirrored",
        0.0,
        verdict,
        f"The two sources explain {100 * there:.0f} % of the structure of the fused image as they "
        f"lie, {100 * mirrored:.0f} % mirrored left to right. {text}{_words(e)}",
        {"explained": there, "explained_mirrored": mirrored, **_facts(e)},
    )


def judge_side(margin: float) -> tuple[Verdict, str]:
    """Verdict on how much better the sources fit as they lie than mirrored, and its words."""
    if margin > CLEAR:
        return "pass", "So the fused image has the side of its sources."
    if margin < -CLEAR:
        return "fail", "So the fused image is MIRRORED: its left is the right of its sources."
    return "look", "Left and right cannot be told from that; compare an asymmetric organ by eye."


def explained(e: Evidence, mirror: int | None = None) -> float:
    """Part of the picture's structure that local fits of the sources explain, in some slices.

    Parameters
    ----------
    e : Evidence
    mirror : int, optional
        Axis (0 slices, 1 rows, 2 columns) along which the sources are mirrored first.
    """
    chosen = _chosen(len(e.a))
    picture = e.luminance[chosen]
    sources = [_mirrored(x, chosen, mirror) for x in (e.a, e.b)]
    fit = fit_sources(picture, *sources)
    none = torch.zeros_like(picture)
    whole = fit_sources(picture, none, none)
    total = float((whole.residual * fit.filled).sum(dtype=torch.float64))
    left = float((fit.residual * fit.filled).sum(dtype=torch.float64))
    return 1 - left / total if total else 0.0


def position(e: Evidence) -> Check:
    """Check ``position``: does the picture lie where its sources lie?

    The fine structure (what a mean over 9 x 9 voxels leaves) of the picture is correlated with that
    of each source for all shifts within a slice; the highest correlation must be at no shift.
    """
    chosen = _chosen(len(e.a))
    picture = _fine(e.luminance[chosen])
    best = max((_best_shift(picture, _fine(x[chosen])) for x in (e.a, e.b)), key=lambda s: s.peak)
    moved = best.peak - best.still > CLEAR and best.peak > FAINT
    distance = float(np.hypot(best.rows, best.columns))
    return Check(
        "position",
        "Alignment with the sources",
        distance if moved else 0.0,
        "voxels",
        0.0,
        "fail" if moved else "pass",
        f"The fused image agrees best with its sources when they are shifted by {best.rows} rows "
        f"and {best.columns} columns (correlation {best.peak:.2f}; {best.still:.2f} as they lie): "
        "it was moved."
        if moved
        else f"Fine structure agrees best as it lies (correlation {best.still:.2f}).",
        {"rows": best.rows, "columns": best.columns, "peak": best.peak, "as_it_lies": best.still},
    )


@dataclass(frozen=True)
class _Shift:
    rows: int
    columns: int
    peak: float
    still: float


def _best_shift(picture: Tensor, source: Tensor) -> _Shift:
    """Highest circular cross-correlation over all slices, within half the picture."""
    spectra = [torch.fft.rfft2(x[:, 0]) for x in (picture, source)]
    size = picture.shape[-2:]
    correlation = torch.fft.irfft2((spectra[0] * spectra[1].conj()).sum(0), s=size)
    correlation /= (picture.norm() * source.norm()).clamp_min(1e-12)
    row, column = divmod(int(correlation.argmax()), size[1])
    shift = [i - n if i > n // 2 else i for i, n in zip((row, column), size, strict=True)]
    return _Shift(shift[0], shift[1], float(correlation.max()), float(correlation[0, 0]))


def _fine(x: Tensor) -> Tensor:
    return x - avg_pool2d(x, 9, 1, 4, count_include_pad=False)


def _chosen(count: int) -> Tensor:
    """Some slices, evenly spread."""
    steps = torch.linspace(0, count - 1, min(SLICES, count) + 2)
    chosen: Tensor = steps.round().long().unique()
    return chosen


def _mirrored(x: Tensor, chosen: Tensor, axis: int | None) -> Tensor:
    if axis == 0:
        return x[len(x) - 1 - chosen]
    return x[chosen] if axis is None else x[chosen].flip(axis + 1)


def _left_right(e: Evidence) -> int:
    """Axis of (slice, row, column) nearest to left-right; columns without geometry."""
    if e.affine is None:
        return 2
    direction = e.affine[:3, :3] / np.linalg.norm(e.affine[:3, :3], axis=0)
    return int(np.abs(direction[0]).argmax())


def _facts(e: Evidence) -> dict[str, Any]:
    if e.stored_affine is None:
        return {}
    affine = e.stored_affine
    return {
        "axes": "".join(nib.orientations.aff2axcodes(affine)),
        "handedness": "right" if np.linalg.det(affine[:3, :3]) > 0 else "left",
    }


_WORDS = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "head", "I": "feet"}


def _words(e: Evidence) -> str:
    """What the geometry of the anatomical image says."""
    facts = _facts(e)
    if not facts:
        return " The images carry no geometry, columns were taken as left-right."
    return (
        f" The axes of the anatomical grid, on which the result lies, run to the patient's "
        f"{', '.join(_WORDS[code] for code in facts['axes'])} ({facts['axes']}, "
        f"{facts['handedness']}-handed)."
    )
