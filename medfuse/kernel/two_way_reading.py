"""Both sources of a two-way picture, read back from 8 bits a channel, and their error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from medfuse.kernel.two_way import TwoWayTable, looked_up, two_way_table
from medfuse.kernel.two_way_maps import MAPS

LEVEL = 1 / 255
NOISE = LEVEL / 12**0.5  # standard deviation of rounding one channel to 8 bits
SURE = 1.96  # standard deviations that hold 95 % of all errors
REACH = LEVEL * (2 / 3) ** 0.5 * 1.05  # farthest that rounding moves chroma, and 5 %
MOST_FOREIGN = 0.01  # of the coloured pixels; more, and the picture is not of the map
_SPAN = 511  # differences of two 8-bit channels
_ALONG = SURE * NOISE / 3**0.5  # error of the mean of three rounded channels


@dataclass(frozen=True)
class TakenApart:
    """Both sources of a picture and how well they are known.

    All planes are (N, 1, ...) float32 on the device of the picture. The errors are those of
    rounding to 8 bits and hold for nine of ten pixels or more; 1 means that nothing is known.

    Attributes
    ----------
    uptake, anatomy : in [0, 1] of their windows
    uptake_error, anatomy_error : in [0, 1]
    foreign : float
        Part of the coloured pixels that are no colour of the map.
    """

    uptake: Tensor
    anatomy: Tensor
    uptake_error: Tensor
    anatomy_error: Tensor
    foreign: float


class Reading(NamedTuple):
    """What a pair of channel differences means; of all pairs (511 * 511,), or by pixel."""

    uptake: Tensor
    uptake_error: Tensor
    grey: Tensor  # mean of the channels where the anatomy is black
    width: Tensor
    grey_slope: Tensor  # change of the two for a change of uptake by 1
    width_slope: Tensor
    foreign: Tensor  # bool: no chroma of the map


def take_apart(
    rgb: Tensor, name: str, *, bias: float = 0.0, most_foreign: float = MOST_FOREIGN
) -> TakenApart:
    """Read both images back from a picture.

    The nearest colour of the map is taken: the nearest point of its path in the plane across grey
    gives the uptake, what is left along grey the anatomy. One look-up for each pixel does it, for
    differences of 8-bit channels have no more than 511 x 511 values.

    Parameters
    ----------
    rgb : (N, 3, ...) uint8, or float in [0, 1]
        Floats are rounded to 8 bits first.
    name, bias
        With which it was painted.
    most_foreign : float
        Of the coloured pixels, the part that may be no colour of the map.

    Returns
    -------
    TakenApart

    Raises
    ------
    ValueError
        If the picture is not of this map: too many of its colours are none of the map's, as after
        JPEG, smoothing, another window of the viewer, or with another map. A bias below 0 cannot be
        seen in the picture: read as 0, the uptake is right and the anatomy too flat.
    """
    levels = rgb.int() if rgb.dtype == torch.uint8 else (rgb * 255).round().int()
    known, above = reading_of(levels, name, bias)
    foreign = _foreign(levels, above, known)
    if foreign > most_foreign:
        raise ValueError(
            f"{100 * foreign:.0f} % of the coloured pixels have colours that {name!r} does not "
            "have; the picture was made with another map or emphasis, or was changed since"
        )
    anatomy = above.div_(known.width.clamp_min(1e-9)).clamp_(0, 1)
    follows = torch.addcmul(known.grey_slope, anatomy, known.width_slope).mul_(known.uptake_error)
    error = follows.square_().add_(_ALONG**2).sqrt_().div_(known.width.clamp_min(1e-9))
    return TakenApart(
        uptake=known.uptake.unsqueeze(1),
        anatomy=anatomy.unsqueeze(1),
        uptake_error=known.uptake_error.unsqueeze(1),
        anatomy_error=error.clamp_max_(1).unsqueeze(1),
        foreign=foreign,
    )


def find_map(rgb: Tensor) -> str | None:
    """Name the two-way map with which a picture was made.

    Parameters
    ----------
    rgb : as of :func:`take_apart`

    Returns
    -------
    str or None
        None if it is of no map (at bias 0), or of several: a grey picture tells nothing.
    """
    parts = {name: take_apart(rgb, name, most_foreign=1.0).foreign for name in MAPS}
    fitting = [name for name, foreign in parts.items() if foreign <= MOST_FOREIGN]
    return fitting[0] if len(fitting) == 1 else None


def reading_of(levels: Tensor, name: str, bias: float) -> tuple[Reading, Tensor]:
    """Look up what 8-bit colours mean.

    Parameters
    ----------
    levels : (N, 3, ...) int32 in [0, 255]
    name, bias
        As of :func:`two_way_table`.

    Returns
    -------
    known : Reading of (N, ...)
    above : (N, ...) float32
        Mean of the channels, of 1, less what it is where the anatomy is black.
    """
    index, total = pair_index(levels).reshape(-1), levels.sum(1, dtype=torch.int32)
    known = Reading._make(looked_up(x, index, total) for x in two_way_reading(name, bias))
    return known, total.float().div_(3 * 255).sub_(known.grey)


def pair_index(levels: Tensor) -> Tensor:
    """Where a table of differences has the colours (N, 3, ...) int32: (N, ...) int32."""
    r, g, b = levels.unbind(1)
    return (r - g).mul_(_SPAN).add_(b).sub_(g).add_(255 * _SPAN + 255)


def pair_offset(levels: tuple[int, ...]) -> int:
    """By how much :func:`pair_index` moves where R, G and B rise by so many levels."""
    r, g, b = levels
    return (r - g) * _SPAN + b - g


@lru_cache(maxsize=8)
def two_way_reading(name: str, bias: float) -> Reading:
    """Nearest point of the map's path for every pair of differences R - G and B - G.

    Returns
    -------
    Reading of (511 * 511,), in the order of :func:`pair_index`
    """
    table = two_way_table(name, bias=bias)
    steps = (torch.arange(_SPAN, dtype=torch.float64) - 255) * LEVEL
    red, blue = (x.reshape(-1) for x in torch.meshgrid(steps, steps, indexing="ij"))
    points = _across_grey(torch.stack([red, torch.zeros_like(red), blue], dim=1))
    path = _across_grey(table.dark)
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64)
    found = torch.zeros((len(Reading._fields) - 1, len(points)), dtype=torch.float64)
    for k in range(len(path) - 1):
        step = path[k + 1] - path[k]
        part = ((points - path[k]) @ step / (step @ step).clamp_min(1e-12)).clamp(0, 1)
        gap = (path[k] + part[:, None] * step - points).norm(dim=1)
        found = torch.where(gap < nearest, _segment(table, k, part, float(step.norm())), found)
        nearest = torch.minimum(gap, nearest)
    return Reading._make([*found.float().unbind(), nearest > REACH])


def _segment(table: TwoWayTable, k: int, part: Tensor, length: float) -> Tensor:
    """(6, M) fields of Reading at parts of the way from stop k to the next."""
    rise = table.uptake[k + 1] - table.uptake[k]
    error = torch.full_like(part, min(1.0, SURE * NOISE * float(rise) / max(length, 1e-12)))
    grey, width = table.dark.mean(1)[k : k + 2], table.width[k : k + 2]
    slopes = [torch.ones_like(part) * (x[1] - x[0]) / rise for x in (grey, width)]
    ends = [torch.lerp(x[0], x[1], part) for x in (grey, width)]
    return torch.stack([table.uptake[k] + part * rise, error, *ends, *slopes])


def _across_grey(rgb: Tensor) -> Tensor:
    """(M, 3) -> (M, 2) in an orthonormal plane across grey, in which rounding is round."""
    first, second = (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5)
    return rgb @ torch.tensor([first, second], dtype=rgb.dtype).T


def _foreign(levels: Tensor, above: Tensor, known: Reading) -> float:
    """Part of the coloured pixels, and of grey too bright for it, that the map does not have."""
    coloured = (levels[:, 1:] != levels[:, :1]).any(1)
    follows = known.grey_slope.abs() + known.width_slope.abs()
    slack = 3 * (_ALONG + follows * known.uptake_error)
    bad = known.foreign | (above < -slack) | (above > known.width + slack)
    return float(bad.sum()) / max(1, int((bad | coloured).sum()))
