"""Two times of one person: made by moving and changing a real pair, so that the truth is known."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import medfuse
from medfuse.batch import run_batch
from medfuse.case.baseline import compare
from medfuse.cli.app import run
from medfuse.cli.baseline import Earlier, compare_with
from medfuse.errors import SeriesError
from medfuse.imaging.grid import Grid
from medfuse.measurement.change import changes, changes_tsv, composed, in_anatomical
from medfuse.measurement.measure import measure
from medfuse.measurement.region import Isocontour, Region, Threshold
from medfuse.registration import Registration
from medfuse.registration.expected import ExpectedError, Witness
from medfuse.results.folder import file_sha256
from medfuse.settings import CaseSettings
from medfuse.study import discover
from medfuse.verification.followup import _beside, _table, time_point
from medfuse.verification.inputs import Inputs
from medfuse.verification.verify import verify, verify_study
from tests._helpers.forger import wrong

SETTINGS = CaseSettings(
    preset="fast",
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
    nib.save(nib.Nifti1Image(mask, pet.affine), root / "inputs" / "mask.nii.gz")
    (root / "inputs" / "cases.csv").write_text(
        "case,anatomical,functional,regions,baseline\n"
        "first,first/t1.nii.gz,first/pet.nii.gz,block=mask.nii.gz,\n"
        "second,second/t1.nii.gz,second/pet.nii.gz,,first\n"
    )
    summary = run_batch(discover(root / "inputs"), root / "results", SETTINGS, workers=1)
    assert (summary.exit_code, summary.notes) == (0, ())
    return root


@pytest.fixture(scope="module")
def change(times: Path) -> Path:
    """Both times compared: a mask, a sphere, and isocontours by two rules."""
    out, inputs = times / "results" / "change", times / "inputs"
    call = [
        "followup",
        str(times / "results" / "first"),
        str(times / "results" / "second"),
        "-o",
        str(out),
    ]
    call += ["--inputs", str(inputs), "--preset", "fast", "--accept-suspect", "--quiet"]
    call += ["--regions", f"block={inputs / 'mask.nii.gz'}", "--drawn-on", "functional"]
    x, y, z = (f"{n:g}" for n in middle_of(times))
    call += ["--sphere", f"ball={x},{y},{z},6", "--isocontour", f"own=50%@{x},{y},{z}"]
    call += ["--isocontour", f"fixed={hottest_of(times):g}@{x},{y},{z}"]
    assert run([*call, "--isocontour", "away=41%@900,0,0"]) in (0, 8)
    return out


def middle_of(times: Path) -> np.ndarray:
    """The middle of the block, at the first time, RAS mm."""
    image = nib.load(times / "inputs" / "mask.nii.gz")
    return nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata()).mean(axis=0))


def hottest_of(times: Path) -> float:
    """A value that the block reaches at the first time and not with half of its uptake."""
    inside = nib.load(times / "inputs" / "mask.nii.gz").get_fdata() > 0
    return float(np.percentile(nib.load(times / "inputs/first/pet.nii.gz").get_fdata()[inside], 90))


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    lines = path.read_text().splitlines()
    return {row["region"]: row for row in csv.DictReader(lines, delimiter="\t")}


def test_the_change_is_found_where_the_person_lies_elsewhere(times, change, capsys):
    rows = rows_of(change / "changes.tsv")
    for name in ("block", "ball"):
        assert float(rows[name]["mean_change_percent"]) == pytest.approx(-50, abs=4)
        assert rows[name]["rule"] == "drawn at the first time"
    meaning = json.loads((change / "changes.json").read_text())
    assert rows["block"].keys() == meaning.keys()
    assert set(meaning["rule"]["Levels"]) == {row["rule"] for row in rows.values()}
    difference = np.asarray(nib.load(change / "difference.nii.gz").dataobj)
    assert difference.min() < -0.2 * float(rows["block"]["mean_first"])
    assert abs(np.median(difference)) < 0.05 * float(rows["block"]["mean_first"])
    page = (change / "followup.html").read_text()
    assert "block" in page
    assert "drawn anew at each time" in page
    record = (change / "followup.json").read_text()
    assert str(times) not in page + record
    matrix = np.array(json.loads(record)["registration"]["matrix"])
    assert matrix[:3, 3] == pytest.approx(SHIFT, abs=1.5)
    call = [
        "followup",
        str(times / "results" / "first"),
        str(times / "results" / "second"),
        "-o",
        str(change),
    ]
    assert run([*call, "--inputs", str(times / "inputs"), "--sphere", "x=0,0,0,5"]) == 4
    assert "already" in capsys.readouterr().err


def test_an_isocontour_is_drawn_anew_by_its_rule_at_each_time(times, change):
    rows = rows_of(change / "changes.tsv")
    tables = [rows_of(change / name) for name in ("first.tsv", "second.tsv")]
    for when, table in zip(("first", "second"), tables, strict=True):
        row, image = table["own"], medfuse.load(times / "inputs" / when / "pet.nii.gz")
        seed = middle_of(times) + (np.array(SHIFT) if when == "second" else 0)
        alone = measure(image, [Isocontour("own", Threshold(0.5, True), tuple(seed))])["own"]
        assert float(row["mtv_ml"]) == pytest.approx(alone.volume_ml, rel=1e-5)
        assert float(row["mtv_threshold"]) == pytest.approx(0.5 * alone.max, rel=1e-5)
        assert rows["own"][f"mtv_ml_{when}"] == row["mtv_ml"]
    assert float(rows["fixed"]["mtv_ml_first"]) > 0
    assert float(rows["fixed"]["mtv_ml_second"]) == 0
    assert float(rows["fixed"]["mtv_ml_change_percent"]) == -100
    assert "nothing reaches" in rows["fixed"]["remark"]
    assert "outside" in rows["away"]["remark"]
    assert rows["away"]["mtv_ml_first"] == "n/a"


def test_a_comparison_verifies_with_its_inputs_alone_and_in_its_study(times, change):
    findings = verify(change, inputs=times / "inputs")
    assert not wrong(findings)
    assert {"files made again", "record made again", "changes"} <= {f.what for f in findings}
    alone = {f.what: f.text for f in verify_study(times / "results")["change"]}
    assert "lies beside" in alone["second time"]
    assert "made again" not in alone
    assert "not checked" in alone["without the inputs"]


def test_a_batch_compares_a_case_with_its_baseline(times, change):
    results = times / "results"
    made = rows_of(results / "second-followup" / "changes.tsv")
    assert made.keys() == {"block"}
    assert made["block"] == rows_of(change / "changes.tsv")["block"]
    (row,) = csv.DictReader((results / "changes.tsv").read_text().splitlines(), delimiter="\t")
    assert (row["case"], row["region"]) == ("second", "block")
    assert {"case", *made["block"]} == json.loads((results / "changes.json").read_text()).keys()
    told = (results / "second-followup" / "followup.json").stat().st_mtime_ns
    again = run_batch(discover(times / "inputs"), results, SETTINGS, workers=1)
    assert (again.exit_code, again.count("skipped")) == (0, 2)
    assert (results / "second-followup" / "followup.json").stat().st_mtime_ns == told
    assert (results / "changes.tsv").is_file()


def test_fuse_compares_with_a_baseline_and_a_failure_costs_no_case(times, tmp_path, capsys):
    images, first = times / "inputs" / "second", times / "results" / "first"
    call = ["fuse", str(images / "t1.nii.gz"), str(images / "pet.nii.gz"), "-o"]
    call += [str(tmp_path / "after"), "--registration", "identity", "--method", "mean"]
    call += ["--preset", "fast", "--functional-unit", "SUVbw", "--functional-modality", "PET"]
    call += ["--anatomical-modality", "MRI", "--accept-suspect", "--json", "--baseline", str(first)]
    assert run(call) == 2
    assert "--baseline-inputs" in capsys.readouterr().err
    assert run([*call, "--baseline-inputs", str(times / "inputs")]) == 0
    answer = json.loads(capsys.readouterr().out)["followup"]
    assert (answer["folder"], answer["failures"]) == ("after-followup", [])
    made, batch = tmp_path / "after-followup", times / "results" / "second-followup"
    for name in ("changes.tsv", "difference.nii.gz"):
        assert (made / name).read_bytes() == (batch / name).read_bytes()
    result = SimpleNamespace(folder=tmp_path / "after")
    paths = (images / "t1.nii.gz", images / "pet.nii.gz", SETTINGS)
    failed = compare_with(Earlier(first, images), result, *paths)
    assert not failed.is_whole
    assert "[E_NO_INPUT]" in failed.failures[0]
    assert (tmp_path / "after" / "manifest.json").is_file()


def test_without_regions_the_largest_change_is_shown(times, tmp_path):
    known = Inputs(times / "inputs")
    first, second = (time_point(times / "results" / name, known) for name in ("first", "second"))
    found = compare(first, second, [], tmp_path / "out", SETTINGS)
    assert found.rows == []
    page = (tmp_path / "out" / "followup.html").read_text()
    assert "Largest change" in page
    assert "No region was measured" in page
    with pytest.raises(SeriesError, match="E_SAME_IMAGE"):
        compare(first, first, [], tmp_path / "same", SETTINGS)


def sealed(folder: Path) -> None:
    """The digests of the record, as they are now."""
    record = json.loads((folder / "followup.json").read_text())
    record["outputs"] = {n: file_sha256(folder / n) for n in record["outputs"]}
    (folder / "followup.json").write_text(json.dumps(record, indent=1) + "\n")


def test_forged_comparisons_are_found(times, change, tmp_path):
    forged = Path(shutil.copytree(change, tmp_path / "a"))
    text = (forged / "changes.tsv").read_text()
    (forged / "changes.tsv").write_text(text.replace("-100", "-20"))
    assert "altered files" in wrong(verify(forged))
    sealed(forged)
    assert wrong(verify(forged)) == {"changes"}
    (forged / "changes.tsv").write_text(text)
    second = rows_of(forged / "second.tsv")["block"]["mean"]
    for name in ("second.tsv", "changes.tsv"):
        content = (forged / name).read_text()
        (forged / name).write_text(content.replace(second, f"{float(second) * 2:.6g}"))
    first, other = (_table(forged, name) for name in ("first.tsv", "second.tsv"))
    (forged / "changes.tsv").write_text(changes_tsv(changes(first, other)))
    (forged / "more.txt").write_text("x")
    sealed(forged)
    assert wrong(verify(forged)) == {"unknown files"}
    assert {"files made again", "unknown files"} == wrong(verify(forged, inputs=times / "inputs"))
    (forged / "followup.json").write_text("{}")
    assert wrong(verify(forged)) == {"comparison"}


def test_a_transform_that_is_not_that_of_its_result_is_found(times, change):
    record = json.loads((change / "followup.json").read_text())
    record["times"]["first"]["transform"]["matrix"][0][3] += 1
    finding = _beside(change, "first", record["times"]["first"])
    assert not finding.ok
    assert "transform.matrix" in finding.text


def test_wrong_use_of_followup_is_said_in_a_line(times, tmp_path, capsys):
    call = [
        "followup",
        str(times / "results" / "first"),
        str(times / "results" / "second"),
        "-o",
        str(tmp_path / "o"),
    ]
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
