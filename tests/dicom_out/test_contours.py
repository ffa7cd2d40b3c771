"""Regions in PNG and DICOM: burned into copies, or drawn by viewers; the fused image stays."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image
from pydicom.dataset import Dataset

from medfuse import load
from medfuse.cli.app import run
from medfuse.results.outlines import region_rgb
from medfuse.verification.verify import verify
from tests._helpers.make import SeriesPlan, oblique, write_series
from tests.dicom_out.test_dicom_out import (
    BLIND_SPOT,
    MOVED,
    PET,
    fuse,
    head,
    slices,
    stored_rgb,
    write_pair,
)

NAMES = ["Läsion", "rim"]


def _elsewhere(dataset: Dataset, _: int) -> None:
    dataset.FrameOfReferenceUID = MOVED
    dataset.StudyInstanceUID = f"{MOVED}.1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesion within a rim, drawn on the MRI; the PET lies elsewhere."""
    root = tmp_path_factory.mktemp("contours")
    write_pair(root)
    coarse = {"spacing": (4.0, 5.0, 4.0), "orientation": oblique()}  # of which no mask is
    shutil.rmtree(root / "pet")
    pet = SeriesPlan(
        head(9000)[::2, ::2], "PT", series_uid=PET, number=7, edit=_elsewhere, **coarse
    )
    write_series(root / "pet", pet)
    mri = load(root / "mr")
    for name, box in zip(NAMES, ((10, 16, 12, 20, 3, 8), (6, 30, 8, 28, 2, 10)), strict=True):
        mask = np.zeros(mri.shape[1:], np.uint8)
        mask[box[0] : box[1], box[2] : box[3], box[4] : box[5]] = 1
        nib.save(nib.Nifti1Image(mask, np.asarray(mri.affine)), root / f"{name}.nii.gz")
    common = ("--initial", str(root / "start.txt"), "--colormap", "glow")
    regions = [part for n in NAMES for part in ("--regions", f"{n}={root / f'{n}.nii.gz'}")]
    burned = ("--dicom", "multiframe", "--png", "--contours", "burned-in", "--keep-patient")
    fuse(root / "mr", root / "pet", root / "burned", *common, *regions, *burned)
    state = ("--dicom", "slices", "--contours", "presentation-state")
    fuse(root / "mr", root / "pet", root / "state", *common, *regions, *state)
    return root


def mask_of(made: Path, name: str) -> np.ndarray:
    """(slices, rows, columns) as the MRI is stored."""
    return np.asarray(nib.load(made / f"{name}.nii.gz").dataobj).transpose(2, 1, 0) > 0


def test_all_objects_pass_the_validator_of_dicom3tools(made: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    names = {
        "fused",
        "outlined",
        "regions",
        "measurements",
        "weight_map",
        "registration",
        "blending",
    }
    paths = sorted((made / "burned" / "dicom").rglob("*.dcm"))
    assert {path.stem for path in paths} == names
    for path in [*paths, made / "state" / "dicom" / "contours.dcm"]:
        done = subprocess.run(
            ["dciodvfy", "-new", path], capture_output=True, text=True, timeout=30
        )
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if line.startswith("Error") and BLIND_SPOT not in line]
        assert errors == [], path.name
        assert lines, "the validator names the class that it found"


def test_only_lines_are_burned_into_the_copy_and_it_says_so(made: Path) -> None:
    folder = made / "burned" / "dicom"
    fused, outlined = (pydicom.dcmread(folder / f"{n}.dcm") for n in ("fused", "outlined"))
    clean, drawn = fused.pixel_array, outlined.pixel_array
    assert np.array_equal(clean, stored_rgb(made / "burned").transpose(2, 1, 0, 3))
    changed = (clean != drawn).any(axis=-1)
    lines = [(drawn == region_rgb(n)).all(axis=-1) for n in (1, 2)]
    assert all(line.sum() > 100 for line in lines)
    assert not (changed & ~lines[0] & ~lines[1]).any()
    lesion, rim = (mask_of(made, name) for name in NAMES)
    assert not (changed & lesion).any(), "the lesion is seen as it was fused"
    assert not changed[~(lesion | rim).any(axis=(1, 2))].any(), "slices without a region"
    assert (fused.BurnedInAnnotation, outlined.BurnedInAnnotation) == ("NO", "YES")
    assert outlined.SeriesInstanceUID != fused.SeriesInstanceUID
    assert "Läsion (sky blue), rim (green)" in outlined.DerivationDescription
    assert "OUTLINED" in outlined.ImageType
    assert "OUTLINED" not in fused.ImageType


