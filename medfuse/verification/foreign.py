"""Audit a fused picture that any tool made, from its files: two sources, one picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from medfuse.audit import (
    GREY_LEVEL,
    Audit,
    Check,
    Evidence,
    audit_fusion,
    estimated_share,
)
from medfuse.errors import UsageError, option
from medfuse.fusion import fuse
from medfuse.fusion.evidence import evidence_of_picture, overshoot
from medfuse.fusion.guide import Mode, slice_orders
from medfuse.fusion.origin import origin_checks
from medfuse.fusion.paint import chroma_drift
from medfuse.fusion.planes import Windowed, covered_slices, in_slices
from medfuse.fusion.sources import Gamut, Sources, coverage_of, plain, windowed
from medfuse.imaging.grid import DisplayOrder
from medfuse.imaging.located import is_located
from medfuse.imaging.pairing import doubts
from medfuse.imaging.windows import Window, default_window
from medfuse.kernel.color import luma, rgb_to_ycbcr
from medfuse.kernel.colormaps import COLORMAPS, apply_colormap
from medfuse.kernel.pyramid import Kernel
from medfuse.kernel.two_way_maps import MAPS
from medfuse.kernel.two_way_reading import take_apart
from medfuse.methods.base import Weights
from medfuse.registration.start import read_matrix
from medfuse.settings import CaseSettings, pair_keywords
from medfuse.verification.foreign_files import (
    Picture,
    SourcePair,
    read_pair,
    read_picture_or_volume,
)
from medfuse.verification.volumes import stored_maps

ROUNDING = 1.5 * GREY_LEVEL  # a picture of 8 bits a channel, rounded, from another luminance file


@dataclass(frozen=True)
class ForeignAudit:
    """The audit of a picture, and what it was made from.

    ``grid``: of the anatomical image, None for pictures; ``order``: its slice order; ``notes``:
    what had to be assumed.
    """

    audit: Audit
    evidence: Evidence
    order: DisplayOrder
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """How the picture was made, as far as it is known.

    ``weights``: file of the weight map; ``transform``: file of the map from anatomical to
    functional points; ``settings``: color map, windows, and how the scans are read.
    """

    weights: Path | None = None
    transform: Path | None = None
    settings: CaseSettings = field(default_factory=CaseSettings)

    @classmethod
    def of(
        cls, *, weights: Path | None = None, transform: Path | None = None, **settings: Any
    ) -> Self:
        """Options with some settings by name."""
        return cls(weights, transform, CaseSettings(**settings))


def audit_picture(
    anatomical: Path, functional: Path, fused: Path, options: Options | None = None
) -> ForeignAudit:
    """Audit a fused picture of any tool.

    Parameters
    ----------
    anatomical, functional : Path
        Scans (NIfTI, DICOM) or 2-D pictures (PNG, TIFF, JPEG, WebP); the functional one on the
        anatomical grid, or with ``options.transform``.
    fused : Path
        NIfTI on the anatomical grid (RGB24, three channels, or grey), or a picture of its size.
    options : Options, optional

    Returns
    -------
    ForeignAudit

    Raises
    ------
    GeometryError
        ``E_GRID_MISMATCH`` where the three do not lie on one grid.
    UsageError
        ``E_SETTINGS``: an unknown colour map; ``E_KIND``: pictures mixed with scans.
    InputError
        As ``medfuse.load``, and ``E_BAD_TRANSFORM``.
    """
    options = options or Options()
    if options.settings.colormap is not None and options.settings.colormap not in COLORMAPS:
        raise UsageError(
            "E_SETTINGS",
            what="Cannot audit",
            cause=f"unknown color map {options.settings.colormap!r}",
            remedy=f"Choose one of {', '.join(COLORMAPS)}, or leave it out",
        )
    matrix = None if options.transform is None else read_matrix(options.transform)
    pair = read_pair(anatomical, functional, matrix, options.settings)
    picture = read_picture_or_volume(fused, pair)
    evidence, order = _evidence(pair, picture, options)
    more = [_mirroring(matrix)] if matrix is not None else []
    told = doubts(pair.anatomical, pair.functional)  # what was not refused when they were read
    more += origin_checks(told, pair.functional, pair.anatomical)
    audit = audit_fusion(evidence).with_checks(more)
    if options.weights is not None:
        weights = _read_weights(options.weights, pair)
        audit = Audit((_reproduced(pair, picture, weights, options), *audit.checks))
    return ForeignAudit(audit, evidence, order, _notes(pair, picture, options))


def _read_weights(path: Path, pair: SourcePair) -> Weights:
    """The weight map, or the maps of all bands that a result of medfuse keeps beside it."""
    if path.name == "weight_map.nii.gz" and len(maps := stored_maps(path.parent)) > 1:
        return maps
    return read_picture_or_volume(path, pair).values.mean(0, keepdim=True)


def _evidence(
    pair: SourcePair, picture: Picture, options: Options
) -> tuple[Evidence, DisplayOrder]:
    sources = _sources(pair, picture, options)
    order = slice_orders(sources.anatomical, "slices")[0]
    values = in_slices(sources.functional, order).contiguous()
    colour = _colour(values, sources.window, options.settings.colormap)
    seen = _windowed(sources, order, values, colour)
    rgb = in_slices(picture.values, order).contiguous().expand(-1, 3, -1, -1)
    luminance = _luminance(sources, rgb, options)
    known = colour is not None or not picture.is_coloured
    cbcr = None if colour is None or not picture.is_coloured else rgb_to_ycbcr(colour)[:, 1:]
    evidence = replace(
        evidence_of_picture(sources, order, seen, luminance, rgb),
        share=estimated_share(luminance, seen.a, seen.b) if known else None,
        overshoot=overshoot(luminance, seen) if known else None,
        chroma_change=None if cbcr is None else chroma_drift(rgb, cbcr),
        chroma_change_before=None,
        is_foreign=True,
    )
    return evidence, order


def _luminance(sources: Sources, rgb: Tensor, options: Options) -> Tensor:
    """Luminance that was shown: of a two-way map, what its band holds."""
    if sources.gamut != "band":
        return luma(rgb)
    assert sources.colormap is not None  # see `_sources`
    bias = options.settings.bias
    return take_apart(rgb, sources.colormap, bias=bias, most_foreign=1.0).anatomy


def _sources(pair: SourcePair, picture: Picture, options: Options) -> Sources:
    """As for a fusion of our own; the colour map is that of the picture, if it has one."""
    func, anat = pair.functional, pair.anatomical
    can_be_read = picture.is_coloured and func.shape[0] == 1
    colormap = options.settings.colormap if can_be_read else None
    return Sources(
        functional=func,
        anatomical=anat,
        window=_window(func, options.settings.window),
        anatomical_window=_window(anat, options.settings.anatomical_window),
        colormap=colormap,
        gamut="band" if colormap in MAPS else "fit",
        bias=options.settings.bias,
        coverage=coverage_of(func, anat),
        flat=pair.grid is None,
    )


def _windowed(
    sources: Sources, order: DisplayOrder, values: Tensor, colour: Tensor | None
) -> Windowed:
    inside = covered_slices(sources.coverage, order)
    return Windowed(
        a=windowed(values, sources.window) if colour is None else luma(colour),
        b=in_slices(windowed(sources.anatomical, sources.anatomical_window), order).contiguous(),
        coverage=inside,
        saturated=sources.count_above(values, inside),
    )


def _window(image: Tensor, given: tuple[float, float] | None) -> Window | None:
    unit = image.meta.get("unit", "a.u.") if is_located(image) else "a.u."
    if given is not None:
        if not given[0] < given[1]:
            raise UsageError(
                "E_SETTINGS",
                what="Cannot audit",
                cause=f"the window must rise, got {given[0]:g} to {given[1]:g}",
                remedy=f"Give {option('window', 'LOW HIGH')}",
            )
        return Window(*given, unit, "given")
    return default_window(image) if is_located(image) else None


def _colour(values: Tensor, window: Window | None, colormap: str | None) -> Tensor | None:
    """(S, 3, R, K) colours of the functional image; None where they are not known."""
    if values.shape[1] == 3:
        return values
    return None if colormap is None else apply_colormap(windowed(values, window), colormap)


def _mirroring(matrix: np.ndarray) -> Check:
    determinant = float(np.linalg.det(matrix[:3, :3]))
    return Check(
        "transform",
        "The transform does not mirror",
        determinant,
        "determinant",
        0.0,
        "pass" if determinant > 0 else "fail",
        "A positive determinant turns and shifts; a negative one would swap left and right.",
    )


def _reproduced(pair: SourcePair, picture: Picture, weights: Weights, options: Options) -> Check:
    """Fuse again with the weights and compare: the exact decomposition, or none."""
    gap, how = min(_gaps(pair, picture, weights, options), key=lambda found: found[0])
    ok = gap <= ROUNDING
    return Check(
        "linearity",
        "Exact two-source decomposition",
        gap,
        "luminance",
        ROUNDING,
        "pass" if ok else "fail",
        (
            f"The fixed kernel makes this very image of the sources and the weights ({how}), to "
            f"{255 * gap:.1f} of 255 gray levels. "
            if ok
            else f"The fused image is not what the fixed kernel makes of the sources and the "
            f"weights: at best ({how}) it differs by {255 * gap:.0f} of 255 gray levels. Either "
            "something was changed or added, or windows, color map or kernel were others. "
        )
        + "Rounding to 8 bits explains one and a half.",
        {"settings": how},
    )


def _gaps(
    pair: SourcePair, picture: Picture, weights: Weights, options: Options
) -> Iterator[tuple[float, str]]:
    """Largest difference of the luminance, for the customary settings until one fits."""
    flat = pair.grid is None
    images = (pair.functional, pair.anatomical, picture.values)
    func, anat, seen = ((x[..., 0] if flat else x) for x in images)
    given: Any = weights
    if isinstance(weights, Tensor):
        given = (weights[..., 0] if flat else weights).clamp(0, 1)
    colormap = None if func.shape[0] == 3 else options.settings.colormap
    modes: tuple[Mode, ...] = ("slices",) if flat else ("slices", "volume")
    kernels: tuple[Kernel, ...] = ("binomial", "paper")
    gamuts: tuple[Gamut, ...] = ("desaturate", "fit", "clip")
    if colormap in MAPS:
        gamuts = ("band", *gamuts)
    for mode, kernel, gamut, bounded in product(modes, kernels, gamuts, (False, True)):
        try:
            again = fuse(
                functional=func, anatomical=anat, weights=given, colormap=colormap, mode=mode,
                kernel=kernel, gamut=gamut, bounded=bounded, window=options.settings.window,
                anatomical_window=options.settings.anatomical_window, method="mean", audit=False,
                **pair_keywords(options.settings),
            )  # fmt: skip
        except ValueError:
            if isinstance(given, Tensor):
                raise
            continue  # maps of bands have the sizes of one mode
        made = luma(plain(again.rgb)[None])
        luminance = torch.as_tensor(np.asarray(again.luminance)).clamp(0, 1)
        made = made[0] if picture.is_coloured else luminance
        gap = float((luma(seen.expand(3, *seen.shape[1:])[None])[0] - made).abs().max())
        yield gap, f"{mode}, {kernel} kernel, gamut {gamut}{', bounded' if bounded else ''}"
        if gap <= ROUNDING:
            return


def _notes(pair: SourcePair, picture: Picture, options: Options) -> tuple[str, ...]:
    notes = [*pair.notes, *picture.notes]
    if options.weights is None:
        notes.append(
            "without the weight map the exact decomposition cannot be computed: the share is an "
            "estimate, fitted to the fused image"
        )
    scalar = pair.functional.shape[0] == 1
    if scalar and picture.is_coloured and options.settings.colormap is None:
        notes.append(
            "the color map is not known, so that share, overshoot, chroma and read-back are left "
            "out; state it"
        )
    return tuple(notes)
