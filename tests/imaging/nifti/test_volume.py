"""NIfTI: verified streams, honest affines, units only where they are stated."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfuse.errors import MedfuseError
from medfuse.imaging.nifti.facts import modality_of_name
from medfuse.imaging.nifti.volume import describe_nifti, read_nifti
from tests._helpers import make


def _assert_says(error: MedfuseError, code: str, words: list[str]) -> None:
    text = str(error)
    assert error.code == code
    assert "\n" not in text
    assert make.MARKER not in text
    assert error.remedy.rstrip(".") in text
    for word in words:
        assert word in text


# --- real data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "modality", "unit", "low", "high"),
    [
        ("sts001-aligned-pet-ct-mr/ct", (198, 202, 59), "CT", "HU", -1000, 1397),
        ("sts001-aligned-pet-ct-mr/mr-t1", (174, 158, 59), "MRI", "a.u.", 0, 1779),
        ("mni-templates/spm-pet", (91, 109, 91), "PET", "a.u.", 0, 1),
        ("mni-templates/spm-spect", (91, 109, 91), "SPECT", "a.u.", 0, 1929),
        ("mni-templates/clinical-ct-older-adults", (91, 109, 91), "CT", "a.u.", 0, 3794.434),
        ("mni-templates/cit168-t1-brain", (165, 198, 168), "MRI", "a.u.", 0, 255),
        ("juspace-nuclear-maps/dat-spect", (61, 73, 61), "SPECT", "a.u.", 0, 99.8607),
        ("rire-training001-mr-only/training_001_mr_T1", (256, 256, 26), "MRI", "a.u.", 2, 1626),
    ],
)
def test_real_files_load_as_nibabel_reads_them(
    shared_data: Path,
    name: str,
    shape: tuple[int, ...],
    modality: str,
    unit: str,
    low: float,
    high: float,
) -> None:
    path = shared_data / "volumes" / f"{name}.nii.gz"
    volume, image = read_nifti(path), nib.load(path)
    assert (volume.meta["modality"], volume.meta["unit"]) == (modality, unit)
    assert volume.values.shape == shape
    np.testing.assert_allclose(volume.values, image.get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(volume.affine, image.affine)
    assert float(volume.values.min()) == pytest.approx(low)
    assert float(volume.values.max()) == pytest.approx(high, rel=1e-5)


PET001 = "bids-pet-layout/pet001/sub-01/ses-01/pet/sub-01_ses-01_trc-CIMBI36_pet.nii.gz"


def test_a_real_dynamic_pet_asks_for_a_frame(shared_data: Path) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_nifti(shared_data / "volumes" / PET001)
    words = ["21 frames", "from 0 to 20 with frame=NUMBER", "frame=mean", "CIMBI36_pet.nii.gz"]
    _assert_says(caught.value, "E_DYNAMIC", words)


@pytest.mark.parametrize("frame", [3, "mean"])
def test_a_real_frame_of_zeros_is_constant(shared_data: Path, frame: int | str) -> None:
    with pytest.raises(MedfuseError) as caught:
        read_nifti(shared_data / "volumes" / PET001, frame=frame)  # type: ignore[arg-type]
    _assert_says(caught.value, "E_CONSTANT", ["value 0", "CIMBI36_pet.nii.gz"])


def test_a_real_pet_without_unit_says_how_to_state_one(shared_data: Path) -> None:
    path = shared_data / "volumes/mni-templates/spm-pet.nii.gz"
    notes = " ".join(read_nifti(path).meta["notes"])
    assert "SUV not available" in notes
    assert "state it as Units in a JSON sidecar" in notes
    assert read_nifti(path, values_in="SUVbw").meta["unit"] == "SUVbw"


# --- values and geometry ----------------------------------------------------------------------


def test_every_voxel_lies_where_the_left_handed_oblique_affine_puts_it(tmp_path: Path) -> None:
    values = make.write_nifti(tmp_path / "t1.nii.gz")
    volume = read_nifti(tmp_path / "t1.nii.gz")
    assert np.linalg.det(volume.affine[:3, :3]) < 0
    np.testing.assert_allclose(volume.affine, make.affine_ras(), atol=1e-5)
    np.testing.assert_array_equal(volume.values, values)
    assert volume.meta["spacing"] == pytest.approx(make.SPACING, rel=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", ">i2", ">f4"])
def test_data_types_and_byte_orders_are_read(tmp_path: Path, dtype: str) -> None:
    values = (make.phantom() % 120).astype(dtype)
    image = nib.Nifti1Image(values, make.affine_ras(), dtype=dtype)
    if dtype.startswith(">"):
        image = nib.Nifti1Image(values, make.affine_ras(), image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / "t1.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "t1.nii").values, values.astype("f4"))


def test_nifti_2_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(make.phantom(), make.affine_ras()), tmp_path / "t1.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "t1.nii.gz").values, make.phantom())


@pytest.mark.parametrize(
    ("slope", "intercept", "factor", "offset"),
    [(2.5, -7.0, 2.5, -7.0), (0.0, 5.0, 1.0, 0.0), (np.nan, np.nan, 1.0, 0.0)],
)
def test_scaling_follows_the_nifti_rule(
    tmp_path: Path, slope: float, intercept: float, factor: float, offset: float
) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header["scl_slope"], header["scl_inter"] = slope, intercept

    make.write_nifti(tmp_path / "t1.nii", make.phantom(), edit)
    expected = make.phantom() * factor + offset
    np.testing.assert_allclose(read_nifti(tmp_path / "t1.nii").values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("unit", "factor", "word"), [("meter", 1e3, "metres"), ("micron", 1e-3, "micro")]
)
def test_other_length_units_become_millimetres(
    tmp_path: Path, unit: str, factor: float, word: str
) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header.set_xyzt_units(unit)
        header["srow_x"] = header["srow_x"] / factor
        header["srow_y"] = header["srow_y"] / factor
        header["srow_z"] = header["srow_z"] / factor

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    volume = read_nifti(tmp_path / "t1.nii")
    np.testing.assert_allclose(volume.affine, make.affine_ras(), rtol=1e-4, atol=1e-4)
    assert any(word in note for note in volume.meta["notes"])


def test_sform_is_taken_before_qform_and_the_difference_is_told(tmp_path: Path) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        moved = make.affine_ras()
        moved[0, 3] += 25
        header.set_qform(moved, code=1)

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    volume = read_nifti(tmp_path / "t1.nii")
    np.testing.assert_allclose(volume.affine, make.affine_ras(), atol=1e-5)
    assert any("disagree by up to 25.0 mm and 0.0 degrees" in n for n in volume.meta["notes"])


def test_the_qform_serves_where_there_is_no_sform(tmp_path: Path) -> None:
    def edit(header: nib.Nifti1Header) -> None:
        header.set_qform(make.affine_ras(), code=1)
        header["sform_code"] = 0

    make.write_nifti(tmp_path / "t1.nii", edit=edit)
    np.testing.assert_allclose(read_nifti(tmp_path / "t1.nii").affine, make.affine_ras(), atol=1e-3)


@settings(max_examples=15)
@given(
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    order=st.permutations([0, 1, 2]),
    spacing=st.tuples(*[st.floats(0.2, 9)] * 3),
)
def test_any_storage_order_keeps_world_positions(
    tmp_path_factory: pytest.TempPathFactory,
    flips: tuple[int, ...],
    order: list[int],
    spacing: tuple[float, ...],
) -> None:
    path = tmp_path_factory.mktemp("order") / "t1.nii.gz"
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * np.array(flips) * np.array(spacing)
    affine[:3, 3] = (5, -6, 7)
    nib.save(nib.Nifti1Image(make.phantom(), affine), path)
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(volume.values, make.phantom())


def test_one_frame_or_the_mean_of_a_series_can_be_chosen(tmp_path: Path) -> None:
    frames = np.stack([make.phantom() * np.float32(t + 1) for t in range(4)], axis=-1)
    make.write_nifti(tmp_path / "pet.nii.gz", frames)
    for t in range(4):
        np.testing.assert_array_equal(
            read_nifti(tmp_path / "pet.nii.gz", frame=t).values, frames[..., t]
        )
    mean = read_nifti(tmp_path / "pet.nii.gz", frame="mean")
    np.testing.assert_allclose(mean.values, frames.mean(axis=-1), rtol=1e-6)
    assert any("unweighted mean of 4 frames" in note for note in mean.meta["notes"])


def test_a_fourth_axis_of_one_is_dropped(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "t1.nii.gz", make.phantom()[..., None].astype("f4"))
    assert read_nifti(tmp_path / "t1.nii.gz").values.shape == make.SHAPE


def test_nan_background_is_filled_and_counted(tmp_path: Path) -> None:
    values = np.pad(make.phantom().astype("f4"), 2, constant_values=np.nan)
    make.write_nifti(tmp_path / "t1.nii.gz", values)
    volume = read_nifti(tmp_path / "t1.nii.gz")
    np.testing.assert_array_equal(volume.values, np.nan_to_num(values))
    count = int(np.isnan(values).sum())
    assert f"{count} non-finite voxels set to 0 (0 of them inside the body)" in volume.meta["notes"]


def test_nan_background_of_ct_becomes_air(tmp_path: Path) -> None:
    values = np.pad(make.phantom().astype("f4") - 1000, 2, constant_values=np.nan)
    make.write_nifti(tmp_path / "ct.nii.gz", values)
    volume = read_nifti(tmp_path / "ct.nii.gz")
    assert volume.meta["unit"] == "HU"
    assert volume.values[0, 0, 0] == -1000


def test_gzip_content_under_a_plain_name_is_read(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "t1.nii.gz")
    (tmp_path / "t1.nii").write_bytes((tmp_path / "t1.nii.gz").read_bytes())
    np.testing.assert_array_equal(read_nifti(tmp_path / "t1.nii").values, make.phantom())


def test_negative_activity_is_kept_and_counted(tmp_path: Path) -> None:
    values = make.phantom().astype("f4") - 3
    make.write_nifti(tmp_path / "pet.nii.gz", values)
    volume = read_nifti(tmp_path / "pet.nii.gz")
    assert volume.values.min() == -2
    assert any("2 voxels (0.38 %) are negative" in note for note in volume.meta["notes"])


# --- modality and unit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("sub-01_ses-2_T1w.nii.gz", "MRI"),
        ("sub-01_space-T1w_desc-suv_pet.nii.gz", "PET"),
        ("mr-t1.nii.gz", "MRI"),
        ("FLAIR.nii", "MRI"),
        ("patient3_SPECT.nii.gz", "SPECT"),
        ("ct.nii.gz", "CT"),
        ("ct_T1.nii.gz", None),
        ("scan.nii.gz", None),
        ("director.nii.gz", None),
    ],
)
def test_modality_comes_from_words_of_the_name(name: str, modality: str | None) -> None:
    assert modality_of_name(name)[0] == modality


def _with_sidecar(folder: Path, content: object, name: str = "scan") -> Path:
    make.write_nifti(folder / f"{name}.nii.gz")
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / f"{name}.nii.gz"


@pytest.mark.parametrize(
    ("units", "unit", "factor"),
    [
        ("Bq/ml", "Bq/ml", 1),
        ("kBq/mL", "Bq/ml", 1000),
        ("g/ml", "SUVbw", 1),
        (make.MARKER, "a.u.", 1),
    ],
)
def test_a_bids_sidecar_states_modality_and_unit(
    tmp_path: Path, units: str, unit: str, factor: float
) -> None:
    path = _with_sidecar(tmp_path, {"Modality": "PT", "Units": units, "PatientName": make.MARKER})
    volume = read_nifti(path)
    assert (volume.meta["modality"], volume.meta["unit"]) == ("PET", unit)
    np.testing.assert_allclose(volume.values, make.phantom() * np.float32(factor))
    assert volume.meta["source"]["files"] == 2
    assert make.MARKER not in json.dumps(volume.meta)


def test_the_sidecar_is_part_of_the_content_hash(tmp_path: Path) -> None:
    path = _with_sidecar(tmp_path, {"Units": "Bq/ml"})
    first = read_nifti(path).meta["source"]["sha256"]
    _with_sidecar(tmp_path, {"Units": "kBq/ml"})
    assert read_nifti(path).meta["source"]["sha256"] != first


def test_what_the_user_states_wins_over_name_and_sidecar(tmp_path: Path) -> None:
    path = _with_sidecar(tmp_path, {"Modality": "PT", "Units": "kBq/ml"}, name="t1")
    volume = read_nifti(path, modality="SPECT", values_in="counts")
    assert (volume.meta["modality"], volume.meta["unit"]) == ("SPECT", "counts")
    np.testing.assert_array_equal(volume.values, make.phantom())


def test_a_broken_sidecar_is_ignored_with_a_note(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "t1.nii.gz")
    (tmp_path / "t1.json").write_text("{not json")
    assert any(
        "sidecar cannot be read" in n for n in read_nifti(tmp_path / "t1.nii.gz").meta["notes"]
    )


def test_a_ct_without_air_is_not_taken_as_hu(tmp_path: Path) -> None:
    make.write_nifti(tmp_path / "ct.nii.gz")
    volume = read_nifti(tmp_path / "ct.nii.gz")
    assert volume.meta["unit"] == "a.u."
    assert any("state the unit HU" in note for note in volume.meta["notes"])


# --- refusals ---------------------------------------------------------------------------------


def _header(**fields: object) -> Callable[[Path], object]:
    def edit(header: nib.Nifti1Header) -> None:
        for name, value in fields.items():
            header[name] = value

    return lambda path: make.write_nifti(path, edit=edit)


def _dims(*dims: int) -> Callable[[Path], object]:
    return _header(dim=[len(dims), *dims, *[1] * (7 - len(dims))])


def _bytes(change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        make.write_nifti(path)
        path.write_bytes(change(bytearray(path.read_bytes())))

    return damage


def _flip(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 0x10
    return data


def _values(values: np.ndarray) -> Callable[[Path], object]:
    return lambda path: make.write_nifti(path, values)


def _rgb(path: Path) -> None:
    colour = np.zeros(make.SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), path)


def _spotted() -> np.ndarray:
    values = make.phantom().astype("f4")
    values[4:6, 3:5, 2:4] = np.inf
    return values


def _shear(path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.4
    image = nib.Nifti1Image(make.phantom(), None)
    image.header.set_sform(affine, code=1)
    nib.save(image, path)


def _inflated(data: bytearray) -> bytes:
    return gzip.compress(gzip.decompress(bytes(data)) + bytes(80 << 20), compresslevel=1)


WHOLE = int(np.prod(make.SHAPE)) * 4 + 352
FAULTS: list[tuple[str, Callable[[Path], object], str, list[str]]] = [
    ("half a stream", _bytes(lambda d: d[: len(d) // 2]), "E_TRUNCATED", [f"of {WHOLE} bytes"]),
    ("lost checksum", _bytes(lambda d: d[:-8]), "E_TRUNCATED", ["bytes"]),
    ("flipped bit", _bytes(_flip), "E_CORRUPT", ["gzip", "again"]),
    ("wrong checksum", _bytes(lambda d: d[:-8] + b"\0" + d[-7:]), "E_CORRUPT", ["checksum"]),
    ("rubbish behind", _bytes(lambda d: d + b"rubbish"), "E_CORRUPT", ["gzip"]),
    ("far too long", _bytes(_inflated), "E_CORRUPT", ["beyond the data"]),
    ("claims to be huge", _dims(30000, 30000, 3000), "E_TOO_LARGE", ["30000 x 30000 x 3000", "GB"]),
    ("two axes", _dims(11, 48), "E_NOT_A_VOLUME", ["11 x 48"]),
    ("one slice", _dims(11, 48, 1), "E_NOT_A_VOLUME", ["11 x 48 x 1", "3-D"]),
    ("vectors", _dims(11, 8, 2, 1, 3), "E_NOT_A_VOLUME", ["11 x 8 x 2 x 1 x 3"]),
    ("negative axis", _dims(11, -8, 6), "E_NOT_A_VOLUME", ["-8"]),
    ("no axes", _header(dim=[0] * 8), "E_NOT_A_VOLUME", ["no valid size"]),
    ("no orientation", _header(sform_code=0, qform_code=0), "E_NO_ORIENTATION", ["where left is"]),
    ("nan affine", _header(srow_x=[np.nan] * 4), "E_BAD_AFFINE", ["NaN"]),
    (
        "singular affine",
        _header(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4),
        "E_BAD_AFFINE",
        ["0 x"],
    ),
    (
        "zero pixdim",
        _header(sform_code=0, qform_code=1, pixdim=[1, 0, 1, 1, 0, 0, 0, 0]),
        "E_BAD_AFFINE",
        ["pixdim is 0"],
    ),
    ("sheared", _shear, "E_BAD_AFFINE", ["sheared by 11.", "rectangular"]),
    ("bad quaternion", _header(sform_code=0, qform_code=1, quatern_b=9), "E_BAD_AFFINE", ["quat"]),
    ("tiny voxels", _header(xyzt_units=3), "E_BAD_AFFINE", ["0.0015"]),
    ("colour", _rgb, "E_DTYPE", ["RGB", "scalar"]),
    ("complex", _header(datatype=32, bitpix=64), "E_DTYPE", ["complex"]),
    ("labels", _header(intent_code=1002), "E_DTYPE", ["label"]),
    ("bad scaling", _header(scl_slope=2, scl_inter=np.inf), "E_RESCALE", ["scl_inter is inf"]),
    ("offset in the header", _header(vox_offset=12), "E_CORRUPT", ["byte 12"]),
    ("image pair", _header(magic=b"ni1"), "E_NOT_NIFTI", ["pair"]),
    ("all nan", _values(np.full(make.SHAPE, np.nan, "f4")), "E_NONFINITE", ["528 of 528"]),
    ("holes", _values(_spotted()), "E_NONFINITE", ["8 of 528", "1.52 %"]),
    ("constant", _values(np.full(make.SHAPE, 7, "f4")), "E_CONSTANT", ["value 7"]),
    ("overflow", _header(scl_slope=1e38), "E_NONFINITE", ["infinite"]),
]


@pytest.mark.parametrize(
    ("damage", "code", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_damaged_file_is_refused_with_cause_and_remedy(
    tmp_path: Path, damage: Callable[[Path], object], code: str, words: list[str]
) -> None:
    path = tmp_path / "t1.nii.gz"
    damage(path)
    with pytest.raises(MedfuseError) as caught:
        read_nifti(path)
    _assert_says(caught.value, code, ["t1.nii.gz", *words])


def test_a_cut_uncompressed_file_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "t1.nii"
    make.write_nifti(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MedfuseError) as caught:
        read_nifti(path)
    _assert_says(caught.value, "E_TRUNCATED", ["t1.nii", f"after {WHOLE - 100} of {WHOLE} bytes"])


@pytest.mark.parametrize("position", range(20, 1000, 49))
def test_no_flipped_bit_of_a_compressed_file_goes_unnoticed(tmp_path: Path, position: int) -> None:
    path = tmp_path / "t1.nii.gz"
    noise = np.random.default_rng(1).normal(size=make.SHAPE).astype("f4")
    make.write_nifti(path, noise)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(MedfuseError) as caught:
        read_nifti(path)
    assert caught.value.code in ("E_CORRUPT", "E_TRUNCATED")


def test_describe_gives_geometry_even_of_what_cannot_be_loaded(shared_data: Path) -> None:
    entry = describe_nifti(shared_data / "volumes" / PET001)
    assert (entry["frames"], entry["shape"], entry["modality"]) == (21, [128, 128, 63], "PET")
    assert entry["orientation"] == "LPI"
    assert "E_DYNAMIC" in entry["problems"][0]
