"""Checks of the picture: gamut, colour, window, field of view, and reading uptake back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medfuse.audit.hot_spots import HotSpots
from medfuse.audit.model import Check, Evidence, ReadBack
from medfuse.audit.sums import Sums
from medfuse.kernel.colormaps import read_back
from medfuse.kernel.two_way_reading import take_apart

MANY_CHANGED, MANY_DRIFTED, MANY_SATURATED, LITTLE_COVERED = 0.25, 0.01, 0.05, 0.25
READ_BACK_ERROR = 0.05


def picture(sums: Sums, e: Evidence, hot: HotSpots | None) -> Iterator[Check]:
    """Checks ``gamut``, ``chroma``, ``coverage``, ``window``, as far as there is evidence."""
    if e.gamut_change is not None:
        yield _gamut(sums, e.gamut)
    if e.chroma_change is not None:
        yield _chroma(sums, e.chroma_change_before)
    if sums.covered:
        yield _coverage(sums)
    if e.functional is not None and sums.covered:
        yield _window(sums, e, hot)


def read_back_checks(sample: ReadBack | None) -> Iterator[Check]:
    """Checks ``read_back`` and ``anatomy_back``: does the colour tell what was measured?"""
    if sample is None or len(sample.values) < 2:
        return
    rgb, how = sample.rgb.unsqueeze(0), "by its chroma alone"
    anatomy = None
    if sample.two_way:
        apart = take_apart(rgb, sample.colormap, bias=sample.bias, most_foreign=1.0)
        value, anatomy, how = apart.uptake, apart.anatomy, "from the two-way color map"
    else:
        value, _ = read_back(rgb, sample.colormap)
    yield _reading("read_back", "Uptake", value[0, 0], sample.values, how, sample.colormap)
    if anatomy is not None and sample.anatomy is not None:
        yield _reading(
            "anatomy_back", "Anatomy", anatomy[0, 0], sample.anatomy, how, sample.colormap
        )


def _reading(name: str, what: str, read: Tensor, true: Tensor, how: str, colormap: str) -> Check:
    error = (read - true).abs()
    half, most = (float(torch.quantile(error, q)) for q in (0.5, 0.95))
    return Check(
        name,
        f"{what} can be read from the color",
        most,
        "fraction of the window (95th percentile)",
        READ_BACK_ERROR,
        "pass" if most <= READ_BACK_ERROR else "look",
        f"Read from the 8-bit image {how}, the value is off by {100 * half:.2f} % of the window "
        f"in the median and {100 * most:.2f} % in the 95th percentile (color map {colormap}).",
        {"median": half, "percentile_95": most, "voxels": len(true)},
    )


_POLICIES = {
    "fit": "Luminance had to move into the range in which the functional color exists",
    "band": "Luminance beyond black or white was cut",
    "desaturate": "Colors had to give up saturation, at the same hue and luminance",
    "overlay": "The colors laid over changed the luminance",
    "clip": "Channels were cut to the RGB range",
}


def _gamut(sums: Sums, policy: str) -> Check:
    fraction = sums.gamut.count / sums.voxels
    most = sums.gamut.largest
    size = f"{100 * most:.0f} %" if policy == "desaturate" else f"{255 * most:.0f} of 255"
    kept = policy in ("desaturate", "overlay")  # by design
    return Check(
        "gamut",
        "Displayable brightness",
        fraction,
        "fraction of voxels",
        MANY_CHANGED,
        "pass" if kept or fraction <= MANY_CHANGED else "look",
        f"{_POLICIES[policy]} in {100 * fraction:.1f} % of the voxels (largest change {size})"
        + ("." if kept else ": there the fused image differs from the luminance file."),
        {"fraction": fraction, "maximum": most, "policy": policy},
    )


def _chroma(sums: Sums, before: float | None) -> Check:
    fraction = sums.chroma.count / sums.voxels
    start = (
        "The chroma (Cb, Cr) of the fused image differs from that of the colored functional image"
        if before is None
        else f"Fusing changed Cb and Cr by {before:.1g} at most (rounding). Bringing the image "
        "into the RGB range then changed them"
    )
    return Check(
        "chroma",
        "Functional color unchanged",
        fraction,
        "fraction of voxels",
        MANY_DRIFTED,
        "pass" if fraction <= MANY_DRIFTED else "look",
        f"{start} by more than one gray level in {100 * fraction:.2f} % of the voxels (largest "
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
        "Outside it nothing was measured and the fused image is the anatomical image alone.",
    )


MUCH_CLIPPED = 0.2  # of the hottest cubic centimetre
_SET_WINDOW = "; set the window to tell them apart."
_BONE = "; a CT window leaves bone out."


def _window(sums: Sums, e: Evidence, hot: HotSpots | None) -> Check:
    part = e.saturated / sums.covered
    clipped = _clipped(e, hot)
    many = part > MANY_SATURATED and not e.window_by_design
    hidden = clipped > MUCH_CLIPPED and not e.window_by_design and not _in_suv(e)
    return Check(
        "window",
        "Functional values within the window",
        part,
        "fraction of voxels",
        MANY_SATURATED,
        "look" if many or hidden else "pass",
        f"{100 * part:.2f} % of the voxels lie above the window and share its last color"
        + (_BONE if e.window_by_design else _SET_WINDOW if many or hidden else ".")
        + (f" It clips the hottest 1 cm3 by {100 * clipped:.0f} %." if clipped > 0 else ""),
        {"voxels": e.saturated, "clipped_of_hottest": clipped},
    )


def _in_suv(e: Evidence) -> bool:
    """Windows in SUV are customary, and a bladder above them is no surprise."""
    return e.functional is not None and e.functional.unit.startswith("SUV")


def _clipped(e: Evidence, hot: HotSpots | None) -> float:
    """Part of the highest mean in 1 cm3 that lies above the window; 0 for a CT."""
    functional = e.functional
    if functional is None or functional.window is None or hot is None or hot.highest <= 0:
        return 0.0
    return max(0.0, 1 - functional.window[1] / hot.highest)
