"""Is the fused picture faithful to its two sources? Numbers, thresholds and verdicts.

Every check states what was measured, the limit and its reason; none of them trusts the guide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from medfuse.kernel.color import read_back

Verdict = Literal["pass", "look", "fail"]
SCHEMA = "medfuse-audit/1"
GREY_LEVEL = 1 / 255
HOT_PART = 0.05  # "hottest 5 %", the part of the functional signal that must not get lost
BINS = 4096  # of the luminance histogram that finds it
SLAB = 16  # slices looked at together


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
class ReadBack:
    """A sample of coloured voxels: ``values`` (M,) in [0, 1], ``rgb`` (3, M), and the map."""

    values: Tensor
    rgb: Tensor
    colormap: str


@dataclass(frozen=True)
class Evidence:
    """What the audit looks at. All tensors share one spatial shape; luminance is in [0, 1].

    ``a``, ``b``: sources; ``weights``, ``luminance``, ``from_a``, ``from_b``: the fusion;
    ``rgb`` (3, ...): the picture; ``gamut_change``: what the gamut policy changed (luminance for
    ``fit``, the largest channel for ``clip``); ``chroma_change``: largest change of Cb or Cr after
    that; ``chroma_change_before``: before it, over all voxels; ``coverage``: bool, inside the
    functional field of view; ``saturated``: number of covered voxels above the functional window,
    ``window_by_design``: whether they are meant to be (CT); ``read_back``: voxels whose value the
    picture should tell.
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
    chroma_change_before: float = 0.0
    saturated: int = 0
    window_by_design: bool = False
    gamut: str = "fit"
    read_back: ReadBack | None = None


def audit_fusion(evidence: Evidence) -> Audit:
    """Check one fused image or volume against its two sources.

    Parameters
    ----------
    evidence : Evidence
        Sources, weights, contributions and picture on one grid; axis 0 runs over slices.

    Returns
    -------
    Audit
        Checks ``linearity``, ``weights``, ``finite``, ``share``, ``overshoot``, ``gamut``,
        ``chroma``, ``coverage``, ``window`` and, for a scalar with a colour map, ``read_back``.
    """
    tally = _tally(evidence)
    readable = () if evidence.read_back is None else _read_back(evidence.read_back)
    audit = Audit(
        (
            _linearity(tally),
            _weights(tally),
            _finite(tally),
            _share(tally, by_colour=any(check.verdict == "pass" for check in readable)),
            _overshoot(tally),
            _gamut(tally, evidence.gamut),
            _chroma(tally, evidence.chroma_change_before),
            _coverage(tally),
            _window(tally, evidence),
        )
    )
    return audit.with_checks(readable)


@dataclass
class _Tally:
    """Sums and extremes over all voxels, gathered slab by slab so that nothing large is made."""

    voxels: int = 0
    covered: int = 0
    residual: float = 0.0
    weight_low: float = 1.0
    weight_high: float = 0.0
    weight_sum: float = 0.0
    bad: int = 0
    share_sum: float = 0.0
    hot_share_sum: float = 0.0
    hot: int = 0
    over: int = 0
    over_max: float = 0.0
    over_local: int = 0
    over_local_max: float = 0.0
    clipped: int = 0
    clipped_max: float = 0.0
    drifted: int = 0
    drifted_max: float = 0.0


def _tally(e: Evidence) -> _Tally:
    t = _Tally()
    histogram = torch.zeros(BINS)
    for start in range(0, len(e.a), SLAB):
        part = slice(start, start + SLAB)
        covered = None if e.coverage is None else e.coverage[part]
        _tally_slab(t, e, part, covered)
        functional = e.a[part] if covered is None else e.a[part][covered]
        histogram += torch.histc(functional, BINS, GREY_LEVEL, 1.0)
    _tally_hot(t, e, histogram)
    return t


