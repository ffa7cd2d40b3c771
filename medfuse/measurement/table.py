"""The numbers of regions as a table: one row a region, and what each column means."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medfuse.errors import NOTICE
from medfuse.measurement.peak import PEAK_ML

MISSING = "n/a"  # as BIDS writes it
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Row:
    """Numbers of one region; None where there is none, with the reason in `remark`.

    The meaning of each is in :data:`COLUMNS`.
    """

    region: str
    label: int | None = None
    kind: str = "mask"
    space: str = "anatomical"
    measured_on: str = "unresampled"
    modality: str = "unknown"
    unit: str = "a.u."
    volume_ml: float | None = None
    outside_fraction: float | None = None
    voxels: float | None = None
    max: float | None = None
    mean: float | None = None
    sd: float | None = None
    peak: float | None = None
    p5: float | None = None
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p95: float | None = None
    mtv_threshold: float | None = None
    mtv_ml: float | None = None
    tlg: float | None = None
    reference: str | None = None
    ratio: float | None = None
    registration_error_mm: float | None = None
    mean_low: float | None = None
    mean_high: float | None = None
    peak_low: float | None = None
    peak_high: float | None = None
    anatomical_modality: str | None = None
    anatomical_unit: str | None = None
    anatomical_mean: float | None = None
    anatomical_sd: float | None = None
    anatomical_contribution: float | None = None
    read_back_error: float | None = None
    remark: str | None = None


def _meaning(text: str, units: str = "", **levels: str) -> dict[str, Any]:
    return (
        {"Description": text}
        | ({"Units": units} if units else {})
        | ({"Levels": levels} if levels else {})
    )


_OWN = "in the unit of the column unit"
#: What a column holds, as BIDS wants it said beside a table.
COLUMNS: dict[str, dict[str, Any]] = {
    "region": _meaning("Name of the region."),
    "label": _meaning("Number of the region in its label map, segmentation or structure set."),
    "kind": _meaning("How the region was made: mask, contours, sphere or isocontour."),
    "space": _meaning("Image in whose world the region was drawn: anatomical or functional."),
    "measured_on": _meaning(
        "Functional image that was measured.",
        unresampled="The image as it was acquired; the region was brought to its voxels.",
        resampled="The image interpolated onto the anatomical grid, which lowers maxima.",
    ),
    "modality": _meaning("Modality of the functional image."),
    "unit": _meaning("Unit of the functional values."),
    "volume_ml": _meaning("Volume of the region as drawn.", "ml"),
    "outside_fraction": _meaning(
        "Part of that volume outside the field of view of the functional image, which counts in no "
        "number of that image; from 0 to 1.",
    ),
    "voxels": _meaning("Functional voxels in the region, counted by the part of them inside."),
    "max": _meaning(f"Highest value of the voxels with half of them inside or more, {_OWN}."),
    "mean": _meaning(f"Mean, {_OWN}. Each voxel counts by the part of it inside the region."),
    "sd": _meaning(f"Standard deviation in the region (of the population), {_OWN}."),
    "peak": _meaning(
        f"Highest mean in a sphere of {PEAK_ML:g} ml (12.4 mm across) about a voxel of the region, "
        f"{_OWN}; the sphere may reach beyond the region (PERCIST, EANM 2.0).",
    ),
    **{
        f"p{q}": _meaning(f"Value up to which {q} % of the region lie, {_OWN}.")
        for q in (5, 25, 50, 75, 95)
    },
    "mtv_threshold": _meaning(f"Lowest value that counts for mtv_ml and tlg, {_OWN}."),
    "mtv_ml": _meaning("Metabolic volume: volume in the region at or above mtv_threshold.", "ml"),
    "tlg": _meaning(
        "Total lesion glycolysis: mtv_ml times the mean at or above mtv_threshold. Only of values "
        "in SUV.",
        "ml",
    ),
    "reference": _meaning("Region to whose mean the ratio is."),
    "ratio": _meaning("Mean divided by the mean of the reference region (SUVR of a PET)."),
    "registration_error_mm": _meaning(
        "Expected error of the registration at the center of the region: in nine of ten cases it "
        "is lower.",
        "mm",
    ),
    **{
        f"{name}_{end}": _meaning(
            f"{word} {name} that the region has anywhere within registration_error_mm, {_OWN}."
        )
        for name in ("mean", "peak")
        for end, word in (("low", "Lowest"), ("high", "Highest"))
    },
    "anatomical_modality": _meaning("Modality of the anatomical image."),
    "anatomical_unit": _meaning("Unit of the anatomical values."),
    "anatomical_mean": _meaning("Mean of the anatomical image, in anatomical_unit."),
    "anatomical_sd": _meaning("Standard deviation of the anatomical image, in anatomical_unit."),
    "anatomical_contribution": _meaning(
        "Part of the luminance of the fused image that comes from the anatomical image, mean over "
        "the region; from 0 to 1.",
    ),
    "read_back_error": _meaning(
        "Mean distance between the functional value and the one that is read back from the color "
        f"of the fused image, {_OWN}; values beyond the display window count as its end. Of a "
        "region with more than 20 000 voxels, evenly chosen ones.",
    ),
    "remark": _meaning("What has to be known about this row."),
}


@dataclass(frozen=True)
class RegionTable(Sequence[Row]):
    """Rows in the order of the regions.

    Attributes
    ----------
    rows : tuple of Row
    """

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """A row by its number, or by the name of its region."""
        if isinstance(index, str):
            found = next((row for row in self.rows if row.region == index), None)
            if found is None:
                raise KeyError(index)
            return found
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain JSON values, a mapping for each row."""
        return [as_dict(row) for row in self.rows]

    def to_tsv(self) -> str:
        """Tab-separated text with a head, ``n/a`` for what is missing (BIDS)."""
        return "\n".join([head(), *(line(row) for row in self.rows)]) + "\n"

    def write(self, path: Path) -> None:
        """Write the table, and beside it what its columns mean (JSON).

        Raises
        ------
        OutputError
            ``E_WRITE``.
        """
        from medfuse.results.folder import write_through

        write_through(path, self.to_tsv().encode())
        write_through(path.with_suffix(".json"), columns_json().encode())


def as_dict(row: Row) -> dict[str, Any]:
    """Plain values of a row, rounded to six digits; what is not finite is None."""
    return {column.name: _plain(getattr(row, column.name)) for column in fields(Row)}


def head(*first: str) -> str:
    """The line of the names of all columns; `first` go before."""
    return "\t".join([*first, *COLUMNS])


def line(row: Row, *first: str) -> str:
    """The line of a row."""
    return "\t".join([*map(cell, first), *(cell(value) for value in as_dict(row).values())])


def cell(value: Any) -> str:
    """A value as a table of BIDS holds it: one line, no tab."""
    if value is None or value == "":
        return MISSING
    text = f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
    return " ".join(text.split())


def columns_json(more: dict[str, dict[str, Any]] | None = None) -> str:
    """What the columns mean, as the JSON file beside a table says it."""
    content = {**(more or {}), **COLUMNS, "MeasurementToolMetadata": {"Description": NOTICE}}
    return json.dumps(content, indent=2) + "\n"


def joined(remarks: Iterable[str]) -> str | None:
    """Remarks as one text; None where there is none."""
    return "; ".join(dict.fromkeys(remarks)) or None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
