"""Two times of one person: made by moving and changing a real pair, so that the truth is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfuse.case.pipeline import run_case
from medfuse.cli.app import run
from medfuse.imaging.grid import Grid
from medfuse.measurement.change import composed, in_anatomical
from medfuse.measurement.region import Region
from medfuse.registration import Registration
from medfuse.registration.expected import ExpectedError, Witness
from medfuse.settings import CaseSettings

SETTINGS = CaseSettings(
    registration="identity",
    accept_suspect=True,
    method="mean",
    functional_unit="SUVbw",
    functional_modality="PET",
    anatomical_modality="MRI",
)
SHIFT = (6.0, -4.0, 3.0)


@pytest.fixture(scope="module")
def times(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample brain, and it again 6 mm away with half of the uptake in one block."""
    root = tmp_path_factory.mktemp("times")
    source = sample_data / "study" / "simulated-brain"
    mri, pet = (nib.load(source / name) for name in ("t1.nii.gz", "simulated-pet.nii.gz"))
    mri = mri.slicer[::2, ::2, ::2]
    values = np.asarray(pet.dataobj, dtype=np.float32)
    middle = [n // 2 for n in values.shape]
    block = tuple(slice(m - 6, m + 6) for m in middle)
    mask = np.zeros(values.shape, np.uint8)
    mask[block] = 1
    later = values.copy()
    later[block] *= 0.5
    moved = np.eye(4)
    moved[:3, 3] = SHIFT
    for name, uptake, place in (("first", values, np.eye(4)), ("second", later, moved)):
        folder = root / "inputs" / name
        folder.mkdir(parents=True)
        anatomy = np.asarray(mri.dataobj, dtype=np.float32)
        nib.save(nib.Nifti1Image(anatomy, place @ mri.affine), folder / "t1.nii.gz")
        nib.save(nib.Nifti1Image(uptake, place @ pet.affine), folder / "pet.nii.gz")
        run_case(folder / "t1.nii.gz", folder / "pet.nii.gz", root / name, SETTINGS, case=name)
    nib.save(nib.Nifti1Image(mask, pet.affine), root / "inputs" / "mask.nii.gz")
    return root


def test_the_change_is_found_where_the_person_lies_elsewhere(times, tmp_path, capsys):
    out = tmp_path / "change"
    mask = times / "inputs" / "mask.nii.gz"
    call = ["followup", str(times / "first"), str(times / "second"), "-o", str(out)]
    call += ["--inputs", str(times / "inputs"), "--preset", "fast", "--accept-suspect", "--json"]
    assert run([*call, "--regions", f"block={mask}", "--drawn-on", "functional"]) in (0, 8)
    answer = json.loads(capsys.readouterr().out)
    (row,) = answer["changes"]
    assert row["mean_change_percent"] == pytest.approx(-50, abs=4)
    (told,) = csv.DictReader((out / "changes.tsv").read_text().splitlines(), delimiter="\t")
    assert float(told["mean_change_percent"]) == pytest.approx(row["mean_change_percent"], rel=1e-4)
    assert told.keys() == json.loads((out / "changes.json").read_text()).keys()
    difference = np.asarray(nib.load(out / "difference.nii.gz").dataobj)
    assert difference.min() < -0.2 * row["mean_first"]
    assert abs(np.median(difference)) < 0.05 * row["mean_first"]
    page = (out / "followup.html").read_text()
    assert "block" in page
    assert str(times) not in page
    matrix = np.array(json.loads((out / "followup.json").read_text())["registration"]["matrix"])
    assert matrix[:3, 3] == pytest.approx(SHIFT, abs=1.5)
    assert run([*call, "--sphere", "x=0,0,0,5"]) == 4  # it is there already
    assert "already" in capsys.readouterr().err


def test_wrong_use_of_followup_is_said_in_a_line(times, tmp_path, capsys):
    call = ["followup", str(times / "first"), str(times / "second"), "-o", str(tmp_path / "o")]
    assert run([*call, "--inputs", str(times / "inputs")]) == 2
    assert "--regions" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert run([*call, "--inputs", str(tmp_path / "none"), "--sphere", "x=0,0,0,5"]) == 8
    assert "[E_NO_INPUT]" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_errors_of_two_registrations_add_as_squares():
    grid = Grid((4, 4, 4), np.eye(4))

    def known(away: tuple[float, float, float]) -> Registration:
        other = np.eye(4)
        other[:3, 3] = away
        expected = ExpectedError(np.eye(4), (Witness("w", other),), 0.0, 1.0)
        return replace(Registration.given(np.eye(4), grid), expected=expected)

    both = composed(known((3, 0, 0)), known((0, 4, 0)))
    assert both.error_within_mm([(0, 0, 0)]) == pytest.approx(5)


def test_a_region_of_the_functional_image_is_moved_into_the_anatomical_world():
    matrix = np.eye(4)
    matrix[:3, 3] = (10, 0, 0)  # anatomical point -> functional point
    found = Registration.given(matrix, Grid((4, 4, 4), np.eye(4)))
    region = Region.cut("x", np.ones((2, 2, 2), bool), np.eye(4), "functional")
    assert in_anatomical(region, found).centre == pytest.approx(region.centre - [10, 0, 0])
