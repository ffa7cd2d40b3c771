"""Fuse one registered pair: window, colour, guide, fixed kernel, colour again, audit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medfuse.audit import Audit, audit_fusion
from medfuse.fusion.bands import stored_bands
from medfuse.fusion.choice import (
    AUTO,
    OVERLAY_MAP,
    choose_colormap,
    choose_gamut,
    choose_method,
    modality_of,
)
from medfuse.fusion.evidence import evidence_of
from medfuse.fusion.guide import Mode
from medfuse.fusion.origin import origin_checks
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
from medfuse.imaging.fingerprint import as_read
from medfuse.imaging.grid import Grid
from medfuse.imaging.located import is_located, like
from medfuse.imaging.pairing import Acceptance, require_pair
from medfuse.imaging.windows import Window
from medfuse.kernel.devices import Device, exact_convolutions, find_device
from medfuse.kernel.pyramid import Kernel
from medfuse.methods.base import Method, MethodInfo, Painter, on_device
from medfuse.methods.registry import get_method
from medfuse.settings import Progress

Style = Literal["fusion", "overlay"]


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
        What the guide asked for: 1 anatomical, 0 functional; the mean where it weighs bands apart.
    band_weights : tuple of (1, ...) float32 in [0, 1]
        One map a band, finest first, where the guide weighs bands apart, else empty. Map k has
        ``ceil(n / 2^k)`` samples an axis (in slices mode within the slices) and its own affine.
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
        By how much the gamut policy changed the luminance (``fit``, ``band``) or a channel
        (``clip``), or the part of the chroma that it took away (``desaturate``).
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
    chosen : str
        Why this method, where the choice was left to medfuse; else empty.
    bias : float in [-1, 1]
    diagnostics : dict
        What a method that iterates says of its convergence; empty for all others.
    """

    rgb: Tensor
    luminance: Tensor
    weights: Tensor
    band_weights: tuple[Tensor, ...]
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
    bias: float
    chosen: str
    diagnostics: dict[str, Any]

    def additions(self) -> dict[str, Tensor]:
        """What is neither source's: ``bound_change`` and ``painted`` where there are such."""
        found = {"bound_change": self.bound_change, "painted": self.painted}
        return {name: volume for name, volume in found.items() if volume is not None}


