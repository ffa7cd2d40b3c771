"""All numbers of one region: its row of the table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfuse.imaging.pet.suv import SUV_UNITS
from medfuse.measurement.deformed import ESTIMATED
from medfuse.measurement.moved import FARTHEST_MM, Effect, Moved, effect_of
from medfuse.measurement.occupancy import Part, occupancy, outside_fraction
from medfuse.measurement.peak import PEAK_ML
from medfuse.measurement.region import Region, Space, Threshold, voxel_ml
from medfuse.measurement.space import SPACES
from medfuse.measurement.statistics import PERCENTILES, Statistics, above, weighted
from medfuse.measurement.table import Row, joined
from medfuse.measurement.worlds import Beside, Volume, Worlds

_UPTAKE = ("PET", "SPECT")
_LITTLE_OUTSIDE = 1e-3


def row_of(region: Region, volume: Volume, worlds: Worlds, beside: Beside, mtv: Threshold) -> Row:
    """Measure one region; what cannot be measured is None, with a remark."""
    remarks = list(region.notes)
    row = Row(
        region=region.name,
        label=region.label,
        kind=region.kind,
        space=region.space,
        measured_on="unresampled" if worlds.measured_in == "functional" else "resampled",
        modality=volume.modality,
        unit=volume.unit,
        volume_ml=region.volume_ml,
    )
    if not region.weights.any():
        return replace(row, remark=joined([*remarks, "the region is empty"]))
    placed = {space: worlds.brought(region, space) for space in SPACES}
    there = placed["functional"]
    outside = outside_fraction(there, worlds.field, worlds.map(there.space, "functional"))
    if placed[worlds.measured_in] is not region:
        remarks.append(ESTIMATED)
    if _LITTLE_OUTSIDE < outside < 1:
        remarks.append(
            f"{100 * outside:.2g} % of it lies outside the field of view of the functional image"
        )
    found = _functional(region, placed, volume, worlds, mtv, remarks)
    found |= _anatomical(placed["anatomical"], beside, worlds)
    if worlds.registration is not None and worlds.registration.verdict == "suspect":
        remarks.append("the registration is suspect")
    return replace(row, outside_fraction=outside, remark=joined(remarks), **found)


def _functional(
    region: Region,
    placed: dict[Space, Region],
    volume: Volume,
    worlds: Worlds,
    mtv: Threshold,
    remarks: list[str],
) -> dict[str, Any]:
    here = placed[worlds.measured_in]
    part = occupancy(here, worlds.functional, worlds.map(worlds.measured_in, here.space))
    if part is not None and volume.inside is not None:
        part = Part(part.weights * volume.inside[part.slices], part.start)
    if part is None or not part.weights.any():
        remarks.append("it lies outside the field of view of the functional image")
        return {}
    held = part.weights > 0
    values, weights = volume.values[part.slices][held], part.weights[held]
    numbers = Statistics.of(values, weights)
    if numbers.voxels < 1:
        remarks.append("it is smaller than one voxel of the functional image")
    elif numbers.voxels * voxel_ml(worlds.functional) < PEAK_ML:
        remarks.append(f"it is smaller than the sphere of the peak ({PEAK_ML:g} ml)")
    error = _error_at(placed["anatomical"], worlds)
    effect = effect_of(
        0.0 if error is None or region.space == "functional" or error > FARTHEST_MM else error,
        Moved(volume.values, volume.inside, part),
        volume.means,
        worlds.map("anatomical", worlds.measured_in),
        worlds.functional.affine,
    )
    return {
        "voxels": numbers.voxels,
        "max": numbers.maximum,
        "mean": numbers.mean,
        "sd": numbers.sd,
        "peak": effect.peak,
        **{f"p{q}": value for q, value in zip(PERCENTILES, numbers.percentiles, strict=True)},
        **_metabolic(values, weights, numbers.maximum, volume, worlds, mtv),
        **_range(region, error, effect, remarks),
    }


def _metabolic(
    values: NDArray[Any], weights: NDArray[Any], maximum: float, volume: Volume, worlds: Worlds,
    mtv: Threshold,
) -> dict[str, float]:  # fmt: skip
    in_suv = volume.unit in SUV_UNITS.values()
    if maximum <= 0 or not (in_suv or volume.modality in _UPTAKE):
        return {}
    low = mtv.above(maximum)
    ml, total = above(values, weights, low, voxel_ml(worlds.functional))
    return {"mtv_threshold": low, "mtv_ml": ml} | ({"tlg": total} if in_suv else {})


def _error_at(region: Region, worlds: Worlds) -> float | None:
    """The expected error of the registration where the region is; None where it is not known."""
    if worlds.registration is None or worlds.registration.expected is None:
        return None
    at = worlds.map(region.space, "anatomical") @ np.append(region.centre, 1.0)
    error = float(worlds.registration.error_within_mm(at[None, :3])[0])
    return error if np.isfinite(error) else None


def _range(
    region: Region, error: float | None, effect: Effect, remarks: list[str]
) -> dict[str, float]:
    """The expected error, and what it does to numbers that rest on the registration."""
    if error is None:
        return {}
    found = {"registration_error_mm": error}
    if region.space == "functional":
        return found
    if error > FARTHEST_MM:
        remarks.append(f"no range: the registration may be off by more than {FARTHEST_MM:g} mm")
        return found
    ends = dict(zip(("mean_low", "mean_high"), effect.means, strict=True))
    peaks = dict(zip(("peak_low", "peak_high"), effect.peaks or (), strict=False))
    return found | ends | peaks


def _anatomical(region: Region, beside: Beside, worlds: Worlds) -> dict[str, Any]:
    if beside.is_empty or worlds.anatomical is None:
        return {}
    part = occupancy(region, worlds.anatomical, worlds.map("anatomical", region.space))
    if part is None:
        return {}
    held = part.weights > 0
    weights = part.weights[held].astype(np.float64)

    def mean(plane: NDArray[Any]) -> float:
        return weighted(plane[part.slices][held], weights) / float(weights.sum())

    found: dict[str, Any] = {}
    if beside.values is not None:
        numbers = Statistics.of(beside.values[part.slices][held], weights)
        found |= {
            "anatomical_modality": beside.modality,
            "anatomical_unit": beside.unit,
            "anatomical_mean": numbers.mean,
            "anatomical_sd": numbers.sd,
        }
    if beside.share is not None:
        found["anatomical_contribution"] = mean(beside.share)
    if beside.read_back is not None:
        index = np.nonzero(held)
        at = tuple(axis + first for axis, first in zip(index, part.start, strict=True))
        found["read_back_error"] = beside.read_back.error(at, weights)
    return found
