"""What a job does in its thread: register, resample, fuse, audit, prepare layers.

Nothing here touches a viewer, a layer or a widget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medfuse import settings as settings_module
from medfuse.case.start import registered, start_of
from medfuse.errors import RegistrationError, option
from medfuse.fusion.choice import AUTO
from medfuse.fusion.pair import FusionResult, fuse
from medfuse.fusion.slices import plain
from medfuse.imaging.grid import Matrix
from medfuse.imaging.pairing import require_pair
from medfuse.kernel.color import luma
from medfuse.methods.base import Method, Painter
from medfuse.methods.registry import get_method
from medfuse.registration.region import Region
from medfuse.registration.result import Registration
from medfuse.settings import CaseSettings, pair_keywords
from napari_plugin import check_layers, outputs
from napari_plugin.case import case_checks, contradiction, record_text
from napari_plugin.fewer_voxels import solid_outputs
from napari_plugin.guides import RememberingGuide
from napari_plugin.jobs import Progress
from napari_plugin.moving import measured_here, unmoved
from napari_plugin.must_fit import MustFit, RegionKey
from napari_plugin.readout import Readable, describe_point
from napari_plugin.records import Aligned, Charts, Fusion, Pair
from napari_plugin.source import Source
from napari_plugin.values import checked

#: Settings of a registration that moves nothing.
STILL = dict.fromkeys(("initial", "choose"), None)
BINS = 50
SLAB = 16  # slices counted together


@lru_cache(maxsize=4)
def loaded_guide(name: str) -> Method | Painter:
    """A method that is verified and loaded once; it never changes afterwards."""
    return get_method(name)


def chosen_method(name: str) -> str | Method | Painter:
    """A method that is loaded once; what is left to medfuse is left to `fuse`."""
    return name if name == AUTO else loaded_guide(name)


@lru_cache(maxsize=4)
def preview_guide(name: str) -> Method | Painter:
    """The same method; a guide remembers its last answer, which a new bias does not change."""
    guide = loaded_guide(name)
    return guide if isinstance(guide, Painter) else RememberingGuide(guide)


def align(
    pair: Pair,
    settings: CaseSettings,
    progress: Progress,
    *,
    found: Callable[[Matrix], None] | None = None,
    must_fit: MustFit | None = None,
) -> Aligned:
    """Run the chosen registration; flat images that share a grid are not moved.

    ``found`` is told each better position, for a first look.
    """
    fixed, moving = pair.anatomical.volume(), pair.functional.volume()
    flat = pair.anatomical.flat and pair.functional.flat
    still = flat and pair.anatomical.grid.same_as(pair.functional.grid)
    still = still and settings.registration != "deformable"  # which says why it cannot
    if still:
        settings = settings.model_copy(update={**STILL, "registration": "identity"})
    region = None if still or must_fit is None else must_fit.read(settings, (fixed, moving))
    registration = registered(
        settings,
        fixed,
        _grey(moving),
        start=start_of(settings, fixed, moving),
        region=region,
        progress=progress,
        found=found,
        accept_pair="same-image",  # the pair was judged before
        allow_patient_mismatch=True,
    )
    asked = None if must_fit is None else must_fit.key
    return bring_to_grid(pair, registration, region, asked)


def _grey(moving: MetaTensor) -> MetaTensor:
    """Luminance of a color image; any other one as it is."""
    if len(moving) != 3:
        return moving
    grey = luma(moving.as_tensor()[None])[0]
    meta = {key: value for key, value in moving.meta.items() if key != "affine"}
    return MetaTensor(grey, affine=moving.affine, meta=meta)


def bring_by_hand(
    known: Aligned, pair: Pair, moved: Registration, settings: CaseSettings, progress: Progress
) -> Aligned:
    """Resample the functional image where a hand has put it, and measure it there."""
    fixed, moving = pair.anatomical.volume(), _grey(pair.functional.volume())
    found = measured_here(moved, fixed, moving, settings, progress, known.region)
    return bring_to_grid(pair, found, known.region, known.asked)


def bring_to_grid(
    pair: Pair,
    registration: Registration,
    region: Region | None = None,
    asked: RegionKey | None = None,
) -> Aligned:
    """Resample the functional image onto the anatomical grid."""
    on_grid = registration.resample(pair.functional.volume())
    return Aligned(pair, registration, on_grid, region, asked)


def fusion_keywords(settings: CaseSettings, *, rgb: bool) -> dict[str, Any]:
    """Settings that `medfuse.fuse` takes under the same names, but for the method."""
    chosen = settings_module.fusion_keywords(settings)
    return chosen | dict.fromkeys(("colormap", "window"), None) if rgb else chosen


def fuse_aligned(
    aligned: Aligned,
    settings: CaseSettings,
    progress: Progress,
    *,
    views: frozenset[str] = frozenset(),
) -> Fusion:
    """Fuse, audit and prepare the layers, also those of the checks that are switched on."""
    pair = aligned.pair
    result = fuse(
        functional=aligned.on_grid,
        anatomical=pair.anatomical.volume(),
        method=chosen_method(settings.method),
        progress=part(progress, 0.1, 0.8),
        **fusion_keywords(settings, rgb=pair.functional.rgb),
    )
    audit = result.audit.with_checks(case_checks(aligned.registration, pair))
    progress(0.85, "layers")
    parts = result, pair.anatomical, aligned.on_grid
    layers = outputs.fusion_outputs(*parts, words=pair.words)
    layers = (*layers, *solid_outputs(*parts, words=pair.words))
    found = contradiction(aligned, result)
    if found is not None:
        layers = (*layers, check_layers.contradiction(found, pair.anatomical))
    progress(0.95, "record")
    charts = count_charts(result, pair.anatomical)
    contents = (pair.anatomical.checksum(), pair.functional.checksum())
    fusion = Fusion(aligned, settings, result, audit, layers, charts, contents=contents)
    checks = tuple(check_view(view, fusion) for view in sorted(views))
    fusion = replace(
        fusion, outputs=(*layers, *checks), record=record_text(fusion), result=_lean(result)
    )
    read_once(fusion)
    return fusion


def read_once(fusion: Fusion) -> None:
    """Read one point: the tables that this needs are made here, not when the cursor moves."""
    shown = readable(fusion)
    describe_point(shown, [n // 2 for n in shown.weights.shape])


def count_charts(result: FusionResult, source: Source) -> Charts:
    """Count once, in the thread; volumes are too large for the window's."""
    inside, weights, share = (
        source.order.apply(plain(x))[0] for x in (result.coverage, result.weights, result.share)
    )
    # Outside, 2 falls out of the histogram; a mask as an index would copy every voxel's place.
    counts = sum(
        torch.histc(torch.where(covered, w, 2.0), BINS, 0.0, 1.0)
        for covered, w in zip(inside.split(SLAB), weights.split(SLAB), strict=True)
    )
    voxels = inside.sum(dim=(1, 2), dtype=torch.float64)
    profile = torch.where(inside, share, 0.0).sum(dim=(1, 2), dtype=torch.float64) / voxels
    return Charts(counts.numpy(), profile.numpy())


