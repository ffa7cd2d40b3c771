"""What is found in a study folder, what is paired, and what is left out with which reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medfuse.errors import InputError, UsageError
from medfuse.study import Study, discover, explain
from tests._helpers.tiny_nifti import nifti

SOP_CLASSES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
}


def series(
    folder: Path,
    modality: str,
    *,
    images: int = 4,
    number: int = 1,
    patient: str = "ZZPHI-1",
    **tags: object,
) -> str:
    """Write a small series as scanners name files: without suffix; return its UID."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = generate_uid()
    for index in range(images):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = SOP_CLASSES[modality]
        dataset.SOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID, dataset.SeriesNumber = uid, number
        dataset.Modality, dataset.PatientID = modality, patient
        if modality != "RTSTRUCT":
            dataset.Rows = dataset.Columns = 8
            dataset.BitsAllocated = 16
            dataset.PixelData = bytes(128)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"IM{number:02d}{index:04d}", enforce_file_format=True)
    return str(uid)


def pairs(study: Study) -> dict[str, tuple[str, str]]:
    root = study.root
    return {
        c.name: (
            c.anatomical.relative_to(root).as_posix(),
            c.functional.relative_to(root).as_posix(),
        )
        for c in study.cases
    }


def reasons(study: Study) -> dict[str, str]:
    return {s.path.relative_to(study.root).as_posix(): s.reason for s in study.skipped}


# Real data ---------------------------------------------------------------------------------------


def test_the_sample_study_is_spelt_out_by_its_manifest(sample_data: Path) -> None:
    study = discover(sample_data / "study")
    assert study.kind == "manifest"
    assert list(pairs(study)) == [
        "sts001-pet-mr",
        "sts001-aligned-ct-mr",
        "sts001-aligned-pet-ct",
        "simulated-brain-pet-mr",
    ]
    assert study.skipped == ()
    assert study.cases[1].overrides == {"registration": "identity"}
    assert study.cases[3].overrides == {}
    start = study.cases[0].overrides["initial"]
    assert Path(start) == sample_data / "study/sts001/start.txt"


def test_the_sample_data_is_paired_without_its_manifest_too(
    sample_data: Path, tmp_path: Path
) -> None:
    for folder in ("sts001", "sts001-aligned", "simulated-brain"):
        (tmp_path / folder).mkdir()
        for path in (sample_data / "study" / folder).rglob("*"):
            if path.is_file():
                target = tmp_path / folder / path.relative_to(sample_data / "study" / folder)
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(path.read_bytes())
    assert pairs(discover(tmp_path)) == {
        "simulated-brain": ("simulated-brain/t1.nii.gz", "simulated-brain/simulated-pet.nii.gz"),
        "sts001": ("sts001/mr-t2", "sts001/pet-fdg"),
        "sts001-aligned": ("sts001-aligned/mr-t1.nii.gz", "sts001-aligned/pet-suv-dicom"),
    }


def test_real_bids_pet_data_sets_side_by_side_give_a_case_a_session(shared_data: Path) -> None:
    study = discover(shared_data / "volumes/bids-pet-layout")
    assert study.kind == "bids"
    ses_1, ses_2 = "pet005/sub-01/ses-baseline", "pet005/sub-01/ses-intervention"
    assert pairs(study) == {
        "pet001_sub-01_ses-01": (
            "pet001/sub-01/ses-01/anat/sub-01_ses-01_T1w.nii",
            "pet001/sub-01/ses-01/pet/sub-01_ses-01_trc-CIMBI36_pet.nii.gz",
        ),
        "pet005_sub-01_ses-baseline": (
            f"{ses_1}/anat/sub-01_ses-baseline_T1w.nii.gz",
            f"{ses_1}/pet/sub-01_ses-baseline_pet.nii.gz",
        ),
        "pet005_sub-01_ses-intervention": (
            f"{ses_2}/anat/sub-01_ses-intervention_T1w.nii.gz",
            f"{ses_2}/pet/sub-01_ses-intervention_task-eyes_pet.nii.gz",
        ),
    }


