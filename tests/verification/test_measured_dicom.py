"""Regions and numbers of a result as DICOM: the same numbers, the same voxels, no person."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

import medfuse
from medfuse.cli.app import run
from medfuse.dicom_out.regions import region_objects
from medfuse.errors import UsageError
from medfuse.measurement.files import Images, Named, read_regions
from medfuse.measurement.measure import measure, voxels_of
from medfuse.measurement.region import Isocontour, Sphere
from tests._helpers.regions import image

FILES = ("measurements.dcm", "regions.dcm")


@pytest.fixture(scope="module")
def measured(study: Path, result: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voxels as they are (``whole``), a mask of the MRI (``parts``), and the patient (``kept``)."""
    root = tmp_path_factory.mktemp("measured")
    mri = nib.load(study / "mr-t1.nii.gz")
    mask = np.zeros(mri.shape, np.uint8)
    mask[20:40, 22:44, 4:12] = 1
    nib.save(nib.Nifti1Image(mask, mri.affine), root / "mask.nii.gz")
    (root / "broken.nii.gz").write_bytes(b"no image at all")
    call = ["measure", str(result), "--inputs", str(study), "--quiet", "--isocontour", "Läsion=50%"]
    parts = ["--regions", f"block={root / 'mask.nii.gz'}", "--sphere", "far=900,900,900,5"]
    broken = ["--regions", str(root / "broken.nii.gz")]
    for name, more, code in (
        ("whole", ["--isocontour", "30%"], 0),
        ("parts", [*parts, *broken], 8),
        ("kept", ["--keep-patient"], 0),
        ("again", ["--isocontour", "30%"], 0),
    ):
        out = ["-o", str(root / f"{name}.tsv"), "--dicom", str(root / name)]
        assert run([*call, *more, *out]) == code
        assert sorted(path.name for path in (root / name).iterdir()) == list(FILES)
    return root


def rows(path: Path) -> dict[str, dict[str, str]]:
    found = csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t")
    return {row["region"]: row for row in found}


def groups(path: Path) -> dict[str, dict[tuple[str, str | None], tuple[float, str]]]:
    """Of each region, (name, derivation) -> (value, unit)."""
    report = highdicom.sr.Comprehensive3DSR.from_dataset(pydicom.dcmread(path))
    return {
        group.tracking_identifier: {
            (m.name.value, m.derivation.value if m.derivation else None): (m.value, m.unit.value)
            for m in group.get_measurements()
        }
        for group in report.content.get_volumetric_roi_measurement_groups()
    }


@pytest.mark.parametrize("case", ["whole", "parts", "kept"])
def test_both_objects_pass_the_validator_of_dicom3tools(measured: Path, case: str) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    for path in sorted((measured / case).iterdir()):
        done = subprocess.run(
            ["dciodvfy", "-new", path], capture_output=True, text=True, timeout=30
        )
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if line.startswith("Error")]
        # The study of the sample has an ID of 18 characters, which is kept as it is.
        assert [e for e in errors if case != "kept" or "StudyID" not in e] == [], path.name
        assert lines, "the validator names the class that it found"


@pytest.mark.parametrize("case", ["whole", "parts"])
def test_the_report_holds_the_numbers_of_the_table_with_their_codes(
    measured: Path, case: str
) -> None:
    table = rows(measured / f"{case}.tsv")
    table.pop("far", None)  # outside of the image: in no object
    found = groups(measured / case / "measurements.dcm")
    assert list(found) == list(table)
    suv, unit = codes.DCM.Suvbw.value, "g/ml{SUVbw}"
    for name, row in table.items():
        number = {key: float(value) for key, value in row.items() if key in
                  ("max", "mean", "peak", "volume_ml", "tlg")}  # fmt: skip
        assert found[name] == {
            (codes.SCT.Volume.value, None): (number["volume_ml"], "cm3"),
            (suv, codes.SCT.Maximum.value): (number["max"], unit),
            (suv, codes.SCT.Mean.value): (number["mean"], unit),
            (suv, codes.DCM.PeakValueWithinROI.value): (number["peak"], unit),
            (codes.DCM.TotalLesionGlycolysis.value, None): (number["tlg"], "g"),
        }


