"""Which source gave how much, by region: background, low, middle and high functional values."""

from __future__ import annotations

from typing import Any

from medfuse.audit.model import Check, Evidence
from medfuse.audit.sums import BINS, Sums

REGIONS = (("background", 0.05), ("low", 1 / 3), ("middle", 2 / 3), ("high", 1.0))
HOT_PART = 0.05  # "hottest 5 %", the part of the functional signal that must not get lost
LITTLE = 0.1


def share(sums: Sums, e: Evidence, *, by_colour: bool) -> Check:
    """Check ``share``.

    Parameters
    ----------
    sums : Sums
    e : Evidence
    by_colour : bool
        Whether the functional value was read back from the colour, so that brightness need not
        tell it.
    """
    whole = float(sums.shares.sum()) / sums.covered if sums.covered else 1.0
    kept = 1 - _hottest(sums, whole)
    regions = _regions(sums)
    estimate = "is estimated to have given" if e.is_foreign else "gave"
    bands = ", ".join(
        f"{100 * (1 - r['anatomical_share']):.0f} % in {name} values"
        for name, r in regions.items()
        if r["anatomical_share"] is not None
    )
    return Check(
        "share",
        "Functional contribution in the hottest 5 %",
        kept,
        "fraction of the luminance",
        LITTLE,
        "pass" if kept >= LITTLE or by_colour else "look",
        f"The functional image {estimate} {100 * kept:.0f} % of the luminance in the hottest 5 % "
        f"of its positive voxels, {100 * (1 - whole):.0f} % over its field of view ({bands}). "
        + (
            "Brightness shows the anatomy; color carries the uptake and was read back."
            if by_colour
            else "Below 10 % in the hottest voxels the uptake is lost from the brightness, and the "
            "color of this map does not tell it reliably."
        ),
        {
            "anatomical_share_mean": whole,
            "anatomical_share_hot": 1 - kept,
            "regions": regions,
            "by_slice": [round(value, 4) for value in sums.slice_share],
            "estimate": e.is_foreign,
            "by_colour": by_colour,
        },
    )


def _hottest(sums: Sums, whole: float) -> float:
    """Mean share in the highest 5 % of the positive values."""
    counts, shares = sums.values[1:].flip(0), sums.shares[1:].flip(0)
    positive = int(counts.sum())
    if not positive:
        return whole
    bins = int((counts.cumsum(0) < HOT_PART * positive).sum()) + 1
    return float(shares[:bins].sum() / counts[:bins].sum())


def _regions(sums: Sums) -> dict[str, dict[str, Any]]:
    found, start = {}, 0
    for name, top in REGIONS:
        stop = round(top * (BINS - 1)) + 1
        voxels = int(sums.values[start:stop].sum())
        mean = float(sums.shares[start:stop].sum()) / voxels if voxels else None
        found[name] = {
            "above": 0.0 if not start else (start - 1) / (BINS - 1),
            "voxels": voxels,
            "fraction": voxels / max(1, sums.covered),
            "anatomical_share": mean,
        }
        start = stop
    return found