def test_a_shelf_of_real_volumes_is_sorted_into_pairs_and_reasons(shared_data: Path) -> None:
    study = discover(shared_data / "volumes")
    found, why = pairs(study), reasons(study)
    assert found["sts001-pet-mr-dicom"] == (
        "sts001-pet-mr-dicom/mr-t2",
        "sts001-pet-mr-dicom/pet-fdg",
    )
    assert found["sts001-aligned-pet-ct-mr"][1] == "sts001-aligned-pet-ct-mr/pet-suv-dicom"
    assert why["brain-pd-mr-dicom"].startswith("only 1 MRI")
    assert why["qin-hn-brain-pet-dicom"].startswith("only 1 PET")
    assert why["mni-templates"].startswith("2 equally good functional images")


# Folders -----------------------------------------------------------------------------------------


def test_subjects_are_found_in_any_nesting_and_named_by_their_folders(tmp_path: Path) -> None:
    series(tmp_path / "site A/s1/20200101/MR/1.2.3", "MR")
    series(tmp_path / "site A/s1/20200101/PT/1.2.4", "PT")
    nifti(tmp_path / "site A/s2/t1.nii.gz")
    nifti(tmp_path / "site A/s2/func/scan.nii", Modality="PT")
    nifti(tmp_path / "s3/a/mprage.nii")
    study = discover(tmp_path)
    assert pairs(study) == {
        "site_A_s1_20200101-3b23d3": (
            "site A/s1/20200101/MR/1.2.3",
            "site A/s1/20200101/PT/1.2.4",
        ),
        "site_A_s2-12748d": ("site A/s2/t1.nii.gz", "site A/s2/func/scan.nii"),
    }
    assert reasons(study) == {"s3": "only 1 MRI: no PET, SPECT or CT to lay on it"}


def test_pet_goes_before_ct_and_t1_before_t2_and_flair(tmp_path: Path) -> None:
    names = ("pet", "ct", "t2", "t1w", "flair", "t1w_brain_mask")
    for name in names:
        nifti(tmp_path / f"s1/{name}.nii.gz")
    study = discover(tmp_path)
    assert pairs(study) == {"s1": ("s1/t1w.nii.gz", "s1/pet.nii.gz")}
    assert study.cases[0].why == "PET on T1 MRI; left out: 1 other CT, 2 other MRI"
    assert reasons(study) == {"s1/t1w_brain_mask.nii.gz": "a mask or label map by its name"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("ct", "t2"), ("t2", "ct")),
        (("ct", "pet"), ("ct", "pet")),
        (("spect", "ct", "mr"), ("mr", "spect")),
    ],
)
def test_ct_stands_in_for_what_is_missing(
    tmp_path: Path, names: tuple[str, ...], expected: tuple[str, str]
) -> None:
    for name in names:
        nifti(tmp_path / f"s1/{name}.nii")
    anatomical, functional = pairs(discover(tmp_path))["s1"]
    assert (Path(anatomical).stem, Path(functional).stem) == expected


