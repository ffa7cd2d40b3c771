"""Changed headers that we accept mean for us what they mean for a second reader.

Whatever is read must lie where nibabel or SimpleITK has it, with the same values in the corners; a
refusal is always allowed. A short run is part of the tests; ``make fuzz`` goes on.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medfuse.imaging.grid import from_sitk
from medfuse.imaging.volume import Volume
from tests._helpers import make
from tests._helpers.fuzz import assert_is_what_nibabel_reads, fuzz, load, quick, set_values

SHAPE = (5, 4, 3)
AXES = np.eye(3)
numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, -2.0, 90.0, 1e-9, 1e30]),
    st.floats(-5, 5, width=32),
)
lengths = st.one_of(numbers, st.floats(0.25, 6, width=32))


# NIfTI --------------------------------------------------------------------------------------------

codes = st.integers(0, 5)
rows = st.tuples(numbers, numbers, numbers, st.floats(-200, 200, width=32))
NIFTI: dict[str, Any] = {
    "sform_code": codes,
    "qform_code": codes,
    "xyzt_units": st.sampled_from([0, 1, 2, 3, 10, 18, 26]),
    "scl_slope": numbers,
    "scl_inter": numbers,
    "quatern_b": st.floats(-1, 1, width=32),
    "quatern_c": st.floats(-1, 1, width=32),
    "quatern_d": st.floats(-1, 1, width=32),
    "qoffset_x": st.floats(-200, 200, width=32),
    "pixdim": st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), *[lengths] * 3, *[numbers] * 4),
    "dim": st.tuples(*[st.integers(-1, 6)] * 8),
    "srow_x": rows,
    "srow_y": rows,
    "srow_z": rows,
    "datatype": st.sampled_from([2, 4, 8, 16, 32, 64, 256, 512, 768]),
    "bitpix": st.sampled_from([8, 16, 32, 64]),
    "vox_offset": st.sampled_from([0.0, 348.0, 352.0, 360.0, 368.0]),
    "intent_code": st.sampled_from([0, 1, 1007, 2003]),
    "slice_end": st.integers(0, 9),
    "cal_max": numbers,
    "magic": st.sampled_from([b"n+1", b"ni1", b"n+2", b""]),
}  # fmt: skip
one_field = st.one_of(*(st.tuples(st.just(name), value) for name, value in NIFTI.items()))
#: A signed permutation of the axes, so that many examples are readable.
turned = st.tuples(st.permutations(range(3)), *[st.sampled_from([-1, 1])] * 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_headers(order: str) -> None:
    values = make.phantom(SHAPE).astype(np.float32)

    @quick
    @given(
        fields=st.lists(one_field, max_size=3),
        turn=turned,
        spacing=st.tuples(*[st.floats(0.25, 6, width=32)] * 3),
    )
    def examples(fields: list[tuple[str, Any]], turn: Any, spacing: tuple[float, ...]) -> None:
        header = nib.Nifti1Header(endianness=order)
        header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 1
        header["dim"], header["xyzt_units"] = [3, *SHAPE, 1, 1, 1, 1], 2
        header.set_data_dtype(np.dtype("f4"))
        axes = AXES[list(turn[0])] * np.array(turn[1:])[:, None]
        for name, row in zip("xyz", axes * spacing, strict=True):
            header[f"srow_{name}"] = [*row, 12.5]
        header["pixdim"] = [1, *spacing, 1, 1, 1, 1]
        for name, value in fields:
            header[name] = value
        data = values.astype(f"{order}f4").tobytes(order="F")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "t1.nii"
            path.write_bytes(header.binaryblock + bytes(4) + data)
            volume = load(path)
            if volume is not None:
                assert_is_what_nibabel_reads(volume, path)

    fuzz(examples)


# DICOM --------------------------------------------------------------------------------------------


def directions() -> Iterator[tuple[float, ...]]:
    for row, column in itertools.permutations(range(3), 2):
        for one, other in itertools.product((1, -1), repeat=2):
            yield (*(one * AXES[row]), *(other * AXES[column]))
    yield make.oblique()


steps = st.one_of(st.just(0.0), st.floats(-0.3, 0.3), st.sampled_from([0.001, 0.05, 1.0]))
GEOMETRY = {
    "orientation": st.sampled_from(list(directions())),
    "spacing": st.tuples(*[st.sampled_from([0.5, 1.0, 1.25, 2.0, 3.3]) | st.floats(0.3, 6)] * 3),
    "origin": st.tuples(*[st.sampled_from([0.0, -120.0]) | st.floats(-300, 300)] * 3),
}
TAGS: dict[str, Any] = {
    "SliceThickness": st.floats(-5, 50).map(str),
    "SpacingBetweenSlices": st.floats(-5, 50).map(str),
    "GantryDetectorTilt": st.sampled_from(["0", "5", "-20"]),
    "PatientPosition": st.sampled_from(["HFS", "FFP", "HFDL", ""]),
    "SliceLocation": st.floats(-5, 50).map(str),
    "InstanceNumber": st.integers(-1, 4).map(str),
    "RescaleSlope": st.sampled_from(["1", "2", "0.5", "-1", "0", "1e-3"]),
    "RescaleIntercept": st.sampled_from(["0", "-1024", "0.5"]),
    "PixelAspectRatio": st.sampled_from(["1\\1", "2\\1"]),
    "ImageOrientationPatient": st.sampled_from(
        ["1\\0\\0\\0\\1\\0", "1\\0\\0\\0\\0.999\\0.04", "1\\0\\0\\1\\0\\0", "0\\0\\0\\0\\0\\0"]
    ),
    "PixelSpacing": st.sampled_from(["2\\1", "1\\2", "0\\0", "1", "-1\\1"]),
}
one_tag = st.one_of(*(st.tuples(st.just(name), value) for name, value in TAGS.items()))
plans = st.builds(
    lambda moved, **geometry: (make.SeriesPlan(make.phantom(SHAPE), **geometry), moved),
    st.tuples(st.integers(0, SHAPE[2] - 1), steps, steps, steps),
    **GEOMETRY,
)


@pytest.mark.parametrize("modality", ["MR", "CT", "enhanced"])
def test_dicom_headers(modality: str) -> None:
    @quick
    @given(
        plan=plans,
        moves=st.booleans(),
        tags=st.lists(one_tag, max_size=2).map(dict),
    )
    def examples(plan: Any, moves: bool, tags: dict[str, str]) -> None:
        series, (which, *step) = plan
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            if modality == "enhanced":
                make.write_enhanced(root / "a.dcm", series, range(SHAPE[2]))
            else:
                kind = make.SeriesPlan(**{**vars(series), "modality": modality})
                make.write_series(root, kind)
            paths = sorted(root.iterdir())
            if moves and modality != "enhanced":
                make.edit_file(paths[which], lambda dataset: moved(dataset, step))
            if not all(set_values(path, dict(tags)) for path in paths):
                return
            volume = load(root)
            if volume is not None and not any("tilt" in note for note in volume.meta["notes"]):
                assert_is_what_itk_reads(volume, root)

    fuzz(examples)


def moved(dataset: pydicom.Dataset, step: list[float]) -> None:
    place = [float(v) + d for v, d in zip(dataset.ImagePositionPatient, step, strict=True)]
    dataset.ImagePositionPatient = place


def assert_is_what_itk_reads(volume: Volume, root: Path) -> None:
    """GDCM finds the same size, voxels of the same size, and the same values in the corners."""
    image = read_by_gdcm(root)
    if image is None:
        return
    values, affine = from_sitk(image)
    assert sorted(values.shape) == sorted(volume.values.shape)
    index_of = np.linalg.inv(volume.affine) @ affine
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    # Our voxel of each of its corners; rounded positions may be off by a tenth of a slice, and
    # where they are, one reader takes the first one and the other their mean.
    most = np.minimum(np.maximum(0.11, 0.15 / spacing), 0.45)
    for corner in itertools.product(*[(0, n - 1) for n in values.shape]):
        place = (index_of @ [*corner, 1])[:3]
        assert (np.abs(place - place.round()) < most).all(), (corner, place)
        x, y, z = place.round().astype(int)
        assert min(x, y, z) >= 0
        assert math.isclose(volume.values[x, y, z], values[corner], rel_tol=1e-5, abs_tol=1e-3)
    ours, theirs = (np.sort(np.linalg.norm(a[:3, :3], axis=0)) for a in (volume.affine, affine))
    np.testing.assert_allclose(ours, theirs, rtol=0.02)


def read_by_gdcm(root: Path) -> sitk.Image | None:
    """None where it refuses."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(root), "", False, False, False)
        if len(names) == 1:
            return sitk.ReadImage(names[0], sitk.sitkFloat64)
        return sitk.ReadImage(names, sitk.sitkFloat64)
    except RuntimeError:
        return None
