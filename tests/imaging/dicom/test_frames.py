"""Frames of a series: each on its own grid, whole ones usable, kinds and places never mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medfuse.errors import MedfuseError
from medfuse.imaging.dicom.series import describe_dicom, read_dicom
from tests._helpers import make
from tests._helpers.series import value_at

Shift = tuple[float, float, float]
Tags = Callable[[int, int], dict[str, Any]]
SLICES = make.SHAPE[2]


def time_points(t: int, k: int) -> dict[str, Any]:
    return {"TemporalPositionIdentifier": t + 1}


def numbers_alone(t: int, k: int) -> dict[str, Any]:
    return {}


def plans(times: int, shift: Callable[[int], Shift] = lambda t: (0, 0, 0)) -> list[make.SeriesPlan]:
    found = []
    for t in range(times):
        origin = tuple(float(a + b) for a, b in zip(make.ORIGIN_LPS, shift(t), strict=True))
        found.append(make.SeriesPlan(values=make.phantom() + np.int16(t), origin=origin))
    return found


def write(
    folder: Path, frames: list[make.SeriesPlan], tags: Tags, drop: tuple[tuple[int, int], ...] = ()
) -> None:
    """Write every plan as one frame; `drop` names (frame, slice) that are lost."""
    for t, plan in enumerate(frames):

        def edit(dataset: Dataset, k: int, t: int = t) -> None:
            dataset.SOPInstanceUID = f"8.{t}.{k}"
            dataset.InstanceNumber = 1 + SLICES * t + k
            for keyword, value in tags(t, k).items():
                setattr(dataset, keyword, value)

        make.write_series(folder, make.SeriesPlan(**{**vars(plan), "edit": edit}), prefix=f"{t}_")
    for t, k in drop:
        (folder / f"{t}_{make.file_name(k)}").unlink()


def error_of(folder: Path, frame: Any = None) -> MedfuseError:
    with pytest.raises(MedfuseError) as caught:
        read_dicom(folder, frame=frame)
    return caught.value


def assert_in_place(folder: Path, frame: int, plan: make.SeriesPlan) -> None:
    volume = read_dicom(folder, frame=frame)
    assert volume.values.shape == make.SHAPE
    for i, j, k in [(0, 0, 0), (10, 7, 5), (2, 6, 3), (9, 0, 1)]:
        assert value_at(volume, plan.position(i, j, k)) == plan.values[i, j, k]


@pytest.mark.parametrize(
    ("shift", "apart"),
    [
        (lambda t: (15.0 * t, 0, 0), "30.0"),
        (lambda t: (0, 100.0 * t, 0), "200.0"),
        (lambda t: (0, 0, 0.7 * t), "1.4"),
        (lambda t: (0, 0, 4.0 * t), "8.0"),
        (lambda t: (0, 0, 2.0 * (t == 1)), "2.0"),
        (lambda t: (0.3 * t, 0, 0.5 * t), "1.2"),
        (lambda t: (0, 0.2 * (t == 2), 0), "0.2"),
    ],
    ids=["15 mm aside", "100 mm up", "along", "one slice", "half a slice", "oblique", "0.2 mm"],
)
def test_a_frame_that_lies_elsewhere_lies_there(
    tmp_path: Path, shift: Callable[[int], Shift], apart: str
) -> None:
    frames = plans(3, shift)
    write(tmp_path, frames, time_points)
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)
    for frame, code in ((None, "E_DYNAMIC"), ("mean", "E_FRAMES_DIFFER")):
        error = error_of(tmp_path, frame)
        assert error.code == code
        assert f"different places, up to {apart} mm apart" in str(error)
        assert "frame=mean" not in error.remedy


def test_rounding_apart_frames_have_a_mean(tmp_path: Path) -> None:
    write(tmp_path, plans(3, lambda t: (0.02 * t, 0, 0.004 * t)), time_points)
    expected = np.mean([p.values for p in plans(3)], axis=0)
    np.testing.assert_allclose(read_dicom(tmp_path, frame="mean").values, expected, rtol=1e-6)


def test_a_turned_frame_keeps_its_own_direction(tmp_path: Path) -> None:
    turn = np.radians(2.0)
    turned = (1.0, 0.0, 0.0, 0.0, float(np.cos(turn)), float(np.sin(turn)))
    frames = [make.SeriesPlan(), make.SeriesPlan(orientation=turned)]
    write(tmp_path, frames, time_points)
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)
    assert error_of(tmp_path, "mean").code == "E_FRAMES_DIFFER"


TELLING: dict[str, Tags] = {
    "time points": time_points,
    "PET times": lambda t, k: {"FrameReferenceTime": 60000 * t},
    "clock": lambda t, k: {"AcquisitionDate": "20240305", "AcquisitionTime": f"1100{t:02d}"},
    "acquisitions": lambda t, k: {"AcquisitionNumber": t + 1},
    "echoes": lambda t, k: {"EchoTime": 5 + t},
    "numbers alone": numbers_alone,
    "numbers, and a time of each slice": lambda t, k: {
        "AcquisitionDate": "20240305", "AcquisitionTime": f"11{t:02d}{k:02d}"
    },
}  # fmt: skip


def _name_of(tags: Tags) -> str:
    return next(name for name, found in TELLING.items() if found is tags)


@pytest.mark.parametrize("tags", TELLING.values(), ids=TELLING)
@pytest.mark.parametrize(
    "drop",
    [((2, 4), (2, 5)), ((1, 3),), ((0, 0),), ((2, 0), (2, 1), (2, 2), (2, 3), (2, 4))],
    ids=["stopped", "lost in the middle", "lost at the start", "one slice left"],
)
def test_whole_frames_beside_an_incomplete_one_are_read(
    tmp_path: Path, tags: Tags, drop: tuple[tuple[int, int], ...]
) -> None:
    frames = plans(3)
    write(tmp_path, frames, tags, drop)
    broken = drop[0][0]
    if drop == ((0, 0),) and "numbers" in _name_of(tags):
        error = error_of(tmp_path, 1)  # nothing says to which frame the first image belongs
        assert error.code in ("E_MISSING_SLICE", "E_DUPLICATE_SLICE")
        return
    for t in {0, 1, 2} - {broken}:
        assert_in_place(tmp_path, t, frames[t])
    lacking = f"frame {broken} ({SLICES - len(drop)} of 6 slices)"
    assert error_of(tmp_path, broken).code == "E_MISSING_SLICE"
    assert error_of(tmp_path).code == "E_DYNAMIC"
    assert lacking in str(error_of(tmp_path))
    mean = read_dicom(tmp_path, frame="mean")
    whole = [p.values for t, p in enumerate(frames) if t != broken]
    np.testing.assert_allclose(mean.values, np.mean(whole, axis=0), rtol=1e-6)
    assert any("mean of 2 frames" in note for note in mean.meta["notes"])
    assert any(f"missing in {lacking}: left out" in note for note in mean.meta["notes"])
    (entry,) = describe_dicom(tmp_path)
    assert (entry["frames"], entry["shape"]) == (3, [11, 8, 6])


def test_of_two_frames_the_whole_one_is_read_and_has_no_mean(tmp_path: Path) -> None:
    write(tmp_path, plans(2), time_points, drop=((1, 5),))
    assert_in_place(tmp_path, 0, plans(2)[0])
    assert error_of(tmp_path, "mean").code == "E_FRAMES_DIFFER"
    assert "frame=mean" not in error_of(tmp_path).remedy


def test_a_slice_that_every_frame_lacks_is_missed(tmp_path: Path) -> None:
    write(tmp_path, plans(3), time_points, drop=((0, 3), (1, 3), (2, 3)))
    error = error_of(tmp_path, 0)
    assert error.code == "E_MISSING_SLICE"
    assert "gap of 8.00 mm" in str(error)


@pytest.mark.parametrize("step", ["multiband", "beds"])
def test_packages_of_slices_are_no_frames(tmp_path: Path, step: str) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        package = k % 6 if step == "multiband" else k // 6
        dataset.AcquisitionNumber = package + 1
        dataset.AcquisitionDate, dataset.AcquisitionTime = "20240305", f"1100{package:02d}"

    values = make.phantom((11, 8, 12))
    make.write_series(tmp_path, make.SeriesPlan(values=values, edit=edit))
    np.testing.assert_array_equal(read_dicom(tmp_path).values, values)
    (tmp_path / make.file_name(4, 12)).unlink()
    assert error_of(tmp_path).code == "E_MISSING_SLICE"


@pytest.mark.parametrize(
    "types",
    [
        (["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "P", "ND"]),
        (["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"], ["ORIGINAL", "PRIMARY", "P_FFE", "P"]),
        (["DERIVED", "PRIMARY", "DIXON", "WATER"], ["DERIVED", "PRIMARY", "DIXON", "FAT"]),
        (["ORIGINAL", "PRIMARY", "OTHER"], ["DERIVED", "SECONDARY", "ADC"]),
    ],
    ids=["Siemens", "Philips", "Dixon", "map"],
)
def test_images_of_two_kinds_are_frames_without_a_mean(
    tmp_path: Path, types: tuple[list[str], list[str]]
) -> None:
    frames = plans(2)
    write(tmp_path, frames, lambda t, k: {"ImageType": types[t]})
    read = sorted(float(read_dicom(tmp_path, frame=t).values.min()) for t in (0, 1))
    assert read == [1.0, 2.0]
    assert error_of(tmp_path).code == "E_DYNAMIC"
    error = error_of(tmp_path, "mean")
    assert error.code == "E_FRAMES_DIFFER"
    assert "different kinds" in str(error)


def test_a_few_derived_images_in_a_series_leave_the_scan_usable(tmp_path: Path) -> None:
    make.write_series(tmp_path)
    for k in range(2):
        dataset = make.slice_dataset(make.SeriesPlan(orientation=make.CORONAL), k)
        dataset.ImageType = ["DERIVED", "SECONDARY", "MPR"]
        make.save(dataset, tmp_path / f"reformat{k}.dcm")
    error = error_of(tmp_path)
    assert error.code == "E_DYNAMIC"
    assert "(other images, derived, reformatted); the frames have different sizes" in str(error)
    assert_in_place(tmp_path, 0, make.SeriesPlan())


@pytest.mark.parametrize("slices", [1, 3, 6])
@pytest.mark.parametrize("told", [False, True])
def test_a_localizer_is_refused_by_its_name(tmp_path: Path, slices: int, told: bool) -> None:
    for n, orientation in enumerate((make.AXIAL, make.CORONAL, make.SAGITTAL)):

        def edit(dataset: Dataset, k: int, n: int = n) -> None:
            dataset.SOPInstanceUID, dataset.AcquisitionNumber = f"9.{n}.{k}", n + 1
            if told:
                dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

        values = make.phantom((11, 8, slices))
        plan = make.SeriesPlan(values=values, orientation=orientation, edit=edit)
        make.write_series(tmp_path, plan, prefix=str(n))
    for frame in (None, 0):
        error = error_of(tmp_path, frame)
        assert error.code == "E_ORIENTATION_MIXED"
        assert "localizer" in str(error)


@pytest.mark.parametrize("order", ["time by time", "slice by slice"])
def test_blank_slices_that_look_alike_are_no_copies(tmp_path: Path, order: str) -> None:
    frames = plans(3)
    for plan in frames:
        plan.values[:, :, 5] = 0

    def tags(t: int, k: int) -> dict[str, Any]:
        number = SLICES * t + k if order == "time by time" else 3 * k + t
        return {"InstanceNumber": 1 + number}

    write(tmp_path, frames, tags)
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)


def _write_enhanced(path: Path, frames: list[make.SeriesPlan], change: Any = None) -> None:
    """One enhanced file of several time points; `change` is applied to each functional group."""
    groups, pixels = [], []
    for t, plan in enumerate(frames):
        for k in range(SLICES):
            position, content, group = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = [float(v) for v in plan.position(0, 0, k)]
            content.TemporalPositionIndex = t + 1
            group.PlanePositionSequence = DicomSequence([position])
            group.FrameContentSequence = DicomSequence([content])
            if change:
                change(group, t, k)
            groups.append(group)
            pixels.append(plan.values[:, :, k].T)
    make.write_enhanced(path, make.SeriesPlan(), range(SLICES))

    def edit(dataset: Dataset) -> None:
        make.set_pixels(dataset, np.stack(pixels))
        dataset.NumberOfFrames = len(groups)
        dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
        transform = dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
        transform.RescaleSlope, transform.RescaleIntercept = 1, 0

    make.edit_file(path, edit)


def test_enhanced_frames_keep_their_places(tmp_path: Path) -> None:
    frames = plans(2, lambda t: (15.0 * t, 0, 0))
    _write_enhanced(tmp_path / "all.dcm", frames)
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)
    assert error_of(tmp_path, "mean").code == "E_FRAMES_DIFFER"


def test_enhanced_frames_without_times_come_in_their_order(tmp_path: Path) -> None:
    frames = plans(3)
    _write_enhanced(
        tmp_path / "all.dcm", frames, lambda g, t, k: g.__delitem__("FrameContentSequence")
    )
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)


def test_one_enhanced_file_for_each_time_point_is_a_frame_each(tmp_path: Path) -> None:
    frames = plans(3)
    for t, plan in enumerate(frames):
        path = tmp_path / f"{9 - t}.dcm"
        _write_enhanced(path, [plan])
        make.edit_file(path, lambda d, t=t: setattr(d, "InstanceNumber", t + 1))
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)


def test_magnitude_and_phase_of_an_enhanced_file_are_kinds(tmp_path: Path) -> None:
    def change(group: Dataset, t: int, k: int) -> None:
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "MP"[t], "NONE"]
        group.MRImageFrameTypeSequence = DicomSequence([kind])
        group.FrameContentSequence[0].TemporalPositionIndex = 1

    frames = plans(2)
    _write_enhanced(tmp_path / "all.dcm", frames, change)
    for t, plan in enumerate(frames):
        assert_in_place(tmp_path, t, plan)
    assert "magnitude, phase" in str(error_of(tmp_path, "mean"))
