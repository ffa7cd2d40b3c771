"""Are both sources in the picture, and does it say nothing that neither of them says?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from medfuse.audit.model import Check, Evidence, Verdict
from medfuse.kernel.color import luma
from medfuse.kernel.sources import (
    FEWEST,
    FLAGGED,
    SIGNAL_A,
    SIGNAL_B,
    WINDOW,
    contradiction,
    count_by_slice,
    detail_kept,
    is_flagged,
)

# Plain averaging keeps half of both, the formula without a network a quarter or more of the weaker
# source in the median of all atlas sets (docs/audit.md). What keeps less has chosen one source; a
# tenth is as good as gone.
FAINT, GONE = 0.25, 0.1
WHITE = 255.0
AROUND = 25  # pixels, in which a place is looked for where a slice has several


def both_sources(e: Evidence) -> Iterator[Check]:
    """Checks ``detail`` and ``contradiction``, of the luminance in grey levels.

    Pictures smaller than the windows, or in which the sources have no signal in common, are not
    judged: then a check is left out.
    """
    a, b, fused = (_levels(x) for x in (e.a, e.b, shown_luminance(e)))
    places = (a > SIGNAL_A) & (b > SIGNAL_B)
    if e.coverage is not None:
        places &= e.coverage[:, 0]
    if int(torch.count_nonzero(places)) >= FEWEST:
        yield from _detail(a, b, fused, places)
    yield _contradiction(e, contradiction(a, b, fused))


def shown_luminance(e: Evidence) -> Tensor:
    """(S, 1, R, K): the luminance in which both sources are looked for."""
    return luma(e.rgb) if e.gamut == "overlay" else e.luminance


def contradiction_map(a: Tensor, b: Tensor, shown: Tensor) -> Tensor:
    """Where the check ``contradiction`` finds structure that neither source has.

    Parameters
    ----------
    a, b, shown : (S, 1, R, K) float in [0, 1]
        Luminance of both sources and of the picture.

    Returns
    -------
    (S, R, K) uint8
        1 in the windows concerned, 2 at their middles; 0 in slices that are not flagged.
    """
    found = contradiction(*(_levels(x) for x in (a, b, shown)))
    found &= is_flagged(found)[:, None, None]
    middles = found.to(torch.float32).unsqueeze(1)
    windows = max_pool2d(middles, WINDOW, 1, WINDOW // 2)
    return (windows + middles)[:, 0].to(torch.uint8)


def _levels(x: Tensor) -> Tensor:
    """(S, 1, R, K) in [0, 1] -> (S, R, K) grey levels."""
    return (x[:, 0].clamp(0, 1) * WHITE).round()


def judged_by_colour(check: Check, *, uptake_is_read: bool) -> Check:
    """A detail check of a picture whose colour tells the uptake: only the anatomy can be lost."""
    if not uptake_is_read or check.details["kept_functional"] > check.details["kept_anatomical"]:
        return check
    return Check(
        check.id,
        check.title,
        check.value,
        check.unit,
        check.threshold,
        "pass",
        check.text.partition(". Below")[0]
        + ". The functional image is shown by the color, from which it can be read back.",
        {**check.details, "by_colour": True},
    )


def detail_verdict(weaker: float) -> Verdict:
    """Verdict on the fine detail that is kept of the weaker source."""
    return "fail" if weaker < GONE else "look" if weaker < FAINT else "pass"


def _detail(a: Tensor, b: Tensor, fused: Tensor, places: Tensor) -> Iterator[Check]:
    """One figure for the volume: slices weigh by the places that they have."""
    kept = torch.stack(detail_kept(a, b, fused, mask=places))
    weights = count_by_slice(places).double().where(kept[0].isfinite(), 0.0)
    if not weights.sum() > 0:
        return
    of_a, of_b = (round(float((x.nan_to_num() * weights).sum() / weights.sum()), 4) for x in kept)
    weaker = min(of_a, of_b)
    lost = "functional" if of_a < of_b else "anatomical"
    yield Check(
        "detail",
        "Fine detail of both sources",
        weaker,
        "fraction of the detail kept (weaker source)",
        FAINT,
        detail_verdict(weaker),
        f"Where both images have signal, the luminance keeps {_percent(of_a)} % of the fine detail "
        f"of the functional and {_percent(of_b)} % of that of the anatomical image. Below "
        f"{100 * FAINT:.0f} % a source is hardly seen, below {100 * GONE:.0f} % it is gone"
        + (f": here the {lost} one." if weaker < FAINT else "."),
        {
            "kept_functional": of_a,
            "kept_anatomical": of_b,
            "places": int(torch.count_nonzero(places)),
        },
    )


def _percent(part: float) -> str:
    return f"{max(0.0, 100 * part):.0f}"


def _contradiction(e: Evidence, found: Tensor) -> Check:
    counts = count_by_slice(found)
    flagged = int(is_flagged(found).sum())
    worst = int(counts.argmax())
    most = int(counts[worst])
    details: dict[str, Any] = {"flagged_slices": flagged, "pixels": int(counts.sum())}
    where = ""
    if flagged:
        index = (worst, *_densest(found[worst]))
        details["slice_row_column"] = list(index)
        where = f" The largest is in slice {worst}, row {index[1]}, column {index[2]}"
        if e.affine is not None:
            position = (e.affine @ np.array([*index, 1.0]))[:3].round(1).tolist()
            details["position_ras_mm"] = position
            where += " (RAS " + ", ".join(f"{x:.1f}" for x in position) + " mm)"
        where += "."
    return Check(
        "contradiction",
        "No edges where both sources are flat",
        most,
        "pixels of the worst slice",
        FLAGGED,
        "look" if flagged else "pass",
        (
            f"In {flagged} slice{'s' * (flagged != 1)} the fused image draws structure inside a "
            "region that is flat in both images, which disagree about its brightness: look at both "
            f"sources there.{where}"
            if flagged
            else "Nowhere does the fused image draw structure inside a region that is flat in both "
            f"images and of different brightness (at most {most} pixels of a slice)."
        ),
        details,
    )


def _densest(found: Tensor) -> tuple[int, int]:
    """The pixel of a map (R, K) that has most others around it, in the middle of its place."""
    near = found.double()[None]
    for _ in range(2):
        near = avg_pool2d(near, AROUND, 1, AROUND // 2)
    row, column = divmod(int(near[0].where(found, -1).argmax()), found.shape[1])
    return row, column
