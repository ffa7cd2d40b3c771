"""Is the fused picture faithful to its two sources? Numbers, thresholds and verdicts.

Every check states what was measured, the limit and its reason; none of them trusts the guide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Verdict = Literal["pass", "look", "fail"]
SCHEMA = "medfuse-audit/1"
GREY_LEVEL = 1 / 255
HOT_PART = 0.05  # "hottest 5 %", the part of the functional signal that must not get lost


@dataclass(frozen=True)
class Check:
    """One question about a result, with its number, its limit and the answer."""

    id: str
    title: str
    value: float
    unit: str
    threshold: float | None
    verdict: Verdict
    text: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """All checks of one result; the verdict is that of the worst check."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        found = {check.verdict for check in self.checks}
        return "fail" if "fail" in found else "look" if "look" in found else "pass"

    def __getitem__(self, check_id: str) -> Check:
        for check in self.checks:
            if check.id == check_id:
                return check
        raise KeyError(check_id)

    def with_checks(self, more: Iterable[Check]) -> Audit:
        """The same audit with further checks, e.g. of registration and units."""
        return Audit((*self.checks, *more))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the content of ``audit.json``."""
        checks = [asdict(check) for check in self.checks]
        return {"schema": SCHEMA, "verdict": self.verdict, "checks": checks}


@dataclass(frozen=True)
class Evidence:
    """What the audit looks at. All tensors share one spatial shape; luminance is in [0, 1].

    ``a``, ``b``: sources; ``weights``, ``luminance``, ``from_a``, ``from_b``: the fusion;
    ``rgb`` (3, ...): the picture; ``gamut_change``: largest channel change by clipping to RGB;
    ``chroma_change``: largest change of Cb or Cr by that clipping; ``coverage``: bool, inside the
    functional field of view; ``saturated``: number of covered voxels above the functional window.
    """

    a: Tensor
    b: Tensor
    weights: Tensor
    luminance: Tensor
    from_a: Tensor
    from_b: Tensor
    share: Tensor
    rgb: Tensor
    gamut_change: Tensor
    chroma_change: Tensor
    coverage: Tensor | None
    saturated: int = 0


def audit_fusion(evidence: Evidence) -> Audit:
    """Check one fused image or volume against its two sources.

    Parameters
    ----------
    evidence : Evidence
        Sources, weights, contributions and picture on one grid.

    Returns
    -------
    Audit
        Checks ``linearity``, ``weights``, ``finite``, ``share``, ``overshoot``, ``gamut``,
        ``chroma``, ``coverage`` and ``window``.
    """
    return Audit(
        (
            _linearity(evidence),
            _weights(evidence),
            _finite(evidence),
            _share(evidence),
            _overshoot(evidence),
            _gamut(evidence),
            _chroma(evidence),
            _coverage(evidence),
            _window(evidence),
        )
    )


def _linearity(e: Evidence) -> Check:
    residual = float(torch.sub(e.luminance, e.from_a).sub_(e.from_b).abs_().max())
    return Check(
        "linearity",
        "Nothing but the two sources",
        residual,
        "luminance",
        1e-5,
        "pass" if residual < 1e-5 else "fail",
        "Largest difference between the fused luminance and the sum of what each source gave. "
        "Rounding of 32-bit numbers stays below 1e-5; more would mean invented structure.",
    )


def _weights(e: Evidence) -> Check:
    low, high = (float(x) for x in torch.aminmax(e.weights))
    ok = low >= 0 and high <= 1
    return Check(
        "weights",
        "Weights between 0 and 1",
        high,
        "weight",
        1.0,
        "pass" if ok else "fail",
        f"Weights run from {low:.3f} to {high:.3f} (0 takes the functional image, 1 the "
        "anatomical). Outside 0 to 1 a source would be subtracted.",
        {"minimum": low, "maximum": high, "mean": float(e.weights.mean())},
    )


def _finite(e: Evidence) -> Check:
    images = (e.luminance, e.weights, e.rgb)
    bad = sum(0 if bool(torch.isfinite(x.sum())) else _count_bad(x) for x in images)
    return Check(
        "finite",
        "No missing numbers",
        float(bad),
        "voxels",
        0.0,
        "pass" if bad == 0 else "fail",
        "Count of NaN or infinite values in the fused picture and its weights; must be 0.",
    )


def _count_bad(x: Tensor) -> int:
    return int((~torch.isfinite(x)).sum())


def _share(e: Evidence) -> Check:
    hot = _hottest(e)
    whole = float(_mean(e.share, e.coverage))
    in_hot = float(_mean(e.share, hot)) if hot is not None else whole
    return Check(
        "share",
        "Functional signal kept in the hottest 5 %",
        1 - in_hot,
        "share",
        0.1,
        "pass" if 1 - in_hot >= 0.1 else "look",
        f"The functional image gave {100 * (1 - in_hot):.0f} % of the luminance where its own is "
        f"highest, and {100 * (1 - whole):.0f} % over its field of view. Below 10 % only colour "
        "still carries the uptake.",
        {"anatomical_share_mean": whole, "anatomical_share_hot": in_hot},
    )


def _hottest(e: Evidence) -> Tensor | None:
    """Mask of the brightest part of the functional luminance among its positive voxels."""
    positive = e.a > GREY_LEVEL
    if e.coverage is not None:
        positive = positive & e.coverage
    values = e.a[positive]
    if values.numel() == 0:
        return None
    rank = max(1, round(values.numel() * (1 - HOT_PART)))
    return positive & (e.a >= values.kthvalue(rank).values)


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    return x.mean() if mask is None or not mask.any() else x[mask].mean()


def _overshoot(e: Evidence) -> Check:
    above = torch.maximum(e.a, e.b).sub_(e.luminance).neg_()
    below = torch.minimum(e.a, e.b).sub_(e.luminance)
    excess = torch.maximum(above, below).clamp_min_(0)
    largest, fraction = float(excess.max()), float((excess > GREY_LEVEL).float().mean())
    return Check(
        "overshoot",
        "Inside the range of the two sources",
        fraction,
        "fraction of voxels",
        0.05,
        "pass" if fraction <= 0.05 and largest <= 0.25 else "look",
        f"{100 * fraction:.2f} % of the voxels are brighter or darker than both sources by more "
        f"than one grey level (largest {255 * largest:.1f} of 255). Bands with different weights "
        "do that at edges; over 5 % of voxels or a quarter of the range is worth a look.",
        {"fraction": fraction, "maximum": largest},
    )


def _gamut(e: Evidence) -> Check:
    largest = float(e.gamut_change.max())
    fraction = float((e.gamut_change > GREY_LEVEL).float().mean())
    return Check(
        "gamut",
        "Colours that a screen can show",
        fraction,
        "fraction of voxels",
        0.05,
        "pass" if fraction <= 0.05 else "look",
        f"{100 * fraction:.2f} % of the voxels had to be clipped to the RGB range (largest change "
        f"{255 * largest:.1f} of 255): there the picture differs from the fused luminance file.",
        {"fraction": fraction, "maximum": largest},
    )


def _chroma(e: Evidence) -> Check:
    largest = float(e.chroma_change.max())
    fraction = float((e.chroma_change > GREY_LEVEL).float().mean())
    return Check(
        "chroma",
        "Functional colour untouched",
        fraction,
        "fraction of voxels",
        0.05,
        "pass" if fraction <= 0.05 else "look",
        "Fusion itself never changes Cb and Cr. Clipping to RGB changed them by more than one "
        f"grey level in {100 * fraction:.2f} % of the voxels (largest {255 * largest:.1f} of 255).",
        {"fraction": fraction, "maximum": largest, "before_clipping": 0.0},
    )


def _coverage(e: Evidence) -> Check:
    part = 1.0 if e.coverage is None else float(e.coverage.float().mean())
    return Check(
        "coverage",
        "Functional field of view",
        part,
        "fraction of voxels",
        0.25,
        "pass" if part >= 0.25 else "look",
        f"{100 * part:.1f} % of the anatomical grid lies inside the functional field of view. "
        "Outside it nothing was measured and the picture is the anatomical image alone.",
    )


def _window(e: Evidence) -> Check:
    covered = e.a.numel() if e.coverage is None else int(e.coverage.sum())
    part = e.saturated / covered if covered else 0.0
    return Check(
        "window",
        "Functional values inside the window",
        part,
        "fraction of voxels",
        0.01,
        "pass" if part <= 0.01 else "look",
        f"{100 * part:.2f} % of the voxels lie above the window and share its last colour; "
        "set --window to tell them apart.",
        {"voxels": e.saturated},
    )
