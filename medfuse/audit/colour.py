"""Checks of the picture: gamut, colour, window, field of view, and reading uptake back."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from medfuse.audit.model import Check, Evidence, ReadBack
from medfuse.audit.sums import Sums
from medfuse.kernel.colormaps import read_back

MANY_CHANGED, MANY_DRIFTED, MANY_SATURATED, LITTLE_COVERED = 0.25, 0.01, 0.05, 0.25
READ_BACK_ERROR = 0.05


def picture(sums: Sums, e: Evidence) -> Iterator[Check]:
    """Checks ``gamut``, ``chroma``, ``coverage``, ``window``, as far as there is evidence."""
    if e.gamut_change is not None:
        yield _gamut(sums, e.gamut)
    if e.chroma_change is not None:
        yield _chroma(sums, e.chroma_change_before)
    if sums.covered:
        yield _coverage(sums)
    if e.functional is not None and sums.covered:
        yield _window(sums, e)


def uptake_read_back(sample: ReadBack | None) -> Iterator[Check]:
    """Check ``read_back``: is the value that the colour tells the value that was measured?"""
    if sample is None or len(sample.values) < 2:
        return
    value, _ = read_back(sample.rgb.unsqueeze(0), sample.colormap)
    error = (value[0, 0] - sample.values).abs()
    half, most = (float(torch.quantile(error, q)) for q in (0.5, 0.95))
    yield Check(
        "read_back",
        "Uptake can be read from the colour",
        most,
        "fraction of the window (95th percentile)",
        READ_BACK_ERROR,
        "pass" if most <= READ_BACK_ERROR else "look",
        f"Read from the 8-bit picture by its chroma alone, the value is off by "
        f"{100 * half:.2f} % of the window in the median and {100 * most:.2f} % in the 95th "
        f"percentile (colour map {sample.colormap}).",
        {"median": half, "percentile_95": most, "voxels": len(sample.values)},
    )


def _gamut(sums: Sums, policy: str) -> Check:
    fraction = sums.gamut.count / sums.voxels
    what = (
        "Luminance had to move into the range in which the functional colour exists"
        if policy == "fit"
        else "Channels were cut to the RGB range"
    )
    return Check(
        "gamut",
        "Luminance that a screen can show",
        fraction,
        "fraction of voxels",
        MANY_CHANGED,
        "pass" if fraction <= MANY_CHANGED else "look",
        f"{what} in {100 * fraction:.1f} % of the voxels (largest change "
        f"{255 * sums.gamut.largest:.0f} of 255): there the picture differs from the luminance "
        "file.",
        {"fraction": fraction, "maximum": sums.gamut.largest, "policy": policy},
    )


def _chroma(sums: Sums, before: float | None) -> Check:
    fraction = sums.chroma.count / sums.voxels
    start = (
        "The chroma (Cb, Cr) of the picture differs from that of the coloured functional image"
        if before is None
        else f"Fusing changed Cb and Cr by {before:.1g} at most (rounding). Bringing the picture "
        "into the RGB range then changed them"
    )
    return Check(
        "chroma",
        "Functional colour untouched",
        fraction,
        "fraction of voxels",
        MANY_DRIFTED,
        "pass" if fraction <= MANY_DRIFTED else "look",
        f"{start} by more than one grey level in {100 * fraction:.2f} % of the voxels (largest "
        f"{255 * sums.chroma.largest:.1f} of 255).",
        {
            "fraction": fraction,
            "maximum": sums.chroma.largest,
            "maximum_before_clipping": before,
        },
    )


def _coverage(sums: Sums) -> Check:
    part = sums.covered / sums.voxels
    return Check(
        "coverage",
        "Functional field of view",
        part,
        "fraction of voxels",
        LITTLE_COVERED,
        "pass" if part >= LITTLE_COVERED else "look",
        f"{100 * part:.1f} % of the anatomical grid lies inside the functional field of view. "
        "Outside it nothing was measured and the picture is the anatomical image alone.",
    )


_SET_WINDOW = "; set the window to tell them apart."
_BONE = "; a CT window leaves bone out."


def _window(sums: Sums, e: Evidence) -> Check:
    part = e.saturated / sums.covered
    many = part > MANY_SATURATED and not e.window_by_design
    return Check(
        "window",
        "Functional values inside the window",
        part,
        "fraction of voxels",
        MANY_SATURATED,
        "look" if many else "pass",
        f"{100 * part:.2f} % of the voxels lie above the window and share its last colour"
        + (_BONE if e.window_by_design else _SET_WINDOW if many else "."),
        {"voxels": e.saturated},
    )
