"""Audit a fused picture that any tool made, from its files: two sources, one picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.audit import (
    GREY_LEVEL,
    Audit,
    Check,
    Evidence,
    Functional,
    ReadBack,
    audit_fusion,
    estimated_share,
)
from medfuse.errors import UsageError, option
from medfuse.fusion import fuse
from medfuse.fusion.evidence import slice_affine
from medfuse.fusion.slices import Gamut, Mode, plain
from medfuse.imaging.grid import DisplayOrder, Grid, coverage
from medfuse.imaging.windows import Window, apply_window, default_window
from medfuse.kernel.blend import overshoot
from medfuse.kernel.color import luma, rgb_to_ycbcr
from medfuse.kernel.colormaps import COLORMAPS, apply_colormap
from medfuse.kernel.pyramid import Kernel
from medfuse.registration.start import read_matrix
from medfuse.settings import CaseSettings
from medfuse.verification.foreign_files import Pair, Picture, read_pair, read_picture_or_volume

ROUNDING = 1.5 * GREY_LEVEL  # a picture of 8 bits a channel, rounded, from another luminance file
SAMPLES = 200_000


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
            cause=f"unknown colour map {options.settings.colormap!r}",
            remedy=f"Choose one of {', '.join(COLORMAPS)}, or leave it out",
        )
    matrix = None if options.transform is None else read_matrix(options.transform)
    pair = read_pair(anatomical, functional, matrix, options.settings)
    picture = read_picture_or_volume(fused, pair)
    evidence, order = _evidence(pair, picture, options)
    more = [_mirroring(matrix)] if matrix is not None else []
    audit = audit_fusion(evidence).with_checks(more)
    if options.weights is not None:
        weights = read_picture_or_volume(options.weights, pair).values.mean(0, keepdim=True)
        audit = Audit((_reproduced(pair, picture, weights, options), *audit.checks))
    return ForeignAudit(audit, evidence, order, _notes(pair, picture, options))


def _evidence(pair: Pair, picture: Picture, options: Options) -> tuple[Evidence, DisplayOrder]:
    grid = pair.grid
    order = _order(grid)

    def planes(volume: Any) -> Tensor:
        """(C, X, Y, Z) -> (S, C, R, K)."""
        plain = torch.as_tensor(np.asarray(volume), dtype=torch.float32)
        return order.apply(plain).transpose(0, 1).contiguous()

    window = _window(pair.functional, options.settings.window)
    values = planes(pair.functional)
    colour = _colour(values, window, options.settings.colormap)
    a = luma(colour) if colour is not None else _unit(values, window)
    b = planes(_unit(pair.anatomical, _window(pair.anatomical, options.settings.anatomical_window)))
    rgb = planes(picture.values).expand(-1, 3, -1, -1)
    luminance = luma(rgb)
    known = colour is not None or not picture.is_coloured
    func = pair.functional
    meta = func.meta if isinstance(func, MetaTensor) else {}
    inside = _coverage(meta.get("field_of_view"), pair.matrix, grid, order)
    evidence = Evidence(
        a=a,
        b=b,
        luminance=luminance,
        rgb=rgb,
        coverage=inside,
        share=estimated_share(luminance, a, b) if known else None,
        overshoot=overshoot(luminance, a, b) if known else None,
        chroma_change=_chroma_change(rgb, colour) if picture.is_coloured else None,
        chroma_change_before=None,
        functional=Functional(
            values,
            window=(window.low, window.high) if window else None,
            colormap=options.settings.colormap if picture.is_coloured else None,
            unit=window.unit if window else "",
            modality=meta.get("modality", "unknown"),
        ),
        affine=slice_affine(order, grid) if grid else None,
        stored_affine=None if grid is None else np.asarray(grid.affine),
        is_foreign=True,
        **_saturation(values, window, inside),
    )
    sample = _read_back_sample(evidence) if picture.is_coloured else None
    return replace(evidence, read_back=sample), order


def _order(grid: Grid | None) -> DisplayOrder:
    if grid is None:
        return DisplayOrder("axial", (2, 0, 1), (False, False, False), (1.0, 1.0, 1.0))
    return DisplayOrder.from_grid(grid)


def _window(image: Tensor, given: tuple[float, float] | None) -> Window | None:
    unit = image.meta.get("unit", "a.u.") if isinstance(image, MetaTensor) else "a.u."
    if given is not None:
        if not given[0] < given[1]:
            raise UsageError(
                "E_SETTINGS",
                what="Cannot audit",
                cause=f"the window must rise, got {given[0]:g} to {given[1]:g}",
                remedy=f"Give {option('window', 'LOW HIGH')}",
            )
        return Window(*given, unit, "given")
    return default_window(image) if isinstance(image, MetaTensor) else None


def _unit(values: Any, window: Window | None) -> Any:
    return values if window is None else apply_window(values, window)


def _colour(values: Tensor, window: Window | None, colormap: str | None) -> Tensor | None:
    """(S, 3, R, K) colours of the functional image; None where they are not known."""
    if values.shape[1] == 3:
        return values
    return None if colormap is None else apply_colormap(_unit(values, window), colormap)


def _coverage(
    view: dict[str, Any] | None, matrix: np.ndarray | None, grid: Grid | None, order: DisplayOrder
) -> Tensor | None:
    if view is None or matrix is None or grid is None:
        return None
    source = Grid(tuple(view["shape"]), np.asarray(view["affine"], dtype=float))
    inside = coverage(grid, source, matrix)
    return order.apply(torch.from_numpy(inside)).unsqueeze(1).contiguous()


def _chroma_change(rgb: Tensor, colour: Tensor | None) -> Tensor | None:
    if colour is None:
        return None
    drift = rgb_to_ycbcr(rgb)[:, 1:].sub_(rgb_to_ycbcr(colour)[:, 1:])
    return drift.abs_().amax(dim=1, keepdim=True)


def _saturation(values: Tensor, window: Window | None, inside: Tensor | None) -> dict[str, Any]:
    if window is None or values.shape[1] != 1:
        return {}
    above = values > window.high
    if inside is not None:
        above &= inside
    return {"saturated": int(above.sum()), "window_by_design": window.unit == "HU"}


def _read_back_sample(e: Evidence) -> ReadBack | None:
    functional = e.functional
    if functional is None or functional.colormap in (None, "gray"):
        return None
    low, high = functional.window or (0.0, 1.0)
    step = max(1, e.a.numel() // SAMPLES)
    values = ((functional.values.reshape(-1)[::step] - low) / (high - low)).clamp(0, 1)
    wanted = values > 0.02
    if e.coverage is not None:
        wanted &= e.coverage.reshape(-1)[::step]
    rgb = e.rgb.transpose(0, 1).reshape(3, -1)[:, ::step][:, wanted]
    return ReadBack(values[wanted], (rgb * 255).round().div_(255), str(functional.colormap))


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


def _reproduced(pair: Pair, picture: Picture, weights: Tensor, options: Options) -> Check:
    """Fuse again with the weights and compare: the exact decomposition, or none."""
    gap, how = min(_gaps(pair, picture, weights, options), key=lambda found: found[0])
    ok = gap <= ROUNDING
    return Check(
        "linearity",
        "Nothing but the two sources",
        gap,
        "luminance",
        ROUNDING,
        "pass" if ok else "fail",
        (
            f"The fixed kernel makes this very picture of the sources and the weights ({how}), to "
            f"{255 * gap:.1f} of 255 grey levels. "
            if ok
            else f"The picture is not what the fixed kernel makes of the sources and the weights: "
            f"at best ({how}) it differs by {255 * gap:.0f} of 255 grey levels. Either something "
            "was changed or added, or windows, colour map or kernel were others. "
        )
        + "Rounding to 8 bits explains one and a half.",
        {"settings": how},
    )


def _gaps(
    pair: Pair, picture: Picture, weights: Tensor, options: Options
) -> Iterator[tuple[float, str]]:
    """Largest difference of the luminance, for the customary settings until one fits."""
    flat = pair.grid is None
    images = (pair.functional, pair.anatomical, weights, picture.values)
    func, anat, w, seen = ((x[..., 0] if flat else x) for x in images)
    colormap = None if func.shape[0] == 3 else options.settings.colormap
    modes: tuple[Mode, ...] = ("slices",) if flat else ("slices", "volume")
    kernels: tuple[Kernel, ...] = ("binomial", "paper")
    gamuts: tuple[Gamut, ...] = ("fit", "clip")
    for mode, kernel, gamut, bounded in product(modes, kernels, gamuts, (False, True)):
        again = fuse(
            functional=func, anatomical=anat, weights=w.clamp(0, 1), colormap=colormap, mode=mode,
            kernel=kernel, gamut=gamut, bounded=bounded, window=options.settings.window,
            anatomical_window=options.settings.anatomical_window, method="mean", audit=False,
        )  # fmt: skip
        made = luma(plain(again.rgb)[None])
        luminance = torch.as_tensor(np.asarray(again.luminance)).clamp(0, 1)
        made = made[0] if picture.is_coloured else luminance
        gap = float((luma(seen.expand(3, *seen.shape[1:])[None])[0] - made).abs().max())
        yield gap, f"{mode}, {kernel} kernel, gamut {gamut}{', bounded' if bounded else ''}"
        if gap <= ROUNDING:
            return


def _notes(pair: Pair, picture: Picture, options: Options) -> tuple[str, ...]:
    notes = [*pair.notes, *picture.notes]
    if options.weights is None:
        notes.append(
            "without the weight map the exact decomposition cannot be computed: the share is an "
            "estimate, fitted to the picture"
        )
    scalar = pair.functional.shape[0] == 1
    if scalar and picture.is_coloured and options.settings.colormap is None:
        notes.append(
            "the colour map is not known, so that share, overshoot, chroma and read-back are left "
            "out; state it"
        )
    return tuple(notes)
