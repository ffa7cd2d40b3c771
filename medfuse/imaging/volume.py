"""What a reader hands over (values, grid, facts), and the checks that every volume must pass."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medfuse.errors import InputError, MedfuseError, UsageError

MODALITIES = ("MRI", "PET", "SPECT", "CT", "unknown")
UNITS = ("SUVbw", "Bq/ml", "HU", "counts", "a.u.")
_MODALITY_NAMES = {"mr": "MRI", "pt": "PET", "nm": "SPECT"} | {m.lower(): m for m in MODALITIES}
_UNIT_NAMES = {u.lower(): u for u in UNITS} | {"suv": "SUVbw", "bqml": "Bq/ml", "au": "a.u."}

AIR_HU = -1000.0
#: A CT in HU has air in it, somewhere: a voxel at or below this value.
MAX_HU_OF_AIR = -200.0
#: Share of non-finite voxels within the body above which a volume is refused.
MAX_NONFINITE_INSIDE = 1e-3
#: Voxels and positions outside of these are of a damaged header.
SPACING_MM = (0.01, 100.0)
FARTHEST_MM = 1e5


@dataclass(frozen=True)
class Volume:
    """One scan on its grid.

    Attributes
    ----------
    values : (X, Y, Z) float32
        In ``meta["unit"]``; finite, not constant.
    affine : (4, 4) float64
        Voxel index to RAS+ world, mm.
    meta : dict
        Plain JSON-able facts: modality, unit, spacing, source, suv, notes.
    """

    values: np.ndarray
    affine: np.ndarray
    meta: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """What is being read, for the head of error lines: ``<what>: <where>: <cause>``."""

    what: str
    where: str

    def error(
        self, kind: type[MedfuseError], code: str, cause: str, remedy: str, *, where: str = ""
    ) -> MedfuseError:
        """Make an error of class `kind` about this place."""
        return kind(code, what=self.what, where=where or self.where, cause=cause, remedy=remedy)


def display_name(path: Path) -> str:
    """Last part of a path, the only part of it that may be shown."""
    return path.name or path.resolve().name


def read_failure(error: OSError, name: str) -> InputError:
    """Say that the file system refused `name`, and why."""
    return InputError(
        "E_UNREADABLE",
        what="Cannot read",
        where=name,
        cause=(error.strerror or type(error).__name__).lower(),
        remedy="Check the path and the permissions",
    )


def parse_modality(text: str | None) -> str | None:
    """Normalise a modality as the user states it ("mr" -> "MRI"); None stays None."""
    return _parse(text, _MODALITY_NAMES, MODALITIES, "E_MODALITY", "modality")


def parse_unit(text: str | None) -> str | None:
    """Normalise a unit as the user states it ("suv" -> "SUVbw"); None stays None."""
    return _parse(text, _UNIT_NAMES, UNITS, "E_UNIT", "unit")


def _parse(
    text: str | None, names: dict[str, str], choices: tuple[str, ...], code: str, kind: str
) -> str | None:
    if text is None:
        return None
    if text.strip().lower() in names:
        return names[text.strip().lower()]
    raise UsageError(
        code,
        what="Cannot use the option",
        cause=f"expected a {kind}, got {text!r}",
        remedy=f"Choose one of {', '.join(choices)}",
    )


def short_hash(text: str | None) -> str | None:
    """First 16 hex digits of the sha256, to compare identifiers without holding them."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None


def content_hash(file_hashes: list[str]) -> str:
    """sha256 of the sorted per-file sha256 list: independent of file order and names."""
    return hashlib.sha256("\n".join(sorted(file_hashes)).encode()).hexdigest()


def spacing_of(affine: np.ndarray) -> list[float]:
    """Voxel size along X, Y, Z in mm."""
    return [float(s) for s in np.linalg.norm(affine[:3, :3], axis=0)]


def axis_codes(affine: np.ndarray) -> str:
    """Where the X, Y and Z indices increase to, e.g. "LPS" (nearest anatomical axes)."""
    return "".join(nib.orientations.aff2axcodes(affine))


def out_of_this_world(affine: np.ndarray) -> str | None:
    """What no scanner writes: the size or the place of the voxels, with numbers; else None."""
    spacing = spacing_of(affine)
    if not all(SPACING_MM[0] <= s <= SPACING_MM[1] for s in spacing):
        low, high = SPACING_MM
        sizes = " x ".join(f"{s:.4g}" for s in spacing)
        return f"voxels are {sizes} mm; {low:g} to {high:g} mm can be used"
    away = float(np.abs(affine[:3, 3]).max())
    if not away <= FARTHEST_MM:
        return f"the first voxel lies {away:.4g} mm from the origin; {FARTHEST_MM:g} mm can be used"
    return None


def fill_nonfinite(values: np.ndarray, fill: float, place: Place) -> list[str]:
    """Set non-finite background to `fill`, in place; refuse it inside the body.

    Inside is what does not connect to the border of the volume through other non-finite voxels:
    an image masked with NaN passes, sulci included; an image with holes does not. Infinity is no
    mark of background and counts as inside.

    Parameters
    ----------
    values : (X, Y, Z) float32
        Changed in place.
    fill : float
        What "no data" means in the unit of `values` (0, or -1000 HU).

    Returns
    -------
    list of str
        A note with the counts, or nothing.

    Raises
    ------
    InputError
        ``E_NONFINITE`` when all voxels, or more than 0.1 % of the body, are NaN or infinite.
    """
    finite = np.isfinite(values)
    count = int(values.size - np.count_nonzero(finite))
    if count == 0:
        return []
    inside = int(np.count_nonzero(_holes(finite) | np.isinf(values)))
    share = inside / max(1, inside + int(np.count_nonzero(finite & (values != 0))))
    if count == values.size or share > MAX_NONFINITE_INSIDE:
        raise place.error(
            InputError,
            "E_NONFINITE",
            f"{count} of {values.size} voxels are NaN or infinite, {100 * share:.2f} % of the body",
            "Export the image again, or repair the step that made it",
        )
    values[~finite] = fill
    return [f"{count} non-finite voxels set to {fill:g} ({inside} of them inside the body)"]


def _holes(finite: np.ndarray) -> np.ndarray:
    """Non-finite voxels from which no path of non-finite voxels leads to the volume's border."""
    import SimpleITK as sitk  # here, because few volumes need it

    mask = sitk.GetImageFromArray(finite.astype("u1"))
    filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(mask))
    return ~finite & (filled > 0)


def require_contrast(values: np.ndarray, place: Place) -> None:
    """Refuse an image in which every voxel has one value (``E_CONSTANT``)."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise place.error(
            InputError,
            "E_CONSTANT",
            f"all {values.size} voxels have the value {low:g}",
            "Check the export: the image is empty",
        )


def negative_note(values: np.ndarray, modality: str, unit: str) -> list[str]:
    """Count negative voxels of an emission image; they are kept."""
    if modality not in ("PET", "SPECT"):
        return []
    count = int(np.count_nonzero(values < 0))
    if count == 0:
        return []
    return [
        f"{count} voxels ({100 * count / values.size:.2f} %) are negative, down to "
        f"{float(values.min()):.4g} {unit}; kept as they are"
    ]
