"""Rounding of two-way pictures to 8 bits so that both images read back best.

Rounding each channel by itself moves the reading by up to a percent of the window where a colour is
faint. Of the eight 8-bit colours around the exact one, another is often read more exactly.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from medfuse.kernel.two_way import looked_up
from medfuse.kernel.two_way_reading import Reading, pair_index, pair_offset, two_way_reading


def round_two_way(
    rgb: Tensor, uptake: Tensor, anatomy: Tensor, name: str, *, bias: float = 0.0
) -> Tensor:
    """Round each pixel up or down, channel by channel, so that it is read back best.

    Takes the colour of least squared error of uptake and anatomy together; no channel moves by a
    whole level. Halves the largest errors. Where a bias of 1
    or -1 leaves one image alone nothing is to be chosen: each channel is rounded by itself.

    Parameters
    ----------
    rgb : (N, 3, ...) float in [0, 1]
        What ``paint_two_way`` made of the rest.
    uptake, anatomy : (N, 1, ...) float
    name, bias
        As there.

    Returns
    -------
    (N, 3, ...) uint8
    """
    if abs(bias) == 1:
        return (rgb * 255).round_().to(torch.uint8)
    floor = (rgb * 255).floor().clamp_(0, 254).int()
    wanted = [x[:, 0].clamp(0, 1) for x in (uptake, anatomy)]
    errors = _Errors(floor, wanted[0], wanted[1], two_way_reading(name, bias))
    least = torch.full_like(wanted[0], torch.inf)
    best = torch.zeros_like(floor[:, 0])
    for number, corner in enumerate(product((0, 1), repeat=3)):
        error = errors.of(corner)
        best.masked_fill_(error < least, number)
        least = torch.minimum(least, error)
    for channel in range(3):
        floor[:, channel] += (best >> (2 - channel)) & 1
    return floor.to(torch.uint8)


class _Errors:
    """Squared error of both readings of the colours around one; only differences are looked up.

    Parameters
    ----------
    floor : (N, 3, ...) int32
    uptake, anatomy : (N, ...) float in [0, 1]
        What should be read.
    known : Reading of (511 * 511,)
    """

    def __init__(self, floor: Tensor, uptake: Tensor, anatomy: Tensor, known: Reading) -> None:
        self._index, self._sum = pair_index(floor).reshape(-1), floor.sum(1, dtype=torch.int32)
        self._uptake, self._anatomy = uptake, anatomy
        # What the map does not have counts as lost.
        self._tables = (
            known.uptake.masked_fill(known.foreign, torch.inf),
            known.grey,
            known.width.clamp_min(1e-9),
        )

    def of(self, corner: tuple[int, ...]) -> Tensor:
        """(N, ...) of the colour one level higher in the channels where ``corner`` is 1."""
        index = self._index + pair_offset(corner)
        uptake, grey, width = (looked_up(x, index, self._sum) for x in self._tables)
        anatomy = (self._sum + sum(corner)).float().div_(3 * 255).sub_(grey).div_(width)
        missed = anatomy.clamp_(0, 1).sub_(self._anatomy).square_()
        return uptake.sub_(self._uptake).square_().add_(missed)
