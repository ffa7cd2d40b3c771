"""One small case of real images, fused once for all tests of this directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import pytest

from medfuse.case.pipeline import run_case
from tests._helpers.forger import CHOSEN


@pytest.fixture(scope="session")
def study(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real PET and a piece of its MRI, small enough to be fused often."""
    folder = tmp_path_factory.mktemp("inputs") / "study"
    whole = sample_data / "study" / "sts001-aligned"
    shutil.copytree(whole / "pet-suv-dicom", folder / "pet-suv-dicom")
    piece = nib.load(whole / "mr-t1.nii.gz").slicer[50:114, 60:124, 10:26]
    nib.save(piece, folder / "mr-t1.nii.gz")
    return folder


@pytest.fixture(scope="session")
def result(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "results" / "case"
    run_case(study / "mr-t1.nii.gz", study / "pet-suv-dicom", out, CHOSEN, case="case")
    return out


@pytest.fixture
def copy(result: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(result, tmp_path / "results" / "case"))
