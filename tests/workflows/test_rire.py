"""RIRE's format and the error at its corner points."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from medfuse.errors import InputError

# Numbers of RIRE's training patient (ct_T1.standard), as public programs quote them; the names
# around them are made up. RIRE project, Vanderbilt University, CC BY 3.0 US.
STANDARD = """\
-------------------------------------------------------------------------
Transformation Parameters

Investigator(s): N. N. 1

Site: Nowhere 12

Method: fiducial markers
Date: 1 January 1995
Patient number: 001
From: CT
To: mr_T1

Point      x          y          z        new_x       new_y       new_z

  1      0.0000     0.0000     0.0000     5.0369   -17.4970   -27.1650
  2    333.9870     0.0000     0.0000   338.0219   -43.3470   -27.4162
  3      0.0000   333.9870     0.0000    30.8808   315.3043   -16.0856
  4    333.9870   333.9870     0.0000   363.8658   289.4544   -16.3368
  5      0.0000     0.0000   112.0000     4.8333   -21.2077    84.7733
  6    333.9870     0.0000   112.0000   337.8183   -47.0576    84.5221
  7      0.0000   333.9870   112.0000    30.6772   311.5937    95.8527
  8    333.9870   333.9870   112.0000   363.6622   285.7437    95.6015

(All distances are in millimeters.)
-------------------------------------------------------------------------
"""
# The same transformation as others wrote it for ITK: CT point -> T1 point.
TURN = [
    [0.997000003, 0.077380155, -0.001818059],
    [-0.077397855, 0.996449628, -0.033131713],
    [-0.000752132, 0.033173032, 0.999449341],
]
SHIFT = [5.03685847, -17.49694636, -27.16499259]


@pytest.fixture
def standard(tmp_path: Path) -> Path:
    path = tmp_path / "ct_T1.standard"
    path.write_text(STANDARD)
    return path


def test_eight_points_and_names_are_read(script: ModuleType, standard: Path) -> None:
    found = script.read_standard(standard)
    assert (found.source, found.target) == ("CT", "mr_T1")
    assert found.points.shape == found.mapped.shape == (8, 3)
    np.testing.assert_array_equal(found.points[6], [0, 333.987, 112])
    np.testing.assert_array_equal(found.mapped[1], [338.0219, -43.347, -27.4162])


def write_itk(path: Path, shift: list[float]) -> Path:
    """As medfuse and ITK write it: fixed (T1) point -> moving (CT) point."""
    affine = sitk.AffineTransform(np.ravel(TURN).tolist(), shift)
    sitk.WriteTransform(affine.GetInverse(), str(path))
    return path


def test_published_transform_agrees_with_the_published_points(
    script: ModuleType, standard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(standard), str(write_itk(tmp_path / "truth.tfm", SHIFT))]) == 0
    worst = float(capsys.readouterr().out.split("max")[1])
    assert worst < 2e-3  # the points are rounded to 1e-4, the matrix to nine digits


def test_known_shift_is_the_error_at_every_corner(
    script: ModuleType, standard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    off = write_itk(tmp_path / "off.tfm", [SHIFT[0] + 3.0, SHIFT[1], SHIFT[2] - 4.0])
    assert script.main([str(standard), str(off)]) == 0
    said = capsys.readouterr().out
    assert "CT -> mr_T1" in said
    assert "mean 5.000  median 5.000  max 5.000" in said


def test_a_table_in_the_same_format_is_compared(
    script: ModuleType, standard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "found.txt"
    other.write_text(STANDARD.replace("84.5221", "86.5221"))
    assert script.main([str(standard), str(other)]) == 0
    assert "mean 0.250  median 0.000  max 2.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("  8    333.9870", "  8    x", "found 7"),
        ("  8    333.9870", "  9    333.9870", "lines 1 to 8"),
    ],
)
def test_incomplete_table_is_refused(
    script: ModuleType, standard: Path, old: str, new: str, cause: str
) -> None:
    standard.write_text(STANDARD.replace(old, new))
    with pytest.raises(InputError, match=rf"ct_T1.standard: .*{cause}.*E_BAD_TRANSFORM"):
        script.read_standard(standard)


def test_files_that_cannot_be_compared_are_named_in_one_line(
    script: ModuleType, standard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(STANDARD.replace("333.9870", "300.0000"))
    assert script.main([str(standard), str(other)]) == 8
    assert "not those of the reference" in capsys.readouterr().err
    assert script.main([str(standard), str(tmp_path / "none.tfm")]) == 8
    assert "none.tfm: No such file" in capsys.readouterr().err
