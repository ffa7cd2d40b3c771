"""Two results of one person at two times: the second on the grid of the first, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medfuse.errors import MedfuseError, RegistrationError, SeriesError, UnitError, option
from medfuse.imaging.grid import Grid, coverage, transform_points
from medfuse.imaging.pairing import two_persons
from medfuse.imaging.pet.suv import SUV_UNITS
from medfuse.imaging.windows import Window
from medfuse.measurement.asked import Asked
from medfuse.measurement.change import changes, composed, in_anatomical
from medfuse.measurement.files import Images
from medfuse.measurement.gather import read_all
from medfuse.measurement.measure import measure
from medfuse.measurement.region import Isocontour, Region, Sphere
from medfuse.measurement.table import RegionTable, Row, as_dict
from medfuse.registration.result import Registration, register
from medfuse.report.followup import FollowUp
from medfuse.settings import Progress

if TYPE_CHECKING:
    from monai.data import MetaTensor

WHAT = "Cannot compare two times"


@dataclass(frozen=True, eq=False)
class TimePoint:
    """A result and its two images as they were acquired.

    Attributes
    ----------
    record : dict
        Of ``provenance.json``: case, inputs, settings and steps are asked for.
    transform : dict
        Of ``transform.json``.
    anatomical, functional : (1, X, Y, Z) MetaTensor
    """

    record: dict[str, Any]
    transform: dict[str, Any]
    anatomical: MetaTensor
    functional: MetaTensor

    @property
    def registration(self) -> Registration:
        """Anatomical -> functional image of this time.

        Raises
        ------
        RegistrationError
            ``E_REGISTRATION``: it holds a local deformation.
        """
        told = self.transform.get("deformation") or {}
        if told.get("used", bool(told)):
            raise RegistrationError(
                "E_REGISTRATION",
                what=WHAT,
                where=str(self.record["case"]),
                cause="its registration holds a local deformation, and two times are compared by "
                "rigid and affine maps alone",
                remedy=f"Fuse it with {option('registration', 'rigid')}",
            )
        return Registration.from_dict(self.transform, linear_only=True)

    @property
    def unit(self) -> str:
        """Of the functional image."""
        return str(self.functional.meta["unit"])

    @property
    def window(self) -> Window:
        """In which the functional image was fused."""
        steps = {step["name"]: step["parameters"] for step in self.record["steps"]}
        window = steps["window"]["functional"]
        return Window(**window) if window else Window(0.0, 1.0, "a.u.", "none")


def follow_up(
    first: TimePoint,
    second: TimePoint,
    asked: Asked,
    *,
    preset: str = "default",
    accept_suspect: bool = False,
    regions_needed: bool = True,
    progress: Progress | None = None,
) -> FollowUp:
    """Bring the second time onto the first, and measure the same regions at both.

    Masks and spheres are drawn once, at the first time, and brought to the second. An isocontour is
    a rule: it is drawn anew at each time, from its seed where that lies at the second time, and its
    MTV is what lies above its own threshold.

    Parameters
    ----------
    first, second : TimePoint
        Regions from files were drawn on the images of the first.
    asked : Asked
        Spheres lie in the anatomical image of the first time, seeds in its functional image. With
        nothing asked for there is no table, and the page shows the largest change.
    preset : str
        Effort of the registration of the two anatomical images.
    accept_suspect : bool
    regions_needed : bool
        Stop where none of the regions that were asked for can be read.

    Raises
    ------
    MedfuseError
        ``E_MIXED_PATIENT``; ``E_UNIT``: the units differ; ``E_REGISTRATION``; what reading regions
        raises if there is nothing to measure.
    """
    notify = progress or (lambda fraction, text: None)
    to0, to1 = first.registration, second.registration
    _require_comparable(first, second, asked)
    fixed, failures = _drawn_once(first, asked)
    rules = [shape for shape in asked.shapes if isinstance(shape, Isocontour)]
    if failures and not fixed and not rules and regions_needed:
        raise failures[0]
    notify(0.1, "registering")
    between = register(
        fixed=first.anatomical,
        moving=second.anatomical,
        preset=preset,
        accept_pair="same-image",  # two images of one kind, whose persons were compared
        allow_patient_mismatch=True,
    )
    if between.verdict == "suspect" and not accept_suspect:
        raise RegistrationError(
            "E_REGISTRATION",
            what=f"{WHAT}: the registration of the anatomical images is suspect",
            cause="; ".join(between.reasons),
            remedy=f"Look at both images, or go on with {option('accept_suspect', 'True')}",
        )
    notify(0.6, "measuring")
    to_second = composed(between, to1)
    here = [_contour(rule, first.functional) for rule in rules]
    there = [_contour(_carried(rule, to0, to_second), second.functional) for rule in rules]
    chosen: dict[str, Any] = {"mtv_threshold": asked.mtv_threshold, "reference": asked.reference}
    one = measure(
        first.functional, [*fixed, *here], anatomical=first.anatomical, registration=to0, **chosen
    )
    moved = [in_anatomical(region, to0) for region in fixed]
    other = measure(second.functional, [*moved, *there], registration=to_second, **chosen)
    one, other = (_by_rules(table, rules) for table in (one, other))
    return FollowUp(
        registration=between,
        rows=changes(one, other),
        first=one,
        second=other,
        regions=[*moved, *(in_anatomical(region, to0) for region in here)],
        failures=tuple(failures),
        unit=first.unit,
        window=first.window,
        anatomical=np.asarray(first.anatomical)[0],
        **_images(first, second, to0, to_second),
    )


def _images(
    first: TimePoint, second: TimePoint, to0: Registration, to_second: Registration
) -> dict[str, Any]:
    """Both functional images on the anatomical grid of the first time, and their difference."""
    grid = Grid.from_volume(first.anatomical)
    pairs = (to0, first.functional), (to_second, second.functional)
    before, after = (np.asarray(found.resample(image))[0] for found, image in pairs)
    both = np.ones(grid.shape, dtype=bool)
    for found, image in pairs:
        both &= coverage(grid, Grid.from_volume(image), found.matrix)
    difference = np.where(both, after - before, np.float32(0))
    return {"grid": grid, "before": before, "after": after, "difference": difference}


def _drawn_once(first: TimePoint, asked: Asked) -> tuple[list[Region], list[MedfuseError]]:
    """Regions that keep their form: masks of files, and spheres."""
    regions, failures = read_all(
        asked.files,
        Images.of(first.functional, first.anatomical),
        drawn_on=asked.drawn_on,
        names=asked.names,
        keep_names=asked.keep_names,
        allow_patient_mismatch=asked.allow_patient_mismatch,
    )
    regions += [shape.region() for shape in asked.shapes if isinstance(shape, Sphere)]
    return regions, [failure.error for failure in failures]


def _carried(rule: Isocontour, to0: Registration, to_second: Registration) -> Isocontour:
    """The rule with its seed where that lies at the second time."""
    if rule.seed is None:
        return rule
    x, y, z = transform_points(to_second.matrix @ to0.inverse, np.asarray(rule.seed))
    return replace(rule, seed=(float(x), float(y), float(z)))


def _contour(rule: Isocontour, image: MetaTensor) -> Region:
    """What the rule draws in an image; nothing, with the reason, where it draws nothing."""
    grid, unit = Grid.from_volume(image), str(image.meta["unit"])
    values = np.asarray(image)[0].astype(np.float32, copy=False)
    try:
        region = rule.region(values, grid, "functional", unit)
    except MedfuseError as error:
        nothing = np.zeros((1, 1, 1), dtype=np.uint8)
        kind = f"isocontour {rule.threshold.words(unit)}"
        return Region.cut(
            rule.name, nothing, grid.affine, "functional", kind=kind, notes=(error.cause,)
        )
    if region.weights.any():
        return region
    return replace(region, notes=(_nothing(rule, unit),))


def _nothing(rule: Isocontour, unit: str) -> str:
    """What is said of an isocontour that an image does not reach."""
    return f"nothing reaches {rule.threshold.words(unit)} there"


def _by_rules(table: RegionTable, rules: Sequence[Isocontour]) -> RegionTable:
    """The table with MTV and TLG of isocontours by their own threshold, rounded as it is written.

    Rows of isocontours are the last ones.
    """
    rows = list(table)
    start = len(rows) - len(rules)
    for number, rule in enumerate(rules, start=start):
        rows[number] = _by_own_rule(rows[number], rule)
    return RegionTable(tuple(Row(**as_dict(row)) for row in rows))


def _by_own_rule(row: Row, rule: Isocontour) -> Row:
    """MTV is the contour itself; 0 where nothing reaches a fixed threshold."""
    if row.mean is None:
        if rule.threshold.relative or _nothing(rule, row.unit) not in (row.remark or ""):
            return row
        tlg = 0.0 if row.unit in SUV_UNITS.values() else None
        return replace(row, mtv_threshold=rule.threshold.value, mtv_ml=0.0, tlg=tlg)
    if row.mtv_ml is None or row.max is None or row.volume_ml is None:
        return row
    low = rule.threshold.above(row.max)
    tlg = None if row.tlg is None else row.mean * row.volume_ml
    return replace(row, mtv_threshold=low, mtv_ml=row.volume_ml, tlg=tlg)


def _require_comparable(first: TimePoint, second: TimePoint, asked: Asked) -> None:
    images = [time.anatomical for time in (first, second)]
    images += [time.functional for time in (first, second)]
    where = " and ".join(str(time.record["case"]) for time in (first, second))
    doubt = two_persons(*(image.meta for image in images))
    if doubt is not None and not asked.allow_patient_mismatch:
        raise SeriesError(
            "E_MIXED_PATIENT",
            what=WHAT,
            where=where,
            cause=doubt.cause,
            remedy="Give two results of one person, or go on with "
            f"{option('allow_patient_mismatch', 'True')}",
        )
    one, other = (f"{t.functional.meta['modality']} in {t.unit}" for t in (first, second))
    if one != other:
        raise UnitError(
            "E_UNIT",
            what=WHAT,
            where=where,
            cause=f"the functional images are {one} and {other}",
            remedy=f"Give results of one modality, fused with the same {option('unit')}",
        )
    one, other = (time.record["inputs"]["functional"]["sha256"] for time in (first, second))
    if one == other and one is not None:
        raise SeriesError(
            "E_SAME_IMAGE",
            what=WHAT,
            where=where,
            cause="both have the same functional image (by its content)",
            remedy="Give results of two different times",
        )