def test_segments_are_the_regions_and_are_measured_as_they_were(
    measured: Path, study: Path
) -> None:
    pet = medfuse.load(study / "pet-suv-dicom")
    images = Images.of(pet, None)
    for case, kind in (("whole", "BINARY"), ("parts", "FRACTIONAL")):
        path = measured / case / "regions.dcm"
        assert pydicom.dcmread(path).SegmentationType == kind
        regions = read_regions(Named(path), images, allow_patient_mismatch=True)
        drawn = [Isocontour.parse("Läsion=50%")]
        found = [region for region in regions if region.name == "Läsion"]
        (first,), (second,) = voxels_of(pet, drawn), voxels_of(pet, found)
        assert first.slices == second.slices
        assert np.array_equal(first.weights, second.weights)
        again, table = measure(pet, regions), rows(measured / f"{case}.tsv")
        for row in again:
            first = table[row.region]
            assert row.mean == pytest.approx(
                float(first["mean"]), rel=1e-5 if case == "whole" else 5e-3
            )
            assert row.voxels == pytest.approx(float(first["voxels"]), rel=1e-3)
            assert row.max == pytest.approx(float(first["max"]), rel=1e-5)


def test_each_frame_names_the_image_at_its_place_and_the_report_its_segment(
    measured: Path, study: Path
) -> None:
    headers = [
        pydicom.dcmread(p, stop_before_pixels=True) for p in (study / "pet-suv-dicom").iterdir()
    ]
    places = {h.SOPInstanceUID: float(h.ImagePositionPatient[2]) for h in headers}
    regions, report = (pydicom.dcmread(measured / "parts" / name) for name in FILES[::-1])
    for frame in regions.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        own = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        assert places[image.ReferencedSOPInstanceUID] == pytest.approx(own, abs=1e-3)
    read = highdicom.sr.Comprehensive3DSR.from_dataset(report)
    named = [g.referenced_segment for g in read.content.get_volumetric_roi_measurement_groups()]
    assert [n.referenced_segment_numbers for n in named] == [[1], [2]]
    assert {n.referenced_sop_instance_uid for n in named} == {regions.SOPInstanceUID}
    assert regions.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert [s.SegmentLabel for s in regions.SegmentSequence] == ["block", "Läsion"]