def test_dicom_t1_is_preferred_by_its_description(tmp_path: Path) -> None:
    series(tmp_path / "s1/a", "MR", SeriesDescription="T2 TSE ax")
    series(tmp_path / "s1/b", "MR", SeriesDescription="t1_mprage_sag")
    series(tmp_path / "s1/c", "PT", CorrectedImage=["DECY", "ATTN"])
    series(tmp_path / "s1/d", "PT", CorrectedImage=["DECY"])
    series(tmp_path / "s1/e", "MR", images=2)
    series(tmp_path / "s1/f", "MR", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series(tmp_path / "s1/g", "RTSTRUCT", images=1)
    study = discover(tmp_path)
    assert pairs(study) == {"s1": ("s1/b", "s1/c")}
    assert "too few for a volume" in reasons(study)["s1/e"]
    assert "localiser" in reasons(study)["s1/f"]
    assert not any("ZZPHI" in cell for row in explain(study) for cell in row)


def test_two_equally_good_images_are_listed_and_the_way_out_is_named(tmp_path: Path) -> None:
    for name in ("t1_a", "t1_b", "pet"):
        nifti(tmp_path / f"s1/{name}.nii")
    study = discover(tmp_path)
    assert study.cases == ()
    assert study.skipped[0].code == "E_AMBIGUOUS_SERIES"
    assert re.search(r"t1_a\.nii, t1_b\.nii.*cases\.csv", study.skipped[0].reason)


def test_series_in_one_folder_are_told_apart_by_number_or_uid(tmp_path: Path) -> None:
    series(tmp_path / "s1", "MR", number=4)
    series(tmp_path / "s1", "PT", number=7)
    case = discover(tmp_path).cases[0]
    assert case.anatomical == case.functional == tmp_path / "s1"
    assert case.overrides == {"anatomical_series": "4", "functional_series": "7"}
    mri = series(tmp_path / "s2", "MR", number=4)
    pet = series(tmp_path / "s2/more", "PT", number=4)
    case = discover(tmp_path).cases[1]
    assert mri.endswith(case.overrides["anatomical_series"])
    assert not pet.endswith(case.overrides["anatomical_series"])


def test_a_series_that_hides_among_others_is_found(tmp_path: Path) -> None:
    series(tmp_path / "s1", "MR", number=1, images=30)
    series(tmp_path / "s1", "PT", number=2, images=25)
    assert len(discover(tmp_path).cases) == 1


def test_two_patients_are_never_paired(tmp_path: Path) -> None:
    series(tmp_path / "s1/mr", "MR", patient="ZZPHI-1")
    series(tmp_path / "s1/pet", "PT", patient="ZZPHI-2")
    study = discover(tmp_path)
    assert study.cases == ()
    assert study.skipped[0].code == "E_MIXED_PATIENT"
    assert "ZZPHI" not in study.skipped[0].reason


def test_images_of_two_top_folders_are_paired_only_if_they_surely_are_one_person(
    tmp_path: Path,
) -> None:
    nifti(tmp_path / "two/jane/t1.nii")
    nifti(tmp_path / "two/john/pet.nii")
    doubtful = discover(tmp_path / "two")
    assert doubtful.cases == ()
    assert "may show two people" in doubtful.skipped[0].reason
    nifti(tmp_path / "one/MRI/t1.nii")
    nifti(tmp_path / "one/PET/fdg.nii")
    assert pairs(discover(tmp_path / "one")) == {"one": ("MRI/t1.nii", "PET/fdg.nii")}
    series(tmp_path / "dicom/1.2.3", "MR")
    series(tmp_path / "dicom/1.2.4", "PT")
    assert pairs(discover(tmp_path / "dicom")) == {"dicom": ("1.2.3", "1.2.4")}


def test_a_folder_name_may_tell_the_modality_and_the_reader_is_told(tmp_path: Path) -> None:
    nifti(tmp_path / "s1/pet/scan.nii")
    nifti(tmp_path / "s1/mr/scan.nii")
    nifti(tmp_path / "s1/other/scan.nii")
    study = discover(tmp_path)
    stated = {"functional_modality": "PET", "anatomical_modality": "MRI"}
    assert study.cases[0].overrides == stated
    assert "neither its name nor a sidecar" in reasons(study)["s1/other/scan.nii"]


def test_results_and_derivatives_are_no_input(tmp_path: Path) -> None:
    for folder in ("s1", "derivatives/x", "results/s1", "fmriprep", ".hidden/s9"):
        nifti(tmp_path / folder / "t1.nii")
        nifti(tmp_path / folder / "pet.nii")
    manifest = {"schema": "medfuse-manifest/1", "key": None, "files": {}}
    (tmp_path / "results/s1/manifest.json").write_text(json.dumps(manifest))
    description = {"DatasetType": "derivative"}
    (tmp_path / "fmriprep/dataset_description.json").write_text(json.dumps(description))
    study = discover(tmp_path)
    assert list(pairs(study)) == ["s1"]
    assert reasons(study)["results/s1"] == "a result folder of medfuse, not an input"
    assert reasons(study)["fmriprep"] == "a BIDS derivative, not an input"


def test_links_stay_inside_and_show_nothing_twice(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "study"
    nifti(outside / "pet.nii")
    nifti(root / "s1/t1.nii")
    (root / "s1/pet").symlink_to(outside)
    nifti(root / "s2/t1.nii")
    nifti(root / "pool/x/pet.nii")
    (root / "s2/pet").symlink_to(root / "pool/x")
    (root / "s2/loop").symlink_to(root)
    (root / "s3").symlink_to(root / "s2")
    (root / "s4_pet.nii").symlink_to(root / "nowhere.nii")
    study = discover(root)
    assert pairs(study) == {"s2": ("s2/t1.nii", "s2/pet/pet.nii")}
    assert reasons(study)["s1/pet"].startswith("the link leaves the study folder")
    assert "leads nowhere" in reasons(study)["s4_pet.nii"]


# BIDS --------------------------------------------------------------------------------------------


def test_bids_prefers_t1w_borrows_from_another_session_and_keeps_every_pet(
    tmp_path: Path,
) -> None:
    nifti(tmp_path / "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    nifti(tmp_path / "sub-01/ses-a/anat/sub-01_ses-a_T2w.nii.gz")
    for name in ("ses-a_trc-FDG", "ses-a_trc-PIB", "ses-b_trc-FDG"):
        nifti(tmp_path / f"sub-01/{name[:5]}/pet/sub-01_{name}_pet.nii.gz")
    nifti(tmp_path / "sub-02/anat/sub-02_run-1_T1w.nii.gz")
    nifti(tmp_path / "sub-02/anat/sub-02_run-2_T1w.nii.gz")
    nifti(tmp_path / "sub-02/pet/sub-02_pet.nii.gz")
    nifti(tmp_path / "sub-03/anat/sub-03_T1w.nii.gz")
    nifti(tmp_path / "sub-04/pet/sub-04_pet.nii.gz")
    study = discover(tmp_path)
    t1 = "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz"
    assert {name: pair[0] for name, pair in pairs(study).items()} == {
        "sub-01_ses-a_trc-FDG": t1,
        "sub-01_ses-a_trc-PIB": t1,
        "sub-01_ses-b": t1,
    }
    assert study.cases[2].why == "BIDS: PET on T1w of another session"
    assert "2 equally good T1w" in reasons(study)["sub-02"]
    assert reasons(study)["sub-03"] == "no pet/*_pet.nii or .nii.gz"
    assert reasons(study)["sub-04"].startswith("PET without an anatomical image")


def test_a_bids_subject_with_dicom_only_is_searched_like_a_folder(tmp_path: Path) -> None:
    nifti(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    nifti(tmp_path / "sub-01/pet/sub-01_pet.nii.gz")
    series(tmp_path / "sub-02/mr", "MR")
    series(tmp_path / "sub-02/pt", "PT")
    study = discover(tmp_path)
    assert study.kind == "bids"
    assert list(pairs(study)) == ["sub-01", "sub-02"]


# Manifest ----------------------------------------------------------------------------------------


def manifest_study(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    nifti(folder / "a/t1.nii")
    nifti(folder / "a/pet.nii")
    (folder / "cases.csv").write_bytes(text.encode(encoding))
    return folder


def test_a_manifest_of_a_spreadsheet_is_read_with_settings_a_case(tmp_path: Path) -> None:
    start = tmp_path / "start.txt"
    start.write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    root = manifest_study(
        tmp_path,
        "Case;Anatomical;Functional;Frame;Window;PNG;Initial\r\n"
        "# a remark;;;;;;\r\n\r\n"
        "Fall 1;a/t1.nii;a/pet.nii;3;0 7.5;yes;start.txt\r\n"
        "Fall 1;a/t1.nii;a/pet.nii;mean;;;\r\n",
        encoding="utf-8-sig",
    )
    first, second = discover(root).cases
    assert first.name != second.name
    assert all(re.fullmatch(r"Fall_1-\w{6}-\w{6}", name) for name in (first.name, second.name))
    assert first.overrides == {
        "frame": 3,
        "window": (0.0, 7.5),
        "png": True,
        "initial": str(start),
    }
    assert second.overrides == {"frame": "mean"}
    assert first.anatomical == root / "a/t1.nii"
    assert first.why == "cases.csv line 4"


@pytest.mark.parametrize("as_study", [True, False])
def test_a_manifest_may_lie_anywhere(tmp_path: Path, as_study: bool) -> None:
    manifest_study(tmp_path / "lists", "case,anatomical,functional\nx,a/t1.nii,a/pet.nii\n")
    csv = (tmp_path / "lists/cases.csv").rename(tmp_path / "lists/mine.csv")
    study = discover(csv) if as_study else discover(tmp_path, manifest=csv)
    assert study.cases[0].functional == tmp_path / "lists/a/pet.nii"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("../../x,a/t1.nii,a/pet.nii,", "E_UNSAFE_PATH", "part of a path"),
        ("..,a/t1.nii,a/pet.nii,", "E_UNSAFE_PATH", "part of a path"),
        ("C:x,a/t1.nii,a/pet.nii,", "E_UNSAFE_PATH", "part of a path"),
        ("x,a/none.nii,a/pet.nii,", "E_UNREADABLE", "the anatomical file or folder is not there"),
        ("x,a/t1.nii,,", "E_MANIFEST", "names no functional image"),
        (",a/t1.nii,a/pet.nii,", "E_MANIFEST", "no case name"),
        ("x,a/t1.nii,a/pet.nii,sideways", "E_MANIFEST", "registration: Input should be 'auto'"),
    ],
)
def test_a_line_that_cannot_be_used_fails_alone(
    tmp_path: Path, line: str, code: str, words: str
) -> None:
    head = "case,anatomical,functional,registration\n"
    study = discover(manifest_study(tmp_path, f"{head}{line}\ngood,a/t1.nii,a/pet.nii,\n"))
    assert [case.name for case in study.cases] == ["good"]
    (failed,) = study.skipped
    assert (failed.code, "cases.csv line 2" in failed.reason) == (code, True)
    assert words in failed.reason
    assert failed.case
    assert str(tmp_path) not in failed.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case,anatomical\n", "the column 'functional' is missing"),
        ("", "the column 'case' is missing"),
        ("case,anatomical,functional,tracer\n", "the column 'tracer' is unknown"),
        ("case,anatomical,functional,case\n", "named twice"),
    ],
)
def test_a_manifest_with_wrong_columns_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"E_MANIFEST") as caught:
        discover(manifest_study(tmp_path, text))
    assert words in str(caught.value)


