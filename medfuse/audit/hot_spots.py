"""Do the hot spots of the functional image still stand out of their surround in the picture?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool3d, conv3d, max_pool3d

from medfuse.audit.model import Check, Evidence
from medfuse.audit.sums import slabs, uptake
from medfuse.kernel.blend import SLAB
from medfuse.kernel.color import luma
from medfuse.kernel.colormaps import READABLE, read_back
from medfuse.kernel.two_way_reading import take_apart

RADIUS_MM = 6.204  # of a sphere of 1 cm3, in which SUVpeak is the mean (PERCIST)
SURROUND_MM = (12.0, 20.0)  # shell that a hot spot is compared with
APART_MM = 12.0  # two hot spots are not nearer than that
COARSE_MM = 3.0  # grid on which they are searched
FINE_MM = 1.0  # and on which they are then placed
SPHERE_VOXELS = 2000  # sampled evenly where there are more
FAINT = 0.1  # of the window; less than this above the surround is no hot spot
MOST = 10  # hot spots that are followed, the highest first
CANDIDATES = 60
FIRST = 3  # maxima of the coarse grid, of which one is the highest of all
SHELL_VOXELS = 4000  # sampled evenly where there are more
COLOUR_STEPS = 16  # a channel, in which voxels have the same colour
HALF, GONE = 0.5, 0.2

Reader = Callable[[Tensor], Tensor]
_HOW = {
    "map": "the uptake read back from its color",
    "fit": "the mean uptake of voxels of the same color",
    "step": "its brightness",
}


@dataclass(frozen=True)
class HotSpot:
    """One hot spot: where, how hot, and its contrast before and after.

    ``index``: (slice, row, column); ``position``: RAS mm, None without geometry; ``peak``,
    ``surround``: means in the sphere and in the shell, in the unit of the image; ``before``,
    ``after``: contrast of the sphere to the shell in the window, in the image and as the picture
    tells it; ``retained``: after / before.
    """

    index: tuple[int, int, int]
    position: tuple[float, float, float] | None
    peak: float
    surround: float
    before: float
    after: float

    @property
    def retained(self) -> float:
        return self.after / self.before


@dataclass(frozen=True)
class HotSpots:
    """What one search finds.

    ``spots``: those that stand out, the highest first; ``highest``: the highest mean of the image
    in 1 cm3, in its unit, above any window, whether it stands out or not.
    """

    spots: tuple[HotSpot, ...] = ()
    highest: float = 0.0


def lesion_contrast(e: Evidence, found: HotSpots | None) -> Iterator[Check]:
    """Check ``hot_spots``, of what :func:`find_hot_spots` has found; none without a search.

    References
    ----------
    Wahl et al., J Nucl Med 50 Suppl 1, 2009 (SUVpeak in a 1 cm3 sphere).
    """
    functional = e.functional
    if functional is None or found is None:
        return
    spots = found.spots
    unit = "" if functional.window is None else functional.unit
    if not spots:
        yield _check(1.0, "pass", "No spot stands out of its surround by a tenth of the window.")
        return
    weakest = min(spots, key=lambda spot: spot.retained)
    kept = weakest.retained
    verdict = "fail" if kept < GONE else "look" if kept < HALF else "pass"
    how = _HOW[_way(e)]
    peaks = ", ".join(f"{spot.peak:.3g}" for spot in spots[:3])
    yield _check(
        kept,
        verdict,
        f"{len(spots)} hot spot{'s' * (len(spots) > 1)} found (highest mean in 1 cm3: {peaks} "
        f"{unit}".rstrip()
        + f"). By {how}, the weakest keeps {100 * kept:.0f} % of its contrast "
        "to the surround; below half it is easily missed, below a fifth it is as good as gone.",
        [_facts(spot) for spot in spots],
    )


def _check(
    value: float, verdict: Any, text: str, spots: list[dict[str, Any]] | None = None
) -> Check:
    return Check(
        "hot_spots",
        "Hot spots remain visible",
        value,
        "fraction of the contrast (weakest spot)",
        HALF,
        verdict,
        text,
        {"spots": spots or []},
    )


def _facts(spot: HotSpot) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "slice_row_column": list(spot.index),
        "position_ras_mm": None if spot.position is None else [round(x, 1) for x in spot.position],
        "peak": spot.peak,
        "surround": spot.surround,
        "contrast_before": spot.before,
        "contrast_after": spot.after,
        "retained": spot.retained,
    }
    return facts


def find_hot_spots(e: Evidence) -> HotSpots | None:
    """Follow the highest local maxima of the functional image, at most ten.

    A hot spot is a local maximum of the mean in a sphere of 1 cm3 that exceeds the mean of the
    shell from 12 to 20 mm by a tenth of the window or more, values above the window counting as its
    end. Without geometry a voxel counts as 1 mm, a single slice makes discs of the spheres. None
    for a CT, whose bright voxels are no lesions, and without a functional image.
    """
    functional = e.functional
    if functional is None or functional.modality == "CT" or functional.unit == "HU":
        return None
    spacing, values, read = _spacing(e), _scalar(e), _reader(e)
    spots: list[HotSpot] = []
    highest = 0.0
    for number, coarse in enumerate(_maxima(values, spacing, e.coverage)):
        place = _refined(values, coarse, spacing)
        ball = _covered(_around(values.shape, place, spacing, 0, RADIUS_MM), e)
        if not ball.shape[1]:
            continue
        if number < FIRST:
            highest = max(highest, float(values[tuple(ball)].mean()))
        spot = _measure(e, values, place, ball, spacing, read)
        if spot is not None and spot.before >= FAINT:
            spots.append(spot)
        if len(spots) == MOST:
            break
    return HotSpots(tuple(spots), highest)


def _spacing(e: Evidence) -> NDArray[np.float64]:
    if e.affine is None:
        return np.ones(3)
    return np.asarray(np.linalg.norm(e.affine[:3, :3], axis=0))


def _scalar(e: Evidence) -> Tensor:
    """(S, R, K) functional values; the luminance where they are RGB."""
    assert e.functional is not None
    values = e.functional.values
    return values[:, 0] if values.shape[1] == 1 else e.a[:, 0]


def _maxima(
    values: Tensor, spacing: NDArray[np.float64], coverage: Tensor | None
) -> list[tuple[int, int, int]]:
    """Middles of the coarse voxels with a local maximum of the sphere mean, highest first."""
    step = [
        max(1, min(n, round(COARSE_MM / mm))) for n, mm in zip(values.shape, spacing, strict=True)
    ]
    coarse = _coarse(values, coverage, step)
    sphere = _ball(coarse.shape[2:], spacing * step, 0, RADIUS_MM)
    smooth = conv3d(coarse, (sphere / sphere.sum())[None, None], padding=_half(sphere))
    reach = [
        2 * min(int(APART_MM / mm), n - 1) + 1
        for mm, n in zip(spacing * step, coarse.shape[2:], strict=True)
    ]
    top = max_pool3d(smooth, reach, 1, [n // 2 for n in reach])
    found = ((smooth == top) & (smooth > 0))[0, 0].nonzero()
    order = smooth[0, 0][tuple(found.T)].argsort(descending=True, stable=True)[:CANDIDATES]
    middles = found[order] * torch.tensor(step) + torch.tensor(step) // 2
    last = torch.tensor(values.shape) - 1
    return [tuple(place) for place in torch.minimum(middles, last).tolist()]


def _coarse(values: Tensor, coverage: Tensor | None, step: list[int]) -> Tensor:
    """(1, 1, S', R', K') means over blocks of voxels, made slab by slab."""
    size = step[0] * max(1, SLAB // step[0])
    starts = range(0, len(values) - step[0] + 1, size)  # pooling wants a whole block at least
    blocks = []
    for start, stop in pairwise([*starts, len(values)]):
        seen = values[start:stop]
        if coverage is not None:
            seen = seen * coverage[start:stop, 0]
        blocks.append(avg_pool3d(seen[None, None], step, step, ceil_mode=True))
    return torch.cat(blocks, dim=2)


def _refined(
    values: Tensor, place: tuple[int, int, int], spacing: NDArray[np.float64]
) -> tuple[int, int, int]:
    """Voxel next to a coarse maximum whose sphere has the highest mean.

    Voxels below a millimetre are sampled, so that a fine grid costs no more than a coarse one.
    """
    size = torch.tensor(values.shape)[:, None, None]
    mask = _ball(values.shape, spacing, 0, RADIUS_MM)
    sphere = mask.nonzero().T - torch.tensor(_half(mask))[:, None]
    sphere = sphere[:, :: max(1, sphere.shape[1] // SPHERE_VOXELS)]
    near = []
    for middle, mm, n in zip(place, spacing, values.shape, strict=True):
        step = max(1, round(FINE_MM / mm))
        count = int(COARSE_MM / mm) // step
        along = middle + step * torch.arange(-count, count + 1)
        near.append(along[(along >= 0) & (along < n)])
    middles = torch.cartesian_prod(*near).T
    index = middles[:, :, None] + sphere[:, None, :]
    inside = ((index >= 0) & (index < size)).all(0)
    seen = values[tuple(index.clamp_min(0).minimum(size - 1))] * inside
    best = int((seen.sum(1) / inside.sum(1)).argmax())
    s, r, k = middles[:, best].tolist()
    return s, r, k


def _measure(
    e: Evidence,
    values: Tensor,
    place: tuple[int, int, int],
    ball: Tensor,
    spacing: NDArray[np.float64],
    read: Reader,
) -> HotSpot | None:
    """Means in the sphere and in its surround, in the sources and in the picture."""
    shell = _covered(_around(values.shape, place, spacing, *SURROUND_MM), e)
    shell = shell[:, :: max(1, shell.shape[1] // SHELL_VOXELS)]
    if not shell.shape[1]:
        return None
    shown = [_shown(e, index).mean() for index in (ball, shell)]
    told = [read(e.rgb[i[0], :, i[1], i[2]]).mean() for i in (ball, shell)]
    position = None
    if e.affine is not None:
        world = e.affine @ np.array([*place, 1.0])
        position = (float(world[0]), float(world[1]), float(world[2]))
    return HotSpot(
        place,
        position,
        float(values[tuple(ball)].mean()),
        float(values[tuple(shell)].mean()),
        float(shown[0] - shown[1]),
        float(told[0] - told[1]),
    )


def _covered(index: Tensor, e: Evidence) -> Tensor:
    """Those of (3, M) indices that lie in the functional field of view."""
    return index if e.coverage is None else index[:, e.coverage[:, 0][tuple(index)]]


def _shown(e: Evidence, index: Tensor) -> Tensor:
    """Functional values of some voxels in the window, [0, 1]."""
    functional = e.functional
    if functional is None or functional.values.shape[1] != 1:
        return e.a[:, 0][tuple(index)]
    low, high = functional.window or (0.0, 1.0)
    return ((functional.values[:, 0][tuple(index)] - low) / (high - low)).clamp(0, 1)


def _way(e: Evidence) -> str:
    """How uptake can be read from the picture: "map", "fit" or "step" (docs/audit.md)."""
    assert e.functional is not None
    if e.functional.colormap in READABLE:
        return "map"
    return "fit" if e.is_coloured else "step"


def _reader(e: Evidence) -> Reader:
    """Colours (M, 3) of the picture -> (M,) values in the window, as well as they tell them."""
    assert e.functional is not None
    way, colormap = _way(e), str(e.functional.colormap)
    sample = e.read_back
    if way == "map" and sample is not None and sample.two_way:
        bias = sample.bias
        return lambda rgb: take_apart(rgb.T[None], colormap, bias=bias, most_foreign=1.0).uptake[
            0, 0
        ]
    if way == "map":
        return lambda rgb: read_back(((rgb * 255).round() / 255).T[None], colormap)[0][0, 0]
    if way == "step":
        return lambda rgb: luma(rgb.T[None])[0, 0]
    mean = _mean_by_colour(e)
    return lambda rgb: mean[_colour_bin(rgb)]


def _mean_by_colour(e: Evidence) -> Tensor:
    """The mean functional value of all voxels of a colour: nobody can read more from it."""
    size = COLOUR_STEPS**3
    total, count = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.int64)
    for part in slabs(e):
        values, colours = uptake(e, part)[:, 0], e.rgb[part].movedim(1, -1)
        if e.coverage is not None:
            inside = e.coverage[part, 0]
            values, colours = values[inside], colours[inside]
        bins = _colour_bin(colours).flatten()
        total += torch.bincount(bins, values.double().flatten(), size)
        count += torch.bincount(bins, minlength=size)
    return (total / count.clamp_min(1)).float()


def _colour_bin(rgb: Tensor) -> Tensor:
    """(..., 3) in [0, 1] -> (...) number of the colour, in 16 steps a channel."""
    r, g, b = (rgb * (COLOUR_STEPS - 1)).round().long().clamp(0, COLOUR_STEPS - 1).unbind(-1)
    return (r * COLOUR_STEPS + g) * COLOUR_STEPS + b


def _half(kernel: Tensor) -> list[int]:
    return [n // 2 for n in kernel.shape]


def _ball(
    shape: tuple[int, ...], spacing: NDArray[np.float64], inner_mm: float, outer_mm: float
) -> Tensor:
    """Odd 3-D mask of the voxels whose centre lies in a shell; one voxel thin along single axes."""
    half = [min(int(outer_mm / mm), n - 1) for n, mm in zip(shape, spacing, strict=True)]
    axes = [np.arange(-h, h + 1) * mm for h, mm in zip(half, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(z**2 + y**2 + x**2)
    return torch.from_numpy(((distance >= inner_mm) & (distance <= outer_mm)).astype(np.float32))


def _around(
    shape: tuple[int, ...],
    place: tuple[int, int, int],
    spacing: NDArray[np.float64],
    inner_mm: float,
    outer_mm: float,
) -> Tensor:
    """(3, M) indices of the voxels of a shell about a place, inside the volume."""
    mask = _ball(shape, spacing, inner_mm, outer_mm)
    offsets = mask.nonzero().T - torch.tensor(_half(mask))[:, None]
    index = offsets + torch.tensor(place)[:, None]
    inside = ((index >= 0) & (index < torch.tensor(shape)[:, None])).all(0)
    return index[:, inside]
