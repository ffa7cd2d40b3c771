"""How many cases memory allows at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import medfuse
from medfuse.batch.memory import (
    Budget,
    available_bytes,
    estimate,
)
from medfuse.batch.worker import Job
from medfuse.imaging.memory import CASE_BASE_BYTES, CASE_BYTES_PER_VOXEL


def job(anatomical: Path) -> Job:
    return Job("a", anatomical, anatomical, anatomical.parent / "out", {})


@pytest.mark.parametrize("name", ["sts001-aligned/mr-t1.nii.gz", "sts001/mr-t2"])
def test_the_estimate_comes_from_the_header_of_nifti_and_dicom(
    sample_data: Path, name: str
) -> None:
    path = sample_data / "study" / name
    shape = medfuse.load(path).shape
    expected = CASE_BASE_BYTES + CASE_BYTES_PER_VOXEL * shape[1] * shape[2] * shape[3]
    assert estimate(job(path)) == pytest.approx(expected)


def test_a_file_that_cannot_be_read_counts_as_a_usual_brain(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"no image")
    usual = CASE_BASE_BYTES + CASE_BYTES_PER_VOXEL * 256 * 256 * 180
    assert estimate(job(tmp_path / "x.nii.gz")) == usual
    assert estimate(job(tmp_path / "missing")) == usual


def test_a_case_waits_when_it_does_not_fit_beside_the_others(tmp_path: Path) -> None:
    usual = job(tmp_path / "missing")
    need = estimate(usual)
    assert Budget(2 * need).allows(usual, beside=[usual])
    assert not Budget(2 * need - 1).allows(usual, beside=[usual])


def test_a_case_counts_no_more_than_it_may_take(tmp_path: Path) -> None:
    usual = job(tmp_path / "missing")
    assert estimate(replace(usual, max_memory_gb=1.5)) == 1.5 * 2**30
    assert estimate(replace(usual, max_memory_gb=1000)) == estimate(usual)


def test_available_memory_is_a_sensible_number() -> None:
    assert 1e8 < available_bytes() < 1e14
