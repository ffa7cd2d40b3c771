"""Fuse one registered pair: window, colour, guide, fixed kernel, colour again, audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfuse.audit import Audit, audit_fusion
from medfuse.fusion.evidence import evidence_of
from medfuse.fusion.guide import Mode, Progress
from medfuse.fusion.planes import Planes
from medfuse.fusion.slices import resolve_mode, run_slices
from medfuse.fusion.sources import (
    Gamut,
    Sources,
    channel_first,
    check_pair,
    coverage_of,
    given_weights,
    window_of,
)
from medfuse.imaging.windows import Window
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.base import Method, MethodInfo, Painter
from medfuse.methods.registry import get_method

DEFAULT_COLORMAP = {"CT": "gray"}  # CT is read in grey, uptake in a colour that can be read back


@dataclass(frozen=True)
class FusionResult:
    """A fused image or volume and everything needed to account for it.

    Spatial axes are those of the anatomical image; MetaTensors with its affine where it had one.

    Attributes
    ----------
    rgb : (3, ...) float32 in [0, 1]
    luminance : (1, ...) float32
        Fused luminance before it was brought into the RGB gamut; may leave [0, 1] slightly.
    weights : (1, ...) float32 in [0, 1]
        What the guide asked for: 1 anatomical, 0 functional.
    share : (1, ...) float32 in [0, 1]
        What really came from the anatomical image.
    from_functional, from_anatomical : (1, ...) float32
        The two contributions; they sum to ``luminance``, with ``bound_change`` and ``painted``
        where these are.
    functional_luminance, anatomical : (1, ...) float32 in [0, 1]
        The two sources as the kernel saw them.
    coverage : (1, ...) bool
        Inside the functional field of view.
    gamut_change : (1, ...) float32 >= 0
        By how much the gamut policy changed the luminance (``fit``) or a channel (``clip``).
    overshoot : (1, ...) float32 or None
        By how much ``luminance`` is brighter (positive) or darker (negative) than everything in
        both sources within one voxel of the slice; None without audit.
    bound_change : (1, ...) float32 or None
        What ``bounded`` added to the luminance; None where that was not asked for.
    painted : (1, ...) float32 or None
        What a network that makes the luminance itself added to the two contributions, for the
        ``weights`` that explain its picture best; None for guides and rules.
    audit : Audit or None
        None where ``fuse(..., audit=False)``.
    window, anatomical_window : Window or None
        None where the values came in [0, 1] already.
    colormap : str or None
        None where the functional image came as RGB.
    diagnostics : dict
        What a method that iterates says of its convergence; empty for all others.
    """

    rgb: Tensor
    luminance: Tensor
    weights: Tensor
    share: Tensor
    from_functional: Tensor
    from_anatomical: Tensor
    functional_luminance: Tensor
    anatomical: Tensor
    coverage: Tensor
    gamut_change: Tensor
    overshoot: Tensor | None
    bound_change: Tensor | None
    painted: Tensor | None
    audit: Audit | None
    method: MethodInfo
    mode: Mode
    kernel: Kernel
    levels: int
    window: Window | None
    anatomical_window: Window | None
    colormap: str | None
    gamut: Gamut
    diagnostics: dict[str, Any]

    def additions(self) -> dict[str, Tensor]:
        """What is neither source's: ``bound_change`` and ``painted`` where there are such."""
        found = {"bound_change": self.bound_change, "painted": self.painted}
        return {name: volume for name, volume in found.items() if volume is not None}


