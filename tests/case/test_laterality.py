"""Left stays left: from DICOM through registration and fusion to NIfTI, DICOM and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from medfuse.case.pipeline import align, fuse_case, load_pair
from medfuse.case.record import CaseRecord, CaseSettings, write_case
from tests._helpers.make import AXIAL, CORONAL, SAGITTAL, SeriesPlan, oblique, save, write_series

#: LPS mm: on the patient's left, in front of the middle, below it. No mirror maps it onto itself.
SPOT = np.array([24.0, -14.0, -11.0])
SPACING, SHAPE = (2.2, 2.6, 3.4), (44, 40, 30)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # slices run to the feet
TOLERANCE_MM = 4.0


def head(points: np.ndarray, scale: float) -> np.ndarray:
    """An egg with an off-centre notch and the spot, at LPS points (..., 3) mm."""
    size = np.array([34.0, 40.0, 36.0]) * (1 + 0.15 * np.sign(points) * [1, -1, 1])
    egg = np.clip(2.5 * (1.2 - np.linalg.norm(points / size, axis=-1)), 0, 1)
    notch = np.linalg.norm(points - [-15, 12, 8], axis=-1) < 9
    spot = np.linalg.norm(points - SPOT, axis=-1) < 12
    return scale * (egg * np.where(notch, 0.1, 0.25) + 0.7 * spot)


def positions(plan: SeriesPlan) -> np.ndarray:
    """LPS mm of every voxel, by the definition of the DICOM attributes."""
    row, column = np.array(plan.orientation[:3]), np.array(plan.orientation[3:])
    axes = (row, column, np.cross(row, column))
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return np.array(plan.origin) + sum(index[..., a, None] * SPACING[a] * axes[a] for a in range(3))


def centred(orientation: tuple[float, ...], uid: str) -> SeriesPlan:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    half = (np.array(SHAPE) - 1) / 2 * SPACING
    axes = np.array([row, column, np.cross(row, column)])
    return SeriesPlan(
        modality="MR", orientation=orientation, spacing=SPACING, origin=-half @ axes,
        series_uid=uid,
    )  # fmt: skip


def write_phantom(folder: Path, orientation: tuple[float, ...], modality: str) -> None:
    plan = centred(orientation, f"1.2.826.0.1.3680043.8.498.{4 if modality == 'MR' else 7}")
    values = head(positions(plan), 900 if modality == "MR" else 20000).astype(np.int16)

    def own_frame(dataset: pydicom.Dataset, _: int) -> None:
        dataset.FrameOfReferenceUID = f"{plan.series_uid}.1"

    write_series(
        folder,
        SeriesPlan(
            values,
            modality,
            orientation,
            SPACING,
            plan.origin,
            series_uid=plan.series_uid,
            edit=own_frame,
        ),
    )


def fuse(anatomical: Path, functional: Path, out: Path, **chosen: Any) -> None:
    """What ``medfuse fuse --dicom slices --png`` does, without the report."""
    settings = CaseSettings(method="mean", dicom="slices", accept_suspect=True, **chosen)
    anat, func = load_pair(anatomical, functional, settings)
    registration = align(anat, func, settings)
    on_grid = registration.resample(func)
    result = fuse_case(on_grid, anat, settings)
    record = CaseRecord(
        case="case",
        command="",
        key="key",
        settings=settings,
        anat=anat,
        func=func,
        registration=registration,
        on_grid=on_grid,
        result=result,
        audit=result.audit,
    )
    out.mkdir()
    write_case(out, record, report=False)


def middle_of_the_hottest(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = np.argwhere(values > 0.75 * values.max())
    return nib.affines.apply_affine(affine, index.mean(axis=0))


def colour_in_nifti(folder: Path) -> np.ndarray:
    """LPS mm of the middle of what is coloured most."""
    image = nib.load(folder / "fused_rgb.nii.gz")
    planes = [np.asarray(image.dataobj)[c].astype(float) for c in "RGB"]
    return middle_of_the_hottest(sum(planes), image.affine) * [-1, -1, 1]


def colour_in_dicom(folder: Path) -> np.ndarray:
    image = sitk.ReadImage([str(p) for p in sorted((folder / "dicom/fused").iterdir())])
    brightness = sitk.GetArrayFromImage(image).astype(float).sum(axis=-1).transpose(2, 1, 0)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return middle_of_the_hottest(brightness, affine)


def column_in_picture(folder: Path) -> float:
    """Where the brightest pixels of the axial projection lie, 0 left to 1 right."""
    picture = np.asarray(Image.open(folder / "png" / "mip_axial.png")).astype(float).sum(axis=-1)
    columns = np.argwhere(picture > 0.75 * picture.max())[:, 1]
    return float(columns.mean() / (picture.shape[1] - 1))


@pytest.mark.parametrize(
    ("anatomical", "functional"),
    [
        (AXIAL, oblique()),
        (oblique(), AXIAL),
        (PRONE, AXIAL),
        (AXIAL, PRONE),
        (FEET_FIRST, CORONAL),
        (CORONAL, SAGITTAL),
        (SAGITTAL, FEET_FIRST),
    ],
)
def test_the_left_spot_is_left_in_every_output(
    tmp_path: Path, anatomical: tuple[float, ...], functional: tuple[float, ...]
) -> None:
    write_phantom(tmp_path / "mr", anatomical, "MR")
    write_phantom(tmp_path / "pet", functional, "PT")
    fuse(tmp_path / "mr", tmp_path / "pet", tmp_path / "out", registration="identity", png=True)
    assert colour_in_nifti(tmp_path / "out") == pytest.approx(SPOT, abs=TOLERANCE_MM)
    assert colour_in_dicom(tmp_path / "out") == pytest.approx(SPOT, abs=TOLERANCE_MM)
    assert column_in_picture(tmp_path / "out") > 0.6, "radiological: the patient's left is right"


def test_registration_of_a_turned_image_keeps_the_side(tmp_path: Path) -> None:
    write_phantom(tmp_path / "mr", PRONE, "MR")
    write_phantom(tmp_path / "pet", AXIAL, "PT")
    turn = sitk.Euler3DTransform((0, 0, 0), 0.10, -0.07, 0.14, (9.0, -6.0, 12.0))
    for path in (tmp_path / "pet").iterdir():
        dataset = pydicom.dcmread(path)
        rotation = np.reshape(turn.GetMatrix(), (3, 3))
        cosines = np.reshape(dataset.ImageOrientationPatient, (2, 3)).astype(float) @ rotation.T
        dataset.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in cosines.ravel()]
        place = turn.TransformPoint([float(v) for v in dataset.ImagePositionPatient])
        dataset.ImagePositionPatient = [f"{v:.10f}"[:16] for v in place]
        save(dataset, path)
    fuse(tmp_path / "mr", tmp_path / "pet", tmp_path / "out", preset="fast")
    matrix = nib.load(tmp_path / "out" / "functional_on_anatomical.nii.gz")
    hottest = middle_of_the_hottest(matrix.get_fdata(), matrix.affine) * [-1, -1, 1]
    assert hottest == pytest.approx(SPOT, abs=TOLERANCE_MM)
    assert colour_in_nifti(tmp_path / "out") == pytest.approx(SPOT, abs=TOLERANCE_MM)
    assert colour_in_dicom(tmp_path / "out") == pytest.approx(SPOT, abs=TOLERANCE_MM)


def world_of(header: pydicom.Dataset, row: int, column: int) -> np.ndarray:
    """LPS mm of a pixel (DICOM PS3.3 C.7.6.2.1.1, written out)."""
    cosines = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = (float(v) for v in header.PixelSpacing)
    start = np.array(header.ImagePositionPatient, dtype=float)
    return start + cosines[0] * between_columns * column + cosines[1] * between_rows * row


def write_spot_nifti(path: Path, place: np.ndarray) -> None:
    """A left-handed NIfTI "PET" of one warm ball around an LPS point, in SUV by its sidecar."""
    affine = np.diag([-3.0, 3.0, 3.5, 1.0])
    affine[:3, 3] = place * [-1, -1, 1] + [90, -90, -52.5]
    index = np.stack(np.meshgrid(np.arange(61), np.arange(61), np.arange(31), indexing="ij"), -1)
    world = nib.affines.apply_affine(affine, index) * [-1, -1, 1]
    distance = np.linalg.norm(world - place, axis=-1)
    values = 1.0 + 8.0 * np.exp(-((distance / 9) ** 2))
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)


@pytest.mark.parametrize("lies", ["supine", "prone"])
def test_a_spot_on_the_left_of_a_real_oblique_brain_is_left_in_every_output(
    tmp_path: Path, shared_data: Path, lies: str
) -> None:
    """Real pixels and an oblique header; prone is the same header turned about the long axis."""
    (tmp_path / "mr").mkdir()
    place = None
    for path in sorted((shared_data / "volumes/brain-pd-mr-dicom/mr-pd").glob("*")):
        dataset = pydicom.dcmread(path)
        if lies == "prone":
            for keyword in ("ImageOrientationPatient", "ImagePositionPatient"):
                turned = np.reshape(dataset[keyword].value, (-1, 3)).astype(float) * [-1, -1, 1]
                dataset[keyword].value = [f"{v:.10f}"[:16] for v in turned.ravel()]
        if int(dataset.InstanceNumber) == 10:
            column = 180 if lies == "supine" else 75
            place = world_of(dataset, 110, column)
        for tag in [tag for tag in dataset if tag.tag.group == 0]:
            del dataset[tag.tag]  # the source files hold command elements
        dataset.save_as(tmp_path / "mr" / path.name)
    assert place is not None
    assert place[0] > 30, "the patient's left, by the header"
    write_spot_nifti(tmp_path / "pet.nii.gz", place)
    fuse(
        tmp_path / "mr", tmp_path / "pet.nii.gz", tmp_path / "out", registration="identity",
        functional_modality="PET", functional_unit="SUVbw",
    )  # fmt: skip
    spot = nib.load(tmp_path / "out" / "functional_on_anatomical.nii.gz")
    hottest = middle_of_the_hottest(spot.get_fdata(), spot.affine) * [-1, -1, 1]
    assert hottest == pytest.approx(place, abs=TOLERANCE_MM)
    image = sitk.ReadImage([str(p) for p in sorted((tmp_path / "out/dicom/fused").iterdir())])
    here, mirrored = (colourfulness(image, place * side) for side in ([1, 1, 1], [-1, 1, 1]))
    assert here > 3 * mirrored + 30


def colourfulness(image: sitk.Image, place: np.ndarray) -> float:
    """Largest less smallest channel at an LPS point."""
    pixel = image.GetPixel(image.TransformPhysicalPointToIndex(place.tolist()))
    return float(max(pixel) - min(pixel))


def test_the_real_tumour_is_coloured_on_its_own_side(tmp_path: Path, shared_data: Path) -> None:
    """PET and oblique MR of one leg, put together by the reference transform of the data."""
    folder = shared_data / "volumes" / "sts001-pet-mr-dicom"
    to_mr = np.loadtxt(folder / "pet_to_mr_ras.txt")
    np.savetxt(tmp_path / "start.txt", np.linalg.inv(to_mr))
    fuse(
        folder / "mr-t2", folder / "pet-fdg", tmp_path / "out", registration="identity",
        initial=str(tmp_path / "start.txt"),
    )  # fmt: skip
    image = sitk.ReadImage([str(p) for p in sorted((tmp_path / "out/dicom/fused").iterdir())])
    inside, mirrored = [], []
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    for path in sorted((folder / "pet-fdg").iterdir())[::2]:
        header = pydicom.dcmread(path)
        suv = header.pixel_array * float(header.RescaleSlope) * 2.42902977e-4
        for row, column in np.argwhere(suv > 4):
            place = nib.affines.apply_affine(lps @ to_mr @ lps, world_of(header, row, column))
            index = image.TransformPhysicalPointToIndex(place.tolist())
            if all(0 <= i < n for i, n in zip(index, image.GetSize(), strict=True)):
                inside.append(colourfulness(image, place))
                place[0] = 2 * middle[0] - place[0]
                mirrored.append(colourfulness(image, place))
    assert len(inside) > 20
    assert np.median(inside) > np.median(mirrored) + 40
