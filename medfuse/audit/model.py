"""What an audit is made of: checks with numbers and verdicts, and the evidence they look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Verdict = Literal["pass", "look", "fail"]
SCHEMA = "medfuse-audit/1"
GREY_LEVEL = 1 / 255


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
    """A sample of coloured voxels, and how they were painted.

    ``values`` (M,) in [0, 1]: uptake in its window; ``rgb`` (3, M): 8-bit colours; ``colormap``;
    ``two_way``, ``bias``: whether, and with which emphasis, a two-way map painted them;
    ``anatomy`` (M,) in [0, 1]: where the luminance is the anatomical image alone, else None.
    """

    values: Tensor
    rgb: Tensor
    colormap: str
    bias: float = 0.0
    two_way: bool = False
    anatomy: Tensor | None = None


@dataclass(frozen=True)
class Functional:
    """The functional image before it was coloured.

    ``values``: (S, 1, R, K) in its unit, or (S, 3, R, K) RGB; ``window``: (low, high) of the
    colours, None where values lie in [0, 1]; ``colormap``: its name, None for RGB or unknown;
    ``unit``, ``modality``: as ``medfuse.load`` has them.
    """

    values: Tensor
    window: tuple[float, float] | None = None
    colormap: str | None = None
    unit: str = "a.u."
    modality: str = "unknown"


@dataclass(frozen=True)
class Evidence:
    """What the audit looks at: (S, 1, R, K) tensors in slice order; luminance is in [0, 1].

    ``a``, ``b``: luminance of the sources; ``luminance``: of the result; ``rgb`` (S, 3, R, K): the
    picture. What only our own fusion knows may be None: ``weights``; ``from_a``, ``from_b``: the
    contributions; ``share``: the anatomical part; ``overshoot``: see
    :func:`medfuse.kernel.blend.overshoot`; ``bound_change``: what the projection into the local
    bounds added; ``painted``: what a network added to the weighted sources; ``gamut_change``: what
    the gamut policy changed (luminance for ``fit``, the largest channel for ``clip``);
    ``chroma_change``: largest change of Cb or Cr after that;
    ``chroma_change_before``: before it, over all voxels. ``coverage``: bool, inside the functional
    field of view; ``saturated``: number of covered voxels above the functional window,
    ``window_by_design``: whether they are meant to be (CT); ``read_back``: voxels whose value the
    picture should tell; ``functional``: the image behind ``a``; ``affine``: (slice, row, column)
    index to RAS mm; ``stored_affine``: that of the anatomical image as stored;
    ``is_foreign``: another tool made the picture, so that its share is fitted to it.
    """

    a: Tensor
    b: Tensor
    luminance: Tensor
    rgb: Tensor
    weights: Tensor | None = None
    from_a: Tensor | None = None
    from_b: Tensor | None = None
    share: Tensor | None = None
    overshoot: Tensor | None = None
    bound_change: Tensor | None = None
    painted: Tensor | None = None
    gamut_change: Tensor | None = None
    chroma_change: Tensor | None = None
    coverage: Tensor | None = None
    chroma_change_before: float | None = 0.0
    saturated: int = 0
    window_by_design: bool = False
    gamut: str = "fit"
    read_back: ReadBack | None = None
    functional: Functional | None = None
    affine: NDArray[np.float64] | None = None
    stored_affine: NDArray[np.float64] | None = None
    is_foreign: bool = False

    @property
    def is_coloured(self) -> bool:
        """Whether the picture holds more than grey."""
        return bool((self.rgb[:, 0] - self.rgb[:, 2]).abs().max() > GREY_LEVEL)

    @property
    def colours_unknown(self) -> bool:
        """A coloured picture of a scalar image whose colour map nobody stated."""
        functional = self.functional
        if not self.is_foreign or functional is None or functional.values.shape[1] == 3:
            return False
        return functional.colormap is None and self.is_coloured
