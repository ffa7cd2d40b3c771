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
from medfuse.errors import GeometryError
from medfuse.fusion.evidence import evidence_of
from medfuse.fusion.slices import (
    Gamut,
    Mode,
    Planes,
    Progress,
    Sources,
    plain,
    resolve_mode,
    run_slices,
)
from medfuse.imaging.grid import Grid, coverage
from medfuse.imaging.windows import Window, default_window
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
    func, anat = _channel_first(functional, "functional"), _channel_first(anatomical, "anatomical")
    _check_pair(func, anat)
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
        window=_window(func, window, "functional"),
        anatomical_window=_window(anat, anatomical_window, "anatomical"),
        colormap=_colormap(func, colormap),
        coverage=_coverage(func, anat),
        gamut=gamut,
        bias=bias,
        bounded=bounded,
        weights=None if weights is None else _given_weights(weights, anat),
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
    v = planes.values
    found = audit_fusion(evidence_of(planes, sources)) if audit else None
    v.setdefault("coverage", torch.ones_like(v["a"], dtype=torch.bool))

    del v["chroma"]

    def out(name: str) -> Tensor:
        """Put a plane into the order of the image; each is let go before the next is copied."""
        volume = _finish(planes.volume(name), sources)
        del v[name]
        return volume

    return FusionResult(
        rgb=out("rgb"),
        luminance=out("luminance"),
        weights=out("weights"),
        share=out("share"),
        from_functional=out("from_a"),
        from_anatomical=out("from_b"),
        functional_luminance=out("a"),
        anatomical=out("b"),
        coverage=out("coverage"),
        gamut_change=out("gamut"),
        overshoot=out("overshoot") if audit else None,
        bound_change=out("bound_change") if sources.bounded else None,
        painted=out("painted") if "painted" in v else None,
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


def _channel_first(image: Any, role: str) -> Tensor:
    """(C, X, Y, Z) float32; a 2-D image gets a last axis of length 1."""
    if not isinstance(image, Tensor):
        image = torch.from_numpy(np.ascontiguousarray(image))
    if image.ndim not in (3, 4) or image.shape[0] not in (1, 3):
        raise ValueError(
            f"the {role} image must be (C, H, W) or (C, H, W, D) with C = 1 or 3, "
            f"got shape {tuple(image.shape)}"
        )
    if role == "anatomical" and image.shape[0] != 1:
        raise ValueError("the anatomical image must have one channel, got 3")
    return image.float() if image.ndim == 4 else plain(image).float().unsqueeze(-1)


def _given_weights(weights: Any, anat: Tensor) -> Tensor:
    given = plain(_channel_first(weights, "weight"))
    if given.shape != (1, *anat.shape[1:]):
        raise ValueError(
            f"weights must be {(1, *anat.shape[1:])} like the anatomical image, "
            f"got {tuple(given.shape)}"
        )
    low, high = torch.aminmax(given)
    if not (low >= 0 and high <= 1):
        raise ValueError(f"weights must lie in [0, 1], got {low:g} to {high:g}")
    return given


def _check_pair(func: Tensor, anat: Tensor) -> None:
    if func.shape[1:] != anat.shape[1:]:
        raise ValueError(
            f"both images must be on one grid, got {tuple(func.shape[1:])} functional and "
            f"{tuple(anat.shape[1:])} anatomical; use registration.resample(functional)"
        )
    if not (isinstance(func, MetaTensor) and isinstance(anat, MetaTensor)):
        return
    if not Grid.from_volume(func).same_as(Grid.from_volume(anat)):
        raise GeometryError(
            "E_GRID_MISMATCH",
            what="Cannot fuse",
            cause="functional and anatomical image have the same shape but another affine",
            remedy="Pass registration.resample(functional), which puts it on the anatomical grid",
        )


def _window(image: Tensor, given: tuple[float, float] | None, role: str) -> Window | None:
    unit = image.meta.get("unit") if isinstance(image, MetaTensor) else None
    if given is not None:
        low, high = given
        if not low < high:
            raise ValueError(f"the {role} window must rise, got {low:g} to {high:g}")
        return Window(float(low), float(high), unit or "a.u.", "given")
    if isinstance(image, MetaTensor) and unit is not None and image.shape[0] == 1:
        return default_window(image)
    low, high = (float(x) for x in torch.aminmax(plain(image)))
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise ValueError(
            f"values of the {role} image without a unit must lie in [0, 1], got {low:g} to "
            f"{high:g}; give {'window' if role == 'functional' else 'anatomical_window'}"
            "=(low, high), or load the image with medfuse.load"
        )
    return None


def _colormap(func: Tensor, name: str | None) -> str | None:
    if func.shape[0] == 3:
        if name is not None:
            raise ValueError("the functional image is RGB already; leave colormap out")
        return None
    modality = func.meta.get("modality", "") if isinstance(func, MetaTensor) else ""
    return name or DEFAULT_COLORMAP.get(modality, "ember")


def _coverage(func: Tensor, anat: Tensor) -> Tensor | None:
    """(X, Y, Z) bool from the geometry that ``Registration.resample`` recorded, else None."""
    if not isinstance(func, MetaTensor) or not (view := func.meta.get("field_of_view")):
        return None
    source = Grid(tuple(view["shape"]), np.asarray(view["affine"], dtype=float))
    grid = Grid.from_volume(anat if isinstance(anat, MetaTensor) else func)
    inside = coverage(grid, source, np.asarray(view["moving_from_fixed"]))
    return torch.from_numpy(inside)
