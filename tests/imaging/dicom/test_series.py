"""DICOM series: geometry, choice of the series, refusals; real data first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import MPEG4HP41, JPEGLSLossless

from medfuse.errors import GeometryError, MedfuseError
from medfuse.imaging.dicom.header import DicomFile, parse_datetime, parse_time, read_header
from medfuse.imaging.dicom.pixels import decode
from medfuse.imaging.dicom.series import describe_dicom, read_dicom
from medfuse.imaging.volume import Place, Volume
from tests._helpers import make

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


# --- real data --------------------------------------------------------------------------------


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


def test_real_oblique_slices_lie_where_their_headers_say(shared_data: Path) -> None:
    folder = shared_data / "volumes/sts001-pet-mr-dicom/mr-t2"
    volume = read_dicom(folder)
    for path in folder.glob("*.dcm"):
        header = pydicom.dcmread(path)
        corner = LPS_TO_RAS @ np.array(header.ImagePositionPatient, dtype=float)
        index = np.linalg.solve(volume.affine, [*corner, 1])
        k = round(index[2])
        np.testing.assert_allclose(index[:3], [0, 0, k], atol=5e-3)
        np.testing.assert_array_equal(volume.values[:, :, k], header.pixel_array.T)


def test_a_sound_real_series_agrees_with_simpleitk(shared_data: Path) -> None:
    folder = str(shared_data / "volumes/sts001-pet-mr-dicom/mr-t2")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder)
    image = sitk.ReadImage(names, sitk.sitkFloat32)
    volume = read_dicom(Path(folder))
    np.testing.assert_array_equal(volume.values, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    for index in [(0, 0, 0), (383, 5, 32), (100, 383, 17)]:
        theirs = LPS_TO_RAS @ np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], theirs, atol=5e-3)


def test_real_enhanced_ct_loads_with_frame_positions(shared_data: Path) -> None:
    path = shared_data / "volumes/awkward-dicom/enhanced-multiframe/eCT_Supplemental.dcm"
    volume = read_dicom(path)
    assert volume.values.shape == (512, 512, 2)
    assert (volume.meta["modality"], volume.meta["unit"]) == ("CT", "HU")
    assert volume.meta["spacing"][2] == pytest.approx(10.0)


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
        ("awkward-dicom/transfer-syntax", "E_MIXED_PATIENT", ["--series"]),
        ("awkward-dicom/transfer-syntax/NM1_RLE.dcm", "E_NOT_QUANTITATIVE", ["NM1_RLE.dcm"]),
        ("awkward-dicom/transfer-syntax/MR_small_RLE.dcm", "E_TOO_FEW_SLICES", ["1 slice pos"]),
        ("sts001-pet-mr-dicom", "E_AMBIGUOUS_SERIES", ["1 (PET, 74", "10 (MRI, 33", "--series"]),
        ("sts001-pet-mr-dicom/rtstruct", "E_NO_IMAGES", ["2 without pixels"]),
        ("bids-pet-layout", "E_NO_IMAGES", ["not DICOM"]),
    ],
)
def test_real_awkward_files_are_refused_with_cause_and_remedy(
    shared_data: Path, path: str, code: str, words: list[str]
) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_dicom(shared_data / "volumes" / path)
    _assert_says(caught.value, code, words)


@pytest.mark.parametrize(
    ("image", "encodings", "shape"),
    [
        ("MR_small", ["bigendian", "implicit", "RLE"], (64, 64)),
        ("CT1", ["RLE", "J2KR", "JLSL", "JPLL"], (512, 512)),
        ("MR3", ["RLE", "J2KR", "JLSL", "JPLL"], (512, 512)),
    ],
)
def test_real_images_decode_alike_in_every_lossless_encoding(
    shared_data: Path, image: str, encodings: list[str], shape: tuple[int, int]
) -> None:
    folder = shared_data / "volumes/awkward-dicom/transfer-syntax"
    decoded = []
    for name in (f"{image}_{encoding}.dcm" for encoding in encodings):
        file = read_header(folder / name, name)
        assert isinstance(file, DicomFile)
        if get_decoder(file.transfer_syntax).is_available:
            decoded.append(next(decode(file, [0], Place("Cannot read", name))[1]))
    assert len(decoded) >= 2
    for other in decoded:
        np.testing.assert_array_equal(decoded[0], other)
        assert other.shape == shape


def test_a_real_compressed_series_without_codec_names_the_extra(shared_data: Path) -> None:
    if get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a JPEG-LS codec is installed")
    with pytest.raises(MedfuseError) as caught:
        read_dicom(shared_data / "volumes/awkward-dicom/transfer-syntax/CT1_JLSL.dcm")
    _assert_says(caught.value, "E_CODEC", ["CT1_JLSL.dcm", "JPEG-LS", "medfuse[codecs]"])


def test_two_real_series_in_one_folder_are_told_apart_by_number_or_uid_end(
    shared_data: Path,
) -> None:
    folder = shared_data / "volumes/sts001-pet-mr-dicom"
    by_number = read_dicom(folder, series="1")
    entries = describe_dicom(folder)
    by_end = read_dicom(folder, series=entries[0]["uid_end"])
    assert by_number.meta["modality"] == by_end.meta["modality"] == "PET"
    assert any("2 without pixels" in note for note in by_number.meta["notes"])


def test_one_file_stands_for_its_series(shared_data: Path) -> None:
    folder = shared_data / "volumes/brain-pd-mr-dicom/mr-pd"
    whole, by_file = read_dicom(folder), read_dicom(folder / "IM0001.dcm")
    assert by_file.values.shape == whole.values.shape
    assert by_file.meta["source"]["sha256"] == whole.meta["source"]["sha256"]


# --- laterality and geometry ------------------------------------------------------------------


def _value_at(volume: Volume, position_lps: np.ndarray) -> float:
    index = np.linalg.solve(volume.affine, [*(LPS_TO_RAS @ position_lps), 1])[:3]
    np.testing.assert_allclose(index, np.round(index), atol=1e-4)
    return float(volume.values[tuple(np.round(index).astype(int))])


@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
@pytest.mark.parametrize(
    "orientation",
    [make.AXIAL, make.CORONAL, make.SAGITTAL, make.oblique(), (-1.0, 0, 0, 0, -1.0, 0)],
    ids=["axial", "coronal", "sagittal", "oblique", "prone"],
)
def test_every_voxel_lies_at_its_patient_position(
    tmp_path: Path, orientation: tuple[float, ...], modality: str
) -> None:
    plan = make.SeriesPlan(orientation=orientation, modality=modality)
    make.write_series(tmp_path, plan)
    volume = read_dicom(tmp_path, values_in="a.u.")
    assert volume.meta["spacing"] == pytest.approx(make.SPACING)
    for i, j, k in np.ndindex(*make.SHAPE):
        assert _value_at(volume, plan.position(i, j, k)) == plan.values[i, j, k]


def test_left_stays_left(tmp_path: Path) -> None:
    values = np.zeros(make.SHAPE, np.int16)
    plan = make.SeriesPlan(values=values)
    values[-2, 3, 1] = 500  # in an axial series, high columns are on the patient's left (LPS +x)
    make.write_series(tmp_path, plan)
    volume = read_dicom(tmp_path)
    index = np.unravel_index(volume.values.argmax(), volume.values.shape)
    right_to_left_mm = volume.affine @ [*index, 1]
    assert right_to_left_mm[0] == pytest.approx(-plan.position(-2 + make.SHAPE[0], 3, 1)[0])
    assert right_to_left_mm[0] < (volume.affine @ [0, 0, 0, 1])[0]


def test_enhanced_multi_frame_gives_the_volume_of_the_classic_series(tmp_path: Path) -> None:
    plan = make.SeriesPlan(orientation=make.oblique(), modality="CT")
    path = tmp_path / "enhanced.dcm"
    make.write_enhanced(path, plan, order=[3, 0, 5, 1, 4, 2])
    volume = read_dicom(path)
    for i, j, k in [(0, 0, 0), (10, 7, 5), (2, 6, 3)]:
        expected = plan.values[i, j, k] * 2 - 1000
        assert _value_at(volume, plan.position(i, j, k)) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_nm_spect_is_stacked_by_the_sign_of_its_slice_spacing(tmp_path: Path, sign: int) -> None:
    plan = make.SeriesPlan(orientation=make.oblique())
    make.write_nm(tmp_path / "spect.dcm", plan, step_sign=sign)
    volume = read_dicom(tmp_path)
    assert (volume.meta["modality"], volume.meta["unit"]) == ("SPECT", "counts")
    for i, j, k in [(0, 0, 0), (10, 7, 5), (2, 6, 3)]:
        assert _value_at(volume, plan.position(i, j, k)) == plan.values[i, j, k]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 9.0)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
)
def test_any_orthogonal_grid_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    plan = make.SeriesPlan(
        values=make.phantom((5, 4, 3)), orientation=_turned(angles), spacing=spacing, origin=origin
    )
    make.write_series(folder, plan)
    volume = read_dicom(folder)
    for index in [(0, 0, 0), (4, 3, 2), (1, 0, 2)]:
        world = (volume.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(world, LPS_TO_RAS @ plan.position(*index), atol=1e-3)
        assert volume.values[index] == plan.values[index]


def _turned(angles: tuple[float, ...]) -> tuple[float, ...]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return (*matrix[:, 0], *matrix[:, 1])


# --- what is tolerated ------------------------------------------------------------------------


def test_junk_beside_the_series_is_ignored_and_counted(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "readme.txt").write_text("ZZPHI")
    (tmp_path / ".DS_Store").write_bytes(b"")
    volume = read_dicom(tmp_path)
    assert volume.values.shape == make.SHAPE
    assert volume.meta["source"]["files"] == make.SHAPE[2]
    assert "3 other files" in volume.meta["notes"][-1]


def test_localisers_and_screen_saves_do_not_disturb_the_series(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    localiser = make.SeriesPlan(
        values=make.phantom((11, 8, 1)), number=1, series_uid="1.2.3.1", orientation=make.CORONAL
    )
    make.write_series(tmp_path, _with_type(localiser, "LOCALIZER"), prefix="loc")
    screen = make.SeriesPlan(values=make.phantom((5, 5, 1)))  # in the very same series
    make.write_series(tmp_path, _with_type(screen, "SCREEN SAVE"), prefix="screen")
    volume = read_dicom(tmp_path)
    assert volume.values.shape == make.SHAPE
    assert any("1 localisers, screen saves or projections" in n for n in volume.meta["notes"])


def _with_type(plan: make.SeriesPlan, kind: str) -> make.SeriesPlan:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImageType = ["DERIVED", "SECONDARY", kind]
        dataset.SOPInstanceUID = f"9.{k}"

    return make.SeriesPlan(**{**vars(plan), "edit": edit})


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


def test_rescale_slope_is_applied_slice_by_slice(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k, -3

    plan = make.write_series(tmp_path, make.SeriesPlan(modality="CT", edit=edit))
    expected = plan.values * (0.5 + np.arange(make.SHAPE[2])) - 3
    np.testing.assert_allclose(read_dicom(tmp_path).values, expected, rtol=1e-6)


def test_rubbish_in_unused_high_bits_is_removed(tmp_path: Path) -> None:
    values = make.phantom().astype(np.uint16)

    def edit(dataset: Dataset, k: int) -> None:
        dataset.PixelData = (values[:, :, k].T | np.uint16(0xA000)).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11

    make.write_series(tmp_path, make.SeriesPlan(values=values, edit=edit))
    np.testing.assert_array_equal(read_dicom(tmp_path).values, values)


def test_monochrome1_is_inverted_once_where_values_have_no_unit(tmp_path: Path) -> None:
    values = make.phantom().astype(np.uint16)

    def edit(dataset: Dataset, k: int) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.BitsStored, dataset.HighBit = 12, 11

    make.write_series(tmp_path / "mr", make.SeriesPlan(values=values, edit=edit))
    make.write_series(tmp_path / "ct", make.SeriesPlan(values=values, edit=edit, modality="CT"))
    np.testing.assert_array_equal(read_dicom(tmp_path / "mr").values, 4095.0 - values)
    np.testing.assert_array_equal(read_dicom(tmp_path / "ct").values, values)


@pytest.mark.parametrize(
    ("modality", "stored", "padding", "expected"),
    [("CT", -2000, -2000, -1000.0), ("CT", -2000, 63536, -1000.0), ("MR", -9, -9, 0.0)],
)
def test_padding_becomes_air_or_nothing(
    tmp_path: Path, modality: str, stored: int, padding: int, expected: float
) -> None:
    values = make.phantom()
    values[:3, :, :] = stored

    def edit(dataset: Dataset, k: int) -> None:
        dataset.add_new("PixelPaddingValue", "US" if padding > 32767 else "SS", padding)

    make.write_series(tmp_path, make.SeriesPlan(values=values, modality=modality, edit=edit))
    volume = read_dicom(tmp_path)
    assert (volume.values[:3] == expected).all()
    np.testing.assert_array_equal(volume.values[3:], values[3:])
    assert any("padding voxels" in note for note in volume.meta["notes"])


def test_small_drift_of_direction_cosines_is_repaired_and_noted(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(orientation=(1.0004, 0, 0, 0, 1, 0)))
    volume = read_dicom(tmp_path)
    directions = volume.affine[:3, :3] / volume.meta["spacing"]
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert any("made orthonormal" in note for note in volume.meta["notes"])


def test_rounded_positions_are_tolerated(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        z = float(dataset.ImagePositionPatient[2]) + 0.02 * (-1) ** k
        dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], round(z, 2)]

    make.write_series(tmp_path, make.SeriesPlan(edit=edit))
    assert read_dicom(tmp_path).meta["spacing"][2] == pytest.approx(4.0, abs=0.01)


def test_odd_dates_and_times_parse_or_are_none() -> None:
    assert str(parse_time("102731.687000")) == "10:27:31.687000"
    assert str(parse_time("1027")) == "10:27:00"
    assert str(parse_time("10:27:31")) == "10:27:31"
    assert str(parse_datetime("20240305110000.5+0100")) == "2024-03-05 11:00:00.500000"
    for bad in (None, "", "25", "102", "ZZPHI", "106100"):
        assert parse_time(bad) is None
    assert parse_datetime("20241305110000") is None


# --- frames -----------------------------------------------------------------------------------


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
    words = ["3 frames", "FrameReferenceTime 30000, 90000", "--frame 0 to 2", "--frame mean"]
    _assert_says(caught.value, "E_DYNAMIC", words)


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
    _assert_says(caught.value, "E_FRAME", ["no frame 3", "0 to 2"])


# --- refusals ---------------------------------------------------------------------------------


def _assert_says(error: MedfuseError, code: str, words: list[str]) -> None:
    text = str(error)
    assert error.code.startswith(code)
    assert "\n" not in text
    assert make.MARKER not in text
    assert error.remedy.rstrip(".") in text
    for word in words:
        assert word in text


def _drop(k: int) -> Callable[[Path], None]:
    return lambda folder: (folder / make.file_name(k)).unlink()


def _set(k: int, **tags: object) -> Callable[[Path], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in tags.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return lambda folder: make.edit_file(folder / make.file_name(k), change)


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


def _move(k: int, millimetres: float, axis: int = 2) -> Callable[[Path], None]:
    def change(dataset: Dataset) -> None:
        position = [float(v) for v in dataset.ImagePositionPatient]
        position[axis] += millimetres
        dataset.ImagePositionPatient = position

    return lambda folder: make.edit_file(folder / make.file_name(k), change)


def test_a_tilted_stack_becomes_the_straight_volume_that_was_scanned(tmp_path: Path) -> None:
    """The same blob, scanned straight and with the gantry leaning, lies at the same points."""

    def blob(points: np.ndarray) -> np.ndarray:
        return 1000 * np.exp(-((np.linalg.norm(points - [-10, 22, -26], axis=-1) / 9) ** 2))

    plan = make.SeriesPlan(np.zeros((24, 20, 6), np.int16))
    index = np.stack(np.meshgrid(*map(np.arange, (24, 20, 6)), indexing="ij"), -1)
    slide = index[..., 2:] * np.array([0.7, 1.0, 0.0])
    values = blob(np.array(plan.origin) + index * plan.spacing + slide).astype(np.int16)
    make.write_series(tmp_path, make.SeriesPlan(values))
    for k in range(6):
        _move(k, 0.7 * k, axis=0)(tmp_path)
        _move(k, 1.0 * k, axis=1)(tmp_path)
    volume = read_dicom(tmp_path)
    assert any("gantry tilt of 17.0 degrees was removed" in n for n in volume.meta["notes"])
    index = np.stack(np.meshgrid(*map(np.arange, volume.values.shape), indexing="ij"), -1)
    world = nib.affines.apply_affine(volume.affine, index) * [-1, -1, 1]
    inside = (index[..., 0] > 2) & (index[..., 0] < 22) & (index[..., 1] > 2) & (index[..., 1] < 18)
    assert np.abs(volume.values - blob(world))[inside].max() < 30, "linear interpolation of 1000"
    assert volume.values.shape == (24 + 3, 20 + 3, 6)


def test_a_tilt_against_the_axes_loses_no_slice(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    for k in range(make.SHAPE[2]):
        _move(k, -1.5 * k, axis=0)(tmp_path)
        _move(k, -2.25 * k, axis=1)(tmp_path)
    volume = read_dicom(tmp_path)
    stored = make.phantom()
    for k in range(make.SHAPE[2]):  # whole pixels: nothing is interpolated
        x, y = 5 - k, 5 - k
        assert np.array_equal(volume.values[x : x + 11, y : y + 8, k], stored[:, :, k])
        world = (volume.affine @ [x, y, k, 1])[:3] * [-1, -1, 1]
        assert world == pytest.approx(make.SeriesPlan().position(0, 0, k) - [1.5 * k, 2.25 * k, 0])


def test_real_head_ct_with_gantry_tilt_is_straightened_or_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    """The lower 14 slices: equal steps of 4 mm, gantry at 18.5 degrees."""
    series = shared_data / "volumes" / "ge-head-ct-tilt-dicom" / "ct"
    files = {p: pydicom.dcmread(p, stop_before_pixels=True) for p in series.iterdir()}
    lower = sorted(files, key=lambda p: files[p].ImagePositionPatient[2])[:14]
    for path in lower:
        shutil.copy(path, tmp_path)
    volume = read_dicom(tmp_path)
    assert any("gantry tilt of 18.5 degrees was removed" in n for n in volume.meta["notes"])
    assert volume.meta["spacing"] == pytest.approx([0.4882812, 0.4882812, 4.002], abs=1e-3)
    assert volume.values.shape == (512, 512 + 36, 14), "the last slice lies 17.4 mm further"
    header, pixel = files[lower[9]], (200, 260)
    stored = pydicom.dcmread(lower[9]).pixel_array * header.RescaleSlope + header.RescaleIntercept
    cosines = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    place = np.array(header.ImagePositionPatient, dtype=float) + 0.4882812 * (
        cosines[0] * pixel[1] + cosines[1] * pixel[0]
    )
    i, j, k = nib.affines.apply_affine(np.linalg.inv(volume.affine), place * [-1, -1, 1])
    assert (i, k) == (pytest.approx(260, abs=0.01), pytest.approx(9, abs=0.01))
    low = int(np.floor(j))
    between = (1 - (j - low)) * volume.values[260, low, 9] + (j - low) * volume.values[
        260, low + 1, 9
    ]
    around = stored[pixel[0] - 1 : pixel[0] + 2, pixel[1]]
    assert around.min() <= between <= around.max()
    with pytest.raises(GeometryError, match=r"18\.5 degrees .*--no-tilt-correction.*\[E_TILT\]"):
        read_dicom(tmp_path, tilt_correction=False)


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
    data = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0")
    path.write_bytes(data)


FIRST, THIRD = make.file_name(0), make.file_name(2)
FAULTS: list[tuple[str, Callable[[Path], object], str, list[str]]] = [
    (
        "missing slice",
        _drop(2),
        "E_MISSING_SLICE",
        ["gap of 8.00 mm", make.file_name(1), make.file_name(3), "4.00 mm", "--series"],
    ),
    (
        "two missing slices",
        lambda f: (_drop(2)(f), _drop(3)(f)),
        "E_MISSING_SLICE",
        ["gap of 12.00 mm", "2 slices missing?"],
    ),
    ("uneven step", _move(2, 0.9), "E_SPACING", ["3.100 to 4.900 mm", "Resample"]),
    (
        "duplicate",
        _copy_with_other_pixels,
        "E_DUPLICATE_SLICE",
        ["2 images with different pixels", "other.dcm", THIRD],
    ),
    ("one shifted slice", _move(2, 3.0, axis=0), "E_TILT", [THIRD, "3.00 mm off"]),
    (
        "no position",
        _set(2, ImagePositionPatient=None),
        "E_NO_POSITION",
        [THIRD, "ImagePositionPatient"],
    ),
    (
        "no orientation",
        _set(2, ImageOrientationPatient=None),
        "E_NO_POSITION",
        [THIRD, "ImageOrientationPatient"],
    ),
    ("no pixel spacing", _set(2, PixelSpacing=None), "E_SPACING", [THIRD, "PixelSpacing"]),
    ("zero pixel spacing", _set(2, PixelSpacing=[0, 1]), "E_SPACING", [THIRD, "positive"]),
    (
        "skewed cosines",
        lambda f: [
            _set(k, ImageOrientationPatient=[1, 0.1, 0, 0, 1, 0])(f) for k in range(make.SHAPE[2])
        ],
        "E_BAD_ORIENTATION",
        ["orthogonal", "cosine 0.1000"],
    ),
    (
        "turned slice",
        _set(2, ImageOrientationPatient=list(make.CORONAL)),
        "E_ORIENTATION_MIXED",
        ["2 orientations (5, 1 images)"],
    ),
    ("other pixel spacing", _set(2, PixelSpacing=[1, 1]), "E_SHAPE_MIXED", [THIRD, "1 x 1 mm"]),
    ("cut pixels", _truncate(THIRD, 0.97), "E_TRUNCATED", [THIRD, "of 176 bytes"]),
    ("cut header", _truncate(THIRD, 0.5), "E_TRUNCATED", [THIRD, "before its pixel data"]),
    ("empty file", _truncate(THIRD, 0.0), "E_EMPTY_FILE", [THIRD, "0 bytes"]),
    ("codec", _compressed, "E_CODEC", [make.file_name(1), "MPEG-4", "medfuse[codecs]"]),
    ("deflated", _deflated, "E_CODEC", [FIRST, "deflated"]),
    (
        "colour",
        _set(2, PhotometricInterpretation="RGB", SamplesPerPixel=3),
        "E_NOT_QUANTITATIVE",
        [THIRD],
    ),
    ("odd bits", _set(2, HighBit=7), "E_PHOTOMETRIC", [THIRD, "high bit 7"]),
    ("two frames of reference", _set(2, FrameOfReferenceUID="1.9"), "E_FRAME_OF_REFERENCE", ["2"]),
    ("two modalities", _set(2, Modality="CT"), "E_MODALITY_MIXED", ["different modalities"]),
    ("two persons in a series", _set(2, PatientID="x"), "E_MIXED_PATIENT", ["2 different"]),
    ("two persons in a folder", _second_person, "E_MIXED_PATIENT", ["2 different", "--series"]),
    ("one slice", _keep_one, "E_TOO_FEW_SLICES", ["1 slice", "whole series"]),
    ("all black", _all_black, "E_CONSTANT", ["value 0"]),
    ("zero slope", _set(2, RescaleSlope=0, RescaleIntercept=0), "E_RESCALE", [THIRD, "0, not"]),
    ("negative slope", _set(2, RescaleSlope=-2), "E_RESCALE", [THIRD, "-2, not"]),
    ("lookup table", _set(2, ModalityLUTSequence=[Dataset()]), "E_RESCALE", [THIRD, "LUT"]),
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
    _assert_says(caught.value, code, words)


@pytest.mark.parametrize("modality", ["CT", "PT"])
@pytest.mark.parametrize("value", [None, "NaN", "0"])
def test_values_without_a_sound_slope_have_no_unit(
    tmp_path: Path, modality: str, value: str | None
) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality=modality))
    _set(2, RescaleSlope=value)(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    _assert_says(caught.value, "E_RESCALE", [THIRD, "RescaleSlope"])


def test_a_volume_that_memory_cannot_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.write_series(tmp_path)
    monkeypatch.setattr("medfuse.imaging.volume.machine_memory", lambda: 5000)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    _assert_says(caught.value, "E_TOO_LARGE", ["11 x 8 x 6 voxels", "GB"])


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    make.write_series(tmp_path / "real")
    study = tmp_path / "study"
    study.mkdir()
    for path in (tmp_path / "real").iterdir():
        (study / path.name).symlink_to(path)
    (study / "loop").symlink_to(study)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(study)
    _assert_says(caught.value, "E_NO_IMAGES", ["6 link that leaves the folder"])


def test_a_series_that_is_not_there_is_refused_with_the_list(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path, series="99")
    _assert_says(caught.value, "E_SERIES_NOT_FOUND", ["'99'", "4 (MRI, 6 images"])


def test_two_series_of_one_number_are_told_apart_by_uid(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    make.write_series(tmp_path, make.SeriesPlan(series_uid="1.2.3.77777"), prefix="b")
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path, series="4")
    _assert_says(caught.value, "E_AMBIGUOUS_SERIES", ["2 series", ".3.77777"])
    assert read_dicom(tmp_path, series="77777").values.shape == make.SHAPE


def test_units_that_differ_between_slices_are_refused(tmp_path: Path) -> None:
    make.write_series(tmp_path, make.SeriesPlan(modality="PT"))
    _set(2, Units="GML")(tmp_path)
    with pytest.raises(MedfuseError) as caught:
        read_dicom(tmp_path)
    _assert_says(caught.value, "E_UNIT_MIXED", ["units", "PET series 4"])


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
        _assert_says(error, "E_", [])
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
