"""Regions measured on a finished result, alone and with its inputs, for a case and for a batch."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medfuse
from medfuse.cli.app import run
from medfuse.measurement.files import Named
from medfuse.measurement.measure import MTV
from medfuse.measurement.region import Isocontour, Sphere, Threshold
from medfuse.verification.inputs import Inputs
from medfuse.verification.measured import Wanted, measure_result


@pytest.fixture(scope="module")
def masks(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask on each image, and one that is none."""
    folder = tmp_path_factory.mktemp("masks")
    mri = nib.load(study / "mr-t1.nii.gz")
    mask = np.zeros(mri.shape, np.uint8)
    mask[20:40, 22:44, 4:12] = 1
    nib.save(nib.Nifti1Image(mask, mri.affine), folder / "case.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no image at all")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def test_with_the_inputs_the_image_is_measured_as_it_was_acquired(study, result, masks):
    wanted = Wanted(
        files=[Named(masks / "case.nii.gz", "block")],
        shapes=[Isocontour("hot", Threshold.parse("50%")), Sphere("ball", (0.0, 0.0, 0.0), 5.0)],
        mtv_threshold=MTV,
    )
    table = measure_result(result, wanted, inputs=Inputs(study)).table
    pet = medfuse.load(study / "pet-suv-dicom")
    assert {row.measured_on for row in table} == {"unresampled"}
    assert table["hot"].max == float(pet.numpy().max())
    assert table["block"].anatomical_modality == "MRI"
    assert 0 < table["block"].anatomical_contribution < 1
    alone = measure_result(result, wanted).table
    assert {row.measured_on for row in alone} == {"resampled"}
    assert alone["block"].anatomical_mean is None
    assert alone["block"].max <= table["block"].max * 1.2
    assert alone["block"].mean == pytest.approx(table["block"].mean, rel=0.05)
    assert alone["block"].volume_ml == table["block"].volume_ml


def test_the_command_writes_a_table_and_goes_on_past_a_broken_file(
    study, result, masks, tmp_path, capsys
):
    out = tmp_path / "table.tsv"
    call = ["measure", str(result), "--inputs", str(study), "-o", str(out)]
    given = [f"--regions=block={masks / 'case.nii.gz'}", f"--regions={masks / 'broken.nii.gz'}"]
    assert run([*call, *given, "--reference", "block", "--quiet"]) == 8
    error = capsys.readouterr().err.strip()
    assert "broken.nii.gz" in error
    assert "\n" not in error
    (row,) = rows(out)
    assert (row["region"], row["ratio"], row["measured_on"]) == ("block", "1", "unresampled")
    assert "mean" in json.loads(out.with_suffix(".json").read_text())
    assert run([*call, given[0]]) == 2  # it is there already
    assert "--force" in capsys.readouterr().err
    assert run([*call, given[0], "--force", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rows"][0]["region"] == "block"


def test_a_batch_is_one_table_and_a_case_without_regions_stops_no_other(
    study, result, masks, tmp_path, capsys
):
    results = tmp_path / "results"
    for name in ("case", "other"):
        shutil.copytree(result, results / name)
    out = tmp_path / "all.tsv"
    call = ["measure", str(results), "--inputs", str(study), "-o", str(out), "--quiet"]
    assert run([*call, "--regions", f"block={masks}/{{case}}.nii.gz"]) == 8
    assert "other" in capsys.readouterr().err
    assert [(row["case"], row["region"]) for row in rows(out)] == [("case", "block")]
    assert "case" in json.loads(out.with_suffix(".json").read_text())
    assert run([*call, "--force", "--regions", str(masks / "case.nii.gz")]) == 2
    assert "{case}" in capsys.readouterr().err
    assert run([*call, "--force", "--isocontour", "hot=41%"]) == 0
    assert [row["case"] for row in rows(out)] == ["case", "other"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--regions"),
        (["--isocontour", "0%"], "41%"),
        (["--sphere", "x=1,2,3"], "liver="),
        (["--isocontour", "41%", "--reference", "pons"], "--reference"),
    ],
)
def test_wrong_use_is_said_in_a_line(result, tmp_path, capsys, arguments, words):
    assert run(["measure", str(result), "-o", str(tmp_path / "t.tsv"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not (tmp_path / "t.tsv").exists()


def test_other_inputs_are_not_measured_for_those_of_the_result(result, tmp_path, capsys, masks):
    call = ["measure", str(result), "-o", str(tmp_path / "t.tsv"), "--isocontour", "41%"]
    assert run([*call, "--inputs", str(masks)]) == 8
    assert "[E_NO_INPUT]" in capsys.readouterr().err