def _tally_slab(t: _Tally, e: Evidence, part: slice, covered: Tensor | None) -> None:
    a, b, luminance, weights = e.a[part], e.b[part], e.luminance[part], e.weights[part]
    residual = torch.sub(luminance, e.from_a[part]).sub_(e.from_b[part]).abs_()
    t.residual = max(t.residual, float(residual.max()))
    low, high = torch.aminmax(weights)
    t.weight_low, t.weight_high = _min(t.weight_low, float(low)), _max(t.weight_high, float(high))
    t.weight_sum += float(weights.sum(dtype=torch.float64))
    t.bad += sum(_count_bad(x) for x in (luminance, weights, e.rgb[part]))
    high, low = torch.maximum(a, b), torch.minimum(a, b)
    excess = torch.maximum(torch.sub(luminance, high), torch.sub(low, luminance))
    t.over, t.over_max = _beyond(excess, t.over, t.over_max)
    high, low = max_pool2d(high, 3, 1, 1), max_pool2d(low.neg_(), 3, 1, 1).neg_()
    excess = torch.maximum(torch.sub(luminance, high), low.sub_(luminance))
    t.over_local, t.over_local_max = _beyond(excess, t.over_local, t.over_local_max)
    t.clipped, t.clipped_max = _beyond(e.gamut_change[part], t.clipped, t.clipped_max)
    t.drifted, t.drifted_max = _beyond(e.chroma_change[part], t.drifted, t.drifted_max)
    share = e.share[part] if covered is None else e.share[part][covered]
    t.share_sum += float(share.sum(dtype=torch.float64))
    t.voxels += a.numel()
    t.covered += share.numel()


def _tally_hot(t: _Tally, e: Evidence, histogram: Tensor) -> None:
    """Share in the brightest part of the positive functional luminance."""
    from_top = histogram.flip(0).cumsum(0)
    if not from_top[-1]:
        return
    bins = int((from_top < HOT_PART * from_top[-1]).sum()) + 1
    limit = GREY_LEVEL + (1 - GREY_LEVEL) * (BINS - bins) / BINS
    for start in range(0, len(e.a), SLAB):
        part = slice(start, start + SLAB)
        hot = e.a[part] >= limit
        if e.coverage is not None:
            hot &= e.coverage[part]
        share = e.share[part][hot]
        t.hot += share.numel()
        t.hot_share_sum += float(share.sum(dtype=torch.float64))


def _beyond(change: Tensor, count: int, largest: float) -> tuple[int, float]:
    return count + int((change > GREY_LEVEL).sum()), max(largest, float(change.max()))


def _min(old: float, new: float) -> float:
    return new if not new >= old else old  # a NaN wins, so that it is seen


def _max(old: float, new: float) -> float:
    return new if not new <= old else old


def _count_bad(x: Tensor) -> int:
    """NaN or infinite values; the sum tells cheaply that there are none."""
    return 0 if bool(torch.isfinite(x.sum())) else int((~torch.isfinite(x)).sum())


def _linearity(t: _Tally) -> Check:
    return Check(
        "linearity",
        "Nothing but the two sources",
        t.residual,
        "luminance",
        1e-5,
        "pass" if t.residual < 1e-5 else "fail",
        "Largest difference between the fused luminance and the sum of what each source gave. "
        "Rounding of 32-bit numbers stays below 1e-5; more would mean invented structure.",
    )


def _weights(t: _Tally) -> Check:
    ok = t.weight_low >= 0 and t.weight_high <= 1
    return Check(
        "weights",
        "Weights between 0 and 1",
        t.weight_high,
        "weight",
        1.0,
        "pass" if ok else "fail",
        f"Weights run from {t.weight_low:.3f} to {t.weight_high:.3f} (0 takes the functional "
        "image, 1 the anatomical). Outside 0 to 1 a source would be subtracted.",
        {"minimum": t.weight_low, "maximum": t.weight_high, "mean": t.weight_sum / t.voxels},
    )


def _finite(t: _Tally) -> Check:
    return Check(
        "finite",
        "No missing numbers",
        float(t.bad),
        "voxels",
        0.0,
        "pass" if t.bad == 0 else "fail",
        "Count of NaN or infinite values in the fused picture and its weights; must be 0.",
    )


