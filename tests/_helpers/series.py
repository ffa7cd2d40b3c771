"""What the tests of DICOM series share: places of voxels, damage, and what an error must say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medfuse.errors import MedfuseError
from medfuse.imaging.volume import Volume
from tests._helpers import make

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
FIRST, THIRD = make.file_name(0), make.file_name(2)


def value_at(volume: Volume, position_lps: np.ndarray) -> float:
    index = np.linalg.solve(volume.affine, [*(LPS_TO_RAS @ position_lps), 1])[:3]
    np.testing.assert_allclose(index, np.round(index), atol=1e-4)
    return float(volume.values[tuple(np.round(index).astype(int))])


def assert_says(error: MedfuseError, code: str, words: list[str]) -> None:
    text = str(error)
    assert error.code.startswith(code)
    assert "\n" not in text
    assert make.MARKER not in text
    assert error.remedy.rstrip(".") in text
    for word in words:
        assert word in text


def set_tags(k: int, **tags: object) -> Callable[[Path], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in tags.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return lambda folder: make.edit_file(folder / make.file_name(k), change)


def move(k: int, millimetres: float, axis: int = 2) -> Callable[[Path], None]:
    def change(dataset: Dataset) -> None:
        position = [float(v) for v in dataset.ImagePositionPatient]
        position[axis] += millimetres
        dataset.ImagePositionPatient = position

    return lambda folder: make.edit_file(folder / make.file_name(k), change)