def _lean(result: FusionResult) -> FusionResult:
    """Without what was for audit and masks alone: 1.3 GB of 512 x 512 x 300 voxels."""
    spent = torch.empty(0)
    parts = ("from_functional", "from_anatomical", "gamut_change", "overshoot")
    return replace(result, **dict.fromkeys(parts, spent))


def check_view(view: str, fusion: Fusion) -> outputs.Output:
    """Layer of a check: checkerboard, edges or overlay."""
    result, source = fusion.result, fusion.pair.anatomical
    if view == outputs.OVERLAY:
        return check_layers.overlay(result, source, fusion.on_grid)
    return (check_layers.checkerboard if view == outputs.CHECKER else check_layers.edges)(
        result, source
    )


def before_view(aligned: Aligned) -> NDArray[Any]:
    """Functional image on the anatomical grid as its file has it, in display order."""
    source = aligned.pair.anatomical
    return outputs.shown(unmoved(aligned), source.order, flat=source.flat)


def readable(fusion: Fusion) -> Readable:
    """What the read-out needs of a fusion; views, no copies."""
    source, result = fusion.pair.anatomical, fusion.result
    by_role = {output.role: output.data for output in fusion.outputs}
    # Not the layer, into which previews of other settings are painted.
    picture = outputs.shown(result.rgb, source.order, flat=source.flat)
    units = tuple(s.meta.get("unit", "") for s in (fusion.pair.functional, source))
    return Readable(
        source=source,
        anatomical=source.data,
        functional=by_role[outputs.ON_GRID],
        weights=by_role[outputs.WEIGHTS_MAP],
        share=by_role[outputs.SHARE],
        picture=picture,
        names=fusion.pair.words,
        units=units,
        window=(result.window.low, result.window.high) if result.window else (0.0, 1.0),
        colormap=result.colormap,
        bias=result.bias if result.gamut == "band" else None,
    )


def suspect(registration: Registration, settings: CaseSettings) -> RegistrationError | None:
    """The error that stops a fusion on a suspect registration, unless that was accepted."""
    if settings.accept_suspect or registration.verdict != "suspect":
        return None
    return RegistrationError(
        "E_REGISTRATION",
        what="Registration is suspect, nothing was fused",
        cause="; ".join(registration.reasons),
        remedy="Look at the overlay, move it by hand, or go on with "
        f"{option('accept_suspect', 'True')}",
    )


def checked_pair(pair: Pair, settings: CaseSettings) -> Pair:
    """The pair as files are read, refused where it is none; see `require_pair`."""
    true = replace(pair, anatomical=checked(pair.anatomical), functional=checked(pair.functional))
    volumes = (true.anatomical.volume(), true.functional.volume())
    require_pair(*volumes, **pair_keywords(settings))
    return true


def part(progress: Progress, start: float, stop: float) -> Progress:
    return lambda fraction, text: progress(start + (stop - start) * fraction, text)
