"""Checks of the luminance: what it is made of, and whether it stays within its sources."""

from __future__ import annotations

from collections.abc import Iterator

from medfuse.audit.model import Check, Evidence, Verdict
from medfuse.audit.sums import PATCH, Sums

ROUNDING = 1e-5
OVERSHOOT_FRACTION, OVERSHOOT_PATCH = 0.3, 0.1


def decomposition(sums: Sums, e: Evidence) -> Iterator[Check]:
    """Checks ``linearity``, ``bounded`` and ``weights`` where these are known, and ``finite``."""
    if e.painted is not None:
        yield _painted(sums)
    elif e.from_a is not None:
        yield _linearity(sums, bounded=e.bound_change is not None)
    if e.bound_change is not None:
        yield _bounded(sums)
    if e.weights is not None:
        yield _weights(sums)
    yield Check(
        "finite",
        "No missing numbers",
        float(sums.bad),
        "voxels",
        0.0,
        "pass" if sums.bad == 0 else "fail",
        "Count of NaN or infinite values in the fused image and its weights; must be 0.",
    )


def linearity_verdict(value: float) -> Verdict:
    """Verdict on the largest part of the luminance that the sources do not give."""
    return "pass" if value < ROUNDING else "fail"


def _linearity(sums: Sums, *, bounded: bool) -> Check:
    recorded = " and the recorded change of the bounds" if bounded else ""
    return Check(
        "linearity",
        "Exact two-source decomposition",
        sums.residual,
        "luminance",
        ROUNDING,
        linearity_verdict(sums.residual),
        f"Largest difference between the fused brightness (luminance) and the sum of what each "
        f"source gave{recorded}. Rounding of 32-bit numbers stays below 1e-5; more would mean "
        "invented structure.",
    )


def _painted(sums: Sums) -> Check:
    fraction, mean = sums.painted.count / sums.voxels, sums.painted_sum / sums.voxels
    largest = sums.painted.largest
    return Check(
        "linearity",
        "Exact two-source decomposition",
        largest,
        "luminance",
        ROUNDING,
        linearity_verdict(largest),
        f"A network synthesized this image. The weights that explain it best, in windows of 8 x 8 "
        f"voxels, leave {255 * mean:.1f} of 255 gray levels unexplained on average and "
        f"{255 * largest:.0f} at most; {100 * fraction:.0f} % of the voxels are off by more than "
        "one. A weight network with the fixed kernel leaves nothing.",
        {"painted_mean": mean, "painted_fraction": fraction},
    )


def _bounded(sums: Sums) -> Check:
    fraction = sums.bounded.count / sums.voxels
    return Check(
        "bounded",
        "Overshoot removed",
        fraction,
        "fraction of voxels",
        None,
        "pass",
        f"As asked (bounded), the luminance was moved into the range of both sources within one "
        f"voxel: by more than one gray level in {100 * fraction:.1f} % of the voxels, by "
        f"{255 * sums.bounded.largest:.0f} of 255 at most. The change is recorded voxel by voxel.",
        {"fraction": fraction, "maximum": sums.bounded.largest},
    )


def _weights(sums: Sums) -> Check:
    ok = sums.weight_low >= 0 and sums.weight_high <= 1
    return Check(
        "weights",
        "Weights between 0 and 1",
        sums.weight_high,
        "weight",
        1.0,
        "pass" if ok else "fail",
        f"Weights run from {sums.weight_low:.3f} to {sums.weight_high:.3f} (0 takes the functional "
        "image, 1 the anatomical). Outside 0 to 1 a source would be subtracted.",
        {
            "minimum": sums.weight_low,
            "maximum": sums.weight_high,
            "mean": sums.weight_sum / sums.voxels,
        },
    )


def overshoot_verdict(fraction: float, patch: float) -> Verdict:
    """Verdict on the fraction of voxels, and on the mean over the worst patch."""
    return "pass" if fraction <= OVERSHOOT_FRACTION and patch <= OVERSHOOT_PATCH else "look"


def overshoot(sums: Sums) -> Check:
    """Check ``overshoot``: brighter or darker than everything nearby in both sources."""
    fraction, local = sums.beyond.count / sums.voxels, sums.beyond_local.count / sums.voxels
    return Check(
        "overshoot",
        "Within the range of both sources",
        local,
        "fraction of voxels",
        OVERSHOOT_FRACTION,
        overshoot_verdict(local, sums.patch),
        f"{100 * local:.2f} % of the voxels are brighter or darker than everything in both sources "
        f"within one voxel, by more than one gray level (largest "
        f"{255 * sums.beyond_local.largest:.0f} of 255; over a patch of {PATCH} x {PATCH} voxels "
        f"{255 * sums.patch:.1f} on average). Thin seams along edges are usual where an image is "
        "blended in bands; more than 30 % of the voxels, or a patch of more than 25 levels, is "
        "not.",
        {
            "fraction": fraction,
            "maximum": sums.beyond.largest,
            "fraction_local": local,
            "maximum_local": sums.beyond_local.largest,
            "patch": sums.patch,
        },
    )
