"""Target registration error against a RIRE reference (``.standard``) at its eight corner points.

    python workflows/benchmarks/rire.py ct_T1.standard results/ct_T1/transform.json

The second file is what was found: a transform that ``medfuse fuse --initial`` reads, or a table in
RIRE's own format. RIRE's "From" image (CT, PET) is the moving (functional) one, "To" (MR) the
fixed one. Its coordinates are millimetres from the centre of the first voxel along x (columns),
y (rows), z (slices), which is ITK's world of the distributed .mhd files (origin 0, no rotation).
medfuse reads NIfTI; this keeps that world:

    SimpleITK.WriteImage(SimpleITK.ReadImage("training_001_ct.mhd"), "ct.nii.gz")

Format: free text ("Patient number:", "From:", "To:"), then eight lines ``n x y z new_x new_y
new_z``, the corner voxel centres of "From" and where they are in "To", mm. Not verified here: RIRE
itself was not at hand. The layout follows public programs that read and write such files (ITK,
NifTK, SimpleITK-Notebooks, which agree), and the test's numbers are those they quote of
ct_T1.standard. Nor are RIRE's published figures comparable: they are errors at centres of regions
in the brain, which RIRE computes; corners of the image lie further out, where errors of
rotation weigh more.

Reference: West et al., J Comput Assist Tomogr 21(4), 1997; data by the RIRE project, Vanderbilt
University, CC BY 3.0 US.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfuse.errors import InputError, MedfuseError
from medfuse.imaging.grid import lps_from_ras, transform_points
from medfuse.registration.start import read_matrix

TITLE = "Transformation Parameters"
POINTS = 8
MICRON = 1e-3


@dataclass(frozen=True)
class Standard:
    """A RIRE transformation.

    Parameters
    ----------
    source, target : str
        Names behind "From" and "To"; "" where the file does not say.
    points, mapped : (8, 3) float64
        Corner points of the source and where they are in the target, mm.
    """

    source: str
    target: str
    points: np.ndarray
    mapped: np.ndarray


def read_standard(path: Path) -> Standard:
    """Read a RIRE transformation.

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM`` where it does not hold eight numbered pairs of points.
    """
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise _bad(path, error.strerror or "unreadable") from error
    number = r"[ \t]+([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)"
    rows = re.findall(r"^[ \t]*(\d+)" + 6 * number + r"[ \t]*$", text, re.MULTILINE)
    table = np.array(rows, dtype=np.float64)
    if len(rows) != POINTS or not np.array_equal(table[:, 0], np.arange(1, POINTS + 1)):
        raise _bad(path, f"expected lines 1 to {POINTS} of six numbers, found {len(rows)}")
    names = {
        key: match.group(1).strip() if (match := re.search(rf"^{key}:(.*)$", text, re.M)) else ""
        for key in ("From", "To")
    }
    return Standard(names["From"], names["To"], table[:, 1:4], table[:, 4:])


def apply_found(path: Path, points: np.ndarray) -> np.ndarray:
    """Where a found transform puts points of the "From" image, (8, 3) mm.

    Parameters
    ----------
    path : Path
        A table in RIRE's format for the same points, or a transform fixed ("To") -> moving ("From")
        as medfuse and ITK write it.
    points : (8, 3) float64

    Raises
    ------
    InputError
        ``E_BAD_TRANSFORM``.
    """
    if path.is_file() and TITLE in path.read_text(encoding="latin-1"):
        found = read_standard(path)
        if np.abs(found.points - points).max() > MICRON:
            raise _bad(path, "its corner points are not those of the reference")
        return found.mapped
    return transform_points(np.linalg.inv(lps_from_ras(read_matrix(path))), points)


def _bad(path: Path, cause: str) -> InputError:
    return InputError(
        "E_BAD_TRANSFORM",
        what="Cannot read the RIRE transformation",
        where=path.name,
        cause=cause,
        remedy="Give a .standard file of RIRE, and for the same pair what was found",
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the errors; return 0, or 8 where a file cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("standard", type=Path, help="RIRE's reference")
    parser.add_argument("found", type=Path, help="transform of medfuse or ITK, or a RIRE table")
    options = parser.parse_args(arguments)
    try:
        truth = read_standard(options.standard)
        errors = np.linalg.norm(apply_found(options.found, truth.points) - truth.mapped, axis=1)
    except MedfuseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 8
    print(f"{truth.source or '?'} -> {truth.target or '?'}: target registration error, mm")
    for number, (point, error) in enumerate(zip(truth.points, errors, strict=True), start=1):
        print(f"{number}  {point[0]:9.3f} {point[1]:9.3f} {point[2]:9.3f}  {error:8.3f}")
    print(f"mean {errors.mean():.3f}  median {np.median(errors):.3f}  max {errors.max():.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
