"""Registration of a functional (moving) to an anatomical (fixed) volume.

Mutual information; an exhaustive coarse search where the headers cannot be trusted; bit for bit
the same on every run. Says how far off the result may be, and when it should not be believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from medfuse.errors import UsageError, option
from medfuse.imaging.fingerprint import as_read
from medfuse.imaging.grid import Grid, Matrix
from medfuse.imaging.pairing import Acceptance, require_pair
from medfuse.registration.deformation import Deformation
from medfuse.registration.deformed import with_deformation, with_given
from medfuse.registration.evidence import Place
from medfuse.registration.expected import expected_error
from medfuse.registration.fields import no_overlap
from medfuse.registration.geometry import rotation_angle
from medfuse.registration.inputs import check_volume, prepare
from medfuse.registration.kinds import kind_of
from medfuse.registration.model import Registration
from medfuse.registration.outcome import Outcome, Volumes
from medfuse.registration.places import named_places, worst_place
from medfuse.registration.plan import PRESETS
from medfuse.registration.posture import about_posture, about_table
from medfuse.registration.progress import Meter, in_parallel, single_threaded_itk
from medfuse.registration.quality import judge
from medfuse.registration.refine import is_rigid, nearest_rotation
from medfuse.registration.region import Drawn, Region, region_of
from medfuse.registration.signs import about_region
from medfuse.registration.strategy import solve

if TYPE_CHECKING:
    from monai.data.meta_tensor import MetaTensor

__all__ = ["Registration", "register"]

Method = Literal["auto", "rigid", "affine", "identity", "deformable"]
RIGID_TOLERANCE = 1e-3
#: Below this part of the fixed field of view, the moving one is looked from.
EXCHANGE_BELOW = 0.7
#: Part of the time after which the deformation follows.
RIGID_PART = 0.6


def register(
    *,
    fixed: MetaTensor,
    moving: MetaTensor,
    method: Method = "auto",
    preset: str = "default",
    initial: ArrayLike | None = None,
    deformation: Deformation | None = None,
    seed: int = 0,
    choose: str | None = None,
    region: Region | Drawn | MetaTensor | None = None,
    accept_pair: Acceptance | None = None,
    allow_patient_mismatch: bool = False,
    progress: Callable[[float, str], None] | None = None,
    found: Callable[[Matrix], None] | None = None,
) -> Registration:
    """Find the rigid (or affine) map from an anatomical to a functional volume.

    Parameters
    ----------
    fixed, moving : (1, X, Y, Z) MetaTensor
        Anatomical and functional volume, RAS affines in mm.
    method : {"auto", "rigid", "affine", "identity", "deformable"}
        "identity" trusts the headers (or `initial`) and only judges them. "auto" does so too, after
        a check, where both volumes name one frame of reference and overlap; otherwise, and for
        "rigid", all rotations up to 45 degrees and all translations are searched coarsely and the
        best refined. "affine" then refines all 12 parameters: for scanners whose scales differ; a
        stretch that no scanner makes is "suspect". "deformable" adds a local deformation to the
        result of "auto": an estimate, whose verdict is never better than "look".
    preset : {"fast", "default", "thorough"}
    initial : (4, 4) array-like, optional
        Fixed -> moving map, RAS mm: only its neighbourhood (24 degrees, 60 mm) is searched. One
        that is not rigid is taken as it is ("identity") or refined without a search ("affine").
    deformation : Deformation, optional
        A local deformation before `initial`, from `start.read_start`: taken as it is ("identity").
    seed : int
        Of the sampling pattern, >= 0.
    choose : str, optional
        Take this one of the positions that are found: "headers", "search" or a number, as in
        `Registration.alternatives`. It is measured where it is.
    region : (1, X, Y, Z) MetaTensor or Region, optional
        What must fit above all: the last refinement looks at it, and the verdict is about the error
        there. A mask on the grid of one of the images, or one of the regions that
        `medfuse.measurement.files.read_regions` reads from a file.
    accept_pair : {"roles", "same-image"}, optional
        State that a pair is meant whose modalities contradict the roles, or that is one image: two
        MRI are registered with "roles".
    allow_patient_mismatch : bool
        Go on although the headers name two patients.
    progress : callable, optional
        Called with (fraction, text) as the work goes on, from worker threads too, never at the same
        time. If it raises, the work stops and the exception comes out of here.
    found : callable, optional
        For a first look: called with a map (fixed -> moving, RAS mm) as soon as a coarse one is
        known, and with better ones. Nothing was judged by then.

    Raises
    ------
    RegistrationError
        ``E_TOO_FEW_SLICES``, ``E_NONFINITE``, ``E_CONSTANT``, ``E_NO_OVERLAP``,
        ``E_REGISTRATION``. A doubtful result is returned, with the verdict "suspect".
    UsageError
        ``E_SETTINGS``: an unknown method or preset, or an initial map that does not fit the method.
        ``E_ROLES``, ``E_SAME_IMAGE``: the two images are no pair.
    SeriesError
        ``E_MIXED_PATIENT``.
    InputError
        ``E_REGION``: the region is empty, or outside of the field of view.
    """
    fixed, moving = as_read(fixed), as_read(moving)
    start = _checked_start(method, preset, initial, seed)
    if deformation is not None and method != "identity":
        raise _given_deformation()
    thin = method == "identity"
    check_volume(fixed, role="fixed (anatomical)", thin_allowed=thin)
    check_volume(moving, role="moving (functional)", thin_allowed=thin)
    require_pair(
        fixed, moving, accept_pair=accept_pair, allow_patient_mismatch=allow_patient_mismatch
    )
    look_at = None if region is None else region_of(region, fixed, moving)
    deformable = method == "deformable"
    meter = Meter(_first_part(progress) if deformable else progress, found)
    plan = PRESETS[preset]
    given = initial is not None
    with single_threaded_itk():
        meter.stage(0.0, 0.1, total=2, text="preparing")
        one, other = in_parallel(lambda v: prepare(v, base_mm=plan.base_mm), (fixed, moving), meter)
        meter.check()
        if method == "identity" or given:
            no_overlap(one.grid, other.grid, start)
        # The image that shows less of the body is the better one to look from: the other one
        # surrounds it, and the edge of its own field of view does not pull.
        exchanged = _field_mm3(other.grid) < EXCHANGE_BELOW * _field_mm3(one.grid)
        if exchanged and found is not None:
            meter.found = lambda matrix: found(np.asarray(np.linalg.inv(matrix)))
        pair = Volumes(one, other, shares_frame=_shares_frame(fixed, moving))
        outcome = solve(
            pair.exchanged() if exchanged else pair,
            plan,
            method="auto" if method == "deformable" else method,
            start=np.asarray(np.linalg.inv(start)) if exchanged else start,
            given=given,
            seed=seed,
            meter=meter,
            choose=choose,
            region=look_at.exchanged() if look_at and exchanged else look_at,
        )
        if exchanged:
            outcome = outcome.exchanged()
        meter.stage(1.0, 1.0, total=1, text="registered")
        meter.check()
        result = _registration(outcome, pair, start, seed, fixed.meta, moving.meta, look_at)
        if deformation is not None:
            result = with_given(result, deformation, moving)
        if deformable:
            rest = Meter(_last_part(progress))
            result = with_deformation(result, one, other, moving, preset=preset, meter=rest)
    return result


def _given_deformation() -> UsageError:
    return UsageError(
        "E_SETTINGS",
        what="Cannot register",
        cause="the start holds a local deformation, which can only be taken as it is",
        remedy=f"Take it with {option('method', 'identity')}, or start from its linear part alone, "
        "for example transform.tfm of a result",
    )


def _first_part(progress: Callable[[float, str], None] | None) -> Any:
    """Tell of a search to which a deformation follows."""
    return progress and (lambda fraction, text: progress(RIGID_PART * fraction, text))


def _last_part(progress: Callable[[float, str], None] | None) -> Any:
    whole = 1.0 - RIGID_PART
    return progress and (lambda fraction, text: progress(RIGID_PART + whole * fraction, text))


def _field_mm3(grid: Grid) -> float:
    return float(np.prod(grid.shape) * abs(np.linalg.det(grid.affine[:3, :3])))


def _registration(
    outcome: Outcome,
    pair: Volumes,
    start: Matrix,
    seed: int,
    fixed: dict[str, Any],
    moving: dict[str, Any],
    region: Region | None,
) -> Registration:
    uptake = moving.get("modality") in ("PET", "SPECT")
    kind = kind_of(pair.fixed, fixed, moving)
    points = pair.landmarks()
    expected, typical = None, None
    places: tuple[Place, ...] = ()
    if outcome.witnesses:
        expected = expected_error(outcome.matrix, outcome.witnesses, kind)
        asked = region.points(outcome.matrix) if region else points
        typical = float(expected.within_mm(asked).mean())
        places = named_places(expected, pair, points, uptake=uptake)
        if region:
            places = (worst_place(expected, "the region", asked), *places)
    turned = "" if outcome.method == "identity" else outcome.turned
    further, remarks = about_posture(fixed, moving, turned)
    further += about_table("anatomical", fixed, pair.fixed)
    further += about_table("functional", moving, pair.moving)
    if region:
        further += about_region(outcome.matrix, pair, region)
    over = "the region" if region else "the body"
    judged = judge(outcome, typical, kind=kind, over=over, further=further, remarks=remarks)
    change = outcome.matrix @ np.linalg.inv(start)
    middle = np.append(pair.fixed.grid.centre, 1.0)
    shift = np.linalg.norm((outcome.matrix @ middle - start @ middle)[:3])
    return Registration(
        matrix=outcome.matrix,
        fixed_grid=pair.fixed.grid,
        method=outcome.method,
        verdict=judged.verdict,
        reasons=judged.reasons,
        metric_before=outcome.metric_before,
        metric_after=outcome.metric_after,
        iterations=outcome.iterations,
        stop_reason=outcome.stop_reason,
        overlap=pair.overlap(outcome.matrix),
        shift_mm=float(shift),
        rotation_deg=rotation_angle(change),
        seed=seed,
        sharpness=outcome.sharpness,
        signs=judged.signs,
        expected=expected,
        places=places,
        alternatives=outcome.alternatives,
    )


def _shares_frame(fixed: MetaTensor, moving: MetaTensor) -> bool:
    frames = [(v.meta.get("source") or {}).get("frame_of_reference") for v in (fixed, moving)]
    return frames[0] is not None and frames[0] == frames[1]


def _checked_start(method: str, preset: str, initial: ArrayLike | None, seed: int) -> Matrix:
    cause = ""
    matrix = np.eye(4) if initial is None else np.array(initial, dtype=np.float64)
    if method not in get_args(Method):
        cause = f"unknown method {method!r} ({', '.join(get_args(Method))})"
    elif preset not in PRESETS:
        cause = f"unknown preset {preset!r} ({', '.join(PRESETS)})"
    elif seed < 0:
        cause = f"the seed must be 0 or more, got {seed}"
    elif matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        cause = f"the initial map must be 4x4 finite numbers, got shape {matrix.shape}"
    elif not np.allclose(matrix[3], [0, 0, 0, 1]):
        cause = "the last row of the initial map is not 0 0 0 1"
    elif np.linalg.det(matrix[:3, :3]) <= 0:
        cause = "the initial map mirrors or is singular"
    elif method in ("auto", "rigid", "deformable") and not is_rigid(matrix, RIGID_TOLERANCE):
        cause = "the initial map is not rigid; affine refines it, identity takes it as it is"
    if cause:
        raise UsageError(
            "E_SETTINGS", what="Cannot register", cause=cause, remedy="Correct the setting"
        )
    if is_rigid(matrix, RIGID_TOLERANCE):
        matrix[:3, :3] = nearest_rotation(matrix[:3, :3])
    return matrix
