"""DICOM series: choice of a frame, refusals; real data first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MPEG4HP41

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.series import describe_dicom, read_dicom
from tests._helpers import make
from tests._helpers.series import FIRST, THIRD, assert_says, move, set_tags


@pytest.mark.parametrize(
    ("folder", "shape", "spacing", "codes"),
    [
        ("sts001-pet-mr-dicom/pet-fdg", (128, 128, 74), (4.6875, 4.6875, 3.27), "LPS"),
        ("sts001-pet-mr-dicom/mr-t2", (384, 384, 33), (0.5234375, 0.5234375, 5.2), "LPS"),
        ("brain-pd-mr-dicom/mr-pd", (256, 256, 20), (0.859375, 0.859375, 7.0), "LPS"),
        ("qin-hn-brain-pet-dicom/pet-fdg", (168, 168, 111), (3.39403, 3.39403, 2.025), "LPS"),
    ],
)
def test_real_series_load_with_the_grid_their_source_states(
    shared_data: Path,
    folder: str,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    codes: str,
) -> None:
    volume = read_dicom(shared_data / "volumes" / folder)
    assert volume.values.shape == shape
    assert volume.meta["spacing"] == pytest.approx(spacing, abs=1e-3)
    assert "".join(nib.orientations.aff2axcodes(volume.affine)) == codes


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("ge-head-ct-tilt-dicom/ct", "E_SPACING", ["steps range from 1.081 to 6.999 mm"]),
        ("awkward-dicom/sliceorientation", "E_ORIENTATION_MIXED", ["2 orientations (2, 2 images)"]),
        ("awkward-dicom/enhanced-multiframe/emri_small.dcm", "E_NO_POSITION", ["emri_small.dcm"]),
        (
            "awkward-dicom/enhanced-multiframe/emri_small_big_endian.dcm",
            "E_NO_POSITION",
            ["10 frames"],
        ),
        ("awkward-dicom/transfer-syntax", "E_MIXED_PATIENT", ["series=NUMBER"]),
        ("awkward-dicom/transfer-syntax/NM1_RLE.dcm", "E_NOT_QUANTITATIVE", ["NM1_RLE.dcm"]),
        ("awkward-dicom/transfer-syntax/MR_small_RLE.dcm", "E_TOO_FEW_SLICES", ["1 slice pos"]),
        (
            "sts001-pet-mr-dicom",
            "E_AMBIGUOUS_SERIES",
            ["1 (PET, 74", "10 (MRI, 33", "series=NUMBER"],
        ),
        ("sts001-pet-mr-dicom/rtstruct", "E_NO_IMAGES", ["2 without pixels"]),
        ("bids-pet-layout", "E_NO_IMAGES", ["not DICOM"]),
    ],
)
def test_real_awkward_files_are_refused_with_cause_and_remedy(
    shared_data: Path, path: str, code: str, words: list[str]
) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_dicom(shared_data / "volumes" / path)
    assert_says(caught.value, code, words)


def test_a_slice_sent_twice_is_used_once(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    shutil.copy(tmp_path / make.file_name(2), tmp_path / "again.dcm")
    volume = read_dicom(tmp_path)
    assert volume.values.shape == make.SHAPE
    assert any("1 images are copies" in note for note in volume.meta["notes"])


def test_file_names_and_copies_do_not_change_the_content_hash(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a")
    make.write_series(tmp_path / "b", prefix="other-name-")
    first, second = read_dicom(tmp_path / "a"), read_dicom(tmp_path / "b")
    assert first.meta["source"]["sha256"] == second.meta["source"]["sha256"]


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    """Three time frames of one position each; frame t holds the phantom times t + 1."""
    for t in range(3):

        def edit(dataset: Dataset, k: int, t: int = t) -> None:
            dataset.FrameReferenceTime = 1000 * (60 * t + 30)
            dataset.SOPInstanceUID = f"8.{t}.{k}"
            dataset.InstanceNumber = 100 - 6 * t + k

        plan = make.SeriesPlan(values=make.phantom() * np.int16(t + 1), modality="PT", edit=edit)
        make.write_series(tmp_path, plan, prefix=f"{9 - t}_")
    return tmp_path


def test_time_frames_are_refused_with_the_way_out(dynamic: Path) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_dicom(dynamic)
    words = [
        "3 frames",
        "FrameReferenceTime 30000, 90000",
        "from 0 to 2 with frame=NUMBER",
        "frame=mean",
    ]
    assert_says(caught.value, "E_DYNAMIC", words)


@pytest.mark.parametrize(("frame", "factor"), [(0, 1), (1, 2), (2, 3), ("mean", 2)])
def test_a_frame_or_the_mean_can_be_chosen(dynamic: Path, frame: int | str, factor: int) -> None:
    volume = read_dicom(dynamic, frame=frame, values_in="Bq/ml")  # type: ignore[arg-type]
    np.testing.assert_allclose(volume.values, make.phantom() * factor, rtol=1e-6)


def test_describe_tells_that_a_frame_must_be_chosen(dynamic: Path) -> None:
    (entry,) = describe_dicom(dynamic)
    assert (entry["frames"], entry["shape"]) == (3, [11, 8, 6])
    assert "E_DYNAMIC" in entry["problems"][0]


def test_a_frame_that_is_not_there_is_refused(dynamic: Path) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_dicom(dynamic, frame=3)
    assert_says(caught.value, "E_FRAME", ["no frame 3", "0 to 2"])


def _drop(k: int) -> Callable[[Path], None]:
    return lambda folder: (folder / make.file_name(k)).unlink()


def _copy_with_other_pixels(folder: Path) -> None:
    shutil.copy(folder / make.file_name(2), folder / "other.dcm")

    def change(dataset: Dataset) -> None:
        dataset.PixelData = bytes(len(dataset.PixelData))

    make.edit_file(folder / "other.dcm", change)


def _truncate(name: str, keep: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return cut


def _compressed(folder: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = MPEG4HP41
        dataset.PixelData = pydicom.encaps.encapsulate([b"no real stream "])

    make.edit_file(folder / make.file_name(1), change)


def _second_person(folder: Path) -> None:
    plan = make.SeriesPlan(patient="2", series_uid="1.2.3.9", number=5)
    make.write_series(folder, plan, prefix="second")


def _keep_one(folder: Path) -> None:
    for k in range(1, make.SHAPE[2]):
        (folder / make.file_name(k)).unlink()


def _all_black(folder: Path) -> None:
    for path in folder.iterdir():
        make.edit_file(path, lambda d: setattr(d, "PixelData", bytes(len(d.PixelData))))


def _deflated(folder: Path) -> None:
    path = folder / make.file_name(0)
    data = path.read_bytes().replace(
        b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99"
    )
    path.write_bytes(data)


FAULTS: list[tuple[str, Callable[[Path], object], str, list[str]]] = [
    (
        "missing slice",
        _drop(2),
        "E_MISSING_SLICE",
        ["gap of 8.00 mm", make.file_name(1), make.file_name(3), "4.00 mm", "series=NUMBER"],
    ),
    (
        "two missing slices",
        lambda f: (_drop(2)(f), _drop(3)(f)),
        "E_MISSING_SLICE",
        ["gap of 12.00 mm", "2 slices missing?"],
    ),
    ("uneven step", move(2, 0.9), "E_SPACING", ["3.100 to 4.900 mm", "Resample"]),
    (
        "duplicate",
        _copy_with_other_pixels,
        "E_DUPLICATE_SLICE",
        ["2 images with different pixels", "other.dcm", THIRD],
    ),
    ("one shifted slice", move(2, 3.0, axis=0), "E_TILT", [THIRD, "3.00 mm off"]),
    (
        "no position",
        set_tags(2, ImagePositionPatient=None),
        "E_NO_POSITION",
        [THIRD, "ImagePositionPatient"],
    ),
    (
        "no orientation",
        set_tags(2, ImageOrientationPatient=None),
        "E_NO_POSITION",
        [THIRD, "ImageOrientationPatient"],
    ),
    ("no pixel spacing", set_tags(2, PixelSpacing=None), "E_SPACING", [THIRD, "PixelSpacing"]),
    ("zero pixel spacing", set_tags(2, PixelSpacing=[0, 1]), "E_SPACING", [THIRD, "positive"]),
    (
        "skewed cosines",
        lambda f: [
            set_tags(k, ImageOrientationPatient=[1, 0.1, 0, 0, 1, 0])(f)
            for k in range(make.SHAPE[2])
        ],
        "E_BAD_ORIENTATION",
        ["orthogonal", "cosine 0.1000"],
    ),
    (
        "turned slice",
        set_tags(2, ImageOrientationPatient=list(make.CORONAL)),
        "E_ORIENTATION_MIXED",
        ["2 orientations (5, 1 images)"],
    ),
    ("other pixel spacing", set_tags(2, PixelSpacing=[1, 1]), "E_SHAPE_MIXED", [THIRD, "1 x 1 mm"]),
    ("cut pixels", _truncate(THIRD, 0.97), "E_TRUNCATED", [THIRD, "of 176 bytes"]),
    ("cut header", _truncate(THIRD, 0.5), "E_TRUNCATED", [THIRD, "before its pixel data"]),
    ("empty file", _truncate(THIRD, 0.0), "E_EMPTY_FILE", [THIRD, "0 bytes"]),
    ("codec", _compressed, "E_CODEC", [make.file_name(1), "MPEG-4", "a film"]),
    ("deflated", _deflated, "E_CODEC", [FIRST, "deflated"]),
    (
        "colour",
        set_tags(2, PhotometricInterpretation="RGB", SamplesPerPixel=3),
        "E_NOT_QUANTITATIVE",
        [THIRD],
    ),
    ("odd bits", set_tags(2, HighBit=7), "E_PHOTOMETRIC", [THIRD, "high bit 7"]),
    (
        "two frames of reference",
        set_tags(2, FrameOfReferenceUID="1.9"),
        "E_FRAME_OF_REFERENCE",
        ["2"],
    ),
    ("two modalities", set_tags(2, Modality="CT"), "E_MODALITY_MIXED", ["different modalities"]),
    ("two persons in a series", set_tags(2, PatientID="x"), "E_MIXED_PATIENT", ["2 different"]),
    (
        "two persons in a folder",
        _second_person,
        "E_MIXED_PATIENT",
        ["2 different", "series=NUMBER"],
    ),
    ("one slice", _keep_one, "E_TOO_FEW_SLICES", ["1 slice", "whole series"]),
    ("all black", _all_black, "E_CONSTANT", ["value 0"]),
    ("zero slope", set_tags(2, RescaleSlope=0, RescaleIntercept=0), "E_RESCALE", [THIRD, "0, not"]),
    ("negative slope", set_tags(2, RescaleSlope=-2), "E_RESCALE", [THIRD, "-2, not"]),
    ("lookup table", set_tags(2, ModalityLUTSequence=[Dataset()]), "E_RESCALE", [THIRD, "LUT"]),
]


@pytest.mark.parametrize(
    ("damage", "code", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_damaged_series_is_refused_with_cause_and_remedy(
    tmp_path: Path, damage: Callable[[Path], object], code: str, words: list[str]
) -> None:
    make.write_series(tmp_path)
    damage(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, code, words)


def test_a_volume_that_memory_cannot_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.write_series(tmp_path)
    monkeypatch.setattr("medfuse.imaging.memory.machine_memory", lambda: 5000)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    assert_says(caught.value, "E_TOO_LARGE", ["11 x 8 x 6 voxels", "GB"])


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_to_headers_ends_in_a_volume_or_a_one_line_error(
    tmp_path: Path, seed: int
) -> None:
    make.write_series(tmp_path)
    rng = np.random.default_rng(seed)
    path = tmp_path / make.file_name(int(rng.integers(make.SHAPE[2])))
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[int(rng.integers(132, len(data) - 176))] = int(rng.integers(256))
    path.write_bytes(data)
    try:
        volume = read_dicom(tmp_path)
    except MedfuseError as error:
        assert_says(error, "E_", [])
    else:
        assert volume.values.shape[2] <= make.SHAPE[2]
        assert volume.meta["spacing"][2] == pytest.approx(make.SPACING[2], rel=0.02)


def test_describe_lists_series_with_geometry_and_problems(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    broken = make.SeriesPlan(modality="PT", number=7, series_uid="1.2.3.7")
    make.write_series(tmp_path, broken, prefix="pet")
    (tmp_path / f"pet{make.file_name(2)}").unlink()
    sound, gap = describe_dicom(tmp_path)
    assert (sound["modality"], sound["unit"], sound["shape"]) == ("MRI", "a.u.", [11, 8, 6])
    assert sound["orientation"] == "LPS"
    assert sound["problems"] == []
    assert gap["modality"] == "PET"
    assert "E_MISSING_SLICE" in gap["problems"][0]
