"""Structure in a picture that neither source explains: a least-squares fit in small windows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medfuse.audit.model import Check, Evidence, Verdict
from medfuse.audit.sums import slabs
from medfuse.kernel.explained import Fit, fit_sources
from medfuse.kernel.sources import count_by_slice

LIMIT, SLICE_LIMIT, FAIL = 0.04, 0.1, 0.1
FEW = 50  # windows; a slice with fewer says little


def _fits(e: Evidence) -> Iterator[Fit]:
    return (fit_sources(e.luminance[part], e.a[part], e.b[part]) for part in slabs(e))


def unexplained_map(e: Evidence) -> Tensor:
    """(S, 1, R, K) float in [0, 1]: where structure is that the sources do not explain."""
    return torch.cat([_enlarge(fit.unexplained, e) for fit in _fits(e)])


def estimated_weights(picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Weights of B (N, 1, R, K), in [0, 1], that explain a picture best, window by window."""
    return interpolate(fit_sources(picture, a, b).weight, size=a.shape[-2:], mode="bilinear")


def estimated_share(picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Anatomical part of the luminance (N, 1, R, K), in [0, 1], fitted to the picture."""
    w = estimated_weights(picture, a, b)
    of_b, total = w * b, w * b + (1 - w) * a
    return torch.where(total > 1e-6, of_b / total.clamp_min(1e-6), torch.full_like(w, 0.5))


def _enlarge(blocks: Tensor, e: Evidence) -> Tensor:
    return interpolate(blocks, size=e.a.shape[-2:], mode="bilinear")


_OWN_BANDS = (
    " The color map is not known, so that bands of brightness of its own count too: state it."
)


def invented_verdict(value: float, worst_slice: float, *, may_fail: bool = True) -> Verdict:
    """Verdict on the part that neither source explains, of all and of the worst slice."""
    if value <= LIMIT and worst_slice <= SLICE_LIMIT:
        return "pass"
    return "fail" if value > FAIL and may_fail else "look"


def invented(e: Evidence) -> Check:
    """Check ``invented``: how much structure of the picture is in neither source."""
    parts, windows = [], []
    for fit in _fits(e):
        parts.append(fit.unexplained.masked_fill_(~fit.filled, 0).sum((1, 2, 3)))
        windows.append(count_by_slice(fit.filled))
    part, filled = torch.cat(parts).double(), torch.cat(windows)
    value = float(part.sum() / filled.sum().clamp_min(1))
    by_slice = torch.where(filled >= FEW, part / filled.clamp_min(1), 0)
    worst = float(by_slice.max())
    return Check(
        "invented",
        "No invented structure",
        value,
        "fraction of the fine structure",
        LIMIT,
        invented_verdict(value, worst, may_fail=not e.colours_unknown),
        f"{100 * value:.2f} % of the fine structure, and {100 * worst:.1f} % in the worst slice, "
        "is explained by neither source in windows of 8 x 8 voxels. Weighting two sources leaves "
        "up to 4 %; images that were sharpened, smoothed, shifted or synthesized by a network "
        "leave more." + (_OWN_BANDS if e.colours_unknown else ""),
        {"worst_slice": worst, "slice": int(by_slice.argmax())},
    )
