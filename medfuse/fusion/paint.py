"""The picture: functional colour at the fused luminance, inside the RGB range.

Two-way pictures come in the 8-bit colours that are read back best: files hold what was made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medfuse.fusion.planes import Colour, Picture
from medfuse.fusion.sources import Sources
from medfuse.kernel.blend import slabs
from medfuse.kernel.color import clip_gamut, desaturate, fit_gamut, luma, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.kernel.colormaps import apply_colormap
from medfuse.kernel.scratch import empty
from medfuse.kernel.threads import share_out
from medfuse.kernel.two_way import paint_two_way
from medfuse.kernel.two_way_rounding import round_two_way
from medfuse.settings import Progress

HALF = 0.5  # of the colour in an overlay
AT_A_TIME = 4  # slices: each needs some thirty times its luminance while it is painted


def paint(luminance: Tensor, colour: Colour, sources: Sources, notify: Progress) -> Picture:
    """Paint all slices.

    Parameters
    ----------
    luminance : (S, 1, R, K) float32
    colour : Colour
        Of the same slices; what it holds is replaced by the picture.
    sources : Sources
        Say how colours are brought into the RGB range.
    notify : callable (fraction, text)
    """
    slices = len(luminance)
    gamut_change, chroma_change = (empty(luminance.shape) for _ in range(2))
    rgb, before = colour.room, [0.0] * slices

    def fill(part: slice) -> None:
        y, cbcr = luminance[part], colour.cbcr[part]
        exact = ycbcr_to_rgb(torch.cat([y, cbcr], dim=1))
        before[part.start] = float(chroma_drift(exact, cbcr).amax())
        uptake = None if colour.uptake is None else colour.uptake[part]
        shown, gamut_change[part] = _shown(y, exact, cbcr, uptake, sources)
        cbcr = torch.lerp(torch.full((), 0.5), cbcr, _strength(sources))
        rgb[part] = shown  # where the colours lay
        chroma_change[part] = chroma_drift(rgb[part], cbcr)

    parts = slabs(slices, AT_A_TIME)
    share_out(fill, parts, lambda done: notify(0.8 + 0.1 * done / len(parts), "picture"))
    return Picture(rgb, gamut_change, chroma_change, max(before))


def _strength(sources: Sources) -> float:
    """Part of the functional chroma that the policy means to show."""
    if sources.gamut == "band":
        return min(1.0, 1 - sources.bias)  # colours fade with the emphasis
    return HALF * (1 - sources.bias) if sources.gamut == "overlay" else 1.0


def _shown(
    luminance: Tensor, exact: Tensor, cbcr: Tensor, uptake: Tensor | None, sources: Sources
) -> tuple[Tensor, Tensor]:
    """RGB in [0, 1] by the gamut policy, and what that changed."""
    if uptake is not None and sources.gamut == "overlay":
        return _overlay(luminance, uptake, sources)
    if uptake is not None:
        assert sources.colormap is not None  # `fuse` has checked it
        name, bias = sources.colormap, sources.bias
        exact, changed = paint_two_way(uptake, luminance, name, bias=bias)
        levels = round_two_way(exact, uptake, luminance, name, bias=bias)
        return levels.float().div_(255), changed
    if sources.gamut == "clip":
        return clip_gamut(exact)
    return (desaturate if sources.gamut == "desaturate" else fit_gamut)(luminance, cbcr)


def _overlay(luminance: Tensor, uptake: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
    """Colour laid over the fused luminance, and by how much that changed the brightness."""
    assert sources.colormap is not None  # `fuse` has checked it
    rgb = lay_over(luminance, uptake, sources.colormap, bias=sources.bias)
    return rgb, (luma(rgb) - luminance).abs_()


def lay_over(grey: Tensor, uptake: Tensor, colormap: str | None, *, bias: float = 0.0) -> Tensor:
    """The customary overlay: half colour and half grey, or as much as the emphasis says.

    Parameters
    ----------
    grey : (N, 1, R, K) float
    uptake : (N, 1, R, K) float
        In its window, [0, 1]; negative where nothing was measured, which stays grey. Without a
        colour map (N, 3, R, K) RGB in [0, 1].

    Returns
    -------
    (N, 3, R, K) float in [0, 1]
    """
    colour = uptake.clamp_min(0) if colormap is None else apply_colormap(uptake, colormap)
    measured = (uptake >= 0).all(dim=1, keepdim=True)
    part = torch.where(measured, HALF * (1 - bias), 0.0)
    return torch.lerp(grey.clamp(0, 1), colour, part)


def chroma_drift(rgb: Tensor, cbcr: Tensor) -> Tensor:
    """By how much Cb or Cr, whichever more, of (S, 3, R, K) is off (S, 2, R, K): (S, 1, R, K)."""
    return rgb_to_ycbcr(rgb)[:, 1:].sub_(cbcr).abs_().amax(dim=1, keepdim=True)