def test_patient_and_study_follow_the_rules_and_equal_calls_give_equal_files(
    measured: Path, study: Path
) -> None:
    header = pydicom.dcmread(next((study / "pet-suv-dicom").iterdir()), stop_before_pixels=True)
    for name in FILES:
        blank, kept = (pydicom.dcmread(measured / case / name) for case in ("whole", "kept"))
        assert blank.PatientID.startswith("medfuse-")
        assert blank.StudyInstanceUID != header.StudyInstanceUID
        for keyword in ("PatientBirthDate", "StudyDate", "AccessionNumber"):
            assert not blank[keyword].value
        assert (kept.PatientID, kept.StudyInstanceUID) == (
            header.PatientID,
            header.StudyInstanceUID,
        )
        assert "not for diagnosis" in blank.SeriesDescription
        assert blank.SOPInstanceUID != kept.SOPInstanceUID
        first, second = (measured / case / name for case in ("whole", "again"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("unit", ["Bq/ml", "SUL"])  # of SUL as stated, the formula is not known
def test_values_without_a_code_are_left_out_and_that_is_said(study: Path, unit: str) -> None:
    pet = medfuse.load(study / "pet-suv-dicom")
    pet.meta["unit"] = unit
    shapes = [Isocontour.parse("50%"), Sphere("far", (900, 900, 900), 5.0)]
    made = region_objects(pet, measure(pet, shapes), voxels_of(pet, shapes), salt=b"salt")
    assert "SUV" not in str(made.measurements)
    content = highdicom.sr.Comprehensive3DSR.from_dataset(made.measurements).content
    (group,) = content.get_volumetric_roi_measurement_groups()
    assert [m.name.meaning for m in group.get_measurements()] == ["Volume"]
    assert "far is left out" in made.notes[0]
    assert f"volumes alone, as values in {unit} have no code" in made.notes[1]


def test_an_image_that_is_no_dicom_series_is_refused() -> None:
    pet = image(np.ones((6, 6, 6)), (2, 2, 2))
    shapes = [Sphere("a", (5, 5, 5), 3.0, "functional")]
    with pytest.raises(UsageError, match=r"is no DICOM series.*\[E_SETTINGS\]") as error:
        region_objects(pet, measure(pet, shapes), voxels_of(pet, shapes), salt=b"salt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (["--dicom", "there"], "something of this name is there already", 4),
        (["--keep-patient"], "--keep-patient is about DICOM output alone", 2),
        (["--dicom", "new", "--isocontour", "x=999"], "no region fills a voxel", 2),
        (["--dicom", "new", "--isocontour", "50%", "-o", "none/t.tsv"], "t.tsv", 4),
    ],
)
def test_a_refusal_is_one_line_and_nothing_is_written(
    study: Path, result: Path, tmp_path: Path, monkeypatch, capsys,
    more: list[str], said: str, code: int,
) -> None:  # fmt: skip
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    call = ["measure", str(result), "--inputs", str(study), "--sphere", "far=900,900,900,5"]
    assert run([*call, "--quiet", "-o", "t.tsv", *more]) == code
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]


def test_objects_need_the_images(result: Path, tmp_path: Path, capsys) -> None:
    call = ["measure", "--isocontour", "50%", "-o", str(tmp_path / "t.tsv"), "--dicom", "new"]
    assert run([*call, str(result)]) == 2
    assert "--inputs DIR" in capsys.readouterr().err


def test_a_batch_has_a_folder_of_objects_for_each_case(
    measured: Path, study: Path, result: Path, tmp_path: Path, capsys
) -> None:
    results = tmp_path / "results"
    shutil.copytree(result, results / "one")
    shutil.copytree(result, results / "two")
    mask = tmp_path / "one.nii.gz"
    shutil.copy(measured / "mask.nii.gz", mask)
    call = [
        "measure",
        str(results),
        "--inputs",
        str(study),
        "--regions",
        str(tmp_path / "{case}.nii.gz"),
    ]
    more = ["--isocontour", "Läsion=50%", "--keep-patient", "--dicom", str(tmp_path / "objects")]
    assert run([*call, *more, "-o", str(tmp_path / "t.tsv"), "--json"]) == 8
    told = json.loads(capsys.readouterr().out)
    assert told["cases_as_dicom"] == 2
    assert [failure.partition(":")[0] for failure in told["failures"]] == ["two"]
    for case, segments in (("one", ["region 1", "Läsion"]), ("two", ["Läsion"])):
        folder = tmp_path / "objects" / case
        assert sorted(path.name for path in folder.iterdir()) == list(FILES)
        found = pydicom.dcmread(folder / "regions.dcm")
        assert [segment.SegmentLabel for segment in found.SegmentSequence] == segments
        assert found.PatientID == pydicom.dcmread(measured / "kept" / "regions.dcm").PatientID


def test_a_case_without_a_segment_keeps_its_rows_and_stops_no_other(
    study: Path, result: Path, tmp_path: Path, capsys
) -> None:
    call = ["measure", str(result.parent), "--inputs", str(study), "--sphere", "far=900,900,900,5"]
    out = ["-o", str(tmp_path / "t.tsv"), "--dicom", str(tmp_path / "objects")]
    assert run([*call, *out, "--quiet"]) == 8
    assert "case: Cannot write the regions as DICOM" in capsys.readouterr().err
    assert "far" in rows(tmp_path / "t.tsv")
    assert list((tmp_path / "objects").iterdir()) == []