# Study as such -----------------------------------------------------------------------------------


def test_a_study_that_is_no_folder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "study.zip").write_bytes(b"PK\x03\x04")
    for name, words in (("study.zip", "Unpack it first"), ("gone", "no such folder")):
        with pytest.raises(InputError) as caught:
            discover(tmp_path / name)
        assert words in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_an_empty_study_has_no_case_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    study = discover(tmp_path)
    assert study.cases == ()
    assert next(explain(study))[3] == "no CT, MR, PET or SPECT volume was found"


def test_a_long_study_stays_on_disk_and_reads_as_the_same_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        for folder, name in (("anat", "T1w"), ("pet", "pet")):
            place = tmp_path / f"sub-{number:02d}" / folder
            place.mkdir(parents=True)
            (place / f"sub-{number:02d}_{name}.nii.gz").touch()
    (tmp_path / "sub-99/pet").mkdir(parents=True)
    short = discover(tmp_path)
    monkeypatch.setattr("medfuse.study.model.FEW", 3)
    long = discover(tmp_path)
    assert isinstance(short.cases, tuple)
    assert not isinstance(long.cases, tuple)
    assert len(long.cases) == len(short.cases) == 7
    assert list(long.cases) == list(short.cases)
    assert long.cases[-1] == short.cases[-1]
    assert long.cases[2:4] == list(short.cases[2:4])
    assert list(explain(long)) == list(explain(short))
