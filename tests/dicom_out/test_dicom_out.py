"""Derived DICOM: conformant objects, the right place in space, the right sources, no person."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from medfuse import load
from medfuse.cli.app import run
from medfuse.dicom_out import origin
from medfuse.errors import UsageError
from medfuse.imaging.grid import lps_from_ras
from medfuse.kernel.colormaps import COLORMAPS
from tests._helpers.make import (
    MARKER,
    SeriesPlan,
    oblique,
    write_enhanced,
    write_nifti,
    write_series,
)

SHAPE, SPACING = (40, 36, 12), (2.0, 2.5, 4.0)
MR, PET = "1.2.826.0.1.3680043.8.498.4", "1.2.826.0.1.3680043.8.498.7"
MOVED = "1.2.826.0.1.3680043.8.498.3"
SHIFT_MM = (3.0, -2.0, 4.0)
OBJECTS = {"fused", "weight_map", "registration", "blending"}
# dicom3tools of 2022 does not look into the Advanced Blending Sequence.
BLIND_SPOT = "present but Instance does not reference Instances"


def head(scale: int) -> np.ndarray:
    """A ball with a bright spot on one side, so that a flip of any axis shows."""
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    middle = (np.array(SHAPE) - 1) / 2
    distance = np.linalg.norm((index - middle) * SPACING, axis=-1)
    values = np.clip(1.3 - distance / 28, 0, 1) * scale + index[..., 0]
    values[8:12, 20:26, 7:9] = 2 * scale
    return values.astype(np.int16)


def write_pair(root: Path) -> None:
    """MR and PET in two frames of reference and two studies."""

    def other_study(dataset: Dataset, _: int) -> None:
        dataset.FrameOfReferenceUID = MOVED
        dataset.StudyInstanceUID = f"{MOVED}.1"

    plan = {"spacing": SPACING, "orientation": oblique()}
    write_series(root / "mr", SeriesPlan(head(900), "MR", series_uid=MR, **plan))
    pet = SeriesPlan(head(9000), "PT", series_uid=PET, number=7, edit=other_study, **plan)
    write_series(root / "pet", pet)
    start = np.eye(4)
    start[:3, 3] = SHIFT_MM
    np.savetxt(root / "start.txt", start)


def fuse(anatomical: Path, functional: Path, out: Path, *options: str) -> None:
    chosen = ("--method", "mean", "--registration", "identity", *options)
    assert run(["fuse", str(anatomical), str(functional), "--out", str(out), *chosen]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dicom")
    write_pair(root)
    initial = ("--initial", str(root / "start.txt"))
    fuse(root / "mr", root / "pet", root / "multi", "--dicom", "multiframe", *initial)
    fuse(root / "mr", root / "pet", root / "single", "--dicom", "slices", *initial)
    fuse(
        root / "mr", root / "pet", root / "kept", "--dicom", "multiframe", "--keep-patient",
        *initial,
    )  # fmt: skip
    return root


def objects(folder: Path) -> dict[str, Dataset]:
    return {p.stem: pydicom.dcmread(p) for p in sorted((folder / "dicom").glob("*.dcm"))}


def slices(folder: Path) -> list[Path]:
    return sorted((folder / "dicom" / "fused").glob("*.dcm"))


def stored_rgb(folder: Path) -> np.ndarray:
    """(X, Y, Z, 3) uint8 of the NIfTI result."""
    values = np.asarray(nib.load(folder / "fused_rgb.nii.gz").dataobj)
    return np.stack([values[c] for c in "RGB"], axis=-1)


def lps_affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return affine


@pytest.mark.parametrize("case", ["multi", "single", "kept"])
def test_every_object_passes_the_validator_of_dicom3tools(made: Path, case: str) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    paths = sorted((made / case / "dicom").rglob("*.dcm"))
    assert len(paths) == (3 + SHAPE[2] if case == "single" else 4)
    for path in paths:
        done = subprocess.run(
            ["dciodvfy", "-new", path], capture_output=True, text=True, timeout=30
        )
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if line.startswith("Error")]
        blind = path.stem == "blending"
        wrong = [line for line in errors if not (blind and BLIND_SPOT in line)]
        assert wrong == [], path.name
        assert lines, "the validator names the class that it found"


@pytest.mark.parametrize("case", ["multi", "single"])
def test_simpleitk_reads_the_colours_of_the_nifti_at_the_place_of_the_source(
    made: Path, case: str
) -> None:
    paths = slices(made / case) or made / case / "dicom" / "fused.dcm"
    image = sitk.ReadImage([str(p) for p in paths] if isinstance(paths, list) else str(paths))
    expected = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(load(made / "mr").affine)
    assert lps_affine(image) == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(
        sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3), stored_rgb(made / case)
    )


def test_weight_map_holds_the_same_floats_at_the_same_place(made: Path) -> None:
    volume = highdicom.imread(made / "multi" / "dicom" / "weight_map.dcm").get_volume()
    stored = nib.load(made / "multi" / "weight_map.nii.gz")
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    world = nib.affines.apply_affine(stored.affine, index) * [-1, -1, 1]
    found = volume.map_reference_to_indices(world)
    assert np.abs(found - np.rint(found)).max() < 1e-4
    values = volume.array[tuple(np.rint(found).astype(int).T)].reshape(SHAPE)
    assert np.array_equal(values, np.asarray(stored.dataobj))
    assert len(np.unique(values)) > 1


def test_each_frame_of_the_weight_map_names_the_image_at_its_own_place(made: Path) -> None:
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in (made / "mr").iterdir()]
    position = {h.SOPInstanceUID: h.ImagePositionPatient for h in headers}
    groups = objects(made / "multi")["weight_map"].PerFrameFunctionalGroupsSequence
    named = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for group in groups
    ]
    assert len(set(named)) == SHAPE[2]
    for uid, group in zip(named, groups, strict=True):
        own = group.PlanePositionSequence[0].ImagePositionPatient
        assert [float(v) for v in own] == pytest.approx([float(v) for v in position[uid]], abs=1e-4)


def test_affine_map_is_not_called_rigid(made: Path, tmp_path: Path) -> None:
    start = np.diag([1.05, 1.0, 0.97, 1.0])
    np.savetxt(tmp_path / "scaled.txt", start)
    initial = ("--initial", str(tmp_path / "scaled.txt"))
    fuse(made / "mr", made / "pet", tmp_path / "out", "--dicom", "multiframe", *initial)
    registration = objects(tmp_path / "out")["registration"]
    places = [
        item.MatrixRegistrationSequence[0].MatrixSequence[0]
        for item in registration.RegistrationSequence
    ]
    kinds = [place.FrameOfReferenceTransformationMatrixType for place in places]
    assert kinds == ["RIGID", "AFFINE"]
    stored = np.reshape(places[1].FrameOfReferenceTransformationMatrix, (4, 4)).astype(float)
    np.testing.assert_allclose(stored, np.linalg.inv(start), atol=1e-9)


def test_registration_takes_a_functional_point_to_its_anatomical_point(made: Path) -> None:
    registration = objects(made / "multi")["registration"]
    still, moved = registration.RegistrationSequence
    uids = [still.FrameOfReferenceUID, moved.FrameOfReferenceUID]
    assert uids == ["1.2.826.0.1.3680043.8.498.2", MOVED]
    assert registration.FrameOfReferenceUID == uids[0]
    matrix = [
        np.reshape(
            item.MatrixRegistrationSequence[0].MatrixSequence[0].FrameOfReferenceTransformationMatrix,
            (4, 4),
        ).astype(float)
        for item in (still, moved)
    ]  # fmt: skip
    assert np.array_equal(matrix[0], np.eye(4))
    fixed_to_moving = np.array(json.loads((made / "multi/transform.json").read_text())["matrix"])
    assert np.abs(fixed_to_moving[:3, 3]).max() > 1
    assert matrix[1] @ lps_from_ras(fixed_to_moving) == pytest.approx(np.eye(4), abs=1e-6)
    assert len(moved.ReferencedImageSequence) == SHAPE[2]


def test_blending_refers_to_the_untouched_sources_with_window_and_colours(made: Path) -> None:
    blending = objects(made / "multi")["blending"]
    anatomical, functional = blending.AdvancedBlendingSequence
    sources = [sorted((made / name).iterdir()) for name in ("mr", "pet")]
    for item, paths in zip((anatomical, functional), sources, strict=True):
        headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in paths]
        named = {i.ReferencedSOPInstanceUID for i in item.ReferencedImageSequence}
        assert named == {h.SOPInstanceUID for h in headers}
        assert item.SeriesInstanceUID == headers[0].SeriesInstanceUID
        assert item.StudyInstanceUID == headers[0].StudyInstanceUID
    record = json.loads((made / "multi" / "provenance.json").read_text())
    window = next(s for s in record["steps"] if s["name"] == "window")["parameters"]["functional"]
    factor = record["inputs"]["functional"]["suv"]["factor"]
    voi = functional.SoftcopyVOILUTSequence[0]
    low, high = (voi.WindowCenter + side * voi.WindowWidth / 2 for side in (-1, 1))
    assert [low * factor, high * factor] == pytest.approx([window["low"], window["high"]], abs=1e-4)
    palette = functional.PaletteColorLookupTableSequence[0].RedPaletteColorLookupTableData
    red = np.rint(COLORMAPS[record["colormap"]["name"]].numpy()[:, 0] * 255)
    assert np.array_equal(np.frombuffer(palette, np.uint8), red)
    place = functional.ReferencedSpatialRegistrationSequence[0].ReferencedSeriesSequence[0]
    own = objects(made / "multi")["registration"].SOPInstanceUID
    assert place.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == own


@pytest.mark.parametrize("case", ["multi", "single"])
def test_the_picture_names_its_sources_and_how_it_was_made(made: Path, case: str) -> None:
    path = [*slices(made / case), made / case / "dicom" / "fused.dcm"][0]
    fused = pydicom.dcmread(path)
    named = {i.ReferencedSOPInstanceUID for i in fused.SourceImageSequence}
    pet = {f"{PET}.{k + 1}" for k in range(SHAPE[2])}
    assert pet < named
    assert len(named - pet) == (1 if case == "single" else SHAPE[2])
    assert f"{MR}.1" in named
    assert "blended by method mean" in fused.DerivationDescription
    meanings = {c.CodeMeaning for c in fused.DerivationCodeSequence}
    assert meanings == {"Spatial resampling", "Pixel by pixel addition"}
    assert fused.ContributingEquipmentSequence[0].Manufacturer == "medfuse"
    assert fused.ImageType[0] == "DERIVED"
    assert "not for diagnosis" in fused.SeriesDescription
    assert fused.FrameOfReferenceUID == "1.2.826.0.1.3680043.8.498.2"
    assert fused.BurnedInAnnotation == "NO"


def test_uids_are_new_and_those_of_one_study_and_of_a_run_again_agree(made: Path) -> None:
    found = objects(made / "multi")
    assert set(found) == OBJECTS
    assert len({d.StudyInstanceUID for d in found.values()}) == 1
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uids = {d[keyword].value for d in found.values()}
        assert len(uids) == 4
        assert all(uid.startswith("2.25.") and uid.is_valid for uid in uids)
    fuse(
        made / "mr", made / "pet", made / "again", "--dicom", "multiframe",
        "--initial", str(made / "start.txt"),
    )  # fmt: skip
    for path in sorted((made / "multi" / "dicom").iterdir()):
        assert path.read_bytes() == (made / "again" / "dicom" / path.name).read_bytes(), path.name


def test_the_patient_is_a_pseudonym_and_study_and_dates_are_blank(made: Path) -> None:
    for dataset in objects(made / "multi").values():
        assert dataset.PatientID.startswith("medfuse-")
        assert dataset.StudyInstanceUID != "1.2.826.0.1.3680043.8.498.1"
        for blank in ["PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"]:
            assert not dataset[blank].value
        assert not dataset.AccessionNumber
    everything = b"".join(p.read_bytes() for p in (made / "multi").rglob("*") if p.is_file())
    assert MARKER.encode() not in everything


def test_keep_patient_joins_the_study_of_the_anatomical_images_and_nothing_else(made: Path) -> None:
    for dataset in objects(made / "kept").values():
        assert str(dataset.PatientName) == f"{MARKER}^{MARKER}"
        assert dataset.PatientBirthDate == "19460507"
        assert dataset.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.1"
        assert "InstitutionName" not in dataset
        assert not any(element.tag.is_private for element in dataset.iterall())
    others = [p for p in (made / "kept").rglob("*") if p.is_file() and p.suffix != ".dcm"]
    assert not any(MARKER.encode() in p.read_bytes() for p in others)


def test_results_are_hashed_and_verified_with_their_dicom(made: Path) -> None:
    record = json.loads((made / "multi" / "provenance.json").read_text())
    assert {f"dicom/{name}.dcm" for name in OBJECTS} < set(record["outputs"])
    for case in ("multi", "kept"):
        assert run(["verify", str(made / case), "--inputs", str(made)]) == 0


def test_nifti_sources_give_picture_and_weights_and_a_note_about_the_rest(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t1.nii.gz", head(900).astype(np.float32))
    write_nifti(tmp_path / "pet.nii.gz", head(9).astype(np.float32))
    out = tmp_path / "out"
    fuse(tmp_path / "t1.nii.gz", tmp_path / "pet.nii.gz", out, "--dicom", "multiframe")
    assert set(objects(out)) == {"fused", "weight_map"}
    notes = json.loads((out / "provenance.json").read_text())["notes"]
    assert any("no spatial registration" in note and "no DICOM series" in note for note in notes)
    image = sitk.ReadImage(str(out / "dicom" / "fused.dcm"))
    stored = nib.load(out / "fused_rgb.nii.gz")
    colours = stored_rgb(out)
    for voxel in ((9, 22, 8), (0, 0, 0), (39, 35, 11)):  # the bright spot, and two corners
        world = (stored.affine @ [*voxel, 1])[:3] * [-1, -1, 1]
        index = image.TransformPhysicalPointToIndex(world.tolist())
        assert image.GetPixel(index) == tuple(int(c) for c in colours[voxel])


def test_without_highdicom_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(UsageError, match=r"pip install 'medfuse\[dicom\]'.*\[E_EXTRA\]"):
        origin.require_highdicom()


def test_a_picture_too_large_for_one_file_is_refused_with_the_remedy(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medfuse.dicom_out.colour.MAX_PIXEL_BYTES", 1000)
    arguments = ["fuse", str(made / "mr"), str(made / "pet"), "-o", str(made / "large")]
    chosen = ["--method", "mean", "--registration", "identity", "--dicom", "multiframe"]
    assert run([*arguments, *chosen]) == 2
    assert "Use --dicom slices. [E_TOO_LARGE]" in " ".join(capsys.readouterr().err.split())
    assert not (made / "large").exists()


def test_a_multi_frame_source_is_named_by_its_frames(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "mr.dcm", SeriesPlan(head(900), "MR", spacing=SPACING), range(12))
    write_series(tmp_path / "pet", SeriesPlan(head(9000), "PT", spacing=SPACING, series_uid=PET))
    fuse(tmp_path / "mr.dcm", tmp_path / "pet", tmp_path / "out", "--dicom", "slices")
    third = pydicom.dcmread(slices(tmp_path / "out")[2])
    own = third.SourceImageSequence[0]
    assert (own.ReferencedSOPInstanceUID, own.ReferencedFrameNumber) == (f"{MR}.1", 3)
    blending = objects(tmp_path / "out")["blending"].AdvancedBlendingSequence[0]
    assert [i.ReferencedFrameNumber for i in blending.ReferencedImageSequence] == [[*range(1, 13)]]
