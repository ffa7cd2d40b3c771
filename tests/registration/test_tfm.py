"""Transform files are those of ITK to the byte, and lie under any name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medfuse.registration.refine import itk_transform
from medfuse.registration.start import read_matrix
from medfuse.registration.tfm import tfm_text

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
SHIFTS = [0.0, -0.0, 1e-7, -1e-6, 1.5e-5, 123456789.125, 1e20, 1e21, 1.25e22, 5e-324, 0.1, 100.0]


def by_itk(matrix: np.ndarray, folder: Path) -> str:
    path = folder / "itk.tfm"
    sitk.WriteTransform(itk_transform(matrix), str(path))
    return path.read_text()


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("stretch", [1.0, 1.02])
def test_the_text_is_that_of_itk(tmp_path: Path, shift: float, stretch: float) -> None:
    matrix = np.diag([stretch, 1.0, 1.0, 1.0])
    matrix[:3, 3] = shift, -shift, shift / 3
    assert tfm_text(matrix) == by_itk(matrix, tmp_path)


@given(values=st.lists(NUMBERS, min_size=3, max_size=3), turn=st.floats(-3, 3))
def test_any_number_is_written_as_itk_does(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], turn: float
) -> None:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = values
    assert tfm_text(matrix) == by_itk(matrix, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("name", [b"M\xfcller", "日本".encode(), b"a b", b"x" * 200])
@pytest.mark.parametrize("suffix", [b".tfm", b".txt", b".h5"])
def test_a_file_under_any_name_is_read(tmp_path: Path, name: bytes, suffix: bytes) -> None:
    matrix = np.array([[0, -1, 0, 3], [1, 0, 0, -2], [0, 0, 1, 7.5], [0, 0, 0, 1.0]])
    plain = tmp_path / f"plain{suffix.decode()}"
    sitk.WriteTransform(itk_transform(matrix), str(plain))
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + suffix))
    path.write_bytes(plain.read_bytes())
    np.testing.assert_allclose(read_matrix(path), matrix, atol=1e-9)
