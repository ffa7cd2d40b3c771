"""Both sources in pictures as they are saved: detail, contradiction, excess, brightness order."""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.evaluation.images import prepare
from medfuse.evaluation.uptake import POSITIVE, centred_ranks
from medfuse.kernel.blend import overshoot
from medfuse.kernel.sources import contradiction, detail_kept

BEYOND = 4.0  # grey levels further than this outside the 3 x 3 range of both sources


def judge_sources(a: Tensor, b: Tensor, fused: Tensor) -> dict[str, Tensor]:
    """All measures of this module, of pictures as they are saved.

    Parameters
    ----------
    a, b, fused : (N, 1, H, W) or (N, 3, H, W) float in [0, 1]
        Judged by their 8-bit luminance.

    Returns
    -------
    dict of (N,) float64
        ``kept_A``, ``kept_B``: :func:`detail_kept`; ``beyond``: part of the pixels more than 4 grey
        levels brighter or darker than both sources within one pixel; ``rank``:
        :func:`rank_correlation` where A has signal; ``contradicting``: pixels of
        :func:`contradiction`, a picture with 20 or more is flagged.
    """
    of_a, of_b, picture = (prepare(x, "reference") for x in (a, b, fused))
    kept_a, kept_b = detail_kept(of_a.gray, of_b.gray, picture.gray)
    grey = (x.gray.unsqueeze(1) for x in (picture, of_a, of_b))
    beyond = overshoot(*grey).abs() > BEYOND
    signal = of_a.luminance > POSITIVE
    return {
        "kept_A": kept_a,
        "kept_B": kept_b,
        "beyond": beyond.double().mean(dim=(1, 2, 3)),
        "rank": rank_correlation(of_a.luminance, picture.luminance, signal),
        "contradicting": contradiction(of_a.gray, of_b.gray, picture.gray).sum(dim=(1, 2)).double(),
    }


def rank_correlation(a: Tensor, fused: Tensor, mask: Tensor) -> Tensor:
    """Spearman correlation of A and the luminance of a picture.

    Parameters
    ----------
    a, fused : (N, H, W) float in [0, 1]
        The uptake (or its luminance) and the luminance of the picture.
    mask : (N, H, W) bool
        Where to look, e.g. the body.

    Returns
    -------
    (N,) float64
        NaN where one of the two is constant.
    """
    return torch.stack([_spearman(x[m], y[m]) for x, y, m in zip(a, fused, mask, strict=True)])


def _spearman(x: Tensor, y: Tensor) -> Tensor:
    ranks_x, ranks_y = centred_ranks(x), centred_ranks(y)
    return (ranks_x @ ranks_y) / torch.sqrt((ranks_x @ ranks_x) * (ranks_y @ ranks_y))