def test_lines_of_the_state_enclose_the_pixels_of_the_regions_in_each_image(made: Path) -> None:
    state = pydicom.dcmread(made / "state" / "dicom" / "contours.dcm")
    images = {
        pydicom.dcmread(path).SOPInstanceUID: k for k, path in enumerate(slices(made / "state"))
    }
    layers = [layer.GraphicLayer for layer in state.GraphicLayerSequence]
    assert [layer.GraphicLayerDescription for layer in state.GraphicLayerSequence] == NAMES
    found = np.zeros((2, *mask_of(made, NAMES[0]).shape), bool)
    rows, columns = np.indices(found.shape[2:]) + 0.5
    centers = np.column_stack([columns.ravel(), rows.ravel()])
    for note in state.GraphicAnnotationSequence:
        (image,) = note.ReferencedImageSequence
        (line,) = note.GraphicObjectSequence
        assert line.GraphicAnnotationUnits == "PIXEL"
        polygon = Polygon(np.reshape(line.GraphicData, (-1, 2)))
        k = images[image.ReferencedSOPInstanceUID]
        inside = polygon.contains_points(centers).reshape(rows.shape)
        found[layers.index(note.GraphicLayer), k] = inside
    for number, name in enumerate(NAMES):
        assert np.array_equal(found[number], mask_of(made, name))
    area = state.DisplayedAreaSelectionSequence[0]
    assert [float(mm) for mm in area.PresentationPixelSpacing] == pytest.approx([2.5, 2.0])
    assert not list((made / "state" / "dicom").glob("outlined*"))


def test_segmentation_and_report_lie_beside_and_follow_the_rules_for_patients(made: Path) -> None:
    header = pydicom.dcmread(next((made / "pet").iterdir()), stop_before_pixels=True)
    for name in ("regions", "measurements"):
        kept, blank = (
            pydicom.dcmread(made / c / "dicom" / f"{name}.dcm") for c in ("burned", "state")
        )
        assert (kept.PatientID, kept.StudyInstanceUID) == (
            header.PatientID,
            header.StudyInstanceUID,
        )
        assert blank.PatientID.startswith("medfuse-")
        assert blank.StudyInstanceUID != header.StudyInstanceUID
    report = highdicom.sr.Comprehensive3DSR.from_dataset(kept)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == NAMES


def test_pictures_with_lines_are_not_taken_apart(made: Path, tmp_path: Path, capsys) -> None:
    png = sorted((made / "burned" / "png").glob("outlined_0*.png"))
    assert [path.stem[-3:] for path in png] == [f"{k:03d}" for k in range(2, 10)]
    with Image.open(png[3]) as picture:
        assert (np.asarray(picture) == region_rgb(1)).all(axis=-1).any()
    renamed = shutil.copy(png[3], tmp_path / "fused_005.png")
    record = ["--provenance", str(made / "burned" / "provenance.json")]
    for path in (Path(renamed), made / "burned" / "dicom" / "outlined.dcm"):
        assert run(["unfuse", str(path), "-o", str(tmp_path / "apart"), *record, "--quiet"]) == 2
        assert "lines around regions were drawn into it" in capsys.readouterr().err
    folder = str(made / "burned" / "dicom")
    assert run(["unfuse", folder, "-o", str(tmp_path / "apart"), *record, "--quiet"]) == 0


@pytest.mark.parametrize("case", ["burned", "state"])
def test_the_whole_is_made_again_by_verify(made: Path, case: str, tmp_path: Path) -> None:
    found = list(verify(made / case, inputs=made))
    assert [f for f in found if not f.ok] == []
    for name in ("mr", "pet"):
        shutil.copytree(made / name, tmp_path / name)
    partly = {f.what: f for f in verify(made / case, inputs=tmp_path)}
    assert [f for f in partly.values() if not f.ok] == []
    assert not partly["measurements"].checked


def test_where_nothing_can_be_outlined_that_is_remarked_and_verified(
    made: Path, tmp_path: Path
) -> None:
    chosen = ("--initial", str(made / "start.txt"), "--contours", "burned-in", "--png")
    far = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
    far.affine[:3, 3] = 900
    nib.save(far, tmp_path / "far.nii.gz")
    for name, more, words in (
        ("none", (), "no region was given"),
        ("far", ("--regions", str(tmp_path / "far.nii.gz")), "no region lies on the anatomical"),
    ):
        fuse(made / "mr", made / "pet", tmp_path / name, *chosen, *more)
        assert words in (tmp_path / name / "provenance.json").read_text()
        assert not list((tmp_path / name / "png").glob("outlined*"))
    shutil.copy(tmp_path / "far.nii.gz", made / "far.nii.gz")
    assert [f for f in verify(tmp_path / "far", inputs=made) if not f.ok] == []