def fuse(
    *,
    functional: Any,
    anatomical: Any,
    method: str | Path | Method | Painter = "swift",
    mode: Mode = "auto",
    colormap: str | None = None,
    kernel: Kernel = "binomial",
    gamut: Gamut = "fit",
    window: tuple[float, float] | None = None,
    anatomical_window: tuple[float, float] | None = None,
    bias: float = 0.0,
    bounded: bool = False,
    weights: Any = None,
    audit: bool = True,
    progress: Progress | None = None,
) -> FusionResult:
    """Fuse the luminance of two images on one grid; keep the functional colour.

    Parameters
    ----------
    functional : (C, H, W) or (C, H, W, D) array, tensor or MetaTensor
        C = 1: scalar, coloured here; C = 3: RGB in [0, 1]. For volumes from ``medfuse.load`` pass
        ``registration.resample(functional)``. Outside its field of view the result is the
        anatomical image.
    anatomical : (1, H, W) or (1, H, W, D) array, tensor or MetaTensor
        Same spatial shape.
    method : str, Path, Method or Painter
        A name (``medfuse methods`` lists them), safetensors weights, or an object.
    mode : {"auto", "slices", "volume"}
        ``slices`` guides and blends slice by slice; ``volume`` averages the guide over the three
        axes and blends in 3-D, without steps between slices; ``auto`` takes ``volume`` where the
        voxels are near-isotropic (docs/benchmarks.md), and the result says which it was.
    colormap : str, optional
        For C = 1. Default ``gray`` for CT, else ``ember``, from which uptake can be read back.
    kernel : {"binomial", "paper"}
        ``binomial`` is exact for constants; ``paper`` reproduces the published kernel.
    gamut : {"fit", "clip"}
        Where fused luminance and functional chroma make no RGB colour: ``fit`` moves luminance to
        the nearest value that does, so that chroma survives; ``clip`` cuts the channels (paper).
    window, anatomical_window : (low, high), optional
        Display window in the unit of the image. Default: by unit and modality where the image
        carries a unit; images without one must lie in [0, 1].
    bias : float in [-1, 1]
        Shift of the weights toward the anatomical (positive) or the functional image (negative);
        1 takes the anatomical alone, -1 the functional alone.
    bounded : bool
        Project the fused luminance into the range of both sources within one voxel of the slice,
        so that nothing overshoots; the change is recorded in ``bound_change``.
    weights : (1, H, W) or (1, H, W, D) array or tensor in [0, 1], optional
        Use this map instead of asking the guide, e.g. a stored one to replay a fusion.
    audit : bool
        False leaves the audit out, e.g. for previews.
    progress : callable (fraction, text), optional
        Raise from it to cancel.

    Returns
    -------
    FusionResult

    Raises
    ------
    ValueError
        If shapes disagree, values without a unit leave [0, 1], or an option is out of its range.
    GeometryError
        If both images carry geometry and the grids differ.
    UsageError, WeightsError
        If the method is unknown or its weights cannot be trusted.

    References
    ----------
    Hybrid Fusion, arXiv 2602.20851, section 3; Burt & Adelson 1983.
    """
    flat = len(np.shape(anatomical)) == 3
    func, anat = channel_first(functional, "functional"), channel_first(anatomical, "anatomical")
    check_pair(func, anat)
    if colormap is not None and colormap not in COLORMAPS:
        raise ValueError(f"unknown colour map {colormap!r}; choose one of {', '.join(COLORMAPS)}")
    if not -1 <= bias <= 1:
        raise ValueError(f"bias must lie in [-1, 1], got {bias:g}")
    guide = get_method(method)
    if bias and isinstance(guide, Painter):
        raise ValueError(f"bias shifts weights, but {guide.info.name} paints the luminance itself")
    sources = Sources(
        functional=func,
        anatomical=anat,
        window=window_of(func, window, "functional"),
        anatomical_window=window_of(anat, anatomical_window, "anatomical"),
        colormap=_colormap(func, colormap),
        coverage=coverage_of(func, anat),
        gamut=gamut,
        bias=bias,
        bounded=bounded,
        weights=None if weights is None else given_weights(weights, anat),
        flat=flat,
    )
    notify = progress or (lambda fraction, text: None)
    mode = resolve_mode(mode, anat, paints=isinstance(guide, Painter))
    diagnose = getattr(guide, "diagnostics", dict)
    diagnose()  # forgets what was solved before
    planes = run_slices(sources, guide, mode, kernel, notify)
    result = _result(planes, sources, guide, mode, kernel, diagnose(), audit=audit)
    notify(1.0, "fused")
    return result


def _result(
    planes: Planes,
    sources: Sources,
    guide: Method | Painter,
    mode: Mode,
    kernel: Kernel,
    diagnostics: dict[str, Any],
    *,
    audit: bool,
) -> FusionResult:
    found = audit_fusion(evidence_of(planes, sources)) if audit else None
    pair, blended, picture = planes.windowed, planes.blended, planes.picture
    planes.release(picture.chroma_change)

    def out(plane: Tensor) -> Tensor:
        """Put a plane into the order of the image; each is let go before the next is copied."""
        return _finish(planes.volume(planes.release(plane)), sources)

    if pair.coverage is None:
        pair.coverage = torch.ones_like(pair.a, dtype=torch.bool)
    return FusionResult(
        rgb=out(picture.rgb),
        luminance=out(blended.luminance),
        weights=out(planes.weights.maps[0]),
        share=out(blended.share),
        from_functional=out(blended.from_a),
        from_anatomical=out(blended.from_b),
        functional_luminance=out(pair.a),
        anatomical=out(pair.b),
        coverage=out(pair.coverage),
        gamut_change=out(picture.gamut_change),
        overshoot=None if blended.overshoot is None else out(blended.overshoot),
        bound_change=None if blended.bound_change is None else out(blended.bound_change),
        painted=None if blended.painted is None else out(blended.painted),
        audit=found,
        method=guide.info,
        mode=mode,
        kernel=kernel,
        levels=guide.info.levels,
        window=sources.window,
        anatomical_window=sources.anatomical_window,
        colormap=sources.colormap,
        gamut=sources.gamut,
        diagnostics=diagnostics,
    )


def _finish(volume: Tensor, sources: Sources) -> Tensor:
    """Give an output the dimension and the geometry of the anatomical image."""
    if sources.flat:
        return volume[..., 0]
    image = sources.anatomical
    if isinstance(image, MetaTensor):
        meta = {key: image.meta[key] for key in ("spacing",) if key in image.meta}
        return MetaTensor(volume, affine=image.affine.clone(), meta=meta)
    return volume


def _colormap(func: Tensor, name: str | None) -> str | None:
    if func.shape[0] == 3:
        if name is not None:
            raise ValueError("the functional image is RGB already; leave colormap out")
        return None
    modality = func.meta.get("modality", "") if isinstance(func, MetaTensor) else ""
    return name or DEFAULT_COLORMAP.get(modality, "ember")
