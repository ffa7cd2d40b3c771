"""Mutated files: only a `MedfuseError` may come out, soon, or the volume that the file means.

A short run is part of the tests; ``make fuzz`` goes on for MEDFUSE_FUZZ_MINUTES.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfuse.imaging.volume import Volume
from tests._helpers import make
from tests._helpers.fuzz import assert_is_what_nibabel_reads, fuzz, load, quick, set_values

SHAPE = (5, 4, 4)
ODD_TEXTS = ["", "0", "-1", "1e400", "NaN", "abc", "1\\2", "1\\0\\0", "1\\0\\0\\0\\1\\0", "9" * 40]
ODD_TEXTS += ["MONOCHROME1", "RGB", "START", "1.2.840.10008.1.2.4.70", "\x00", "19990231", "250000"]
ODD_BYTES = [0, 1, 2, 3, 0x7F, 0x80, 0xFF]
_TAG_NAMES = """
    Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel
    PhotometricInterpretation PixelSpacing ImagePositionPatient ImageOrientationPatient
    RescaleSlope RescaleIntercept NumberOfFrames Modality SOPClassUID SeriesInstanceUID ImageType
    InstanceNumber SeriesNumber PatientWeight Units DecayCorrection CorrectedImage AcquisitionTime
    SeriesTime SeriesDate PatientID FrameOfReferenceUID PixelPaddingValue SpacingBetweenSlices
    SliceVector SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    RadiopharmaceuticalInformationSequence DetectorInformationSequence FrameReferenceTime
    ModalityLUTSequence LossyImageCompression
"""
TAGS = _TAG_NAMES.split()


def write_dicom(folder: Path, kind: str) -> list[Path]:
    plan = make.SeriesPlan(make.phantom(SHAPE), kind if kind in ("CT", "PT") else "MR")
    folder.mkdir()
    if kind == "enhanced":
        make.write_enhanced(folder / "0.dcm", plan, range(SHAPE[2]))
    elif kind == "NM":
        make.write_nm(folder / "0.dcm", plan)
    else:
        make.write_series(folder, plan)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    root = tmp_path_factory.mktemp("originals")
    found = {
        kind: {p.name: p.read_bytes() for p in write_dicom(root / kind, kind)}
        for kind in ("MR", "CT", "PT", "NM", "enhanced")
    }
    make.write_nifti(root / "t1.nii", make.phantom(SHAPE).astype("f4"))
    make.write_nifti(root / "t1.nii.gz", make.phantom(SHAPE).astype("f4"))
    return found | {"NIfTI": {n: (root / n).read_bytes() for n in ("t1.nii", "t1.nii.gz")}}


byte_edits = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.sampled_from(ODD_BYTES), st.integers(0, 255))),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[float, int]], keep: float) -> bytes:
    """Overwrite bytes at relative places and cut the end off."""
    changed = bytearray(data)
    for place, value in edits:
        changed[int(place * (len(data) - 1))] = value
    return bytes(changed[: int(len(data) * keep)])


def assert_is_what_the_files_mean(volume: Volume, paths: list[Path]) -> None:
    """Each slice lies where its own header says and holds its own pixels, straightened or not."""
    inverse = np.linalg.inv(volume.affine)
    seen = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        place = np.array([float(v) for v in dataset.ImagePositionPatient]) * [-1, -1, 1]
        i, j, k = nib.affines.apply_affine(inverse, place)
        assert abs(k - round(k)) < 0.11, path.name
        assert 0 <= round(k) < volume.values.shape[2]
        seen.append(round(k))
        if any("tilt" in note for note in volume.meta["notes"]):
            continue
        assert max(abs(i), abs(j)) * max(volume.meta["spacing"]) < 1
        assert volume.values.shape[:2] == (dataset.Columns, dataset.Rows)
        if (
            dataset.get("PhotometricInterpretation") == "MONOCHROME2"
            and "PixelPaddingValue" not in dataset
        ):
            values = dataset.pixel_array * float(dataset.get("RescaleSlope") or 1)
            values = values + float(dataset.get("RescaleIntercept") or 0)
            np.testing.assert_allclose(volume.values[:, :, round(k)].T, values, rtol=1e-5)
    assert set(seen) == set(range(volume.values.shape[2]))


@pytest.mark.parametrize("kind", ["MR", "CT", "PT", "NM", "enhanced"])
def test_dicom_files_with_wrong_bytes(originals: dict[str, dict[str, bytes]], kind: str) -> None:
    files = originals[kind]

    @quick
    @given(
        which=st.integers(0, len(files) - 1),
        edits=byte_edits,
        keep=st.sampled_from([1.0, 1.0, 0.98, 0.6, 0.2]),
    )
    def examples(which: int, edits: list[tuple[float, int]], keep: float) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, data) in enumerate(files.items()):
                content = edited(data, edits, keep) if number == which else data
                (Path(folder) / name).write_bytes(content)
            load(Path(folder))

    fuzz(examples)


@pytest.mark.parametrize("kind", ["MR", "CT", "PT", "NM", "enhanced"])
def test_dicom_files_with_wrong_values(originals: dict[str, dict[str, bytes]], kind: str) -> None:
    files = originals[kind]

    @quick
    @given(
        slices=st.sets(st.integers(0, len(files) - 1), min_size=1),
        changes=st.dictionaries(
            st.sampled_from(TAGS),
            st.one_of(
                st.none(), st.sampled_from(ODD_TEXTS), st.floats(width=32), st.integers(0, 9)
            ),
            min_size=1,
            max_size=2,
        ),
    )
    def examples(slices: set[int], changes: dict[str, object]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in files]
            for path, data in zip(paths, files.values(), strict=True):
                path.write_bytes(data)
            for number in slices:
                if not set_values(paths[number], changes):
                    return
            volume = load(Path(folder))
            if volume is not None and kind in ("MR", "CT"):
                assert_is_what_the_files_mean(volume, paths)

    fuzz(examples)


@pytest.mark.parametrize("name", ["t1.nii", "t1.nii.gz"])
def test_nifti_files_with_wrong_bytes(originals: dict[str, dict[str, bytes]], name: str) -> None:
    data = originals["NIfTI"][name]
    head = 352 / len(data) if name == "t1.nii" else 1.0

    @quick
    @given(edits=byte_edits, keep=st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.3]))
    def examples(edits: list[tuple[float, int]], keep: float) -> None:
        edits = [(place * head, value) for place, value in edits]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(edited(data, edits, keep))
            volume = load(path)
            if volume is not None:
                assert_is_what_nibabel_reads(volume, path)

    fuzz(examples)