def _share(t: _Tally, *, by_colour: bool) -> Check:
    whole = t.share_sum / t.covered if t.covered else 1.0
    kept = 1 - (t.hot_share_sum / t.hot if t.hot else whole)
    kept_text = f"{100 * kept:.0f} %"
    return Check(
        "share",
        "Functional signal kept in the hottest 5 %",
        kept,
        "share",
        0.1,
        "pass" if kept >= 0.1 or by_colour else "look",
        f"The functional image gave {kept_text} of the luminance where its own is highest, and "
        f"{100 * (1 - whole):.0f} % over its field of view. "
        + (
            "Brightness shows anatomy; the uptake is carried by the colour, which was read back."
            if by_colour
            else "Below 10 % the uptake is lost from the brightness, and the colour of this map "
            "does not tell it reliably."
        ),
        {"anatomical_share_mean": whole, "anatomical_share_hot": 1 - kept},
    )


def _overshoot(t: _Tally) -> Check:
    fraction, local = t.over / t.voxels, t.over_local / t.voxels
    return Check(
        "overshoot",
        "Inside the range of the two sources",
        local,
        "fraction of voxels",
        0.05,
        "pass" if local <= 0.05 and t.over_local_max <= 0.25 else "look",
        f"{100 * local:.2f} % of the voxels are brighter or darker than everything in both sources "
        f"within one pixel, by more than one grey level (largest {255 * t.over_local_max:.1f} of "
        f"255); beyond the two values in the voxel itself {100 * fraction:.1f} %. Bands with "
        "different weights do that at edges; over 5 % or a quarter of the range is worth a look.",
        {
            "fraction": fraction,
            "maximum": t.over_max,
            "fraction_local": local,
            "maximum_local": t.over_local_max,
        },
    )


def _gamut(t: _Tally, policy: str) -> Check:
    fraction = t.clipped / t.voxels
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
        0.25,
        "pass" if fraction <= 0.25 else "look",
        f"{what} in {100 * fraction:.1f} % of the voxels (largest change "
        f"{255 * t.clipped_max:.0f} of 255): there the picture differs from the luminance file.",
        {"fraction": fraction, "maximum": t.clipped_max, "policy": policy},
    )


def _chroma(t: _Tally, before: float) -> Check:
    fraction = t.drifted / t.voxels
    return Check(
        "chroma",
        "Functional colour untouched",
        fraction,
        "fraction of voxels",
        0.01,
        "pass" if fraction <= 0.01 else "look",
        f"Fusing changed Cb and Cr by {before:.1g} at most (rounding). Bringing the picture into "
        f"the RGB range then changed them by more than one grey level in {100 * fraction:.2f} % of "
        f"the voxels (largest {255 * t.drifted_max:.1f} of 255).",
        {"fraction": fraction, "maximum": t.drifted_max, "maximum_before_clipping": before},
    )


def _read_back(sample: ReadBack) -> tuple[Check, ...]:
    if len(sample.values) < 2:
        return ()
    value, _ = read_back(sample.rgb.unsqueeze(0), sample.colormap)
    error = (value[0, 0] - sample.values).abs()
    half, most = (float(torch.quantile(error, q)) for q in (0.5, 0.95))
    check = Check(
        "read_back",
        "Uptake can be read from the colour",
        most,
        "of the window (95th percentile)",
        0.05,
        "pass" if most <= 0.05 else "look",
        f"Read from the 8-bit picture by its chroma alone, the value is off by "
        f"{100 * half:.2f} % of the window in the median and {100 * most:.2f} % in the 95th "
        f"percentile (colour map {sample.colormap}).",
        {"median": half, "percentile_95": most, "voxels": len(sample.values)},
    )
    return (check,)


def _coverage(t: _Tally) -> Check:
    part = t.covered / t.voxels
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


_SET_WINDOW = "; set --window to tell them apart."


def _window(t: _Tally, e: Evidence) -> Check:
    part = e.saturated / t.covered if t.covered else 0.0
    many = part > 0.05 and not e.window_by_design
    return Check(
        "window",
        "Functional values inside the window",
        part,
        "fraction of voxels",
        0.05,
        "look" if many else "pass",
        f"{100 * part:.2f} % of the voxels lie above the window and share its last colour"
        + ("; a CT window leaves bone out." if e.window_by_design else _SET_WINDOW),
        {"voxels": e.saturated},
    )
