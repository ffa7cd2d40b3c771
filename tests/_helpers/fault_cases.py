"""The faults that archives and disks hand to a loader: one table, one generator for each.

Numbers are those of the fault list that the reader was designed against; 61 and above are further
ones. A fault has either a code, with which its case must end, or a note, with which it must load.
"""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import MPEG4HP41, EnhancedPETImageStorage, SecondaryCaptureImageStorage

from tests._helpers import make

Build = Callable[[Path], object]


@dataclass(frozen=True)
class Fault:
    """One faulty functional image.

    Attributes
    ----------
    make : callable
        Fills the folder of the case, which holds ``pet`` or `image` afterwards.
    image : str
        The input, relative to that folder.
    """

    number: int
    what: str
    make: Build
    code: str | None = None
    words: tuple[str, ...] = ()
    image: str = "pet"
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its case."""
        return f"{self.number:02d}-{self.what.replace(' ', '-')}"


def pet(folder: Path, **options: Any) -> make.SeriesPlan:
    """A sound PET series in ``folder/pet``."""
    return make.write_series(folder / "pet", make.SeriesPlan(modality="PT", **options))


def edited(change: Callable[[Dataset], object], *slices: int) -> Build:
    """A series of which some slices (default: all) are changed."""

    def build(folder: Path) -> None:
        pet(folder)
        for k in slices or range(make.SHAPE[2]):
            make.edit_file(folder / "pet" / make.file_name(k), change)

    return build


def tags(*slices: int, **values: object) -> Build:
    """A series of which some slices (default: all) have other values."""

    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return edited(change, *slices)


def isotope(**values: object) -> Build:
    """A series whose radiopharmaceutical item has other values."""
    return edited(lambda d: [setattr(make.isotope_of(d), k, v) for k, v in values.items()])


def raw(change: Callable[[bytes], bytes], k: int = 2) -> Build:
    """A series one file of which has other bytes."""

    def build(folder: Path) -> None:
        pet(folder)
        path = folder / "pet" / make.file_name(k)
        path.write_bytes(change(path.read_bytes()))

    return build


def also(change: Callable[[Path], object]) -> Build:
    """A sound series, and then something more in its folder."""

    def build(folder: Path) -> None:
        pet(folder)
        change(folder / "pet")

    return build


def nifti(values: np.ndarray | None = None, **header: object) -> Build:
    """``pet.nii.gz`` with other values or header fields."""

    def edit(fields: nib.Nifti1Header) -> None:
        for name, value in header.items():
            fields[name] = value

    return lambda folder: make.write_nifti(folder / "pet.nii.gz", values, edit)


def nifti_bytes(change: Callable[[bytes], bytes], name: str = "pet.nii.gz") -> Build:
    """A NIfTI file with other bytes."""

    def build(folder: Path) -> None:
        path = folder / "pet.nii.gz"
        make.write_nifti(path)
        content = change(path.read_bytes())
        path.unlink()
        (folder / name).write_bytes(content)

    return build


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def _moved(millimetres: float, axis: int) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        position = [float(v) for v in dataset.ImagePositionPatient]
        position[axis] += millimetres
        dataset.ImagePositionPatient = position

    return change


def _without_preamble(data: bytes) -> bytes:
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    return data[start:]


def _frames(count: int, **by_frame: Callable[[int], object]) -> Build:
    """`count` images at every position, told apart by tags."""

    def build(folder: Path) -> None:
        for frame in range(count):

            def change(dataset: Dataset, k: int, frame: int = frame) -> None:
                dataset.SOPInstanceUID = f"1.2.3.{frame}.{k + 1}"
                dataset.PixelData = (make.phantom()[:, :, k].T + frame).astype("i2").tobytes()
                for keyword, value in by_frame.items():
                    setattr(dataset, keyword, value(frame))

            plan = make.SeriesPlan(modality="PT", edit=change)
            make.write_series(folder / "pet", plan, prefix=f"f{frame}-")

    return build


def _two_series(folder: Path) -> None:
    pet(folder)
    make.write_series(
        folder / "pet", make.SeriesPlan(modality="PT", number=5, series_uid="1.2.3.5"), prefix="b"
    )


def _two_persons(folder: Path) -> None:
    pet(folder)
    make.write_series(
        folder / "pet", make.SeriesPlan(modality="PT", patient="2", series_uid="1.2.3.5"), "b"
    )


def _drop(k: int) -> Callable[[Path], None]:
    return lambda series: (series / make.file_name(k)).unlink()


def _copy(change: Callable[[Dataset], object] | None = None) -> Callable[[Path], None]:
    def build(series: Path) -> None:
        shutil.copy(series / make.file_name(2), series / "copy.dcm")
        if change:
            make.edit_file(series / "copy.dcm", change)

    return build


def _pictures(series: Path) -> None:
    plan = make.SeriesPlan(modality="PT", orientation=make.CORONAL)
    dataset = make.slice_dataset(plan, 0)
    dataset.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    make.save(dataset, series / "zz.dcm")


def _localiser(series: Path) -> None:
    plan = make.SeriesPlan(modality="PT", orientation=make.CORONAL, series_uid="1.2.9", number=1)
    dataset = make.slice_dataset(plan, 0)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    make.save(dataset, series / "scout.dcm")


def _junk(series: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "readme.txt", "x.dcm", "DICOMDIR"):
        (series / name).write_bytes(b"not an image at all")
    report = make.base_dataset("CT", "1.2.8", 9, "1", 1)
    report.Modality = "SR"
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    make.save(report, series / "report.dcm")


def _links(series: Path) -> None:
    os.symlink(series, series / "loop")
    os.symlink(series / make.file_name(0), series / "again.dcm")


def _archive(folder: Path) -> None:
    pet(folder)
    with zipfile.ZipFile(folder / "pet.zip", "w") as archive:
        for path in (folder / "pet").iterdir():
            archive.write(path, f"../../{path.name}")


def _enhanced(folder: Path, **without: bool) -> None:
    plan = make.SeriesPlan(modality="MR")
    make.write_enhanced(folder / "pet.dcm", plan, range(make.SHAPE[2]))
    if without:
        make.edit_file(folder / "pet.dcm", _no_groups)


def _no_groups(dataset: Dataset) -> None:
    dataset.SOPClassUID = EnhancedPETImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedPETImageStorage
    dataset.Modality = "PT"
    del dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence


def _codec(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.PixelData = pydicom.encaps.encapsulate([b"no real stream "])


def _bomb(dataset: Dataset) -> None:
    dataset.Rows = dataset.Columns = 65000
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(64) + b"\x81\0" * 100])


def _deflated(data: bytes) -> bytes:
    return data.replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99")


def _screenshot(dataset: Dataset) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PlanarConfiguration, dataset.PixelRepresentation = 0, 0
    dataset.PixelData = bytes(3 * dataset.Rows * dataset.Columns)


def _secondary(dataset: Dataset) -> None:
    _screenshot(dataset)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage


def _rubbish_bits(dataset: Dataset) -> None:
    stored = dataset.pixel_array.astype("u2")
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.PixelData = (stored | 0xF000).tobytes()


def _sheared_nifti(folder: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.4
    image = nib.Nifti1Image(make.phantom(), None)
    image.header.set_sform(affine, code=1)
    nib.save(image, folder / "pet.nii.gz")


def _frames_nifti(count: int) -> np.ndarray:
    return np.stack([make.phantom() + n for n in range(count)], axis=-1).astype("f4")


def _rgb_nifti(folder: Path) -> None:
    colour = np.zeros(make.SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), folder / "pet.nii.gz")


def _far_away(folder: Path) -> None:
    pet(folder, origin=(900.0, 13.0, -37.5))


def _unreadable(folder: Path) -> None:
    pet(folder)
    (folder / "pet" / make.file_name(2)).chmod(0)


def _nans(share: float) -> np.ndarray:
    values = make.phantom().astype("f4")
    values[3:8, 2:6, 1:5].flat[: int(share * 80)] = np.inf
    return values


EVERY = range(make.SHAPE[2])
THIRD = make.file_name(2)
UNICODE = "צילום שיתוף 한글 é " * 6
FAULTS: tuple[Fault, ...] = (
    # files and folders
    Fault(1, "empty folder", lambda f: (f / "pet").mkdir(), "E_NO_IMAGES", ("no file at all",)),
    Fault(2, "no such path", lambda f: None, "E_UNREADABLE", ("no such file",)),
    Fault(3, "zero bytes", nifti_bytes(lambda d: b""), "E_EMPTY_FILE", ("0 bytes",), "pet.nii.gz"),
    Fault(3, "zero bytes dicom", raw(lambda d: b""), "E_EMPTY_FILE", (THIRD,)),
    Fault(
        4, "half a gz", nifti_bytes(lambda d: d[: len(d) // 2]), "E_TRUNCATED", ("bytes",),
        "pet.nii.gz",
    ),
    Fault(5, "flipped bit", nifti_bytes(_flipped), "E_CORRUPT", ("checksum",), "pet.nii.gz"),
    Fault(6, "cut pixels", raw(lambda d: d[:-40]), "E_TRUNCATED", (THIRD, "of 176 bytes")),
    Fault(7, "junk beside", also(_junk), note="6 other files in the folder were ignored"),
    Fault(8, "dcm that is none", lambda f: (f / "pet").mkdir() or _junk(f / "pet"), "E_NO_IMAGES",
          ("5 not DICOM",)),
    Fault(9, "no preamble", raw(_without_preamble), "E_NOT_DICOM", (THIRD, "preamble")),
    Fault(10, "gz named nii", nifti_bytes(lambda d: d, "pet.nii"), image="pet.nii", note="gzip"),
    Fault(
        11, "unicode names", lambda f: pet(f) and (f / "pet").rename(f / UNICODE), image=UNICODE,
    ),
    Fault(12, "links", also(_links)),
    Fault(13, "zip", _archive, "E_ARCHIVE", ("zip archive",), "pet.zip"),
    # series structure
    Fault(15, "two series", _two_series, "E_AMBIGUOUS_SERIES", ("4 (PET, 6", "series")),
    Fault(16, "two persons", _two_persons, "E_MIXED_PATIENT", ("2 different",)),
    Fault(17, "another person", tags(PatientID="x"), "E_MIXED_PATIENT", ("patient_mismatch",)),
    Fault(18, "missing slice", also(_drop(2)), "E_MISSING_SLICE", ("gap of 8.00 mm", "4.00 mm")),
    Fault(19, "copied slice", also(_copy()), note="1 images are copies"),
    Fault(
        19, "two at one place", also(_copy(lambda d: setattr(d, "PixelData", bytes(176)))),
        "E_DUPLICATE_SLICE", ("copy.dcm", THIRD),
    ),
    Fault(
        20, "dynamic", _frames(3, FrameReferenceTime=lambda n: 60000 * n), "E_DYNAMIC",
        ("3 frames", "from 0 to 2 with"),
    ),
    Fault(21, "echoes", _frames(2, EchoTime=lambda n: 5 + n), "E_DYNAMIC", ("EchoTime 5, 6",)),
    Fault(22, "tilt", also(lambda s: [
        make.edit_file(s / make.file_name(k), _moved(1.0 * k, 1)) for k in EVERY
    ]), note="gantry tilt of 14.0 degrees was removed"),
    Fault(22, "tilt refused", also(lambda s: [
        make.edit_file(s / make.file_name(k), _moved(1.0 * k, 1)) for k in EVERY
    ]), "E_TILT", ("14.0 degrees",), settings={"tilt_correction": False}),
    Fault(23, "uneven steps", edited(_moved(0.9, 2), 2), "E_SPACING", ("3.100 to 4.900 mm",)),
    Fault(
        24, "turned slice", tags(2, ImageOrientationPatient=list(make.CORONAL)),
        "E_ORIENTATION_MIXED", ("2 orientations (5, 1 images)",),
    ),
    Fault(24, "localiser", also(_localiser), note="1 localiser"),
    Fault(25, "no position", tags(2, ImagePositionPatient=None), "E_NO_POSITION", (THIRD,)),
    Fault(
        26, "skewed cosines", tags(ImageOrientationPatient=[1, 0.1, 0, 0, 1, 0]),
        "E_BAD_ORIENTATION", ("cosine 0.1000",),
    ),
    Fault(
        26, "rounded cosines", tags(ImageOrientationPatient=[1.0004, 0, 0, 0, 1, 0]),
        note="made orthonormal",
    ),
    Fault(27, "other pixel size", tags(2, PixelSpacing=[1, 1]), "E_SHAPE_MIXED", ("1 x 1 mm",)),
    Fault(28, "enhanced", _enhanced, image="pet.dcm"),
    Fault(28, "no functional groups", lambda f: _enhanced(f, groups=True), "E_NO_POSITION",
          ("6 frames",), "pet.dcm"),
    Fault(29, "screen save", also(_pictures), note="1 localisers, screen saves"),
    Fault(30, "no codec", edited(_codec, 2), "E_CODEC", (THIRD, "MPEG-4", "a film")),
    Fault(31, "compressed bomb", edited(_bomb), "E_TOO_LARGE", ("65000 x 65000", "GB")),
    Fault(31, "deflated", raw(_deflated), "E_CODEC", ("deflated",)),
    Fault(32, "odd bits", tags(2, HighBit=7), "E_PHOTOMETRIC", ("high bit 7",)),
    Fault(32, "unknown photometric", tags(PhotometricInterpretation="HSV"), "E_PHOTOMETRIC"),
    Fault(32, "rubbish in high bits", edited(_rubbish_bits)),
    Fault(33, "no slope", tags(2, RescaleSlope=None), "E_RESCALE", ("missing",)),
    Fault(33, "zero slope", tags(2, RescaleSlope=0), "E_RESCALE", (THIRD,)),
    Fault(34, "screenshot", edited(_screenshot), "E_NOT_QUANTITATIVE", ("in color",)),
    Fault(34, "secondary capture", edited(_secondary), "E_NOT_QUANTITATIVE", ("pictures",)),
    # NIfTI
    Fault(35, "two forms", nifti(qform_code=1, qoffset_x=40), image="pet.nii.gz",
          note="the sform was taken"),
    Fault(36, "no orientation", nifti(sform_code=0, qform_code=0), "E_NO_ORIENTATION",
          ("assume_identity",), "pet.nii.gz"),
    Fault(36, "assumed orientation", nifti(sform_code=0, qform_code=0), image="pet.nii.gz",
          settings={"assume_identity": True}, note="as stated by the user"),
    Fault(37, "sheared", _sheared_nifti, "E_BAD_AFFINE", ("sheared",), "pet.nii.gz"),
    Fault(37, "zero pixdim", nifti(pixdim=[1, 0, 1, 1, 0, 0, 0, 0], sform_code=0, qform_code=1),
          "E_BAD_AFFINE", ("pixdim is 0",), "pet.nii.gz"),
    Fault(37, "zero pixdim beside an sform", nifti(pixdim=[1, 0, 1, 1, 0, 0, 0, 0]),
          image="pet.nii.gz", note="the sform was taken"),
    Fault(38, "one frame", nifti(_frames_nifti(1)), image="pet.nii.gz"),
    Fault(38, "many frames", nifti(_frames_nifti(3)), "E_DYNAMIC", ("3 frames",), "pet.nii.gz"),
    Fault(38, "two axes", nifti(dim=[2, 11, 48, 1, 1, 1, 1, 1]), "E_NOT_A_VOLUME", ("11 x 48",),
          "pet.nii.gz"),
    Fault(39, "metres", nifti(xyzt_units=1), "E_BAD_AFFINE", ("mm",), "pet.nii.gz"),
    Fault(39, "no length unit", nifti(xyzt_units=0), image="pet.nii.gz",
          note="millimetres assumed"),
    Fault(40, "no scaling", nifti(scl_slope=0, scl_inter=7), image="pet.nii.gz",
          note="taken as they are"),
    Fault(41, "huge", nifti(dim=[3, 30000, 30000, 3000, 1, 1, 1, 1]), "E_TOO_LARGE", ("GB",),
          "pet.nii.gz"),
    Fault(42, "labels", nifti(intent_code=1002), "E_DTYPE", ("label",), "pet.nii.gz"),
    Fault(42, "colour", _rgb_nifti, "E_DTYPE", ("RGB",), "pet.nii.gz"),
    # values
    Fault(43, "holes", nifti(_nans(1)), "E_NONFINITE", ("NaN or infinite",), "pet.nii.gz"),
    Fault(44, "constant", nifti(np.full(make.SHAPE, 7, "f4")), "E_CONSTANT", ("value 7",),
          "pet.nii.gz"),
    Fault(45, "negative", tags(RescaleIntercept=-3), note="are negative"),
    Fault(46, "no weight", tags(PatientWeight=None), note="SUV not available: PatientWeight"),
    Fault(46, "grams", tags(PatientWeight=70000), note="plausible are 1 to 400"),
    Fault(46, "dose in MBq", isotope(RadionuclideTotalDose=300), note="SUV not available"),
    Fault(46, "injected after the scan", isotope(
        RadiopharmaceuticalStartDateTime="20240305120000"), note="SUV not available"),
    Fault(46, "midnight", isotope(RadiopharmaceuticalStartTime="233000"),
          note="SUV not available"),
    Fault(46, "unknown nuclide", isotope(RadionuclideHalfLife=1234567, RadionuclideCodeSequence=[]),
          note="SUV not available"),
    Fault(47, "counts", tags(Units="CNTS"), note="SUV not available"),
    Fault(47, "no decay correction", tags(DecayCorrection="NONE"), note="SUV not available"),
    Fault(47, "no attenuation correction", tags(CorrectedImage=["DECY"]), note="no ATTN"),
    Fault(46, "suv demanded", tags(PatientWeight=None), "E_SUV", ("PatientWeight",),
          settings={"unit": "suv"}),
    # geometry
    Fault(50, "far away", _far_away, "E_NO_OVERLAP", ("mm apart",),
          settings={"registration": "identity"}),
    Fault(54, "one slice", also(lambda s: [_drop(k)(s) for k in EVERY if k]), "E_TOO_FEW_SLICES",
          ("1 slice position",)),
    Fault(56, "huge series", tags(Rows=65000, Columns=65000), "E_TRUNCATED", ("bytes",)),
    # further ones
    Fault(61, "zero spacing", tags(2, PixelSpacing=[0, 1]), "E_SPACING", ("positive",)),
    Fault(62, "mixed units", tags(2, Units="CNTS"), "E_UNIT_MIXED", ("units",)),
    Fault(63, "negative slope", tags(2, RescaleSlope=-2), "E_RESCALE", ("-2",)),
    Fault(64, "non-finite affine", nifti(srow_x=[np.nan] * 4), "E_BAD_AFFINE", ("NaN",),
          "pet.nii.gz"),
    Fault(65, "cut header", raw(lambda d: d[: len(d) // 2]), "E_TRUNCATED", (THIRD,)),
    Fault(66, "two modalities", tags(2, Modality="CT"), "E_MODALITY_MIXED"),
    Fault(67, "two frames of reference", tags(2, FrameOfReferenceUID="1.9"),
          "E_FRAME_OF_REFERENCE"),
    Fault(68, "text in numbers", edited(lambda d: d.add_new(0x00281053, "LO", "one"), 2),
          "E_RESCALE"),
    Fault(69, "gz of nothing", lambda f: (f / "pet.nii.gz").write_bytes(gzip.compress(b"")),
          "E_TRUNCATED", (), "pet.nii.gz"),
    Fault(70, "html", lambda f: (f / "pet.nii.gz").write_bytes(b"<!doctype html><html>"),
          "E_NOT_NIFTI", ("HTML",), "pet.nii.gz"),
    Fault(71, "unreadable", _unreadable, "E_UNREADABLE", ("permission",)),
)  # fmt: skip

#: Faults of the machine and of whole runs, which one file cannot show, and the tests for them.
ELSEWHERE = {
    14: "study/test_study.py::test_a_line_that_cannot_be_used_fails_alone",
    48: "imaging/test_windows.py::test_metal_and_background_do_not_set_the_scale_of_mr",
    49: "case/test_laterality.py::test_the_left_spot_is_left_in_every_output",
    51: "registration/test_result.py::test_resampling_is_trilinear_and_never_extrapolates",
    52: "registration/test_quality.py::test_each_rule_alone_makes_a_result_suspect_and_says_why",
    53: "registration/test_strategy.py::"
    "test_headers_of_one_frame_are_kept_and_doubted_where_the_images_contradict",
    55: "kernel/test_pyramid.py::test_collapse_restores_the_image_for_every_size_level_and_kernel",
    57: "batch/test_faults.py::test_a_full_disk_is_named_and_a_rerun_with_space_completes",
    58: "batch/test_faults.py::"
    "test_a_parent_that_is_killed_again_and_again_loses_running_cases_alone",
    59: "batch/test_faults.py::test_a_second_batch_on_the_same_output_is_told_who_holds_it",
    60: "methods/test_zoo.py::test_pickle_under_a_false_name_is_refused",
}