def fuse(
    *,
    functional: Any,
    anatomical: Any,
    method: str | Path | Method | Painter = AUTO,
    mode: Mode = "auto",
    colormap: str | None = None,
    kernel: Kernel = "binomial",
    gamut: Gamut | None = None,
    style: Style = "fusion",
    window: tuple[float, float] | None = None,
    anatomical_window: tuple[float, float] | None = None,
    bias: float = 0.0,
    bounded: bool = False,
    device: Device = "auto",
    weights: Any = None,
    audit: bool = True,
    accept_pair: Acceptance | None = None,
    allow_patient_mismatch: bool = False,
    progress: Progress | None = None,
) -> FusionResult:
    """Fuse the luminance of two images on one grid; keep the functional colour.

    Parameters
    ----------
    functional : (C, H, W), (C, H, W, D), (H, W) or (H, W, 3) array, tensor or MetaTensor
        C = 1: scalar, coloured here; C = 3: RGB in [0, 1]. Integers of 8 bits without sign are
        divided by 255 where no window or unit says what they are; transparent parts of
        (H, W, 4) are taken as over black. For volumes from ``medfuse.load`` pass
        ``registration.resample(functional)``. Outside its field of view the result is the
        anatomical image.
    anatomical : (1, H, W), (1, H, W, D), (H, W) or (H, W, 3) array, tensor or MetaTensor
        Same spatial shape; one channel, or three that are equal.
    method : str, Path, Method or Painter
        A name (``medfuse methods`` lists them), safetensors weights, or an object. ``auto`` chooses
        by modality and colour map, and the result says what and why.
    mode : {"auto", "slices", "volume"}
        ``slices`` guides and blends slice by slice; ``volume`` averages the guide over the three
        axes and blends in 3-D, without steps between slices; ``auto`` takes ``volume`` where the
        voxels are near-isotropic (docs/benchmarks.md), and the result says which it was.
    colormap : str, optional
        For C = 1. Default ``bone`` for CT on MRI and ``gray`` for other CT, else ``glow``, from
        which both images can be read back.
    kernel : {"binomial", "paper"}
        ``binomial`` is exact for constants; ``paper`` reproduces the published kernel.
    gamut : {"band", "desaturate", "fit", "clip"}, optional
        Where fused luminance and functional chroma make no RGB colour: ``band`` maps the whole
        luminance into the band that a two-way map (``glow``, ``glow-safe``, ``bone``) leaves to it,
        so that both images can be read back; ``desaturate`` keeps luminance and hue and takes
        chroma away; ``fit`` moves luminance to the nearest value that exists, so that chroma
        survives; ``clip`` cuts the channels (paper). Default: ``band`` for two-way maps, ``fit``
        for other readable maps, else ``desaturate``.
    style : {"fusion", "overlay"}
        ``overlay`` lays colours half over the anatomical image, for comparison with what other
        viewers show: the color map is ``hot`` unless another is named.
    window, anatomical_window : (low, high), optional
        Display window in the unit of the image. Default: by unit and modality where the image
        carries a unit; images without one must lie in [0, 1].
    bias : float in [-1, 1]
        Shift of the weights toward the anatomical (positive) or the functional image (negative);
        1 takes the anatomical alone, -1 the functional alone. With ``band`` it acts on the colours
        instead: they fade toward the anatomical, or its contrast toward the functional image.
    bounded : bool
        Project the fused luminance into the range of both sources within one voxel of the slice,
        so that nothing overshoots; the change is recorded in ``bound_change``.
    device : {"auto", "cpu", "cuda", "mps"}
        Where guide and kernel compute; colour and audit are the processor's. ``auto`` is ``cpu``,
        whose results are the same to the bit everywhere; a GPU rounds otherwise.
    weights : (1, H, W) or (1, H, W, D) array or tensor in [0, 1], or a list of one a band, optional
        Use this instead of asking the guide, e.g. what is stored to replay a fusion.
    audit : bool
        False leaves the audit out, e.g. for previews.
    accept_pair : {"roles", "same-image"}, optional
        State that modalities which contradict the roles (a PET as anatomical image, an MRI as
        functional one), or one image given twice, are meant. The audit tells it.
    allow_patient_mismatch : bool
        State that two patients are meant.
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
    UsageError, SeriesError
        ``E_ROLES``, ``E_SAME_IMAGE``, ``E_MIXED_PATIENT``: what the images say of themselves
        contradicts the pair.
    UsageError, WeightsError
        If the method is unknown or its weights cannot be trusted.

    Notes
    -----
    Volumes of ``medfuse.load`` whose values were changed since lose their unit where it no longer
    holds (windows are then chosen by the values alone), and the audit says so.

    References
    ----------
    Hybrid Fusion, arXiv 2602.20851, section 3; Burt & Adelson 1983.
    """
    doubts = require_pair(
        anatomical,
        functional,
        accept_pair=accept_pair,
        allow_patient_mismatch=allow_patient_mismatch,
    )
    functional, anatomical = as_read(functional), as_read(anatomical)
    flat = len(np.shape(anatomical)) < 4
    func = channel_first(functional, "functional", has_window=window is not None)
    anat = channel_first(anatomical, "anatomical", has_window=anatomical_window is not None)
    check_pair(func, anat)
    if not -1 <= bias <= 1:
        raise ValueError(f"bias must lie in [-1, 1], got {bias:g}")
    func_window = window_of(func, window, "functional")
    if style == "overlay":
        gamut = "overlay"
        colormap = colormap or (OVERLAY_MAP if func.shape[0] == 1 else None)
    colormap = choose_colormap(func, anat, colormap, func_window)
    gamut = choose_gamut(gamut, colormap)
    choice = choose_method(modality_of(func), colormap, gamut) if method == AUTO else None
    place = find_device(device)
    guide = on_device(get_method(choice.name if choice else method), place)
    if bias and gamut not in ("band", "overlay") and isinstance(guide, Painter):
        raise ValueError(f"bias shifts weights, but {guide.info.name} paints the luminance itself")
    sources = Sources(
        functional=func,
        anatomical=anat,
        window=func_window,
        anatomical_window=window_of(anat, anatomical_window, "anatomical"),
        colormap=colormap,
        coverage=coverage_of(func, anat),
        gamut=gamut,
        bias=bias,
        bounded=bounded,
        weights=None if weights is None else given_weights(weights, anat),
        flat=flat,
        device=place,
    )
    notify = progress or (lambda fraction, text: None)
    mode = resolve_mode(mode, anat, paints=isinstance(guide, Painter))
    diagnose = getattr(guide, "diagnostics", dict)
    diagnose()  # forgets what was solved before
    with exact_convolutions(place):
        planes = run_slices(sources, guide, mode, kernel, notify)
    result = _result(planes, sources, guide, mode, kernel, diagnose(), audit=audit)
    if result.audit is not None:
        more = origin_checks(doubts, functional, anatomical)
        result = replace(result, audit=result.audit.with_checks(more))
    notify(1.0, "fused")
    return replace(result, chosen=choice.why) if choice else result


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

    maps = planes.weights.maps if len(planes.weights.maps) > 1 else []
    bands = tuple(
        _finish(volume, sources, affine)
        for volume, affine in stored_bands(
            maps, planes.order, _grid(sources), volume=mode == "volume"
        )
    )
    if pair.coverage is None:
        pair.coverage = torch.ones_like(pair.a, dtype=torch.bool)
    return FusionResult(
        rgb=out(picture.rgb),
        luminance=out(blended.luminance),
        weights=out(planes.weights.shown),
        band_weights=bands,
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
        bias=sources.bias,
        chosen="",
        diagnostics=diagnostics,
    )


def _grid(sources: Sources) -> Grid | None:
    image = sources.anatomical
    return Grid.from_volume(image) if is_located(image) else None


def _finish(volume: Tensor, sources: Sources, affine: np.ndarray | None = None) -> Tensor:
    """Give an output the dimension and the geometry of the anatomical image, or another affine."""
    if sources.flat:
        return volume[..., 0]
    image = sources.anatomical
    if not is_located(image):
        return volume
    if affine is not None:
        return like(image, volume, torch.as_tensor(affine))
    meta = {key: image.meta[key] for key in ("spacing",) if key in image.meta}
    return like(image, volume, image.affine.clone(), meta)
